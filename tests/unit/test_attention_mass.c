/* test_attention_mass.c: recomputed masses against a plain reference in double, the oracle against
 * exhaustive search, and both on recorded traces against known figures. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/base/rng.h"
#include "tests/unit/attention_fixture.h"
#include "traces/attention_mass.h"
#include "traces/attention_softmax.h"

static char *folder;

/* All steps of all layers and heads of a fixture, with a stride, against the reference. */
static void check_masses(const attention_fixture *fixture, uint64_t first_step, uint64_t stride)
{
	g_autofree char *path = g_build_filename(folder, "mass.h5", NULL);
	g_autoptr(GError) error = NULL;
	attention_fixture_write(fixture, path);
	g_autoptr(kvt_attention_trace) trace = kvt_attention_trace_open(path, &error);
	g_assert_no_error(error);
	size_t pitch = fixture->header.total_tokens / fixture->header.block_tokens + 3;
	uint64_t count = (fixture->step_count - first_step + stride - 1) / stride;
	g_autofree float *mass = g_new(float, count *pitch);
	g_autofree double *expected = g_new(double, pitch);
	for (unsigned i = 0; i < FIXTURE_LAYERS; i++) {
		g_autoptr(kvt_attention_layer) layer =
			kvt_attention_layer_open(trace, fixture->layers[i], 0, &error);
		for (uint32_t head = 0; head < fixture->header.kv_heads; head++) {
			kvt_attention_mass_recompute(
				layer, first_step, stride, count, head, mass, pitch, &error);
			g_assert_no_error(error);
			for (uint64_t n = 0; n < count; n++) {
				uint64_t first;
				uint64_t pages = attention_fixture_masses(fixture, i,
					first_step + n * stride, head, expected, &first);
				for (uint64_t p = 0; p < pages; p++)
					g_assert_cmpfloat_with_epsilon(mass[n * pitch + p],
						expected[p], 1e-5 * expected[p]);
			}
		}
	}
}

static void test_small(void)
{
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	check_masses(fixture, 0, 1);
	check_masses(fixture, 1, 2);
}

/* Groups that are no multiple of four, pages that are no power of two, heads of odd size. */
static void test_shapes(void)
{
	static const struct {
		uint32_t query_heads, kv_heads, head_dim, block_tokens, local_chunk;
	} shapes[] = {
		{ 1, 1, 1, 1, 7 },
		{ 5, 1, 3, 6, 50 },
		{ 12, 2, 33, 48, 100 },
		{ 8, 2, 64, 16, 64 },
		{ 3, 3, 70, 17, 1000 },
		{ 2, 1, 16, 400, 30 },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++) {
		const kvt_attention_header header = {
			.query_heads = shapes[i].query_heads,
			.kv_heads = shapes[i].kv_heads,
			.head_dim = shapes[i].head_dim,
			.block_tokens = shapes[i].block_tokens,
			.local_chunk_tokens = shapes[i].local_chunk,
			.total_tokens = 333,
		};
		g_autoptr(attention_fixture) fixture = attention_fixture_new(&header, 75, i);
		check_masses(fixture, 0, 1);
		check_masses(fixture, 3, 7);
	}
}

/* More keys than one chunk of the computation holds, and steps that end in different chunks. */
static void test_chunks(void)
{
	const kvt_attention_header header = {
		.query_heads = 2,
		.kv_heads = 1,
		.head_dim = 256,
		.block_tokens = 16,
		.local_chunk_tokens = 900,
		.total_tokens = 1700,
	};
	g_autoptr(attention_fixture) fixture = attention_fixture_new(&header, 6, 9);
	for (uint64_t i = 0; i < 6; i++) {
		fixture->steps[i].position = 500 + 239 * i;
		fixture->steps[i].token = fixture->tokens[500 + 239 * i];
	}
	check_masses(fixture, 0, 1);
}

/* Vector widths give the same bits. */
static void test_widths(void)
{
	enum { TILES = 5, DIM = 37, TOKENS = TILES * KVT_SOFTMAX_LANES };
	kvt_rng rng = kvt_rng_init(4, 0);
	float tiles[TOKENS * DIM], queries[DIM * KVT_SOFTMAX_QUERIES];
	float narrow[4 * TOKENS], wide[4 * TOKENS], narrow_sums[TOKENS], wide_sums[TOKENS];
	for (size_t i = 0; i < G_N_ELEMENTS(tiles); i++)
		tiles[i] = (float)kvt_rng_normal(&rng);
	for (size_t i = 0; i < G_N_ELEMENTS(queries); i++)
		queries[i] = (float)kvt_rng_normal(&rng);
	kvt_softmax_logits(tiles, TILES, DIM, queries, narrow, true);
	kvt_softmax_logits(tiles, TILES, DIM, queries, wide, false);
	g_assert_cmpmem(narrow, sizeof narrow, wide, sizeof wide);
	for (unsigned q = 0; q < 4; q++) {
		float a =
			kvt_softmax_sum_pages(narrow + q * TOKENS, 75, 3, 70, 9, narrow_sums, true);
		float b = kvt_softmax_sum_pages(wide + q * TOKENS, 75, 3, 70, 9, wide_sums, false);
		g_assert_cmpfloat(a, ==, b);
		g_assert_cmpmem(narrow_sums, 9 * sizeof(float), wide_sums, 9 * sizeof(float));
	}
}

static void test_exponential(void)
{
	enum { N = 1 << 12 };
	float values[N], sums[N];
	double worst = 0;
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < N; i++)
			values[i] = -(float)(i + round * 0.05) * 86.0f / N;
		float inputs[N];
		memcpy(inputs, values, sizeof inputs);
		float max = kvt_softmax_sum_pages(values, N, 0, N, 1, sums, false);
		for (unsigned i = 0; i < N; i++) {
			double expected = exp((double)(inputs[i] - max));
			worst = MAX(worst, fabs(sums[i] / expected - 1));
		}
	}
	g_assert_cmpfloat(worst, <, 3e-7);
	/* Far below the largest there is next to nothing, and nothing where no token counts. */
	values[0] = 0, values[1] = -1000, values[2] = 5;
	g_assert_cmpfloat(kvt_softmax_sum_pages(values, 3, 0, 2, 1, sums, false), ==, 0);
	g_assert_cmpfloat(sums[0], ==, 1);
	g_assert_cmpfloat(sums[1], <, 1e-37);
	g_assert_cmpfloat(sums[2], ==, 0);
	g_assert_true(kvt_softmax_sum_pages(values, 3, 1, 1, 1, sums, false) == -INFINITY);
	g_assert_cmpfloat(sums[0] + sums[1] + sums[2], ==, 0);
}

static void test_stream(void)
{
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	g_autofree char *path = g_build_filename(folder, "stream.h5", NULL);
	g_autoptr(GError) error = NULL;
	attention_fixture_write(fixture, path);
	g_autoptr(kvt_attention_trace) trace = kvt_attention_trace_open(path, &error);
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, 3, 0, &error);
	/* Windows of all steps, of one step, and of every other step, also backwards. */
	for (unsigned stride = 1; stride <= 2; stride++) {
		for (size_t memory = 0; memory < 2; memory++) {
			g_autoptr(kvt_attention_mass_stream) stream =
				kvt_attention_mass_stream_new(layer, stride, memory);
			for (unsigned i = 0; i < 12; i++) {
				uint64_t step = (i < 6 ? i : 11 - i) / stride * stride, first;
				double expected[12];
				uint64_t pages = attention_fixture_masses(
					fixture, 1, step, i % 2, expected, &first);
				const float *mass =
					kvt_attention_mass_stream_get(stream, step, i % 2, &error);
				g_assert_no_error(error);
				for (uint64_t p = 0; p < pages; p++)
					g_assert_cmpfloat_with_epsilon(mass[p], expected[p], 1e-5);
			}
		}
	}
}

static void test_budget(void)
{
	g_assert_cmpuint(kvt_attention_budget_pages(0.01, 2049), ==, 20);
	g_assert_cmpuint(kvt_attention_budget_pages(0.1, 2049), ==, 204);
	g_assert_cmpuint(kvt_attention_budget_pages(0.01, 100), ==, 5);
	g_assert_cmpuint(kvt_attention_budget_pages(0, 100), ==, 5);
	g_assert_cmpuint(kvt_attention_budget_pages(0.5, 3), ==, 3);
	g_assert_cmpuint(kvt_attention_budget_pages(1, 100), ==, 100);
	g_assert_cmpuint(kvt_attention_budget_pages(7, 100), ==, 100);
}

/* The best choice by trying all of them. */
static double best_by_search(const float *mass, unsigned pages, uint64_t budget)
{
	double best = 0;
	for (unsigned set = 0; set < 1u << pages; set++) {
		double sum = 0;
		bool allowed = (uint64_t)__builtin_popcount(set) <= budget && (set & 1) != 0;
		for (unsigned p = pages > 4 ? pages - 4 : 0; p < pages; p++)
			allowed &= (set >> p & 1) != 0;
		for (unsigned p = 0; p < pages && allowed; p++)
			sum += set >> p & 1 ? mass[p] : 0;
		best = MAX(best, sum);
	}
	return best;
}

static void test_oracle(void)
{
	kvt_rng rng = kvt_rng_init(11, 0);
	for (unsigned round = 0; round < 60; round++) {
		unsigned pages = 1 + (unsigned)kvt_rng_below(&rng, 12);
		float mass[12], scratch[12];
		for (unsigned p = 0; p < pages; p++)
			mass[p] = (float)kvt_rng_below(&rng, 8) / 64;
		uint64_t budgets[3] = { 5, 5 + round % 4, 9 + round % 5 };
		double kept[3];
		kvt_attention_oracle_masses(mass, pages, budgets, 3, scratch, kept);
		for (unsigned i = 0; i < 3; i++) {
			double best = best_by_search(mass, pages, MIN(budgets[i], pages));
			g_assert_cmpfloat_with_epsilon(kept[i], best, 1e-9);
			g_assert_cmpfloat(kept[i], ==,
				kvt_attention_oracle_mass(mass, pages, budgets[i], scratch));
		}
	}
}

static void check_oracle(const char *path, uint32_t number, kvt_attention_mass_source source,
	uint64_t stride, const double *expected, double epsilon)
{
	static const double shares[] = { 0.01, 0.02, 0.05, 0.1 };
	double kept[4];
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_trace) trace = kvt_attention_trace_open(path, &error);
	g_assert_no_error(error);
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, number, 0, &error);
	g_assert_no_error(error);
	kvt_attention_trace_oracle_mass(layer, source, stride, shares, 4, kept, &error);
	g_assert_no_error(error);
	for (unsigned i = 0; i < 4; i++)
		g_assert_cmpfloat_with_epsilon(kept[i], expected[i], epsilon);
}

static void test_sample(void)
{
	const char *path = "traces/samples/code-32k-layer7.h5";
	check_oracle(path, 7, KVT_ATTENTION_MASS_BEST, 3,
		(const double[]){ .6112, .7014, .8073, .8791 }, 1e-4);
	check_oracle(path, 7, KVT_ATTENTION_MASS_ROWS, 1,
		(const double[]){ .6105, .7010, .8081, .8802 }, 1e-4);
	g_autoptr(GError) error = NULL;
	double kept, share = 0.1;
	g_autoptr(kvt_attention_trace) trace = kvt_attention_trace_open(path, &error);
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, 7, 0, &error);
	g_assert_false(kvt_attention_trace_oracle_mass(
		layer, KVT_ATTENTION_MASS_RECOMPUTED, 1, &share, 1, &kept, &error));
	g_assert_cmpstr(error->message, ==,
		"traces/samples/code-32k-layer7.h5: layers/7/queries: not recorded, expected a "
		"trace with queries");
}

/* The whole recordings, where they are at hand: KVTIER_TRACES names their folder. */
static void test_recordings(void)
{
	const char *traces = g_getenv("KVTIER_TRACES");
	if (traces == NULL) {
		g_test_skip("KVTIER_TRACES does not name the folder of the recordings");
		return;
	}
	g_autofree char *small = g_build_filename(traces, "code-32k.h5", NULL);
	g_autofree char *large = g_build_filename(traces, "code-128k.h5", NULL);
	kvt_attention_mass_source exact = KVT_ATTENTION_MASS_RECOMPUTED;
	check_oracle(small, 7, exact, 3, (const double[]){ .6112, .7014, .8073, .8791 }, 6e-5);
	check_oracle(small, 3, exact, 3, (const double[]){ .1256, .1721, .2595, .3585 }, 6e-5);
	check_oracle(large, 7, exact, 3, (const double[]){ .5968, .6851, .8052, .8887 }, 6e-5);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	folder = attention_fixture_folder();
	g_test_add_func("/attention-mass/small", test_small);
	g_test_add_func("/attention-mass/shapes", test_shapes);
	g_test_add_func("/attention-mass/chunks", test_chunks);
	g_test_add_func("/attention-mass/widths", test_widths);
	g_test_add_func("/attention-mass/exponential", test_exponential);
	g_test_add_func("/attention-mass/stream", test_stream);
	g_test_add_func("/attention-mass/budget", test_budget);
	g_test_add_func("/attention-mass/oracle", test_oracle);
	g_test_add_func("/attention-mass/sample", test_sample);
	g_test_add_func("/attention-mass/recordings", test_recordings);
	int status = g_test_run();
	attention_fixture_remove(folder);
	return status;
}
