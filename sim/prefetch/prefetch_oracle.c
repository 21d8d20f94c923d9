/* prefetch_oracle.c: the pages of most mass at the step itself. Sees the future: the bound that
 * every real prefetcher is measured against. */
#include "sim/prefetch/prefetcher.h"
#include "sim/prefetch/top_pages.h"

typedef struct oracle {
	kvt_prefetcher base;
	uint32_t *mass;
	uint64_t *scratch;
} oracle;

static kvt_prefetcher *oracle_create(const kvt_prefetcher_spec *spec)
{
	oracle *prefetcher = g_new0(oracle, 1);
	prefetcher->mass = g_new(uint32_t, spec->max_pages);
	prefetcher->scratch = g_new(uint64_t, 2 * (size_t)spec->max_pages + 1);
	return &prefetcher->base;
}

static void oracle_free(kvt_prefetcher *base)
{
	oracle *prefetcher = (oracle *)base;
	g_free(prefetcher->mass);
	g_free(prefetcher->scratch);
	g_free(prefetcher);
}

static void oracle_observe(
	kvt_prefetcher *prefetcher, uint32_t step, uint32_t head, const kvt_page_masses *row)
{
}

static void oracle_plan(kvt_prefetcher *base, const kvt_plan_request *request, kvt_plan *plan)
{
	oracle *prefetcher = (oracle *)base;
	const kvt_page_masses *row = request->future;
	g_assert(row != NULL);
	for (uint32_t i = 0; i < row->n; i++)
		prefetcher->mass[i] = kvt_mass_quantise(row->mass[i]);
	plan->n = kvt_top_pages(row->pages, prefetcher->mass, row->n, request->budget, plan->pages,
		prefetcher->scratch);
}

const kvt_prefetcher_ops kvt_prefetcher_oracle = {
	.name = "oracle",
	.summary = "the pages of most mass at the step itself; sees the future, a bound",
	.sees_future = TRUE,
	.create = oracle_create,
	.free = oracle_free,
	.observe = oracle_observe,
	.plan = oracle_plan,
};
