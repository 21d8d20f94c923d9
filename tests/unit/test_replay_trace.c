/* test_replay_trace.c: recorded traces as what a replay reads, on the samples. */
#include <glib.h>
#include <string.h>

#include "sim/base/datadir.h"
#include "sim/engine/replay_trace.h"
#include "tests/unit/replay_fixture.h"
#include "traces/attention_mass.h"

static kvt_attention_trace *open_sample(const char *name)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *relative = g_strconcat("traces/samples/", name, NULL);
	g_autofree char *path = kvt_datadir_find(relative, &error);
	g_assert_no_error(error);
	kvt_attention_trace *trace = kvt_attention_trace_open(path, &error);
	g_assert_no_error(error);
	return trace;
}

static kvt_replay_source *open_source(kvt_attention_trace *trace, const kvt_replay_trace_spec *spec)
{
	g_autoptr(GError) error = NULL;
	kvt_replay_source *source = kvt_replay_trace_new(trace, spec, &error);
	g_assert_no_error(error);
	return source;
}

static void replay(
	kvt_replay_source *source, const kvt_replay_settings *settings, kvt_replay_result *result)
{
	g_autoptr(GError) error = NULL;
	kvt_fake_world world = kvt_fake_world_default;
	world.tier = "null";
	kvt_fake_replay_source(source, settings, &world, result, &error);
	g_assert_no_error(error);
}

/* The reader's own oracle and the replay's are two programs. */
static void test_oracle(void)
{
	static const double shares[] = { 0.01, 0.02, 0.05, 0.1, 0.3 };
	static const char *const samples[] = { "code-32k-layer7.h5", "code-32k-window.h5" };
	for (size_t s = 0; s < G_N_ELEMENTS(samples); s++) {
		g_autoptr(kvt_attention_trace) trace = open_sample(samples[s]);
		g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, 7, 0, NULL);
		double kept[G_N_ELEMENTS(shares)];
		g_assert_true(kvt_attention_trace_oracle_mass(layer, KVT_ATTENTION_MASS_ROWS, 1,
			shares, G_N_ELEMENTS(shares), kept, NULL));
		for (size_t i = 0; i < G_N_ELEMENTS(shares); i++) {
			kvt_replay_trace_spec spec = { .layer = -1,
				.masses = KVT_REPLAY_MASSES_RECORDED };
			kvt_replay_source *source = open_source(trace, &spec);
			kvt_replay_settings settings = kvt_fake_settings();
			settings.prefetcher = kvt_prefetcher_find("oracle", NULL);
			settings.budget = shares[i];
			g_auto(kvt_replay_result) result = { 0 };
			replay(source, &settings, &result);
			g_assert_cmpfloat_with_epsilon(result.mass_oracle, kept[i], 1e-6);
			g_assert_cmpfloat(result.mass_kept, ==, result.mass_oracle);
			kvt_replay_trace_free(source);
		}
	}
}

/* Masses recomputed from queries and keys: all of them, and only where rows are too short. */
static void test_masses(void)
{
	g_autoptr(kvt_attention_trace) trace = open_sample("code-32k-window.h5");
	double kept[3];
	for (int masses = 0; masses < 3; masses++) {
		kvt_replay_trace_spec spec = { .layer = 7, .masses = masses };
		kvt_replay_source *source = open_source(trace, &spec);
		kvt_replay_settings settings = kvt_fake_settings();
		settings.budget = 0.7;
		settings.prefetcher = kvt_prefetcher_find("oracle", NULL);
		g_auto(kvt_replay_result) result = { 0 };
		replay(source, &settings, &result);
		kvt_replay_trace_stats stats = kvt_replay_trace_get_stats(source);
		g_assert_cmpuint(stats.rows, ==, 88 * 2);
		kept[masses] = result.mass_kept;
		if (masses == KVT_REPLAY_MASSES_RECORDED) {
			g_assert_cmpuint(stats.recomputed, ==, 0);
			g_assert_cmpuint(stats.too_short, >, 0);
			g_assert_cmpfloat(result.mass_listed, <, 0.9999);
		} else if (masses == KVT_REPLAY_MASSES_RECOMPUTED) {
			g_assert_cmpuint(stats.recomputed, ==, stats.rows);
			g_assert_cmpfloat_with_epsilon(result.mass_listed, 1, 1e-5);
		} else {
			g_assert_cmpuint(stats.recomputed, >, 0);
			g_assert_cmpuint(stats.too_short, ==, 0);
		}
		kvt_replay_trace_free(source);
	}
	g_assert_cmpfloat(kept[KVT_REPLAY_MASSES_RECORDED], <, kept[KVT_REPLAY_MASSES_AUTO]);
	g_assert_cmpfloat_with_epsilon(
		kept[KVT_REPLAY_MASSES_AUTO], kept[KVT_REPLAY_MASSES_RECOMPUTED], 1e-4);
}

/* A range of steps is those steps of the whole. */
static void test_steps(void)
{
	g_autoptr(kvt_attention_trace) trace = open_sample("code-32k-layer7.h5");
	uint64_t n_steps;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &n_steps);
	kvt_replay_trace_spec all = { .layer = 7 };
	kvt_replay_trace_spec some = { .layer = 7, .first_step = 100, .end_step = 117 };
	kvt_replay_source *whole = open_source(trace, &all);
	kvt_replay_source *part = open_source(trace, &some);
	g_assert_cmpuint(whole->n_steps, ==, n_steps);
	g_assert_cmpuint(part->n_steps, ==, 17);
	g_assert_cmpuint(part->n_pages, ==, steps[116].position / 16 + 1);
	for (uint32_t step = 0; step < part->n_steps; step++) {
		kvt_replay_present a = whole->present(whole, 100 + step, 0);
		kvt_replay_present b = part->present(part, step, 0);
		g_assert_cmpuint(a.first, ==, 0);
		g_assert_cmpuint(a.end, ==, steps[100 + step].position / 16 + 1);
		g_assert_cmpint(a.closed, ==, steps[100 + step].position % 16 == 15);
		g_assert_true(a.first == b.first && a.end == b.end && a.closed == b.closed);
		kvt_replay_row x, y;
		g_assert_true(whole->row(whole, 100 + step, 0, 1, 41, &x, NULL));
		g_autofree uint32_t *pages = g_memdup2(x.pages, x.n * sizeof(*x.pages));
		uint32_t n = x.n;
		g_assert_true(part->row(part, step, 0, 1, 41, &y, NULL));
		g_assert_cmpmem(pages, n * sizeof(*pages), y.pages, y.n * sizeof(*y.pages));
	}
	kvt_replay_trace_free(whole);
	kvt_replay_trace_free(part);
}

static void refuse(const char *sample, const kvt_replay_trace_spec *spec, const char *message)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_trace) trace = open_sample(sample);
	g_assert_null(kvt_replay_trace_new(trace, spec, &error));
	if (!strstr(error->message, message))
		g_error("\"%s\" lacks \"%s\"", error->message, message);
}

static void test_refusals(void)
{
	kvt_replay_trace_spec spec = { .layer = 3 };
	refuse("code-32k-layer7.h5", &spec, "layer 3 is not recorded, expected one of 7");
	spec = (kvt_replay_trace_spec){ .layer = -1, .first_step = 544 };
	refuse("code-32k-layer7.h5", &spec, "within 0:544");
	spec = (kvt_replay_trace_spec){ .layer = -1, .end_step = 545 };
	refuse("code-32k-layer7.h5", &spec, "within 0:544");
	spec = (kvt_replay_trace_spec){ .layer = -1, .first_step = 5, .end_step = 5 };
	refuse("code-32k-layer7.h5", &spec, "within 0:544");
	spec = (kvt_replay_trace_spec){ .layer = -1, .masses = KVT_REPLAY_MASSES_RECOMPUTED };
	refuse("code-32k-layer7.h5", &spec, "no queries or keys");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/replay-trace/oracle", test_oracle);
	g_test_add_func("/replay-trace/masses", test_masses);
	g_test_add_func("/replay-trace/steps", test_steps);
	g_test_add_func("/replay-trace/refusals", test_refusals);
	return g_test_run();
}
