/* test_page_map.c: random operations of the page map against a plain table of pages. */
#include <glib.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/tier/page_map.h"

enum { PAGES = 200, SETS = 3, PAGE = 4096 };

/* A run of one of a few layers, the same for every page number. */
static kvt_extent run_of(unsigned set, uint64_t first, uint64_t n)
{
	return (kvt_extent){ set % 2, set / 2, first, n, PAGE };
}

/* Runs of neighbours in a table. */
static unsigned count_runs(const bool *there)
{
	unsigned runs = 0;
	for (unsigned i = 0; i < PAGES; i++)
		runs += there[i] && (i == 0 || !there[i - 1]);
	return runs;
}

static unsigned count_there(const bool *there, uint64_t first, uint64_t n)
{
	unsigned count = 0;
	for (uint64_t i = first; i < first + n; i++)
		count += there[i];
	return count;
}

static void test_random(void)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		kvt_rng rng = kvt_rng_init(seed, 0);
		kvt_page_map *map = kvt_page_map_new();
		bool there[SETS][PAGES] = { 0 };
		/* mostly short runs in one half of the seeds, mostly long ones in the other */
		uint64_t longest = seed % 2 ? 6 : PAGES;
		for (unsigned step = 0; step < 4000; step++) {
			unsigned set = (unsigned)kvt_rng_below(&rng, SETS);
			uint64_t first = kvt_rng_below(&rng, PAGES);
			uint64_t n = 1 + kvt_rng_below(&rng, MIN(longest, PAGES - first));
			kvt_extent run = run_of(set, first, n);
			unsigned count = count_there(there[set], first, n);
			g_assert_cmpuint(kvt_page_map_count(map, 5, &run), ==, count);
			g_assert_cmpuint(kvt_page_map_count(map, 6, &run), ==, 0);
			g_assert_cmpuint(
				kvt_page_map_n_runs(map, 5, &run), ==, count_runs(there[set]));
			uint64_t what = kvt_rng_below(&rng, 3);
			if (what == 0) {
				g_assert_cmpuint(
					kvt_page_map_add(map, 5, &run), ==, (n - count) * PAGE);
				memset(&there[set][first], true, n);
			} else if (what == 1) {
				g_assert_cmpuint(
					kvt_page_map_remove(map, 5, &run), ==, count * PAGE);
				memset(&there[set][first], false, n);
			}
		}
		for (unsigned set = 0; set < SETS; set++) {
			kvt_extent all = run_of(set, 0, PAGES);
			unsigned count = count_there(there[set], 0, PAGES);
			g_assert_cmpuint(kvt_page_map_remove(map, 5, &all), ==, count * PAGE);
			g_assert_cmpuint(kvt_page_map_count(map, 5, &all), ==, 0);
		}
		kvt_page_map_free(map);
	}
}

static void test_edges(void)
{
	kvt_page_map *map = kvt_page_map_new();
	kvt_extent last = run_of(0, UINT64_MAX - 10, 10), first = run_of(0, 0, 10);
	g_assert_cmpuint(kvt_page_map_add(map, 1, &last), ==, 10 * PAGE);
	g_assert_cmpuint(kvt_page_map_add(map, 1, &first), ==, 10 * PAGE);
	g_assert_cmpuint(kvt_page_map_add(map, 1, &last), ==, 0);
	g_assert_cmpuint(kvt_page_map_count(map, 1, &last), ==, 10);
	/* tenants, contexts and layers are apart, even where their numbers are mixed up */
	kvt_extent other = first;
	other.context = first.layer + 1;
	g_assert_cmpuint(kvt_page_map_count(map, 1, &other), ==, 0);
	other = first;
	other.layer = 1;
	g_assert_cmpuint(kvt_page_map_count(map, 1, &other), ==, 0);
	g_assert_cmpuint(kvt_page_map_count(map, 0, &first), ==, 0);
	kvt_extent middle = run_of(0, 3, 4);
	g_assert_cmpuint(kvt_page_map_remove(map, 1, &middle), ==, 4 * PAGE);
	g_assert_cmpuint(kvt_page_map_count(map, 1, &first), ==, 6);
	g_assert_cmpuint(kvt_page_map_add(map, 1, &middle), ==, 4 * PAGE);
	g_assert_cmpuint(kvt_page_map_count(map, 1, &first), ==, 10);
	kvt_page_map_free(map);
	kvt_page_map_free(NULL);
}

static void test_page_sizes(void)
{
	kvt_page_map *map = kvt_page_map_new();
	kvt_extent run = run_of(0, 0, 4), wide = run;
	wide.page_bytes = 2 * PAGE;
	/* a claim alone fixes the size, and only while it lasts */
	g_assert_true(kvt_page_map_claim(map, 1, &run));
	g_assert_true(kvt_page_map_claim(map, 1, &run));
	g_assert_false(kvt_page_map_claim(map, 1, &wide));
	g_assert_true(kvt_page_map_claim(map, 2, &wide));
	kvt_page_map_release(map, 2, &wide);
	kvt_page_map_release(map, 1, &run);
	g_assert_false(kvt_page_map_claim(map, 1, &wide));
	kvt_page_map_release(map, 1, &run);
	g_assert_true(kvt_page_map_claim(map, 1, &wide));
	kvt_page_map_release(map, 1, &wide);
	/* and so do pages */
	g_assert_cmpuint(kvt_page_map_add(map, 1, &run), ==, 4 * PAGE);
	g_assert_false(kvt_page_map_claim(map, 1, &wide));
	g_assert_cmpuint(kvt_page_map_count(map, 1, &wide), ==, 0);
	wide.n_pages = 3;
	g_assert_cmpuint(kvt_page_map_remove(map, 1, &wide), ==, 3 * PAGE);
	g_assert_false(kvt_page_map_claim(map, 1, &wide));
	g_assert_cmpuint(kvt_page_map_remove(map, 1, &run), ==, PAGE);
	g_assert_cmpuint(kvt_page_map_add(map, 1, &wide), ==, 3 * 2 * PAGE);
	kvt_page_map_free(map);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/page-map/random", test_random);
	g_test_add_func("/page-map/edges", test_edges);
	g_test_add_func("/page-map/page-sizes", test_page_sizes);
	return g_test_run();
}
