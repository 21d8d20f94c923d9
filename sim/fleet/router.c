/* router.c: a replica for each request; ties go to the lower index. */
#include "sim/fleet/router.h"

void kvt_router_init(kvt_router *router, const kvt_fleet_settings *settings,
	kvt_replica *const *replicas, unsigned n_replicas)
{
	*router = (kvt_router){
		.settings = settings, .replicas = replicas, .n_replicas = n_replicas
	};
}

/* What waits there, in prompt tokens: fewer is better; then fewer requests. */
static bool is_less(double cost, unsigned requests, double best_cost, unsigned best_requests)
{
	return cost != best_cost ? cost < best_cost : requests < best_requests;
}

unsigned kvt_router_choose(kvt_router *router, uint32_t request)
{
	if (router->n_replicas == 1)
		return 0;
	if (router->settings->routing == KVT_ROUTE_ROUND_ROBIN) {
		unsigned chosen = router->next;
		router->next = (chosen + 1) % router->n_replicas;
		return chosen;
	}
	bool affinity = router->settings->routing == KVT_ROUTE_CACHE_AFFINITY;
	unsigned best = 0, best_requests = 0;
	double best_cost = 0;
	for (unsigned i = 0; i < router->n_replicas; i++) {
		kvt_replica *replica = router->replicas[i];
		unsigned requests = kvt_replica_requests(replica);
		double cost = kvt_replica_ahead(replica, request);
		if (affinity)
			cost -= router->settings->affinity_slack *
				(double)kvt_replica_match(replica, request);
		if (i > 0 && !is_less(cost, requests, best_cost, best_requests))
			continue;
		best = i;
		best_cost = cost;
		best_requests = requests;
	}
	return best;
}
