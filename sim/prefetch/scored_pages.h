/*
 * scored_pages.h: from scores of pages to a plan: the ranking by share, what of it is to be
 * attended to and what is only to be in HBM, and the mass that this is thought to hold. Where the
 * shares come from is the prefetcher's own affair.
 */
#ifndef KVT_SCORED_PAGES_H
#define KVT_SCORED_PAGES_H

#include <stdbool.h>

#include "sim/prefetch/prefetcher.h"

/* Shares of the mass that pages are thought to have, in units of 1 / KVT_MASS_ONE (top_pages.h),
 * such as kvt_group_shares gives; pages without a score are left out. They are all present. */
typedef struct kvt_scored_pages {
	uint32_t n;
	uint32_t first;      /* ids are first, first + 1 ..., where `ids` is NULL */
	const uint32_t *ids; /* rising */
	const uint32_t *share;
} kvt_scored_pages;

/* Memory for rankings of up to max_pages pages with ids below max_pages. */
typedef struct kvt_page_ranking {
	uint32_t *ids;     /* 0, 1 ... */
	uint64_t *scratch; /* [2 x max_pages + 1] */
} kvt_page_ranking;

void kvt_page_ranking_init(kvt_page_ranking *ranking, uint32_t max_pages);
void kvt_page_ranking_clear(kvt_page_ranking *ranking);

/*
 * Ranks the scored pages by share, equal ones by rising id, as many as HBM may hold, and selects of
 * them what the budget allows beside the pages that are always kept. With `estimates` plan->mass
 * is the sum of the shares of the selection and of the pages always kept, and the selection ends
 * where that reaches the request's target.
 */
void kvt_scored_pages_plan(const kvt_scored_pages *scored, const kvt_plan_request *request,
	gboolean estimates, kvt_page_ranking *ranking, kvt_plan *plan);

/* The pages that are always kept, whatever a plan says: the first one present and the last 4. */
enum { KVT_PLAN_KEPT_FIRST = 1, KVT_PLAN_KEPT_LAST = 4 };

static inline bool kvt_plan_is_kept(const kvt_plan_request *request, uint32_t page)
{
	return page < request->first_present + KVT_PLAN_KEPT_FIRST ||
	       page + KVT_PLAN_KEPT_LAST >= request->n_present;
}

#endif
