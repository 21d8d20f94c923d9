/*
 * bench_cuda_attention.c: decode attention on a GPU over KV much larger than its cache, by number
 * format, head_dim, length, heads and pages: bytes of keys and values that are read a second,
 * beside what a copy within the device's memory moves. sdpa.py beside this one asks for single
 * lines, in turn with PyTorch's attention.
 *
 * usage: bench_cuda_attention [--serve | FORMAT HEAD_DIM TOKENS KV_HEADS HEADS PAGE order|scatter]
 *   --serve: such lines come from the standard input, and each is answered by GB/s
 */
#include <glib.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda_kernels.h"
#include "sim/base/rng.h"

#if !KVT_CUDA
int main(void)
{
	puts("built without CUDA: nothing is measured");
	return 0;
}
#else
#include <cuda_runtime_api.h>

enum { TURNS = 15, CALLS_MAX = 16, SETS_MAX = 16, PATTERN = 16 << 20, FLUSH = 256 << 20 };

#define CHECK(call)                                                                                \
	do {                                                                                       \
		cudaError_t error_ = (call);                                                       \
		if (error_ != cudaSuccess)                                                         \
			g_error("%s: %s", #call, cudaGetErrorString(error_));                      \
	} while (0)

/* What is measured: one query token. */
typedef struct question {
	kvt_element element;
	uint32_t head_dim;
	uint64_t n_tokens;
	uint32_t kv_heads, heads, page_tokens;
	bool scattered, alone;
} question;

/* The KV of a question, several times over where once would stay in the cache. */
typedef struct bench {
	question q;
	kvt_cuda_shape shape;
	unsigned n_sets;
	size_t bytes; /* of a set */
	uint8_t *memory[SETS_MAX];
	void **tables[SETS_MAX];
	float *queries;
	kvt_cuda_partial result;
	void *scratch, *flush;
	cudaStream_t stream;
} bench;

static void *device_new(size_t bytes)
{
	void *memory;
	CHECK(cudaMalloc(&memory, bytes));
	return memory;
}

/* Normal numbers, as in PyTorch's measurement, again and again. */
static void fill(uint8_t *memory, size_t bytes, kvt_element element)
{
	size_t n = PATTERN / kvt_element_bytes(element), have = MIN(bytes, PATTERN);
	g_autofree float *numbers = g_new(float, n);
	g_autofree uint8_t *pattern = g_malloc(PATTERN);
	kvt_rng rng = kvt_rng_init(1, element);
	for (size_t i = 0; i < n; i++)
		numbers[i] = i < 4096 ? (float)kvt_rng_normal(&rng)
				      : numbers[(i * 2654435761u + (i >> 12)) % 4096];
	kvt_elements_from_float(element, numbers, n, pattern);
	CHECK(cudaMemcpy(memory, pattern, have, cudaMemcpyHostToDevice));
	while (have < bytes) {
		size_t more = MIN(have, bytes - have);
		CHECK(cudaMemcpy(memory + have, memory, more, cudaMemcpyDeviceToDevice));
		have += more;
	}
}

static void lay_out(bench *b, unsigned set, size_t page_bytes)
{
	uint64_t pages = b->q.n_tokens / b->q.page_tokens;
	kvt_rng rng = kvt_rng_init(2, set);
	g_autofree void **table = g_new(void *, pages);
	b->memory[set] = device_new(b->bytes);
	if (set == 0)
		fill(b->memory[0], b->bytes, b->q.element);
	else
		CHECK(cudaMemcpy(b->memory[set], b->memory[0], b->bytes, cudaMemcpyDeviceToDevice));
	for (uint64_t i = 0; i < pages; i++)
		table[i] = b->memory[set] + i * page_bytes;
	for (uint64_t i = pages; b->q.scattered && i-- > 1;) {
		uint64_t other = kvt_rng_below(&rng, i + 1);
		void *place = table[i];
		table[i] = table[other];
		table[other] = place;
	}
	b->tables[set] = device_new(pages * sizeof(void *));
	CHECK(cudaMemcpy(b->tables[set], table, pages * sizeof(void *), cudaMemcpyHostToDevice));
}

static void bench_set_up(bench *b, const question *q)
{
	*b = (bench){ .q = *q };
	size_t block = (size_t)q->page_tokens * q->head_dim * kvt_element_bytes(q->element);
	b->shape = (kvt_cuda_shape){ q->element, q->head_dim, q->kv_heads, q->heads, q->page_tokens,
		2 * block, block, 1 / sqrtf((float)q->head_dim), 1, 1, KVT_CUDA_TWO_HALVES };
	b->bytes = q->n_tokens / q->page_tokens * 2 * block * q->kv_heads;
	b->n_sets = (unsigned)CLAMP(((size_t)1 << 30) / b->bytes + 1, 1, SETS_MAX);
	for (unsigned i = 0; i < b->n_sets; i++)
		lay_out(b, i, 2 * block * q->kv_heads);
	size_t n = (size_t)q->kv_heads * q->heads * q->head_dim;
	g_autofree float *queries = g_new(float, n);
	kvt_rng rng = kvt_rng_init(3, 0);
	for (size_t i = 0; i < n; i++)
		queries[i] = (float)kvt_rng_normal(&rng);
	b->queries = device_new(n * sizeof(float));
	CHECK(cudaMemcpy(b->queries, queries, n * sizeof(float), cudaMemcpyHostToDevice));
	b->result.output = device_new(n * sizeof(float));
	b->result.lse = device_new(n * sizeof(float));
	b->scratch = device_new(kvt_cuda_attention_scratch(&b->shape, 1));
	b->flush = device_new(FLUSH);
	CHECK(cudaStreamCreate(&b->stream));
}

static void bench_clear(bench *b)
{
	for (unsigned i = 0; i < b->n_sets; i++) {
		CHECK(cudaFree(b->memory[i]));
		CHECK(cudaFree(b->tables[i]));
	}
	void *memory[] = { b->queries, b->result.output, b->result.lse, b->scratch, b->flush };
	for (size_t i = 0; i < G_N_ELEMENTS(memory); i++)
		CHECK(cudaFree(memory[i]));
	if (b->stream)
		CHECK(cudaStreamDestroy(b->stream));
	*b = (bench){ 0 };
}

static void attend(const bench *b, unsigned call)
{
	kvt_cuda_queries queries = { b->queries, (size_t)b->q.heads * b->q.head_dim, 1 };
	/* of a step, the newest token alone was just written */
	kvt_cuda_window window = { (const void *const *)b->tables[call % b->n_sets], b->q.n_tokens,
		0, b->q.n_tokens, b->q.n_tokens - 1 };
	int status =
		kvt_cuda_attention(&b->shape, &queries, &window, &b->result, b->scratch, b->stream);
	if (status)
		g_error("kvt_cuda_attention: %s", g_strerror(-status));
}

static int compare_floats(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

/* What a turn does on the stream: all of it, and what is not timed before it. */
typedef struct turn {
	cudaGraphExec_t graph; /* n calls; NULL: one call alone */
	const bench *b;
	unsigned n;
} turn;

static void begin(const turn *t, unsigned i)
{
	if (!t->graph)
		CHECK(cudaMemsetAsync(t->b->flush, (int)i, FLUSH, t->b->stream));
}

static void run(const turn *t, unsigned i)
{
	if (t->graph)
		CHECK(cudaGraphLaunch(t->graph, t->b->stream));
	else
		attend(t->b, i);
}

/* Median over turns of milliseconds of a call. */
static double median(const turn *t)
{
	cudaEvent_t from, to;
	float times[TURNS];
	CHECK(cudaEventCreate(&from));
	CHECK(cudaEventCreate(&to));
	for (int i = -3; i < TURNS; i++) {
		begin(t, (unsigned)(i + 3));
		CHECK(cudaEventRecord(from, t->b->stream));
		run(t, (unsigned)(i + 3));
		CHECK(cudaEventRecord(to, t->b->stream));
		CHECK(cudaEventSynchronize(to));
		CHECK(cudaEventElapsedTime(&times[MAX(i, 0)], from, to));
	}
	qsort(times, TURNS, sizeof(*times), compare_floats);
	CHECK(cudaEventDestroy(from));
	CHECK(cudaEventDestroy(to));
	return (double)times[TURNS / 2] / t->n;
}

/* Bytes a millisecond. */
static double measure(const bench *b)
{
	turn t = { .b = b, .n = 1 };
	if (!b->q.alone) {
		cudaGraph_t graph;
		t.n = (unsigned)CLAMP((size_t)2000000000 / b->bytes, 1, CALLS_MAX);
		CHECK(cudaStreamBeginCapture(b->stream, cudaStreamCaptureModeGlobal));
		for (unsigned i = 0; i < t.n; i++)
			attend(b, i);
		CHECK(cudaStreamEndCapture(b->stream, &graph));
		CHECK(cudaGraphInstantiate(&t.graph, graph, 0));
		CHECK(cudaGraphDestroy(graph));
	}
	double rate = (double)b->bytes / median(&t);
	if (t.graph)
		CHECK(cudaGraphExecDestroy(t.graph));
	return rate;
}

/* Of copies of 1 GiB within the device, read and written. */
static double copy_rate(void)
{
	const size_t bytes = (size_t)1 << 30;
	uint8_t *memory = device_new(2 * bytes);
	double best = 0;
	cudaEvent_t from, to;
	CHECK(cudaMemset(memory, 1, 2 * bytes));
	CHECK(cudaEventCreate(&from));
	CHECK(cudaEventCreate(&to));
	for (int i = 0; i < TURNS; i++) {
		float time;
		CHECK(cudaEventRecord(from, NULL));
		for (int k = 0; k < 4; k++)
			CHECK(cudaMemcpyAsync(
				memory + bytes, memory, bytes, cudaMemcpyDeviceToDevice, NULL));
		CHECK(cudaEventRecord(to, NULL));
		CHECK(cudaEventSynchronize(to));
		CHECK(cudaEventElapsedTime(&time, from, to));
		best = MAX(best, 8 * (double)bytes / (double)time);
	}
	CHECK(cudaEventDestroy(from));
	CHECK(cudaEventDestroy(to));
	CHECK(cudaFree(memory));
	return best;
}

static bool parse(const char *line, question *q)
{
	char format[16], order[16], mode[16];
	unsigned long long tokens;
	if (sscanf(line, "%15s %u %llu %u %u %u %15s %15s", format, &q->head_dim, &tokens,
		    &q->kv_heads, &q->heads, &q->page_tokens, order, mode) != 8)
		return false;
	q->element = g_str_equal(format, "e4m3")   ? KVT_ELEMENT_E4M3
		     : g_str_equal(format, "fp16") ? KVT_ELEMENT_F16
						   : KVT_ELEMENT_BF16;
	q->n_tokens = tokens;
	q->scattered = g_str_equal(order, "scatter");
	q->alone = g_str_equal(mode, "alone");
	return q->page_tokens > 0 && tokens >= q->page_tokens;
}

static void serve(void)
{
	char line[256], last[256] = "";
	bench b = { 0 };
	question q;
	while (fgets(line, sizeof(line), stdin) && parse(line, &q)) {
		if (!g_str_equal(line, last)) {
			bench_clear(&b);
			bench_set_up(&b, &q);
			g_strlcpy(last, line, sizeof(last));
		}
		printf("%.0f\n", measure(&b) / 1e6);
		fflush(stdout);
	}
	bench_clear(&b);
}

static void answer(const char *line, double copy)
{
	question q;
	bench b;
	if (!parse(line, &q))
		g_error("\"%s\": expected FORMAT HEAD_DIM TOKENS KV_HEADS HEADS PAGE ORDER MODE",
			line);
	bench_set_up(&b, &q);
	double rate = measure(&b);
	printf("%-45s %6.0f GB/s, %.2f of a copy's\n", line, rate / 1e6, rate / copy);
	bench_clear(&b);
}

int main(int argc, char **argv)
{
	static const char *const lines[] = { "bf16 128 1048576 4 7 1048576 order queued",
		"bf16 128 1048576 4 7 16 order queued", "bf16 128 1048576 4 7 16 scatter queued",
		"bf16 128 1048576 4 7 256 scatter queued", "bf16 128 131072 4 7 16 scatter queued",
		"bf16 128 131072 4 7 16 scatter alone", "bf16 128 1048576 1 7 16 scatter queued",
		"bf16 128 131072 1 7 16 scatter queued", "bf16 128 131072 1 7 16 scatter alone",
		"bf16 128 16384 8 4 16 scatter queued", "bf16 128 524288 4 16 16 scatter queued",
		"bf16 64 1048576 4 4 16 scatter queued", "fp16 128 1048576 4 7 16 scatter queued",
		"e4m3 128 1048576 4 7 16 order queued", "e4m3 128 1048576 4 7 16 scatter queued",
		"e4m3 128 131072 8 5 16 scatter queued", "e4m3 64 1048576 4 4 16 scatter queued" };
	int n = 0;
	cudaError_t error = cudaGetDeviceCount(&n);
	if (error != cudaSuccess || n == 0) {
		printf("there is no GPU (%s): nothing is measured\n", cudaGetErrorString(error));
		return 0;
	}
	if (argc > 1 && g_str_equal(argv[1], "--serve")) {
		serve();
		return 0;
	}
	struct cudaDeviceProp device;
	CHECK(cudaGetDeviceProperties(&device, 0));
	double copy = copy_rate();
	printf("%s: a copy within its memory moves %.0f GB/s\n", device.name, copy / 1e6);
	if (argc > 1) {
		g_autofree char *line = g_strjoinv(" ", argv + 1);
		answer(line, copy);
		return 0;
	}
	for (size_t i = 0; i < G_N_ELEMENTS(lines); i++)
		answer(lines[i], copy);
	return 0;
}
#endif
