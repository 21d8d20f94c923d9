/* adapt.c: looks at links and queues, and sets what replicas and their KV managers go by. */
#include "sim/fleet/adapt.h"

/* Of what is seen in a period, how much of the older goes on counting; an estimate that is off by
 * less than a quarter stays as it is. */
#define MEMORY 0.5
#define DEAD_BAND 1.25

struct kvt_adapt {
	const kvt_fleet *fleet;
	kvt_event next; /* 0: nothing is there to be seen */
	kvt_time last;
	unsigned n_links;
	double *used;     /* [n_links], busy units at the last look */
	double *seen;     /* [n_links], how many times slower a new flow is than alone, smoothed */
	double *slower;   /* [links of the network], what is made of it */
	unsigned *ahead;  /* [replicas] */
	unsigned *closed; /* [replicas], levels that take nothing that falls, a bit each */
	kvt_adapt_stats stats;
};

kvt_adapt *kvt_adapt_new(const kvt_fleet *fleet)
{
	kvt_adapt *a = g_new0(kvt_adapt, 1);
	a->fleet = fleet;
	kvt_fleet_links_list(fleet->links, &a->n_links);
	unsigned all = kvt_network_n_links(fleet->network);
	a->used = g_new0(double, MAX(a->n_links, 1));
	a->seen = g_new(double, MAX(a->n_links, 1));
	a->slower = g_new(double, MAX(all, 1));
	for (unsigned i = 0; i < a->n_links; i++)
		a->seen[i] = 1;
	for (unsigned i = 0; i < all; i++)
		a->slower[i] = 1;
	a->ahead = g_new0(unsigned, fleet->n_replicas);
	a->closed = g_new0(unsigned, fleet->n_replicas);
	for (unsigned i = 0; i < fleet->n_replicas; i++)
		a->ahead[i] = (unsigned)fleet->settings->ahead;
	kvt_fleet_transfers_set_slower(fleet->transfers, a->slower);
	return a;
}

void kvt_adapt_free(kvt_adapt *a)
{
	if (!a)
		return;
	g_free(a->used);
	g_free(a->seen);
	g_free(a->slower);
	g_free(a->ahead);
	g_free(a->closed);
	g_free(a);
}

/* One more flow has an equal share of a link, or what the others leave of it. */
static void look_at_links(kvt_adapt *a, double seconds)
{
	unsigned n;
	const kvt_fleet_link *links = kvt_fleet_links_list(a->fleet->links, &n);
	for (unsigned i = 0; i < n; i++) {
		kvt_link_stats stats = kvt_network_link_stats(a->fleet->network, links[i].link);
		double use = (stats.busy_units - a->used[i]) / (links[i].rate * seconds);
		double share = MAX(1.0 / (stats.flows + 1), 1 - use);
		a->used[i] = stats.busy_units;
		a->seen[i] = MEMORY * a->seen[i] + (1 - MEMORY) / share;
		double *slower = &a->slower[links[i].link];
		if (a->seen[i] < *slower * DEAD_BAND && a->seen[i] * DEAD_BAND > *slower)
			continue;
		*slower = a->seen[i];
		a->stats.estimates++;
	}
}

/* How many times slower than alone the drives of a tier are; 1 where it has none. */
static double drives_slower(const kvt_adapt *a, unsigned replica, unsigned level)
{
	const kvt_fleet_place from = { replica, level }, to = { replica, KVT_KV_HBM };
	const kvt_fleet_route *route = kvt_fleet_links_route(a->fleet->links, from, to);
	if (route->reads == KVT_NO_ARRAY)
		return 1;
	return a->slower[kvt_fleet_links_array(a->fleet->links, route->reads)->link];
}

static void set_placement(kvt_adapt *a, unsigned replica, unsigned level, double slower)
{
	const kvt_fleet_settings *s = a->fleet->settings;
	unsigned bit = 1u << level;
	bool closed = a->closed[replica] & bit;
	if (closed ? slower > s->adapt_low : slower < s->adapt_high)
		return;
	a->closed[replica] ^= bit;
	a->stats.closings += !closed;
	kvt_kv_close_levels(a->fleet->kv[replica], a->closed[replica]);
}

static void set_ahead(kvt_adapt *a, unsigned replica, double slower)
{
	const kvt_fleet_settings *s = a->fleet->settings;
	unsigned now = a->ahead[replica], then = now, most = (unsigned)s->adapt_ahead_max;
	bool waits = kvt_replica_get_load(a->fleet->replicas[replica]).waiting > 0;
	if (slower >= s->adapt_high && now > 1)
		then = now - 1;
	else if (slower <= s->adapt_low && waits && now < most)
		then = now + 1;
	if (then == now)
		return;
	a->ahead[replica] = then;
	a->stats.ahead_changes++;
	kvt_replica_set_ahead(a->fleet->replicas[replica], then);
}

static void look(void *arg)
{
	kvt_adapt *a = arg;
	const kvt_fleet *f = a->fleet;
	kvt_time now = kvt_loop_now(f->loop);
	a->next = 0;
	a->stats.looks++;
	look_at_links(a, kvt_time_to_seconds(now - a->last));
	a->last = now;
	for (unsigned replica = 0; replica < f->n_replicas; replica++) {
		double slowest = 1;
		for (unsigned level = 1; level <= f->settings->n_tiers; level++) {
			double slower = drives_slower(a, replica, level);
			set_placement(a, replica, level, slower);
			slowest = MAX(slowest, slower);
		}
		set_ahead(a, replica, slowest);
	}
	/* an event that nothing needs would keep a run from its end */
	if (f->little.now > 0 || kvt_fleet_transfers_under_way(f->transfers) > 0)
		a->next = kvt_loop_after(f->loop, f->settings->adapt_period, look, a);
}

void kvt_adapt_wake(kvt_adapt *a)
{
	if (a->next == 0)
		a->next = kvt_loop_after(a->fleet->loop, a->fleet->settings->adapt_period, look, a);
}

kvt_adapt_stats kvt_adapt_get_stats(const kvt_adapt *a)
{
	return a->stats;
}
