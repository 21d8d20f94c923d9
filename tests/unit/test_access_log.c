/* test_access_log.c: runs of pages, logged accesses, and Belady's misses when a step's pages have
 * to be in HBM together. */
#include <glib.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/cache/access_log.h"
#include "sim/cache/extent_list.h"
#include "sim/cache/page_cache.h"

static void add(kvt_extent_list *list, uint32_t context, uint64_t first, uint64_t n)
{
	kvt_extent extent = { .context = context,
		.layer = 2,
		.first_page = first,
		.n_pages = n,
		.page_bytes = 4096 };
	kvt_extent_list_add(list, &extent);
}

static void test_extents(void)
{
	kvt_extent_list list = { 0 }, copy = { 0 };
	add(&list, 0, 5, 1);
	add(&list, 0, 6, 3);
	add(&list, 0, 10, 1); /* a gap */
	add(&list, 1, 11, 1); /* another context */
	add(&list, 1, 10, 1); /* not rising */
	g_assert_cmpuint(list.n, ==, 4);
	g_assert_cmpuint(list.pages, ==, 7);
	g_assert_cmpuint(list.extents[0].first_page, ==, 5);
	g_assert_cmpuint(list.extents[0].n_pages, ==, 4);
	for (uint32_t page = 100; page < 300; page += 2)
		add(&list, 1, page, 1);
	g_assert_cmpuint(list.n, ==, 104);
	kvt_extent_list_copy(&copy, &list, 9);
	g_assert_cmpuint(copy.n, ==, list.n);
	g_assert_cmpuint(copy.pages, ==, list.pages);
	for (unsigned i = 0; i < copy.n; i++) {
		g_assert_cmpuint(copy.extents[i].layer, ==, 9);
		g_assert_cmpuint(copy.extents[i].first_page, ==, list.extents[i].first_page);
	}
	kvt_extent_list_clear(&list);
	g_assert_cmpuint(list.n + list.pages, ==, 0);
	kvt_extent_list_copy(&copy, &list, 1);
	g_assert_cmpuint(copy.n, ==, 0);
	kvt_extent_list_free(&list);
	kvt_extent_list_free(&copy);
}

enum { PAGES = 7, STEPS = 12, PER_STEP = 3 };

static void random_steps(kvt_rng *rng, uint32_t pages[STEPS][PER_STEP])
{
	for (unsigned step = 0; step < STEPS; step++) {
		uint32_t set = 0;
		for (unsigned i = 0; i < PER_STEP; i++) {
			uint32_t page;
			do
				page = (uint32_t)kvt_rng_below(rng, PAGES);
			while (set >> page & 1);
			set |= 1u << page;
			pages[step][i] = page;
		}
	}
}

static void test_next(void)
{
	kvt_rng rng = kvt_rng_init(1, 1);
	for (unsigned round = 0; round < 50; round++) {
		uint32_t pages[STEPS][PER_STEP];
		random_steps(&rng, pages);
		g_autoptr(kvt_access_log) log = kvt_access_log_new(PAGES);
		for (unsigned step = 0; step < STEPS; step++) {
			kvt_access_step logged = { pages[step], PER_STEP, 5, KVT_NO_PAGE, 0 };
			kvt_access_log_step(log, &logged);
		}
		g_assert_cmpuint(kvt_access_log_count(log), ==, STEPS * PER_STEP);
		for (unsigned step = 0; step < STEPS; step++)
			for (uint32_t page = 0; page < PAGES; page++) {
				uint64_t next = UINT64_MAX;
				for (unsigned later = STEPS - 1; later > step; later--)
					for (unsigned i = 0; i < PER_STEP; i++)
						if (pages[later][i] == page)
							next = later;
				g_assert_cmpuint(kvt_access_log_next(log, page, step), ==, next);
			}
	}
}

/* The fewest misses when all of a step's pages must be resident at once: over all ways to choose
 * what stays. */
static unsigned fewest_misses(uint32_t pages[STEPS][PER_STEP], uint32_t capacity, uint32_t born)
{
	unsigned cost[1 << PAGES], after[1 << PAGES];
	memset(cost, 0x7f, sizeof(cost));
	cost[0] = 0;
	for (unsigned step = 0; step < STEPS; step++) {
		uint32_t needed = 0;
		for (unsigned i = 0; i < PER_STEP; i++)
			needed |= 1u << pages[step][i];
		memset(after, 0x7f, sizeof(after));
		for (uint32_t set = 0; set < 1 << PAGES; set++) {
			if (cost[set] > 1000)
				continue;
			uint32_t missing = needed & ~set;
			unsigned misses = (unsigned)__builtin_popcount(
				step == 0 ? missing & ~(1u << born) : missing);
			/* any part of what was there may stay */
			uint32_t others = set & ~needed;
			for (uint32_t stay = others;; stay = (stay - 1) & others) {
				uint32_t now = needed | stay;
				if ((uint32_t)__builtin_popcount(now) <= capacity)
					after[now] = MIN(after[now], cost[set] + misses);
				if (stay == 0)
					break;
			}
		}
		memcpy(cost, after, sizeof(cost));
	}
	unsigned best = UINT32_MAX;
	for (uint32_t set = 0; set < 1 << PAGES; set++)
		best = MIN(best, cost[set]);
	return best;
}

static void test_belady_of_steps(void)
{
	kvt_rng rng = kvt_rng_init(2, 1);
	for (unsigned round = 0; round < 60; round++) {
		uint32_t pages[STEPS][PER_STEP];
		random_steps(&rng, pages);
		for (uint32_t capacity = PER_STEP; capacity <= PAGES; capacity++) {
			g_autoptr(kvt_access_log) log = kvt_access_log_new(PAGES);
			for (unsigned step = 0; step < STEPS; step++) {
				uint32_t born = step == 0 ? pages[0][0] : KVT_NO_PAGE;
				kvt_access_step logged = { pages[step], PER_STEP, capacity, born,
					0 };
				kvt_access_log_step(log, &logged);
			}
			unsigned fewest = fewest_misses(pages, capacity, pages[0][0]);
			g_assert_cmpuint(kvt_access_log_belady_misses(log), ==, fewest);
			/* it can be asked again */
			g_assert_cmpuint(kvt_access_log_belady_misses(log), ==, fewest);
		}
	}
}

static void test_empty(void)
{
	g_autoptr(kvt_access_log) log = kvt_access_log_new(3);
	g_assert_cmpuint(kvt_access_log_belady_misses(log), ==, 0);
	g_assert_cmpuint(kvt_access_log_next(log, 2, 0), ==, UINT64_MAX);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/access-log/extents", test_extents);
	g_test_add_func("/access-log/next", test_next);
	g_test_add_func("/access-log/belady-of-steps", test_belady_of_steps);
	g_test_add_func("/access-log/empty", test_empty);
	return g_test_run();
}
