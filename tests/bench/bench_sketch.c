/*
 * bench_sketch.c: bytes of sketches scored a second, by kind of sketch and instruction set, beside
 * the bandwidth at which a plain loop reads the same memory, in turns in one run, on one thread and
 * on all. Times are the threads' own, so that other programs disturb little; figures are medians,
 * and a ratio compares a turn with the reads right before and after it.
 *
 * usage: bench_sketch [--quick]
 */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "kernels/kernels.h"
#include "sim/base/rng.h"
#include "tests/bench/median.h"

/* Sketches of many KV heads, each of a context of 128K tokens, as a step of decoding scans them:
 * more than caches hold, while a KV head's scores stay in cache, where they are used next. */
enum {
	DIM = 64,
	BITS = 128,
	HEADS = 4,
	PAGES = 8192,
	TURNS = 11,
	THREADS_MAX = 256,
	LISTED = PAGES / 10
};

typedef struct bench {
	uint32_t n_codes, n_means; /* KV heads with details; with means alone */
	uint8_t *means, *details, *hashes;
	kvt_code_query query;
	kvt_simhash hash;
	kvt_simhash_query hash_query;
	uint32_t *random;    /* every page once, in random order */
	uint32_t *ascending; /* one in ten, in order */
	float *keys;
} bench;

static uint64_t checksum; /* of what was read, so that reading is not optimised away */

/* A contender works on a KV head; it reads `bytes` of each of n_pages. */
typedef struct contender {
	const char *name;
	size_t bytes;
	uint32_t n_pages;
	int means;
	void (*run)(const bench *b, kvt_isa isa, uint32_t kv_head, float *sums);
} contender;

static kvt_codes codes_of(const bench *b, uint32_t kv_head)
{
	return (kvt_codes){ .head_dim = DIM,
		.means = b->means + kv_head * kvt_code_means_bytes(DIM, PAGES),
		.details =
			b->details + (kv_head % b->n_codes) * PAGES * kvt_code_detail_bytes(DIM) };
}

#ifdef __x86_64__
#define READ(name, isa, vector, load, fold)                                                        \
	__attribute__((target(isa))) static uint64_t name(const uint8_t *from, size_t bytes)       \
	{                                                                                          \
		vector a = load(from), b = a, c = a, d = a;                                        \
		for (size_t i = 0; i < bytes; i += 4 * sizeof(vector)) {                           \
			a = fold(a, load(from + i));                                               \
			b = fold(b, load(from + i + sizeof(vector)));                              \
			c = fold(c, load(from + i + 2 * sizeof(vector)));                          \
			d = fold(d, load(from + i + 3 * sizeof(vector)));                          \
		}                                                                                  \
		uint64_t words[sizeof(vector) / 8], all = 0;                                       \
		a = fold(fold(a, b), fold(c, d));                                                  \
		memcpy(words, &a, sizeof(words));                                                  \
		for (size_t i = 0; i < sizeof(vector) / 8; i++)                                    \
			all += words[i];                                                           \
		return all;                                                                        \
	}
#define LOAD256(p) _mm256_load_si256((const __m256i *)(p))
READ(read_avx2, "avx2", __m256i, LOAD256, _mm256_add_epi64)
READ(read_avx512, "avx512f", __m512i, _mm512_load_si512, _mm512_add_epi64)
#endif

static void read_plain(kvt_isa isa, const uint8_t *from, size_t bytes)
{
	uint64_t sum = 0;
#ifdef __x86_64__
	sum = isa == KVT_ISA_AVX512 ? read_avx512(from, bytes) : read_avx2(from, bytes);
#endif
	__atomic_fetch_xor(&checksum, sum, __ATOMIC_RELAXED);
}

static void read_details(const bench *b, kvt_isa isa, uint32_t kv_head, float *sums)
{
	read_plain(isa, codes_of(b, kv_head).details, PAGES * kvt_code_detail_bytes(DIM));
}

static void read_means(const bench *b, kvt_isa isa, uint32_t kv_head, float *sums)
{
	read_plain(isa, codes_of(b, kv_head).means, kvt_code_means_bytes(DIM, PAGES));
}

static void score_codes(const bench *b, kvt_isa isa, uint32_t kv_head, float *sums)
{
	kvt_codes codes = codes_of(b, kv_head);
	kvt_code_score(isa, &codes, &b->query, &(kvt_page_list){ .n = PAGES }, sums, PAGES);
}

static void score_ascending(const bench *b, kvt_isa isa, uint32_t kv_head, float *sums)
{
	kvt_codes codes = codes_of(b, kv_head);
	kvt_page_list pages = { .n = LISTED, .ids = b->ascending };
	kvt_code_score(isa, &codes, &b->query, &pages, sums, PAGES);
}

static void score_random(const bench *b, kvt_isa isa, uint32_t kv_head, float *sums)
{
	kvt_codes codes = codes_of(b, kv_head);
	kvt_page_list pages = { .n = PAGES, .ids = b->random };
	kvt_code_score(isa, &codes, &b->query, &pages, sums, PAGES);
}

static void score_means(const bench *b, kvt_isa isa, uint32_t kv_head, float *sums)
{
	kvt_codes codes = codes_of(b, kv_head);
	kvt_code_score_means(isa, &codes, &b->query, &(kvt_page_list){ .n = PAGES }, sums, PAGES);
}

static void score_hashes(const bench *b, kvt_isa isa, uint32_t kv_head, float *sums)
{
	kvt_simhash_score(isa, b->hashes + (size_t)kv_head * PAGES * kvt_simhash_page_bytes(BITS),
		&b->hash_query, &(kvt_page_list){ .n = PAGES }, sums, PAGES);
}

static const contender contenders[] = {
	{ "means of page codes", DIM / 2 + 8, PAGES, 1, score_means },
	{ "page codes", DIM * 4 + DIM / 2 + 8, PAGES, 0, score_codes },
	{ "page codes, one in ten", DIM * 4 + DIM / 2 + 8, LISTED, 0, score_ascending },
	{ "page codes, random order", DIM * 4 + DIM / 2 + 8, PAGES, 0, score_random },
	{ "SimHash of 128 bits", 2 * BITS + 32, PAGES, 0, score_hashes },
};

/* One thread's share of a turn. */
typedef struct part {
	const bench *b;
	const contender *contender;
	kvt_isa isa;
	uint32_t first, end; /* KV heads */
	double seconds;
} part;

static double thread_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static gpointer run_part(gpointer data)
{
	part *p = data;
	g_autofree float *sums = g_new0(float, (size_t)HEADS *PAGES);
	double began = thread_seconds();
	for (uint32_t kv_head = p->first; kv_head < p->end; kv_head++)
		p->contender->run(p->b, p->isa, kv_head, sums);
	p->seconds = thread_seconds() - began;
	return NULL;
}

/* Bytes a second. */
static double rate_of(const bench *b, const contender *c, kvt_isa isa, uint32_t n_threads)
{
	part parts[THREADS_MAX];
	GThread *threads[THREADS_MAX];
	uint32_t n = c->means ? b->n_means : b->n_codes;
	double slowest = 0;
	for (uint32_t t = 0; t < n_threads; t++) {
		parts[t] = (part){ b, c, isa, n * t / n_threads, n * (t + 1) / n_threads, 0 };
		threads[t] = t ? g_thread_new("bench", run_part, &parts[t]) : NULL;
	}
	run_part(&parts[0]);
	for (uint32_t t = 0; t < n_threads; t++) {
		if (t)
			g_thread_join(threads[t]);
		slowest = MAX(slowest, parts[t].seconds);
	}
	return (double)n * c->n_pages * (double)c->bytes / slowest;
}

static void measure(const bench *b, const contender *c, kvt_isa isa, uint32_t n_threads)
{
	static const contender readers[2] = { { "details", 4 * DIM, PAGES, 0, read_details },
		{ "means", DIM / 2 + 8, PAGES, 1, read_means } };
	kvt_isa widest = kvt_isa_best();
	double rate[TURNS], bandwidth[TURNS], ratio[TURNS];
	double before = rate_of(b, &readers[c->means], widest, n_threads);
	for (int turn = 0; turn < TURNS; turn++) {
		rate[turn] = rate_of(b, c, isa, n_threads);
		double after = rate_of(b, &readers[c->means], widest, n_threads);
		bandwidth[turn] = (before + after) / 2;
		ratio[turn] = rate[turn] / bandwidth[turn];
		before = after;
	}
	double median_rate = bench_median(rate, TURNS);
	printf("%-26s %-7s %7u %8.2f %8.2f %8.0f %6.0f%%\n", c->name, kvt_isa_name(isa), n_threads,
		median_rate / 1e9, bench_median(bandwidth, TURNS) / 1e9,
		median_rate / (double)c->bytes * 16 / 1e6, 100 * bench_median(ratio, TURNS));
}

/* In large pages where the system has them: a cache of keys is not made of small ones. */
static uint8_t *allocate(size_t bytes)
{
	size_t large = (size_t)2 << 20;
	bytes = (bytes + large - 1) & ~(large - 1);
	uint8_t *memory = aligned_alloc(large, bytes);
	if (!memory)
		exit(1);
	madvise(memory, bytes, MADV_HUGEPAGE);
	return memory;
}

static void fill(bench *b)
{
	kvt_rng rng = kvt_rng_init(1, 1);
	size_t means_bytes = b->n_means * kvt_code_means_bytes(DIM, PAGES);
	size_t details_bytes = b->n_codes * PAGES * kvt_code_detail_bytes(DIM);
	b->means = allocate(means_bytes);
	b->details = allocate(details_bytes);
	b->random = g_new(uint32_t, PAGES);
	b->ascending = g_new(uint32_t, LISTED);
	b->keys = g_new(float, KVT_CODE_TOKENS *DIM);
	for (size_t i = 0; i < means_bytes; i++)
		b->means[i] = (uint8_t)(i % (10 * DIM) < 8 * DIM ? i * 31 >> 2 : 62);
	for (size_t i = 0; i < details_bytes; i++)
		b->details[i] = (uint8_t)(i * 2654435761u >> 13);
	for (uint32_t i = 0; i < PAGES; i++) {
		uint32_t other = (uint32_t)kvt_rng_below(&rng, i + 1);
		b->random[i] = b->random[other];
		b->random[other] = i;
	}
	for (uint32_t i = 0; i < LISTED; i++)
		b->ascending[i] = i * 10 + (uint32_t)kvt_rng_below(&rng, 10);
	for (uint32_t i = 0; i < KVT_CODE_TOKENS * DIM; i++)
		b->keys[i] = (float)kvt_rng_normal(&rng);
	kvt_code_query_init(&b->query, DIM, HEADS, allocate(kvt_code_query_bytes(DIM, HEADS)));
	kvt_code_query_set(&b->query, b->keys, 0.125f);
}

static void fill_hashes(bench *b)
{
	size_t bytes = b->n_codes * PAGES * kvt_simhash_page_bytes(BITS);
	b->hashes = allocate(bytes);
	for (size_t i = 0; i < bytes; i++)
		b->hashes[i] = (uint8_t)(i % 288 < 256 ? i * 2654435761u >> 13 : 0x40);
	kvt_simhash_init(&b->hash, DIM, BITS, 1, allocate(kvt_simhash_bytes(DIM, BITS)));
	kvt_simhash_query_init(
		&b->hash_query, BITS, HEADS, allocate(kvt_simhash_query_bytes(BITS, HEADS)));
	kvt_simhash_query_set(&b->hash_query, &b->hash, b->keys, 0.125f);
}

static void measure_build(const bench *b, double seconds, int hashes)
{
	kvt_codes codes = codes_of(b, 0);
	uint32_t n = 0;
	double began = thread_seconds(), spent;
	do {
		if (hashes)
			kvt_simhash_build(&b->hash, KVT_ELEMENT_F32, b->keys, DIM * sizeof(float),
				NULL, b->hashes + n++ % PAGES * kvt_simhash_page_bytes(BITS));
		else
			kvt_code_build(&codes, n++ % PAGES, KVT_ELEMENT_F32, b->keys,
				DIM * sizeof(float), NULL);
		spent = thread_seconds() - began;
	} while (spent < seconds);
	printf("building %s: %.2f Mtoken/s on one thread\n",
		hashes ? "SimHash codes" : "page codes", n * 16 / spent / 1e6);
}

int main(int argc, char **argv)
{
	gboolean quick = argc == 2 && strcmp(argv[1], "--quick") == 0;
	if (argc > 1 && !quick) {
		fprintf(stderr, "usage: bench_sketch [--quick]\n");
		return 2;
	}
	if (!kvt_isa_supported(KVT_ISA_AVX2)) {
		printf("no AVX2 here: nothing to compare\n");
		return 0;
	}
	bench b = { .n_codes = quick ? 32 : 64, .n_means = quick ? 256 : 512 };
	fill(&b);
	fill_hashes(&b);
	uint32_t cores = MIN(g_get_num_processors(), (uint32_t)THREADS_MAX);
	printf("%u query heads a KV head, head_dim %u, contexts of %u tokens, %u and %u MB\n",
		HEADS, DIM, PAGES * 16, b.n_means * PAGES / 1000 * (DIM / 2 + 8) / 1000,
		b.n_codes * PAGES / 1000 * 4 * DIM / 1000);
	printf("%-26s %-7s %7s %8s %8s %8s %7s\n", "sketch", "isa", "threads", "GB/s", "read GB/s",
		"Mtoken/s", "ratio");
	for (size_t c = 0; c < G_N_ELEMENTS(contenders); c++)
		for (kvt_isa isa = KVT_ISA_AVX2; isa < KVT_ISA_COUNT; isa++)
			for (uint32_t t = 1; kvt_isa_supported(isa) && t <= cores;
				t = t < cores ? cores : t + 1)
				measure(&b, &contenders[c], isa, t);
	measure_build(&b, 0.3, 0);
	measure_build(&b, 0.3, 1);
	return checksum == 1;
}
