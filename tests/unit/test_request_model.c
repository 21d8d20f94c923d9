/* test_request_model.c: generated request traces have the moments of their model, and of the trace
 * that it was fitted to. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "tests/unit/request_fixture.h"
#include "traces/request_model.h"
#include "traces/request_statistics.h"

static kvt_request_model model_of(const char *text)
{
	kvt_request_model model = { 0 };
	g_autoptr(GError) error = NULL;
	kvt_request_model_parse("model.ini", text, NULL, &model, &error);
	g_assert_no_error(error);
	return model;
}

static kvt_request_trace *generated(
	const kvt_request_model *model, uint64_t sessions, uint64_t seed)
{
	g_autoptr(GError) error = NULL;
	kvt_request_trace *trace = kvt_request_generate(model, sessions, 0, seed, &error);
	g_assert_no_error(error);
	return trace;
}

static void assert_near(const char *what, double value, double expected, double share)
{
	if (fabs(value - expected) > share * fabs(expected))
		g_error("%s: %g, expected %g within %g", what, value, expected, share);
}

/* Every moment of the model is found again by the fit. */
static void assert_fitted(const kvt_request_model *fitted, const kvt_request_model *model)
{
	const struct {
		const char *what;
		double value, expected, share;
	} moments[] = {
		{ "session_rate", fitted->session_rate, model->session_rate, 0.05 },
		{ "turns", fitted->turns, model->turns, 0.03 },
		{ "turns_cv", fitted->turns_cv, model->turns_cv, 0.05 },
		{ "interval", fitted->interval, model->interval, 0.03 },
		{ "interval_cv", fitted->interval_cv, model->interval_cv, 0.05 },
		{ "first", fitted->first, model->first, 0.05 },
		{ "first_cv", fitted->first_cv, model->first_cv, 0.1 },
		{ "growth", fitted->growth, model->growth, 0.03 },
		{ "growth_cv", fitted->growth_cv, model->growth_cv, 0.08 },
		{ "output", fitted->output, model->output, 0.03 },
		{ "output_cv", fitted->output_cv, model->output_cv, 0.05 },
		{ "restart", fitted->restart, model->restart, 0.1 },
		{ "kept", fitted->kept, model->kept, 0.05 },
		{ "fresh", fitted->fresh, model->fresh, 0.1 },
		{ "pace", fitted->pace, model->pace, 1e-6 },
		{ "shared", fitted->shared, model->shared, 0.05 },
		{ "prefixes", (double)fitted->prefixes, (double)model->prefixes, 0.05 },
		{ "prefix", (double)fitted->prefix, (double)model->prefix, 0.05 },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(moments); i++)
		assert_near(
			moments[i].what, moments[i].value, moments[i].expected, moments[i].share);
}

static const char chat[] = "[requests]\nsession_rate = 3/s\nturns = 4\nturns_cv = 0.9\n"
			   "interval = 40s\ninterval_cv = 1.3\npace = 1ms\nfirst = 4000\n"
			   "first_cv = 0.8\ngrowth = 700\ngrowth_cv = 0.7\noutput = 250\n"
			   "output_cv = 0.9\nrestart = 5%\nkept = 60%\nfresh = 900\n"
			   "fresh_cv = 0.5\nshared = 70%\nprefixes = 8\nprefix = 2048\n"
			   "block_tokens = 16\n";

static void test_moments(void)
{
	kvt_request_model model = model_of(chat);
	g_autoptr(kvt_request_trace) trace = generated(&model, 6000, 1);
	kvt_request_model fitted = kvt_request_model_fit(trace);
	assert_fitted(&fitted, &model);
	g_assert_cmpint(fitted.arrivals, ==, KVT_ARRIVALS_POISSON);
	g_assert_cmpuint(trace->n_sessions, ==, 6000);
}

/* Intervals between sessions: Poisson, bursty and regular gamma, and two states. */
static void test_arrivals(void)
{
	static const struct {
		const char *text;
		double cv, share;
	} kinds[] = {
		{ "[requests]\nsession_rate = 5/s\n", 1, 0.03 },
		{ "[requests]\nsession_rate = 5/s\narrivals = gamma\narrival_cv = 3\n", 3, 0.08 },
		{ "[requests]\nsession_rate = 5/s\narrivals = gamma\narrival_cv = 0.2\n", 0.2,
			0.03 },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
		kvt_request_model model = model_of(kinds[i].text);
		g_autoptr(kvt_request_trace) trace = generated(&model, 30000, 2);
		kvt_request_statistics s = kvt_request_statistics_of(trace);
		assert_near("mean", s.interval.mean, 0.2, 0.05);
		assert_near("cv", s.interval.cv, kinds[i].cv, kinds[i].share);
	}
}

/* Two states: as many in all, and counts in windows much longer than bursts vary as theory says. */
static void test_bursts(void)
{
	kvt_request_model model = model_of("[requests]\narrivals = bursts\nsession_rate = 5/s\n"
					   "burst_factor = 9\nburst_time = 2s\ncalm_time = 6s\n");
	g_autoptr(kvt_request_trace) trace = generated(&model, 60000, 3);
	kvt_request_statistics s = kvt_request_statistics_of(trace);
	assert_near("rate", 1 / s.interval.mean, 5, 0.05);
	enum { WINDOW = 60, WINDOWS = 190 };
	double counts[WINDOWS] = { 0 };
	for (uint64_t i = 0; i < trace->n_requests; i++) {
		double window = kvt_time_to_seconds(trace->requests[i].arrival) / WINDOW;
		if (window < WINDOWS)
			counts[(unsigned)window]++;
	}
	/* Rates of 15/s and 5/3 /s, a quarter of the time in bursts; a state is forgotten at
	 * 1/2 + 1/6 a second. Variance / mean of counts in long windows (Fischer and
	 * Meier-Hellstern, 1993): 1 + 2 (15 - 5/3)^2 x 3/16 / (2/3) / 5 = 21. */
	kvt_request_moments of = kvt_request_moments_of(counts, WINDOWS);
	assert_near("dispersion", of.cv * of.cv * of.mean, 21, 0.35);
}

/* What is fitted to a recorded trace is found in one that is generated from it. */
static void test_like(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_request_trace) trace =
		kvt_request_trace_open("traces/samples/requests/azure-2023-code-1000.csv", &error);
	g_assert_no_error(error);
	kvt_request_model model = kvt_request_model_fit(trace);
	kvt_request_statistics recorded = kvt_request_statistics_of(trace);
	assert_near("rate", model.session_rate, 1 / recorded.interval.mean, 1e-9);
	/* Prompts may be longer than the longest recorded here, so that the moments are free. */
	model.context = 1000000;
	g_autoptr(kvt_request_trace) other = generated(&model, 100000, 4);
	kvt_request_statistics s = kvt_request_statistics_of(other);
	assert_near("input", s.input.mean, recorded.input.mean, 0.02);
	assert_near("input cv", s.input.cv, recorded.input.cv, 0.03);
	assert_near("output", s.output.mean, recorded.output.mean, 0.03);
	assert_near("output cv", s.output.cv, recorded.output.cv, 0.1);
	assert_near("interval", s.interval.mean, recorded.interval.mean, 0.1);
	assert_near("interval cv", s.interval.cv, recorded.interval.cv, 0.1);
}

/* An agent's sessions have no rate of their own as all begin at once; sub-agents are left out. */
static void test_agentic(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_request_trace) trace =
		kvt_request_trace_open("traces/samples/requests/agentic", &error);
	g_assert_no_error(error);
	kvt_request_model model = kvt_request_model_fit(trace);
	kvt_request_statistics s = kvt_request_statistics_of(trace);
	assert_near("rate", model.session_rate, 2 / s.duration, 1e-9);
	g_assert_cmpfloat(model.turns, ==, 14.5);
	g_assert_cmpint(model.block_tokens, ==, 64);
	g_assert_cmpfloat(model.pace, >, 0.01);
}

/* Sessions wait for themselves, prompts only grow, ids begin as those of the prompt before. */
static void test_sessions(void)
{
	kvt_request_model model = model_of("[requests]\nturns = 5\nturns_cv = 0.5\npace = 20ms\n"
					   "shared = 50%\nprefixes = 2\nprefix = 640\n");
	g_autoptr(kvt_request_trace) trace = generated(&model, 200, 5);
	for (uint32_t i = 0; i < trace->n_requests; i++) {
		const kvt_request *r = &trace->requests[i];
		g_assert_cmpuint(r->n_blocks, ==, r->input_tokens / 64);
		if (r->after == KVT_REQUEST_NONE)
			continue;
		const kvt_request *before = &trace->requests[r->after];
		g_assert_cmpuint(before->session, ==, r->session);
		g_assert_cmpuint(r->input_tokens, >, before->input_tokens);
		g_assert_cmpint(
			r->think, ==, MAX(r->arrival - before->arrival - before->latency, 0));
		g_assert_cmpmem(trace->blocks + before->first_block, before->n_blocks * 4ul,
			trace->blocks + r->first_block, before->n_blocks * 4ul);
	}
}

/* The same seed gives the same trace, and more sessions begin with the same ones. */
static void test_same(void)
{
	kvt_request_model model = model_of(chat);
	g_autoptr(kvt_request_trace) a = generated(&model, 50, 7);
	g_autoptr(kvt_request_trace) b = generated(&model, 50, 7);
	g_autoptr(kvt_request_trace) other = generated(&model, 50, 8);
	request_traces_equal(a, b);
	g_assert_cmpuint(other->requests[0].input_tokens, !=, a->requests[0].input_tokens);
	g_autoptr(GError) error = NULL;
	kvt_time end = a->requests[a->n_requests - 1].arrival;
	g_autoptr(kvt_request_trace) longer = kvt_request_generate(&model, 0, end, 7, &error);
	g_assert_no_error(error);
	g_assert_cmpuint(longer->n_sessions, >, 50);
	g_assert_cmpint(longer->requests[1].arrival, ==, a->requests[1].arrival);
	g_assert_cmpuint(longer->requests[1].input_tokens, ==, a->requests[1].input_tokens);
}

static void test_text(void)
{
	kvt_request_model model = model_of(chat);
	g_autofree char *text = kvt_request_model_text(&model, "a \n trace");
	kvt_request_model again = model_of(text);
	g_assert_cmpmem(&model, sizeof(model), &again, sizeof(again));
	g_assert_true(g_str_has_prefix(text, "# fitted to \"a \\x0a trace\"\n[requests]\n"));
	static const struct {
		const char *text, *message;
	} bad[] = {
		{ "[requests]\nturn = 3\n", "m.ini:2: [requests] turn: unknown key, did you mean "
					    "\"turns\"?" },
		{ "[request]\n", "m.ini:1: [request]: unknown section, did you mean [requests]?" },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;
		g_assert_false(kvt_request_model_parse("m.ini", bad[i].text, NULL, &again, &error));
		g_assert_cmpstr(error->message, ==, bad[i].message);
	}
	g_autoptr(GError) error = NULL;
	model.session_rate = 1e-9;
	g_assert_null(kvt_request_generate(&model, 100, 0, 1, &error));
	g_assert_nonnull(strstr(error->message, "is longer than 100 days"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/request_model/moments", test_moments);
	g_test_add_func("/request_model/arrivals", test_arrivals);
	g_test_add_func("/request_model/bursts", test_bursts);
	g_test_add_func("/request_model/like", test_like);
	g_test_add_func("/request_model/agentic", test_agentic);
	g_test_add_func("/request_model/sessions", test_sessions);
	g_test_add_func("/request_model/same", test_same);
	g_test_add_func("/request_model/text", test_text);
	return g_test_run();
}
