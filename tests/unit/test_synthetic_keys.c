/* test_synthetic_keys.c: the compact keys of grown traces: their expansion, what growing conserves
 * of a recording, and files that are wrong about them. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/base/rng.h"
#include "tests/unit/attention_fixture.h"
#include "tests/unit/attention_victim.h"
#include "traces/attention_mass.h"
#include "traces/attention_trace_check.h"
#include "traces/half_float.h"
#include "traces/key_statistics.h"
#include "traces/nearest_keys.h"
#include "traces/synthetic_keys.h"
#include "traces/trace_growth.h"

enum { CONTEXT = 1200, TOTAL = 1230, STEPS = 12, DIM = 24, PAGE = 4, GROWN = 6000 };

static char *recorded_path, *grown_path;
static attention_fixture *fixture;

static uint16_t half_of(float value)
{
	uint16_t half;
	kvt_half_from_float(&value, &half, 1);
	return half;
}

static float float_of(uint16_t half)
{
	float value;
	kvt_half_to_float(&half, &value, 1);
	return value;
}

/* Every element by the formula of the format's document, one float operation at a time. */
static void test_expansion(void)
{
	enum { HEADS = 2, BASE = 12, PAGES = 5, PARTNERS = 3, KEY_DIM = 35 };
	kvt_rng rng = kvt_rng_init(3, 0);
	kvt_synthetic_keys keys = { .kv_heads = HEADS,
		.head_dim = KEY_DIM,
		.block_tokens = PAGE,
		.partners = PARTNERS,
		.base_tokens = BASE,
		.pages = PAGES };
	keys.base = g_new(uint16_t, HEADS * BASE * KEY_DIM);
	keys.partner = g_new(uint32_t, HEADS * BASE * PARTNERS);
	keys.page = g_new(uint32_t, PAGES);
	keys.weight = g_new0(uint16_t, PAGES * PARTNERS);
	for (int i = 0; i < HEADS * BASE * KEY_DIM; i++)
		keys.base[i] = half_of((float)kvt_rng_normal(&rng));
	for (int i = 0; i < HEADS * BASE * PARTNERS; i++)
		keys.partner[i] = (uint32_t)kvt_rng_below(&rng, BASE);
	for (int p = 0; p < PAGES; p++) {
		keys.page[p] = (uint32_t)kvt_rng_below(&rng, BASE / PAGE);
		for (int r = 0; r < PARTNERS && p > 0; r++)
			keys.weight[p * PARTNERS + r] = half_of((float)kvt_rng_normal(&rng));
	}
	g_assert_null(kvt_synthetic_keys_check(&keys));
	kvt_synthetic_keys_prepare(&keys);
	uint16_t out[PAGES * PAGE * KEY_DIM];
	for (uint32_t head = 0; head < HEADS; head++) {
		/* in two parts, that meet within a page */
		kvt_synthetic_keys_half(&keys, head, 0, 6, out);
		kvt_synthetic_keys_half(&keys, head, 6, PAGES * PAGE - 6, out + 6 * KEY_DIM);
		for (int t = 0; t < PAGES * PAGE; t++)
			for (int d = 0; d < KEY_DIM; d++) {
				uint32_t b = keys.page[t / PAGE] * PAGE + (uint32_t)t % PAGE;
				const uint16_t *base = keys.base + head * BASE * KEY_DIM;
				float from = float_of(base[b * KEY_DIM + d]);
				volatile float sum = from;
				for (int r = 0; r < PARTNERS; r++) {
					uint32_t other =
						keys.partner[(head * BASE + b) * PARTNERS + r];
					float w = float_of(keys.weight[t / PAGE * PARTNERS + r]);
					volatile float moved =
						w * (float_of(base[other * KEY_DIM + d]) - from);
					sum += moved;
				}
				g_assert_cmphex(out[t * KEY_DIM + d], ==, half_of(sum));
				if (t < PAGE)
					g_assert_cmphex(
						out[t * KEY_DIM + d], ==, base[b * KEY_DIM + d]);
			}
	}
	kvt_synthetic_keys_clear(&keys);
}

static void test_nearest(void)
{
	enum { KEYS = 100, GROUP = 5, CANDIDATES = 37 };
	kvt_rng rng = kvt_rng_init(4, 0);
	uint16_t halves[KEYS * DIM];
	uint32_t points[KEYS], candidates[CANDIDATES], found[KEYS * KVT_NEAREST];
	for (int i = 0; i < KEYS * DIM; i++)
		halves[i] = half_of((float)kvt_rng_normal(&rng));
	for (uint32_t i = 0; i < KEYS; i++)
		points[i] = i;
	for (uint32_t i = 0; i < CANDIDATES; i++)
		candidates[i] = (i * 29) % KEYS;
	const kvt_nearest_set set = { .halves = halves, .dim = DIM, .group = GROUP };
	kvt_nearest_keys(&set, candidates, CANDIDATES, points, KEYS, found);
	for (uint32_t p = 0; p < KEYS; p++) {
		double distance[KEYS];
		for (uint32_t i = 0; i < KEYS; i++) {
			distance[i] = 0;
			for (int d = 0; d < DIM; d++)
				distance[i] += pow((double)float_of(halves[i * DIM + d]) -
							   (double)float_of(halves[p * DIM + d]),
					2);
		}
		uint32_t last = found[p * KVT_NEAREST + KVT_NEAREST - 1], nearer = 0;
		for (uint32_t c = 0; c < CANDIDATES; c++)
			nearer += candidates[c] / GROUP != p / GROUP &&
				  distance[candidates[c]] < distance[last] - 1e-4;
		g_assert_cmpuint(nearer, <, KVT_NEAREST);
		for (uint32_t i = 0; i < KVT_NEAREST; i++) {
			uint32_t key = found[p * KVT_NEAREST + i];
			g_assert_cmpuint(key / GROUP, !=, p / GROUP);
			g_assert_cmpuint(key * 69 % KEYS, <, CANDIDATES); /* 29 x 69 = 1 mod 100 */
			if (i > 0)
				g_assert_cmpfloat(distance[found[p * KVT_NEAREST + i - 1]], <=,
					distance[key] + 1e-4);
		}
	}
}

static kvt_attention_trace *open_good(const char *path)
{
	g_autoptr(GError) error = NULL;
	kvt_attention_trace *trace = kvt_attention_trace_open(path, &error);
	g_assert_no_error(error);
	return trace;
}

static void grow(const char *path, const kvt_growth *growth)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_trace) trace = open_good(recorded_path);
	kvt_attention_trace_grow(trace, path, growth, NULL, &error);
	g_assert_no_error(error);
}

/* All keys of a head of layer 3, [tokens][DIM]. */
static uint16_t *keys_of(const char *path, uint32_t head)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_trace) trace = open_good(path);
	uint64_t tokens = kvt_attention_trace_header(trace)->total_tokens;
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, 3, 0, &error);
	g_assert_no_error(error);
	uint16_t *keys = g_new0(uint16_t, (tokens + PAGE) * DIM);
	kvt_attention_layer_keys_half(layer, head, 0, tokens, keys, &error);
	g_assert_no_error(error);
	return keys;
}

/* Which pages are recorded ones: all of them, each once, in order, the first first and the newest
 * last. No other page is a recorded one, and no two are alike. */
static void test_pages(void)
{
	enum { ADDED = (GROWN - TOTAL + STEPS) / PAGE, RECORDED_PAGES = (TOTAL + PAGE - 1) / PAGE };
	const size_t bytes = PAGE * DIM * sizeof(uint16_t);
	g_autofree uint16_t *from = keys_of(recorded_path, 1), *to = keys_of(grown_path, 1);
	g_autoptr(GHashTable) seen = g_hash_table_new(g_bytes_hash, g_bytes_equal);
	g_autoptr(GPtrArray) pages = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
	uint32_t recorded = 0, added = 0, last_added = 0;
	/* the last page is filled in part */
	for (uint32_t page = 0; page < RECORDED_PAGES + ADDED - 1; page++) {
		const uint16_t *key = to + (size_t)page * PAGE * DIM;
		GBytes *copy = g_bytes_new_static(key, bytes);
		g_ptr_array_add(pages, copy);
		g_assert_true(g_hash_table_add(seen, copy));
		if (memcmp(key, from + (size_t)recorded * PAGE * DIM, bytes) == 0) {
			recorded++;
		} else {
			added++;
			last_added = page;
		}
		if (page == 0)
			g_assert_cmpuint(recorded, ==, 1);
	}
	g_assert_cmpuint(recorded, ==, RECORDED_PAGES - 1);
	g_assert_cmpuint(added, ==, ADDED);
	g_assert_cmpuint(last_added, <, GROWN / PAGE - 64);
}

/* The mean, the variance, and how much of it is between pages. */
static void test_moments(void)
{
	for (uint32_t head = 0; head < 2; head++) {
		double mean[2] = { 0 }, square[2] = { 0 };
		for (int i = 0; i < 2; i++) {
			uint64_t tokens = i == 0 ? CONTEXT : GROWN;
			g_autofree uint16_t *keys =
				keys_of(i == 0 ? recorded_path : grown_path, head);
			for (uint64_t v = 0; v < tokens * DIM; v++) {
				double value =
					(double)float_of(keys[v]) / sqrt((double)tokens * DIM);
				mean[i] += value / sqrt((double)tokens * DIM);
				square[i] += value * value;
			}
		}
		g_assert_cmpfloat_with_epsilon(mean[0], mean[1], 0.03);
		g_assert_cmpfloat_with_epsilon(square[0], square[1], 0.05 * square[0]);
	}
}

/* Masses in double from what the reader gives; rows list the largest, falling. */
static void test_rows(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_trace) trace = open_good(grown_path);
	uint64_t count, rows = 0;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	g_assert_cmpuint(count, ==, STEPS);
	g_assert_true(kvt_attention_trace_header(trace)->synthetic);
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, 3, 0, &error);
	g_assert_no_error(error);
	g_assert_true(kvt_attention_layer_has_queries(layer));
	g_assert_true(kvt_attention_layer_has_keys(layer));
	g_assert_true(kvt_attention_layer_has_synthetic_keys(layer));
	g_assert_false(kvt_attention_layer_has_values(layer));
	kvt_attention_layer_check checked;
	kvt_attention_layer_check_all(layer, STEPS, &checked, NULL, &rows, &error);
	g_assert_no_error(error);
	g_assert_cmpuint(checked.recomputed, >, STEPS * 2 * 100);
	for (uint64_t step = 0; step < count; step += 5) {
		g_autofree uint16_t *keys = keys_of(grown_path, 1);
		g_autofree double *mass = g_new0(double, steps[step].position / PAGE + 1);
		float query[4 * DIM];
		g_assert_true(kvt_attention_layer_queries(layer, step, query, &error));
		for (int q = 2; q < 4; q++) {
			uint64_t tokens = steps[step].position + 1;
			g_autofree double *weight = g_new0(double, tokens);
			double sum = 0;
			for (uint64_t t = 0; t < tokens; t++) {
				double dot = 0;
				for (int d = 0; d < DIM; d++)
					dot += (double)query[q * DIM + d] *
					       (double)float_of(keys[t * DIM + (uint64_t)d]);
				weight[t] = exp(
					dot *
					(double)kvt_attention_trace_header(trace)->softmax_scale);
				sum += weight[t];
			}
			for (uint64_t t = 0; t < tokens; t++)
				mass[t / PAGE] += weight[t] / sum / 2;
		}
		kvt_attention_row row;
		g_assert_true(kvt_attention_layer_row(layer, step, 1, &row, &error));
		for (uint32_t i = 0; i < row.count; i++)
			g_assert_cmpfloat_with_epsilon((double)row.mass[i], mass[row.block[i]],
				0.002 * mass[row.block[i]] + 1e-6);
	}
}

static void test_same_again(void)
{
	g_autofree char *other = g_build_filename(victim_folder, "other.h5", NULL);
	g_autofree char *a = NULL, *b = NULL, *c = NULL;
	gsize size_a, size_b, size_c;
	kvt_growth growth = { .context_tokens = GROWN, .layer = -1, .seed = 1 };
	grow(other, &growth);
	g_assert_true(g_file_get_contents(grown_path, &a, &size_a, NULL));
	g_assert_true(g_file_get_contents(other, &b, &size_b, NULL));
	g_assert_cmpmem(a, size_a, b, size_b);
	growth.seed = 2;
	grow(other, &growth);
	g_assert_true(g_file_get_contents(other, &c, &size_c, NULL));
	g_assert_false(size_a == size_c && memcmp(a, c, size_a) == 0);
}

/* Fewer steps are the last ones of each turn; queries are scaled from one position to the other. */
static void test_steps_and_queries(void)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *other = g_build_filename(victim_folder, "steps.h5", NULL);
	const kvt_attention_temperature temperature = { .rate = 0.5, .tokens = 100 };
	grow(other, &(kvt_growth){ .context_tokens = GROWN,
			    .layer = 3,
			    .steps = 4,
			    .seed = 1,
			    .temperature = &temperature });
	static const uint64_t expected[] = { 4, 5, 10, 11 };
	g_autoptr(kvt_attention_trace) trace = open_good(other);
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, 3, 0, &error);
	g_assert_no_error(error);
	uint64_t count;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	g_assert_cmpuint(count, ==, G_N_ELEMENTS(expected));
	for (uint64_t i = 0; i < count; i++) {
		const kvt_attention_step *from = &fixture->steps[expected[i]];
		uint64_t added = (GROWN - (TOTAL - STEPS)) / PAGE * PAGE;
		g_assert_cmpuint(steps[i].position, ==, from->position + added);
		g_assert_cmpuint(steps[i].turn, ==, from->turn);
		double factor = (1 + 0.5 * log1p(floor((double)(steps[i].position + 1) / 100))) /
				(1 + 0.5 * log1p(floor((double)(from->position + 1) / 100)));
		float query[4 * DIM];
		g_assert_true(kvt_attention_layer_queries(layer, i, query, &error));
		for (int v = 0; v < 4 * DIM; v++) {
			double was = (double)float_of(
				fixture->queries[1][expected[i] * 4 * DIM + (uint64_t)v]);
			g_assert_cmpfloat_with_epsilon(
				(double)query[v], factor * was, 0.001 * fabs(factor * was));
		}
	}
}

static void test_without_keys(void)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *other = g_build_filename(victim_folder, "rows.h5", NULL);
	kvt_growth growth = { .context_tokens = GROWN, .layer = 3, .steps = 20, .seed = 1 };
	{
		g_autoptr(kvt_attention_trace) trace = open_good(recorded_path);
		g_assert_false(kvt_attention_trace_grow(trace, other, &growth, NULL, &error));
		g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
		g_assert_nonnull(strstr(error->message, "grown to 20 steps, expected at most 12"));
		g_clear_error(&error);
	}
	growth.without_keys = true;
	grow(other, &growth);
	g_autoptr(kvt_attention_trace) trace = open_good(other);
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, 3, 0, &error);
	g_assert_no_error(error);
	g_assert_false(kvt_attention_layer_has_keys(layer));
	g_assert_false(kvt_attention_layer_has_queries(layer));
}

/* Of the recording as others find it, and of the grown trace about the same. */
static void test_statistics(void)
{
	g_autoptr(GError) error = NULL;
	kvt_key_statistics found[2];
	for (int i = 0; i < 2; i++) {
		g_autoptr(kvt_attention_trace) trace =
			open_good(i == 0 ? recorded_path : grown_path);
		g_autoptr(kvt_attention_layer) layer =
			kvt_attention_layer_open(trace, 3, 0, &error);
		g_assert_no_error(error);
		const double share = KVT_KEY_STATISTICS_BUDGET;
		double oracle;
		kvt_key_statistics_measure(layer, &found[i], &error);
		g_assert_no_error(error);
		kvt_attention_trace_oracle_mass(
			layer, KVT_ATTENTION_MASS_RECOMPUTED, 1, &share, 1, &oracle, &error);
		g_assert_no_error(error);
		g_assert_cmpfloat_with_epsilon(found[i].oracle, oracle, 1e-6);
		g_assert_cmpfloat(found[i].means, <, oracle);
		g_assert_cmpfloat(found[i].bounds, <, oracle);
		/* chosen at random, 2% of the pages would keep about 2% of the mass */
		g_assert_cmpfloat(found[i].means, >, 2 * share);
		g_assert_cmpfloat(found[i].bounds, >, share);
		g_assert_cmpfloat(found[i].entropy, >, 0);
		g_assert_cmpfloat(found[i].entropy, <, 1);
	}
	g_assert_cmpfloat_with_epsilon(found[0].oracle, found[1].oracle, 0.1);
	g_assert_cmpfloat_with_epsilon(found[0].far, found[1].far, 0.1);
	g_assert_cmpfloat_with_epsilon(found[0].means, found[1].means, 0.1);
	g_autoptr(kvt_attention_trace) trace = open_good(recorded_path);
	g_autoptr(kvt_attention_layer) chunked = kvt_attention_layer_open(trace, 1, 0, &error);
	g_assert_false(kvt_key_statistics_measure(chunked, &found[0], &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
}

static hid_t open_copy(void)
{
	g_autofree char *bytes = NULL;
	gsize size;
	g_assert_true(g_file_get_contents(grown_path, &bytes, &size, NULL));
	g_assert_true(g_file_set_contents(victim_path, bytes, (gssize)size, NULL));
	hid_t file = H5Fopen(victim_path, H5F_ACC_RDWR, H5P_DEFAULT);
	g_assert_cmpint(file, >=, 0);
	return file;
}

#define KEYS "layers/3/synthetic_keys"

static void test_hostile(void)
{
	hid_t file;
	g_assert_null(victim_complaint(grown_path));
	file = open_copy();
	victim_poke_integer(file, KEYS "/page", 7, 100000);
	victim_close_and_expect(file, KEYS "/page: page 7: base page 100000, expected below *");
	file = open_copy();
	victim_poke_integer(file, KEYS "/partner", 11, UINT32_MAX);
	victim_close_and_expect(file, KEYS "/page: partner 4294967295, expected below the *");
	file = open_copy();
	victim_poke_half(file, KEYS "/weight", 9, 0x7e00);
	victim_close_and_expect(file, KEYS "/page: page 1: weight *");
	file = open_copy();
	victim_poke_half(file, KEYS "/weight", 9, half_of(17));
	victim_close_and_expect(
		file, KEYS "/page: page 1: weight 17 of partner 0, expected -16 to 16");
	file = open_copy();
	victim_drop(file, KEYS "/weight");
	victim_close_and_expect(file, KEYS "/weight: *");
	file = open_copy();
	H5Adelete(file, "synthetic");
	victim_close_and_expect(
		file, KEYS ": in a recorded trace, expected attribute synthetic to be 1");
	file = open_copy();
	hsize_t pages = 3;
	const uint32_t few[3] = { 0 };
	victim_replace(file, KEYS "/page", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, &pages, few);
	victim_close_and_expect(file, KEYS "/page: shape [3], expected as many as pages *");
	file = open_copy();
	hsize_t odd[] = { 2, 3, 1 };
	victim_replace(file, KEYS "/base", H5T_STD_U32LE, H5T_NATIVE_UINT32, 3, odd, NULL);
	victim_close_and_expect(file, KEYS "/base: wrong type, *");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	victim_set_up();
	const kvt_attention_header header = { .query_heads = 4,
		.kv_heads = 2,
		.head_dim = DIM,
		.block_tokens = PAGE,
		.local_chunk_tokens = 10,
		.context_tokens = CONTEXT,
		.total_tokens = TOTAL };
	fixture = attention_fixture_new(&header, STEPS, 1);
	recorded_path = g_build_filename(victim_folder, "recorded.h5", NULL);
	grown_path = g_build_filename(victim_folder, "grown.h5", NULL);
	attention_fixture_write(fixture, recorded_path);
	grow(grown_path, &(kvt_growth){ .context_tokens = GROWN, .layer = -1, .seed = 1 });
	g_test_add_func("/synthetic-keys/expansion", test_expansion);
	g_test_add_func("/synthetic-keys/nearest", test_nearest);
	g_test_add_func("/synthetic-keys/pages", test_pages);
	g_test_add_func("/synthetic-keys/moments", test_moments);
	g_test_add_func("/synthetic-keys/rows", test_rows);
	g_test_add_func("/synthetic-keys/same-again", test_same_again);
	g_test_add_func("/synthetic-keys/steps-and-queries", test_steps_and_queries);
	g_test_add_func("/synthetic-keys/without-keys", test_without_keys);
	g_test_add_func("/synthetic-keys/statistics", test_statistics);
	g_test_add_func("/synthetic-keys/hostile", test_hostile);
	int status = g_test_run();
	attention_fixture_free(fixture);
	g_free(recorded_path);
	g_free(grown_path);
	victim_tear_down();
	return status;
}
