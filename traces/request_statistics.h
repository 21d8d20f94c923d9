/*
 * request_statistics.h: what a request trace holds in numbers, and how much of it any prefix cache
 * could have had at best.
 */
#ifndef KVT_REQUEST_STATISTICS_H
#define KVT_REQUEST_STATISTICS_H

#include "traces/request_trace.h"

/* Of a set of values; all 0 when it is empty. cv: standard deviation / mean. */
typedef struct kvt_request_moments {
	uint64_t count;
	double mean, cv, p50, p99, most;
} kvt_request_moments;

/* Moments of `count` values, which are sorted in place. */
kvt_request_moments kvt_request_moments_of(double *values, uint64_t count);

typedef struct kvt_request_statistics {
	double duration;                      /* s from the first arrival to the last */
	uint64_t input_tokens, output_tokens; /* of all requests */
	kvt_request_moments input, output;    /* tokens a request */
	kvt_request_moments interval;         /* s between arrivals */
	kvt_request_moments turns;            /* requests a session */
	kvt_request_moments think;            /* s, of those that wait for another */
	kvt_request_moments latency;          /* s, where it was recorded */
	uint64_t subagent_requests, subagent_sessions, joins;
	/* A cache that keeps everything for ever misses each id once: what it hits, of all blocks,
	 * and of all prompt tokens (whole blocks). */
	double block_hit_ratio, token_hit_ratio;
} kvt_request_statistics;

kvt_request_statistics kvt_request_statistics_of(const kvt_request_trace *trace);

#endif
