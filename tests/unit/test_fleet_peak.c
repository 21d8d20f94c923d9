/* test_fleet_peak.c: concurrency, prefill, decode and context switch of a 34B model on one A100,
 * out of a simulated fleet, against the closed forms of peak_analysis.h. */
#include <math.h>

#include "sim/base/datadir.h"
#include "sim/engine/peak_analysis.h"
#include "tests/unit/fleet_fixture.h"

enum { LONG = 45056, SHORT = 4096, ANSWER = 250 };

/* The exact closed forms at a length of context. */
static kvt_peak exact(unsigned tokens)
{
	GError *error = NULL;
	g_autofree char *path = kvt_datadir_find("experiments/yi-34b-a100.ini", &error);
	g_assert_no_error(error);
	g_autofree char *set = g_strdup_printf("context.tokens=%u", tokens);
	const char *sets[] = { set, NULL };
	g_autoptr(kvt_experiment) experiment = kvt_experiment_load(path, sets, &error);
	g_assert_no_error(error);
	return kvt_peak_analyse(experiment, true);
}

static kvt_fleet_settings *settings_with(const char *const *sets)
{
	GError *error = NULL;
	g_autofree char *path = kvt_datadir_find("experiments/fleet-34b-a100.ini", &error);
	g_assert_no_error(error);
	kvt_fleet_settings *settings = kvt_fleet_settings_load(path, sets, &error);
	g_assert_no_error(error);
	return settings;
}

static void is_near(const char *what, double simulated, double expected)
{
	g_test_message("%s: %g simulated, %g exact, %+.1f%%", what, simulated, expected,
		100 * (simulated / expected - 1));
	g_assert_cmpfloat(fabs(simulated / expected - 1), <, 0.05);
}

static double ttft(const kvt_fleet *fleet, uint32_t request)
{
	return kvt_time_to_seconds(kvt_request_outcome_ttft(&fleet->outcomes[request]));
}

static void test_long_contexts(void)
{
	GError *error = NULL;
	kvt_peak peak = exact(LONG);
	g_autoptr(kvt_fleet_settings) settings = settings_with(NULL);
	g_autofree char *path = kvt_fleet_settings_trace_path(settings);
	g_autoptr(kvt_request_trace) trace = kvt_request_trace_open(path, &error);
	g_assert_no_error(error);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, trace);
	is_near("contexts that fit", (double)fleet->hbm_bytes / peak.kv_bytes, peak.users);
	is_near("prefill", ttft(fleet, 0), peak.prefill);
	kvt_time tpot = kvt_request_outcome_tpot(&fleet->outcomes[0]);
	is_near("decode of 250 tokens", ANSWER * kvt_time_to_seconds(tpot), peak.decode);
	is_near("context switch", ttft(fleet, 2), peak.context_switch);
	g_assert_cmpuint(fleet->outcomes[2].hit_blocks[1], ==, LONG / 512);
	/* what came from DRAM is still there: when the users change again, it is not copied out */
	is_near("the next one", ttft(fleet, 3), peak.context_switch / 2);
}

/* As many as fit are served side by side, and decode that much slower. */
static void test_concurrency(void)
{
	kvt_peak peak = exact(SHORT);
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(512);
	for (unsigned i = 0; i < 40; i++)
		kvt_made_trace_add(made, 0, SHORT - ANSWER, ANSWER);
	const char *sets[] = { "scheduler.ahead=40", NULL };
	g_autoptr(kvt_fleet_settings) settings = settings_with(sets);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, kvt_made_trace_get(made));
	const kvt_replica_stats *stats = kvt_replica_get_stats(fleet->replicas[0]);
	is_near("users of 4K", stats->running_max, peak.users);
	is_near("contexts of 4K that fit", (double)fleet->hbm_bytes / peak.kv_bytes, peak.users);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fleet/peak/long-contexts", test_long_contexts);
	g_test_add_func("/fleet/peak/concurrency", test_concurrency);
	return g_test_run();
}
