/*
 * test_migration.c: a session that goes on at another node: fetching costs what the wire between
 * the nodes takes, crosses recomputing where the break-even rate says, and survives the other node.
 */
#include <glib.h>

#include "sim/engine/migration.h"

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
	g_assert_cmpfloat(fast.stay.ttft, <, fast.fetch.ttft);
	g_assert_cmpfloat(fast.fetch.ttft, <, slow.fetch.ttft);
	g_assert_cmpfloat(slow.fetch.ttft, <, slow.recompute.ttft);
	/* the wire is in the fetch alone */
	g_assert_cmpfloat(fast.stay.ttft, ==, slow.stay.ttft);
	g_assert_cmpfloat(fast.recompute.ttft, ==, slow.recompute.ttft);
	g_assert_cmpuint(fast.fetch.read_bytes[0], ==, fast.stay.read_bytes[0]);
	g_assert_cmpuint(fast.recompute.read_bytes[0], ==, 0);
	g_assert_true(fast.recompute.recomputed);
	/* home_tier is where it stays */
	kvt_migration null = migrate(0.9, "[migrate]\nhome_tier = null\n");
	g_assert_cmpfloat(null.stay.ttft, <, fast.stay.ttft);
	g_assert_cmpfloat(null.fetch.ttft, ==, fast.fetch.ttft);
}

/* Over a wire of the break-even rate both take as long; over a slower one fetching takes longer. */
static void test_break_even(void)
{
	kvt_migration fast = migrate(0.9, "");
	double rate = kvt_migration_break_even(&fast), port = 50e9; /* 400 Gb/s */
	kvt_migration even = migrate(rate / port, ""), slower = migrate(0.5 * rate / port, "");
	g_assert_cmpfloat(even.fetch.ttft, >, 0.95 * even.recompute.ttft);
	g_assert_cmpfloat(even.fetch.ttft, <, 1.15 * even.recompute.ttft);
	g_assert_cmpfloat(slower.fetch.ttft, >, 1.8 * slower.recompute.ttft);
}

/* The first node goes away: what was to be fetched is recomputed. */
static void test_node_gone(void)
{
	kvt_migration gone = migrate(0.9, "[fault]\nread_error_rate = 100%\n");
	g_assert_cmpuint(gone.fetch.lost.tokens, ==, 64000);
	g_assert_cmpfloat(gone.fetch.ttft, >, 0.9 * gone.recompute.ttft);
	g_assert_cmpfloat(gone.fetch.ttft, <, 1.5 * gone.recompute.ttft);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/migration/order", test_order);
	g_test_add_func("/migration/break-even", test_break_even);
	g_test_add_func("/migration/node-gone", test_node_gone);
	return g_test_run();
}
