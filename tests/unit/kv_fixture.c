/* kv_fixture.c: contexts of random KV in pages, and attention to parts of them. */
#include "tests/unit/kv_fixture.h"

#include <glib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/base/rng.h"

static void random_page(kvt_rng *rng, const kv_context *c, uint8_t *page, double spread)
{
	size_t n = (size_t)c->shape.page_tokens * c->shape.head_dim;
	g_autofree float *numbers = g_new(float, n);
	for (size_t i = 0; i < n; i++)
		numbers[i] = (float)(kvt_rng_normal(rng) * spread);
	kvt_elements_from_float(c->shape.element, numbers, n, page);
}

size_t kv_row_count(const kv_context *c)
{
	return (size_t)c->n_queries * c->shape.heads;
}

kvt_attention_window kv_window_whole(const kv_context *c)
{
	return (kvt_attention_window){
		.keys = c->keys, .values = c->values, .n_tokens = c->n_tokens, .seen = c->n_tokens
	};
}

kv_context kv_context_new(kvt_element element, uint32_t head_dim, uint32_t heads,
	uint32_t page_tokens, uint64_t n_tokens, uint32_t n_queries, uint64_t seed)
{
	kvt_rng rng = kvt_rng_init(seed, head_dim);
	size_t row_bytes = head_dim * kvt_element_bytes(element);
	kv_context c = { .n_tokens = n_tokens, .n_queries = n_queries };
	c.shape = (kvt_attention_shape){ .element = element,
		.head_dim = head_dim,
		.heads = heads,
		.page_tokens = page_tokens,
		.key_stride = row_bytes,
		.value_stride = row_bytes,
		.scale = 1 / sqrtf((float)head_dim),
		.key_scale = element == KVT_ELEMENT_E4M3 ? 1.5f : 1,
		.value_scale = element == KVT_ELEMENT_E4M3 ? 0.75f : 1 };
	c.n_pages = (uint32_t)((n_tokens + page_tokens - 1) / page_tokens);
	c.page_bytes = row_bytes * page_tokens;
	c.memory = g_malloc(2 * c.page_bytes * (c.n_pages + 1));
	c.keys = g_new0(const void *, c.n_pages + 1);
	c.values = g_new0(const void *, c.n_pages + 1);
	for (uint32_t page = 0; page < c.n_pages; page++) {
		/* from the last to the first */
		uint8_t *place = c.memory + 2 * c.page_bytes * (c.n_pages - 1 - page);
		random_page(&rng, &c, place, 1);
		random_page(&rng, &c, place + c.page_bytes, 1);
		c.keys[page] = place;
		c.values[page] = place + c.page_bytes;
	}
	c.queries = g_new(float, kv_row_count(&c) * head_dim);
	for (size_t i = 0; i < kv_row_count(&c) * head_dim; i++)
		c.queries[i] = (float)kvt_rng_normal(&rng) * 2;
	c.exact = g_new(double, kv_row_count(&c) * head_dim);
	c.exact_lse = g_new(double, kv_row_count(&c));
	kvt_attention_window window = kv_window_whole(&c);
	kvt_attention_exact(&c.shape, c.queries, n_queries, &window, c.exact, c.exact_lse);
	return c;
}

void kv_context_clear(kv_context *c)
{
	g_free(c->memory);
	g_free(c->keys);
	g_free(c->values);
	g_free(c->queries);
	g_free(c->exact);
	g_free(c->exact_lse);
}

kvt_attention_partial kv_partial_new(const kv_context *c)
{
	size_t n = kv_row_count(c);
	kvt_attention_partial partial = { .output = g_new(float, n * c->shape.head_dim),
		.lse = g_new(float, n),
		.lse_rest = g_new(float, n) };
	/* what is left from before must not matter */
	memset(partial.output, 0xff, n * c->shape.head_dim * sizeof(float));
	memset(partial.lse, 0xff, n * sizeof(float));
	memset(partial.lse_rest, 0xff, n * sizeof(float));
	return partial;
}

void kv_partial_clear(kvt_attention_partial *partial)
{
	g_free(partial->output);
	g_free(partial->lse);
	g_free(partial->lse_rest);
}

kvt_attention_partial kv_attend(
	const kv_context *c, kvt_isa isa, const kvt_attention_window *window)
{
	kvt_attention_partial partial = kv_partial_new(c);
	size_t bytes = kvt_attention_scratch_bytes(&c->shape, c->n_queries);
	g_assert_cmpuint(bytes % 64, ==, 0);
	void *scratch = aligned_alloc(64, bytes);
	memset(scratch, 0xff, bytes);
	g_assert_cmpint(
		kvt_attention(isa, &c->shape, c->queries, c->n_queries, window, &partial, scratch),
		==, 0);
	free(scratch);
	return partial;
}

/* Tokens [first, first + n) of a context, pages shared. */
kvt_attention_window kv_window_part(const kv_context *c, uint64_t first, uint64_t n)
{
	uint64_t page = first / c->shape.page_tokens;
	return (kvt_attention_window){ .keys = c->keys + page,
		.values = c->values + page,
		.n_tokens = n,
		.skip = (uint32_t)(first % c->shape.page_tokens),
		.seen = n };
}

/* Largest error of outputs and of log-sum-exps, absolute; values are about 1. */
double kv_error(const kv_context *c, const kvt_attention_partial *partial)
{
	double most = 0;
	for (size_t i = 0; i < kv_row_count(c) * c->shape.head_dim; i++) {
		double error = fabs(partial->output[i] - c->exact[i]);
		most = error <= most ? most : error; /* NaN is the largest */
	}
	for (size_t i = 0; i < kv_row_count(c); i++) {
		double error = fabs(partial->lse[i] - c->exact_lse[i]) / 8;
		most = error <= most ? most : error;
	}
	return most;
}
