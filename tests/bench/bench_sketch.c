/*
 * bench_sketch.c: bytes of sketches scored a second, by kind of sketch and instruction set, beside
 * the read bandwidth of the same memory, in turns in one run, on one thread and on all. Figures are
 * medians; a ratio compares a turn with the bandwidth measured right before and after it.
 *
 * usage: bench_sketch [--quick] [TOKENS]
 */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "sim/base/rng.h"

enum { DIM = 64, HEADS = 4, TURNS = 9, THREADS_MAX = 256 };

typedef struct bench {
	uint32_t n_pages;
	kvt_codes codes;
	kvt_code_query query;
	float *sums;
	uint32_t *ids; /* every page once, in random order */
} bench;

/* A contender reads `bytes` of every page. */
typedef struct contender {
	const char *name;
	size_t bytes;
	void (*run)(const bench *b, kvt_isa isa, uint32_t first, uint32_t n);
} contender;

static uint64_t checksum; /* of what was read, so that reading is not optimised away */

static void read_details(const bench *b, kvt_isa isa, uint32_t first, uint32_t n)
{
	const uint64_t *word = (const uint64_t *)(b->codes.details + (size_t)first * 4 * DIM);
	uint64_t sum[16] = { 0 }, all = 0;
	for (size_t i = 0; i < (size_t)n * 4 * DIM / 8; i += 16)
		for (size_t k = 0; k < 16; k++)
			sum[k] ^= word[i + k];
	for (size_t k = 0; k < 16; k++)
		all ^= sum[k];
	__atomic_fetch_xor(&checksum, all, __ATOMIC_RELAXED);
}

static void score_codes(const bench *b, kvt_isa isa, uint32_t first, uint32_t n)
{
	kvt_page_list pages = { .n = n, .first = first };
	kvt_code_score(isa, &b->codes, &b->query, &pages, b->sums + first, b->n_pages);
}

static void score_list(const bench *b, kvt_isa isa, uint32_t first, uint32_t n)
{
	kvt_page_list pages = { .n = n, .ids = b->ids + first };
	kvt_code_score(isa, &b->codes, &b->query, &pages, b->sums + first, b->n_pages);
}

static void score_means(const bench *b, kvt_isa isa, uint32_t first, uint32_t n)
{
	kvt_page_list pages = { .n = n, .first = first };
	kvt_code_score_means(isa, &b->codes, &b->query, &pages, b->sums + first, b->n_pages);
}

static const contender contenders[] = {
	{ "page codes", DIM * 4 + DIM / 2 + 8, score_codes },
	{ "page codes, random list", DIM * 4 + DIM / 2 + 8, score_list },
	{ "means of page codes", DIM / 2 + 8, score_means },
};

/* One thread's share of a turn. */
typedef struct part {
	const bench *b;
	const contender *contender;
	kvt_isa isa;
	uint32_t first, n;
} part;

static gpointer run_part(gpointer data)
{
	const part *p = data;
	p->contender->run(p->b, p->isa, p->first, p->n);
	return NULL;
}

static double seconds(const bench *b, const contender *c, kvt_isa isa, uint32_t n_threads)
{
	part parts[THREADS_MAX];
	GThread *threads[THREADS_MAX];
	gint64 began = g_get_monotonic_time();
	for (uint32_t t = 0; t < n_threads; t++) {
		uint32_t first = (uint32_t)((uint64_t)b->n_pages * t / n_threads);
		uint32_t end = (uint32_t)((uint64_t)b->n_pages * (t + 1) / n_threads);
		parts[t] = (part){ b, c, isa, first, end - first };
		threads[t] = t ? g_thread_new("bench", run_part, &parts[t]) : NULL;
	}
	run_part(&parts[0]);
	for (uint32_t t = 1; t < n_threads; t++)
		g_thread_join(threads[t]);
	return (double)MAX(g_get_monotonic_time() - began, 1) * 1e-6;
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

static void measure(const bench *b, const contender *c, kvt_isa isa, uint32_t n_threads)
{
	static const contender reader = { "read", 4 * DIM, read_details };
	double rate[TURNS], bandwidth[TURNS], ratio[TURNS];
	double reads = (double)b->n_pages * reader.bytes, scored = (double)b->n_pages * c->bytes;
	double before = reads / seconds(b, &reader, isa, n_threads);
	for (int turn = 0; turn < TURNS; turn++) {
		rate[turn] = scored / seconds(b, c, isa, n_threads);
		double after = reads / seconds(b, &reader, isa, n_threads);
		bandwidth[turn] = (before + after) / 2;
		ratio[turn] = rate[turn] / bandwidth[turn];
		before = after;
	}
	double median_rate = median(rate, TURNS);
	printf("%-26s %-7s %7u %8.2f %8.2f %8.0f %6.0f%%\n", c->name, kvt_isa_name(isa), n_threads,
		median_rate / 1e9, median(bandwidth, TURNS) / 1e9,
		median_rate / (double)c->bytes * 16 / 1e6, 100 * median(ratio, TURNS));
}

static void fill(bench *b)
{
	kvt_rng rng = kvt_rng_init(1, 1);
	size_t means_bytes = kvt_code_means_bytes(DIM, b->n_pages);
	size_t details_bytes = b->n_pages * kvt_code_detail_bytes(DIM);
	b->codes = (kvt_codes){ .head_dim = DIM,
		.means = aligned_alloc(64, means_bytes),
		.details = aligned_alloc(64, details_bytes) };
	b->sums = g_new0(float, (size_t)HEADS * b->n_pages);
	b->ids = g_new(uint32_t, b->n_pages);
	for (size_t i = 0; i < means_bytes; i++)
		b->codes.means[i] = (uint8_t)(i % (10 * DIM) < 8 * DIM ? i * 31 >> 2 : 120);
	for (size_t i = 0; i < details_bytes; i++)
		b->codes.details[i] = (uint8_t)(i * 2654435761u >> 13);
	for (uint32_t i = 0; i < b->n_pages; i++) {
		uint32_t other = (uint32_t)kvt_rng_below(&rng, i + 1);
		b->ids[i] = b->ids[other];
		b->ids[other] = i;
	}
	float queries[HEADS * DIM];
	for (uint32_t i = 0; i < HEADS * DIM; i++)
		queries[i] = (float)kvt_rng_normal(&rng);
	kvt_code_query_init(&b->query, DIM, HEADS,
		aligned_alloc(64, (kvt_code_query_bytes(DIM, HEADS) | 63) + 1));
	kvt_code_query_set(&b->query, queries, 0.125f);
}

int main(int argc, char **argv)
{
	uint64_t n_tokens = 8u << 20;
	for (int i = 1; i < argc; i++)
		n_tokens = strcmp(argv[i], "--quick") == 0 ? 1u << 20 : strtoull(argv[i], NULL, 10);
	if (n_tokens < 4096 || n_tokens > UINT64_C(1) << 30) {
		fprintf(stderr, "usage: bench_sketch [--quick] [TOKENS]\n");
		return 2;
	}
	bench b = { .n_pages = (uint32_t)(n_tokens / 16) };
	fill(&b);
	uint32_t cores = MIN(g_get_num_processors(), (uint32_t)THREADS_MAX);
	printf("%u query heads over %" G_GUINT64_FORMAT
	       " tokens of head_dim %u, %.0f MB of sketches\n",
		HEADS, n_tokens, DIM, (double)b.n_pages * contenders[0].bytes / 1e6);
	printf("%-26s %-7s %7s %8s %8s %8s %7s\n", "sketch", "isa", "threads", "GB/s", "read GB/s",
		"Mtoken/s", "ratio");
	for (size_t c = 0; c < G_N_ELEMENTS(contenders); c++)
		for (kvt_isa isa = KVT_ISA_AVX2; isa < KVT_ISA_COUNT; isa++)
			for (uint32_t t = 1; kvt_isa_supported(isa) && t <= cores;
				t = t < cores ? cores : t + 1)
				measure(&b, &contenders[c], isa, t);
	return checksum == 1;
}
