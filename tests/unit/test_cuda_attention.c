/*
 * test_cuda_attention.c: attention on a GPU, its windows and its merges, against double precision:
 * every number format and form, odd sizes, KV as it was recorded. /cuda_attention/few is small
 * enough for compute-sanitizer.
 */
#include <errno.h>
#include <glib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cuda_fixture.h"
#include "tests/unit/cuda_kv.h"

#if KVT_CUDA
#include <cuda_runtime_api.h>

#include "sim/base/rng.h"
#include "tests/unit/trace_reference.h"

static const kvt_element elements[] = { KVT_ELEMENT_BF16, KVT_ELEMENT_F16, KVT_ELEMENT_E4M3 };

static void check(cuda_spec spec, const char *what)
{
	cuda_context c = cuda_context_new(&spec);
	cuda_check(&c, what);
	cuda_context_clear(&c);
}

static void test_few(void)
{
	if (!cuda_fixture_ready())
		return;
	for (uint64_t i = 0; i < 12; i++) {
		cuda_spec spec = { .element = elements[i % 3],
			.head_dim = i / 3 % 2 ? 128 : 64,
			.kv_heads = 2,
			.heads = 3,
			.n_queries = i < 6 ? 2 : 4,
			.page_tokens = i % 2 ? 16 : 64,
			.skip = 11,
			.n_tokens = 150,
			.seen = 148,
			.seed = i };
		check(spec, "few");
	}
	cuda_spec spec = { KVT_ELEMENT_BF16, 128, 1, 4, 9, 16, 3, 80, 72, 0, 77 };
	check(spec, "a chunk");
}

/* Lengths, heads, pages, skipped tokens, one query token and several. */
static void test_shapes(void)
{
	static const uint32_t heads[] = { 1, 7, 8, 2, 5, 16, 4, 13 }, pages[] = { 16, 64, 1024 };
	static const uint64_t tokens[] = { 0, 1, 15, 16, 17, 31, 33, 100, 257, 1000, 3001 };
	if (!cuda_fixture_ready())
		return;
	for (uint64_t i = 0; i < 264; i++) {
		cuda_spec spec = { .element = elements[i % 3],
			.head_dim = i / 3 % 2 ? 128 : 64,
			.kv_heads = 1 + (uint32_t)(i / 5 % 3),
			.heads = heads[i % 8],
			.n_queries = i / 2 % 3 ? 1 : 1 + (uint32_t)(i % 4),
			.page_tokens = pages[i / 7 % 3],
			.skip = (uint32_t)(i / 4 % 16),
			.n_tokens = tokens[i % 11],
			.seen = tokens[i % 11],
			.seed = 100 + i };
		check(spec, "shapes");
	}
	cuda_spec spec = { KVT_ELEMENT_BF16, 128, 200, 2, 1, 16, 5, 40, 40, 0, 1 };
	check(spec, "more KV heads than the device has processors");
	spec = (cuda_spec){ KVT_ELEMENT_E4M3, 128, 1, 8, 1, 16, 5, 40000, 40000, 0, 2 };
	check(spec, "all processors");
}

/* Query tokens that see each other causally, and such as see nothing. */
static void test_causal(void)
{
	static const uint64_t seen[] = { 0, 1, 14, 63, 110, 128 };
	if (!cuda_fixture_ready())
		return;
	for (uint64_t i = 0; i < 72; i++) {
		uint32_t heads = 1 + (uint32_t)(i / 2 % 8);
		cuda_spec spec = { .element = elements[i % 3],
			.head_dim = i / 3 % 2 ? 128 : 64,
			.kv_heads = 2,
			.heads = heads,
			.n_queries = MAX(2, i % 2 ? 16 / heads : 8 / heads),
			.page_tokens = 16,
			.skip = (uint32_t)(i % 16),
			.n_tokens = 130,
			.seen = seen[i / 12],
			.seed = 500 + i };
		check(spec, "causal");
	}
}

/* Large logits of either sign, tiny and huge scales: weights of a few tokens, of one, of all. */
static void test_range(void)
{
	static const float scales[] = { 1e-6f, 0.01f, -4, 60, 3000 };
	if (!cuda_fixture_ready())
		return;
	for (uint64_t i = 0; i < 30; i++) {
		cuda_spec spec = { elements[i % 3], i / 3 % 2 ? 128 : 64, 1, 7, 1, 16, 3, 700, 700,
			scales[i / 6], 700 + i };
		check(spec, "range");
	}
	/* far from 1, where FP16 ends: queries are made fit for it */
	for (uint64_t i = 0; i < 12; i++) {
		cuda_spec spec = { elements[i % 3], 128, 1, 4, 1, 16, 0, 200, 200, 1, 800 + i };
		float by = i / 3 % 2 ? 0x1p-30f : 0x1p30f;
		cuda_context c = cuda_context_new(&spec);
		for (size_t k = 0; k < c.stride; k++)
			c.queries[k] *= by;
		c.shape.scale /= by;
		cuda_exact(&c);
		cuda_check(&c, "far queries");
		cuda_context_clear(&c);
	}
}

/* Where pages lie changes no bit. */
static void test_scattered(void)
{
	if (!cuda_fixture_ready())
		return;
	for (uint64_t i = 0; i < 6; i++) {
		cuda_spec spec = { elements[i % 3], i / 3 ? 128 : 64, 2, 7, 1, 16, 5, 9000, 9000, 0,
			900 + i };
		cuda_context c = cuda_context_new(&spec);
		size_t rows = cuda_row_count(&c), bytes = rows * spec.head_dim * sizeof(float);
		cuda_check(&c, "scattered");
		g_autofree float *output = g_memdup2(c.output, bytes);
		g_autofree float *lse = g_memdup2(c.lse, rows * sizeof(float));
		cuda_place(&c, 12345);
		if (cuda_attend(&c, 0, spec.n_tokens, spec.seen, &c.result) && cuda_fetch(&c) &&
			(memcmp(output, c.output, bytes) != 0 ||
				memcmp(lse, c.lse, rows * sizeof(float)) != 0)) {
			g_test_message("%s of element %d, head_dim %u differ elsewhere", "results",
				(int)spec.element, spec.head_dim);
			g_test_fail();
		}
		cuda_context_clear(&c);
	}
}

static void assert_near(const cuda_context *c, const float *output, const float *lse, unsigned cuts)
{
	size_t rows = cuda_row_count(c);
	double worst = 0, worst_lse = 0;
	for (size_t i = 0; i < rows * c->spec.head_dim; i++)
		worst = fmax(worst, fabsf(output[i] - c->output[i]));
	for (size_t i = 0; i < rows; i++)
		worst_lse = fmax(worst_lse, fabsf(lse[i] - c->lse[i]));
	if (!(worst < 3e-6) || !(worst_lse < 3e-6)) {
		g_test_message("element %d, head_dim %u: %u windows differ from one by %g, lse %g",
			(int)c->spec.element, c->spec.head_dim, cuts, worst, worst_lse);
		g_test_fail();
	}
}

/* Windows cut anywhere and merged in any order give what one gives but for FP32's rounding. */
static void test_windows(void)
{
	if (!cuda_fixture_ready())
		return;
	kvt_rng rng = kvt_rng_init(3, 3);
	for (uint64_t i = 0; i < 18; i++) {
		cuda_spec spec = { elements[i % 3], i / 3 % 2 ? 128 : 64, 2, i % 2 ? 7 : 5,
			i % 5 ? 1 : 2, 16, 9, 2000, 2000, 0, 1000 + i };
		cuda_context c = cuda_context_new(&spec);
		size_t rows = cuda_row_count(&c);
		cuda_check(&c, "one window");
		g_autofree float *output =
			g_memdup2(c.output, rows * spec.head_dim * sizeof(float));
		g_autofree float *lse = g_memdup2(c.lse, rows * sizeof(float));
		uint64_t cuts = 1 + kvt_rng_below(&rng, 9), at[12] = { 0 };
		for (uint64_t k = 1; k <= cuts; k++)
			at[k] = at[k - 1] + kvt_rng_below(&rng, 2001 - at[k - 1]);
		at[cuts + 1] = 2000;
		uint64_t first = kvt_rng_below(&rng, cuts + 1);
		bool fine = cuda_attend(
			&c, at[first], at[first + 1] - at[first], UINT64_MAX - 2, &c.result);
		for (uint64_t k = 1; k <= cuts && fine; k++) {
			uint64_t w = (first + k) % (cuts + 1);
			fine = cuda_attend(
				       &c, at[w], at[w + 1] - at[w], UINT64_MAX - 2, &c.other) &&
			       kvt_cuda_merge(&c.result, &c.other, rows, spec.head_dim, NULL) == 0;
		}
		if (fine && cuda_fetch(&c))
			assert_near(&c, output, lse, (unsigned)cuts + 1);
		cuda_compare(&c, "windows");
		cuda_context_clear(&c);
	}
}

/* NaN that is seen is not hidden, in a key, a value or a query; nor by a merge. */
static void test_nan(void)
{
	if (!cuda_fixture_ready())
		return;
	for (uint32_t i = 0; i < 18; i++) {
		cuda_spec spec = { elements[i % 3], i / 3 % 2 ? 128 : 64, 1, 4, 1, 16, 0, 100, 100,
			0, 2000 + i };
		cuda_context c = cuda_context_new(&spec);
		size_t bytes = kvt_element_bytes(spec.element), place = i / 6;
		if (place == 2)
			c.queries[9] = NAN;
		else
			memset(c.pages + 3 * c.page_bytes + place * c.shape.value_offset +
					9 * bytes,
				spec.element == KVT_ELEMENT_E4M3 ? 0x7f : 0xff, bytes);
		cuda_place(&c, i);
		/* behind what has none, and merged */
		bool fine = cuda_attend(&c, 0, 16, 16, &c.result) &&
			    cuda_attend(&c, 16, 84, 84, &c.other) &&
			    kvt_cuda_merge(&c.result, &c.other, 4, spec.head_dim, NULL) == 0;
		if (fine && cuda_fetch(&c) && !isnan(c.output[9])) {
			g_test_message("element %d, head_dim %u: NaN in a %s is hidden: %g",
				(int)spec.element, spec.head_dim,
				place == 2 ? "query"
				: place    ? "value"
					   : "key",
				c.output[9]);
			g_test_fail();
		}
		cuda_context_clear(&c);
	}
}

/* Nothing is (0, -infinity), changes nothing, and its output is nobody's. */
static void test_empty(void)
{
	if (!cuda_fixture_ready())
		return;
	cuda_spec spec = { KVT_ELEMENT_BF16, 64, 2, 3, 1, 16, 5, 90, 90, 0, 31 };
	cuda_context c = cuda_context_new(&spec);
	cuda_place(&c, 1);
	size_t rows = cuda_row_count(&c);
	/* into nothing, whose output is made NaN; and from it */
	for (int swapped = 0; swapped < 2; swapped++) {
		kvt_cuda_partial *into = &c.result, *from = &c.other;
		bool fine = cuda_attend(&c, swapped ? 0 : 90, swapped ? 90 : 0, 90, into) &&
			    cuda_attend(&c, swapped ? 90 : 0, swapped ? 0 : 90, 90, from);
		cudaMemset((swapped ? from : into)->output, 0xff, rows * 64 * sizeof(float));
		fine = fine && kvt_cuda_merge(into, from, rows, 64, NULL) == 0;
		if (fine && cuda_fetch(&c))
			cuda_compare(
				&c, swapped ? "merged with nothing" : "nothing merged with it");
	}
	if (cuda_attend(&c, 3, 0, 0, &c.result) && cuda_attend(&c, 3, 0, 0, &c.other) &&
		kvt_cuda_merge(&c.result, &c.other, rows, 64, NULL) == 0 && cuda_fetch(&c))
		for (size_t i = 0; i < rows * 64; i++)
			if (c.output[i] != 0 || c.lse[i / 64] != -INFINITY) {
				g_test_message("nothing is %g, lse %g", c.output[i], c.lse[i / 64]);
				g_test_fail();
				break;
			}
	cuda_context_clear(&c);
}

static void test_refused(void)
{
	if (!cuda_fixture_ready())
		return;
	cuda_spec spec = { KVT_ELEMENT_F16, 64, 1, 4, 1, 16, 0, 64, 64, 0, 13 };
	cuda_context c = cuda_context_new(&spec);
	kvt_cuda_shape bad[] = { c.shape, c.shape, c.shape, c.shape, c.shape, c.shape, c.shape,
		c.shape, c.shape };
	bad[0].head_dim = 96;
	bad[1].heads = 0;
	bad[2].heads = 17;
	bad[3].page_tokens = 8;
	bad[4].page_tokens = 48;
	bad[5].element = KVT_ELEMENT_F32;
	bad[6].kv_heads = 0;
	bad[7].head_stride += 8;
	bad[8].value_offset += 2;
	kvt_cuda_queries queries = { c.device_queries, c.stride, 1 };
	kvt_cuda_window window = { c.device_table, 64, 0, 64, 0 };
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_assert_cmpuint(kvt_cuda_attention_scratch(&bad[i], 1), ==, 0);
		g_assert_cmpint(
			kvt_cuda_attention(&bad[i], &queries, &window, &c.result, c.scratch, NULL),
			==, -EINVAL);
	}
	window.skip = 16;
	g_assert_cmpint(kvt_cuda_attention(&c.shape, &queries, &window, &c.result, c.scratch, NULL),
		==, -EINVAL);
	window.skip = 0;
	window.seen = UINT64_MAX;
	g_assert_cmpint(kvt_cuda_attention(&c.shape, &queries, &window, &c.result, c.scratch, NULL),
		==, -EINVAL);
	cuda_context_clear(&c);
}

/* A recorded layer's keys, values and queries of its last steps, in every format. */
static void test_recorded(void)
{
	if (!cuda_fixture_ready())
		return;
	trace_reference r;
	trace_reference_open(&r);
	for (unsigned e = 0; e < 3; e++) {
		cuda_spec spec = { elements[e], TRACE_DIM, TRACE_KV_HEADS, TRACE_GROUP, 1,
			TRACE_BLOCK, 0, r.n_tokens, r.n_tokens, 0, e };
		cuda_context c = cuda_context_new(&spec);
		size_t bytes = TRACE_DIM * kvt_element_bytes(elements[e]);
		for (uint64_t i = 0; i < r.n_tokens * TRACE_KV_HEADS * 2; i++) {
			uint64_t token = i / 2 / TRACE_KV_HEADS;
			unsigned head = i / 2 % TRACE_KV_HEADS;
			kvt_elements_from_float(elements[e],
				(i % 2 ? r.values : r.keys)[head] + token * TRACE_DIM, TRACE_DIM,
				c.pages + token / TRACE_BLOCK * c.page_bytes +
					head * c.shape.head_stride +
					(i % 2 ? c.shape.value_offset : 0) +
					token % TRACE_BLOCK * bytes);
		}
		float queries[TRACE_KV_HEADS * TRACE_GROUP * TRACE_DIM];
		for (uint64_t step = r.n_steps - MIN(r.n_steps, 3); step < r.n_steps; step++) {
			g_assert_true(kvt_attention_layer_queries(r.layer, step, queries, NULL));
			for (unsigned head = 0; head < TRACE_KV_HEADS; head++)
				memcpy(c.queries + head * c.stride,
					queries + head * TRACE_GROUP * TRACE_DIM,
					TRACE_GROUP * TRACE_DIM * sizeof(float));
			c.spec.n_tokens = c.spec.seen = r.steps[step].position + 1;
			cuda_exact(&c);
			cuda_check(&c, "recorded");
		}
		cuda_context_clear(&c);
	}
	trace_reference_close(&r);
}
#else
static void test_few(void)
{
	cuda_fixture_ready();
}
#endif

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cuda_attention/few", test_few);
#if KVT_CUDA
	g_test_add_func("/cuda_attention/shapes", test_shapes);
	g_test_add_func("/cuda_attention/causal", test_causal);
	g_test_add_func("/cuda_attention/range", test_range);
	g_test_add_func("/cuda_attention/scattered", test_scattered);
	g_test_add_func("/cuda_attention/windows", test_windows);
	g_test_add_func("/cuda_attention/nan", test_nan);
	g_test_add_func("/cuda_attention/empty", test_empty);
	g_test_add_func("/cuda_attention/refused", test_refused);
	g_test_add_func("/cuda_attention/recorded", test_recorded);
#endif
	return g_test_run();
}
