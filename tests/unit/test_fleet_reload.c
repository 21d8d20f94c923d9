/* test_fleet_reload.c: KV that leaves HBM and comes back, in time: when the first token comes, what
 * more of anything does, preemption by swapping, loops that close, and runs that cannot end. */
#include <math.h>

#include "sim/base/datadir.h"
#include "sim/base/rng.h"
#include "tests/unit/fleet_fixture.h"

enum { BLOCK = 64, CONTEXT = 32768, NEW = 256 };

static const char *const ONE_REPLICA = "[step]\nmodel = tables\n"
				       "[scheduler]\ntoken_budget = 8192\nchunk_tokens = 8192\n"
				       "[tier dram]\nkind = dram\ncapacity = 900GB\n";

/* A context, others that take all of HBM, and the first one's next turn. Returns its number. */
static uint32_t add_return(kvt_made_trace *made, unsigned others)
{
	enum { BLOCKS = CONTEXT / BLOCK };
	uint32_t ids[BLOCKS], session = made->n_sessions;
	for (unsigned i = 0; i <= others; i++) {
		kvt_made_trace_add(made, i * 60 * KVT_SECOND, CONTEXT, 1);
		for (unsigned b = 0; b < BLOCKS; b++)
			ids[b] = (session + i) * BLOCKS + b;
		kvt_made_trace_set_blocks(made, ids, BLOCKS);
	}
	kvt_made_trace_add(made, (others + 1) * 60 * KVT_SECOND, CONTEXT + NEW, 1);
	for (unsigned b = 0; b < BLOCKS; b++)
		ids[b] = session * BLOCKS + b;
	kvt_made_trace_set_blocks(made, ids, BLOCKS);
	return others + 1;
}

static kvt_time return_time(const char *const *sets, kvt_time *load, kvt_time *compute)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	uint32_t back = add_return(made, 40);
	g_autoptr(kvt_fleet_settings) settings = kvt_fleet_fixture_settings(ONE_REPLICA, sets);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, kvt_made_trace_get(made));
	const kvt_request_outcome *o = &fleet->outcomes[back];
	g_assert_cmpuint(o->hit_blocks[KVT_KV_HBM], ==, 0);
	const kvt_fleet_place hbm = { 0, 0 }, dram = { 0, 1 };
	uint64_t bytes = kvt_block_shape_saved_bytes(&fleet->shape, 0) * (CONTEXT / BLOCK);
	*load = kvt_fleet_transfers_alone(fleet->transfers, dram, hbm, bytes);
	const kvt_step_chunk chunk = { NEW, CONTEXT };
	const kvt_step step = { .chunks = &chunk, .n_chunks = 1, .rows = 1 };
	*compute = kvt_step_cost_time(fleet->cost, &step);
	return kvt_request_outcome_ttft(o);
}

static void is_about(kvt_time time, kvt_time expected)
{
	g_test_message(
		"%g s, expected %g s", kvt_time_to_seconds(time), kvt_time_to_seconds(expected));
	g_assert_cmpfloat(fabs((double)time / (double)expected - 1), <, 0.001);
}

/* The first token comes when the slower of two pipelines is through: KV layer by layer, and the
 * layers' computation, which cannot begin its last one before that has come. */
static void test_layerwise(void)
{
	kvt_time load, compute, layers = 60;
	const char *slow_link[] = { "host.name=copies-20gb", NULL };
	kvt_time slow = return_time(slow_link, &load, &compute);
	g_assert_cmpint(load, >, compute);
	is_about(slow, load + compute / layers);
	const char *after[] = { "host.name=copies-20gb", "cache.layerwise=no", NULL };
	is_about(return_time(after, &load, &compute), load + compute);
	/* what is computed again is slower still */
	const char *recompute[] = { "cache.reload=recompute", NULL };
	g_assert_cmpint(return_time(recompute, &load, &compute), >, 2 * slow);
}

/* Where computing takes longer than loading, loading is hidden but for its first layer at most. */
static void test_hidden_load(void)
{
	kvt_time load, compute;
	const char *slow_steps[] = { "step.kernel_overhead=1ms", NULL };
	kvt_time time = return_time(slow_steps, &load, &compute);
	g_assert_cmpint(compute, >, load);
	is_about(time, compute);
}

/* Estimates choose what is faster, here by far. */
static void test_auto(void)
{
	kvt_time load, compute;
	const char *automatic[] = { "cache.reload=auto", NULL }, *loads[] = { NULL };
	g_assert_cmpint(
		return_time(automatic, &load, &compute), ==, return_time(loads, &load, &compute));
	/* a step of next to no time is faster than any load */
	const char *fast[] = { "cache.reload=auto", "step.model=linear", NULL };
	g_assert_cmpint(return_time(fast, &load, &compute), <, load / 10);
}

/* A session that goes to another node brings its KV from there: out of that node's HBM, over both
 * NICs. */
static void test_migration(void)
{
	enum { BLOCKS = CONTEXT / BLOCK };
	static const char *const migrations[] = { "fleet.migration=yes", "fleet.migration=no" };
	kvt_time times[2];
	for (unsigned m = 0; m < 2; m++) {
		uint32_t ids[BLOCKS];
		for (unsigned b = 0; b < BLOCKS; b++)
			ids[b] = b;
		g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
		for (unsigned i = 0; i < 2; i++) {
			kvt_made_trace_add(made, i * 60 * KVT_SECOND, CONTEXT + i * NEW, 1)
				->session = 0;
			kvt_made_trace_set_blocks(made, ids, BLOCKS);
		}
		const char *sets[] = { migrations[m], "fleet.replicas=2",
			"fleet.routing=round-robin", NULL };
		g_autoptr(kvt_fleet_settings) settings =
			kvt_fleet_fixture_settings(ONE_REPLICA, sets);
		g_autoptr(kvt_fleet) fleet =
			kvt_fleet_fixture_run(settings, kvt_made_trace_get(made));
		const kvt_request_outcome *o = &fleet->outcomes[1];
		times[m] = kvt_request_outcome_ttft(o);
		g_assert_cmpuint(o->replica, ==, 1);
		g_assert_cmpuint(o->hit_blocks[KVT_KV_PEER], ==, m == 0 ? BLOCKS : 0);
		if (m == 1)
			continue;
		const kvt_step_chunk chunk = { NEW, CONTEXT };
		const kvt_step step = { .chunks = &chunk, .n_chunks = 1, .rows = 1 };
		uint64_t bytes = kvt_block_shape_saved_bytes(&fleet->shape, 0) * BLOCKS;
		/* written through, so that it is read from DRAM or HBM, whichever the chain says */
		kvt_time load = kvt_fleet_transfers_alone(fleet->transfers,
			(kvt_fleet_place){ 0, 0 }, (kvt_fleet_place){ 1, 0 }, bytes);
		is_about(times[m], load + kvt_step_cost_time(fleet->cost, &step) / 60);
	}
	g_assert_cmpint(times[0], <, times[1] / 4);
}

static double mean_ttft(const char *file, const char *const *sets)
{
	GError *error = NULL;
	g_autofree char *path = kvt_datadir_find(file, &error);
	g_autoptr(kvt_fleet_settings) settings = kvt_fleet_settings_load(path, sets, &error);
	g_assert_no_error(error);
	g_autofree char *trace_path = kvt_fleet_settings_trace_path(settings);
	g_autoptr(kvt_request_trace) trace = kvt_request_trace_open(trace_path, &error);
	g_assert_no_error(error);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, trace);
	g_autoptr(kvt_fleet_figures) figures = kvt_fleet_figures_new(fleet);
	g_assert_cmpuint(figures->all.refused, ==, 0);
	return figures->all.ttft.mean;
}

/* Conversations that come back one at a time, in no order. */
static double mean_of_returns(const char *const *sets)
{
	enum { SESSIONS = 24, RETURNS = 200, BLOCKS = 256 };
	kvt_rng rng = kvt_rng_init(1, 1);
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	for (unsigned i = 0; i < RETURNS; i++) {
		uint32_t ids[BLOCKS], session = (uint32_t)kvt_rng_below(&rng, SESSIONS);
		/* some are asked for more often */
		session = (uint32_t)kvt_rng_below(&rng, session + 1);
		uint32_t n = 32 * (1 + session % 8);
		kvt_made_trace_add(made, i * 60 * KVT_SECOND, n * BLOCK + NEW, 4);
		for (unsigned b = 0; b < n; b++)
			ids[b] = session * BLOCKS + b;
		kvt_made_trace_set_blocks(made, ids, n);
	}
	g_autoptr(kvt_fleet_settings) settings =
		kvt_fleet_fixture_settings("[step]\nmodel = tables\n"
					   "[tier dram]\nkind = dram\ncapacity = 10GB\n"
					   "[tier nvme]\nkind = nvme\ndrives = 8\n"
					   "[tier pool]\nkind = remote-nvme\ndrives = 4\n",
			sets);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, kvt_made_trace_get(made));
	g_autoptr(kvt_fleet_figures) figures = kvt_fleet_figures_new(fleet);
	return figures->all.ttft.mean;
}

/* More of a thing, from case to case, never makes it slower. Alone, not at all; where requests meet
 * in batches but for a little: one that is ready sooner joins others' steps, and the one after it
 * may begin later for that. */
static void check_never_slower(const char *const *base, const char *const *settings, bool alone)
{
	double before = INFINITY;
	for (unsigned i = 0; settings[i]; i++) {
		const char *sets[8] = { settings[i] };
		for (unsigned k = 0; base[k]; k++)
			sets[k + 1] = base[k];
		double time = alone ? mean_of_returns(sets)
				    : mean_ttft("experiments/fleet-mooncake.ini", sets);
		g_test_message("%s: mean TTFT %g s", settings[i], time);
		g_assert_cmpfloat(time, <=, before * (alone ? 1 : 1.01));
		before = time;
	}
}

static void test_never_slower_alone(void)
{
	/* HBM for a fifth of all contexts */
	const char *base[] = { "gpu.activations=57GB", "tier nvme.capacity=25GB", NULL };
	const char *dram[] = { "tier dram.capacity=16GB", "tier dram.capacity=24GB",
		"tier dram.capacity=32GB", "tier dram.capacity=1TB", NULL };
	check_never_slower(base, dram, true);
	const char *nvme[] = { "tier nvme.capacity=20GB", "tier nvme.capacity=30GB",
		"tier nvme.capacity=1TB", NULL };
	check_never_slower(base, nvme, true);
	const char *drives[] = { "tier nvme.drives=1", "tier nvme.drives=2", "tier nvme.drives=4",
		"tier nvme.drives=16", NULL };
	check_never_slower(base, drives, true);
	const char *pool[] = { "tier pool.drives=1", "tier pool.drives=4", "tier pool.drives=16",
		NULL };
	check_never_slower(base, pool, true);
	const char *nics[] = { "fabric.nic=connectx-5-100g", "fabric.nics=1", "fabric.nics=4",
		NULL };
	check_never_slower(base, nics, true);
	const char *hosts[] = { "host.name=copies-20gb", "host.name=pcie4-ddr4", NULL };
	check_never_slower(base, hosts, true);
	const char *hbm[] = { "gpu.activations=58GB", "gpu.activations=56GB",
		"gpu.activations=50GB", "gpu.activations=2GB", NULL };
	const char *rest[] = { "tier nvme.capacity=25GB", NULL };
	check_never_slower(rest, hbm, true);
}

static void test_never_slower(void)
{
	/* little HBM, so that prefixes come from below it */
	const char *base[] = { "gpu.activations=30GB", "fleet.routing=round-robin",
		"traffic.rate_scale=0.6", NULL };
	const char *dram[] = { "tier dram.capacity=100GB", "tier dram.capacity=300GB",
		"tier dram.capacity=1TB", NULL };
	check_never_slower(base, dram, false);
	const char *small[] = { "gpu.activations=30GB", "fleet.routing=round-robin",
		"traffic.rate_scale=0.6", "tier dram.capacity=100GB", NULL };
	const char *drives[] = { "tier nvme.drives=1", "tier nvme.drives=4", "tier nvme.drives=16",
		NULL };
	check_never_slower(small, drives, false);
	const char *routed[] = { "fleet.routing=least-loaded", NULL };
	const char *replicas[] = { "fleet.replicas=3", "fleet.replicas=6", "fleet.replicas=12",
		NULL };
	check_never_slower(routed, replicas, false);
}

/* Tiers below HBM change when first tokens come, not hit rates alone. */
static void test_offloading(void)
{
	const char *with[] = { "gpu.activations=30GB", "fleet.replicas=6", NULL };
	const char *without[] = { "gpu.activations=30GB", "fleet.replicas=6",
		"cache.reload=recompute", NULL };
	double loads = mean_ttft("experiments/fleet-mooncake.ini", with);
	double computes = mean_ttft("experiments/fleet-mooncake.ini", without);
	g_test_message("mean TTFT %g s with tiers, %g s without", loads, computes);
	g_assert_cmpfloat(loads, <, 0.9 * computes);
}

/* Answers that outgrow HBM, swapped out to DRAM and back. */
static void test_swap(void)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	for (unsigned i = 0; i < 60; i++)
		kvt_made_trace_add(made, i * KVT_MILLISECOND, 4000 + 10 * i, 6000);
	const char *sets[] = { "scheduler.preemption=swap", "scheduler.ahead=60",
		"gpu.activations=50GB", NULL };
	g_autoptr(kvt_fleet_settings) settings = kvt_fleet_fixture_settings(ONE_REPLICA, sets);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, kvt_made_trace_get(made));
	const kvt_replica_stats *stats = kvt_replica_get_stats(fleet->replicas[0]);
	g_test_message("%" G_GUINT64_FORMAT " preemptions, %" G_GUINT64_FORMAT " swaps",
		stats->preemptions, stats->swaps);
	g_assert_cmpuint(stats->swaps, >, 10);
	g_assert_cmpuint(stats->swaps, ==, stats->preemptions);
	g_assert_cmpuint(stats->output_tokens, ==, 60 * 6000);
	/* what was swapped comes back: a token each is computed, not the context */
	g_assert_cmpuint(stats->recomputed_tokens, ==, stats->swaps);
}

/* Each request waits for the one before, and thinks. */
static void test_closed_loop(void)
{
	enum { TURNS = 5 };
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	for (unsigned session = 0; session < 3; session++)
		for (unsigned turn = 0; turn < TURNS; turn++) {
			kvt_request *q = kvt_made_trace_add(made, 0, 100, 10);
			q->session = session;
			q->think = turn > 0 ? 5 * KVT_SECOND : 0;
			q->after = turn > 0 ? session * TURNS + turn - 1 : KVT_REQUEST_NONE;
		}
	const char *sets[] = { "traffic.loop=closed", "traffic.users=1", "traffic.think_scale=2",
		NULL };
	g_autoptr(kvt_fleet_settings) settings =
		kvt_fleet_fixture_settings("[step]\nmodel = linear\nbase = 10ms\n", sets);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, kvt_made_trace_get(made));
	kvt_time at = 0;
	for (uint32_t i = 0; i < 3 * TURNS; i++) {
		at += i % TURNS > 0 ? 10 * KVT_SECOND : 0;
		g_assert_cmpint(fleet->outcomes[i].arrival, ==, at);
		at += 10 * 10 * KVT_MILLISECOND;
		g_assert_cmpint(fleet->outcomes[i].ended, ==, at);
	}
}

/* A run in which nothing ends any more is an error of one line. */
static void test_give_up(void)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	kvt_made_trace_add(made, 0, 100, 1000);
	const char *sets[] = { "fleet.give_up=1s", NULL };
	g_autoptr(kvt_fleet_settings) settings =
		kvt_fleet_fixture_settings("[step]\nmodel = linear\nbase = 10ms\n", sets);
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_fleet) fleet = kvt_fleet_new(settings, kvt_made_trace_get(made), &error);
	g_assert_no_error(error);
	g_assert_false(kvt_fleet_run(fleet, &error));
	g_assert_cmpstr(error->message, ==,
		"livelock: 1 of 1 requests did not end, none within [fleet] give_up, the first of "
		"them request 0; replica 0 has 0 requests waiting, 1 with room in HBM and 0 "
		"swapped "
		"out, 0 saves on their way");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fleet/reload/layerwise", test_layerwise);
	g_test_add_func("/fleet/reload/hidden-load", test_hidden_load);
	g_test_add_func("/fleet/reload/auto", test_auto);
	g_test_add_func("/fleet/reload/migration", test_migration);
	g_test_add_func("/fleet/reload/never-slower-alone", test_never_slower_alone);
	g_test_add_func("/fleet/reload/never-slower", test_never_slower);
	g_test_add_func("/fleet/reload/offloading", test_offloading);
	g_test_add_func("/fleet/reload/swap", test_swap);
	g_test_add_func("/fleet/reload/closed-loop", test_closed_loop);
	g_test_add_func("/fleet/reload/give-up", test_give_up);
	return g_test_run();
}
