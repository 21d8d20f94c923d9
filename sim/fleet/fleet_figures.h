/*
 * fleet_figures.h: a fleet's run in figures: latencies with their tails, goodput, hit rates, what
 * it cost. Exact percentiles of all requests after the warm-up, not of a histogram. Printing is
 * fleet_report.h's; plans and sweeps read these.
 */
#ifndef KVT_FLEET_FIGURES_H
#define KVT_FLEET_FIGURES_H

#include "sim/fleet/fleet.h"

/* Seconds; the value that a share of the requests do not exceed (nearest rank). */
typedef struct kvt_percentiles {
	uint64_t count;
	double mean, p50, p95, p99, p999, max;
} kvt_percentiles;

/* Of all requests, or of one tenant's. */
typedef struct kvt_service_figures {
	uint64_t requests, served, refused; /* after the warm-up */
	uint64_t refused_by[KVT_REFUSALS];
	kvt_percentiles ttft;          /* arrival to first token, a request */
	kvt_percentiles tpot;          /* mean time per token after the first, a request */
	kvt_percentiles e2e;           /* arrival to last token, a request */
	kvt_percentiles queueing;      /* arrival to admission, a request */
	uint64_t good;                 /* requests that met both SLOs */
	double goodput, goodput_share; /* of those: a second; of all requests */
	double prompt_tokens, output_tokens;
	uint64_t lookup_blocks, hit_blocks[KVT_KV_LEVELS]; /* of prompts, once a request */
	double hit_rate[KVT_KV_LEVELS], hit_rate_all;      /* of blocks that were looked up */
	double hit_tokens_share;                           /* of prompt tokens */
} kvt_service_figures;

typedef struct kvt_fleet_figures {
	kvt_service_figures all;
	kvt_service_figures *tenants; /* [trace->n_tenants] */
	unsigned n_tenants;
	kvt_percentiles token_gap; /* between two tokens of a request, a token */
	uint64_t refused_by[KVT_REFUSALS];
	double duration;                /* s, to the end of the last request */
	double busy_share, stall_share; /* of replicas' time, mean */
	double running;                 /* sequences in a step, mean over busy time */
	kvt_replica_stats replicas;     /* summed, the maxima the largest */
	uint64_t peak_waste_bytes;      /* internal fragmentation of a replica's HBM, largest */
	uint64_t peak_hbm_bytes;        /* allocated */
	double gpu_hours, joules, cost; /* USD */
	double cost_per_mtoken;         /* of generated tokens, USD */
	double joules_per_mtoken;
} kvt_fleet_figures;

/* Of a fleet that has run. */
kvt_fleet_figures *kvt_fleet_figures_new(const kvt_fleet *fleet);
void kvt_fleet_figures_free(kvt_fleet_figures *figures);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_fleet_figures, kvt_fleet_figures_free)

/* Percentiles of so many times in ps, which are sorted in place. */
kvt_percentiles kvt_percentiles_of(kvt_time *times, uint64_t count);

#endif
