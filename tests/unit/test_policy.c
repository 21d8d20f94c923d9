/* test_policy.c: every eviction policy over random accesses: accounting, pins, LRU's inclusion, and
 * Belady against the true optimum. */
#include <glib.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/cache/page_cache.h"

enum { SEQUENCES = 60, LENGTH = 400, PAGES = 24 };

/* Random accesses with some locality: half of them to one of the last few pages. */
static void random_accesses(kvt_rng *rng, uint32_t *accesses, unsigned n, uint32_t pages)
{
	for (unsigned i = 0; i < n; i++) {
		if (i >= 8 && kvt_rng_below(rng, 2) == 0)
			accesses[i] = accesses[i - 1 - kvt_rng_below(rng, 8)];
		else
			accesses[i] = (uint32_t)kvt_rng_below(rng, pages);
	}
}

static uint64_t next_use(const uint32_t *accesses, unsigned n, unsigned i)
{
	for (unsigned j = i + 1; j < n; j++)
		if (accesses[j] == accesses[i])
			return j;
	return UINT64_MAX;
}

/* Misses of demand fetching; `resident_after`, when given, is a bit set of pages after each access.
 */
static unsigned count_misses(const kvt_policy_ops *policy, const uint32_t *accesses, unsigned n,
	uint32_t pages, uint32_t capacity, uint32_t *resident_after)
{
	g_autoptr(kvt_page_cache) cache = kvt_page_cache_new(policy, pages, capacity);
	unsigned misses = 0;
	for (unsigned i = 0; i < n; i++) {
		uint32_t page = accesses[i], evicted;
		if (kvt_page_cache_has(cache, page)) {
			kvt_page_cache_touch(cache, page);
		} else {
			misses++;
			g_assert_true(kvt_page_cache_enter(cache, page, &evicted));
		}
		kvt_page_cache_next_use(cache, page, next_use(accesses, n, i));
		uint32_t set = 0;
		for (uint32_t p = 0; p < pages; p++)
			set |= (uint32_t)kvt_page_cache_has(cache, p) << p;
		g_assert_cmpuint(__builtin_popcount(set), ==, cache->stats.resident);
		g_assert_cmpuint(cache->stats.resident, <=, capacity);
		g_assert_cmpuint(
			cache->stats.entered, ==, cache->stats.resident + cache->stats.left);
		g_assert_cmpuint(cache->stats.entered, ==, misses);
		if (resident_after)
			resident_after[i] = set;
	}
	return misses;
}

/* The fewest misses of any demand-fetching policy, by dynamic programming over resident sets. */
static unsigned fewest_misses(const uint32_t *accesses, unsigned n, uint32_t pages, int capacity)
{
	size_t sets = (size_t)1 << pages;
	g_autofree unsigned *cost = g_new(unsigned, sets);
	g_autofree unsigned *after = g_new(unsigned, sets);
	memset(cost, 0x7f, sets * sizeof(*cost));
	cost[0] = 0;
	for (unsigned i = 0; i < n; i++) {
		memset(after, 0x7f, sets * sizeof(*after));
		size_t bit = (size_t)1 << accesses[i];
		for (size_t set = 0; set < sets; set++) {
			if (set & bit) {
				after[set] = MIN(after[set], cost[set]);
				continue;
			}
			if (__builtin_popcountll(set) < capacity)
				after[set | bit] = MIN(after[set | bit], cost[set] + 1);
			for (uint32_t p = 0; p < pages; p++) {
				size_t left = (set & ~((size_t)1 << p)) | bit;
				if (set >> p & 1)
					after[left] = MIN(after[left], cost[set] + 1);
			}
		}
		memcpy(cost, after, sets * sizeof(*cost));
	}
	unsigned best = cost[0];
	for (size_t set = 0; set < sets; set++)
		best = MIN(best, cost[set]);
	return best;
}

static void test_belady_is_optimal(void)
{
	const kvt_policy_ops *belady = kvt_policy_find("belady", NULL);
	kvt_rng rng = kvt_rng_init(1, 1);
	uint32_t accesses[40];
	for (unsigned round = 0; round < 40; round++) {
		random_accesses(&rng, accesses, 40, 7);
		for (int capacity = 1; capacity <= 7; capacity++)
			g_assert_cmpuint(
				count_misses(belady, accesses, 40, 7, (uint32_t)capacity, NULL), ==,
				fewest_misses(accesses, 40, 7, capacity));
	}
}

/* LRU as it is defined: the resident page whose last use lies furthest back. */
static unsigned naive_lru_misses(const uint32_t *accesses, unsigned n, uint32_t capacity)
{
	unsigned misses = 0;
	for (unsigned i = 0; i < n; i++) {
		uint32_t seen = 0, distinct = 0;
		gboolean hit = FALSE;
		for (unsigned j = i; j-- > 0 && !hit;) {
			hit = accesses[j] == accesses[i];
			if (!hit && !(seen >> accesses[j] & 1)) {
				seen |= 1u << accesses[j];
				if (++distinct >= capacity)
					break;
			}
		}
		misses += !hit;
	}
	return misses;
}

static void test_lru_is_lru(void)
{
	const kvt_policy_ops *lru = kvt_policy_find("lru", NULL);
	kvt_rng rng = kvt_rng_init(2, 1);
	uint32_t accesses[LENGTH];
	for (unsigned round = 0; round < SEQUENCES; round++) {
		random_accesses(&rng, accesses, LENGTH, PAGES);
		uint32_t capacity = 1 + (uint32_t)kvt_rng_below(&rng, PAGES);
		g_assert_cmpuint(count_misses(lru, accesses, LENGTH, PAGES, capacity, NULL), ==,
			naive_lru_misses(accesses, LENGTH, capacity));
	}
}

/* What a smaller LRU cache holds, a larger one holds too, so more HBM never means fewer hits;
 * under Belady it is the number of misses that never rises. */
static void test_more_capacity(void)
{
	kvt_rng rng = kvt_rng_init(3, 1);
	uint32_t accesses[LENGTH], smaller[LENGTH], larger[LENGTH];
	for (unsigned round = 0; round < SEQUENCES / 4; round++) {
		random_accesses(&rng, accesses, LENGTH, PAGES);
		unsigned belady_before = LENGTH;
		memset(smaller, 0, sizeof(smaller));
		for (uint32_t capacity = 1; capacity <= PAGES; capacity++) {
			unsigned lru = count_misses(kvt_policy_find("lru", NULL), accesses, LENGTH,
				PAGES, capacity, larger);
			for (unsigned i = 0; i < LENGTH; i++)
				g_assert_cmphex(smaller[i] & ~larger[i], ==, 0);
			memcpy(smaller, larger, sizeof(smaller));
			unsigned belady = count_misses(kvt_policy_find("belady", NULL), accesses,
				LENGTH, PAGES, capacity, NULL);
			g_assert_cmpuint(belady, <=, belady_before);
			g_assert_cmpuint(belady, <=, lru);
			belady_before = belady;
		}
	}
}

/* Random enters, touches, pins and removals: a victim is resident and never pinned. */
static void test_pins(void)
{
	for (size_t p = 0; kvt_policy_registry()[p]; p++) {
		const kvt_policy_ops *policy = kvt_policy_registry()[p];
		kvt_rng rng = kvt_rng_init(4, p);
		g_autoptr(kvt_page_cache) cache = kvt_page_cache_new(policy, PAGES, 9);
		uint8_t resident[PAGES] = { 0 }, pinned[PAGES] = { 0 };
		unsigned refused = 0, evictions = 0;
		for (unsigned i = 0; i < 20000; i++) {
			uint32_t page = (uint32_t)kvt_rng_below(&rng, PAGES), evicted;
			uint64_t choice = kvt_rng_below(&rng, 8);
			if (!resident[page]) {
				unsigned n = 0, n_pinned = 0;
				for (unsigned q = 0; q < PAGES; q++) {
					n += resident[q];
					n_pinned += pinned[q];
				}
				bool entered = kvt_page_cache_enter(cache, page, &evicted);
				g_assert_cmpint(entered, ==, n < 9 || n_pinned < 9);
				refused += !entered;
				if (!entered)
					continue;
				resident[page] = 1;
				if (evicted != KVT_NO_PAGE) {
					evictions++;
					g_assert_true(resident[evicted] && !pinned[evicted]);
					resident[evicted] = 0;
				}
			} else if (choice < 3) {
				kvt_page_cache_pin(cache, page);
				pinned[page] = 1;
				continue;
			} else if (choice < 5) {
				kvt_page_cache_unpin(cache, page);
				pinned[page] = 0;
				continue;
			} else if (choice == 5 && !pinned[page]) {
				kvt_page_cache_remove(cache, page);
				resident[page] = 0;
				continue;
			} else {
				kvt_page_cache_touch(cache, page);
			}
			kvt_page_cache_next_use(cache, page, i + kvt_rng_below(&rng, 100));
			for (unsigned q = 0; q < PAGES; q++)
				g_assert_cmpint(kvt_page_cache_has(cache, q), ==, resident[q]);
		}
		g_assert_cmpuint(refused, >, 0);
		g_assert_cmpuint(evictions, >, 0);
	}
}

static void test_capacity_changes(void)
{
	g_autoptr(kvt_page_cache) cache =
		kvt_page_cache_new(kvt_policy_find("lru", NULL), PAGES, 4);
	uint32_t evicted;
	kvt_page_cache_set_capacity(cache, 2);
	for (uint32_t page = 0; page < 3; page++)
		g_assert_true(kvt_page_cache_enter(cache, page, &evicted));
	g_assert_cmpuint(evicted, ==, 0);
	kvt_page_cache_set_capacity(cache, 3);
	g_assert_true(kvt_page_cache_enter(cache, 3, &evicted));
	g_assert_cmpuint(evicted, ==, KVT_NO_PAGE);
	g_assert_cmpuint(cache->stats.resident, ==, 3);
}

static void test_find(void)
{
	g_autoptr(GError) error = NULL;
	g_assert_null(kvt_policy_find("belaby", &error));
	g_assert_nonnull(strstr(error->message, "did you mean \"belady\""));
	g_clear_error(&error);
	g_assert_null(kvt_policy_find("no-such-policy-at-all", &error));
	g_assert_nonnull(strstr(error->message, "lru, fifo, clock"));
	for (size_t p = 0; kvt_policy_registry()[p]; p++) {
		const kvt_policy_ops *policy = kvt_policy_registry()[p];
		g_assert_true(kvt_policy_find(policy->name, NULL) == policy);
		g_assert_true(policy->create && policy->free && policy->admit && policy->touch &&
			      policy->remove && policy->victim && policy->summary);
		g_assert_true(!policy->needs_future || policy->next_use);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/policy/find", test_find);
	g_test_add_func("/policy/lru-is-lru", test_lru_is_lru);
	g_test_add_func("/policy/belady-is-optimal", test_belady_is_optimal);
	g_test_add_func("/policy/more-capacity", test_more_capacity);
	g_test_add_func("/policy/pins", test_pins);
	g_test_add_func("/policy/capacity-changes", test_capacity_changes);
	return g_test_run();
}
