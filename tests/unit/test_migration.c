/*
 * test_migration.c: a session that goes on at another node: fetching costs what the wire between
 * the nodes takes, crosses recomputing where the break-even rate says, and survives the other node.
 */
#include <glib.h>

#include "sim/engine/migration.h"

enum {
	STAY = KVT_MIGRATION_STAY,
	FETCH = KVT_MIGRATION_FETCH,
	SETTLED = KVT_MIGRATION_SETTLED,
	RECOMPUTE = KVT_MIGRATION_RECOMPUTE,
};

/* With [fabric] efficiency, and one section more. */
static kvt_migration migrate(double efficiency, const char *more)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = g_strdup_printf(
		"[experiment]\nkind = migrate\n[model]\nname = qwen2.5-7b-instruct-1m\n"
		"[gpu]\nname = l40s\ncount = 4\n[storage]\ntier = remote-dram\n"
		"[fabric]\ntargets = 1\ntarget = l40s-testbed\nefficiency = %.6f%%\n"
		"[context]\ntokens = 64K\noutput_tokens = 2\n%s",
		100 * efficiency, more);
	kvt_config *config = kvt_config_parse("test.ini", text, &error);
	g_assert_no_error(error);
	g_autoptr(kvt_experiment) experiment = kvt_experiment_new(config, &error);
	g_assert_no_error(error);
	const kvt_world models = { 0 };
	kvt_migration migration;
	g_assert_true(kvt_migration_run(&models, experiment, NULL, &migration, &error));
	g_assert_no_error(error);
	return migration;
}

static void test_order(void)
{
	kvt_migration fast = migrate(0.9, ""), slow = migrate(0.1, "");
	g_assert_cmpfloat(fast.turns[STAY].ttft, <, fast.turns[FETCH].ttft);
	g_assert_cmpfloat(fast.turns[FETCH].ttft, <, slow.turns[FETCH].ttft);
	g_assert_cmpfloat(slow.turns[FETCH].ttft, <, slow.turns[RECOMPUTE].ttft);
	/* the wire is in the fetch alone */
	g_assert_cmpfloat(fast.turns[STAY].ttft, ==, slow.turns[STAY].ttft);
	g_assert_cmpfloat(fast.turns[RECOMPUTE].ttft, ==, slow.turns[RECOMPUTE].ttft);
	g_assert_cmpuint(fast.turns[FETCH].read_bytes[0], ==, fast.turns[STAY].read_bytes[0]);
	g_assert_cmpuint(fast.turns[RECOMPUTE].read_bytes[0], ==, 0);
	g_assert_true(fast.turns[RECOMPUTE].recomputed);
	/* home_tier is where it stays */
	kvt_migration null = migrate(0.9, "[migrate]\nhome_tier = null\n");
	g_assert_cmpfloat(null.turns[STAY].ttft, <, fast.turns[STAY].ttft);
	g_assert_cmpfloat(null.turns[FETCH].ttft, ==, fast.turns[FETCH].ttft);
}

/* Over a wire of the break-even rate both take as long; over a slower one fetching takes longer. */
static void test_break_even(void)
{
	kvt_migration fast = migrate(0.9, "");
	double rate = kvt_migration_break_even(&fast), port = 50e9; /* 400 Gb/s */
	kvt_migration even = migrate(rate / port, ""), slower = migrate(0.5 * rate / port, "");
	g_assert_cmpfloat(even.turns[FETCH].ttft, >, 0.95 * even.turns[RECOMPUTE].ttft);
	g_assert_cmpfloat(even.turns[FETCH].ttft, <, 1.15 * even.turns[RECOMPUTE].ttft);
	g_assert_cmpfloat(slower.turns[FETCH].ttft, >, 1.8 * slower.turns[RECOMPUTE].ttft);
}

/* The first node goes away: what was to be fetched is recomputed. */
static void test_node_gone(void)
{
	kvt_migration gone = migrate(0.9, "[fault]\nread_error_rate = 100%\n");
	g_assert_cmpuint(gone.turns[FETCH].lost.tokens, ==, 64000);
	g_assert_cmpfloat(gone.turns[FETCH].ttft, >, 0.9 * gone.turns[RECOMPUTE].ttft);
	g_assert_cmpfloat(gone.turns[FETCH].ttft, <, 1.5 * gone.turns[RECOMPUTE].ttft);
}

/* What was fetched is in the other node's pool, whole, and the turn after that comes from there;
 * the first token waits for none of it. */
static void test_kept(void)
{
	static const char *const modes[] = { "", "[stream]\nmode = always\nwindow_tokens = 4096\n",
		"[fault]\ncorrupt_rate = 20%\n" };
	for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
		g_autofree char *more =
			g_strconcat(modes[i], "[migrate]\nkeep_tier = dram\n", NULL);
		kvt_migration left = migrate(0.9, modes[i]), kept = migrate(0.9, more);
		const kvt_turn *fetch = &kept.turns[FETCH];
		g_assert_false(left.settled);
		g_assert_cmpuint(left.turns[FETCH].kept.bytes, ==, 0);
		g_assert_true(kept.settled);
		/* 28 layers of 64,000 tokens of 2 KiB */
		g_assert_cmpuint(
			fetch->kept.bytes + fetch->kept.failed_bytes, ==, 28ull * 64000 * 2048);
		g_assert_cmpuint(fetch->kept.bytes, >, 0.7 * 28 * 64000 * 2048);
		if (i < 2)
			g_assert_cmpuint(fetch->kept.failed_bytes, ==, 0);
		g_assert_cmpfloat(fetch->kept.seconds, >, 0);
		g_assert_cmpfloat(fetch->ttft, ==, left.turns[FETCH].ttft);
		if (i < 2)
			g_assert_cmpfloat(kept.turns[SETTLED].ttft, ==, kept.turns[STAY].ttft);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/migration/order", test_order);
	g_test_add_func("/migration/break-even", test_break_even);
	g_test_add_func("/migration/node-gone", test_node_gone);
	g_test_add_func("/migration/kept", test_kept);
	return g_test_run();
}
