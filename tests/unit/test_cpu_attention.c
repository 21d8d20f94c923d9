/*
 * test_cpu_attention.c: the CPU device's attention cut into stretches for threads: merged, they are
 * what double precision says, whatever memory held before.
 */
#include <glib.h>
#include <math.h>

#include "emu/device/cpu_attention.h"

enum { KV_HEADS = 2, GROUP = 3, DIM = 32, PAGE = 16, TOKENS = 500 };

static void fill(float *numbers, size_t n, float value)
{
	for (size_t i = 0; i < n; i++)
		numbers[i] = value;
}

/* One query token at position TOKENS - 1, `threads` threads. */
static void check(unsigned threads)
{
	kvt_kv_source source = { .seed = threads };
	source.shape = (kvt_kv_shape){ .element = KVT_ELEMENT_BF16,
		.layers = 1,
		.kv_heads = KV_HEADS,
		.heads = GROUP,
		.head_dim = DIM,
		.page_tokens = PAGE,
		.scale = 1 / sqrtf(DIM),
		.block_bytes = PAGE * DIM * 2,
		.page_bytes = 2 * KV_HEADS * PAGE * DIM * 2 };
	const kvt_kv_shape *shape = &source.shape;
	const uint64_t n_pages = TOKENS / PAGE + 1;
	g_autofree uint8_t *pages = g_malloc0(n_pages * shape->page_bytes);
	kvt_kv_source_fill(&source, 0, 0, TOKENS, pages);
	kvt_cpu_queries q = { 0 };
	kvt_cpu_queries_reserve(&q, shape, 1);
	const size_t rows = KV_HEADS * GROUP;
	fill(q.so_far.output, rows * DIM, NAN);
	fill(q.so_far.lse, rows, NAN);
	fill(q.so_far.lse_rest, rows, NAN);
	float queries[KV_HEADS * GROUP * DIM];
	for (unsigned head = 0; head < KV_HEADS; head++)
		kvt_kv_source_queries(
			&source, 0, head, TOKENS - 1, 1, queries + head * GROUP * DIM);
	q.queries = queries;
	q.stride = GROUP * DIM;
	kvt_cpu_attention attention;
	kvt_cpu_attention_init(&attention, &source, kvt_isa_best(), threads);
	const kvt_work work = { .kind = KVT_WORK_ATTENTION,
		.tokens = 1,
		.kv_tokens = TOKENS - 1,
		.causal = 1,
		.position = TOKENS - 1 };
	kvt_cpu_attention_begin(&attention, &work, pages, 0, &q);
	for (unsigned i = 0; i < attention.n_tasks; i++)
		kvt_cpu_attention_task(&attention, i, i % threads);
	kvt_cpu_attention_end(&attention);
	g_assert_cmpint(attention.status, ==, 0);
	kvt_attention_shape kernel = kvt_kv_attention_shape(shape);
	g_autofree const void **keys = g_new(const void *, n_pages);
	g_autofree const void **values = g_new(const void *, n_pages);
	for (unsigned head = 0; head < KV_HEADS; head++) {
		double exact[GROUP * DIM], lse[GROUP];
		for (uint64_t i = 0; i < n_pages; i++) {
			keys[i] = pages + i * shape->page_bytes + 2 * head * shape->block_bytes;
			values[i] = (const uint8_t *)keys[i] + shape->block_bytes;
		}
		kvt_attention_window window = {
			.keys = keys, .values = values, .n_tokens = TOKENS, .seen = TOKENS
		};
		kvt_attention_exact(&kernel, queries + head * GROUP * DIM, 1, &window, exact, lse);
		for (unsigned i = 0; i < GROUP * DIM; i++)
			g_assert_cmpfloat_with_epsilon(
				q.so_far.output[head * GROUP * DIM + i], exact[i], 1e-5);
		for (unsigned i = 0; i < GROUP; i++)
			g_assert_cmpfloat_with_epsilon(
				q.so_far.lse[head * GROUP + i], lse[i], 1e-5);
	}
	kvt_cpu_attention_clear(&attention);
	kvt_cpu_queries_clear(&q);
}

static void test_stretches(void)
{
	for (unsigned threads = 1; threads <= 7; threads++)
		check(threads);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpu-attention/stretches", test_stretches);
	return g_test_run();
}
