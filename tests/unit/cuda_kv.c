/* cuda_kv.c: KV in a GPU's memory and its comparison with double precision. */
#include "tests/unit/cuda_kv.h"

#include <glib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/base/rng.h"
#include "tests/unit/cuda_fixture.h"

#if KVT_CUDA
#include <cuda_runtime_api.h>

size_t cuda_row_count(const cuda_context *c)
{
	return (size_t)c->spec.kv_heads * c->spec.n_queries * c->spec.heads;
}

/* Where a token's key (0) or value (1) lies in its page. */
static uint8_t *number_at(const cuda_context *c, uint64_t token, uint32_t kv_head, int which)
{
	size_t row = c->spec.head_dim * kvt_element_bytes(c->spec.element);
	return c->pages + token / c->spec.page_tokens * c->page_bytes +
	       kv_head * c->shape.head_stride + (which ? c->shape.value_offset : 0) +
	       token % c->spec.page_tokens * row;
}

static void fill(cuda_context *c)
{
	const cuda_spec *s = &c->spec;
	kvt_rng rng = kvt_rng_init(s->seed, s->head_dim);
	float numbers[128];
	memset(c->pages, s->element == KVT_ELEMENT_E4M3 ? 0x7f : 0xff, c->n_pages * c->page_bytes);
	for (uint64_t token = s->skip; token < s->skip + s->n_tokens; token++)
		for (uint32_t i = 0; i < 2 * s->kv_heads; i++) {
			for (uint32_t k = 0; k < s->head_dim; k++)
				numbers[k] = (float)kvt_rng_normal(&rng);
			kvt_elements_from_float(s->element, numbers, s->head_dim,
				number_at(c, token, i / 2, i % 2));
		}
	for (size_t i = 0; i < s->kv_heads * c->stride; i++)
		c->queries[i] = (float)kvt_rng_normal(&rng);
}

cuda_context cuda_context_new(const cuda_spec *spec)
{
	cuda_context c = { .spec = *spec };
	cuda_spec *s = &c.spec;
	size_t block = (size_t)s->page_tokens * s->head_dim * kvt_element_bytes(s->element);
	c.shape = (kvt_cuda_shape){ .element = s->element,
		.head_dim = s->head_dim,
		.kv_heads = s->kv_heads,
		.heads = s->heads,
		.page_tokens = s->page_tokens,
		.head_stride = 2 * block + 48, /* what lies between is not read */
		.value_offset = block + 16,
		.scale = (s->scale == 0 ? 1 : s->scale) / sqrtf((float)s->head_dim),
		.key_scale = s->element == KVT_ELEMENT_E4M3 ? 1.5f : 1,
		.value_scale = s->element == KVT_ELEMENT_E4M3 ? 0.75f : 1,
		.precision = KVT_CUDA_TWO_HALVES };
	c.n_pages = (uint32_t)((s->skip + s->n_tokens + s->page_tokens - 1) / s->page_tokens) + 1;
	c.page_bytes = s->kv_heads * c.shape.head_stride;
	c.pages = g_malloc(c.n_pages * c.page_bytes);
	c.stride = (size_t)s->n_queries * s->heads * s->head_dim + 4;
	size_t n_queries = s->kv_heads * c.stride, rows = cuda_row_count(&c);
	c.queries = g_new(float, n_queries);
	fill(&c);
	c.exact = g_new(double, rows * s->head_dim);
	c.exact_lse = g_new(double, rows);
	c.reach = g_new(double, rows);
	cuda_exact(&c);
	c.output = g_new(float, rows * s->head_dim);
	c.lse = g_new(float, rows);
	kvt_cuda_partial *partials[] = { &c.result, &c.other };
	for (int i = 0; i < 2; i++) {
		partials[i]->output =
			cuda_fixture_put(NULL, rows * s->head_dim * sizeof(float) + 16);
		partials[i]->lse = cuda_fixture_put(NULL, rows * sizeof(float) + 16);
	}
	c.scratch = cuda_fixture_put(NULL, kvt_cuda_attention_scratch(&c.shape, s->n_queries) + 16);
	return c;
}

void cuda_context_clear(cuda_context *c)
{
	void *memory[] = { c->device_pages, c->device_table, c->device_queries, c->result.output,
		c->result.lse, c->other.output, c->other.lse, c->scratch };
	for (size_t i = 0; i < G_N_ELEMENTS(memory); i++)
		cuda_fixture_free(memory[i]);
	void *own[] = { c->pages, c->queries, c->exact, c->exact_lse, c->reach, c->output, c->lse };
	for (size_t i = 0; i < G_N_ELEMENTS(own); i++)
		g_free(own[i]);
	memset(c, 0, sizeof(*c));
}

void cuda_place(cuda_context *c, uint64_t seed)
{
	kvt_rng rng = kvt_rng_init(seed, 0);
	size_t bytes = c->n_pages * c->page_bytes;
	g_autofree uint32_t *order = g_new(uint32_t, c->n_pages);
	g_autofree const void **table = g_new(const void *, c->n_pages);
	g_autofree uint8_t *pages = g_malloc(bytes);
	for (uint32_t i = 0; i < c->n_pages; i++) {
		uint32_t other = (uint32_t)kvt_rng_below(&rng, i + 1);
		order[i] = order[other];
		order[other] = i;
	}
	cuda_fixture_free(c->device_pages);
	cuda_fixture_free((void *)c->device_table);
	cuda_fixture_free(c->device_queries);
	for (uint32_t i = 0; i < c->n_pages; i++)
		memcpy(pages + order[i] * c->page_bytes, c->pages + i * c->page_bytes,
			c->page_bytes);
	c->device_pages = cuda_fixture_put(pages, bytes);
	for (uint32_t i = 0; i < c->n_pages; i++)
		table[i] = c->device_pages + order[i] * c->page_bytes;
	c->device_table = cuda_fixture_put(table, c->n_pages * sizeof(void *));
	c->device_queries =
		cuda_fixture_put(c->queries, c->spec.kv_heads * c->stride * sizeof(float));
	cudaDeviceSynchronize();
}

bool cuda_attend(const cuda_context *c, uint64_t first, uint64_t n, uint64_t seen,
	const kvt_cuda_partial *into)
{
	uint64_t at = c->spec.skip + first;
	kvt_cuda_queries queries = { c->device_queries, c->stride, c->spec.n_queries };
	kvt_cuda_window window = { .pages = c->device_table + at / c->spec.page_tokens,
		.n_tokens = n,
		.skip = (uint32_t)(at % c->spec.page_tokens),
		.seen = seen,
		.settled = n * (c->spec.seed % 3) / 2 };
	int status = kvt_cuda_attention(&c->shape, &queries, &window, into, c->scratch, NULL);
	if (status == 0)
		return true;
	g_test_message("kvt_cuda_attention: %s", g_strerror(-status));
	g_test_fail();
	return false;
}

bool cuda_fetch(cuda_context *c)
{
	size_t rows = cuda_row_count(c);
	return cuda_fixture_get(c->output, c->result.output,
		       rows * c->spec.head_dim * sizeof(float), "outputs") &&
	       cuda_fixture_get(c->lse, c->result.lse, rows * sizeof(float), "lse");
}

/* The reach of a KV head's rows, and its largest value. */
static void reach_of(cuda_context *c, uint32_t kv_head)
{
	const cuda_spec *s = &c->spec;
	uint32_t rows = s->n_queries * s->heads;
	double factor = fabs((double)c->shape.scale * (double)c->shape.key_scale);
	float key[128]; /* or a value */
	double *reach = c->reach + (size_t)kv_head * rows;
	memset(reach, 0, rows * sizeof(*reach));
	c->most = kv_head == 0 ? 0 : c->most;
	for (uint64_t token = 0; token < s->n_tokens; token++) {
		kvt_elements_to_float(
			s->element, number_at(c, s->skip + token, kv_head, 0), s->head_dim, key);
		for (uint32_t row = 0; row < rows; row++) {
			const float *query =
				c->queries + kv_head * c->stride + (size_t)row * s->head_dim;
			double sum = 0;
			for (uint32_t k = 0; k < s->head_dim; k++)
				sum += fabs((double)query[k] * (double)key[k]);
			if (token < s->seen + row / s->heads)
				reach[row] = MAX(reach[row], factor * sum);
		}
		kvt_elements_to_float(
			s->element, number_at(c, s->skip + token, kv_head, 1), s->head_dim, key);
		for (uint32_t k = 0; k < s->head_dim; k++)
			c->most = MAX(c->most, fabs((double)key[k] * (double)c->shape.value_scale));
	}
}

void cuda_exact(cuda_context *c)
{
	const cuda_spec *s = &c->spec;
	size_t row_bytes = s->head_dim * kvt_element_bytes(s->element);
	kvt_attention_shape shape = { .element = s->element,
		.head_dim = s->head_dim,
		.heads = s->heads,
		.page_tokens = s->page_tokens,
		.key_stride = row_bytes,
		.value_stride = row_bytes,
		.scale = c->shape.scale,
		.key_scale = c->shape.key_scale,
		.value_scale = c->shape.value_scale };
	g_autofree const void **keys = g_new(const void *, c->n_pages);
	g_autofree const void **values = g_new(const void *, c->n_pages);
	size_t rows = (size_t)s->n_queries * s->heads;
	for (uint32_t head = 0; head < s->kv_heads; head++) {
		for (uint32_t i = 0; i < c->n_pages; i++) {
			keys[i] = number_at(c, (uint64_t)i * s->page_tokens, head, 0);
			values[i] = number_at(c, (uint64_t)i * s->page_tokens, head, 1);
		}
		kvt_attention_window window = { keys, values, s->n_tokens, s->skip, s->seen };
		kvt_attention_exact(&shape, c->queries + head * c->stride, s->n_queries, &window,
			c->exact + head * rows * s->head_dim, c->exact_lse + head * rows);
		reach_of(c, head);
	}
}

void cuda_compare(const cuda_context *c, const char *what)
{
	const cuda_spec *s = &c->spec;
	/* a query number is off by 2^-18 of BF16's two halves and 2^-22 of FP16's, a weight, too;
	 * sums are FP32, in tensor cores cut off rather than rounded */
	bool bf16 = s->element == KVT_ELEMENT_BF16;
	double unit = bf16 ? 0x1p-17 : 0x1p-20, worst = 0, worst_lse = 0;
	size_t wrong = 0, wrong_at = 0, n = cuda_row_count(c) * s->head_dim;
	for (size_t i = 0; i < n; i++) {
		size_t row = i / s->head_dim;
		double lse = c->exact_lse[row], off = fabs(c->lse[row] - lse);
		double allowed = unit * c->reach[row] + 2e-7 * fabs(lse) + 1e-6;
		off = lse == c->lse[row] ? 0 : off / allowed;
		double out = fabs(c->output[i] - c->exact[i]);
		out = out == 0 ? 0 : out / (2 * (unit + allowed) * c->most);
		if (!(off <= 1 && out <= 1) && wrong++ == 0)
			wrong_at = i;
		worst = MAX(worst, out);
		worst_lse = MAX(worst_lse, off);
	}
	if (wrong == 0)
		return;
	size_t row = wrong_at / s->head_dim;
	g_test_message("%s: element %d, head_dim %u, %u KV heads, %u heads, %u queries, pages of "
		       "%u, skip %u, %" G_GUINT64_FORMAT " tokens, seen %" G_GUINT64_FORMAT
		       ": %zu of %zu wrong, first [%zu][%zu]: output %g, expected %g, lse %.8g, "
		       "expected %.8g; worst %.3g and %.3g of what is allowed",
		what, (int)s->element, s->head_dim, s->kv_heads, s->heads, s->n_queries,
		s->page_tokens, s->skip, s->n_tokens, s->seen, wrong, n, row,
		wrong_at % s->head_dim, c->output[wrong_at], c->exact[wrong_at], c->lse[row],
		c->exact_lse[row], worst, worst_lse);
	g_test_fail();
}

void cuda_check(cuda_context *c, const char *what)
{
	cuda_place(c, c->spec.seed);
	if (cuda_attend(c, 0, c->spec.n_tokens, c->spec.seen, &c->result) && cuda_fetch(c))
		cuda_compare(c, what);
}
#endif
