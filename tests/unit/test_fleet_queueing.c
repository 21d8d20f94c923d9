/* test_fleet_queueing.c: degenerate fleets against queueing theory: M/D/1, M/M/1, M/G/1, M/M/k, and
 * the rate at which a saturated one serves. */
#include <math.h>

#include "sim/base/rng.h"
#include "tests/unit/fleet_fixture.h"

/* One request at a time, each one step: a server whose service times are prompts' lengths. */
static const char *const ONE_SERVER = "[step]\n"
				      "model = linear\n"
				      "per_token = 1ms\n"
				      "[scheduler]\n"
				      "max_sequences = 1\n"
				      "token_budget = 131072\n"
				      "chunk_tokens = 131072\n";

typedef enum service_kind { FIXED, EXPONENTIAL, TWO_KINDS } service_kind;

static uint32_t draw(service_kind kind, double mean, kvt_rng *rng)
{
	switch (kind) {
	case FIXED:
		return (uint32_t)mean;
	case EXPONENTIAL:
		return 1 + (uint32_t)kvt_rng_exponential(rng, mean);
	default:
		return kvt_rng_uniform(rng) < 0.9 ? (uint32_t)(mean / 2) : (uint32_t)(mean * 5.5);
	}
}

/* Mean time that requests wait, against Pollaczek and Khinchine's formula for the services that
 * were drawn. */
static void check_one_server(service_kind kind, double load, uint64_t seed, double tolerance)
{
	enum { REQUESTS = 60000 };
	const double mean = 200; /* tokens, ms */
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(16);
	kvt_rng arrivals = kvt_rng_init(seed, 1), services = kvt_rng_init(seed, 2);
	double at = 0, first = 0, second = 0;
	for (unsigned i = 0; i < REQUESTS; i++) {
		at += kvt_rng_exponential(&arrivals, mean / load * 1e-3);
		uint32_t tokens = draw(kind, mean, &services);
		kvt_made_trace_add(made, kvt_time_from_seconds(at), tokens, 1);
		first += tokens * 1e-3;
		second += tokens * 1e-3 * tokens * 1e-3;
	}
	g_autoptr(kvt_fleet_settings) settings = kvt_fleet_fixture_settings(ONE_SERVER, NULL);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, kvt_made_trace_get(made));
	g_autoptr(kvt_fleet_figures) figures = kvt_fleet_figures_new(fleet);
	double rate = REQUESTS / at;
	double expected = rate * (second / REQUESTS) / (2 * (1 - rate * first / REQUESTS));
	g_test_message(
		"load %g: waited %g s, expected %g s", load, figures->all.queueing.mean, expected);
	g_assert_cmpfloat(fabs(figures->all.queueing.mean / expected - 1), <, tolerance);
	g_assert_cmpfloat(fabs(figures->busy_share / (rate * first / REQUESTS) - 1), <, 0.01);
	/* Little's law, of those in the system */
	g_assert_cmpfloat(
		fabs(kvt_fleet_mean_requests(fleet) / kvt_fleet_rate_times_time(fleet) - 1), <,
		1e-12);
}

static void test_md1(void)
{
	check_one_server(FIXED, 0.5, 1, 0.05);
	check_one_server(FIXED, 0.8, 2, 0.05);
}

static void test_mm1(void)
{
	check_one_server(EXPONENTIAL, 0.5, 3, 0.05);
	check_one_server(EXPONENTIAL, 0.8, 4, 0.08);
}

static void test_mg1(void)
{
	check_one_server(TWO_KINDS, 0.6, 5, 0.08);
}

/* Probability that a request has to wait in M/M/k. */
static double erlang_c(unsigned k, double offered)
{
	double term = 1, sum = 0;
	for (unsigned i = 0; i < k; i++) {
		sum += term;
		term *= offered / (i + 1);
	}
	double last = term / (1 - offered / k);
	return last / (sum + last);
}

/* k sequences in steps whose time does not depend on how many they are: k servers. */
static void test_mmk(void)
{
	enum { REQUESTS = 150000, K = 4 };
	const double mean = 100, load = 0.8; /* tokens, of 1 ms */
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(16);
	kvt_rng arrivals = kvt_rng_init(6, 1), services = kvt_rng_init(6, 2);
	double at = 0, served = 0;
	for (unsigned i = 0; i < REQUESTS; i++) {
		at += kvt_rng_exponential(&arrivals, mean * 1e-3 / (load * K));
		uint32_t tokens = draw(EXPONENTIAL, mean, &services);
		served += tokens * 1e-3;
		kvt_made_trace_add(made, kvt_time_from_seconds(at), 1, tokens);
	}
	g_autoptr(kvt_fleet_settings) settings =
		kvt_fleet_fixture_settings("[step]\nmodel = linear\nbase = 1ms\n"
					   "[scheduler]\nmax_sequences = 4\nahead = 4\n",
			NULL);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, kvt_made_trace_get(made));
	g_autoptr(kvt_fleet_figures) figures = kvt_fleet_figures_new(fleet);
	double mean_service = served / REQUESTS, rate = REQUESTS / at;
	double waits = erlang_c(K, rate * mean_service) * mean_service / (K - rate * mean_service);
	/* a request joins at the end of a step */
	double expected = waits + 0.5e-3;
	g_test_message("waited %g s, expected %g s", figures->all.queueing.mean, expected);
	g_assert_cmpfloat(fabs(figures->all.queueing.mean / expected - 1), <, 0.08);
}

/* All there at once: how many a second a full batch serves. */
static void test_saturation(void)
{
	enum { REQUESTS = 4000, INPUT = 100, OUTPUT = 200, BATCH = 32 };
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(16);
	for (unsigned i = 0; i < REQUESTS; i++)
		kvt_made_trace_add(made, 0, INPUT, OUTPUT);
	g_autoptr(kvt_fleet_settings) settings = kvt_fleet_fixture_settings(
		"[step]\nmodel = linear\nbase = 10ms\nper_sequence = 100us\nper_token = 20us\n"
		"per_kv_token = 100ns\n"
		"[scheduler]\nmax_sequences = 32\n",
		NULL);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, kvt_made_trace_get(made));
	/* of a request: its share of its steps' base, and what it adds to them */
	double seconds = OUTPUT * 10e-3 / BATCH + (OUTPUT - 1) * 100e-6 + INPUT * 20e-6 +
			 (OUTPUT - 1) * (INPUT + OUTPUT / 2.0) * 100e-9;
	double rate = REQUESTS / kvt_time_to_seconds(fleet->end);
	g_test_message("%g requests/s, expected %g", rate, 1 / seconds);
	g_assert_cmpfloat(fabs(rate * seconds - 1), <, 0.02);
}

/* The same with measured kernels, where a step's time is the tables'. */
static void test_saturation_of_tables(void)
{
	enum { REQUESTS = 512, INPUT = 1000, OUTPUT = 500, BATCH = 64 };
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(16);
	for (unsigned i = 0; i < REQUESTS; i++)
		kvt_made_trace_add(made, 0, INPUT, OUTPUT);
	g_autoptr(kvt_fleet_settings) settings = kvt_fleet_fixture_settings(
		"[step]\nmodel = tables\n"
		"[scheduler]\nmax_sequences = 64\nahead = 64\ntoken_budget = 65536\n"
		"chunk_tokens = 65536\n",
		NULL);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, kvt_made_trace_get(made));
	/* batches of 64 that begin and end together */
	kvt_time batch = 0;
	kvt_step_chunk chunks[BATCH];
	for (unsigned i = 0; i < BATCH; i++)
		chunks[i] = (kvt_step_chunk){ INPUT, 0 };
	kvt_step step = { .chunks = chunks, .n_chunks = BATCH, .rows = BATCH };
	batch += kvt_step_cost_time(fleet->cost, &step);
	for (unsigned i = 1; i < OUTPUT; i++) {
		step = (kvt_step){ .decodes = BATCH,
			.context = BATCH * (INPUT + i),
			.local_context = BATCH * (INPUT + i),
			.rows = BATCH };
		batch += kvt_step_cost_time(fleet->cost, &step);
	}
	double ratio = (double)fleet->end / ((double)batch * (double)REQUESTS / BATCH);
	g_test_message("took %g of the expected time", ratio);
	/* 65,536 tokens hold one batch's prompts to 64 tokens */
	g_assert_cmpfloat(fabs(ratio - 1), <, 0.02);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fleet/queueing/md1", test_md1);
	g_test_add_func("/fleet/queueing/mm1", test_mm1);
	g_test_add_func("/fleet/queueing/mg1", test_mg1);
	g_test_add_func("/fleet/queueing/mmk", test_mmk);
	g_test_add_func("/fleet/queueing/saturation", test_saturation);
	g_test_add_func("/fleet/queueing/saturation-of-tables", test_saturation_of_tables);
	return g_test_run();
}
