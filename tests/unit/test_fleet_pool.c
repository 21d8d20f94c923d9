/* test_fleet_pool.c: DRAM and drives that nodes pool, and CXL expanders: where blocks lie, what a
 * far one costs, and what one cache of all nodes holds that none of its own could. */
#include <math.h>

#include "sim/fleet/tier_homes.h"
#include "tests/unit/fleet_fixture.h"

enum { BLOCK = 64, BLOCKS = 256, CONTEXT = BLOCK * BLOCKS };

static const char *const TWO_NODES = "[fleet]\nreplicas = 2\nreplicas_a_node = 1\n"
				     "routing = round-robin\n"
				     "[fabric]\nnics = 2\n"
				     "[step]\nmodel = tables\n"
				     "[cache]\nreload = load\n";

/* One more node takes its share of what others had, and no more moves. */
static void test_hash(void)
{
	enum { KEYS = 20000, NODES = 7 };
	unsigned counts[NODES + 1] = { 0 }, moved = 0;
	for (unsigned key = 0; key < KEYS; key++) {
		unsigned before = kvt_tier_homes_hash(key, NODES);
		unsigned after = kvt_tier_homes_hash(key, NODES + 1);
		g_assert_cmpuint(before, <, NODES);
		g_assert_true(after == before || after == NODES);
		moved += after != before;
		counts[after]++;
	}
	for (unsigned node = 0; node <= NODES; node++) {
		g_assert_cmpuint(counts[node], >, KEYS / (NODES + 1) * 9 / 10);
		g_assert_cmpuint(counts[node], <, KEYS / (NODES + 1) * 11 / 10);
	}
	g_assert_cmpuint(moved, ==, counts[NODES]);
}

/* No node has more than its share, whatever is asked for. */
static void test_shares(void)
{
	enum { NODES = 3, SHARE = 10, PIECES = NODES * SHARE };
	for (unsigned placement = KVT_PLACE_HASH; placement <= KVT_PLACE_WRITER; placement++) {
		g_autoptr(kvt_tier_homes) homes =
			kvt_tier_homes_new(NODES, (kvt_tier_placement)placement, SHARE, PIECES);
		for (uint32_t piece = 0; piece < PIECES; piece++)
			kvt_tier_homes_enter(homes, piece, 1, 1);
		for (unsigned node = 0; node < NODES; node++)
			g_assert_cmpuint(homes->used[node], ==, SHARE);
		if (placement == KVT_PLACE_WRITER)
			for (uint32_t piece = 0; piece < SHARE; piece++)
				g_assert_cmpuint(homes->home[piece], ==, 1);
		for (uint32_t piece = 0; piece < PIECES; piece++)
			kvt_tier_homes_leave(homes, piece, 1);
		for (unsigned node = 0; node < NODES; node++)
			g_assert_cmpuint(homes->used[node], ==, 0);
	}
}

typedef struct outcome {
	kvt_time ttft;
	uint32_t hbm, tier;
} outcome;

/* Request 0 goes to replica 0, then `others` fill HBM of both, then 0's context comes back, to
 * replica `at`. */
static outcome return_to(unsigned at, const char *tier, const char *const *sets)
{
	enum { OTHERS = 160 };
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	uint32_t ids[BLOCKS], n = OTHERS + at;
	/* every second one is replica 0's */
	for (unsigned i = 0; i <= n; i++) {
		unsigned context = i == n ? 0 : i;
		kvt_made_trace_add(made, i * 60 * KVT_SECOND, CONTEXT + (i == n ? 64 : 0), 1);
		for (unsigned b = 0; b < BLOCKS; b++)
			ids[b] = context * BLOCKS + b;
		kvt_made_trace_set_blocks(made, ids, BLOCKS);
	}
	g_autofree char *text = g_strconcat(TWO_NODES, tier, NULL);
	g_autoptr(kvt_fleet_settings) settings = kvt_fleet_fixture_settings(text, sets);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, kvt_made_trace_get(made));
	const kvt_request_outcome *o = &fleet->outcomes[n];
	g_assert_cmpuint(o->replica, ==, at);
	return (outcome){ kvt_request_outcome_ttft(o), o->hit_blocks[KVT_KV_HBM],
		o->hit_blocks[1] };
}

#define DRAM "[tier t]\nkind = dram\ncapacity = 2TB\n"

/* What is in the other node's DRAM is found in a pool alone, and comes over NICs: later than what
 * is near, sooner than it is computed. */
static void test_far(void)
{
	const char *slow[] = { "tier t.scope=pool", "tier t.placement=writer",
		"fabric.nic=connectx-7-400g", NULL };
	outcome own_near = return_to(0, DRAM, NULL), own_far = return_to(1, DRAM, NULL);
	g_assert_cmpuint(own_near.hbm, ==, 0);
	g_assert_cmpuint(own_near.tier, ==, BLOCKS);
	g_assert_cmpuint(own_far.hbm + own_far.tier, ==, 0);
	outcome near = return_to(0, DRAM, slow), far = return_to(1, DRAM, slow);
	g_assert_cmpuint(near.tier, ==, BLOCKS);
	g_assert_cmpuint(far.tier, ==, BLOCKS);
	g_assert_cmpint(near.ttft, ==, own_near.ttft);
	g_assert_cmpint(far.ttft, >, near.ttft);
	g_assert_cmpint(far.ttft, <, own_far.ttft);
	/* by hash half of it is near either one */
	const char *hash[] = { "tier t.scope=pool", "tier t.placement=hash", NULL };
	outcome spread = return_to(1, DRAM, hash);
	g_assert_cmpuint(spread.tier, ==, BLOCKS);
	g_assert_cmpint(spread.ttft, <, far.ttft);
}

#define NVME "[tier t]\nkind = nvme\ndrives = 2\n"
#define CXL "[tier t]\nkind = cxl\ncapacity = 2TB\nbandwidth = 30GB/s\n"

/* So do drives; an expander stands between DRAM and drives, behind a switch as near to all. */
static void test_kinds(void)
{
	const char *pool[] = { "tier t.scope=pool", "tier t.placement=writer", NULL };
	outcome near_drives = return_to(0, NVME, pool), far_drives = return_to(1, NVME, pool);
	g_assert_cmpuint(far_drives.tier, ==, BLOCKS);
	g_assert_cmpint(far_drives.ttft, >=, near_drives.ttft);
	outcome own = return_to(0, CXL, NULL), elsewhere = return_to(1, CXL, NULL);
	g_assert_cmpuint(own.tier, ==, BLOCKS);
	g_assert_cmpuint(elsewhere.tier, ==, 0);
	g_assert_cmpint(own.ttft, <, near_drives.ttft);
	g_assert_cmpint(own.ttft, >=, return_to(0, DRAM, NULL).ttft);
	outcome shared = return_to(1, CXL, pool);
	g_assert_cmpuint(shared.tier, ==, BLOCKS);
	g_assert_cmpint(shared.ttft, ==, own.ttft);
	const char *slow[] = { "tier t.bandwidth=5GB/s", NULL };
	const char *late[] = { "tier t.latency=1ms", NULL };
	g_assert_cmpint(return_to(0, CXL, slow).ttft, >, own.ttft);
	g_assert_cmpint(return_to(0, CXL, late).ttft, >, own.ttft);
}

/* Contexts that come back one at a time, to either replica in turn: mean time to first token. */
static double mean_of_returns(const char *tier, const char *scope, const char *capacity)
{
	enum { SESSIONS = 23, RETURNS = 161 };
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	uint32_t ids[BLOCKS];
	for (unsigned i = 0; i < RETURNS; i++) {
		kvt_made_trace_add(made, i * 60 * KVT_SECOND, CONTEXT + 64, 1);
		/* squares modulo a prime: some come back soon, some late, some never */
		for (unsigned b = 0; b < BLOCKS; b++)
			ids[b] = (i * i % SESSIONS * (i % 3 + 1) % SESSIONS) * BLOCKS + b;
		kvt_made_trace_set_blocks(made, ids, BLOCKS);
	}
	g_autofree char *text = g_strconcat(TWO_NODES, tier, NULL);
	const char *sets[] = { scope, capacity, "gpu.count=2", NULL };
	g_autoptr(kvt_fleet_settings) settings = kvt_fleet_fixture_settings(text, sets);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, kvt_made_trace_get(made));
	g_autoptr(kvt_fleet_figures) figures = kvt_fleet_figures_new(fleet);
	g_assert_cmpuint(figures->all.refused, ==, 0);
	return figures->all.ttft.mean;
}

/* More memory is never slower, alone; and a pool of the same bytes serves two replicas that get the
 * same sessions in turn better than each one's own. */
static void test_capacity(void)
{
	static const char *const capacities[] = { "tier t.capacity=4GB", "tier t.capacity=10GB",
		"tier t.capacity=25GB", "tier t.capacity=60GB", "tier t.capacity=200GB" };
	static const char *const tiers[] = { DRAM, CXL, NVME };
	for (unsigned t = 0; t < G_N_ELEMENTS(tiers); t++) {
		double before = INFINITY;
		for (unsigned c = 0; c < G_N_ELEMENTS(capacities); c++) {
			double pool = mean_of_returns(tiers[t], "tier t.scope=pool", capacities[c]);
			double own = mean_of_returns(tiers[t], "tier t.scope=node", capacities[c]);
			g_test_message("%s: pool %g s, own %g s", capacities[c], pool, own);
			g_assert_cmpfloat(pool, <=, before);
			if (c == 2)
				g_assert_cmpfloat(pool, <, own);
			before = pool;
		}
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fleet/pool/hash", test_hash);
	g_test_add_func("/fleet/pool/shares", test_shares);
	g_test_add_func("/fleet/pool/far", test_far);
	g_test_add_func("/fleet/pool/kinds", test_kinds);
	g_test_add_func("/fleet/pool/capacity", test_capacity);
	return g_test_run();
}
