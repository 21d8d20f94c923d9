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

static void must(cudaError_t error, const char *what)
{
	if (error != cudaSuccess) {
		fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
		exit(1);
	}
}

static void *device_memory(size_t bytes)
{
	void *p;
	must(cudaMalloc(&p, bytes), "device memory");
	must(cudaMemset(p, 0x3c, bytes), "setting");
	return p;
}

static void bench_init(bench *b)
{
	const size_t block = (size_t)KV_PAGE * HEAD_DIM * 2, n = PAGES * 16 / KV_PAGE;
	char *kv = device_memory(n * 2 * block);
	g_autofree const void **list = g_new(const void *, n);
	for (size_t i = 0; i < n; i++)
		list[i] = kv + i * 2 * block;
	b->keys = device_memory(n * sizeof(*list));
	must(cudaMemcpy(b->keys, list, n * sizeof(*list), cudaMemcpyHostToDevice), "a copy");
	b->codes = (kvt_codes){ HEAD_DIM, device_memory(kvt_code_means_bytes(HEAD_DIM, PAGES)),
		device_memory(kvt_code_detail_bytes(HEAD_DIM) * PAGES) };
	b->shape = (kvt_cuda_shape){ .element = KVT_ELEMENT_BF16,
		.head_dim = HEAD_DIM,
		.kv_heads = 1,
		.page_tokens = KV_PAGE,
		.head_stride = 2 * block,
		.value_offset = block };
	b->queries = device_memory(HEADS * HEAD_DIM * sizeof(float));
	b->sums = device_memory(sizeof(float) * HEADS * PAGES);
	b->memory = device_memory(kvt_code_query_bytes(HEAD_DIM, HEADS));
	b->scratch = device_memory(8 * HEADS);
	b->share = device_memory(sizeof(uint32_t) * PAGES);
	b->places = device_memory(sizeof(uint32_t) * CHOSEN);
}

static int set_memory(bench *b)
{
	const size_t bytes = kvt_code_detail_bytes(HEAD_DIM) * PAGES;
	return cudaMemsetAsync(b->codes.details, 0x5a, bytes, NULL) == cudaSuccess ? 0 : -1;
}

static int build(bench *b)
{
	return kvt_cuda_code_build(
		&b->codes, &b->shape, 0, (const void *const *)b->keys, 0, PAGES, NULL, NULL, NULL);
}

static int prepare(bench *b)
{
	return kvt_cuda_code_query(&b->query, HEAD_DIM, HEADS, b->queries, 0.09f, b->memory, NULL);
}

static int score(bench *b)
{
	const kvt_page_list all = { PAGES, 0, NULL };
	return kvt_cuda_code_score(&b->codes, &b->query, &all, b->sums, PAGES, NULL);
}

static int score_means(bench *b)
{
	const kvt_page_list all = { PAGES, 0, NULL };
	return kvt_cuda_code_score_means(&b->codes, &b->query, &all, b->sums, PAGES, NULL);
}

static int shares(bench *b)
{
	return kvt_cuda_group_shares(b->sums, PAGES, HEADS, PAGES, b->share, b->scratch, NULL);
}

static int choose(bench *b)
{
	return kvt_cuda_top_pages(b->share, PAGES, CHOSEN, b->places, NULL);
}

static int by_size(const void *a, const void *b)
{
	const float x = *(const float *)a, y = *(const float *)b;
	return x < y ? -1 : x > y;
}

static void measure(bench *b, const char *name, int (*work)(bench *b), double bytes)
{
	float ms[TURNS];
	cudaEvent_t from, to;
	must(cudaEventCreate(&from), "an event");
	must(cudaEventCreate(&to), "an event");
	for (int i = -1; i < TURNS; i++) {
		must(cudaEventRecord(from, NULL), "recording");
		if (work(b) != 0)
			exit(1);
		must(cudaEventRecord(to, NULL), "recording");
		must(cudaEventSynchronize(to), name);
		if (i >= 0)
			must(cudaEventElapsedTime(&ms[i], from, to), "time");
	}
	cudaEventDestroy(from);
	cudaEventDestroy(to);
	qsort(ms, TURNS, sizeof(*ms), by_size);
	const double median = (double)ms[TURNS / 2];
	printf("%-34s %8.4f ms %7.0f GB/s\n", name, median, bytes / median / 1e6);
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
