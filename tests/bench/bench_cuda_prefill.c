/*
 * bench_cuda_prefill.c: attention of prompts' chunks on a CUDA device: floating-point operations a
 * second (4 x rows x tokens x head_dim, masked ones not counted) beside what its tensor cores could
 * do at most by the datasheet. Figures are medians.
 *
 * usage: bench_cuda_prefill [--quick]
 */
#include <stdio.h>

#if KVT_CUDA
#include <cuda_runtime_api.h>
#include <glib.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda_kernels.h"
#include "tests/bench/cuda_bench.h"

enum { TURNS = 7, SAMPLE = 64 << 20 };

typedef struct scene {
	const char *name;
	kvt_element element;
	uint32_t head_dim, kv_heads, heads, page_tokens, n_queries;
	uint64_t n_tokens; /* those of the chunk are the last */
} scene;

/* Numbers near normal ones: sums of 4 uniform ones. */
static float *sample_new(void)
{
	float *numbers = g_new(float, SAMPLE / 4);
	uint64_t x = 1;
	for (size_t i = 0; i < SAMPLE / 4; i++) {
		x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
		const uint64_t bits = x ^ x >> 29;
		numbers[i] = ((float)(bits & 0xffff) + (float)(bits >> 16 & 0xffff) +
				     (float)(bits >> 32 & 0xffff) + (float)(bits >> 48)) /
				     37837 -
			     3.4641f;
	}
	return numbers;
}

static void fill(void *device, size_t bytes, const void *sample, size_t sample_bytes)
{
	for (size_t at = 0; at < bytes; at += sample_bytes)
		bench_must(cudaMemcpy((char *)device + at, sample,
				   bytes - at < sample_bytes ? bytes - at : sample_bytes,
				   cudaMemcpyHostToDevice),
			"a copy");
}

/* Pages that lie in any order. */
static const void **pages_new(uint8_t *pool, size_t page_bytes, size_t n)
{
	const void **pages = g_new(const void *, n);
	for (size_t i = 0; i < n; i++)
		pages[i] = pool + i * page_bytes;
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	for (size_t i = n; i > 1; i--) {
		const size_t other = (size_t)g_rand_int_range(rand, 0, (int)i);
		const void *kept = pages[i - 1];
		pages[i - 1] = pages[other];
		pages[other] = kept;
	}
	return pages;
}

/* One call, as bench_kernel_ms wants it. */
typedef struct call {
	const kvt_cuda_shape *shape;
	const kvt_cuda_queries *queries;
	const kvt_cuda_window *window;
	const kvt_cuda_partial *partial;
	void *scratch;
} call;

static int attend(void *arg)
{
	const call *c = arg;
	return kvt_cuda_attention(c->shape, c->queries, c->window, c->partial, c->scratch, NULL);
}

/* Dense, of 16-bit numbers with FP32 sums, by the datasheets; 0: not known. */
static double peak_tflops(const char *device)
{
	static const struct {
		const char *name;
		double tflops;
	} known[] = { { "H200", 989.5 }, { "H100", 989.5 }, { "A100", 312 }, { "L40S", 362 } };
	for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
		if (strstr(device, known[i].name))
			return known[i].tflops;
	return 0;
}

static void measure(const scene *s, const float *sample, double peak)
{
	const size_t element = kvt_element_bytes(s->element);
	const size_t block = (size_t)s->page_tokens * s->head_dim * element;
	const size_t page_bytes = 2 * block * s->kv_heads, n_pages = s->n_tokens / s->page_tokens;
	const size_t rows = (size_t)s->kv_heads * s->heads * s->n_queries;
	uint8_t *pool = bench_device_memory(n_pages * page_bytes);
	g_autofree uint8_t *numbers = g_malloc(SAMPLE / 4 * element);
	kvt_elements_from_float(s->element, sample, SAMPLE / 4, numbers);
	fill(pool, n_pages * page_bytes, numbers, SAMPLE / 4 * element);
	g_autofree const void **pages = pages_new(pool, page_bytes, n_pages);
	void *list = bench_device_memory(n_pages * sizeof(*pages));
	fill(list, n_pages * sizeof(*pages), pages, n_pages * sizeof(*pages));
	float *queries = bench_device_memory(rows * s->head_dim * sizeof(float));
	fill(queries, rows * s->head_dim * sizeof(float), sample, SAMPLE);
	float *output = bench_device_memory(rows * s->head_dim * sizeof(float));
	float *lse = bench_device_memory(rows * sizeof(float));
	kvt_cuda_shape shape = { s->element, s->head_dim, s->kv_heads, s->heads, s->page_tokens,
		2 * block, block, 1 / sqrtf((float)s->head_dim), 1, 1, KVT_CUDA_TWO_HALVES };
	const kvt_cuda_queries q = { queries, (size_t)s->n_queries * s->heads * s->head_dim,
		s->n_queries };
	const kvt_cuda_window window = { list, s->n_tokens, 0, s->n_tokens - s->n_queries + 1, 0 };
	const kvt_cuda_partial partial = { output, lse };
	const double operations =
		4.0 * (double)rows * s->head_dim * ((double)s->n_tokens - (double)s->n_queries / 2);
	printf("%-26s %5u tokens of %8" G_GUINT64_FORMAT ":", s->name, s->n_queries, s->n_tokens);
	for (int precision = 0; precision < 2; precision++) {
		shape.precision = precision ? KVT_CUDA_ROUNDED : KVT_CUDA_TWO_HALVES;
		const size_t bytes = kvt_cuda_attention_scratch(&shape, s->n_queries);
		void *scratch = bench_device_memory(bytes);
		call c = { &shape, &q, &window, &partial, scratch };
		const double ms = bench_kernel_ms(attend, &c, TURNS, "attention");
		const double tflops = operations / ms / 1e9;
		printf("  %s %8.3f ms %5.0f TFLOP/s", precision ? "rounded" : "halves", ms, tflops);
		if (peak > 0)
			printf(" (%.0f%%)", 100 * tflops / peak);
		if (precision)
			printf("  scratch %.0f MiB", (double)bytes / (1 << 20));
		cudaFree(scratch);
	}
	printf("\n");
	fflush(stdout);
	cudaFree(lse);
	cudaFree(output);
	cudaFree(queries);
	cudaFree(list);
	cudaFree(pool);
}

int main(int argc, char **argv)
{
	static const scene scenes[] = {
		{ "BF16 128, 4 x 7 heads", KVT_ELEMENT_BF16, 128, 4, 7, 256, 2048, 131072 },
		{ "BF16 128, 4 x 7 heads", KVT_ELEMENT_BF16, 128, 4, 7, 256, 512, 131072 },
		{ "BF16 128, 4 x 7 heads", KVT_ELEMENT_BF16, 128, 4, 7, 16, 512, 131072 },
		{ "FP16 128, 4 x 7 heads", KVT_ELEMENT_F16, 128, 4, 7, 256, 512, 131072 },
		{ "E4M3 128, 4 x 7 heads", KVT_ELEMENT_E4M3, 128, 4, 7, 256, 512, 131072 },
		{ "BF16 64, 4 x 8 heads", KVT_ELEMENT_BF16, 64, 4, 8, 256, 512, 131072 },
		{ "E4M3 64, 4 x 8 heads", KVT_ELEMENT_E4M3, 64, 4, 8, 256, 512, 131072 },
		{ "BF16 128, 1 x 7 heads", KVT_ELEMENT_BF16, 128, 1, 7, 256, 8192, 8192 },
		{ "BF16 128, 4 x 7 heads", KVT_ELEMENT_BF16, 128, 4, 7, 16, 32, 1048576 },
		{ "BF16 128, 1 x 7 heads", KVT_ELEMENT_BF16, 128, 1, 7, 16, 32, 1048576 },
		{ "BF16 128, 4 x 7 heads", KVT_ELEMENT_BF16, 128, 4, 7, 16, 256, 1048576 },
	};
	const bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
	struct cudaDeviceProp device;
	int n = 0;
	if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) {
		printf("no CUDA device: nothing is measured\n");
		return 0;
	}
	bench_must(cudaGetDeviceProperties(&device, 0), "the device");
	const double peak = peak_tflops(device.name);
	printf("%s, dense peak %.0f TFLOP/s\n", device.name, peak);
	float *sample = sample_new();
	for (size_t i = 0; i < G_N_ELEMENTS(scenes) && !(quick && i >= 2); i++)
		measure(&scenes[i], sample, peak);
	g_free(sample);
	return 0;
}
#else
int main(void)
{
	printf("built without CUDA: nothing is measured\n");
	return 0;
}
#endif
