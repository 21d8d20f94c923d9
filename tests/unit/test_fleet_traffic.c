/* test_fleet_traffic.c: when requests come, where they go, and which of them count. */
#include "tests/unit/fleet_fixture.h"

enum { BLOCK = 64 };

static const char *const STEPS = "[step]\nmodel = linear\nbase = 10ms\nper_token = 10us\n";

static kvt_fleet *run(kvt_made_trace *made, kvt_fleet_settings **settings, const char *const *sets)
{
	*settings = kvt_fleet_fixture_settings(STEPS, sets);
	return kvt_fleet_fixture_run(*settings, kvt_made_trace_get(made));
}

/* Arrivals come so many times faster; the warm-up is left out of latencies, not of the run. */
static void test_open_loop(void)
{
	enum { REQUESTS = 100 };
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	for (unsigned i = 0; i < REQUESTS; i++)
		kvt_made_trace_add(made, i * KVT_SECOND, i < 50 ? 30000 : 100, 2);
	const char *sets[] = { "traffic.rate_scale=2", "traffic.warm_up=50%", "traffic.requests=90",
		NULL };
	g_autoptr(kvt_fleet_settings) settings = NULL;
	g_autoptr(kvt_fleet) fleet = run(made, &settings, sets);
	g_autoptr(kvt_fleet_figures) figures = kvt_fleet_figures_new(fleet);
	g_assert_cmpuint(fleet->ended, ==, 90);
	for (uint32_t i = 0; i < 90; i++)
		g_assert_cmpint(fleet->outcomes[i].arrival, ==, i * KVT_SECOND / 2);
	g_assert_cmpuint(figures->all.requests, ==, 45);
	/* five of the long prompts count */
	g_assert_cmpuint(figures->all.ttft.count, ==, 45);
	g_assert_cmpfloat(figures->all.ttft.max, >, 0.3);
	g_assert_cmpfloat(figures->all.ttft.p50, <, 0.02);
}

/* A parent starts two sub-agents, and goes on when both have answered. */
static void test_joins(void)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	kvt_made_trace_add(made, 0, 100, 10);
	for (unsigned i = 0; i < 2; i++) {
		kvt_request *agent = kvt_made_trace_add(made, 0, 100, 10 + 100 * i);
		agent->after = 0;
		agent->think = KVT_SECOND;
		agent->joins = 3;
		agent->flags = KVT_REQUEST_SUBAGENT;
	}
	kvt_request *last = kvt_made_trace_add(made, 0, 100, 1);
	last->after = 0;
	last->think = 2 * KVT_SECOND;
	const char *sets[] = { "traffic.loop=closed", NULL };
	g_autoptr(kvt_fleet_settings) settings = NULL;
	g_autoptr(kvt_fleet) fleet = run(made, &settings, sets);
	const kvt_request_outcome *o = fleet->outcomes;
	g_assert_cmpint(o[1].arrival, ==, o[0].ended + KVT_SECOND);
	g_assert_cmpint(o[2].arrival, ==, o[0].ended + KVT_SECOND);
	g_assert_cmpint(o[2].ended, >, o[1].ended);
	g_assert_cmpint(o[3].arrival, ==, o[2].ended + 2 * KVT_SECOND);
}

/* Sessions of several turns, a second apart, all of them long after the one before. */
static kvt_made_trace *sessions(unsigned n, unsigned turns)
{
	enum { BLOCKS = 100 };
	kvt_made_trace *made = kvt_made_trace_new(BLOCK);
	uint32_t ids[BLOCKS];
	for (unsigned turn = 0; turn < turns; turn++) {
		for (unsigned i = 0; i < n; i++) {
			kvt_time at = (kvt_time)(turn * n + i) * KVT_SECOND;
			kvt_made_trace_add(made, at, BLOCKS * BLOCK + 10, 5)->session = i;
			for (unsigned b = 0; b < BLOCKS; b++)
				ids[b] = i * BLOCKS + b;
			kvt_made_trace_set_blocks(made, ids, BLOCKS);
		}
	}
	return made;
}

static void test_routing(void)
{
	enum { SESSIONS = 7, TURNS = 4, REPLICAS = 4 };
	static const char *const routings[] = { "fleet.routing=round-robin",
		"fleet.routing=least-loaded", "fleet.routing=cache-affinity" };
	for (unsigned r = 0; r < G_N_ELEMENTS(routings); r++) {
		g_autoptr(kvt_made_trace) made = sessions(SESSIONS, TURNS);
		const char *sets[] = { routings[r], "fleet.replicas=4", NULL };
		g_autoptr(kvt_fleet_settings) settings = NULL;
		g_autoptr(kvt_fleet) fleet = run(made, &settings, sets);
		g_autoptr(kvt_fleet_figures) figures = kvt_fleet_figures_new(fleet);
		for (uint32_t i = 0; i < fleet->n_requests; i++) {
			uint32_t replica = fleet->outcomes[i].replica;
			if (r == 0)
				g_assert_cmpuint(replica, ==, i % REPLICAS);
			if (r == 2 && i >= SESSIONS)
				g_assert_cmpuint(
					replica, ==, fleet->outcomes[i - SESSIONS].replica);
		}
		g_test_message("%s: %g of blocks found", routings[r], figures->all.hit_rate_all);
		if (r == 2)
			g_assert_cmpfloat(figures->all.hit_rate_all, ==, 1 - 1.0 / TURNS);
	}
}

/* Many at once are spread over replicas, by what waits there. */
static void test_least_loaded(void)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	kvt_made_trace_add(made, 0, 50000, 1);
	for (unsigned i = 0; i < 6; i++)
		kvt_made_trace_add(made, 0, 5000, 1);
	const char *sets[] = { "fleet.routing=least-loaded", "fleet.replicas=2", NULL };
	g_autoptr(kvt_fleet_settings) settings = NULL;
	g_autoptr(kvt_fleet) fleet = run(made, &settings, sets);
	for (uint32_t i = 0; i < fleet->n_requests; i++)
		g_assert_cmpuint(fleet->outcomes[i].replica, ==, i > 0);
}

/* Prompts that are the same are shared by those of one tenant, and by all if that is asked for. */
static void test_tenants(void)
{
	static const char *const shared[] = { "cache.shared=no", "cache.shared=yes" };
	for (unsigned s = 0; s < G_N_ELEMENTS(shared); s++) {
		uint32_t ids[] = { 0, 1, 2, 3 };
		g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
		for (unsigned i = 0; i < 3; i++) {
			kvt_made_trace_add(made, i * KVT_SECOND, 4 * BLOCK + 1, 1)->tenant = i / 2;
			kvt_made_trace_set_blocks(made, ids, 4);
		}
		made->n_tenants = 2;
		const char *sets[] = { shared[s], NULL };
		g_autoptr(kvt_fleet_settings) settings = NULL;
		g_autoptr(kvt_fleet) fleet = run(made, &settings, sets);
		g_autoptr(kvt_fleet_figures) figures = kvt_fleet_figures_new(fleet);
		g_assert_cmpuint(fleet->outcomes[1].hit_blocks[KVT_KV_HBM], ==, 4);
		g_assert_cmpuint(fleet->outcomes[2].hit_blocks[KVT_KV_HBM], ==, s == 1 ? 4 : 0);
		g_assert_cmpuint(figures->n_tenants, ==, 2);
		g_assert_cmpuint(figures->tenants[0].served, ==, 2);
		g_assert_cmpuint(figures->tenants[1].served, ==, 1);
	}
}

/* Nearest rank: the value that so many do not exceed. */
static void test_percentiles(void)
{
	kvt_time times[1000];
	for (unsigned i = 0; i < 1000; i++)
		times[i] = (kvt_time)(1000 - i) * KVT_SECOND;
	kvt_percentiles p = kvt_percentiles_of(times, 1000);
	g_assert_cmpfloat(p.p50, ==, 500);
	g_assert_cmpfloat(p.p95, ==, 950);
	g_assert_cmpfloat(p.p99, ==, 990);
	g_assert_cmpfloat(p.p999, ==, 999);
	g_assert_cmpfloat(p.max, ==, 1000);
	g_assert_cmpfloat(p.mean, ==, 500.5);
	p = kvt_percentiles_of(times, 1);
	g_assert_cmpfloat(p.p50, ==, p.p999);
	g_assert_cmpuint(kvt_percentiles_of(times, 0).count, ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fleet/traffic/open-loop", test_open_loop);
	g_test_add_func("/fleet/traffic/joins", test_joins);
	g_test_add_func("/fleet/traffic/routing", test_routing);
	g_test_add_func("/fleet/traffic/least-loaded", test_least_loaded);
	g_test_add_func("/fleet/traffic/tenants", test_tenants);
	g_test_add_func("/fleet/traffic/percentiles", test_percentiles);
	return g_test_run();
}
