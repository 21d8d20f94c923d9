/*
 * replay_selection.h: which pages a step of one layer and KV head plans to have in HBM: those that
 * are always kept, then what the prefetcher ranks, within a budget of pages; and how much attention
 * mass that keeps, beside the best choice of equal size. Decides nothing about what leaves HBM, nor
 * about time.
 */
#ifndef KVT_REPLAY_SELECTION_H
#define KVT_REPLAY_SELECTION_H

#include "sim/core/loop.h"
#include "sim/engine/replay_feed.h"

/* The selection of one (step, layer, head); the selector's, valid until the next one of that layer
 * and head. Masses are in units of 1 / KVT_MASS_ONE (top_pages.h). */
typedef struct kvt_selection {
	kvt_replay_present present;
	uint32_t budget;      /* pages */
	uint32_t n;           /* pages selected, <= budget */
	uint32_t *pages;      /* rising */
	bool filled;          /* nothing was planned: residents were taken, the newest first */
	bool dense;           /* the mass wanted was not in sight: everything is to be attended */
	uint32_t n_ahead;     /* pages that are only to be in HBM: budget + n_ahead <= room */
	uint32_t *ahead;      /* rising */
	float estimate;       /* of the mass that is kept, as the plan says; NaN: it does not */
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

/* Pages that may be moved to HBM a step: max(1, floor(share x present)). */
uint32_t kvt_replay_move_pages(double share, uint32_t present);

/* Shares are of the pages present. */
typedef struct kvt_selector_spec {
	const kvt_prefetcher_ops *prefetcher;
	double budget, room; /* kvt_replay_budget_pages; room >= budget */
	double moves;        /* kvt_replay_move_pages; 0: any number */
	double target;       /* share of the mass wanted; 0: what the budget gives */
	int query;           /* kvt_replay_query */
	uint64_t seed;
	kvt_loop *clock; /* what planning takes is measured by it; NULL: it is not */
} kvt_selector_spec;

/* The source must outlive it. */
kvt_selector *kvt_selector_new(kvt_replay_source *source, const kvt_selector_spec *spec);
void kvt_selector_free(kvt_selector *selector);

/*
 * Selects for a step, after the last step of the same layer and head was observed. resident
 * [n_pages] marks the pages in HBM, which need not be moved, and with which a plan of no pages at
 * all is filled up; NULL: none, and any number may be moved. NULL with an error when the source
 * cannot be read.
 */
const kvt_selection *kvt_selector_select(kvt_selector *selector, uint32_t step, uint32_t layer,
	uint32_t head, const uint8_t *resident, GError **error);

/* Attention over everything present (`all`) or the step's selection is over: the prefetcher learns
 * its masses. Returns them; they hold until the next call. */
kvt_page_masses kvt_selector_observe(
	kvt_selector *selector, uint32_t step, uint32_t layer, uint32_t head, bool all);

/* What planning took so far by the clock: 0 in virtual time. */
kvt_time kvt_selector_planning(const kvt_selector *selector);

/* What scoring took so far. */
kvt_prefetcher_stats kvt_selector_stats(const kvt_selector *selector);

/* The mass that the row of the last selection has on the pages marked in resident [n_pages]. */
uint64_t kvt_selector_mass_on(
	const kvt_selector *selector, uint32_t layer, uint32_t head, const uint8_t *resident);

#endif
