/* test_fleet_pool.c: DRAM and drives that nodes pool, and CXL expanders: where blocks lie, what a
 * far one costs, and what one cache of all nodes holds that none of its own could. */
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

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fleet/pool/hash", test_hash);
	g_test_add_func("/fleet/pool/shares", test_shares);
	g_test_add_func("/fleet/pool/far", test_far);
	return g_test_run();
}
