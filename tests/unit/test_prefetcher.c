/* test_prefetcher.c: the selection of top pages against a sort, and every prefetcher: lists that
 * are distinct, ranked, within the budget and made of pages that were seen. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/prefetch/prefetcher.h"
#include "sim/prefetch/top_pages.h"
#include "traces/half_float.h"

enum { PAGES = 3000, HEADS = 3, GROUP = 4, DIM = 64, TOKENS = 16 };

static const kvt_prefetcher_spec spec_of_all = { .n_heads = HEADS,
	.max_pages = PAGES,
	.seed = 3,
	.group = GROUP,
	.head_dim = DIM,
	.block_tokens = TOKENS,
	.scale = 0.125f };

static uint32_t make_plan(
	kvt_prefetcher *prefetcher, const kvt_plan_request *request, uint32_t *pages)
{
	kvt_plan plan = { .pages = pages, .select = UINT32_MAX, .mass = NAN };
	prefetcher->ops->plan(prefetcher, request, &plan);
	if (prefetcher->ops->estimates)
		g_assert_true(plan.mass >= 0 && plan.mass <= 1.0001f);
	else
		g_assert_true(isnan(plan.mass));
	return plan.n;
}

static int by_mass_then_page(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b; /* { mass, page } */
	if (x[0] != y[0])
		return x[0] > y[0] ? -1 : 1;
	return (x[1] > y[1]) - (x[1] < y[1]);
}

static void check_top(kvt_rng *rng, uint32_t n, uint32_t k, uint32_t different)
{
	static uint32_t pages[PAGES], mass[PAGES], top[PAGES];
	static uint64_t scratch[2 * PAGES + 1], sorted[PAGES][2];
	uint32_t page = 0;
	for (uint32_t i = 0; i < n; i++) {
		page += 1 + (uint32_t)kvt_rng_below(rng, 3);
		pages[i] = page;
		mass[i] = (uint32_t)kvt_rng_below(rng, different ? different : KVT_MASS_ONE);
		sorted[i][0] = mass[i];
		sorted[i][1] = page;
	}
	qsort(sorted, n, sizeof(sorted[0]), by_mass_then_page);
	g_assert_cmpuint(kvt_top_pages(pages, mass, n, k, top, scratch), ==, MIN(n, k));
	uint64_t sum = 0;
	for (uint32_t i = 0; i < MIN(n, k); i++) {
		g_assert_cmpuint(top[i], ==, sorted[i][1]);
		sum += sorted[i][0];
	}
	g_assert_cmpuint(kvt_top_mass(mass, n, k, scratch), ==, sum);
}

static void test_top_pages(void)
{
	static const uint32_t sizes[] = { 0, 1, 2, 5, 33, 100, 1024, PAGES };
	static const uint32_t different[] = { 1, 2, 5, 2049, 5000000, 0 };
	kvt_rng rng = kvt_rng_init(1, 1);
	for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++)
		for (size_t j = 0; j < G_N_ELEMENTS(sizes); j++)
			for (size_t d = 0; d < G_N_ELEMENTS(different); d++)
				check_top(&rng, sizes[i], sizes[j], different[d]);
}

static void test_quantise(void)
{
	g_assert_cmpuint(kvt_mass_quantise(0), ==, 0);
	g_assert_cmpuint(kvt_mass_quantise(-1), ==, 0);
	g_assert_cmpuint(kvt_mass_quantise(NAN), ==, 0);
	g_assert_cmpuint(kvt_mass_quantise(1), ==, KVT_MASS_ONE);
	g_assert_cmpuint(kvt_mass_quantise(INFINITY), ==, KVT_MASS_ONE);
	g_assert_cmpuint(kvt_mass_quantise(nextafterf(1, 0)), <=, KVT_MASS_ONE);
	/* the smallest half-precision number, and one with all its bits */
	g_assert_cmpuint(kvt_mass_quantise(0x1p-24f), ==, 1u << 7);
	g_assert_cmpuint(kvt_mass_quantise(0x1.ffcp-1f), ==, 0x7ffu << 20);
}

/* A row over some of the pages 0 .. n_present - 1, of random masses. */
static kvt_page_masses random_row(kvt_rng *rng, uint32_t n_present, uint32_t *pages, float *mass)
{
	uint32_t n = 0;
	for (uint32_t page = 0; page < n_present; page++)
		if (kvt_rng_below(rng, 4) == 0) {
			pages[n] = page;
			mass[n++] = (float)kvt_rng_uniform(rng) * 0x1p-6f;
		}
	return (kvt_page_masses){ .n = n, .pages = pages, .mass = mass };
}

/* Half precision of a number between -2 and 2 in steps of 2^-8, exactly. */
static uint16_t random_half(kvt_rng *rng)
{
	float value = (float)((int)kvt_rng_below(rng, 1023) - 511) * 0x1p-8f;
	uint16_t half;
	kvt_half_from_float(&value, &half, 1);
	return half;
}

/* Keys of pages first .. end - 1 of a head, the same whenever they are asked for. */
static uint16_t *make_keys(uint32_t head, uint32_t first, uint32_t end)
{
	uint16_t *keys = g_new(uint16_t, (size_t)(end - first) * TOKENS * DIM);
	for (uint32_t page = first; page < end; page++) {
		kvt_rng rng = kvt_rng_init(page, 100 + head);
		for (uint32_t i = 0; i < TOKENS * DIM; i++)
			keys[(size_t)(page - first) * TOKENS * DIM + i] = random_half(&rng);
	}
	return keys;
}

/* Trains with and writes pages first .. end - 1. */
static void write_keys(kvt_prefetcher *prefetcher, uint32_t head, uint32_t first, uint32_t end)
{
	g_autofree uint16_t *made = make_keys(head, first, end);
	kvt_page_keys keys = { .n_pages = end - first, .first = first, .keys = made };
	if (first == 0)
		prefetcher->ops->train(prefetcher, head, &keys);
	prefetcher->ops->write(prefetcher, head, &keys);
}

static void tell_query(kvt_prefetcher *prefetcher, uint32_t step, uint32_t head)
{
	float queries[GROUP * DIM];
	kvt_rng rng = kvt_rng_init(step / 5, 200 + head);
	for (uint32_t i = 0; i < GROUP * DIM; i++)
		queries[i] = (float)kvt_rng_normal(&rng);
	prefetcher->ops->query(prefetcher, step, head, queries);
}

/* Pages of the plan are distinct, present, and known of: seen, or with a known key, or, for the
 * control, any. */
static void check_plan(
	const uint32_t *plan, uint32_t n, const kvt_plan_request *request, const uint8_t *known)
{
	static uint8_t seen[PAGES];
	memset(seen, 0, sizeof(seen));
	g_assert_cmpuint(n, <=, request->room);
	for (uint32_t i = 0; i < n; i++) {
		g_assert_cmpuint(plan[i], <, request->n_present);
		g_assert_false(seen[plan[i]]);
		g_assert_true(known[plan[i]]);
		seen[plan[i]] = 1;
	}
}

typedef struct course {
	uint32_t planned;
	uint64_t digest; /* of all plans */
} course;

/* A made-up decode. */
static course run_course(const kvt_prefetcher_ops *ops, uint32_t steps)
{
	static uint32_t pages[PAGES], future_pages[PAGES], plan[PAGES];
	static float mass[PAGES], future_mass[PAGES];
	static uint8_t known[HEADS][PAGES];
	memset(known, 0, sizeof(known));
	kvt_rng rng = kvt_rng_init(7, 0);
	kvt_prefetcher *prefetcher = kvt_prefetcher_new(ops, &spec_of_all);
	uint32_t written = 0;
	course result = { 0 };
	for (uint32_t step = 0; step < steps; step++) {
		uint32_t n_present = 500 + step * 10;
		for (uint32_t head = 0; head < HEADS; head++) {
			kvt_page_masses future =
				random_row(&rng, n_present, future_pages, future_mass);
			kvt_plan_request request = { .step = step,
				.head = head,
				.n_present = n_present,
				.budget = MAX(5, n_present / 50),
				.room = MAX(5, n_present / 20),
				.future = ops->sees_future ? &future : NULL };
			uint8_t may_know[PAGES];
			memcpy(may_know, known[head], PAGES);
			for (uint32_t i = 0; ops->sees_future && i < future.n; i++)
				may_know[future_pages[i]] = 1;
			if (ops->reads_keys) {
				write_keys(prefetcher, head, written, n_present - 1);
				tell_query(prefetcher, step, head);
			}
			if (ops->reads_keys || strcmp(ops->name, "random") == 0 ||
				strcmp(ops->name, "window") == 0)
				memset(may_know, 1, n_present);
			uint32_t n = make_plan(prefetcher, &request, plan);
			result.planned += n;
			for (uint32_t i = 0; i < n; i++)
				result.digest = (result.digest ^ plan[i]) * UINT64_C(0x100000001b3);
			check_plan(plan, n, &request, may_know);
			kvt_page_masses row = random_row(&rng, n_present, pages, mass);
			for (uint32_t i = 0; i < row.n; i++)
				known[head][pages[i]] = 1;
			ops->observe(prefetcher, step, head, &row);
		}
		written = n_present - 1;
	}
	const kvt_prefetcher_stats *stats = &prefetcher->stats;
	if (ops->reads_keys) {
		g_assert_cmpuint(stats->sketch_tokens, ==, (uint64_t)HEADS * written * TOKENS);
		g_assert_cmpuint(stats->queries, ==, HEADS * steps);
		g_assert_cmpuint(stats->scored_pages, >, 0);
		g_assert_cmpuint(stats->scanned_bytes, >, 0);
		g_assert_cmpuint(stats->sketch_bytes, >, 0);
	} else {
		g_assert_cmpuint(stats->scanned_bytes, ==, 0);
	}
	ops->free(prefetcher);
	return result;
}

static void test_every_prefetcher(void)
{
	for (size_t p = 0; kvt_prefetcher_registry()[p]; p++) {
		const kvt_prefetcher_ops *ops = kvt_prefetcher_registry()[p];
		course first = run_course(ops, 40), again = run_course(ops, 40);
		g_assert_cmpuint(first.planned, ==, again.planned);
		g_assert_cmpuint(first.digest, ==, again.digest);
		if (strcmp(ops->name, "none") == 0)
			g_assert_cmpuint(first.planned, ==, 0);
		else
			g_assert_cmpuint(first.planned, >, 0);
	}
}

static void test_last_step_ranks(void)
{
	const kvt_prefetcher_ops *ops = kvt_prefetcher_find("last-step", NULL);
	kvt_prefetcher_spec spec = { .n_heads = 2, .max_pages = 100 };
	kvt_prefetcher *prefetcher = kvt_prefetcher_new(ops, &spec);
	static const uint32_t pages[] = { 3, 10, 20, 21, 99 };
	static const float mass[] = { .1f, .3f, .1f, .4f, .05f };
	kvt_page_masses row = { .n = 5, .pages = pages, .mass = mass };
	kvt_plan_request request = { .step = 1, .head = 1, .n_present = 100, .budget = 4 };
	uint32_t ranked[4];
	g_assert_cmpuint(make_plan(prefetcher, &request, ranked), ==, 0);
	ops->observe(prefetcher, 0, 1, &row);
	g_assert_cmpuint(make_plan(prefetcher, &request, ranked), ==, 4);
	static const uint32_t expected[] = { 21, 10, 3, 20 };
	g_assert_cmpmem(ranked, sizeof(ranked), expected, sizeof(expected));
	request.head = 0; /* heads know nothing of each other */
	g_assert_cmpuint(make_plan(prefetcher, &request, ranked), ==, 0);
	ops->free(prefetcher);
}

static void test_find(void)
{
	g_autoptr(GError) error = NULL;
	g_assert_null(kvt_prefetcher_find("last_step", &error));
	g_assert_nonnull(strstr(error->message, "did you mean \"last-step\""));
	for (size_t p = 0; kvt_prefetcher_registry()[p]; p++) {
		const kvt_prefetcher_ops *ops = kvt_prefetcher_registry()[p];
		g_assert_true(kvt_prefetcher_find(ops->name, NULL) == ops);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/prefetcher/top-pages", test_top_pages);
	g_test_add_func("/prefetcher/quantise", test_quantise);
	g_test_add_func("/prefetcher/find", test_find);
	g_test_add_func("/prefetcher/every-prefetcher", test_every_prefetcher);
	g_test_add_func("/prefetcher/last-step-ranks", test_last_step_ranks);
	return g_test_run();
}
