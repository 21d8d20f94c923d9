/*
 * perftest_read.h: one-sided reads by perftest (ib_read_bw, ib_read_lat), both of whose ends are on
 * this machine. What they are compared with is its users'.
 */
#ifndef KVT_PERFTEST_READ_H
#define KVT_PERFTEST_READ_H

#include <stdbool.h>
#include <stdint.h>

typedef struct kvt_perftest_read {
	uint64_t size;         /* of a read, bytes */
	unsigned depth, count; /* depth 1: the latency of each */
	bool sleeps;           /* between completions; else it polls for them */
} kvt_perftest_read;

/* Reads over the device `near` from the device `far`, whose address is `address`; `listens` is a
 * free TCP port. bytes/s, or at depth 1 the typical latency in seconds; 0: it failed. */
double kvt_perftest_read_run(const kvt_perftest_read *read, unsigned listens, const char *far,
	const char *near, const char *address);

#endif
