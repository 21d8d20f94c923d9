/* fleet.c: puts a fleet together, runs it, and checks that nothing was lost. */
#include "sim/fleet/fleet.h"

#include "sim/base/error.h"
#include "sim/fleet/adapt.h"
#include "sim/fleet/telemetry.h"

/* Arrivals and ends */

static void count_change(kvt_fleet *f, int change)
{
	kvt_little *little = &f->little;
	kvt_time now = kvt_loop_now(f->loop);
	little->request_time += (kvt_request_time)(now - little->since) * little->now;
	little->since = now;
	little->now += (uint32_t)change;
}

static void watch(void *arg)
{
	kvt_fleet *f = arg;
	f->watchdog = 0;
	if (f->little.now == 0)
		return;
	if (f->watched == f->ended) {
		f->given_up = true;
		kvt_loop_stop(f->loop);
		return;
	}
	f->watched = f->ended;
	f->watchdog = kvt_loop_after(f->loop, f->settings->give_up, watch, f);
}

static void on_end(void *arg, uint32_t request)
{
	kvt_fleet *f = arg;
	count_change(f, -1);
	f->ended++;
	f->end = kvt_loop_now(f->loop);
	if (f->little.now == 0 && f->watchdog != 0) {
		kvt_loop_cancel(f->loop, f->watchdog);
		f->watchdog = 0;
	}
	kvt_arrivals_ended(f->arrivals, request);
}

static void on_arrival(void *arg, uint32_t request)
{
	kvt_fleet *f = arg;
	if (f->telemetry)
		kvt_telemetry_wake(f->telemetry);
	if (f->adapt)
		kvt_adapt_wake(f->adapt);
	f->outcomes[request].arrival = kvt_loop_now(f->loop);
	count_change(f, 1);
	if (f->watchdog == 0) {
		f->watched = f->ended;
		f->watchdog = kvt_loop_after(f->loop, f->settings->give_up, watch, f);
	}
	unsigned chosen = kvt_router_choose(&f->router, request);
	kvt_refusal refusal = kvt_admission_check(&f->admission, f->replicas[chosen],
		f->trace->requests[request].tenant, request, f->outcomes[request].arrival);
	if (refusal == KVT_REFUSED_NOT) {
		kvt_replica_enqueue(f->replicas[chosen], request);
		return;
	}
	f->outcomes[request].replica = chosen;
	f->outcomes[request].refusal = refusal;
	f->outcomes[request].ended = f->outcomes[request].arrival;
	on_end(f, request);
}

double kvt_fleet_mean_requests(const kvt_fleet *f)
{
	return f->end > 0 ? (double)f->little.request_time / (double)f->end : 0;
}

double kvt_fleet_rate_times_time(const kvt_fleet *f)
{
	kvt_request_time sum = 0;
	for (uint32_t i = 0; i < f->n_requests; i++)
		sum += f->outcomes[i].ended - f->outcomes[i].arrival;
	if (f->end <= 0 || f->n_requests == 0)
		return 0;
	double rate = f->n_requests / kvt_time_to_seconds(f->end);
	return rate * (double)sum * 1e-12 / f->n_requests;
}

/* Putting it together */

static void name_blocks(kvt_fleet *f)
{
	const kvt_request_trace *trace = f->trace;
	/* one tenant has nobody to be kept from */
	gboolean shared = f->settings->shared || trace->n_tenants <= 1;
	f->names = kvt_block_names_new(trace->n_ids, MAX(trace->n_tenants, 1), shared);
	uint32_t first = UINT32_MAX;
	for (uint32_t i = 0; f->tenants && i < trace->n_tenants; i++) {
		if (!f->tenants[i]->shared)
			continue;
		first = MIN(first, i);
		kvt_block_names_share(f->names, first, i);
	}
	for (uint32_t i = 0; i < f->n_requests && !shared; i++) {
		const kvt_request *q = &trace->requests[i];
		kvt_block_names_add(
			f->names, q->tenant, trace->blocks + q->first_block, q->n_blocks);
	}
	kvt_block_names_seal(f->names);
}

static void find_next_turns(kvt_fleet *f)
{
	const kvt_request_trace *trace = f->trace;
	f->next_turn = g_new(uint32_t, MAX(f->n_requests, 1));
	g_autofree uint32_t *last = g_new(uint32_t, MAX(trace->n_sessions, 1));
	f->homes = g_new(uint32_t, MAX(trace->n_sessions, 1));
	for (uint32_t i = 0; i < trace->n_sessions; i++) {
		last[i] = KVT_REQUEST_NONE;
		f->homes[i] = UINT32_MAX;
	}
	for (uint32_t i = 0; i < f->n_requests; i++) {
		uint32_t session = trace->requests[i].session;
		f->next_turn[i] = KVT_REQUEST_NONE;
		if (last[session] != KVT_REQUEST_NONE)
			f->next_turn[last[session]] = i;
		last[session] = i;
	}
}

/* One for all nodes, of storage targets or of what nodes pool. */
static gboolean is_common(const kvt_fleet_settings *s, const kvt_tier_settings *tier)
{
	return kvt_tier_settings_shared(tier) || kvt_tier_settings_has_homes(s, tier);
}

/* Those that the file says nothing of have no promises and no bounds. */
static void find_tenants(kvt_fleet *f)
{
	static const kvt_tenant_settings plain = { .active = true, .weight = 1, .burst = 1 };
	const kvt_fleet_settings *s = f->settings;
	const kvt_request_trace *trace = f->trace;
	if (s->n_tenants == 0 || trace->n_tenants == 0)
		return;
	f->tenants = g_new(const kvt_tenant_settings *, trace->n_tenants);
	for (uint32_t i = 0; i < trace->n_tenants; i++) {
		const kvt_tenant_settings *found =
			kvt_fleet_settings_tenant(s, trace->tenant_names[i]);
		f->tenants[i] = found ? found : &plain;
	}
	f->link_shares =
		kvt_link_shares_new(f->network, f->tenants, trace->n_tenants, s->qos.sharing);
	kvt_fleet_transfers_share(f->transfers, f->link_shares);
}

/* Bytes a tenant may have at a level, [trace->n_tenants]; NULL where nobody has a quota. */
static uint64_t *quotas_of(const kvt_fleet *f, const char *level, uint64_t capacity)
{
	bool any = false;
	if (!f->tenants)
		return NULL;
	uint64_t *quotas = g_new0(uint64_t, f->trace->n_tenants);
	for (uint32_t i = 0; i < f->trace->n_tenants; i++) {
		quotas[i] = kvt_tenant_quota(f->tenants[i], level, capacity);
		any |= quotas[i] > 0;
	}
	if (any)
		return quotas;
	g_free(quotas);
	return NULL;
}

static kvt_block_tier *new_tier(const kvt_fleet *f, const kvt_tier_settings *tier)
{
	uint64_t capacity = tier->capacity;
	if (tier->scope == KVT_SCOPE_POOL)
		capacity *= f->n_nodes;
	g_autofree uint64_t *quotas = quotas_of(f, tier->name, capacity);
	const kvt_block_tier_settings settings = kvt_block_tier_settings_of(&f->shape, tier->name,
		kvt_policy_find(tier->policy, NULL), capacity, f->names, quotas);
	kvt_block_tier *made = kvt_block_tier_new(&settings);
	if (kvt_tier_settings_has_homes(f->settings, tier))
		made->homes = kvt_tier_homes_new(f->n_nodes, (kvt_tier_placement)tier->placement,
			tier->capacity, made->n_pieces);
	return made;
}

static void add_tiers(kvt_fleet *f)
{
	const kvt_fleet_settings *s = f->settings;
	f->tiers = g_new0(kvt_block_tier *, (size_t)f->n_nodes * MAX(s->n_tiers, 1));
	for (unsigned node = 0; node < f->n_nodes; node++) {
		for (unsigned i = 0; i < s->n_tiers; i++) {
			const kvt_tier_settings *tier = &s->tiers[i];
			kvt_block_tier **slot = &f->tiers[node * s->n_tiers + i];
			if (node > 0 && is_common(s, tier)) {
				*slot = f->tiers[i];
				continue;
			}
			*slot = new_tier(f, tier);
		}
	}
}

static gboolean add_replicas(kvt_fleet *f, GError **error)
{
	const kvt_fleet_settings *s = f->settings;
	f->kv = g_new0(kvt_kv_manager *, f->n_replicas);
	f->replicas = g_new0(kvt_replica *, f->n_replicas);
	const kvt_replica_env env = { .loop = f->loop,
		.settings = s,
		.trace = f->trace,
		.block_tokens = f->block_tokens,
		.cost = f->cost,
		.transfers = f->transfers,
		.next_turn = f->next_turn,
		.outcomes = f->outcomes,
		.replicas = f->replicas,
		.managers = f->kv,
		.homes = f->homes,
		.tenants = f->tenants,
		.ended = on_end,
		.arg = f };
	g_autofree uint64_t *quotas = quotas_of(f, "hbm", f->hbm_bytes);
	for (unsigned i = 0; i < f->n_replicas; i++) {
		unsigned node = kvt_fleet_links_node(f->links, i);
		const kvt_kv_settings settings = { .shape = &f->shape,
			.names = f->names,
			.hbm_bytes = f->hbm_bytes,
			.policy = kvt_policy_find(s->policy, NULL),
			.hbm_quotas = quotas,
			.tiers = &f->tiers[node * s->n_tiers],
			.n_tiers = s->n_tiers,
			.node = node,
			.write_through = s->write_through };
		f->kv[i] = kvt_kv_manager_new(&settings, error);
		if (!f->kv[i])
			return FALSE;
		f->replicas[i] = kvt_replica_new(&env, i, f->kv[i]);
	}
	kvt_router_init(&f->router, s, f->replicas, f->n_replicas);
	return TRUE;
}

static gboolean add_cost(kvt_fleet *f, GError **error)
{
	const kvt_experiment *e = f->settings->experiment;
	uint64_t room;
	if (!kvt_experiment_kv_room(e, &room, error))
		return FALSE;
	f->hbm_bytes = room * (uint64_t)e->ranks;
	f->cost = kvt_step_cost_new(
		e->llm, e->gpu, (unsigned)e->ranks, &f->settings->step, e->models, error);
	return f->cost != NULL;
}

kvt_fleet *kvt_fleet_new(
	const kvt_fleet_settings *settings, const kvt_request_trace *trace, GError **error)
{
	const kvt_experiment *e = settings->experiment;
	kvt_fleet *f = g_new0(kvt_fleet, 1);
	f->settings = settings;
	f->trace = trace;
	f->n_requests = (uint32_t)trace->n_requests;
	if (settings->requests > 0)
		f->n_requests = (uint32_t)MIN((uint64_t)settings->requests, trace->n_requests);
	f->block_tokens =
		trace->block_tokens > 0 ? trace->block_tokens : (uint32_t)settings->block_tokens;
	f->n_replicas = (unsigned)settings->replicas;
	f->n_nodes = kvt_fleet_settings_nodes(settings);
	f->loop = kvt_virtual_loop_new();
	f->network = kvt_network_new(f->loop);
	f->links = kvt_fleet_links_new(settings, f->block_tokens, f->network);
	f->transfers = kvt_fleet_transfers_new(f->loop, f->network, f->links);
	f->outcomes = g_new(kvt_request_outcome, MAX(f->n_requests, 1));
	for (uint32_t i = 0; i < f->n_requests; i++)
		f->outcomes[i] = (kvt_request_outcome){
			.arrival = -1, .admitted = -1, .first_token = -1, .ended = -1
		};
	uint32_t page_tokens = (uint32_t)MIN(e->page_tokens, (int64_t)f->block_tokens);
	if (!kvt_block_shape_init(
		    &f->shape, e->llm, (unsigned)e->ranks, f->block_tokens, page_tokens, error) ||
		!add_cost(f, error)) {
		kvt_fleet_free(f);
		return NULL;
	}
	find_tenants(f);
	kvt_admission_init(&f->admission, f->tenants, trace->n_tenants);
	name_blocks(f);
	find_next_turns(f);
	add_tiers(f);
	if (!add_replicas(f, error)) {
		kvt_fleet_free(f);
		return NULL;
	}
	f->arrivals = kvt_arrivals_new(f->loop, trace, f->n_requests, settings, on_arrival, f);
	if (settings->telemetry_period > 0)
		f->telemetry = kvt_telemetry_new(f, settings->telemetry_period);
	if (settings->adapt_on)
		f->adapt = kvt_adapt_new(f);
	return f;
}

void kvt_fleet_free(kvt_fleet *f)
{
	if (!f)
		return;
	kvt_telemetry_free(f->telemetry);
	kvt_adapt_free(f->adapt);
	kvt_arrivals_free(f->arrivals);
	for (unsigned i = 0; i < f->n_replicas && f->kv; i++) {
		kvt_replica_free(f->replicas[i]);
		kvt_kv_manager_free(f->kv[i]);
	}
	for (unsigned i = 0; i < f->n_nodes * f->settings->n_tiers && f->tiers; i++)
		if (f->tiers[i] && (i < f->settings->n_tiers ||
					   f->tiers[i] != f->tiers[i % f->settings->n_tiers])) {
			kvt_tier_homes_free(f->tiers[i]->homes);
			kvt_block_tier_free(f->tiers[i]);
		}
	g_free(f->replicas);
	g_free(f->kv);
	g_free(f->tiers);
	g_free(f->next_turn);
	g_free(f->homes);
	g_free(f->outcomes);
	kvt_block_names_free(f->names);
	kvt_step_cost_free(f->cost);
	kvt_fleet_transfers_free(f->transfers);
	kvt_link_shares_free(f->link_shares);
	kvt_admission_clear(&f->admission);
	g_free(f->tenants);
	kvt_fleet_links_free(f->links);
	kvt_network_free(f->network);
	kvt_loop_free(f->loop);
	g_free(f);
}

/* The end of it */

static gboolean check_ended(const kvt_fleet *f, GError **error)
{
	if (f->ended == f->n_requests)
		return TRUE;
	uint32_t first = 0;
	while (f->outcomes[first].ended >= 0 || f->outcomes[first].arrival < 0)
		if (++first == f->n_requests)
			return kvt_error_failed(error,
				"%u of %u requests never came: each waits for another",
				f->n_requests - f->ended, f->n_requests);
	g_autofree char *state = kvt_replica_describe(f->replicas[f->outcomes[first].replica]);
	return kvt_error_failed(error,
		"livelock: %u of %u requests did not end%s, the first of them request %u; %s",
		f->n_requests - f->ended, f->n_requests,
		f->given_up ? ", none within [fleet] give_up" : "", first, state);
}

/* Nothing is on its way, and what caches hold, they hold for nobody. */
static gboolean check_conserved(const kvt_fleet *f, GError **error)
{
	if (kvt_fleet_transfers_under_way(f->transfers) > 0)
		return kvt_error_failed(error, "%u transfers did not end",
			kvt_fleet_transfers_under_way(f->transfers));
	for (unsigned i = 0; i < f->n_replicas; i++) {
		const kvt_block_tier *hbm = kvt_kv_hbm(f->kv[i]);
		kvt_block_waste waste = kvt_block_allocator_waste(kvt_kv_allocator(f->kv[i]));
		if (hbm->held_bytes > 0 || waste.allocated_bytes != hbm->bytes)
			return kvt_error_failed(error,
				"replica %u: %" G_GUINT64_FORMAT
				" bytes of HBM are held and %" G_GINT64_FORMAT
				" leaked after the last request",
				i, hbm->held_bytes, (int64_t)(waste.allocated_bytes - hbm->bytes));
	}
	for (unsigned i = 0; i < f->n_nodes * f->settings->n_tiers; i++)
		if (f->tiers[i]->held_bytes > 0)
			return kvt_error_failed(error,
				"node %u: %" G_GUINT64_FORMAT
				" bytes of tier %s are held after the last request",
				i / f->settings->n_tiers, f->tiers[i]->held_bytes,
				f->tiers[i]->name);
	return TRUE;
}

gboolean kvt_fleet_run(kvt_fleet *f, GError **error)
{
	kvt_arrivals_start(f->arrivals);
	kvt_loop_run(f->loop);
	if (!check_ended(f, error) || !check_conserved(f, error))
		return FALSE;
	double mean = kvt_fleet_mean_requests(f), expected = kvt_fleet_rate_times_time(f);
	if (ABS(mean - expected) > 1e-9 * MAX(mean, 1))
		return kvt_error_failed(error,
			"Little's law: %g requests were there on average, expected %g", mean,
			expected);
	return TRUE;
}
