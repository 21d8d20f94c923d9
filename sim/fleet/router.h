/*
 * router.h: which replica a request goes to: in turn, to the least loaded, or to where most of its
 * prompt is. It looks at replicas and changes nothing there.
 */
#ifndef KVT_ROUTER_H
#define KVT_ROUTER_H

#include "sim/fleet/replica.h"

typedef struct kvt_router {
	const kvt_fleet_settings *settings;
	kvt_replica *const *replicas;
	unsigned n_replicas;
	unsigned next; /* round-robin */
} kvt_router;

/* The replicas stay the caller's. */
void kvt_router_init(kvt_router *router, const kvt_fleet_settings *settings,
	kvt_replica *const *replicas, unsigned n_replicas);

/* The index of the replica for a request of the trace. */
unsigned kvt_router_choose(kvt_router *router, uint32_t request);

#endif
