/* scored_pages.c: plans from shares of mass. */
#include "sim/prefetch/scored_pages.h"

#include <math.h>

#include "sim/prefetch/top_pages.h"

void kvt_page_ranking_init(kvt_page_ranking *ranking, uint32_t max_pages)
{
	ranking->ids = g_new(uint32_t, max_pages);
	for (uint32_t i = 0; i < max_pages; i++)
		ranking->ids[i] = i;
	ranking->scratch = g_new(uint64_t, 2 * (size_t)max_pages + 1);
}

void kvt_page_ranking_clear(kvt_page_ranking *ranking)
{
	g_clear_pointer(&ranking->ids, g_free);
	g_clear_pointer(&ranking->scratch, g_free);
}

/* The mass of the pages that are always kept, as far as they have scores. */
static uint64_t kept_mass(
	const uint32_t *ids, const kvt_scored_pages *scored, const kvt_plan_request *request)
{
	uint64_t mass = 0;
	uint32_t i = 0, end = scored->n;
	for (; i < end && kvt_plan_is_kept(request, ids[i]); i++)
		mass += scored->share[i];
	for (; end > i && kvt_plan_is_kept(request, ids[end - 1]); end--)
		mass += scored->share[end - 1];
	return mass;
}

/* The position of a page in a rising list that holds it. */
static uint32_t find(const uint32_t *ids, uint32_t n, uint32_t page)
{
	uint32_t first = 0;
	while (n > 1) {
		uint32_t half = n / 2;
		first += ids[first + half] <= page ? half : 0;
		n -= half;
	}
	return first;
}

void kvt_scored_pages_plan(const kvt_scored_pages *scored, const kvt_plan_request *request,
	gboolean estimates, kvt_page_ranking *ranking, kvt_plan *plan)
{
	const uint32_t *ids = scored->ids ? scored->ids : ranking->ids + scored->first;
	plan->n = kvt_top_pages(
		ids, scored->share, scored->n, request->room, plan->pages, ranking->scratch);
	uint32_t present = request->n_present - request->first_present;
	uint32_t left = request->budget -
			MIN(request->budget,
				MIN(present, (uint32_t)KVT_PLAN_KEPT_FIRST + KVT_PLAN_KEPT_LAST));
	double wanted = request->target > 0 ? (double)request->target * KVT_MASS_ONE : INFINITY;
	uint64_t mass = estimates ? kept_mass(ids, scored, request) : 0;
	uint32_t i = 0;
	for (; i < plan->n && left > 0 && !(estimates && (double)mass >= wanted); i++) {
		if (kvt_plan_is_kept(request, plan->pages[i]))
			continue;
		left--;
		if (estimates)
			mass += scored->share[find(ids, scored->n, plan->pages[i])];
	}
	plan->select = i;
	if (estimates)
		plan->mass = (float)MIN((double)mass / KVT_MASS_ONE, 1.0);
}
