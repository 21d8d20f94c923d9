/* prefetch_oracle.c: the pages of most mass at the step itself. Sees the future: the bound that
 * every real prefetcher is measured against. */
#include <stdbool.h>

#include "sim/prefetch/prefetcher.h"
#include "sim/prefetch/top_pages.h"

enum { ALWAYS_KEPT_LAST = 4 };

typedef struct oracle {
	kvt_prefetcher base;
	uint32_t *mass;
	float *by_page; /* [max_pages] */
	uint64_t *scratch;
} oracle;

static kvt_prefetcher *oracle_create(const kvt_prefetcher_spec *spec)
{
	oracle *prefetcher = g_new0(oracle, 1);
	prefetcher->mass = g_new(uint32_t, spec->max_pages);
	prefetcher->by_page = g_new0(float, spec->max_pages);
	prefetcher->scratch = g_new(uint64_t, 2 * (size_t)spec->max_pages + 1);
	return &prefetcher->base;
}

static void oracle_free(kvt_prefetcher *base)
{
	oracle *prefetcher = (oracle *)base;
	g_free(prefetcher->mass);
	g_free(prefetcher->by_page);
	g_free(prefetcher->scratch);
	g_free(prefetcher);
}

static void oracle_observe(
	kvt_prefetcher *prefetcher, uint32_t step, uint32_t head, const kvt_page_masses *row)
{
}

static bool is_always_kept(const kvt_plan_request *request, uint32_t page)
{
	return page == request->first_present || page + ALWAYS_KEPT_LAST >= request->n_present;
}

/* The mass of the pages that every selection holds. */
static double always_kept_mass(const kvt_plan_request *request)
{
	const kvt_page_masses *row = request->future;
	double mass = 0;
	for (uint32_t i = 0; i < row->n; i++)
		if (is_always_kept(request, row->pages[i]))
			mass += row->mass[i];
	return mass;
}

/* Ends the plan where the mass wanted is reached, and says what it holds. */
static void end_plan(oracle *prefetcher, const kvt_plan_request *request, kvt_plan *plan)
{
	const kvt_page_masses *row = request->future;
	double mass = always_kept_mass(request);
	for (uint32_t i = 0; i < row->n; i++)
		prefetcher->by_page[row->pages[i]] = row->mass[i];
	uint32_t n = 0, others = 0,
		 granted = MIN(request->n_present - request->first_present,
			 1 + (uint32_t)ALWAYS_KEPT_LAST);
	for (; n < plan->n; n++) {
		if (is_always_kept(request, plan->pages[n]))
			continue;
		if (others + granted >= request->budget ||
			(request->target > 0 && (float)mass > request->target))
			break;
		mass += prefetcher->by_page[plan->pages[n]];
		others++;
	}
	/* a plan of no page at all would be one that leaves the choice to others */
	plan->n = MAX(n, MIN(plan->n, 1));
	plan->mass = (float)mass;
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
	end_plan(prefetcher, request, plan);
}

const kvt_prefetcher_ops kvt_prefetcher_oracle = {
	.name = "oracle",
	.summary = "the pages of most mass at the step itself; sees the future, a bound",
	.sees_future = TRUE,
	.estimates = TRUE,
	.create = oracle_create,
	.free = oracle_free,
	.observe = oracle_observe,
	.plan = oracle_plan,
};
