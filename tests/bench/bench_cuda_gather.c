/*
 * bench_cuda_gather.c: pages scattered at random in pinned memory, brought to device memory by each
 * way there is: the device's gather, one call a page, and one call for all (cudaMemcpyBatchAsync);
 * as a share of one large copy in the same run. Then attention of one token beside a copy and
 * beside gathers: how much slower it is than alone; and the rate at which the device sums pages
 * that arrived. Figures are medians.
 *
 * usage: bench_cuda_gather [MiB]
 */
#include <stdio.h>

#if KVT_CUDA
#include <cuda_runtime_api.h>
#include <glib.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/cuda_kernels.h"
#include "tests/bench/cuda_bench.h"
#include "tests/bench/median.h"

enum { TURNS = 3, ATTENTIONS = 64, HEAD_DIM = 128, KV_HEADS = 4, HEADS = 7, PAGE = 256 };

/* Pages of one size, in an order of their own on either side. */
typedef struct pages {
	size_t page, n;
	kvt_cuda_run *runs, *on_device;
	void **to;
	const void **from;
	size_t *bytes;
	cudaStream_t beside; /* of the way that goes by two */
	cudaEvent_t arrived;
} pages;

typedef struct way {
	const char *name;
	bool (*copy)(const pages *p, unsigned blocks, cudaStream_t stream);
	unsigned blocks;
} way;

static void shuffle(size_t *order, size_t n, GRand *rand)
{
	for (size_t i = 0; i < n; i++)
		order[i] = i;
	for (size_t i = n; i > 1; i--) {
		const size_t other = (size_t)g_rand_int_range(rand, 0, (int)i);
		const size_t kept = order[i - 1];
		order[i - 1] = order[other];
		order[other] = kept;
	}
}

static void pages_init(pages *p, size_t page, size_t total, const char *host, char *device)
{
	*p = (pages){ .page = page, .n = total / page };
	bench_must(cudaHostAlloc((void **)&p->runs, p->n * sizeof(*p->runs), 0), "pinned memory");
	p->to = g_new(void *, p->n);
	p->from = g_new(const void *, p->n);
	p->bytes = g_new(size_t, p->n);
	g_autofree size_t *source = g_new(size_t, p->n), *target = g_new(size_t, p->n);
	g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)page);
	shuffle(source, p->n, rand);
	shuffle(target, p->n, rand);
	for (size_t i = 0; i < p->n; i++) {
		p->to[i] = device + target[i] * page;
		p->from[i] = host + source[i] * page;
		p->bytes[i] = page;
		p->runs[i] = (kvt_cuda_run){ p->to[i], p->from[i], page };
	}
	bench_must(cudaStreamCreateWithFlags(&p->beside, cudaStreamNonBlocking), "a stream");
	bench_must(cudaEventCreateWithFlags(&p->arrived, cudaEventDisableTiming), "an event");
	bench_must(cudaMalloc((void **)&p->on_device, p->n * sizeof(*p->runs)), "device memory");
	bench_must(
		cudaMemcpy(p->on_device, p->runs, p->n * sizeof(*p->runs), cudaMemcpyHostToDevice),
		"a copy");
}

static void pages_clear(pages *p)
{
	cudaEventDestroy(p->arrived);
	cudaStreamDestroy(p->beside);
	cudaFree(p->on_device);
	cudaFreeHost(p->runs);
	g_free(p->to);
	g_free(p->from);
	g_free(p->bytes);
}

static bool gather_loads(const pages *p, unsigned blocks, cudaStream_t stream)
{
	return kvt_cuda_gather(p->on_device, p->n, blocks, KVT_CUDA_GATHER_LOADS, stream) == 0;
}

static bool gather_bulk(const pages *p, unsigned blocks, cudaStream_t stream)
{
	return kvt_cuda_gather(p->on_device, p->n, blocks, KVT_CUDA_GATHER_BULK, stream) == 0;
}

/* The list lies in pinned memory, as a caller without a copy of it has it. */
static bool gather_listed(const pages *p, unsigned blocks, cudaStream_t stream)
{
	return kvt_cuda_gather(p->runs, p->n, 0, KVT_CUDA_GATHER_BEST, stream) == 0;
}

static bool copy_each(const pages *p, unsigned blocks, cudaStream_t stream)
{
	for (size_t i = 0; i < p->n; i++)
		if (cudaMemcpyAsync(p->to[i], p->from[i], p->bytes[i], cudaMemcpyHostToDevice,
			    stream) != cudaSuccess)
			return false;
	return true;
}

#if CUDART_VERSION >= 13000
static bool copy_batch(const pages *p, unsigned blocks, cudaStream_t stream)
{
	struct cudaMemcpyAttributes attributes = { .srcAccessOrder =
							   cudaMemcpySrcAccessOrderStream };
	size_t first = 0;
	return cudaMemcpyBatchAsync((void *const *)p->to, p->from, p->bytes, p->n, &attributes,
		       &first, 1, stream) == cudaSuccess;
}

/* So many percent in one call, by the engines; the device gathers the others meanwhile. */
static bool copy_both(const pages *p, unsigned percent, cudaStream_t stream)
{
	const pages first = { .page = p->page,
		.n = p->n * percent / 100,
		.to = p->to,
		.from = p->from,
		.bytes = p->bytes };
	return kvt_cuda_gather(p->on_device + first.n, p->n - first.n, 0, KVT_CUDA_GATHER_BEST,
		       stream) == 0 &&
	       copy_batch(&first, 0, p->beside) &&
	       cudaEventRecord(p->arrived, p->beside) == cudaSuccess &&
	       cudaStreamWaitEvent(stream, p->arrived, 0) == cudaSuccess;
}
#endif

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* From the call to the arrival of the last byte; negative where the way is not there. */
static double time_way(const way *w, const pages *p, cudaStream_t stream)
{
	double ms[TURNS];
	for (int i = -1; i < TURNS; i++) {
		const double start = now_ms();
		if (!w->copy(p, w->blocks, stream)) {
			cudaGetLastError();
			return -1;
		}
		bench_must(cudaStreamSynchronize(stream), w->name);
		if (i >= 0)
			ms[i] = now_ms() - start;
	}
	return bench_median(ms, TURNS);
}

static double time_large(char *device, const char *host, size_t bytes, cudaStream_t stream)
{
	double ms[TURNS];
	for (int i = -1; i < TURNS; i++) {
		const double start = now_ms();
		bench_must(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream),
			"a copy");
		bench_must(cudaStreamSynchronize(stream), "a copy");
		if (i >= 0)
			ms[i] = now_ms() - start;
	}
	return bench_median(ms, TURNS);
}

static const way ways[] = {
	{ "loads, 4 blocks", gather_loads, 4 },
	{ "loads, 16 blocks", gather_loads, 16 },
	{ "bulk, 2 blocks", gather_bulk, 2 },
	{ "bulk, 4 blocks", gather_bulk, 4 },
	{ "the same, list on host", gather_listed, 0 },
	{ "bulk, 8 blocks", gather_bulk, 8 },
	{ "bulk, 16 blocks", gather_bulk, 16 },
	{ "a call a page", copy_each, 0 },
#if CUDART_VERSION >= 13000
	{ "one call", copy_batch, 0 },
	{ "25% in one call", copy_both, 25 },
	{ "40% in one call", copy_both, 40 },
	{ "55% in one call", copy_both, 55 },
#endif
};

static void by_page_size(char *device, const char *host, size_t bytes, cudaStream_t stream)
{
	static const size_t sizes[] = { 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20 };
	const double large = time_large(device, host, bytes, stream);
	printf("one copy of %zu MiB: %.2f GB/s; of it, by pages of\n%-24s", bytes >> 20,
		(double)bytes / large / 1e6, "");
	for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++)
		printf("%7zu KiB", sizes[i] >> 10);
	printf("\n");
	for (size_t k = 0; k < G_N_ELEMENTS(ways); k++) {
		printf("%-24s", ways[k].name);
		for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
			pages p;
			pages_init(&p, sizes[i], bytes, host, device);
			const double ms = time_way(&ways[k], &p, stream);
			if (ms < 0)
				printf("%11s", "none");
			else
				printf("%10.1f%%", 100 * large / ms);
			pages_clear(&p);
		}
		printf("\n");
		fflush(stdout);
	}
}

/* Attention of a token over KV in device memory, a few times in a row. */
typedef struct attention {
	kvt_cuda_shape shape;
	kvt_cuda_queries queries;
	kvt_cuda_window window;
	kvt_cuda_partial partial;
	void *scratch;
} attention;

static void *device_zeros(size_t bytes)
{
	void *p;
	bench_must(cudaMalloc(&p, bytes), "device memory");
	bench_must(cudaMemset(p, 0, bytes), "zeros");
	return p;
}

static void attention_init(attention *a, uint64_t n_tokens)
{
	const size_t block = (size_t)PAGE * HEAD_DIM * 2, page = 2 * block * KV_HEADS;
	const size_t n = n_tokens / PAGE;
	char *pool = device_zeros(n * page);
	g_autofree const void **list = g_new(const void *, n);
	for (size_t i = 0; i < n; i++)
		list[i] = pool + i * page;
	void *on_device = device_zeros(n * sizeof(*list));
	bench_must(
		cudaMemcpy(on_device, list, n * sizeof(*list), cudaMemcpyHostToDevice), "a copy");
	a->shape = (kvt_cuda_shape){ KVT_ELEMENT_BF16, HEAD_DIM, KV_HEADS, HEADS, PAGE, 2 * block,
		block, 1 / sqrtf(HEAD_DIM), 1, 1, KVT_CUDA_TWO_HALVES };
	a->queries = (kvt_cuda_queries){ device_zeros(KV_HEADS * HEADS * HEAD_DIM * 4),
		HEADS * HEAD_DIM, 1 };
	a->window = (kvt_cuda_window){ on_device, n_tokens, 0, n_tokens, 0 };
	a->partial = (kvt_cuda_partial){ device_zeros(KV_HEADS * HEADS * HEAD_DIM * 4),
		device_zeros(KV_HEADS * HEADS * 4) };
	a->scratch = device_zeros(kvt_cuda_attention_scratch(&a->shape, 1));
}

/* Of one attention, of as many as there are while the way copies; 0 ways: alone. The share of a
 * large copy's rate at which pages came meanwhile goes to *share. */
static double beside(const attention *a, const way *w, const pages *p, cudaStream_t copies,
	cudaStream_t computes, double alone, double *copy_ms)
{
	cudaEvent_t from, to;
	bench_must(cudaEventCreate(&from), "an event");
	bench_must(cudaEventCreate(&to), "an event");
	const double start = now_ms();
	if (w && !w->copy(p, w->blocks, copies)) {
		cudaGetLastError();
		return -1;
	}
	const int n = w ? (int)fmax(1, 0.6 * *copy_ms / alone) : ATTENTIONS;
	bench_must(cudaEventRecord(from, computes), "recording");
	for (int i = 0; i < n; i++)
		if (kvt_cuda_attention(&a->shape, &a->queries, &a->window, &a->partial, a->scratch,
			    computes) != 0)
			exit(1);
	bench_must(cudaEventRecord(to, computes), "recording");
	bench_must(cudaStreamSynchronize(copies), "copies");
	*copy_ms = now_ms() - start;
	bench_must(cudaEventSynchronize(to), "attention");
	float ms;
	bench_must(cudaEventElapsedTime(&ms, from, to), "time");
	cudaEventDestroy(from);
	cudaEventDestroy(to);
	return (double)ms / n;
}

static void while_attending(
	char *device, const char *host, size_t bytes, cudaStream_t copies, cudaStream_t computes)
{
	attention a;
	pages p;
	double unused = 0;
	attention_init(&a, 262144);
	pages_init(&p, 16 << 10, bytes, host, device);
	beside(&a, NULL, &p, copies, computes, 0, &unused);
	const double alone = beside(&a, NULL, &p, copies, computes, 0, &unused);
	printf("attention of a token over 262144 tokens alone: %.4f ms; beside pages of 16 KiB:\n",
		alone);
	for (size_t k = 0; k < G_N_ELEMENTS(ways); k++) {
		if (ways[k].copy == copy_each)
			continue;
		const double quiet = time_way(&ways[k], &p, copies);
		double copy_ms = quiet;
		const double ms =
			quiet < 0 ? -1
				  : beside(&a, &ways[k], &p, copies, computes, alone, &copy_ms);
		if (ms < 0)
			printf("%-24s none\n", ways[k].name);
		else
			printf("%-24s attention %.2f times as long, pages %.2f times\n",
				ways[k].name, ms / alone, copy_ms / quiet);
	}
	pages_clear(&p);
}

static void checksums(const char *device, size_t bytes, cudaStream_t stream)
{
	static const size_t sizes[] = { 16 << 10, 256 << 10, 2 << 20, 4 << 20 };
	printf("checksums of pages:");
	for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
		const size_t n = bytes / sizes[i];
		g_autofree kvt_cuda_page *list = g_new(kvt_cuda_page, n);
		for (size_t k = 0; k < n; k++)
			list[k] = (kvt_cuda_page){ device + k * sizes[i], sizes[i] };
		kvt_cuda_page *on_device = device_zeros(n * sizeof(*list));
		uint64_t *sums = device_zeros(n * sizeof(*sums));
		bench_must(cudaMemcpy(on_device, list, n * sizeof(*list), cudaMemcpyHostToDevice),
			"a copy");
		double ms[TURNS];
		for (int k = -1; k < TURNS; k++) {
			const double start = now_ms();
			if (kvt_cuda_page_checksums(on_device, (uint32_t)n, sums, stream) != 0)
				exit(1);
			bench_must(cudaStreamSynchronize(stream), "checksums");
			if (k >= 0)
				ms[k] = now_ms() - start;
		}
		printf(" %zu KiB %.0f GB/s", sizes[i] >> 10,
			(double)bytes / bench_median(ms, TURNS) / 1e6);
		for (int k = -1; k < TURNS; k++) {
			const double start = now_ms();
			if (kvt_cuda_page_checksums(on_device, 1, sums, stream) != 0)
				exit(1);
			bench_must(cudaStreamSynchronize(stream), "a checksum");
			if (k >= 0)
				ms[k] = now_ms() - start;
		}
		printf(" (one alone %.0f us)", bench_median(ms, TURNS) * 1e3);
		cudaFree(sums);
		cudaFree(on_device);
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	const size_t bytes = (size_t)(argc > 1 ? g_ascii_strtoull(argv[1], NULL, 10) : 512) << 20;
	int n = 0;
	if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) {
		printf("no CUDA device: nothing is measured\n");
		return 0;
	}
	char *host, *device;
	cudaStream_t copies, computes;
	bench_must(cudaHostAlloc((void **)&host, bytes, cudaHostAllocPortable), "pinned memory");
	memset(host, 1, bytes);
	bench_must(cudaMalloc((void **)&device, bytes), "device memory");
	bench_must(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking), "a stream");
	bench_must(cudaStreamCreateWithFlags(&computes, cudaStreamNonBlocking), "a stream");
	by_page_size(device, host, bytes, copies);
	while_attending(device, host, bytes, copies, computes);
	checksums(device, bytes, copies);
	return 0;
}
#else
int main(void)
{
	printf("built without CUDA: nothing is measured\n");
	return 0;
}
#endif
