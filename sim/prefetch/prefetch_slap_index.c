/*
 * prefetch_slap_index.c: slap for contexts so long that not every page can be scored: pages are
 * looked up (page_lookup.h), about 5.4 n^0.6 of n, scored by their codes (code_sketch.h), and
 * corrected by what attention found. slap-hash is the control whose lookups have hash tables alone.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "sim/prefetch/code_sketch.h"
#include "sim/prefetch/page_lookup.h"
#include "sim/prefetch/plan_promise.h"
#include "sim/prefetch/prefetcher.h"
#include "sim/prefetch/reuse_statistics.h"
#include "sim/prefetch/scored_pages.h"
#include "sim/prefetch/top_pages.h"

enum {
	FACTOR = 43,         /* eighths of n^0.6 that a lookup scores for budgets up to 2% */
	FACTOR_MAX = 255,    /* of kvt_page_lookup_allowance */
	GUESS_NUMERATOR = 3, /* of 8: how much of a guess counts against a score */
};

typedef struct index_head {
	kvt_code_sketch *sketch; /* the layer's */
	uint32_t head;
	kvt_page_lookup *lookup;
	kvt_reuse reuse;
	uint32_t n_scored, *scored; /* [max_pages], by the last lookup */
	kvt_promise promise;
} index_head;

typedef struct slap_index {
	kvt_prefetcher base;
	kvt_prefetcher_spec spec;
	kvt_code_sketch *sketch;
	index_head *heads;
	kvt_page_ranking ranking;

	float *mean; /* [head_dim] */
	float *key;  /* [head_dim] */
	/* scratch, [max_pages] */
	uint32_t *share, *ids, *worth;
	uint64_t *entries;
} slap_index;

static void mean_distances(
	void *arg, uint32_t page, const uint32_t *others, uint32_t n, float *distances)
{
	const index_head *head = arg;
	kvt_code_sketch_distances(head->sketch, head->head, page, others, n, distances);
}

static kvt_prefetcher *create(const kvt_prefetcher_spec *spec, bool walks)
{
	slap_index *prefetcher = g_new0(slap_index, 1);
	prefetcher->spec = *spec;
	prefetcher->sketch = kvt_code_sketch_new(spec);
	prefetcher->heads = g_new0(index_head, spec->n_heads);
	for (uint32_t i = 0; i < spec->n_heads; i++) {
		index_head *head = &prefetcher->heads[i];
		head->sketch = prefetcher->sketch;
		head->head = i;
		kvt_page_lookup_spec lookup = { .head_dim = spec->head_dim,
			.group = spec->group,
			.max_pages = spec->max_pages,
			.seed = spec->seed + i,
			.distance = walks ? mean_distances : NULL,
			.distance_arg = head };
		head->lookup = kvt_page_lookup_new(&lookup);
		kvt_reuse_init(&head->reuse, spec->max_pages);
		head->scored = g_new(uint32_t, spec->max_pages);
		kvt_promise_init(&head->promise, spec->max_pages);
	}
	for (uint32_t i = 0; i < spec->n_heads && spec->n_heads > 1; i++)
		kvt_page_lookup_set_companion(prefetcher->heads[i].lookup,
			prefetcher->heads[(i + spec->n_heads - 1) % spec->n_heads].lookup);
	kvt_page_ranking_init(&prefetcher->ranking, spec->max_pages);
	prefetcher->mean = g_new(float, spec->head_dim);
	prefetcher->key = g_new(float, spec->head_dim);
	prefetcher->share = g_new(uint32_t, spec->max_pages);
	prefetcher->ids = g_new(uint32_t, spec->max_pages);
	prefetcher->worth = g_new(uint32_t, spec->max_pages);
	prefetcher->entries = g_new(uint64_t, spec->max_pages);
	return &prefetcher->base;
}

static kvt_prefetcher *index_create(const kvt_prefetcher_spec *spec)
{
	return create(spec, true);
}

static kvt_prefetcher *hash_create(const kvt_prefetcher_spec *spec)
{
	return create(spec, false);
}

static void index_free(kvt_prefetcher *base)
{
	slap_index *prefetcher = (slap_index *)base;
	for (uint32_t i = 0; i < prefetcher->spec.n_heads; i++) {
		kvt_page_lookup_free(prefetcher->heads[i].lookup);
		kvt_reuse_clear(&prefetcher->heads[i].reuse);
		g_free(prefetcher->heads[i].scored);
		kvt_promise_clear(&prefetcher->heads[i].promise);
	}
	g_free(prefetcher->heads);
	kvt_code_sketch_free(prefetcher->sketch);
	kvt_page_ranking_clear(&prefetcher->ranking);
	g_free(prefetcher->mean);
	g_free(prefetcher->key);
	g_free(prefetcher->share);
	g_free(prefetcher->ids);
	g_free(prefetcher->worth);
	g_free(prefetcher->entries);
	g_free(prefetcher);
}

static void index_train(kvt_prefetcher *base, uint32_t head, const kvt_page_keys *sample)
{
	kvt_code_sketch_train(((slap_index *)base)->sketch, head, sample, &base->stats);
}

/* The mean of a page's keys, less the centre. */
static void page_mean(slap_index *prefetcher, uint32_t head, const uint16_t *keys)
{
	uint32_t head_dim = prefetcher->spec.head_dim, tokens = prefetcher->spec.block_tokens;
	const float *centre = kvt_code_sketch_centre(prefetcher->sketch, head);
	memset(prefetcher->mean, 0, sizeof(float) * head_dim);
	for (uint32_t token = 0; token < tokens; token++) {
		kvt_elements_to_float(KVT_ELEMENT_F16, keys + (size_t)token * head_dim, head_dim,
			prefetcher->key);
		for (uint32_t i = 0; i < head_dim; i++)
			prefetcher->mean[i] += prefetcher->key[i];
	}
	for (uint32_t i = 0; i < head_dim; i++)
		prefetcher->mean[i] = prefetcher->mean[i] / (float)tokens - centre[i];
}

static void index_write(kvt_prefetcher *base, uint32_t head, const kvt_page_keys *keys)
{
	slap_index *prefetcher = (slap_index *)base;
	kvt_page_lookup *lookup = prefetcher->heads[head].lookup;
	size_t numbers = (size_t)prefetcher->spec.block_tokens * prefetcher->spec.head_dim;
	uint64_t before = kvt_page_lookup_bytes(lookup);
	kvt_code_sketch_write(prefetcher->sketch, head, keys, &base->stats);
	for (uint32_t i = 0; i < keys->n_pages; i++) {
		page_mean(prefetcher, head, keys->keys + i * numbers);
		kvt_page_lookup_add(lookup, kvt_page_keys_id(keys, i), prefetcher->mean);
	}
	base->stats.sketch_bytes += kvt_page_lookup_bytes(lookup) - before;
}

static void index_query(kvt_prefetcher *base, uint32_t step, uint32_t head, const float *queries)
{
	kvt_code_sketch_query(((slap_index *)base)->sketch, step, head, queries);
}

static void index_observe(
	kvt_prefetcher *base, uint32_t step, uint32_t head, const kvt_page_masses *row)
{
	kvt_reuse_observe(&((slap_index *)base)->heads[head].reuse, step, row);
}

/* Pages that a lookup may score: to rank more pages takes more scores, as the root of the budget's
 * share. */
static uint32_t allowance(const kvt_plan_request *request, uint32_t n)
{
	double share = (double)request->budget / (request->n_present - request->first_present);
	uint32_t factor = (uint32_t)(FACTOR * sqrt(MAX(share / 0.02, 1)));
	return kvt_page_lookup_allowance(MIN(factor, (uint32_t)FACTOR_MAX), n);
}

/* Looks up and scores pages first .. end - 1; what they are worth is in head->reuse then. */
static void score(
	slap_index *prefetcher, index_head *head, const kvt_plan_request *request, uint32_t end)
{
	kvt_page_lookup *lookup = head->lookup;
	uint32_t first = request->first_present;
	kvt_prefetcher_stats *stats = &prefetcher->base.stats;
	const kvt_page_lookup_counts *counts = kvt_page_lookup_counted(lookup);
	uint64_t followed = counts->links + counts->buckets;
	kvt_reuse_forget_shares(&head->reuse, head->n_scored, head->scored);
	kvt_page_lookup_begin(lookup, first, end, allowance(request, end - first),
		kvt_code_sketch_queries(prefetcher->sketch, head->head));
	const uint32_t *pages;
	uint32_t n = 0;
	while (kvt_page_lookup_next(lookup, prefetcher->share)) {
		uint32_t before = n;
		pages = kvt_page_lookup_pages(lookup, &n);
		kvt_code_sketch_score_more(
			prefetcher->sketch, head->head, before, n, pages, prefetcher->share, stats);
	}
	pages = kvt_page_lookup_pages(lookup, &n);
	kvt_reuse_score_pages(&head->reuse, n, pages, prefetcher->share);
	head->n_scored = n;
	memcpy(head->scored, pages, sizeof(*pages) * n);
	stats->scanned_bytes += sizeof(uint32_t) * (counts->links + counts->buckets - followed);
}

static int by_page(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* Pages with what they are worth, into prefetcher->ids and worth, by rising id. */
static uint32_t join(slap_index *prefetcher, const index_head *head, uint32_t n, uint32_t n_guesses)
{
	uint64_t all = KVT_MASS_ONE + kvt_page_lookup_rest(head->lookup);
	for (uint32_t i = 0; i < n_guesses; i++) {
		uint64_t worth = (uint64_t)prefetcher->worth[i] * GUESS_NUMERATOR / 8;
		prefetcher->entries[n + i] = (uint64_t)prefetcher->ids[i] << 32 | worth;
	}
	for (uint32_t i = 0; i < n; i++)
		prefetcher->entries[i] =
			(uint64_t)head->scored[i] << 32 | head->reuse.share[head->scored[i]];
	n += n_guesses;
	qsort(prefetcher->entries, n, sizeof(*prefetcher->entries), by_page);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t worth = (uint32_t)prefetcher->entries[i];
		prefetcher->ids[i] = (uint32_t)(prefetcher->entries[i] >> 32);
		prefetcher->worth[i] = (uint32_t)((worth << 31) / all);
	}
	return n;
}

/* The same of pages that stand high from the last lookups. */
static uint32_t join_standing(slap_index *prefetcher, const index_head *head, uint32_t first)
{
	const uint32_t *share;
	uint32_t n, m = 0;
	const uint32_t *pages = kvt_page_lookup_standing(head->lookup, &n, &share);
	for (uint32_t i = 0; i < n; i++)
		if (pages[i] >= first)
			prefetcher->entries[m++] = (uint64_t)pages[i] << 32 | share[pages[i]];
	qsort(prefetcher->entries, m, sizeof(*prefetcher->entries), by_page);
	for (uint32_t i = 0; i < m; i++) {
		prefetcher->ids[i] = (uint32_t)(prefetcher->entries[i] >> 32);
		prefetcher->worth[i] = (uint32_t)prefetcher->entries[i];
	}
	return m;
}

/* The share of the page that is being filled: it is kept, and has no code. */
static float unscored_share(const index_head *head)
{
	return (float)head->reuse.unscored / (float)KVT_MASS_ONE;
}

/* How much of what the last plan promised is there, now that the query is known. */
static void judge_last_plan(index_head *head)
{
	uint64_t mass = kvt_promise_sum(&head->promise, head->reuse.share);
	uint64_t all = KVT_MASS_ONE + kvt_page_lookup_rest(head->lookup);
	kvt_promise_judge(
		&head->promise, (float)((double)mass / (double)all) + unscored_share(head));
}

/* The plan of what prefetcher->ids[n] are worth. With the step's own query it is believed as it is.
 */
static void make_plan(slap_index *prefetcher, index_head *head, const kvt_plan_request *request,
	uint32_t n, float trust, kvt_plan *plan)
{
	kvt_scored_pages scored = { .n = n, .ids = prefetcher->ids, .share = prefetcher->worth };
	float unscored = unscored_share(head);
	kvt_plan_request rest = *request;
	if (request->target > 0)
		rest.target = MAX(request->target / MAX(trust, 0.01f) - unscored, FLT_MIN);
	kvt_scored_pages_plan(&scored, &rest, TRUE, &prefetcher->ranking, plan);
	float mass = MIN(plan->mass + unscored, 1);
	kvt_promise_make(&head->promise, plan->pages, MIN(plan->select, plan->n), mass);
	plan->mass = mass * trust;
}

static void index_plan(kvt_prefetcher *base, const kvt_plan_request *request, kvt_plan *plan)
{
	slap_index *prefetcher = (slap_index *)base;
	index_head *head = &prefetcher->heads[request->head];
	uint32_t end = kvt_code_sketch_pages(prefetcher->sketch, request->head);
	uint32_t first = request->first_present, step;
	plan->mass = 0;
	if (!kvt_code_sketch_has_query(prefetcher->sketch, request->head, &step) || first >= end)
		return;
	score(prefetcher, head, request, end);
	judge_last_plan(head);
	uint32_t n = head->n_scored;
	uint32_t n_guesses = kvt_page_lookup_guess(
		head->lookup, request->room, prefetcher->ids, prefetcher->worth);
	n = join(prefetcher, head, n, n_guesses);
	for (uint32_t i = 0; i < head->n_scored; i++)
		prefetcher->share[i] = head->reuse.share[head->scored[i]];
	kvt_page_lookup_end(head->lookup, prefetcher->share);
	kvt_reuse_scored_by(&head->reuse, step);
	bool current = step == request->step;
	if (!current)
		n = join_standing(prefetcher, head, first);
	make_plan(prefetcher, head, request, n, current ? 1 : head->promise.trust, plan);
}

#define SLAP_INDEX(called, says, makes)                                                            \
	{                                                                                          \
		.name = (called), .summary = (says), .reads_keys = TRUE, .estimates = TRUE,        \
		.unfit = kvt_code_sketch_unfit, .create = (makes), .free = index_free,             \
		.train = index_train, .write = index_write, .query = index_query,                  \
		.observe = index_observe, .plan = index_plan,                                      \
	}

const kvt_prefetcher_ops kvt_prefetcher_slap_index = SLAP_INDEX(
	"slap-index", "slap that looks pages up and scores 5.4 n^0.6 of n", index_create);
const kvt_prefetcher_ops kvt_prefetcher_slap_hash =
	SLAP_INDEX("slap-hash", "the same with hash tables alone, as a control", hash_create);
