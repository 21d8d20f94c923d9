/*
 * bench_attention.c: attention over KV much larger than the caches, of decode steps (1 query token,
 * groups of 1 to 8 heads) and of chunks of prefill, by number format, head_dim and instruction set,
 * on one thread and on two: beside the read bandwidth of the same pages, by the best plain reader
 * there is, and the rate of FP32 multiply-adds of registers alone, in turns of a
 * few milliseconds in one run. What attention is held against is the lower of the two. Rates are of
 * time that threads ran (they may share a processor with others); figures are medians.
 *
 * usage: bench_attention [--quick]
 */
#include <glib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "emu/calibrate/calibrate_loops.h"
#include "kernels/kernels.h"
#include "sim/base/rng.h"
#include "tests/bench/median.h"

enum { PAGE = 16, TURNS = 15, THREADS_MAX = 2, QUERIES_MAX = 64, HEADS_MAX = 8, DIM_MAX = 128 };
enum { ROWS_MAX = 4 * QUERIES_MAX };

typedef struct bench {
	kvt_attention_shape shape;
	uint64_t n_tokens;
	uint8_t *memory;
	size_t bytes;
	const void **keys, **values;
	uint32_t n_queries;
	float queries[ROWS_MAX * DIM_MAX];
	kvt_isa isa;
} bench;

/* One thread's share of a turn. */
typedef struct part {
	const bench *b;
	double (*run)(struct part *p);
	unsigned thread, n_threads;
	uint64_t turn;
	double rate;
} part;

static uint64_t checksum; /* of what was read, so that reading is not optimised away */

static double thread_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The thread's tokens of a turn: another stretch of memory each time, larger than the caches in
 * sum. */
static void stretch(const part *p, uint64_t *first, uint64_t *n)
{
	uint64_t shares = 16 * p->n_threads;
	*n = p->b->n_tokens / shares / PAGE * PAGE;
	*first = (p->turn * p->n_threads + p->thread) % shares * *n;
}

typedef uint64_t line __attribute__((vector_size(64)));

/* All of n bytes, whole lines in fours. Of prefetching distances and hints tried, this one gained
 * the most over the processor's own prefetching. */
#define READER(name, attributes)                                                                   \
	attributes static uint64_t name(const uint8_t *from, size_t n)                             \
	{                                                                                          \
		line a = { 0 }, b = a, c = a, d = a;                                               \
		for (const line *at = (const line *)from; n >= 256; n -= 256, at += 4) {           \
			for (int i = 0; i < 4; i++)                                                \
				__builtin_prefetch(at + 64 + i, 0, 2);                             \
			a ^= at[0], b ^= at[1], c ^= at[2], d ^= at[3];                            \
		}                                                                                  \
		a ^= b ^ c ^ d;                                                                    \
		return a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];                      \
	}
READER(read_plain, )
#ifdef __x86_64__
READER(read_avx2, __attribute__((target("avx2"))))
READER(read_avx512, __attribute__((target("avx512f"))))
#else
#define read_avx2 read_plain
#define read_avx512 read_plain
#endif

static double read_bytes(part *p)
{
	uint64_t first, n;
	stretch(p, &first, &n);
	size_t token_bytes = p->b->bytes / p->b->n_tokens, bytes = n * token_bytes;
	const uint8_t *from = p->b->memory + first * token_bytes;
	kvt_isa best = kvt_isa_best();
	double began = thread_seconds();
	uint64_t sum = best == KVT_ISA_AVX512 ? read_avx512(from, bytes)
		       : best == KVT_ISA_AVX2 ? read_avx2(from, bytes)
					      : read_plain(from, bytes);
	double seconds = thread_seconds() - began;
	__atomic_fetch_xor(&checksum, sum, __ATOMIC_RELAXED);
	return (double)bytes / seconds;
}

static double of_registers(part *p)
{
	float sum;
	double began = thread_seconds();
	double flops = kvt_loop_multiply_add(p->b->isa, 50000, &sum);
	double seconds = thread_seconds() - began;
	__atomic_fetch_xor(&checksum, sum > 0, __ATOMIC_RELAXED);
	return flops / 2 / seconds;
}

/* Tokens a second. */
static double attend(part *p)
{
	const bench *b = p->b;
	uint64_t first, n;
	stretch(p, &first, &n);
	/* a chunk reuses what it reads: as many multiply-adds are enough */
	n = MAX(n / (b->n_queries * b->shape.heads) / PAGE, 64) * PAGE;
	size_t rows = (size_t)b->n_queries * b->shape.heads;
	float *output = g_new(float, rows * b->shape.head_dim), *lse = g_new(float, rows);
	kvt_attention_partial partial = { output, lse, NULL };
	kvt_attention_window window = { b->keys + first / PAGE, b->values + first / PAGE, n, 0, n };
	void *scratch = aligned_alloc(64, kvt_attention_scratch_bytes(&b->shape, b->n_queries));
	double began = thread_seconds();
	if (kvt_attention(
		    b->isa, &b->shape, b->queries, b->n_queries, &window, &partial, scratch) != 0)
		abort();
	double seconds = thread_seconds() - began;
	free(scratch);
	g_free(output);
	g_free(lse);
	return (double)n / seconds;
}

static gpointer run_part(gpointer data)
{
	part *p = data;
	p->rate = p->run(p);
	return NULL;
}

/* All threads' rates, added. */
static double rate_of(const bench *b, double (*run)(part *), unsigned n_threads, uint64_t turn)
{
	part parts[THREADS_MAX];
	GThread *threads[THREADS_MAX];
	double sum = 0;
	for (unsigned t = 0; t < n_threads; t++) {
		parts[t] = (part){ b, run, t, n_threads, turn, 0 };
		threads[t] = g_thread_new("bench", run_part, &parts[t]);
	}
	for (unsigned t = 0; t < n_threads; t++) {
		g_thread_join(threads[t]);
		sum += parts[t].rate;
	}
	return sum;
}

static void measure(const bench *b, const char *format, unsigned n_threads)
{
	double tokens[TURNS], memory[TURNS], products[TURNS], ratio[TURNS];
	double token_bytes = (double)b->bytes / (double)b->n_tokens;
	/* a product of a query and a key, and one of a weight and a value */
	double token_products = 2.0 * b->n_queries * b->shape.heads * b->shape.head_dim;
	for (int turn = 0; turn < TURNS; turn++) {
		/* each reads what was read longest ago */
		uint64_t at = 3 * (uint64_t)turn;
		memory[turn] = rate_of(b, read_bytes, n_threads, at);
		products[turn] = rate_of(b, of_registers, n_threads, at + 1);
		tokens[turn] = rate_of(b, attend, n_threads, at + 1);
		memory[turn] = (memory[turn] + rate_of(b, read_bytes, n_threads, at + 2)) / 2;
		double limit = MIN(memory[turn] / token_bytes, products[turn] / token_products);
		ratio[turn] = tokens[turn] / limit;
	}
	double speed = bench_median(tokens, TURNS), read = bench_median(memory, TURNS);
	double fma = bench_median(products, TURNS);
	printf("%-5s %8u %7u %5u %-7s %7u %8.2f %8.2f %9.1f %9.1f %-8s %6.0f%%\n", format,
		b->shape.head_dim, b->n_queries, b->shape.heads, kvt_isa_name(b->isa), n_threads,
		speed * token_bytes / 1e9, read / 1e9, speed * token_products / 1e9, fma / 1e9,
		read / token_bytes < fma / token_products ? "memory" : "products",
		100 * bench_median(ratio, TURNS));
	fflush(stdout);
}

/* Every shape, instruction set and number of threads. */
static void measure_shapes(bench *b, const char *format, int quick)
{
	static const struct {
		uint32_t n_queries, heads;
	} shapes[] = { { 1, 1 }, { 1, 4 }, { 1, 7 }, { 1, 8 }, { 16, 4 }, { QUERIES_MAX, 4 } };
	for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++) {
		b->n_queries = shapes[i].n_queries;
		b->shape.heads = shapes[i].heads;
		for (b->isa = quick ? kvt_isa_best() : KVT_ISA_AVX2; b->isa < KVT_ISA_COUNT;
			b->isa++)
			for (unsigned n = 1; n <= THREADS_MAX && kvt_isa_supported(b->isa); n++)
				measure(b, format, n);
	}
}

static void fill(bench *b, kvt_element element, uint32_t head_dim, size_t bytes)
{
	kvt_rng rng = kvt_rng_init(1, head_dim);
	size_t row = head_dim * kvt_element_bytes(element), page = 2 * PAGE * row;
	b->n_tokens = bytes / page * PAGE;
	b->bytes = bytes / page * page;
	b->shape = (kvt_attention_shape){ element, head_dim, HEADS_MAX, PAGE, row, row,
		1 / sqrtf((float)head_dim), 1, 1 };
	uint8_t some[4096];
	float numbers[4096];
	size_t n_some = 4096 / kvt_element_bytes(element);
	for (size_t i = 0; i < n_some; i++)
		numbers[i] = (float)kvt_rng_normal(&rng);
	kvt_elements_from_float(element, numbers, n_some, some);
	for (size_t i = 0; i + 4096 <= b->bytes; i += 4096)
		memcpy(b->memory + i, some, 4096);
	for (size_t i = 0; i < b->n_tokens / PAGE; i++) {
		b->keys[i] = b->memory + i * page;
		b->values[i] = b->memory + i * page + page / 2;
	}
	for (size_t i = 0; i < (size_t)ROWS_MAX * head_dim; i++)
		b->queries[i] = (float)kvt_rng_normal(&rng);
}

int main(int argc, char **argv)
{
	int quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
	size_t bytes = (size_t)512 << 20;
	static const struct {
		const char *name;
		kvt_element element;
	} formats[] = { { "bf16", KVT_ELEMENT_BF16 }, { "fp16", KVT_ELEMENT_F16 },
		{ "e4m3", KVT_ELEMENT_E4M3 } };
	static bench b; /* too large for a stack */
	b = (bench){ .memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };
	if (b.memory == MAP_FAILED)
		return 1;
	madvise(b.memory, bytes, MADV_HUGEPAGE);
	b.keys = g_new(const void *, bytes / 1024);
	b.values = g_new(const void *, bytes / 1024);
	printf("GB/s and 10^9 multiply-adds/s of attention and of the machine; the ratio is to the "
	       "lower of its two\n");
	printf("%-5s %8s %7s %5s %-7s %7s %8s %8s %9s %9s %-8s %7s\n", "", "head_dim", "queries",
		"heads", "isa", "threads", "GB/s", "read", "products", "machine", "lower", "ratio");
	for (size_t f = 0; f < G_N_ELEMENTS(formats); f++)
		for (uint32_t head_dim = 64; head_dim <= DIM_MAX; head_dim *= 2) {
			fill(&b, formats[f].element, head_dim, bytes);
			measure_shapes(&b, formats[f].name, quick);
		}
	fprintf(stderr, "checksum %016" G_GINT64_MODIFIER "x\n", checksum);
	g_free(b.keys);
	g_free(b.values);
	munmap(b.memory, bytes);
	return 0;
}
