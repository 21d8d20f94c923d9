/*
 * fleet.h: a whole fleet in virtual time: arrivals, routing, replicas, caches and links put
 * together from a fleet file and a request trace, run to the end, and checked: every request ended
 * or was refused, nothing is held any more, and as many requests were there on average as Little's
 * law says. What it prints is fleet_report.h's.
 */
#ifndef KVT_FLEET_H
#define KVT_FLEET_H

#include "sim/fleet/admission.h"
#include "sim/fleet/arrivals.h"
#include "sim/fleet/fleet_links.h"
#include "sim/fleet/replica.h"
#include "sim/fleet/router.h"

__extension__ typedef __int128 kvt_request_time; /* requests x ps */

/* Time-average of requests that are there, against rate x mean time. */
typedef struct kvt_little {
	uint32_t now; /* requests that are there */
	kvt_time since;
	kvt_request_time request_time; /* integral of `now` */
} kvt_little;

typedef struct kvt_telemetry kvt_telemetry;
typedef struct kvt_adapt kvt_adapt;

typedef struct kvt_fleet {
	const kvt_fleet_settings *settings;
	const kvt_request_trace *trace;
	uint32_t n_requests; /* of the trace, that are run */
	uint32_t block_tokens;
	kvt_loop *loop;
	kvt_network *network;
	kvt_fleet_links *links;
	kvt_fleet_transfers *transfers;
	kvt_step_cost *cost;
	kvt_block_shape shape;
	kvt_block_names *names;
	unsigned n_nodes, n_replicas;
	uint64_t hbm_bytes;     /* for KV, of a replica */
	kvt_block_tier **tiers; /* [n_nodes x settings->n_tiers]; remote ones are node 0's in all */
	kvt_kv_manager **kv;    /* [n_replicas] */
	kvt_replica **replicas;
	kvt_router router;
	const kvt_tenant_settings **tenants; /* [trace->n_tenants]; NULL: no [tenant NAME] */
	kvt_link_shares *link_shares;        /* NULL as well */
	kvt_admission admission;
	kvt_arrivals *arrivals;
	uint32_t *next_turn;
	uint32_t *homes;               /* [sessions], the replica where it was last */
	kvt_request_outcome *outcomes; /* [n_requests] */
	uint32_t ended;                /* requests, refused ones too */
	kvt_little little;
	kvt_time end;     /* when the last request ended */
	uint32_t watched; /* ended when the watchdog looked last */
	kvt_event watchdog;
	bool given_up;
	kvt_telemetry *telemetry; /* NULL: off */
	kvt_adapt *adapt;         /* NULL: off */
} kvt_fleet;

/* The settings and the trace stay the caller's and outlive it: many fleets may share a trace. NULL
 * with an error when the weights do not fit, or the like. */
kvt_fleet *kvt_fleet_new(
	const kvt_fleet_settings *settings, const kvt_request_trace *trace, GError **error);

/* Runs it to its end, once. False with an error when a request neither ended nor was refused, or
 * anything that was conserved is not. */
gboolean kvt_fleet_run(kvt_fleet *fleet, GError **error);

void kvt_fleet_free(kvt_fleet *fleet);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_fleet, kvt_fleet_free)

/* The tier of that index of a node. */
static inline kvt_block_tier *kvt_fleet_tier(const kvt_fleet *fleet, unsigned node, unsigned tier)
{
	return fleet->tiers[node * fleet->settings->n_tiers + tier];
}

/* Little's law: requests that were there on average, and arrivals a second times the mean time of
 * each; 0 for an empty run. They differ by rounding alone. */
double kvt_fleet_mean_requests(const kvt_fleet *fleet);
double kvt_fleet_rate_times_time(const kvt_fleet *fleet);

#endif
