/*
 * replay_selection.h: which pages a step of one layer and KV head plans to have in HBM: those that
 * are always kept, then what the prefetcher ranks, within a budget of pages; and how much attention
 * mass that keeps, beside the best choice of equal size. Decides nothing about residency or time.
 */
#ifndef KVT_REPLAY_SELECTION_H
#define KVT_REPLAY_SELECTION_H

#include "sim/engine/replay_source.h"
#include "sim/prefetch/prefetcher.h"

/* The selection of one (step, layer, head); the selector's, valid until the next one of that layer
 * and head. Masses are in units of 1 / KVT_MASS_ONE (top_pages.h). */
typedef struct kvt_selection {
	kvt_replay_present present;
	uint32_t budget;      /* pages */
	uint32_t n;           /* pages selected, <= budget */
	uint32_t *pages;      /* rising */
	bool filled;          /* nothing was planned: residents were taken, the newest first */
	uint32_t n_needed;    /* pages of the best choice within the budget */
	uint32_t *needed;     /* those, in any order */
	uint64_t kept_mass;   /* of the selected pages */
	uint64_t oracle_mass; /* of the best choice within the budget */
	uint64_t listed_mass; /* of all pages that the source lists: the others' is not known */
} kvt_selection;

typedef struct kvt_selector kvt_selector;

/* Always kept: the first page that is present, and the last ones. */
enum { KVT_REPLAY_KEPT_FIRST = 1, KVT_REPLAY_KEPT_LAST = 4 };

/* Pages that a share of those present grants: max(5, floor(share x present)), at most `present`. */
uint32_t kvt_replay_budget_pages(double share, uint32_t present);

/* Whether the page is one of those always kept. */
static inline bool kvt_replay_is_kept(const kvt_replay_present *present, uint32_t page)
{
	return page < present->first + KVT_REPLAY_KEPT_FIRST ||
	       page + KVT_REPLAY_KEPT_LAST >= present->end;
}

/* `budget` is a share of the pages present (kvt_replay_budget_pages). The source must outlive it.
 */
kvt_selector *kvt_selector_new(
	kvt_replay_source *source, const kvt_prefetcher_ops *prefetcher, double budget);
void kvt_selector_free(kvt_selector *selector);

/*
 * Selects for a step, after the last step of the same layer and head was observed. resident
 * [n_pages] marks the pages in HBM: a plan of no pages at all is filled up with them; NULL: none.
 * NULL with an error when the source cannot be read.
 */
const kvt_selection *kvt_selector_select(kvt_selector *selector, uint32_t step, uint32_t layer,
	uint32_t head, const uint8_t *resident, GError **error);

/* Attention over everything present (`all`) or the step's selection is over: the prefetcher learns
 * its masses. Returns them; they hold until the next call. */
kvt_page_masses kvt_selector_observe(
	kvt_selector *selector, uint32_t step, uint32_t layer, uint32_t head, bool all);

/* The mass that the row of the last selection has on the pages marked in resident [n_pages]. */
uint64_t kvt_selector_mass_on(
	const kvt_selector *selector, uint32_t layer, uint32_t head, const uint8_t *resident);

#endif
