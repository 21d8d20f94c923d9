/* test_fleet_telemetry.c: samples of a run: that they change nothing, add up to what the run says
 * of itself, and are evenly spaced whatever happens. */
#include <math.h>

#include "sim/base/output.h"
#include "sim/fleet/fleet_report.h"
#include "sim/fleet/telemetry.h"
#include "tests/unit/fleet_fixture.h"

enum { BLOCK = 64, PROMPT = 4096, REQUESTS = 60 };

static const char *const SMALL = "[fleet]\nreplicas = 2\n[step]\nmodel = tables\n"
				 "[scheduler]\ntoken_budget = 2048\nchunk_tokens = 2048\n"
				 "[tier dram]\nkind = dram\ncapacity = 4GB\n"
				 "[tier nvme]\nkind = nvme\ndrives = 2\n";

/* Twelve contexts asked for in turn, in bursts with silence between them. */
static void add_bursts(kvt_made_trace *made)
{
	enum { BLOCKS = PROMPT / BLOCK };
	uint32_t ids[BLOCKS];
	for (unsigned i = 0; i < REQUESTS; i++) {
		kvt_time at = (i / 20) * 300 * KVT_SECOND + i * 10 * KVT_MILLISECOND;
		kvt_made_trace_add(made, at, PROMPT, 20 + i % 7);
		for (unsigned b = 0; b < BLOCKS; b++)
			ids[b] = i % 12 * BLOCKS + b;
		kvt_made_trace_set_blocks(made, ids, BLOCKS);
	}
}

static unsigned column_of(const kvt_telemetry *telemetry, const char *name)
{
	for (unsigned i = 0; i < kvt_telemetry_n_columns(telemetry); i++)
		if (g_str_equal(kvt_telemetry_column(telemetry, i), name))
			return i;
	g_error("there is no column %s", name);
}

static double value(const kvt_telemetry *telemetry, uint64_t row, const char *name)
{
	return kvt_telemetry_value(telemetry, row, column_of(telemetry, name));
}

/* What a rate a second comes to over the run. */
static double total(const kvt_telemetry *telemetry, const char *name)
{
	double sum = 0;
	for (uint64_t row = 0; row < kvt_telemetry_n_rows(telemetry); row++)
		sum += value(telemetry, row, name) * value(telemetry, row, "period_s");
	return sum;
}

static kvt_fleet *run(kvt_fleet_settings **settings, kvt_made_trace *made, const char *period)
{
	g_autofree char *set = g_strdup_printf("telemetry.period=%s", period);
	const char *const sets[] = { set, NULL };
	*settings = kvt_fleet_fixture_settings(SMALL, sets);
	return kvt_fleet_fixture_run(*settings, kvt_made_trace_get(made));
}

static char *report_of(const kvt_fleet *fleet)
{
	g_autoptr(kvt_fleet_figures) figures = kvt_fleet_figures_new(fleet);
	json_t *report = kvt_fleet_report_json(fleet, figures);
	json_object_del(report, "telemetry");
	json_object_del(report, "provenance"); /* says the period */
	char *text = kvt_json_dump(report);
	json_decref(report);
	return text;
}

static void test_changes_nothing(void)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	add_bursts(made);
	g_autoptr(kvt_fleet_settings) without = NULL;
	g_autoptr(kvt_fleet) plain = run(&without, made, "0s");
	g_assert_null(plain->telemetry);
	g_autofree char *expected = report_of(plain);
	static const char *const periods[] = { "1ms", "77ms", "1s", "1000s" };
	for (unsigned i = 0; i < G_N_ELEMENTS(periods); i++) {
		g_autoptr(kvt_fleet_settings) settings = NULL;
		g_autoptr(kvt_fleet) fleet = run(&settings, made, periods[i]);
		g_autofree char *report = report_of(fleet);
		g_assert_cmpstr(report, ==, expected);
		for (unsigned r = 0; r < REQUESTS; r++)
			g_assert_cmpint(fleet->outcomes[r].ended, ==, plain->outcomes[r].ended);
	}
}

static void test_adds_up(void)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	add_bursts(made);
	g_autoptr(kvt_fleet_settings) settings = NULL;
	g_autoptr(kvt_fleet) fleet = run(&settings, made, "100ms");
	const kvt_telemetry *t = fleet->telemetry;
	g_autoptr(kvt_fleet_figures) figures = kvt_fleet_figures_new(fleet);
	g_assert_cmpfloat_with_epsilon(
		total(t, "output_tokens_per_s"), (double)figures->replicas.output_tokens, 1e-6);
	g_assert_cmpfloat_with_epsilon(
		total(t, "prompt_tokens_per_s"), (double)figures->replicas.prompt_tokens, 1e-6);
	g_assert_cmpfloat_with_epsilon(total(t, "requests_per_s"), REQUESTS, 1e-6);
	unsigned n;
	const kvt_fleet_link *links = kvt_fleet_links_list(fleet->links, &n);
	unsigned used = 0;
	for (unsigned i = 0; i < n; i++) {
		g_autofree char *name = g_strdup_printf("%s_use", links[i].name);
		g_strdelimit(name, " ", '_');
		kvt_link_stats stats = kvt_network_link_stats(fleet->network, links[i].link);
		double units = total(t, name) * links[i].rate;
		g_assert_cmpfloat_with_epsilon(
			units, stats.busy_units, 1e-6 * stats.busy_units + 1);
		used += stats.bytes > 0;
	}
	g_assert_cmpuint(used, >, 2);
}

/* Rows are a period apart, through silence too, and shares are shares. */
static void test_rows(void)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	add_bursts(made);
	g_autoptr(kvt_fleet_settings) settings = NULL;
	g_autoptr(kvt_fleet) fleet = run(&settings, made, "500ms");
	const kvt_telemetry *t = fleet->telemetry;
	uint64_t rows = kvt_telemetry_n_rows(t);
	g_assert_cmpuint(rows, >, 1200);
	double ran = 0, idle = 0;
	for (uint64_t row = 0; row < rows; row++) {
		g_assert_cmpfloat_with_epsilon(
			value(t, row, "time_s"), 0.5 * (double)(row + 1), 1e-9);
		ran = MAX(ran, value(t, row, "running"));
		idle += value(t, row, "running") == 0;
		double share = value(t, row, "dram_share");
		g_assert_true(share >= 0 && share <= 1);
		double use = value(t, row, "node_0_nvme_drives_use");
		g_assert_true(use >= 0 && use <= 1 + 1e-9);
	}
	g_assert_cmpfloat(ran, >, 0);
	g_assert_cmpfloat(idle, >, 1000);
	/* what is cached stays */
	g_assert_cmpfloat(value(t, rows - 1, "hbm_blocks"), >, 0);
	g_assert_cmpfloat(value(t, rows - 1, "waiting"), ==, 0);
	/* silence has nothing to take a share of */
	g_assert_true(isnan(value(t, 300, "hbm_hit_rate")));
}

/* Silence that is longer than anybody wants rows of ends all the same. */
static void test_limit(void)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(BLOCK);
	kvt_made_trace_add(made, 0, 10, 2);
	kvt_made_trace_add(made, 80000 * KVT_SECOND, 10, 2);
	g_autoptr(kvt_fleet_settings) settings = NULL;
	g_autoptr(kvt_fleet) fleet = run(&settings, made, "1ms");
	g_assert_cmpuint(kvt_telemetry_n_rows(fleet->telemetry), ==, KVT_TELEMETRY_ROWS_MAX);
	g_assert_cmpuint(kvt_telemetry_dropped_rows(fleet->telemetry), >, 79000000);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fleet-telemetry/changes-nothing", test_changes_nothing);
	g_test_add_func("/fleet-telemetry/adds-up", test_adds_up);
	g_test_add_func("/fleet-telemetry/rows", test_rows);
	g_test_add_func("/fleet-telemetry/limit", test_limit);
	return g_test_run();
}
