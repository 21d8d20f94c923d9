/* prefetch_window.c: the first pages, where attention sinks, and the newest: what needs to know
 * nothing of attention (StreamingLLM, arXiv 2309.17453). A control. */
#include "sim/prefetch/prefetcher.h"

/* Pages kept at the front. */
enum { SINKS = 4 };

static kvt_prefetcher *window_create(const kvt_prefetcher_spec *spec)
{
	return g_new0(kvt_prefetcher, 1);
}

static void window_free(kvt_prefetcher *prefetcher)
{
	g_free(prefetcher);
}

static void window_observe(
	kvt_prefetcher *prefetcher, uint32_t step, uint32_t head, const kvt_page_masses *row)
{
}

static void window_plan(kvt_prefetcher *prefetcher, const kvt_plan_request *request, kvt_plan *plan)
{
	uint32_t first = request->first_present, n = request->n_present - first;
	uint32_t sinks = MIN(MIN((uint32_t)SINKS, request->budget), n);
	for (uint32_t i = 0; i < sinks; i++)
		plan->pages[plan->n++] = first + i;
	for (uint32_t i = 1; plan->n < MIN(request->budget, n); i++)
		plan->pages[plan->n++] = request->n_present - i;
}

const kvt_prefetcher_ops kvt_prefetcher_window = {
	.name = "window",
	.summary = "the first 4 pages and the newest: a control",
	.create = window_create,
	.free = window_free,
	.observe = window_observe,
	.plan = window_plan,
};
