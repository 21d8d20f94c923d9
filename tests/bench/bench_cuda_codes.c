/*
 * bench_cuda_codes.c: page codes on a CUDA device, of as many pages as a context of a million
 * tokens has: making them, scoring details and means, shares and the best pages; bytes a second
 * that each reads, beside the fastest thing that the device does with memory, setting it. Medians.
 */
#include <stdio.h>

#if KVT_CUDA
#include <cuda_runtime_api.h>
#include <glib.h>
#include <stdlib.h>

#include "kernels/cuda_kernels.h"
#include "tests/bench/cuda_bench.h"

enum { TURNS = 9, HEAD_DIM = 128, HEADS = 7, PAGES = 65536, KV_PAGE = 256, CHOSEN = 4096 };

typedef struct bench {
	kvt_codes codes;
	kvt_cuda_shape shape;
	kvt_code_query query;
	const void **keys; /* lists on the device */
	float *queries, *sums;
	void *memory, *scratch;
	uint32_t *share, *places;
} bench;

static void bench_init(bench *b)
{
	const size_t block = (size_t)KV_PAGE * HEAD_DIM * 2, n = PAGES * 16 / KV_PAGE;
	char *kv = bench_device_memory(n * 2 * block);
	g_autofree const void **list = g_new(const void *, n);
	for (size_t i = 0; i < n; i++)
		list[i] = kv + i * 2 * block;
	b->keys = bench_device_memory(n * sizeof(*list));
	bench_must(cudaMemcpy(b->keys, list, n * sizeof(*list), cudaMemcpyHostToDevice), "a copy");
	b->codes =
		(kvt_codes){ HEAD_DIM, bench_device_memory(kvt_code_means_bytes(HEAD_DIM, PAGES)),
			bench_device_memory(kvt_code_detail_bytes(HEAD_DIM) * PAGES) };
	b->shape = (kvt_cuda_shape){ .element = KVT_ELEMENT_BF16,
		.head_dim = HEAD_DIM,
		.kv_heads = 1,
		.page_tokens = KV_PAGE,
		.head_stride = 2 * block,
		.value_offset = block };
	b->queries = bench_device_memory(HEADS * HEAD_DIM * sizeof(float));
	b->sums = bench_device_memory(sizeof(float) * HEADS * PAGES);
	b->memory = bench_device_memory(kvt_code_query_bytes(HEAD_DIM, HEADS));
	b->scratch = bench_device_memory(8 * HEADS);
	b->share = bench_device_memory(sizeof(uint32_t) * PAGES);
	b->places = bench_device_memory(sizeof(uint32_t) * CHOSEN);
}

static int set_memory(void *arg)
{
	bench *b = arg;
	const size_t bytes = kvt_code_detail_bytes(HEAD_DIM) * PAGES;
	return cudaMemsetAsync(b->codes.details, 0x5a, bytes, NULL) == cudaSuccess ? 0 : -1;
}

static int build(void *arg)
{
	bench *b = arg;
	return kvt_cuda_code_build(
		&b->codes, &b->shape, 0, (const void *const *)b->keys, 0, PAGES, NULL, NULL, NULL);
}

static int prepare(void *arg)
{
	bench *b = arg;
	return kvt_cuda_code_query(&b->query, HEAD_DIM, HEADS, b->queries, 0.09f, b->memory, NULL);
}

static int score(void *arg)
{
	bench *b = arg;
	const kvt_page_list all = { PAGES, 0, NULL };
	return kvt_cuda_code_score(&b->codes, &b->query, &all, b->sums, PAGES, NULL);
}

static int score_means(void *arg)
{
	bench *b = arg;
	const kvt_page_list all = { PAGES, 0, NULL };
	return kvt_cuda_code_score_means(&b->codes, &b->query, &all, b->sums, PAGES, NULL);
}

static int shares(void *arg)
{
	bench *b = arg;
	return kvt_cuda_group_shares(b->sums, PAGES, HEADS, PAGES, b->share, b->scratch, NULL);
}

static int choose(void *arg)
{
	bench *b = arg;
	return kvt_cuda_top_pages(b->share, PAGES, CHOSEN, b->places, NULL);
}

static void measure(bench *b, const char *name, int (*work)(void *b), double bytes)
{
	const double ms = bench_kernel_ms(work, b, TURNS, name);
	printf("%-34s %8.4f ms %7.0f GB/s\n", name, ms, bytes / ms / 1e6);
}

int main(void)
{
	int n = 0;
	if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) {
		printf("no CUDA device: nothing is measured\n");
		return 0;
	}
	bench b;
	bench_init(&b);
	const double details = (double)kvt_code_detail_bytes(HEAD_DIM) * PAGES;
	const double means = (double)kvt_code_mean_bytes(HEAD_DIM) * PAGES;
	printf("%d pages of 16 tokens, head_dim %d, %d heads\n", PAGES, HEAD_DIM, HEADS);
	measure(&b, "memory is set", set_memory, details);
	measure(&b, "codes are made", build, 16.0 * PAGES * HEAD_DIM * 2);
	measure(&b, "queries are made ready", prepare, HEADS * HEAD_DIM * 4.0);
	measure(&b, "means are scored", score_means, means);
	measure(&b, "details are scored", score, details + means);
	measure(&b, "shares", shares, 8.0 * HEADS * PAGES);
	measure(&b, "the best 4096", choose, 4.0 * 4 * PAGES);
	return 0;
}
#else
int main(void)
{
	printf("built without CUDA: nothing is measured\n");
	return 0;
}
#endif
