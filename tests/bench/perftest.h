/*
 * perftest.h: perftest's one-sided reads (ib_read_bw, ib_read_lat) over the wire that RXE_IP0 and
 * RXE_IP1 are the ends of, in pairs with something of ours whose order alternates.
 */
#ifndef PERFTEST_H
#define PERFTEST_H

#include <glib.h>
#include <stdint.h>

#include "emu/calibrate/perftest_read.h"
#include "sim/base/sim_time.h"

enum { PERFTEST_MOST_PAIRS = 99, PERFTEST_TRIES = 60 };

typedef kvt_perftest_read perftest_case;

enum { PERFTEST_CASES = 4 };
extern const perftest_case perftest_cases[PERFTEST_CASES];

typedef struct perftest_wire {
	const char *addresses[2]; /* of the one who reads, of the one who is read from */
	char *devices[2];
} perftest_wire;

/* Says what went wrong, and ends the bench. */
G_NORETURN void perftest_fail(const char *what);

/* The wire's ends; FALSE, having said so, when there are none. */
gboolean perftest_wire_find(perftest_wire *wire);
/* Once no child is to be forked any more: which devices they are. */
void perftest_wire_open(perftest_wire *wire);

/* For how long a loop of ours polls in this case: latency without a wake-up, or of one; else as an
 * engine does. */
kvt_time perftest_spin(const perftest_case *c);

/* `ours` gives MiB/s, or at depth 1 the median latency in us. Prints each pair, the
 * medians and the ratios' ends. */
void perftest_compare(const perftest_wire *wire, const perftest_case *c, unsigned pairs,
	double (*ours)(void *arg, const perftest_case *c), void *arg);

#endif
