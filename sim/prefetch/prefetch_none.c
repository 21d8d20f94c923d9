/* prefetch_none.c: plans nothing: what attention finds missing is fetched on demand. */
#include "sim/prefetch/prefetcher.h"

static kvt_prefetcher *none_create(const kvt_prefetcher_spec *spec)
{
	return g_new0(kvt_prefetcher, 1);
}

static void none_free(kvt_prefetcher *prefetcher)
{
	g_free(prefetcher);
}

static void none_observe(
	kvt_prefetcher *prefetcher, uint32_t step, uint32_t head, const kvt_page_masses *row)
{
}

static void none_plan(kvt_prefetcher *prefetcher, const kvt_plan_request *request, kvt_plan *plan)
{
}

const kvt_prefetcher_ops kvt_prefetcher_none = {
	.name = "none",
	.summary = "plans nothing; misses are fetched on demand",
	.create = none_create,
	.free = none_free,
	.observe = none_observe,
	.plan = none_plan,
};
