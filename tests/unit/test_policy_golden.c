/*
 * test_policy_golden.c: every eviction policy, eviction by eviction, against a slow one made of
 * lists; and its misses on three access sequences against tests/golden/policies.csv. With
 * KVT_GOLDEN_WRITE set to a path the misses are written there instead.
 */
#include <glib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/base/datadir.h"
#include "sim/base/rng.h"
#include "sim/cache/page_cache.h"
#include "sim/engine/replay_trace.h"
#include "sim/prefetch/top_pages.h"
#include "tests/unit/naive_policy.h"

enum { ROUNDS = 120, OPERATIONS = 1500, PAGES = 28 };

static uint32_t locality(kvt_rng *rng, uint32_t *recent, unsigned i)
{
	uint32_t page = (uint32_t)kvt_rng_below(rng, PAGES);
	if (kvt_rng_below(rng, 2) == 0)
		page = recent[kvt_rng_below(rng, 8)];
	return recent[i % 8] = page;
}

/* Accesses, pins, removals and changes of capacity: the same page leaves both caches each time. */
static void compare(const kvt_policy_ops *ops, kvt_rng *rng, naive_cache *naive, bool use_pins)
{
	unsigned most = 1 + (unsigned)kvt_rng_below(rng, 24);
	g_autoptr(kvt_page_cache) cache = kvt_page_cache_new(ops, PAGES, most);
	uint32_t recent[8] = { 0 }, evicted;
	naive_init(naive, ops->name, most);
	for (unsigned i = 0; i < OPERATIONS; i++) {
		uint32_t page = locality(rng, recent, i);
		uint64_t choice = kvt_rng_below(rng, 16);
		if (choice == 0 && kvt_page_cache_has(cache, page) && !cache->pinned[page]) {
			kvt_page_cache_remove(cache, page);
			naive_remove(naive, page);
		} else if (choice < 4 && use_pins && kvt_page_cache_has(cache, page)) {
			kvt_page_cache_pin(cache, page);
		} else if (choice < 7 && use_pins) {
			kvt_page_cache_unpin(cache, page);
		} else if (kvt_page_cache_has(cache, page)) {
			kvt_page_cache_touch(cache, page);
			naive_touch(naive, page);
		} else if (kvt_page_cache_has_room(cache)) {
			uint32_t expected = naive_enter(naive, page, cache->pinned);
			g_assert_true(kvt_page_cache_enter(cache, page, &evicted));
			g_assert_cmpuint(evicted, ==, expected);
		}
		for (uint32_t p = 0; p < PAGES; p++)
			g_assert_cmpint(kvt_page_cache_has(cache, p), ==, naive_has(naive, p));
	}
}

/* LRU takes a pinned page for a recent one, which the lists do not: it is compared without pins. */
static bool moves_pinned(const char *policy)
{
	return strcmp(policy, "lru") == 0;
}

static void test_against_lists(void)
{
	g_autofree naive_cache *naive = g_new(naive_cache, 1);
	unsigned compared = 0;
	for (size_t p = 0; kvt_policy_registry()[p]; p++) {
		const kvt_policy_ops *ops = kvt_policy_registry()[p];
		if (!naive_knows(ops->name))
			continue;
		compared++;
		kvt_rng rng = kvt_rng_init(11, p);
		for (unsigned round = 0; round < ROUNDS; round++)
			compare(ops, &rng, naive, round % 2 == 1 && !moves_pinned(ops->name));
	}
	g_assert_cmpuint(compared, ==, 7);
}

/* What attention gave pages, added up in floating point, decides who leaves; the order of sums that
 * lie close together is not compared. */
static void test_attention(void)
{
	const kvt_policy_ops *ops = kvt_policy_find("attention", NULL);
	kvt_rng rng = kvt_rng_init(12, 1);
	unsigned checked = 0;
	g_autoptr(kvt_page_cache) cache = kvt_page_cache_new(ops, PAGES, 12);
	double worth[PAGES] = { 0 };
	for (uint32_t step = 0; step < 3000; step++) {
		for (uint32_t page = 0; page < PAGES; page++)
			worth[page] *= exp2(-1.0 / 8);
		for (unsigned i = 0; i < 4; i++) {
			uint32_t page = (uint32_t)kvt_rng_below(&rng, PAGES), evicted;
			uint32_t mass = (uint32_t)kvt_rng_below(&rng, KVT_MASS_ONE);
			double least = INFINITY, second = INFINITY;
			for (uint32_t p = 0; p < PAGES; p++)
				if (kvt_page_cache_has(cache, p) && worth[p] < second) {
					second = MAX(worth[p], least);
					least = MIN(worth[p], least);
				}
			if (!kvt_page_cache_has(cache, page)) {
				g_assert_true(kvt_page_cache_enter(cache, page, &evicted));
				if (evicted != KVT_NO_PAGE && second > least * 1.001 + 1e-6) {
					g_assert_cmpfloat(worth[evicted], ==, least);
					checked++;
				}
			}
			kvt_page_cache_mass(cache, page, step, mass);
			worth[page] += (double)mass / KVT_MASS_ONE + 0.125;
		}
	}
	g_assert_cmpuint(checked, >, 3000);
}

typedef struct access_sequence {
	const char *name;
	uint32_t pages;
	const uint32_t *capacities; /* 0: no more */
	GArray *accesses;           /* uint32_t */
} access_sequence;

static const uint32_t small_capacities[] = { 5, 10, 25, 50, 100, 200, 400, 800, 0 };
static const uint32_t large_capacities[] = { 41, 82, 123, 205, 410, 820, 0 };

/* Page k is asked for in proportion to 1 / (k + 1). */
static void make_zipf(access_sequence *sequence)
{
	enum { N = 1000, ACCESSES = 20000 };
	*sequence = (access_sequence){ "zipf", N, small_capacities,
		g_array_new(FALSE, FALSE, sizeof(uint32_t)) };
	g_autofree uint64_t *below = g_new0(uint64_t, N + 1);
	for (uint32_t k = 0; k < N; k++)
		below[k + 1] = below[k] + 1000000 / (k + 1);
	kvt_rng rng = kvt_rng_init(21, 1);
	for (unsigned i = 0; i < ACCESSES; i++) {
		uint64_t at = kvt_rng_below(&rng, below[N]);
		uint32_t low = 0, high = N;
		while (high - low > 1) {
			uint32_t middle = (low + high) / 2;
			if (below[middle] <= at)
				low = middle;
			else
				high = middle;
		}
		/* spread over the numbers, which say nothing of popularity */
		uint32_t page = low * 617 % N;
		g_array_append_val(sequence->accesses, page);
	}
}

/* A loop over 150 pages, interrupted by scans of pages that are not used again for long. */
static void make_scans(access_sequence *sequence)
{
	enum { N = 1000, LOOP = 150, ROUNDS_OF_LOOP = 40, SCAN = 170 };
	*sequence = (access_sequence){ "scan-loop", N, small_capacities,
		g_array_new(FALSE, FALSE, sizeof(uint32_t)) };
	uint32_t scanned = 0;
	for (unsigned round = 0; round < ROUNDS_OF_LOOP; round++) {
		for (uint32_t page = 0; page < LOOP; page++)
			g_array_append_val(sequence->accesses, page);
		for (unsigned i = 0; i < SCAN && round % 4 == 3; i++) {
			uint32_t page = LOOP + scanned++ % (N - LOOP);
			g_array_append_val(sequence->accesses, page);
		}
	}
}

/* The 41 pages (2%) of most mass of each step's first KV head, by rising mass; one in 5 steps. */
static void make_recorded(access_sequence *sequence)
{
	enum { TOP = 41, EVERY = 5 };
	g_autoptr(GError) error = NULL;
	g_autofree char *path = kvt_datadir_find("traces/samples/code-32k-layer7.h5", &error);
	g_assert_no_error(error);
	kvt_attention_trace *trace = kvt_attention_trace_open(path, &error);
	g_assert_no_error(error);
	kvt_replay_trace_spec spec = { .layer = 7, .masses = KVT_REPLAY_MASSES_RECORDED };
	kvt_replay_source *source = kvt_replay_trace_new(trace, &spec, &error);
	g_assert_no_error(error);
	uint32_t n = source->n_pages;
	*sequence = (access_sequence){ "code-32k", n, large_capacities,
		g_array_new(FALSE, FALSE, sizeof(uint32_t)) };
	g_autofree float *share = g_new(float, n);
	g_autofree uint32_t *pages = g_new(uint32_t, n), *mass = g_new(uint32_t, n);
	g_autofree uint32_t *top = g_new(uint32_t, n);
	g_autofree uint64_t *scratch = g_new(uint64_t, 2 * (size_t)n + 1);
	for (uint32_t step = 0; step < source->n_steps; step += EVERY) {
		kvt_replay_row row;
		g_assert_true(source->row(source, step, 0, 0, TOP, &row, &error));
		memset(share, 0, n * sizeof(*share));
		for (uint32_t i = 0; i < row.n; i++)
			share[row.pages[i]] = row.mass[i];
		for (uint32_t page = 0; page < n; page++) {
			pages[page] = page;
			mass[page] = kvt_mass_quantise(share[page]);
		}
		uint32_t found = kvt_top_pages(pages, mass, n, TOP, top, scratch);
		while (found-- > 0)
			g_array_append_val(sequence->accesses, top[found]);
	}
	kvt_replay_trace_free(source);
	kvt_attention_trace_close(trace);
}

static unsigned misses(
	const kvt_policy_ops *ops, const access_sequence *sequence, uint32_t capacity)
{
	g_autoptr(kvt_page_cache) cache = kvt_page_cache_new(ops, sequence->pages, capacity);
	const uint32_t *accesses = (const uint32_t *)(const void *)sequence->accesses->data;
	guint n = sequence->accesses->len;
	g_autofree uint64_t *next = g_new(uint64_t, n), *last = g_new(uint64_t, sequence->pages);
	memset(last, 0xff, sequence->pages * sizeof(*last));
	for (guint i = n; i-- > 0;) {
		next[i] = last[accesses[i]];
		last[accesses[i]] = i;
	}
	unsigned missed = 0;
	for (guint i = 0; i < n; i++) {
		uint32_t page = accesses[i], evicted;
		if (kvt_page_cache_has(cache, page)) {
			kvt_page_cache_touch(cache, page);
		} else {
			missed++;
			g_assert_true(kvt_page_cache_enter(cache, page, &evicted));
		}
		kvt_page_cache_next_use(cache, page, next[i]);
	}
	return missed;
}

static unsigned naive_misses(const char *policy, const access_sequence *sequence, uint32_t capacity)
{
	static const uint8_t none_pinned[NAIVE_PAGES_MAX];
	g_autofree naive_cache *naive = g_new(naive_cache, 1);
	unsigned missed = 0;
	naive_init(naive, policy, capacity);
	for (guint i = 0; i < sequence->accesses->len; i++) {
		uint32_t page = g_array_index(sequence->accesses, uint32_t, i);
		if (naive_has(naive, page)) {
			naive_touch(naive, page);
		} else {
			missed++;
			naive_enter(naive, page, none_pinned);
		}
	}
	return missed;
}

static void add_lines(GString *text, const access_sequence *sequence)
{
	for (const uint32_t *capacity = sequence->capacities; *capacity; capacity++) {
		unsigned least = misses(kvt_policy_find("belady", NULL), sequence, *capacity);
		for (size_t p = 0; kvt_policy_registry()[p]; p++) {
			const kvt_policy_ops *ops = kvt_policy_registry()[p];
			unsigned missed = misses(ops, sequence, *capacity);
			g_assert_cmpuint(missed, >=, least);
			/* the slow ones take too long with much to search */
			if (*capacity <= 100 && naive_knows(ops->name))
				g_assert_cmpuint(
					missed, ==, naive_misses(ops->name, sequence, *capacity));
			g_string_append_printf(text, "%s,%u,%s,%u,%u\n", sequence->name, *capacity,
				ops->name, sequence->accesses->len, missed);
		}
	}
	g_array_free(sequence->accesses, TRUE);
}

static void test_golden_misses(void)
{
	static void (*const makers[])(access_sequence *) = { make_zipf, make_scans, make_recorded };
	g_autoptr(GString) text = g_string_new("trace,capacity,policy,accesses,misses\n");
	g_autoptr(GError) error = NULL;
	for (size_t i = 0; i < G_N_ELEMENTS(makers); i++) {
		access_sequence sequence;
		makers[i](&sequence);
		add_lines(text, &sequence);
	}
	const char *path = g_getenv("KVT_GOLDEN_WRITE");
	if (path) {
		g_file_set_contents(path, text->str, -1, &error);
		g_assert_no_error(error);
		g_test_skip("written, not compared");
		return;
	}
	g_autofree char *golden = NULL;
	g_file_get_contents("tests/golden/policies.csv", &golden, NULL, &error);
	g_assert_no_error(error);
	g_auto(GStrv) is = g_strsplit(text->str, "\n", -1), should = g_strsplit(golden, "\n", -1);
	for (guint i = 0; is[i] && should[i]; i++)
		g_assert_cmpstr(is[i], ==, should[i]);
	g_assert_cmpuint(g_strv_length(is), ==, g_strv_length(should));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/policy/against-lists", test_against_lists);
	g_test_add_func("/policy/attention", test_attention);
	g_test_add_func("/policy/golden-misses", test_golden_misses);
	return g_test_run();
}
