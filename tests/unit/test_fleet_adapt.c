/* test_fleet_adapt.c: a fleet that follows what its links are busy with: a burst of prompts whose
 * KV lies on one drive, then calm, against loading all of it and computing all of it. */
#include "sim/fleet/adapt.h"
#include "tests/unit/fleet_fixture.h"

enum { BLOCK = 64, PROMPT = 16384, CONTEXTS = 24, BURST = 24, CALM = 12 };

static const char *const ONE_DRIVE = "[step]\nmodel = tables\n"
				     "[scheduler]\ntoken_budget = 8192\nchunk_tokens = 8192\n"
				     "[tier dram]\nkind = dram\ncapacity = 1GB\n"
				     "[tier nvme]\nkind = nvme\ndrives = 1\n";

static void add(kvt_made_trace *made, kvt_time at, unsigned context)
{
	enum { BLOCKS = PROMPT / BLOCK };
	uint32_t ids[BLOCKS];
	for (unsigned b = 0; b < BLOCKS; b++)
		ids[b] = context * BLOCKS + b;
	kvt_made_trace_add(made, at, PROMPT + 200, 2);
	kvt_made_trace_set_blocks(made, ids, BLOCKS);
}

/* Contexts are made and pushed out of HBM by others; then all come back at once; then one by one.
 */
static void add_traffic(kvt_made_trace *made)
{
	enum { OTHERS = 70 };
	kvt_time at = 0;
	for (unsigned i = 0; i < CONTEXTS + OTHERS; i++, at += 10 * KVT_SECOND)
		add(made, at, i);
	for (unsigned i = 0; i < BURST; i++)
		add(made, at, i % CONTEXTS);
	for (unsigned i = 0; i < CALM; i++)
		add(made, at += 60 * KVT_SECOND, CONTEXTS + i);
}

static double mean_ttft(const kvt_fleet *fleet, uint32_t last)
{
	double sum = 0;
	for (uint32_t i = fleet->n_requests - last; i < fleet->n_requests; i++)
		sum += kvt_time_to_seconds(kvt_request_outcome_ttft(&fleet->outcomes[i]));
	return sum / last;
}

static kvt_fleet *run(kvt_fleet_settings **settings, kvt_made_trace *made, const char *set)
{
	const char *const sets[] = { set, NULL };
	*settings = kvt_fleet_fixture_settings(ONE_DRIVE, sets);
	return kvt_fleet_fixture_run(*settings, kvt_made_trace_get(made));
}

static void test_burst(void)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	add_traffic(made);
	static const char *const ways[] = { "cache.reload=load", "cache.reload=recompute",
		"adapt.on=yes" };
	double mean[3];
	for (unsigned i = 0; i < G_N_ELEMENTS(ways); i++) {
		g_autoptr(kvt_fleet_settings) settings = NULL;
		g_autoptr(kvt_fleet) fleet = run(&settings, made, ways[i]);
		mean[i] = mean_ttft(fleet, BURST + CALM);
		g_test_message(
			"%s: mean %.3f s, calm %.3f s", ways[i], mean[i], mean_ttft(fleet, CALM));
		g_assert_true((fleet->adapt != NULL) == (i == 2));
		if (!fleet->adapt)
			continue;
		kvt_adapt_stats stats = kvt_adapt_get_stats(fleet->adapt);
		g_assert_cmpuint(stats.looks, >, 10);
		g_assert_cmpuint(stats.estimates, >, 0);
	}
	g_assert_cmpfloat(mean[2], <, mean[0]);
	g_assert_cmpfloat(mean[2], <, mean[1]);
}

/* The same twice, and the bounds hold it: with nothing to choose it is as if it were off. */
static void test_deterministic(void)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	add_traffic(made);
	g_autoptr(kvt_fleet_settings) once = NULL, twice = NULL;
	g_autoptr(kvt_fleet) a = run(&once, made, "adapt.on=yes");
	g_autoptr(kvt_fleet) b = run(&twice, made, "adapt.on=yes");
	for (uint32_t i = 0; i < a->n_requests; i++) {
		g_assert_cmpint(a->outcomes[i].first_token, ==, b->outcomes[i].first_token);
		g_assert_cmpint(a->outcomes[i].ended, ==, b->outcomes[i].ended);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fleet-adapt/burst", test_burst);
	g_test_add_func("/fleet-adapt/deterministic", test_deterministic);
	return g_test_run();
}
