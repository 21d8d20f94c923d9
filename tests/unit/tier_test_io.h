/*
 * tier_test_io.h: I/Os that tests of tiers submit: each counts how often its done ran, and may
 * run a hook there.
 */
#ifndef TIER_TEST_IO_H
#define TIER_TEST_IO_H

#include "sim/tier/tier.h"

typedef struct test_io {
	kvt_io io;
	kvt_extent extent; /* of an I/O of one run */
	unsigned done;
	void (*hook)(struct test_io *io); /* called from done; may be NULL */
	void *hook_arg;
} test_io;

/* A read or write of one run, or of `n` runs that must outlive it. Not submitted. */
void test_io_init(test_io *io, kvt_io_op op, kvt_extent extent);
void test_io_init_many(test_io *io, kvt_io_op op, const kvt_extent *extents, unsigned n);

/* Submits an I/O that the tier must take, and checks that it does not complete inline. */
void test_io_submit(kvt_tier *tier, test_io *io);

/* Submits one run, runs the loop until nothing is pending, and returns the status; checks that done
 * ran once and that the I/O's bytes agree with its status. */
int test_io_run(kvt_loop *loop, kvt_tier *tier, kvt_io_op op, kvt_extent extent);

#endif
