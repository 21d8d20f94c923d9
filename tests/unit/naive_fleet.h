/*
 * naive_fleet.h: one replica once more, as plainly as it can be written: lists that are searched,
 * no events, no blocks but a set of ids, pages that are counted. For tests to compare with, request
 * by request. It knows no tiers and no links: what HBM has no room for is computed again.
 */
#ifndef KVT_NAIVE_FLEET_H
#define KVT_NAIVE_FLEET_H

#include "sim/fleet/fleet_settings.h"
#include "traces/request_trace.h"

typedef struct kvt_naive_outcome {
	kvt_time first_token, ended;
	unsigned preemptions;
} kvt_naive_outcome;

/* Open loop, linear steps. `pages` of page_tokens tokens are there for KV; UINT64_MAX: as many as
 * are wanted, and then prefixes outlive their requests. */
void kvt_naive_fleet_run(const kvt_fleet_settings *settings, const kvt_request_trace *trace,
	uint64_t pages, kvt_naive_outcome *outcomes);

#endif
