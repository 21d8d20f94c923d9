/* test_scorers.c: prefetchers that score pages with keys and queries, against naive arithmetic:
 * Quest's bound, ArkVale's cuboid, centroids, shares and plans; and that how keys arrive changes
 * nothing. Product codes are in test_product_codes.c, signs in test_simhash.c. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "sim/base/rng.h"
#include "sim/prefetch/page_bounds.h"
#include "sim/prefetch/page_sketch.h"
#include "sim/prefetch/scored_pages.h"
#include "sim/prefetch/top_pages.h"
#include "traces/half_float.h"

enum { PAGES = 300, GROUP = 3, DIM = 64, TOKENS = 16, NUMBERS = TOKENS * DIM };

static const kvt_prefetcher_spec layer = { .n_heads = 2,
	.max_pages = PAGES + 5,
	.seed = 9,
	.group = GROUP,
	.head_dim = DIM,
	.block_tokens = TOKENS,
	.scale = 0.125f };

/* Keys of pages that have something in common each, off centre; and queries. */
typedef struct made_layer {
	uint16_t *half; /* [PAGES][NUMBERS] */
	float *keys;    /* the same */
	float queries[GROUP * DIM];
} made_layer;

static void made_clear(made_layer *made)
{
	g_free(made->half);
	g_free(made->keys);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(made_layer, made_clear)

static made_layer make_layer(uint64_t seed)
{
	made_layer made = { .half = g_new(uint16_t, PAGES * NUMBERS),
		.keys = g_new(float, PAGES *NUMBERS) };
	kvt_rng rng = kvt_rng_init(seed, 0);
	float centre[DIM];
	for (uint32_t i = 0; i < DIM; i++)
		centre[i] = 3 * (float)kvt_rng_normal(&rng);
	for (uint32_t page = 0; page < PAGES; page++)
		for (uint32_t i = 0; i < DIM; i++) {
			float topic = centre[i] + (float)kvt_rng_normal(&rng);
			for (uint32_t t = 0; t < TOKENS; t++)
				made.keys[page * NUMBERS + t * DIM + i] =
					topic + 0.7f * (float)kvt_rng_normal(&rng);
		}
	kvt_half_from_float(made.keys, made.half, PAGES * NUMBERS);
	kvt_half_to_float(made.half, made.keys, PAGES * NUMBERS);
	for (uint32_t i = 0; i < GROUP * DIM; i++)
		made.queries[i] = 2 * (float)kvt_rng_normal(&rng);
	return made;
}

/* Every half there is, and floats between them, against the trace reader's own conversion. */
static void test_half_rounding(void)
{
	kvt_rng rng = kvt_rng_init(4, 0);
	for (uint32_t i = 0; i < 1 << 19; i++) {
		uint32_t bits = i < 1 << 16 ? 0 : (uint32_t)kvt_rng_next(&rng);
		float value, back;
		memcpy(&value, &bits, sizeof(value));
		uint16_t half = (uint16_t)i, ours, theirs;
		if (i < 1 << 16)
			kvt_half_to_float(&half, &value, 1);
		else if (i % 2)
			value = (float)kvt_rng_normal(&rng) * ldexpf(1, (int)(i % 40) - 26);
		kvt_elements_from_float(KVT_ELEMENT_F16, &value, 1, &ours);
		kvt_half_from_float(&value, &theirs, 1);
		if (isnan(value)) {
			kvt_elements_to_float(KVT_ELEMENT_F16, &ours, 1, &back);
			g_assert_true(isnan(back));
			continue;
		}
		g_assert_cmphex(ours, ==, theirs);
		/* bfloat16: the nearest of the two around it, the even one halfway */
		uint16_t upper;
		kvt_elements_from_float(KVT_ELEMENT_BF16, &value, 1, &upper);
		memcpy(&bits, &value, sizeof(bits));
		uint32_t rest = bits & 0xffff, below = bits >> 16;
		bool up = rest > 0x8000 || (rest == 0x8000 && (below & 1));
		g_assert_cmphex(upper, ==, below + up);
	}
}

static double dot(const float *x, const float *y)
{
	double sum = 0;
	for (uint32_t i = 0; i < DIM; i++)
		sum += (double)x[i] * (double)y[i];
	return sum;
}

/* No token's product is above its page's bound, and the bound is the corner's product. */
static void test_quest_bound(void)
{
	for (uint64_t seed = 0; seed < 5; seed++) {
		g_auto(made_layer) made = make_layer(seed);
		float bounds[GROUP];
		uint16_t record[2 * DIM];
		for (uint32_t page = 0; page < PAGES; page++) {
			const float *keys = made.keys + page * NUMBERS;
			kvt_page_bounds_extremes(DIM, keys, TOKENS, record);
			kvt_page_bounds_score(DIM, record, 1, made.queries, GROUP, bounds, 1);
			for (uint32_t g = 0; g < GROUP; g++) {
				const float *q = made.queries + g * DIM;
				double corner = 0, size = 0;
				for (uint32_t i = 0; i < DIM; i++) {
					double most = -INFINITY;
					for (uint32_t t = 0; t < TOKENS; t++)
						most = fmax(most,
							(double)q[i] * (double)keys[t * DIM + i]);
					corner += most;
					size += fabs(most);
				}
				g_assert_cmpfloat_with_epsilon(
					(double)bounds[g], corner, 1e-6 * size);
				for (uint32_t t = 0; t < TOKENS; t++)
					g_assert_cmpfloat((double)bounds[g] + 1e-6 * size, >=,
						dot(q, keys + t * DIM));
			}
		}
	}
}

static double quest_logit(const float *keys, const float *query)
{
	double sum = 0;
	for (uint32_t i = 0; i < DIM; i++) {
		double most = -INFINITY;
		for (uint32_t t = 0; t < TOKENS; t++)
			most = fmax(most, (double)query[i] * (double)keys[t * DIM + i]);
		sum += most;
	}
	return sum;
}

static double arkvale_logit(const float *keys, const float *query)
{
	double sum = 0;
	for (uint32_t i = 0; i < DIM; i++) {
		double mean = 0, deviation = 0;
		for (uint32_t t = 0; t < TOKENS; t++)
			mean += (double)keys[t * DIM + i] / TOKENS;
		for (uint32_t t = 0; t < TOKENS; t++)
			deviation += fabs((double)keys[t * DIM + i] - mean) / TOKENS;
		sum += (double)query[i] * mean + fabs((double)query[i]) * deviation;
	}
	return sum;
}

static double centroid_logit(const float *keys, const float *query)
{
	double sum = 0;
	for (uint32_t t = 0; t < TOKENS; t++)
		sum += dot(keys + t * DIM, query) / TOKENS;
	return sum;
}

/* Mean over the group of softmax over the pages. */
static void naive_shares(const made_layer *made,
	double (*logit)(const float *keys, const float *query), double *share)
{
	memset(share, 0, PAGES * sizeof(double));
	for (uint32_t g = 0; g < GROUP; g++) {
		double power[PAGES], most = -INFINITY, sum = 0;
		for (uint32_t page = 0; page < PAGES; page++) {
			power[page] = (double)layer.scale *
				      logit(made->keys + page * NUMBERS, made->queries + g * DIM);
			most = fmax(most, power[page]);
		}
		for (uint32_t page = 0; page < PAGES; page++) {
			power[page] = exp(power[page] - most);
			sum += power[page];
		}
		for (uint32_t page = 0; page < PAGES; page++)
			share[page] += power[page] / sum / GROUP;
	}
}

/* A prefetcher that knows the first n pages of head 1, written so many at once. */
static kvt_prefetcher *make_prefetcher(
	const kvt_prefetcher_ops *ops, const made_layer *made, uint32_t n, uint32_t at_once)
{
	kvt_prefetcher *prefetcher = kvt_prefetcher_new(ops, &layer);
	kvt_page_keys sample = { .n_pages = PAGES, .keys = made->half };
	ops->train(prefetcher, 1, &sample);
	for (uint32_t first = 0; first < n; first += at_once) {
		kvt_page_keys keys = { .n_pages = MIN(at_once, n - first),
			.first = first,
			.keys = made->half + first * NUMBERS };
		ops->write(prefetcher, 1, &keys);
	}
	ops->query(prefetcher, 0, 1, made->queries);
	return prefetcher;
}

static uint32_t make_plan(kvt_prefetcher *prefetcher, uint32_t first, uint32_t n_present,
	uint32_t room, uint32_t *pages)
{
	kvt_plan_request request = { .head = 1,
		.first_present = first,
		.n_present = n_present,
		.budget = room,
		.room = room };
	kvt_plan plan = { .pages = pages, .select = UINT32_MAX, .mass = NAN };
	prefetcher->ops->plan(prefetcher, &request, &plan);
	return plan.n;
}

/* All pages come in the order of the naive shares, but for what half precision blurs. */
static void check_order(const char *name, double (*logit)(const float *keys, const float *query))
{
	const kvt_prefetcher_ops *ops = kvt_prefetcher_find(name, NULL);
	for (uint64_t seed = 20; seed < 24; seed++) {
		g_auto(made_layer) made = make_layer(seed);
		double share[PAGES];
		uint32_t plan[PAGES];
		naive_shares(&made, logit, share);
		kvt_prefetcher *prefetcher = make_prefetcher(ops, &made, PAGES, PAGES);
		g_assert_cmpuint(make_plan(prefetcher, 0, PAGES, PAGES, plan), ==, PAGES);
		for (uint32_t i = 1; i < PAGES; i++)
			/* shares are rounded to 2^-31, halves to 2^-11 of numbers near 4 */
			g_assert_cmpfloat(share[plan[i]], <=, share[plan[i - 1]] * 1.02 + 0x1p-30);
		/* pages that cannot be attended to are not scored */
		uint64_t scored = prefetcher->stats.scored_pages;
		uint32_t n = make_plan(prefetcher, 100, PAGES, PAGES - 100, plan);
		g_assert_cmpuint(n, ==, PAGES - 100);
		g_assert_cmpuint(prefetcher->stats.scored_pages - scored, ==, n);
		for (uint32_t i = 0; i < n; i++)
			g_assert_cmpuint(plan[i], >=, 100);
		ops->free(prefetcher);
	}
}

static void test_orders(void)
{
	check_order("quest", quest_logit);
	check_order("arkvale", arkvale_logit);
	check_order("centroid", centroid_logit);
}

/* Bytes that are counted are those that a record and what is shared take. */
static void test_bytes(void)
{
	static const struct {
		const char *name;
		uint64_t page, shared;
	} expected[] = { { "quest", 256, 0 }, { "arkvale", 256, 0 }, { "centroid", 128, DIM * 4 },
		{ "pq", 256, 256 * DIM * 2 }, { "simhash", 16 * 18, 129 * DIM * 4 } };
	g_auto(made_layer) made = make_layer(1);
	uint32_t plan[PAGES];
	for (size_t i = 0; i < G_N_ELEMENTS(expected); i++) {
		const kvt_prefetcher_ops *ops = kvt_prefetcher_find(expected[i].name, NULL);
		kvt_prefetcher *prefetcher = make_prefetcher(ops, &made, 200, 64);
		uint64_t bytes = 200 * expected[i].page + expected[i].shared;
		g_assert_cmpuint(prefetcher->stats.sketch_bytes, ==, bytes);
		g_assert_cmpuint(prefetcher->stats.sketch_tokens, ==, 200 * TOKENS);
		make_plan(prefetcher, 0, 201, 10, plan);
		g_assert_cmpuint(prefetcher->stats.scanned_bytes, ==, bytes);
		g_assert_cmpuint(prefetcher->stats.scored_pages, ==, 200);
		g_assert_cmpuint(prefetcher->stats.queries, ==, 1);
		ops->free(prefetcher);
	}
}

/* However many pages are written at once, whatever else was planned before: the same plan. */
static void test_chunks(void)
{
	g_auto(made_layer) made = make_layer(2);
	for (size_t p = 0; kvt_prefetcher_registry()[p]; p++) {
		const kvt_prefetcher_ops *ops = kvt_prefetcher_registry()[p];
		if (!ops->reads_keys)
			continue;
		static const uint32_t at_once[] = { PAGES, 1, 7, 64 };
		uint32_t first[PAGES], again[PAGES], n = 0;
		for (size_t i = 0; i < G_N_ELEMENTS(at_once); i++) {
			kvt_prefetcher *prefetcher =
				make_prefetcher(ops, &made, PAGES - 20, at_once[i]);
			uint32_t m =
				make_plan(prefetcher, 0, PAGES - 19, 60, i == 0 ? first : again);
			n = i == 0 ? m : n;
			g_assert_cmpuint(m, ==, n);
			if (i > 0)
				g_assert_cmpmem(
					first, n * sizeof(*first), again, m * sizeof(*again));
			ops->free(prefetcher);
		}
		g_assert_cmpuint(n, ==, 60);
	}
}

/* NaN and infinity in keys and queries: plans all the same, of distinct pages. */
static void test_hostile(void)
{
	g_auto(made_layer) made = make_layer(3);
	for (uint32_t i = 0; i < PAGES * NUMBERS; i += 97)
		made.half[i] = (uint16_t[]){ 0x7e00, 0x7c00, 0xfc00, 0x7bff }[i / 97 % 4];
	made.queries[5] = NAN;
	made.queries[DIM + 1] = INFINITY;
	made.queries[2 * DIM + 7] = -3e38f;
	for (size_t p = 0; kvt_prefetcher_registry()[p]; p++) {
		const kvt_prefetcher_ops *ops = kvt_prefetcher_registry()[p];
		if (!ops->reads_keys)
			continue;
		kvt_prefetcher *prefetcher = make_prefetcher(ops, &made, PAGES, PAGES);
		uint32_t plan[PAGES];
		uint8_t seen[PAGES] = { 0 };
		uint32_t n = make_plan(prefetcher, 0, PAGES, 50, plan);
		g_assert_cmpuint(n, ==, 50);
		for (uint32_t i = 0; i < n; i++) {
			g_assert_cmpuint(plan[i], <, PAGES);
			g_assert_cmpuint(seen[plan[i]]++, ==, 0);
		}
		ops->free(prefetcher);
	}
}

/* Sums of powers against the math library's; NaN and far too small logits are nothing. */
static void test_logits_to_sums(void)
{
	enum { N = 500, EACH = 4 };
	kvt_rng rng = kvt_rng_init(6, 0);
	float logits[N * EACH], sums[N];
	for (uint32_t i = 0; i < N * EACH; i++)
		logits[i] = 400 * (float)kvt_rng_normal(&rng);
	logits[9] = NAN;
	logits[10] = -INFINITY;
	kvt_logits_to_sums(logits, N, EACH, 0.05f, sums);
	double most = -INFINITY;
	for (uint32_t i = 0; i < N * EACH; i++)
		most = fmax(most, (double)logits[i]);
	for (uint32_t i = 0; i < N; i++) {
		double sum = 0;
		for (uint32_t t = 0; t < EACH; t++)
			if (logits[i * EACH + t] > -INFINITY)
				sum += exp((double)0.05f * ((double)logits[i * EACH + t] - most));
		/* the product with log2 e is rounded to 2^-24 of logits up to 100 */
		g_assert_cmpfloat_with_epsilon((double)sums[i], sum, 3e-5 * sum + 0x1p-120);
	}
	float none[2] = { NAN, -INFINITY };
	kvt_logits_to_sums(none, 2, 1, 1, sums);
	g_assert_cmpfloat(sums[0], ==, 0);
	g_assert_cmpfloat(sums[1], ==, 0);
}

/* A plan from shares: what is selected, what is only to be in HBM, what it holds, where it ends. */
static void test_plan(void)
{
	enum { N = 20 };
	kvt_page_ranking ranking;
	kvt_page_ranking_init(&ranking, 100);
	/* pages 10 .. 29; page 30, which is being filled, has no score */
	uint32_t share[N], pages[N];
	for (uint32_t i = 0; i < N; i++)
		share[i] = KVT_MASS_ONE / 100 * (1 + i % 7);
	kvt_scored_pages scored = { .n = N, .first = 10, .share = share };
	kvt_plan_request request = {
		.first_present = 10, .n_present = 31, .budget = 8, .room = 12
	};
	kvt_plan plan = { .pages = pages, .select = UINT32_MAX, .mass = NAN };
	kvt_scored_pages_plan(&scored, &request, FALSE, &ranking, &plan);
	static const uint32_t order[] = { 16, 23, 15, 22, 29, 14, 21, 28, 13, 20, 27, 12 };
	g_assert_cmpmem(pages, plan.n * sizeof(*pages), order, sizeof(order));
	/* the budget's 8 are the 5 that are kept, 10 and 27 .. 30, and 16, 23, 15 */
	g_assert_cmpuint(plan.select, ==, 3);
	g_assert_true(isnan(plan.mass));
	kvt_scored_pages_plan(&scored, &request, TRUE, &ranking, &plan);
	g_assert_cmpuint(plan.select, ==, 3);
	double kept = .01 + .04 + .05 + .06; /* 10, 27, 28, 29 */
	double tolerance = 1e-6;
	g_assert_cmpfloat_with_epsilon((double)plan.mass, kept + .07 + .07 + .06, tolerance);
	request.target = 0.25f;
	kvt_scored_pages_plan(&scored, &request, TRUE, &ranking, &plan);
	g_assert_cmpuint(plan.select, ==, 2);
	g_assert_cmpuint(plan.n, ==, 12);
	g_assert_cmpfloat_with_epsilon((double)plan.mass, kept + .14, tolerance);
	request.target = 0.1f;
	kvt_scored_pages_plan(&scored, &request, TRUE, &ranking, &plan);
	g_assert_cmpuint(plan.select, ==, 0);
	/* the same pages, listed */
	uint32_t ids[N], listed[N];
	for (uint32_t i = 0; i < N; i++)
		ids[i] = 10 + i;
	kvt_scored_pages list = { .n = N, .ids = ids, .share = share };
	kvt_plan other = { .pages = listed, .select = UINT32_MAX, .mass = NAN };
	kvt_scored_pages_plan(&list, &request, TRUE, &ranking, &other);
	g_assert_cmpmem(pages, plan.n * sizeof(*pages), listed, other.n * sizeof(*listed));
	g_assert_cmpfloat(plan.mass, ==, other.mass);
	kvt_page_ranking_clear(&ranking);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/scorers/half-rounding", test_half_rounding);
	g_test_add_func("/scorers/quest-bound", test_quest_bound);
	g_test_add_func("/scorers/orders", test_orders);
	g_test_add_func("/scorers/bytes", test_bytes);
	g_test_add_func("/scorers/chunks", test_chunks);
	g_test_add_func("/scorers/hostile", test_hostile);
	g_test_add_func("/scorers/logits-to-sums", test_logits_to_sums);
	g_test_add_func("/scorers/plan", test_plan);
	return g_test_run();
}
