/*
 * tier_conformance.h: the contract of sim/tier/tier.h as tests that run over every kind of tier,
 * modelled or real. A kind says how to make one; the suite knows nothing of what is behind it.
 * Times are checked by test_tier_model.c, faults by test_fault_tier.c.
 */
#ifndef TIER_CONFORMANCE_H
#define TIER_CONFORMANCE_H

#include "sim/tier/tier.h"

/* Pages of the suite; capacities are multiples of 64 of them, so that composed tiers can split
 * them. */
enum { CONFORMANCE_PAGE_BYTES = 64 << 10 };

typedef struct tier_under_test {
	kvt_loop *loop;
	kvt_tier *tier;
	void *more; /* the kind's own */
} tier_under_test;

typedef struct tier_kind {
	const char *name;
	/* Makes a tier of `capacity` bytes on a loop at time 0, with that seed. */
	void (*make)(tier_under_test *tier, uint64_t capacity, uint64_t seed);
	void (*free)(tier_under_test *tier); /* closes the tier, frees the loop */
} tier_kind;

/* Adds the suite for one kind to g_test, under /tier/NAME; `kind` must outlive the run. */
void tier_conformance_add(const tier_kind *kind);

#endif
