/* test_page_lookup.c: hash tables against the probability that vectors meet, links against the
 * nearest pages, and lookups: what they list, how much, that they find what is there, and that
 * nothing depends on when pages came. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "sim/base/rng.h"
#include "sim/prefetch/octaves.h"
#include "sim/prefetch/page_hashes.h"
#include "sim/prefetch/page_lookup.h"
#include "sim/prefetch/top_pages.h"

enum { DIM = 32, PAGES = 3000, GROUP = 2, CLUSTERS = 60 };

/* Page means: noise about the centre of a cluster that the page belongs to. */
typedef struct world {
	float mean[PAGES][DIM];
	uint64_t asked;
} world;

static uint32_t cluster_of(uint32_t page)
{
	kvt_rng rng = kvt_rng_init(2, page / 4);
	return (uint32_t)kvt_rng_below(&rng, CLUSTERS);
}

static void cluster_centre(uint32_t cluster, float *centre)
{
	kvt_rng rng = kvt_rng_init(3, cluster);
	for (uint32_t i = 0; i < DIM; i++)
		centre[i] = 2 * (float)kvt_rng_normal(&rng);
}

static world *world_new(void)
{
	world *w = g_new0(world, 1);
	for (uint32_t page = 0; page < PAGES; page++) {
		kvt_rng rng = kvt_rng_init(4, page);
		cluster_centre(cluster_of(page), w->mean[page]);
		for (uint32_t i = 0; i < DIM; i++)
			w->mean[page][i] += (float)kvt_rng_normal(&rng);
	}
	return w;
}

static void world_distances(
	void *arg, uint32_t page, const uint32_t *others, uint32_t n, float *distances)
{
	world *w = arg;
	w->asked += n;
	for (uint32_t i = 0; i < n; i++) {
		distances[i] = 0;
		for (uint32_t k = 0; k < DIM; k++) {
			float d = w->mean[page][k] - w->mean[others[i]][k];
			distances[i] += d * d;
		}
	}
}

static void test_collisions(void)
{
	enum { BITS = 5, SEEDS = 60, TABLES = KVT_PAGE_HASHES_TABLES_MAX };
	static const double angles[] = { 0.1, 0.4, 0.8, G_PI / 2, 2.5 };
	unsigned met[G_N_ELEMENTS(angles)] = { 0 };
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		kvt_page_hashes *hashes = kvt_page_hashes_new(DIM, 1, TABLES, BITS, seed);
		for (size_t a = 0; a < G_N_ELEMENTS(angles); a++) {
			float x[DIM] = { [3] = 1.5f }, y[DIM] = { 0 };
			y[3] = (float)(7 * cos(angles[a]));
			y[20] = (float)(7 * sin(angles[a]));
			for (uint32_t table = 0; table < TABLES; table++)
				met[a] += kvt_page_hashes_bucket(hashes, table, x) ==
					  kvt_page_hashes_bucket(hashes, table, y);
		}
		kvt_page_hashes_free(hashes);
	}
	for (size_t a = 0; a < G_N_ELEMENTS(angles); a++) {
		double p = pow(1 - angles[a] / G_PI, BITS), n = SEEDS * TABLES;
		g_assert_cmpfloat_with_epsilon(met[a] / n, p, 4 * sqrt(p * (1 - p) / n));
	}
}

/* A probe meets every page of the buckets it opens, no others, its own bucket first. */
static void test_probe(void)
{
	enum { TABLES = 3, BITS = 6 };
	g_autofree world *w = world_new();
	kvt_page_hashes *hashes = kvt_page_hashes_new(DIM, PAGES, TABLES, BITS, 9);
	uint64_t empty = kvt_page_hashes_bytes(hashes);
	for (uint32_t page = 0; page < PAGES; page++)
		kvt_page_hashes_add(hashes, page, w->mean[page]);
	g_assert_cmpuint(kvt_page_hashes_bytes(hashes) - empty, ==, 4 * TABLES * PAGES);
	for (uint32_t page = 0; page < PAGES; page += 97) {
		kvt_page_probe probe;
		g_autofree uint32_t *times = g_new0(uint32_t, PAGES);
		uint64_t buckets = 0;
		uint32_t found, own = kvt_page_hashes_bucket(hashes, 0, w->mean[page]);
		bool left_own = false;
		kvt_page_probe_begin(&probe, hashes, w->mean[page]);
		while (kvt_page_probe_next(&probe, &found, &buckets)) {
			if (buckets == 0)
				g_assert_cmpuint(
					kvt_page_hashes_bucket(hashes, 0, w->mean[found]), ==, own);
			left_own |= buckets > 0;
			g_assert_true(found != page || !left_own || times[page] > 0);
			times[found]++;
		}
		g_assert_cmpuint(buckets, ==, TABLES * (BITS + 1));
		g_assert_false(kvt_page_probe_next(&probe, &found, &buckets));
		for (uint32_t other = 0; other < PAGES; other++) {
			uint32_t near = 0;
			for (uint32_t t = 0; t < TABLES; t++)
				near += __builtin_popcount(
						kvt_page_hashes_bucket(hashes, t, w->mean[page]) ^
						kvt_page_hashes_bucket(
							hashes, t, w->mean[other])) <= 1;
			g_assert_cmpuint(times[other], ==, near);
		}
	}
	kvt_page_hashes_free(hashes);
	g_assert_cmpuint(kvt_page_hashes_bits_for(16), ==, 1);
	g_assert_cmpuint(kvt_page_hashes_bits_for(16 << 9), ==, 9);
	g_assert_cmpuint(kvt_page_hashes_bits_for(UINT32_MAX), ==, KVT_PAGE_HASHES_BITS_MAX);
}

static bool has(const uint32_t *pages, uint32_t n, uint32_t page)
{
	for (uint32_t i = 0; i < n; i++)
		if (pages[i] == page)
			return true;
	return false;
}

static kvt_page_lookup *lookup_new(world *w, bool walks)
{
	kvt_page_lookup_spec spec = { .head_dim = DIM,
		.group = GROUP,
		.max_pages = PAGES,
		.seed = 8,
		.distance = walks ? world_distances : NULL,
		.distance_arg = w };
	return kvt_page_lookup_new(&spec);
}

/* How many of the 8 nearest of a page its links hold. */
static uint32_t nearest_linked(world *w, const kvt_page_lookup *lookup, uint32_t page)
{
	enum { NEAREST = 8 };
	g_autofree uint32_t *all = g_new(uint32_t, PAGES);
	g_autofree float *distances = g_new(float, PAGES);
	uint32_t n_links, hits = 0;
	const uint32_t *links = kvt_page_lookup_links(lookup, page, &n_links);
	g_assert_cmpuint(n_links, ==, KVT_PAGE_GRAPH_LINKS);
	for (uint32_t i = 0; i < n_links; i++) {
		g_assert_cmpuint(links[i], !=, page);
		g_assert_false(has(links, i, links[i]));
	}
	for (uint32_t i = 0; i < PAGES; i++)
		all[i] = i;
	world_distances(w, page, all, PAGES, distances);
	distances[page] = INFINITY;
	for (uint32_t k = 0; k < NEAREST; k++) {
		uint32_t nearest = 0;
		for (uint32_t i = 1; i < PAGES; i++)
			if (distances[i] < distances[nearest])
				nearest = i;
		distances[nearest] = INFINITY;
		hits += has(links, n_links, nearest);
	}
	return hits;
}

/* Links as a lookup makes them, from what hash tables meet. */
static void test_graph(void)
{
	g_autofree world *w = world_new();
	kvt_page_lookup *lookup = lookup_new(w, true);
	for (uint32_t page = 0; page < PAGES; page++)
		kvt_page_lookup_add(lookup, page, w->mean[page]);
	/* a search looks at a part of the pages, and finds almost all of the nearest */
	g_assert_cmpuint(w->asked / PAGES, <, PAGES / 3);
	uint32_t hits = 0, tried = 0;
	for (uint32_t page = 0; page < PAGES; page += 29, tried++)
		hits += nearest_linked(w, lookup, page);
	g_assert_cmpfloat(hits / (8.0 * tried), >, 0.95);
	kvt_page_lookup_free(lookup);
	/* one that knows nothing yet, and one that finds two of three */
	kvt_page_graph *graph = kvt_page_graph_new(PAGES, world_distances, w);
	const uint32_t entry = 7;
	uint32_t n;
	kvt_page_graph_add(graph, 7, NULL, 0);
	kvt_page_graph_links(graph, 7, &n);
	g_assert_cmpuint(n, ==, 0);
	kvt_page_graph_add(graph, 9, &entry, 1);
	kvt_page_graph_add(graph, 12, &entry, 1);
	g_assert_cmpuint(kvt_page_graph_links(graph, 9, &n)[0], ==, 7);
	g_assert_cmpuint(n, ==, 2);
	kvt_page_graph_links(graph, 12, &n);
	g_assert_cmpuint(n, ==, 2);
	g_assert_cmpuint(kvt_page_graph_bytes(graph), ==, 3 * (4ull * KVT_PAGE_GRAPH_LINKS + 5));
	kvt_page_graph_free(graph);
}

static void test_allowance(void)
{
	static const uint32_t factors[] = { 1, 8, 43, 255 };
	for (size_t f = 0; f < G_N_ELEMENTS(factors); f++)
		for (uint32_t n = 1; n < 200000000; n += 1 + n / 3) {
			double exact = factors[f] / 8.0 * pow(n, 0.6);
			uint32_t allowed = kvt_page_lookup_allowance(factors[f], n);
			g_assert_cmpuint(allowed, <=, n);
			if (allowed == n) {
				g_assert_cmpfloat(n, <=, exact + 32);
			} else {
				g_assert_cmpfloat(allowed, <=, 32 + exact * (1 + 1e-12));
				g_assert_cmpfloat(allowed, >, 31 + exact * (1 - 1e-9));
			}
		}
	/* 10M tokens */
	g_assert_cmpuint(kvt_page_lookup_allowance(43, 655360), ==, 16638);
}

/* Shares of the listed pages when both query heads ask for `wanted`: e^logit, the same scale for
 * all lists. Returns the share of all pages' mass that the list has. */
static double shares_of(const world *w, const float *query, uint32_t end, const uint32_t *pages,
	uint32_t n, uint32_t *share)
{
	g_autofree double *weight = g_new(double, end);
	double all = 0, listed = 0;
	for (uint32_t page = 0; page < end; page++) {
		double logit = 0;
		for (uint32_t i = 0; i < DIM; i++)
			logit += (double)(query[i] * w->mean[page][i]);
		weight[page] = exp(logit);
		all += weight[page];
	}
	for (uint32_t i = 0; i < n; i++)
		listed += weight[pages[i]];
	for (uint32_t i = 0; i < n; i++)
		share[i] = (uint32_t)(weight[pages[i]] / listed * KVT_MASS_ONE);
	return listed / all;
}

/* One lookup for what is like the centre of a cluster; checks the list and returns its mass. */
static double look(
	kvt_page_lookup *lookup, const world *w, uint32_t end, uint32_t allowed, uint32_t cluster)
{
	g_autofree uint32_t *share = g_new(uint32_t, PAGES);
	float queries[GROUP][DIM];
	for (uint32_t head = 0; head < GROUP; head++) {
		cluster_centre(cluster, queries[head]);
		for (uint32_t i = 0; i < DIM; i++)
			queries[head][i] *= 0.1f;
	}
	kvt_page_lookup_begin(lookup, 0, end, allowed, queries[0]);
	uint32_t n = 0, before;
	double mass = 0;
	while (kvt_page_lookup_next(lookup, share)) {
		before = n;
		const uint32_t *pages = kvt_page_lookup_pages(lookup, &n);
		g_assert_cmpuint(n, >, before);
		g_assert_cmpuint(n, <=, allowed);
		for (uint32_t i = before; i < n; i++) {
			g_assert_cmpuint(pages[i], <, end);
			g_assert_false(has(pages, i, pages[i]));
		}
		mass = shares_of(w, queries[0], end, pages, n, share);
	}
	const uint32_t *pages = kvt_page_lookup_pages(lookup, &n);
	g_assert_true(has(pages, n, 0) && has(pages, n, end - 1) && has(pages, n, end - 4));
	kvt_page_lookup_end(lookup, share);
	return mass;
}

/* The walk finds far more of what suddenly is wanted than tables alone do, and at once. */
static void test_lookup_finds(void)
{
	double found[2] = { 0 };
	for (int walks = 0; walks < 2; walks++) {
		g_autofree world *w = world_new();
		kvt_page_lookup *lookup = lookup_new(w, walks);
		for (uint32_t page = 0; page < PAGES; page++)
			kvt_page_lookup_add(lookup, page, w->mean[page]);
		for (uint32_t step = 0; step < 20; step++)
			found[walks] += look(lookup, w, PAGES, 150, step * 7 % CLUSTERS) / 20;
		const kvt_page_lookup_counts *counts = kvt_page_lookup_counted(lookup);
		g_assert_cmpuint(counts->lookups, ==, 20);
		g_assert_cmpuint(counts->pages, ==, 20 * 150);
		g_assert_true((counts->links > 0) == walks);
		g_assert_cmpuint(counts->buckets, <=, 20 * 4 * GROUP * 9);
		kvt_page_lookup_free(lookup);
	}
	g_assert_cmpfloat(found[1], >, 0.85);
	g_assert_cmpfloat(found[1], >, found[0] + 0.1);
}

/* Every page comes up, however bad it is. */
static void test_lookup_turns(void)
{
	g_autofree world *w = world_new();
	kvt_page_lookup *lookup = lookup_new(w, true);
	for (uint32_t page = 0; page < PAGES; page++)
		kvt_page_lookup_add(lookup, page, w->mean[page]);
	g_autofree uint8_t *seen = g_new0(uint8_t, PAGES);
	uint32_t left = PAGES;
	for (uint32_t step = 0; step < PAGES / 4; step++) {
		look(lookup, w, PAGES, 256, 5);
		uint32_t n;
		const uint32_t *pages = kvt_page_lookup_pages(lookup, &n);
		for (uint32_t i = 0; i < n; i++) {
			left -= !seen[pages[i]];
			seen[pages[i]] = 1;
		}
	}
	g_assert_cmpuint(left, ==, 0);
	kvt_page_lookup_free(lookup);
}

/* Pages that all have the same share: what is left out follows from how many that are. */
static void test_lookup_rest(void)
{
	g_autofree world *w = world_new();
	kvt_page_lookup *lookup = lookup_new(w, true);
	for (uint32_t page = 0; page < PAGES; page++)
		kvt_page_lookup_add(lookup, page, w->mean[page]);
	g_autofree uint32_t *share = g_new(uint32_t, PAGES);
	const float queries[GROUP * DIM] = { 0 };
	kvt_page_lookup_begin(lookup, 0, PAGES, 300, queries);
	uint32_t n = 0;
	while (kvt_page_lookup_next(lookup, share)) {
		kvt_page_lookup_pages(lookup, &n);
		for (uint32_t i = 0; i < n; i++)
			share[i] = KVT_MASS_ONE / n;
	}
	/* guesses are others, and what is guessed of pages like those seen is a share like theirs
	 */
	g_autofree uint32_t *guessed = g_new(uint32_t, PAGES), *guess = g_new(uint32_t, PAGES);
	const uint32_t *pages = kvt_page_lookup_pages(lookup, &n);
	uint32_t n_guessed = kvt_page_lookup_guess(lookup, 50, guessed, guess);
	g_assert_cmpuint(n_guessed, ==, 50);
	for (uint32_t i = 0; i < n_guessed; i++) {
		g_assert_false(has(pages, n, guessed[i]));
		g_assert_cmpuint(guess[i], <=, 2 * (KVT_MASS_ONE / n));
		g_assert_cmpuint(guess[i], >, KVT_MASS_ONE / n / 8);
	}
	kvt_page_lookup_end(lookup, share);
	g_assert_cmpuint(n, ==, 300);
	g_assert_cmpfloat_with_epsilon(
		(double)kvt_page_lookup_rest(lookup) / KVT_MASS_ONE, (PAGES - 300) / 300.0, 1e-4);
	/* what stood is remembered, halved by the next lookup that does not find it */
	const uint32_t *value;
	uint32_t n_standing;
	kvt_page_lookup_standing(lookup, &n_standing, &value);
	g_assert_cmpuint(n_standing, ==, 300);
	g_assert_cmpuint(value[0], ==, KVT_MASS_ONE / 300 / 2);
	kvt_page_lookup_free(lookup);
}

/* Pages that come one by one, between lookups, end up where they would have been at once; and a run
 * repeats itself. */
static void test_lookup_incremental(void)
{
	enum { FIRST = PAGES - 200 };
	g_autofree world *w = world_new();
	kvt_page_lookup *once = lookup_new(w, true), *grown = lookup_new(w, true),
			*again = lookup_new(w, true);
	for (uint32_t page = 0; page < PAGES; page++)
		kvt_page_lookup_add(once, page, w->mean[page]);
	kvt_page_lookup *growing[] = { grown, again };
	for (size_t i = 0; i < G_N_ELEMENTS(growing); i++) {
		uint32_t page = 0;
		for (; page < FIRST; page++)
			kvt_page_lookup_add(growing[i], page, w->mean[page]);
		for (; page < PAGES; page++) {
			if (page % 20 == 0)
				look(growing[i], w, page, 150, page / 20 % CLUSTERS);
			kvt_page_lookup_add(growing[i], page, w->mean[page]);
		}
	}
	/* without what stands from earlier lookups, which is the same in both that have grown */
	g_assert_cmpuint(kvt_page_lookup_bytes(once), ==, kvt_page_lookup_bytes(grown));
	look(grown, w, PAGES, 400, 33);
	look(again, w, PAGES, 400, 33);
	uint32_t n, n_again;
	const uint32_t *pages = kvt_page_lookup_pages(grown, &n);
	const uint32_t *pages_again = kvt_page_lookup_pages(again, &n_again);
	g_assert_cmpuint(n, ==, n_again);
	g_assert_cmpmem(pages, n * sizeof(*pages), pages_again, n * sizeof(*pages));
	/* the links are the same: everything is allowed, so a lookup lists all that they reach */
	for (uint32_t page = 0; page < PAGES; page++) {
		uint32_t n_once, n_grown;
		const uint32_t *links = kvt_page_lookup_links(once, page, &n_once);
		const uint32_t *links_grown = kvt_page_lookup_links(grown, page, &n_grown);
		g_assert_cmpuint(n_once, ==, n_grown);
		g_assert_cmpmem(links, n_once * 4, links_grown, n_grown * 4);
	}
	kvt_page_lookup_free(once);
	kvt_page_lookup_free(grown);
	kvt_page_lookup_free(again);
}

/* Few pages: all of them are listed, once. */
static void test_lookup_small(void)
{
	g_autofree world *w = world_new();
	kvt_page_lookup *lookup = lookup_new(w, true);
	for (uint32_t end = 1; end < 40; end++) {
		kvt_page_lookup_add(lookup, end - 1, w->mean[end - 1]);
		if (end < 4)
			continue;
		uint32_t n;
		g_assert_cmpfloat(look(lookup, w, end, end, 3), >, 1 - 1e-9);
		kvt_page_lookup_pages(lookup, &n);
		g_assert_cmpuint(n, ==, end);
		g_assert_cmpuint(kvt_page_lookup_rest(lookup), ==, 0);
	}
	kvt_page_lookup_free(lookup);
}

/* Distances between coded pages are those between the means that the codes decode to. */
static void test_mean_distances(void)
{
	enum { N = 40, TOKENS = KVT_CODE_TOKENS, WIDE = 80 };
	kvt_codes codes = { .head_dim = WIDE,
		.means = g_malloc0(kvt_code_means_bytes(WIDE, N)),
		.details = g_malloc0(kvt_code_detail_bytes(WIDE) * N) };
	static float keys[TOKENS * WIDE], decoded[TOKENS * WIDE], means[N][WIDE];
	uint32_t ids[N];
	float distances[N];
	for (uint32_t page = 0; page < N; page++) {
		kvt_rng rng = kvt_rng_init(12, page);
		float level = (float)kvt_rng_normal(&rng);
		for (uint32_t i = 0; i < TOKENS * WIDE; i++)
			keys[i] = level * (float)(i % 3) + (float)kvt_rng_normal(&rng);
		kvt_code_build(&codes, page, KVT_ELEMENT_F32, keys, sizeof(float) * WIDE, NULL);
		kvt_code_decode(&codes, page, decoded);
		for (uint32_t i = 0; i < TOKENS * WIDE; i++)
			means[page][i % WIDE] += decoded[i] / TOKENS;
		ids[page] = page;
	}
	for (uint32_t page = 0; page < N; page++) {
		g_assert_cmpint(kvt_code_mean_distances(&codes, page, ids, N, distances), ==, 0);
		for (uint32_t other = 0; other < N; other++) {
			double expected = 0;
			for (uint32_t i = 0; i < WIDE; i++)
				expected += pow((double)(means[page][i] - means[other][i]), 2);
			g_assert_cmpfloat_with_epsilon(
				(double)distances[other], expected, 1e-3 * (1 + expected));
		}
		g_assert_cmpfloat((double)distances[page], <, 1e-4);
	}
	codes.head_dim = 24;
	g_assert_cmpint(kvt_code_mean_distances(&codes, 0, ids, 1, distances), <, 0);
	g_free(codes.means);
	g_free(codes.details);
}

static void test_octaves(void)
{
	for (uint64_t x = 1; x < UINT64_C(1) << 31; x += 1 + x / 7) {
		double exact = log2((double)x) * KVT_OCTAVE;
		g_assert_cmpfloat_with_epsilon(kvt_octaves_of(x), exact, 5);
		for (int octaves = -4 * KVT_OCTAVE; octaves <= 4 * KVT_OCTAVE; octaves += 16) {
			double scaled = (double)x * exp2((double)octaves / KVT_OCTAVE);
			g_assert_cmpfloat_with_epsilon(
				(double)kvt_octaves_scale(x, octaves), scaled, 1 + 1e-4 * scaled);
		}
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/page-lookup/collisions", test_collisions);
	g_test_add_func("/page-lookup/probe", test_probe);
	g_test_add_func("/page-lookup/graph", test_graph);
	g_test_add_func("/page-lookup/allowance", test_allowance);
	g_test_add_func("/page-lookup/finds", test_lookup_finds);
	g_test_add_func("/page-lookup/turns", test_lookup_turns);
	g_test_add_func("/page-lookup/rest", test_lookup_rest);
	g_test_add_func("/page-lookup/incremental", test_lookup_incremental);
	g_test_add_func("/page-lookup/small", test_lookup_small);
	g_test_add_func("/page-lookup/mean-distances", test_mean_distances);
	g_test_add_func("/page-lookup/octaves", test_octaves);
	return g_test_run();
}
