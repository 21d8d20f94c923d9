/* prefetch_codes.c: pages by their codes' scores with the newest query, and nothing else: slap's
 * first half alone. */
#include "sim/prefetch/code_sketch.h"
#include "sim/prefetch/top_pages.h"

typedef struct codes {
	kvt_prefetcher base;
	kvt_code_sketch *sketch;
	uint32_t *share, *pages; /* [max_pages] */
	uint64_t *scratch;
} codes;

static kvt_prefetcher *codes_create(const kvt_prefetcher_spec *spec)
{
	codes *prefetcher = g_new0(codes, 1);
	prefetcher->sketch = kvt_code_sketch_new(spec);
	prefetcher->share = g_new(uint32_t, spec->max_pages);
	prefetcher->pages = g_new(uint32_t, spec->max_pages);
	prefetcher->scratch = g_new(uint64_t, 2 * (size_t)spec->max_pages + 1);
	return &prefetcher->base;
}

static void codes_free(kvt_prefetcher *base)
{
	codes *prefetcher = (codes *)base;
	kvt_code_sketch_free(prefetcher->sketch);
	g_free(prefetcher->share);
	g_free(prefetcher->pages);
	g_free(prefetcher->scratch);
	g_free(prefetcher);
}

static void codes_train(kvt_prefetcher *base, uint32_t head, const kvt_page_keys *sample)
{
	kvt_code_sketch_train(((codes *)base)->sketch, head, sample, &base->stats);
}

static void codes_write(kvt_prefetcher *base, uint32_t head, const kvt_page_keys *keys)
{
	kvt_code_sketch_write(((codes *)base)->sketch, head, keys, &base->stats);
}

static void codes_query(kvt_prefetcher *base, uint32_t step, uint32_t head, const float *queries)
{
	kvt_code_sketch_query(((codes *)base)->sketch, step, head, queries);
}

static void codes_observe(
	kvt_prefetcher *prefetcher, uint32_t step, uint32_t head, const kvt_page_masses *row)
{
}

static void codes_plan(kvt_prefetcher *base, const kvt_plan_request *request, kvt_plan *plan)
{
	codes *prefetcher = (codes *)base;
	uint32_t end = kvt_code_sketch_pages(prefetcher->sketch, request->head);
	uint32_t first = request->first_present, step;
	if (!kvt_code_sketch_has_query(prefetcher->sketch, request->head, &step) || first >= end)
		return;
	for (uint32_t page = first; page < end; page++)
		prefetcher->pages[page - first] = page;
	kvt_code_sketch_score(prefetcher->sketch, request->head, first, end - first, NULL,
		prefetcher->share, &base->stats);
	plan->n = kvt_top_pages(prefetcher->pages, prefetcher->share, end - first, request->room,
		plan->pages, prefetcher->scratch);
	plan->select = request->budget;
}

const kvt_prefetcher_ops kvt_prefetcher_codes = {
	.name = "codes",
	.summary = "codes of keys, scored with the newest query: slap without what it remembers",
	.reads_keys = TRUE,
	.unfit = kvt_code_sketch_unfit,
	.create = codes_create,
	.free = codes_free,
	.train = codes_train,
	.write = codes_write,
	.query = codes_query,
	.observe = codes_observe,
	.plan = codes_plan,
};
