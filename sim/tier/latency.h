/*
 * latency.h: latencies with a tail, by what data sheets state: the median and the 99th percentile.
 * A lognormal distribution; it knows no load: queueing is the links'.
 */
#ifndef KVT_LATENCY_H
#define KVT_LATENCY_H

#include "sim/base/rng.h"
#include "sim/base/sim_time.h"

/* In seconds; p99 <= median: always the median. */
typedef struct kvt_latency {
	double median, p99;
} kvt_latency;

/* The mean, seconds. */
double kvt_latency_mean(const kvt_latency *latency);

/*
 * The longest of `n` independent latencies (n >= 1), in picoseconds, at most an hour: an I/O that
 * is cut into n device I/Os is complete when its slowest is. Takes one number of the stream,
 * whatever the latency.
 */
kvt_time kvt_latency_sample(const kvt_latency *latency, uint64_t n, kvt_rng *rng);

#endif
