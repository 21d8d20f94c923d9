/*
 * bench_cache.c: accesses/s of caches alone (`kvtier cache`), policy by policy, beside an LRU made
 * of GLib's hash table and list, in turns in one run, on one core; and of making ids dense beside
 * GLib's hash table. Exits with 1 only when the two LRUs, or the two sets of ids, disagree.
 *
 * usage: bench_cache [--quick] [REPETITIONS]
 */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim/cache/cache_run.h"
#include "tests/bench/median.h"
#include "traces/block_zipf.h"
#include "traces/dense_ids.h"

enum { MAX_REPETITIONS = 99, POLICIES_MAX = 32 };

/* CPU time in seconds: other work on the machine is not held against a contender. */
static double cpu_time(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The reference: what is used goes to the front, what is at the back leaves. */
static uint64_t reference_lru(const uint64_t *keys, uint64_t n, unsigned capacity)
{
	g_autoptr(GHashTable) where = g_hash_table_new(g_int64_hash, g_int64_equal);
	GQueue order = G_QUEUE_INIT;
	uint64_t misses = 0;
	for (uint64_t i = 0; i < n; i++) {
		GList *link = g_hash_table_lookup(where, &keys[i]);
		if (link != NULL) {
			g_queue_unlink(&order, link);
			g_queue_push_head_link(&order, link);
			continue;
		}
		misses++;
		if (order.length == capacity)
			g_hash_table_remove(where, g_queue_pop_tail(&order));
		g_queue_push_head(&order, (gpointer)&keys[i]);
		g_hash_table_insert(where, (gpointer)&keys[i], order.head);
	}
	g_queue_clear(&order);
	return misses;
}

static uint32_t reference_ids(const uint64_t *keys, uint64_t n)
{
	g_autoptr(GHashTable) seen = g_hash_table_new(g_int64_hash, g_int64_equal);
	for (uint64_t i = 0; i < n; i++)
		if (!g_hash_table_contains(seen, &keys[i]))
			g_hash_table_insert(seen, (gpointer)&keys[i],
				GUINT_TO_POINTER(g_hash_table_size(seen)));
	return g_hash_table_size(seen);
}

typedef struct contender {
	const kvt_policy_ops *policy;
	double seconds[MAX_REPETITIONS], ratio[MAX_REPETITIONS];
	uint64_t misses;
} contender;

typedef struct bench {
	kvt_accesses accesses;
	const uint64_t *keys;
	kvt_cache_capacity capacity;
	uint32_t *next;
	contender contenders[POLICIES_MAX];
	unsigned n_contenders, repetitions;
	uint64_t reference_misses;
	double reference[MAX_REPETITIONS];
} bench;

static void run_turn(bench *b, const kvt_block_trace *trace, unsigned turn)
{
	double start = cpu_time();
	b->reference_misses = reference_lru(b->keys, b->accesses.n, (unsigned)b->capacity.amount);
	b->reference[turn] = cpu_time() - start;
	for (unsigned i = 0; i < b->n_contenders; i++) {
		contender *c = &b->contenders[i];
		kvt_cache_misses misses;
		start = cpu_time();
		if (c->policy->needs_future) {
			kvt_block_trace_next_uses(trace, b->next);
			kvt_cache_run_belady(&b->accesses, b->next, b->capacity, &misses);
		} else {
			kvt_cache_run(&b->accesses, c->policy, b->capacity, &misses);
		}
		c->seconds[turn] = cpu_time() - start;
		c->ratio[turn] = b->reference[turn] / c->seconds[turn];
		c->misses = misses.accesses;
	}
}

static bool print_caches(bench *b)
{
	double n = (double)b->accesses.n;
	bool agree = true;
	printf("%-10s %10s %12s %8s %8s %8s\n", "policy", "miss ratio", "accesses/s", "ratio",
		"lowest", "highest");
	printf("%-10s %10.4f %10.1f M %8s\n", "GLib's LRU", (double)b->reference_misses / n,
		n / bench_median(b->reference, b->repetitions) / 1e6, "1");
	for (unsigned i = 0; i < b->n_contenders; i++) {
		contender *c = &b->contenders[i];
		double ratio = bench_median(c->ratio, b->repetitions);
		printf("%-10s %10.4f %10.1f M %8.1f %8.1f %8.1f\n", c->policy->name,
			(double)c->misses / n, n / bench_median(c->seconds, b->repetitions) / 1e6,
			ratio, c->ratio[0], c->ratio[b->repetitions - 1]);
		if (strcmp(c->policy->name, "lru") == 0)
			agree = c->misses == b->reference_misses;
	}
	return agree;
}

static bool print_ids(const uint64_t *keys, uint64_t n, unsigned repetitions)
{
	g_autofree uint32_t *to = g_new(uint32_t, n);
	double seconds[MAX_REPETITIONS], ratio[MAX_REPETITIONS];
	bool agree = true;
	for (unsigned turn = 0; turn < repetitions; turn++) {
		double start = cpu_time();
		uint32_t expected = reference_ids(keys, n);
		double reference = cpu_time() - start;
		start = cpu_time();
		kvt_dense_ids ids;
		kvt_dense_ids_init(&ids);
		kvt_dense_ids_number(&ids, keys, n, to);
		agree &= ids.count == expected;
		kvt_dense_ids_clear(&ids);
		seconds[turn] = cpu_time() - start;
		ratio[turn] = reference / seconds[turn];
	}
	printf("%-10s %10s %10.1f M %8.1f, beside GLib's hash table\n", "dense ids", "",
		(double)n / bench_median(seconds, repetitions) / 1e6,
		bench_median(ratio, repetitions));
	return agree;
}

int main(int argc, char **argv)
{
	bool quick = false;
	unsigned long repetitions = 5;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--quick") == 0)
			quick = true;
		else
			repetitions = strtoul(argv[i], NULL, 10);
	}
	kvt_zipf zipf = { .alpha = 1,
		.n_blocks = quick ? 100000 : 1000000,
		.n_accesses = quick ? 1000000 : 10000000,
		.seed = 1 };
	g_autoptr(kvt_block_trace) trace = kvt_block_zipf(&zipf);
	g_autofree uint64_t *keys = g_new(uint64_t, trace->n_accesses);
	g_autofree uint32_t *next = g_new(uint32_t, trace->n_accesses);
	/* as far apart as hashes of blocks are; odd, so that no two are the same */
	for (uint64_t i = 0; i < trace->n_accesses; i++)
		keys[i] = trace->blocks[i] * UINT64_C(0x9e3779b97f4a7c15);
	bench b = { .accesses = { .blocks = trace->blocks,
			    .n = trace->n_accesses,
			    .n_blocks = trace->n_blocks },
		.keys = keys,
		.next = next,
		.capacity.amount = zipf.n_blocks / 10,
		.repetitions = (unsigned)CLAMP(repetitions, 1, MAX_REPETITIONS) };
	for (const kvt_policy_ops *const *policy = kvt_policy_registry(); *policy; policy++)
		if ((*policy)->mass == NULL && b.n_contenders < POLICIES_MAX)
			b.contenders[b.n_contenders++].policy = *policy;
	printf("Zipf 1.0, %u blocks, %u%% of them cached, %" G_GUINT64_FORMAT
	       " accesses, %u turns\n",
		zipf.n_blocks, 10, zipf.n_accesses, b.repetitions);
	for (unsigned turn = 0; turn < b.repetitions; turn++)
		run_turn(&b, trace, turn);
	bool agree = print_caches(&b);
	agree &= print_ids(keys, trace->n_accesses, b.repetitions);
	if (!agree)
		fprintf(stderr, "bench_cache: results disagree\n");
	return !agree;
}
