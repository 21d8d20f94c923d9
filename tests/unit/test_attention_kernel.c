/* test_attention_kernel.c: attention over pages and the merge of its parts against double
 * precision: every instruction set, number format and odd size, and the bugs that such code has
 * had. */
#include <errno.h>
#include <glib.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>

#include "sim/base/rng.h"
#include "tests/unit/kv_fixture.h"

static const kvt_element elements[] = { KVT_ELEMENT_F16, KVT_ELEMENT_BF16, KVT_ELEMENT_E4M3 };

#define EACH_ISA(isa)                                                                              \
	for (kvt_isa isa = KVT_ISA_SCALAR; isa < KVT_ISA_COUNT; isa++)                             \
		if (kvt_isa_supported(isa))

static void test_sizes(void)
{
	static const uint32_t dims[] = { 16, 32, 48, 64, 80, 96, 128, 160, 256, 512 };
	static const uint32_t heads[] = { 1, 2, 3, 4, 5, 7, 8, 13 };
	static const uint32_t pages[] = { 16, 1, 17, 64, 100 };
	static const uint64_t tokens[] = { 1, 2, 3, 4, 15, 16, 17, 63, 64, 65, 66, 129, 700 };
	for (size_t i = 0; i < 390; i++) {
		kv_context c = kv_context_new(elements[i % 3], dims[i % 10], heads[i / 3 % 8],
			pages[i / 7 % 5], tokens[i % 13], 1 + (uint32_t)(i % 2), i);
		kvt_attention_window window = kv_window_whole(&c);
		EACH_ISA(isa)
		{
			kvt_attention_partial partial = kv_attend(&c, isa, &window);
			g_assert_cmpfloat(kv_error(&c, &partial), <, 1e-5);
			kv_partial_clear(&partial);
		}
		kv_context_clear(&c);
	}
}

/* Pages that follow each other in memory, which a single row takes in turn, in parts of tiles: the
 * largest logit comes late, so that sums of earlier parts are made relative to it, and NaN counts
 * wherever it lies. */
static void test_in_order(void)
{
	static const uint32_t dims[] = { 64, 128, 96, 16 }, pages[] = { 16, 16, 24, 5 };
	for (size_t i = 0; i < 24; i++) {
		kv_context c = kv_context_new(
			elements[i % 3], dims[i % 4], 1 + i / 12, pages[i % 4], 203, 1, 100 + i);
		for (uint32_t a = 0, b = c.n_pages - 1; a < b; a++, b--) {
			const void *key = c.keys[a], *value = c.values[a];
			c.keys[a] = c.keys[b];
			c.values[a] = c.values[b];
			c.keys[b] = key;
			c.values[b] = value;
		}
		const uint32_t late = 37;
		uint8_t *key = (uint8_t *)c.keys[late / pages[i % 4]] +
			       late % pages[i % 4] * c.shape.key_stride;
		float numbers[128];
		for (uint32_t k = 0; k < dims[i % 4]; k++)
			numbers[k] = 6 * c.queries[k];
		kvt_elements_from_float(elements[i % 3], numbers, dims[i % 4], key);
		kvt_attention_window window = kv_window_whole(&c);
		kvt_attention_exact(&c.shape, c.queries, 1, &window, c.exact, c.exact_lse);
		EACH_ISA(isa)
		{
			kvt_attention_partial partial = kv_attend(&c, isa, &window);
			g_assert_cmpfloat(kv_error(&c, &partial), <, 1e-5);
			kv_partial_clear(&partial);
		}
		numbers[3] = NAN;
		kvt_elements_from_float(elements[i % 3], numbers, dims[i % 4], key);
		EACH_ISA(isa)
		{
			kvt_attention_partial partial = kv_attend(&c, isa, &window);
			g_assert_true(isnan(partial.lse[0]) && isnan(partial.output[5]));
			kv_partial_clear(&partial);
		}
		kv_context_clear(&c);
	}
}

/* Query tokens that see each other causally, as far as skipped tokens and page ends allow. */
static void test_causal(void)
{
	for (uint32_t heads = 1; heads <= 6; heads++) {
		kv_context c = kv_context_new(KVT_ELEMENT_BF16, 64, heads, 16, 200, 70, heads);
		for (uint64_t seen = 0; seen <= 130; seen += 65) {
			kvt_attention_window window = kv_window_part(&c, 7, 190);
			window.seen = seen;
			kvt_attention_exact(
				&c.shape, c.queries, c.n_queries, &window, c.exact, c.exact_lse);
			EACH_ISA(isa)
			{
				kvt_attention_partial partial = kv_attend(&c, isa, &window);
				if (seen == 0)
					for (uint32_t row = 0; row < heads; row++) {
						g_assert_true(partial.lse[row] == -INFINITY);
						partial.lse[row] = 0;
						c.exact_lse[row] = 0;
					}
				g_assert_cmpfloat(kv_error(&c, &partial), <, 1e-5);
				kv_partial_clear(&partial);
			}
		}
		kv_context_clear(&c);
	}
}

/* Softmax over the whole row of logits, all in FP32 and in memory, as frameworks do it. */
static void resident_row(const kv_context *c, size_t row, float *out)
{
	g_autofree float *logits = g_new(float, c->n_tokens);
	float numbers[512], most = -INFINITY, weight = 0;
	const float *query = c->queries + row * c->shape.head_dim;
	for (int pass = 0; pass < 2; pass++)
		for (uint64_t t = 0; t < c->n_tokens; t++) {
			const uint8_t *page =
				(pass ? c->values : c->keys)[t / c->shape.page_tokens];
			kvt_elements_to_float(c->shape.element,
				page + t % c->shape.page_tokens * c->shape.key_stride,
				c->shape.head_dim, numbers);
			float sum = 0, share = pass ? expf(logits[t] - most) : 0;
			weight += share;
			for (uint32_t i = 0; i < c->shape.head_dim; i++) {
				if (pass)
					out[i] = (t ? out[i] : 0) + share * numbers[i];
				else
					sum += query[i] * numbers[i];
			}
			if (!pass) {
				logits[t] = sum * c->shape.scale;
				most = MAX(most, logits[t]);
			}
		}
	for (uint32_t i = 0; i < c->shape.head_dim; i++)
		out[i] /= weight;
}

static double squares(const kv_context *c, const float *output)
{
	double sum = 0;
	for (size_t i = 0; i < kv_row_count(c) * c->shape.head_dim; i++)
		sum += pow(output[i] - c->exact[i], 2);
	return sum;
}

/* Attends to windows of `size` tokens in random order and merges as they come. */
static kvt_attention_partial in_windows(
	const kv_context *c, kvt_isa isa, uint64_t size, uint64_t seed, uint64_t dropped)
{
	uint64_t n = (c->n_tokens + size - 1) / size;
	g_autofree uint64_t *order = g_new(uint64_t, n);
	kvt_rng rng = kvt_rng_init(seed, 1);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t other = kvt_rng_below(&rng, i + 1);
		order[i] = order[other];
		order[other] = i;
	}
	kvt_attention_window none = kv_window_part(c, 0, 0);
	kvt_attention_partial all = kv_attend(c, isa, &none);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t first = order[i] * size;
		if (order[i] == dropped)
			continue;
		kvt_attention_window window =
			kv_window_part(c, first, MIN(size, c->n_tokens - first));
		kvt_attention_partial partial = kv_attend(c, isa, &window);
		kvt_attention_merge(&all, &partial, kv_row_count(c), c->shape.head_dim);
		kv_partial_clear(&partial);
	}
	return all;
}

/* Errors are no larger than those of an FP32 computation that has everything in memory. */
static void test_error(void)
{
	for (int e = 0; e < 2; e++) {
		kv_context c = kv_context_new(elements[e], 128, 4, 16, 8000, 2, 5);
		g_autofree float *resident = g_new(float, kv_row_count(&c) * 128);
		for (size_t row = 0; row < kv_row_count(&c); row++)
			resident_row(&c, row, resident + row * 128);
		double allowed = squares(&c, resident);
		EACH_ISA(isa)
		{
			kvt_attention_window window = kv_window_whole(&c);
			kvt_attention_partial partial = kv_attend(&c, isa, &window);
			g_assert_cmpfloat(squares(&c, partial.output), <=, allowed);
			kv_partial_clear(&partial);
			static const uint64_t sizes[] = { 1, 16, 64, 999, 7999 };
			for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
				partial = in_windows(&c, isa, sizes[i], i, UINT64_MAX);
				g_assert_cmpfloat(squares(&c, partial.output), <=, allowed);
				kv_partial_clear(&partial);
			}
		}
		kv_context_clear(&c);
	}
}

/* Many rows at once, as in prefill: errors as small, and what one query token does not see, NaN
 * too, does not reach it. */
static void test_chunk(void)
{
	for (int e = 0; e < 2; e++) {
		kv_context c = kv_context_new(elements[e], 96, 5, 16, 700, 9, 21);
		g_autofree float *resident = g_new(float, kv_row_count(&c) * 96);
		for (size_t row = 0; row < kv_row_count(&c); row++)
			resident_row(&c, row, resident + row * 96);
		double allowed = squares(&c, resident);
		kvt_attention_window window = kv_window_whole(&c);
		EACH_ISA(isa)
		{
			kvt_attention_partial all = kv_attend(&c, isa, &window);
			g_assert_cmpfloat(squares(&c, all.output), <=, allowed);
			kv_partial_clear(&all);
		}
		window.seen = 692;
		memset((char *)c.values[699 / 16] + 699 % 16 * c.shape.value_stride, 0xff, 2);
		EACH_ISA(isa)
		{
			kvt_attention_partial all = kv_attend(&c, isa, &window);
			for (size_t row = 0; row < kv_row_count(&c); row++)
				g_assert_cmpint(isnan(all.output[row * 96]) != 0, ==, row / 5 == 8);
			kv_partial_clear(&all);
		}
		kv_context_clear(&c);
	}
}

/* Any windows in any order are the whole; without one of them they are not. */
static void test_windows(void)
{
	kv_context c = kv_context_new(KVT_ELEMENT_F16, 64, 4, 16, 1000, 1, 3);
	static const uint64_t sizes[] = { 1, 3, 16, 111, 333, 999, 1000 };
	EACH_ISA(isa)
	{
		for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
			kvt_attention_partial all = in_windows(&c, isa, sizes[i], i, UINT64_MAX);
			g_assert_cmpfloat(kv_error(&c, &all), <, 1e-5);
			kv_partial_clear(&all);
			uint64_t n = (1000 + sizes[i] - 1) / sizes[i];
			for (uint64_t dropped = 0; dropped < n; dropped += MAX(n / 8, 1)) {
				all = in_windows(&c, isa, sizes[i], i, dropped);
				g_assert_false(kv_error(&c, &all) < 2e-5);
				kv_partial_clear(&all);
			}
		}
	}
	kv_context_clear(&c);
}

/* ((a b) (c d)) is (((a b) c) d) and (a (b (c d))). */
static void test_associative(void)
{
	kv_context c = kv_context_new(KVT_ELEMENT_BF16, 64, 4, 16, 400, 2, 4);
	size_t n = kv_row_count(&c);
	for (int tree = 0; tree < 3; tree++) {
		static const int into[3][3] = { { 0, 2, 0 }, { 0, 0, 0 }, { 2, 1, 0 } };
		static const int from[3][3] = { { 1, 3, 2 }, { 1, 2, 3 }, { 3, 2, 1 } };
		kvt_attention_partial part[4];
		for (uint64_t i = 0; i < 4; i++) {
			kvt_attention_window window = kv_window_part(&c, i * 100, 100);
			part[i] = kv_attend(&c, kvt_isa_best(), &window);
		}
		for (int i = 0; i < 3; i++)
			kvt_attention_merge(
				&part[into[tree][i]], &part[from[tree][i]], n, c.shape.head_dim);
		g_assert_cmpfloat(kv_error(&c, &part[0]), <, 2e-6);
		for (int i = 0; i < 4; i++)
			kv_partial_clear(&part[i]);
	}
	kv_context_clear(&c);
}

static void assert_empty(const kv_context *c, const kvt_attention_partial *partial)
{
	for (size_t i = 0; i < kv_row_count(c) * c->shape.head_dim; i++)
		g_assert_true(partial->output[i] == 0);
	for (size_t i = 0; i < kv_row_count(c); i++)
		g_assert_true(partial->lse[i] == -INFINITY);
}

/* Nothing is (0, -infinity), also when it is merged with nothing, and changes nothing. */
static void test_empty(void)
{
	kv_context c = kv_context_new(KVT_ELEMENT_BF16, 64, 4, 16, 100, 2, 6);
	size_t n = kv_row_count(&c);
	EACH_ISA(isa)
	{
		kvt_attention_window none = { 0 }, window = kv_window_whole(&c);
		kvt_attention_partial empty = kv_attend(&c, isa, &none);
		kvt_attention_partial other = kv_attend(&c, isa, &none);
		kvt_attention_partial all = kv_attend(&c, isa, &window);
		assert_empty(&c, &empty);
		kvt_attention_merge(&empty, &other, n, 64);
		assert_empty(&c, &empty);
		/* an empty part's output is nobody's */
		for (size_t i = 0; i < n * 64; i++)
			empty.output[i] = other.output[i] = NAN;
		kvt_attention_merge(&all, &other, n, 64);
		g_assert_cmpfloat(kv_error(&c, &all), <, 1e-5);
		kvt_attention_merge(&other, &empty, n, 64);
		assert_empty(&c, &other);
		kvt_attention_merge(&empty, &all, n, 64);
		g_assert_cmpfloat(kv_error(&c, &empty), <, 1e-5);
		kv_partial_clear(&empty);
		kv_partial_clear(&other);
		kv_partial_clear(&all);
	}
	kv_context_clear(&c);
}

/* Logits beyond any finite stand-in for minus infinity, and minus infinity itself. */
static void test_no_sentinel(void)
{
	static const float far[] = { -1e30f, -1e31f, -1e37f };
	kv_context c = kv_context_new(KVT_ELEMENT_BF16, 32, 4, 16, 40, 1, 7);
	c.shape.scale = 1;
	for (size_t i = 0; i < G_N_ELEMENTS(far); i++) {
		float query[32] = { 1 }, key[32] = { far[i] }, rounded;
		for (uint32_t row = 0; row < 4; row++)
			memcpy(c.queries + (size_t)row * 32, query, sizeof(query));
		for (uint32_t t = 0; t < 40; t++)
			kvt_elements_from_float(KVT_ELEMENT_BF16, key, 32,
				(char *)c.keys[t / 16] + t % 16 * c.shape.key_stride);
		kvt_elements_to_float(KVT_ELEMENT_BF16, c.keys[0], 1, &rounded);
		kvt_attention_window window = kv_window_whole(&c);
		kvt_attention_exact(&c.shape, c.queries, 1, &window, c.exact, c.exact_lse);
		EACH_ISA(isa)
		{
			kvt_attention_partial all = kv_attend(&c, isa, &window);
			kvt_attention_window none = { 0 };
			kvt_attention_partial empty = kv_attend(&c, isa, &none);
			kvt_attention_merge(&empty, &all, 4, 32);
			for (uint32_t row = 0; row < 4; row++) {
				g_assert_cmpfloat(fabsf(empty.lse[row] / rounded - 1), <, 1e-6f);
				empty.lse[row] = (float)c.exact_lse[row];
				c.exact_lse[row] = empty.lse[row];
			}
			g_assert_cmpfloat(kv_error(&c, &empty), <, 1e-5);
			kv_partial_clear(&empty);
			kv_partial_clear(&all);
		}
	}
	/* keys of -infinity have no weight; a window of them is empty */
	uint16_t infinite = 0xff80;
	for (uint32_t t = 0; t < 40; t++)
		memcpy((char *)c.keys[t / 16] + t % 16 * c.shape.key_stride, &infinite, 2);
	EACH_ISA(isa)
	{
		kvt_attention_window window = kv_window_whole(&c);
		kvt_attention_partial all = kv_attend(&c, isa, &window);
		assert_empty(&c, &all);
		kv_partial_clear(&all);
	}
	kv_context_clear(&c);
}

/* Logits are e's, not 2's: the log-sum-exp of equal logits x over n tokens is x + ln n. */
static void test_natural_logarithm(void)
{
	kv_context c = kv_context_new(KVT_ELEMENT_F16, 32, 2, 16, 48, 1, 8);
	for (size_t i = 0; i < c.n_pages; i++)
		memset((void *)c.keys[i], 0, c.page_bytes);
	EACH_ISA(isa)
	{
		kvt_attention_window window = kv_window_whole(&c);
		kvt_attention_partial all = kv_attend(&c, isa, &window);
		g_assert_cmpfloat(fabs(all.lse[0] - log(48)), <, 1e-6);
		kvt_attention_partial same = kv_attend(&c, isa, &window);
		kvt_attention_merge(&all, &same, 2, 32);
		g_assert_cmpfloat(fabs(all.lse[1] - log(96)), <, 1e-6);
		kv_partial_clear(&all);
		kv_partial_clear(&same);
	}
	kv_context_clear(&c);
}

/* What pads the first and last page is not read, NaN or not. */
static void test_padding(void)
{
	for (uint64_t n = 1; n < 40; n++) {
		kv_context c = kv_context_new(KVT_ELEMENT_BF16, 64, 4, 16, 64, 1, n);
		kvt_attention_window window = kv_window_part(&c, 5, n);
		kvt_attention_exact(&c.shape, c.queries, 1, &window, c.exact, c.exact_lse);
		for (uint64_t t = 0; t < 64; t++)
			if (t < 5 || t >= 5 + n) {
				size_t at = t % 16 * c.shape.key_stride;
				memset((char *)c.keys[t / 16] + at, 0xff, c.shape.key_stride);
				memset((char *)c.values[t / 16] + at, 0xff, c.shape.key_stride);
			}
		EACH_ISA(isa)
		{
			kvt_attention_partial all = kv_attend(&c, isa, &window);
			g_assert_cmpfloat(kv_error(&c, &all), <, 1e-5);
			kv_partial_clear(&all);
		}
		kv_context_clear(&c);
	}
}

/* NaN that is seen is not hidden, in a key, a value or a query; nor by a merge. */
static void test_nan(void)
{
	for (int e = 0; e < 3; e++)
		for (int place = 0; place < 3; place++) {
			kv_context c = kv_context_new(elements[e], 64, 4, 16, 100, 1, 9);
			size_t bytes = kvt_element_bytes(elements[e]);
			if (place < 2)
				memset((char *)(place ? c.values : c.keys)[3] + 9 * bytes, 0xff,
					bytes);
			else
				c.queries[9] = NAN;
			EACH_ISA(isa)
			{
				kvt_attention_window window = kv_window_whole(&c),
						     part = kv_window_part(&c, 0, 16);
				kvt_attention_partial all = kv_attend(&c, isa, &window);
				kvt_attention_partial first = kv_attend(&c, isa, &part);
				g_assert_true(isnan(all.output[9]));
				kvt_attention_merge(&first, &all, 4, 64);
				g_assert_true(isnan(first.output[9]));
				kv_partial_clear(&all);
				kv_partial_clear(&first);
			}
			kv_context_clear(&c);
		}
}

/* More than 64K tokens a page, and tokens that lie further than 32 bits apart. */
static void test_strides(void)
{
	kv_context c = kv_context_new(KVT_ELEMENT_BF16, 32, 1, 70000, 69999, 1, 10);
	kvt_attention_window window = kv_window_whole(&c);
	EACH_ISA(isa)
	{
		kvt_attention_partial all = kv_attend(&c, isa, &window);
		g_assert_cmpfloat(kv_error(&c, &all), <, 1e-5);
		kv_partial_clear(&all);
	}
	kv_context_clear(&c);
	enum { TOKENS = 20 };
	const size_t stride = (size_t)300 << 20, bytes = TOKENS * stride;
	uint8_t *sparse = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sparse == MAP_FAILED) {
		g_test_skip("no address space for 6 GB");
		return;
	}
	c = kv_context_new(KVT_ELEMENT_BF16, 32, 1, TOKENS, TOKENS, 1, 11);
	for (uint32_t t = 0; t < TOKENS; t++) {
		memcpy(sparse + t * stride, (const char *)c.keys[0] + t * 64, 64);
		memcpy(sparse + t * stride + 64, (const char *)c.values[0] + t * 64, 64);
	}
	const void *keys = sparse, *values = sparse + 64;
	c.shape.key_stride = c.shape.value_stride = stride;
	window = (kvt_attention_window){ &keys, &values, TOKENS, 0, TOKENS };
	EACH_ISA(isa)
	{
		kvt_attention_partial all = kv_attend(&c, isa, &window);
		g_assert_cmpfloat(kv_error(&c, &all), <, 1e-5);
		kv_partial_clear(&all);
	}
	kv_context_clear(&c);
	munmap(sparse, bytes);
}

/* Logits from -300 to 300, rising and falling: sums are made relative to each new maximum. */
static void test_range(void)
{
	kv_context c = kv_context_new(KVT_ELEMENT_F16, 64, 4, 16, 600, 1, 12);
	for (int falling = 0; falling < 2; falling++) {
		for (uint32_t t = 0; t < 600; t++) {
			float key[64] = { 0 };
			key[0] = (falling ? 300.0f - (float)t : (float)t - 300.0f);
			kvt_elements_from_float(KVT_ELEMENT_F16, key, 64,
				(char *)c.keys[t / 16] + t % 16 * c.shape.key_stride);
		}
		for (uint32_t row = 0; row < 4; row++)
			c.queries[row * 64] = 8 * (row % 2 ? -0.5f : 1);
		kvt_attention_window window = kv_window_whole(&c);
		kvt_attention_exact(&c.shape, c.queries, 1, &window, c.exact, c.exact_lse);
		EACH_ISA(isa)
		{
			kvt_attention_partial all = kv_attend(&c, isa, &window);
			for (uint32_t row = 0; row < 4; row++)
				g_assert_cmpfloat(
					fabs(all.lse[row] / c.exact_lse[row] - 1), <, 1e-6);
			memset(all.lse, 0, 4 * sizeof(float));
			memset(c.exact_lse, 0, 4 * sizeof(double));
			g_assert_cmpfloat(kv_error(&c, &all), <, 4e-5);
			kv_partial_clear(&all);
			kvt_attention_exact(&c.shape, c.queries, 1, &window, c.exact, c.exact_lse);
		}
	}
	kv_context_clear(&c);
}

static double e4m3_value(unsigned byte)
{
	unsigned exponent = byte >> 3 & 15, mantissa = byte & 7;
	double value = exponent ? ldexp(8 + mantissa, (int)exponent - 10) : ldexp(mantissa, -9);
	return byte & 0x80 ? -value : value;
}

/* All numbers there are; halfway between two goes to the even one. */
static void test_e4m3(void)
{
	for (unsigned byte = 0; byte < 256; byte++) {
		uint8_t in = (uint8_t)byte, back[3];
		float value, between[3];
		kvt_elements_to_float(KVT_ELEMENT_E4M3, &in, 1, &value);
		if ((byte & 0x7f) == 0x7f) {
			g_assert_true(isnan(value));
			kvt_elements_from_float(KVT_ELEMENT_E4M3, &value, 1, back);
			g_assert_cmpuint(back[0] & 0x7f, ==, 0x7f);
			continue;
		}
		g_assert_true(value == e4m3_value(byte));
		g_assert_true(!signbit(value) == (byte < 128));
		between[0] = value;
		if ((byte & 0x7f) < 0x7e) {
			float middle = (float)((e4m3_value(byte) + e4m3_value(byte + 1)) / 2);
			between[1] = middle;
			between[2] = nextafterf(middle, value);
			kvt_elements_from_float(KVT_ELEMENT_E4M3, between, 3, back);
			g_assert_cmpuint(back[1], ==, byte & 1 ? byte + 1 : byte);
			g_assert_cmpuint(back[2], ==, byte);
		} else {
			kvt_elements_from_float(KVT_ELEMENT_E4M3, between, 1, back);
		}
		g_assert_cmpuint(back[0], ==, byte);
	}
	static const float large[] = { 449, 1e9f, INFINITY, -INFINITY };
	uint8_t out[4];
	kvt_elements_from_float(KVT_ELEMENT_E4M3, large, 4, out);
	g_assert_cmpuint(out[0], ==, 0x7e);
	g_assert_cmpuint(out[1], ==, 0x7e);
	g_assert_cmpuint(out[2], ==, 0x7e);
	g_assert_cmpuint(out[3], ==, 0xfe);
}

static void test_refused(void)
{
	kv_context c = kv_context_new(KVT_ELEMENT_F16, 64, 4, 16, 64, 1, 13);
	kvt_attention_partial partial = kv_partial_new(&c);
	kvt_attention_window window = kv_window_whole(&c);
	size_t bytes = kvt_attention_scratch_bytes(&c.shape, 1);
	void *scratch = aligned_alloc(64, bytes);
	kvt_attention_shape bad[] = { c.shape, c.shape, c.shape, c.shape, c.shape, c.shape };
	bad[0].head_dim = 0;
	bad[1].head_dim = 72;
	bad[2].head_dim = 528;
	bad[3].heads = 0;
	bad[4].page_tokens = 0;
	bad[5].element = KVT_ELEMENT_F32;
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_assert_cmpuint(kvt_attention_scratch_bytes(&bad[i], 1), ==, 0);
		g_assert_cmpint(kvt_attention(KVT_ISA_SCALAR, &bad[i], c.queries, 1, &window,
					&partial, scratch),
			==, -EINVAL);
	}
	g_assert_cmpint(
		kvt_attention(KVT_ISA_COUNT, &c.shape, c.queries, 1, &window, &partial, scratch),
		==, -ENOTSUP);
	window.skip = 16;
	g_assert_cmpint(
		kvt_attention(KVT_ISA_SCALAR, &c.shape, c.queries, 1, &window, &partial, scratch),
		==, -EINVAL);
	window.skip = 0;
	window.seen = UINT64_MAX;
	g_assert_cmpint(
		kvt_attention(KVT_ISA_SCALAR, &c.shape, c.queries, 1, &window, &partial, scratch),
		==, -EINVAL);
	free(scratch);
	kv_partial_clear(&partial);
	kv_context_clear(&c);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/attention_kernel/sizes", test_sizes);
	g_test_add_func("/attention_kernel/in_order", test_in_order);
	g_test_add_func("/attention_kernel/causal", test_causal);
	g_test_add_func("/attention_kernel/error", test_error);
	g_test_add_func("/attention_kernel/chunk", test_chunk);
	g_test_add_func("/attention_kernel/windows", test_windows);
	g_test_add_func("/attention_kernel/associative", test_associative);
	g_test_add_func("/attention_kernel/empty", test_empty);
	g_test_add_func("/attention_kernel/no_sentinel", test_no_sentinel);
	g_test_add_func("/attention_kernel/natural_logarithm", test_natural_logarithm);
	g_test_add_func("/attention_kernel/padding", test_padding);
	g_test_add_func("/attention_kernel/nan", test_nan);
	g_test_add_func("/attention_kernel/strides", test_strides);
	g_test_add_func("/attention_kernel/range", test_range);
	g_test_add_func("/attention_kernel/e4m3", test_e4m3);
	g_test_add_func("/attention_kernel/refused", test_refused);
	return g_test_run();
}
