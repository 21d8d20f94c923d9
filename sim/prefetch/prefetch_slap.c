/*
 * prefetch_slap.c: sketches and locality across plans. Pages are scored by their codes
 * (code_sketch.h) with the newest query; what attention found corrects the scores, and they are
 * smoothed over steps where the step's own query is not known yet (reuse_statistics.h). A plan ends
 * where enough mass is in sight, and says how much that is.
 */
#include <math.h>

#include "sim/prefetch/code_sketch.h"
#include "sim/prefetch/plan_promise.h"
#include "sim/prefetch/prefetcher.h"
#include "sim/prefetch/reuse_statistics.h"
#include "sim/prefetch/scored_pages.h"
#include "sim/prefetch/top_pages.h"

typedef struct slap_head {
	kvt_reuse reuse;
	kvt_promise promise;
} slap_head;

typedef struct slap {
	kvt_prefetcher base;
	kvt_prefetcher_spec spec;
	kvt_code_sketch *sketch;
	slap_head *heads;
	/* scratch, [max_pages] where nothing else is said */
	uint32_t *share, *pages, *ranked;
	uint8_t *planned;  /* all 0 between plans */
	uint64_t *scratch; /* [2 x max_pages + 1] */
} slap;

static kvt_prefetcher *slap_create(const kvt_prefetcher_spec *spec)
{
	slap *prefetcher = g_new0(slap, 1);
	prefetcher->spec = *spec;
	prefetcher->sketch = kvt_code_sketch_new(spec);
	prefetcher->heads = g_new0(slap_head, spec->n_heads);
	for (uint32_t i = 0; i < spec->n_heads; i++) {
		kvt_reuse_init(&prefetcher->heads[i].reuse, spec->max_pages);
		kvt_promise_init(&prefetcher->heads[i].promise, spec->max_pages);
	}
	prefetcher->share = g_new(uint32_t, spec->max_pages);
	prefetcher->pages = g_new(uint32_t, spec->max_pages);
	prefetcher->ranked = g_new(uint32_t, spec->max_pages);
	prefetcher->planned = g_new0(uint8_t, spec->max_pages);
	prefetcher->scratch = g_new(uint64_t, 2 * (size_t)spec->max_pages + 1);
	return &prefetcher->base;
}

static void slap_free(kvt_prefetcher *base)
{
	slap *prefetcher = (slap *)base;
	kvt_code_sketch_free(prefetcher->sketch);
	for (uint32_t i = 0; i < prefetcher->spec.n_heads; i++) {
		kvt_reuse_clear(&prefetcher->heads[i].reuse);
		kvt_promise_clear(&prefetcher->heads[i].promise);
	}
	g_free(prefetcher->heads);
	g_free(prefetcher->share);
	g_free(prefetcher->pages);
	g_free(prefetcher->ranked);
	g_free(prefetcher->planned);
	g_free(prefetcher->scratch);
	g_free(prefetcher);
}

static void slap_train(kvt_prefetcher *base, uint32_t head, const kvt_page_keys *sample)
{
	kvt_code_sketch_train(((slap *)base)->sketch, head, sample, &base->stats);
}

static void slap_write(kvt_prefetcher *base, uint32_t head, const kvt_page_keys *keys)
{
	kvt_code_sketch_write(((slap *)base)->sketch, head, keys, &base->stats);
}

static void slap_query(kvt_prefetcher *base, uint32_t step, uint32_t head, const float *queries)
{
	kvt_code_sketch_query(((slap *)base)->sketch, step, head, queries);
}

static void slap_observe(
	kvt_prefetcher *base, uint32_t step, uint32_t head, const kvt_page_masses *row)
{
	kvt_reuse_observe(&((slap *)base)->heads[head].reuse, step, row);
}

static float share_of(uint64_t mass)
{
	return (float)((double)mass / KVT_MASS_ONE);
}

/* Ranks pages first .. first + n - 1 by worth[n], best first, into prefetcher->ranked. */
static uint32_t rank(
	slap *prefetcher, uint32_t first, uint32_t n, const uint32_t *worth, uint32_t k)
{
	for (uint32_t i = 0; i < n; i++)
		prefetcher->pages[i] = first + i;
	return kvt_top_pages(
		prefetcher->pages, worth, n, k, prefetcher->ranked, prefetcher->scratch);
}

/* Adds a page to the plan, once. */
static bool add(slap *prefetcher, kvt_plan *plan, uint32_t page)
{
	if (prefetcher->planned[page])
		return false;
	prefetcher->planned[page] = 1;
	plan->pages[plan->n++] = page;
	return true;
}

/* The pages to attend to: those always kept, then the best, until the budget is used up or the mass
 * wanted is in sight. Returns the mass. */
static uint64_t select_pages(slap *prefetcher, const kvt_plan_request *request, uint32_t end,
	const uint32_t *worth, double trust, kvt_plan *plan)
{
	slap_head *head = &prefetcher->heads[request->head];
	uint32_t first = request->first_present;
	uint32_t last = request->n_present -
			MIN(request->n_present - first - 1, (uint32_t)KVT_PLAN_KEPT_LAST);
	uint32_t unscored = request->n_present - MAX(end, last), kept = 1;
	uint64_t mass = head->reuse.unscored;
	add(prefetcher, plan, first);
	mass += worth[first];
	for (uint32_t page = MAX(last, first + 1); page < end; page++, kept++) {
		add(prefetcher, plan, page);
		mass += worth[page];
	}
	uint32_t budget = request->budget - MIN(request->budget, kept + unscored);
	uint32_t n = rank(prefetcher, first, end - first, worth + first, request->budget);
	double wanted = request->target > 0 ? request->target * KVT_MASS_ONE : INFINITY;
	for (uint32_t i = 0; i < n && budget > 0 && (double)mass * trust < wanted; i++)
		if (add(prefetcher, plan, prefetcher->ranked[i])) {
			mass += worth[prefetcher->ranked[i]];
			budget--;
		}
	plan->select = plan->n;
	kvt_promise_make(&head->promise, plan->pages, plan->n, share_of(mass));
	return mass;
}

/* Scores what is present with the newest query. */
static void score(slap *prefetcher, const kvt_plan_request *request, uint32_t end, uint32_t step)
{
	slap_head *head = &prefetcher->heads[request->head];
	uint32_t first = request->first_present;
	kvt_code_sketch_score(prefetcher->sketch, request->head, first, end - first, NULL,
		prefetcher->share, &prefetcher->base.stats);
	kvt_reuse_score(&head->reuse, first, end - first, prefetcher->share);
	uint64_t there = head->reuse.unscored + kvt_promise_sum(&head->promise, head->reuse.share);
	kvt_promise_judge(&head->promise, share_of(there));
	kvt_reuse_scored_by(&head->reuse, step);
}

static void slap_plan(kvt_prefetcher *base, const kvt_plan_request *request, kvt_plan *plan)
{
	slap *prefetcher = (slap *)base;
	slap_head *head = &prefetcher->heads[request->head];
	uint32_t end = kvt_code_sketch_pages(prefetcher->sketch, request->head);
	uint32_t first = request->first_present, step;
	plan->mass = 0;
	if (!kvt_code_sketch_has_query(prefetcher->sketch, request->head, &step) || first >= end)
		return;
	score(prefetcher, request, end, step);
	bool current = step == request->step;
	const kvt_reuse *reuse = &head->reuse;
	double trust = current ? 1 : (double)head->promise.trust;
	uint64_t mass = select_pages(
		prefetcher, request, end, current ? reuse->share : reuse->recent, trust, plan);
	plan->mass = MIN((float)(share_of(mass) * trust), 1);
	/* what may be wanted soon, while HBM has room */
	uint32_t n = rank(prefetcher, first, end - first, reuse->lasting + first, request->room);
	for (uint32_t i = 0; i < n && plan->n < request->room; i++)
		add(prefetcher, plan, prefetcher->ranked[i]);
	for (uint32_t i = 0; i < plan->n; i++)
		prefetcher->planned[plan->pages[i]] = 0;
}

const kvt_prefetcher_ops kvt_prefetcher_slap = {
	.name = "slap",
	.summary = "codes of keys, scored with the newest query, joined with reuse statistics",
	.reads_keys = TRUE,
	.estimates = TRUE,
	.unfit = kvt_code_sketch_unfit,
	.create = slap_create,
	.free = slap_free,
	.train = slap_train,
	.write = slap_write,
	.query = slap_query,
	.observe = slap_observe,
	.plan = slap_plan,
};
