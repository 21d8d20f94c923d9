/* test_attention_heat.c: grids of recorded mass against the rows they are made of. */
#include <glib.h>

#include "sim/base/error.h"
#include "tests/unit/attention_fixture.h"
#include "traces/attention_heat.h"

static char *folder;

/* The fixture's mass of a step, of the pages that lie in a bin of the heat, mean over `heads`. */
static double expected(const attention_fixture *fixture, const kvt_attention_heat *heat,
	uint64_t step, uint32_t bin, uint32_t first_head, uint32_t end_head)
{
	double mass[64], sum = 0;
	uint64_t first, low = kvt_attention_heat_first_page(heat, bin);
	uint64_t high = kvt_attention_heat_first_page(heat, bin + 1);
	for (uint32_t head = first_head; head < end_head; head++) {
		uint64_t n = attention_fixture_masses(fixture, 1, step, head, mass, &first);
		for (uint64_t i = 0; i < n; i++)
			if (first + i >= low && first + i < high)
				sum += mass[i] / (end_head - first_head);
	}
	return sum;
}

static kvt_attention_trace *open_fixture(const attention_fixture *fixture)
{
	g_autofree char *path = g_build_filename(folder, "heat.h5", NULL);
	attention_fixture_write(fixture, path);
	g_autoptr(GError) error = NULL;
	kvt_attention_trace *trace = kvt_attention_trace_open(path, &error);
	g_assert_no_error(error);
	return trace;
}

static void test_sums(void)
{
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	g_autoptr(kvt_attention_trace) trace = open_fixture(fixture);
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, 3, 0, NULL);
	const kvt_attention_view views[] = {
		{ .kv_head = KVT_ATTENTION_HEAT_MEAN },
		{ .kv_head = 1 },
		{ .kv_head = KVT_ATTENTION_HEAT_MEAN, .first_step = 2, .end_step = 4 },
		{ .kv_head = 0, .first_page = 3, .end_page = 8 },
	};
	static const uint32_t bins[] = { 1, 3, 4, 10, 1000 };
	for (size_t v = 0; v < G_N_ELEMENTS(views); v++)
		for (size_t b = 0; b < G_N_ELEMENTS(bins); b++) {
			g_auto(kvt_attention_heat) heat = { 0 };
			g_autoptr(GError) error = NULL;
			kvt_attention_heat_measure(layer, &views[v], bins[b], &heat, &error);
			g_assert_no_error(error);
			g_assert_cmpuint(heat.bins, ==, MIN(bins[b], heat.pages));
			g_assert_cmpuint(
				kvt_attention_heat_first_page(&heat, 0), ==, views[v].first_page);
			g_assert_cmpuint(kvt_attention_heat_first_page(&heat, heat.bins), ==,
				heat.first_page + heat.pages);
			bool mean = views[v].kv_head == KVT_ATTENTION_HEAT_MEAN;
			uint32_t head = mean ? 0 : views[v].kv_head;
			for (uint64_t s = 0; s < heat.steps; s++)
				for (uint32_t i = 0; i < heat.bins; i++)
					/* rows stop at 0.99 of the mass */
					g_assert_cmpfloat_with_epsilon(heat.mass[s * heat.bins + i],
						expected(fixture, &heat, heat.first_step + s, i,
							head, mean ? 2 : head + 1),
						0.012);
		}
}

static void check_refused(
	kvt_attention_layer *layer, const kvt_attention_view *view, const char *message)
{
	g_auto(kvt_attention_heat) heat = { 0 };
	g_autoptr(GError) error = NULL;
	g_assert_false(kvt_attention_heat_measure(layer, view, 4, &heat, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_true(g_str_has_suffix(error->message, message));
	g_assert_null(heat.mass);
}

static void test_refused(void)
{
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	g_autoptr(kvt_attention_trace) trace = open_fixture(fixture);
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, 3, 0, NULL);
	check_refused(layer, &(kvt_attention_view){ .first_step = 6 },
		"heat.h5: no steps 6:6, expected some of 0:6");
	check_refused(layer, &(kvt_attention_view){ .first_step = 2, .end_step = 7 },
		"heat.h5: no steps 2:7, expected some of 0:6");
	check_refused(layer, &(kvt_attention_view){ .first_page = 4, .end_page = 12 },
		"heat.h5: no pages 4:12, expected some of 0:10");
	check_refused(layer, &(kvt_attention_view){ .kv_head = 2 },
		"heat.h5: no KV heads 2:3, expected some of 0:2");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	folder = attention_fixture_folder();
	g_test_add_func("/attention-heat/sums", test_sums);
	g_test_add_func("/attention-heat/refused", test_refused);
	int status = g_test_run();
	attention_fixture_remove(folder);
	return status;
}
