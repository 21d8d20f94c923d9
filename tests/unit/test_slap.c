/* test_slap.c: reuse statistics, the store of codes, and what slap makes of both: that scores are
 * corrected and smoothed as said, that plans end at the mass wanted, and that promises are kept. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/prefetch/code_sketch.h"
#include "sim/prefetch/reuse_statistics.h"
#include "sim/prefetch/top_pages.h"
#include "traces/half_float.h"

enum { PAGES = 512, GROUP = 2, DIM = 32, TOKENS = 16, HOT = 3 };

static const kvt_prefetcher_spec layer = { .n_heads = 1,
	.max_pages = PAGES,
	.seed = 5,
	.group = GROUP,
	.head_dim = DIM,
	.block_tokens = TOKENS,
	.scale = 0.25f };

static void test_reuse_scores(void)
{
	kvt_reuse reuse;
	kvt_reuse_init(&reuse, 4);
	const uint32_t half = KVT_MASS_ONE / 2, first[] = { half, half, 0 },
		       then[] = { 0, half, half };
	kvt_reuse_score(&reuse, 0, 3, first);
	g_assert_cmpuint(reuse.share[0], ==, half);
	g_assert_cmpuint(reuse.recent[0], ==, half);
	kvt_reuse_score(&reuse, 0, 3, then);
	g_assert_cmpuint(reuse.share[0], ==, 0);
	g_assert_cmpuint(reuse.recent[0], ==, half / 2);
	g_assert_cmpuint(reuse.recent[1], ==, half);
	g_assert_cmpuint(reuse.recent[2], ==, half / 2);
	g_assert_cmpuint(reuse.lasting[0], ==, half / 4 * 3);
	g_assert_cmpuint(reuse.lasting[2], ==, half / 4);
	kvt_reuse_clear(&reuse);
}

/* Scores that are off by a known factor on some pages come right, and the others stay. */
static void test_reuse_corrects(void)
{
	enum { N = 32 };
	kvt_reuse reuse;
	kvt_reuse_init(&reuse, N + 1);
	uint32_t thought[N], pages[N];
	float mass[N];
	double total = 0;
	for (uint32_t i = 0; i < N; i++) {
		double share = (1.0 + i % 5) / 100, wrong = i % 2 ? 0.6 : 1.5;
		thought[i] = (uint32_t)(share * KVT_MASS_ONE);
		pages[i] = i;
		mass[i] = (float)(share * wrong);
		total += share * wrong;
	}
	for (uint32_t i = 0; i < N; i++)
		mass[i] = (float)(mass[i] / total);
	kvt_page_masses row = { .n = N, .pages = pages, .mass = mass };
	double before = 0, after = 0;
	for (unsigned step = 0; step < 40; step++) {
		kvt_reuse_score(&reuse, 0, N, thought);
		double error = 0, sum = 0;
		for (uint32_t i = 0; i < N; i++) {
			double share = (double)reuse.share[i] / KVT_MASS_ONE;
			error = fmax(error, fabs(share / (double)mass[i] - 1));
			sum += share;
		}
		g_assert_cmpfloat_with_epsilon(sum, 1, 1e-6);
		before = step == 0 ? error : before;
		after = error;
		kvt_reuse_learn(&reuse, &row);
	}
	g_assert_cmpfloat(before, >, 0.3);
	g_assert_cmpfloat(after, <, 0.06);
	kvt_reuse_clear(&reuse);
}

/* Only some pages were attended, and the last one has no score: what it gets is found out. */
static void test_reuse_unscored(void)
{
	kvt_reuse reuse;
	kvt_reuse_init(&reuse, 5);
	const uint32_t quarter = KVT_MASS_ONE / 4, share[] = { quarter, quarter, quarter, quarter };
	const uint32_t pages[] = { 0, 1, 4 };
	/* true masses .2 each and .2 on the last; pages 2 and 3 were not attended to */
	const float mass[] = { 1 / 3.0f, 1 / 3.0f, 1 / 3.0f };
	kvt_page_masses row = { .n = 3, .pages = pages, .mass = mass };
	for (unsigned step = 0; step < 60; step++) {
		kvt_reuse_score(&reuse, 0, 4, share);
		kvt_reuse_learn(&reuse, &row);
	}
	g_assert_cmpfloat_with_epsilon((double)reuse.unscored / KVT_MASS_ONE, 0.2, 0.01);
	g_assert_cmpfloat_with_epsilon((double)reuse.share[2] / KVT_MASS_ONE, 0.2, 0.01);
	/* nothing attended, or nothing known of it: nothing is learnt, nothing breaks */
	kvt_reuse_learn(&reuse, &(kvt_page_masses){ 0 });
	kvt_reuse_clear(&reuse);
}

/* Keys of small noise, and of the HOT first dimensions in a page of its own each. */
static void make_key(uint32_t page, uint32_t token, float *key)
{
	kvt_rng rng = kvt_rng_init(11, (uint64_t)page * TOKENS + token);
	for (uint32_t i = 0; i < DIM; i++)
		key[i] = 0.3f * (float)kvt_rng_normal(&rng);
	for (uint32_t hot = 0; hot < HOT; hot++)
		if (page == 100 * (hot + 1))
			key[hot] += 4;
}

static void write_all(kvt_prefetcher *prefetcher, uint32_t first, uint32_t end)
{
	g_autofree uint16_t *halves = g_new(uint16_t, (size_t)(end - first) * TOKENS * DIM);
	for (uint32_t page = first; page < end; page++)
		for (uint32_t token = 0; token < TOKENS; token++) {
			float key[DIM];
			make_key(page, token, key);
			kvt_half_from_float(
				key, halves + ((page - first) * TOKENS + token) * DIM, DIM);
		}
	kvt_page_keys keys = { .n_pages = end - first, .first = first, .keys = halves };
	if (first == 0)
		prefetcher->ops->train(prefetcher, 0, &keys);
	prefetcher->ops->write(prefetcher, 0, &keys);
}

/* A query that looks for the page of dimension `hot`; HOT: for none. */
static void ask(kvt_prefetcher *prefetcher, uint32_t step, uint32_t hot)
{
	float queries[GROUP * DIM] = { 0 };
	for (uint32_t head = 0; head < GROUP && hot < HOT; head++)
		queries[head * DIM + hot] = 8;
	prefetcher->ops->query(prefetcher, step, 0, queries);
}

static kvt_plan plan(kvt_prefetcher *prefetcher, uint32_t step, float target, uint32_t *pages)
{
	kvt_plan_request request = {
		.step = step, .n_present = PAGES, .budget = 10, .room = 25, .target = target
	};
	kvt_plan result = { .pages = pages, .select = UINT32_MAX, .mass = NAN };
	prefetcher->ops->plan(prefetcher, &request, &result);
	return result;
}

static bool has(const uint32_t *pages, uint32_t n, uint32_t page)
{
	for (uint32_t i = 0; i < n; i++)
		if (pages[i] == page)
			return true;
	return false;
}

static void test_slap_plans(void)
{
	const kvt_prefetcher_ops *ops = kvt_prefetcher_find("slap", NULL);
	kvt_prefetcher *slap = kvt_prefetcher_new(ops, &layer);
	uint32_t pages[PAGES];
	kvt_plan nothing = plan(slap, 0, 0, pages);
	g_assert_cmpuint(nothing.n, ==, 0);
	g_assert_cmpfloat(nothing.mass, ==, 0);
	write_all(slap, 0, PAGES - 1);
	for (uint32_t hot = 0; hot < HOT; hot++) {
		ask(slap, 1 + hot, hot);
		kvt_plan found = plan(slap, 1 + hot, 0, pages);
		/* the best page of all and, at the end, room for what was good before */
		g_assert_true(has(pages, found.select, 100 * (hot + 1)));
		g_assert_cmpuint(found.n, ==, 25);
		g_assert_cmpfloat(found.mass, >, 0.8);
		if (hot > 0)
			g_assert_true(has(pages, found.n, 100 * hot));
	}
	/* enough is enough */
	ask(slap, 4, 0);
	kvt_plan half = plan(slap, 4, 0.5f, pages);
	g_assert_cmpuint(half.select, <=, 6);
	g_assert_true(has(pages, half.select, 100));
	g_assert_cmpfloat(half.mass, >=, 0.5);
	/* nobody is looked for: the mass is spread, and a few pages do not hold it */
	ask(slap, 5, HOT);
	kvt_plan spread = plan(slap, 5, 0.5f, pages);
	g_assert_cmpfloat(spread.mass, <, 0.1);
	g_assert_cmpfloat(spread.mass, >, 0.01);
	ops->free(slap);
}

/* With queries that are a step old, and every one looking elsewhere, promises are not kept: slap
 * finds out. */
static void test_slap_loses_trust(void)
{
	const kvt_prefetcher_ops *ops = kvt_prefetcher_find("slap", NULL);
	double last[2];
	for (int jumps = 0; jumps < 2; jumps++) {
		kvt_prefetcher *slap = kvt_prefetcher_new(ops, &layer);
		uint32_t pages[PAGES];
		write_all(slap, 0, PAGES - 1);
		for (uint32_t step = 1; step < 30; step++) {
			ask(slap, step - 1, jumps ? (step % 2 ? 0 : HOT) : 0);
			last[jumps] = (double)plan(slap, step, 0, pages).mass;
		}
		ops->free(slap);
	}
	g_assert_cmpfloat(last[0], >, 0.8);
	g_assert_cmpfloat(last[1], <, 0.6);
}

/* Codes of pages that are several records long add up to those of their parts. */
static void test_sketch_records(void)
{
	kvt_prefetcher_spec wide = layer;
	wide.block_tokens = 2 * TOKENS;
	wide.max_pages = PAGES / 2;
	kvt_code_sketch *one = kvt_code_sketch_new(&layer), *two = kvt_code_sketch_new(&wide);
	kvt_prefetcher_stats stats = { 0 }, wide_stats = { 0 };
	g_autofree uint16_t *halves = g_new(uint16_t, PAGES * TOKENS * DIM);
	for (uint32_t token = 0; token < PAGES * TOKENS; token++) {
		float key[DIM];
		make_key(token / TOKENS, token % TOKENS, key);
		kvt_half_from_float(key, halves + (size_t)token * DIM, DIM);
	}
	kvt_page_keys narrow_keys = { .n_pages = PAGES, .keys = halves };
	kvt_page_keys wide_keys = { .n_pages = PAGES / 2, .keys = halves };
	kvt_code_sketch_train(one, 0, &narrow_keys, &stats);
	kvt_code_sketch_write(one, 0, &narrow_keys, &stats);
	kvt_code_sketch_train(two, 0, &wide_keys, &wide_stats);
	kvt_code_sketch_write(two, 0, &wide_keys, &wide_stats);
	g_assert_cmpuint(stats.sketch_bytes, ==, wide_stats.sketch_bytes);
	g_assert_cmpuint(stats.sketch_tokens, ==, wide_stats.sketch_tokens);
	float queries[GROUP * DIM];
	kvt_rng rng = kvt_rng_init(3, 3);
	for (uint32_t i = 0; i < DIM; i++)
		queries[i] = queries[DIM + i] = (float)kvt_rng_normal(&rng);
	kvt_code_sketch_query(one, 7, 0, queries);
	kvt_code_sketch_query(two, 7, 0, queries);
	uint32_t share[PAGES], wide_share[PAGES / 2], some[3];
	kvt_code_sketch_score(one, 0, 0, PAGES, NULL, share, &stats);
	kvt_code_sketch_score(two, 0, 0, PAGES / 2, NULL, wide_share, &wide_stats);
	g_assert_cmpuint(stats.scanned_bytes, ==, wide_stats.scanned_bytes);
	double sum = 0;
	for (uint32_t page = 0; page < PAGES / 2; page++) {
		double parts = (double)share[2 * page] + share[2 * page + 1];
		g_assert_cmpfloat_with_epsilon(wide_share[page] / parts, 1, 1e-3);
		sum += wide_share[page];
	}
	g_assert_cmpfloat_with_epsilon(sum / KVT_MASS_ONE, 1, 1e-5);
	/* a list of pages has the ratios that these have among all */
	const uint32_t ids[] = { 5, 100, 200 };
	kvt_code_sketch_score(one, 0, 0, 3, ids, some, &stats);
	for (unsigned i = 1; i < 3; i++)
		g_assert_cmpfloat_with_epsilon(
			((double)some[i] / some[0]) / ((double)share[ids[i]] / share[ids[0]]), 1,
			0.15);
	kvt_code_sketch_free(one);
	kvt_code_sketch_free(two);
}

static void test_sketch_unfit(void)
{
	kvt_prefetcher_spec spec = layer;
	g_assert_null(kvt_code_sketch_unfit(&spec));
	spec.block_tokens = 24;
	g_assert_nonnull(strstr(kvt_code_sketch_unfit(&spec), "16 tokens"));
	spec = layer;
	spec.head_dim = 72;
	g_assert_nonnull(strstr(kvt_code_sketch_unfit(&spec), "head_dim"));
	spec = layer;
	spec.group = 129;
	g_assert_nonnull(strstr(kvt_code_sketch_unfit(&spec), "query heads"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/slap/reuse-scores", test_reuse_scores);
	g_test_add_func("/slap/reuse-corrects", test_reuse_corrects);
	g_test_add_func("/slap/reuse-unscored", test_reuse_unscored);
	g_test_add_func("/slap/plans", test_slap_plans);
	g_test_add_func("/slap/loses-trust", test_slap_loses_trust);
	g_test_add_func("/slap/sketch-records", test_sketch_records);
	g_test_add_func("/slap/sketch-unfit", test_sketch_unfit);
	return g_test_run();
}
