/*
 * plan_bounds.h: what can be said of a shape without a simulation: the fewest replicas that may do,
 * and what any number of them costs at least.
 */
#ifndef KVT_PLAN_BOUNDS_H
#define KVT_PLAN_BOUNDS_H

#include "sim/plan/plan_point.h"

typedef struct kvt_plan_bounds {
	bool fits;     /* whether it can be built at all */
	char *error;   /* why not; owned */
	bool holds;    /* whether enough requests fit into a replica's HBM */
	double work_s; /* of one replica, on prompts that must not be late, at least */
	double span_s; /* from the first of them to the last */
	/* of one replica and one node */
	double gpus, replicas_a_node, dram_gb, drives, nics, gpu_watts, node_watts, drive_watts;
	kvt_price_list prices;
} kvt_plan_bounds;

/* Of every shape, [shapes->len]. */
kvt_plan_bounds *kvt_plan_bounds_new(const kvt_plan_settings *settings);
void kvt_plan_bounds_free(kvt_plan_bounds *bounds, unsigned n);

/* The fewest replicas that may have 95% of first tokens within so many seconds; above the settings'
 * `high`: the shape cannot do it. */
int64_t kvt_plan_bounds_low(
	const kvt_plan_settings *settings, const kvt_plan_bounds *bounds, double ttft);

/* US dollars an hour of so many replicas that idle. */
double kvt_plan_cost_floor(const kvt_plan_bounds *bounds, int64_t replicas);

/*
 * Prompt tokens that a trace's requests bring however large caches are, [n], the least that has to
 * be computed of each: what no earlier request had, and one token at least.
 */
void kvt_plan_new_tokens(const kvt_request_trace *trace, uint64_t n, uint32_t *tokens);

#endif
