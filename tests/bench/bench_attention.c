/*
 * bench_attention.c: attention of a decode step (1 query token, a group of 4 heads) over KV much
 * larger than the caches, by number format, head_dim and instruction set, on one thread and on two:
 * beside the read bandwidth of the same pages and the rate of multiply-adds of this shape
 * (multiply_add.h), in turns of a few milliseconds in one run. What attention is held against is
 * the lower of the two; what registers alone could multiply is printed, too. Rates are of time that
 * threads ran (they may share a processor with others); figures are medians.
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

#include "kernels/kernels.h"
#include "sim/base/rng.h"
#include "tests/bench/multiply_add.h"

enum { PAGE = 16, HEADS = 4, TURNS = 41, THREADS_MAX = 2 };

typedef struct bench {
	kvt_attention_shape shape;
	uint64_t n_tokens;
	uint8_t *memory;
	size_t bytes;
	const void **keys, **values;
	float queries[HEADS * 512];
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

static double read_bytes(part *p)
{
	uint64_t first, n, sum[16] = { 0 }, all = 0;
	stretch(p, &first, &n);
	size_t token_bytes = p->b->bytes / p->b->n_tokens, bytes = n * token_bytes;
	const uint64_t *word = (const uint64_t *)(p->b->memory + first * token_bytes);
	double began = thread_seconds();
	for (size_t i = 0; i < bytes / 8; i += 16)
		for (size_t k = 0; k < 16; k++)
			sum[k] ^= word[i + k];
	double seconds = thread_seconds() - began;
	for (size_t k = 0; k < 16; k++)
		all ^= sum[k];
	__atomic_fetch_xor(&checksum, all, __ATOMIC_RELAXED);
	return (double)bytes / seconds;
}

static double of_registers(part *p)
{
	return multiply_adds_of_registers(p->b->isa);
}

static double of_shape(part *p)
{
	return multiply_adds_of_shape(p->b->isa, p->b->shape.element);
}

/* Tokens a second. */
static double attend(part *p)
{
	const bench *b = p->b;
	uint64_t first, n;
	stretch(p, &first, &n);
	float output[HEADS * 512], lse[HEADS];
	kvt_attention_partial partial = { output, lse, NULL };
	kvt_attention_window window = { b->keys + first / PAGE, b->values + first / PAGE, n, 0, n };
	void *scratch = aligned_alloc(64, kvt_attention_scratch_bytes(&b->shape, 1));
	double began = thread_seconds();
	if (kvt_attention(b->isa, &b->shape, b->queries, 1, &window, &partial, scratch) != 0)
		abort();
	double seconds = thread_seconds() - began;
	free(scratch);
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

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *values, int n)
{
	qsort(values, (size_t)n, sizeof(double), by_value);
	return values[n / 2];
}

static void measure(const bench *b, const char *format, unsigned n_threads)
{
	double tokens[TURNS], memory[TURNS], products[TURNS], pure[TURNS], ratio[TURNS];
	double token_bytes = (double)b->bytes / (double)b->n_tokens;
	/* a product of a query and a key, and one of a weight and a value */
	double token_products = 2.0 * HEADS * b->shape.head_dim;
	for (int turn = 0; turn < TURNS; turn++) {
		/* each reads what was read longest ago */
		uint64_t at = 3 * (uint64_t)turn;
		memory[turn] = rate_of(b, read_bytes, n_threads, at);
		pure[turn] = rate_of(b, of_registers, n_threads, at + 1);
		products[turn] = rate_of(b, of_shape, n_threads, at + 1);
		tokens[turn] = rate_of(b, attend, n_threads, at + 1);
		memory[turn] = (memory[turn] + rate_of(b, read_bytes, n_threads, at + 2)) / 2;
		double limit = MIN(memory[turn] / token_bytes, products[turn] / token_products);
		ratio[turn] = tokens[turn] / limit;
	}
	double speed = median(tokens, TURNS), read = median(memory, TURNS);
	double fma = median(products, TURNS);
	printf("%-5s %8u %-7s %7u %8.2f %8.2f %9.1f %9.1f %9.1f %-8s %6.0f%%\n", format,
		b->shape.head_dim, kvt_isa_name(b->isa), n_threads, speed * token_bytes / 1e9,
		read / 1e9, speed * token_products / 1e9, fma / 1e9, median(pure, TURNS) / 1e9,
		read / token_bytes < fma / token_products ? "memory" : "products",
		100 * median(ratio, TURNS));
	fflush(stdout);
}

static void fill(bench *b, kvt_element element, uint32_t head_dim, size_t bytes)
{
	kvt_rng rng = kvt_rng_init(1, head_dim);
	size_t row = head_dim * kvt_element_bytes(element), page = 2 * PAGE * row;
	b->n_tokens = bytes / page * PAGE;
	b->bytes = bytes / page * page;
	b->shape = (kvt_attention_shape){ element, head_dim, HEADS, PAGE, row, row,
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
	for (size_t i = 0; i < (size_t)HEADS * head_dim; i++)
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
	bench b = { .memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0) };
	if (b.memory == MAP_FAILED)
		return 1;
	madvise(b.memory, bytes, MADV_HUGEPAGE);
	b.keys = g_new(const void *, bytes / 1024);
	b.values = g_new(const void *, bytes / 1024);
	printf("GB/s and 10^9 multiply-adds/s of attention and of the machine (reads; products of "
	       "this "
	       "shape,\nand of registers alone); the ratio is to the lower of reads and shape\n");
	printf("%-5s %8s %-7s %7s %8s %8s %9s %9s %9s %-8s %7s\n", "", "head_dim", "isa", "threads",
		"GB/s", "read", "products", "shape", "registers", "lower", "ratio");
	for (size_t f = 0; f < G_N_ELEMENTS(formats) - (size_t)quick; f++)
		for (uint32_t head_dim = 64; head_dim <= 128; head_dim *= 2) {
			fill(&b, formats[f].element, head_dim, bytes);
			for (b.isa = quick ? kvt_isa_best() : KVT_ISA_AVX2; b.isa < KVT_ISA_COUNT;
				b.isa++)
				for (unsigned n = 1; n <= THREADS_MAX && kvt_isa_supported(b.isa);
					n++)
					measure(&b, formats[f].name, n);
		}
	fprintf(stderr, "checksum %016" G_GINT64_MODIFIER "x\n", checksum);
	g_free(b.keys);
	g_free(b.values);
	munmap(b.memory, bytes);
	return 0;
}
