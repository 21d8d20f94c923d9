/* prefetch_smoothed.c: the pages of most mass over the head's last steps, each counting half of the
 * one after it, so that a page whose turn has passed is remembered for a while: slap's second half
 * alone. Under budgeted attention it only knows what was attended to. */
#include "sim/prefetch/prefetcher.h"
#include "sim/prefetch/top_pages.h"

typedef struct smoothed {
	kvt_prefetcher base;
	kvt_prefetcher_spec spec;
	uint32_t **worth; /* [n_heads][max_pages], units of top_pages.h */
	uint32_t *pages;  /* [max_pages] */
	uint64_t *scratch;
} smoothed;

static kvt_prefetcher *smoothed_create(const kvt_prefetcher_spec *spec)
{
	smoothed *prefetcher = g_new0(smoothed, 1);
	prefetcher->spec = *spec;
	prefetcher->worth = g_new(uint32_t *, spec->n_heads);
	for (uint32_t head = 0; head < spec->n_heads; head++)
		prefetcher->worth[head] = g_new0(uint32_t, spec->max_pages);
	prefetcher->pages = g_new(uint32_t, spec->max_pages);
	for (uint32_t page = 0; page < spec->max_pages; page++)
		prefetcher->pages[page] = page;
	prefetcher->scratch = g_new(uint64_t, 2 * (size_t)spec->max_pages + 1);
	return &prefetcher->base;
}

static void smoothed_free(kvt_prefetcher *base)
{
	smoothed *prefetcher = (smoothed *)base;
	for (uint32_t head = 0; head < prefetcher->spec.n_heads; head++)
		g_free(prefetcher->worth[head]);
	g_free(prefetcher->worth);
	g_free(prefetcher->pages);
	g_free(prefetcher->scratch);
	g_free(prefetcher);
}

static void smoothed_observe(
	kvt_prefetcher *base, uint32_t step, uint32_t head, const kvt_page_masses *row)
{
	smoothed *prefetcher = (smoothed *)base;
	uint32_t *worth = prefetcher->worth[head];
	for (uint32_t page = 0; page < prefetcher->spec.max_pages; page++)
		worth[page] /= 2;
	for (uint32_t i = 0; i < row->n; i++)
		worth[row->pages[i]] += kvt_mass_quantise(row->mass[i]) / 2;
}

static void smoothed_plan(kvt_prefetcher *base, const kvt_plan_request *request, kvt_plan *plan)
{
	smoothed *prefetcher = (smoothed *)base;
	const uint32_t *worth = prefetcher->worth[request->head];
	uint32_t first = request->first_present, n = request->n_present - first;
	plan->n = kvt_top_pages(prefetcher->pages + first, worth + first, n, request->room,
		plan->pages, prefetcher->scratch);
	/* of pages that nothing is known of, none is better than another */
	while (plan->n > 0 && worth[plan->pages[plan->n - 1]] == 0)
		plan->n--;
	plan->select = request->budget;
}

const kvt_prefetcher_ops kvt_prefetcher_smoothed = {
	.name = "smoothed",
	.summary = "the pages of most mass over the head's last steps: slap without sketches",
	.create = smoothed_create,
	.free = smoothed_free,
	.observe = smoothed_observe,
	.plan = smoothed_plan,
};
