/*
 * replay_residency.h: what a step of one layer and KV head finds in HBM, what has to be moved there
 * ahead of attention and on demand, and what leaves for it. Decisions and counts only, the same on
 * any loop and tier; replay.c moves the pages and takes the time.
 */
#ifndef KVT_REPLAY_RESIDENCY_H
#define KVT_REPLAY_RESIDENCY_H

#include "sim/cache/access_log.h"
#include "sim/cache/extent_list.h"
#include "sim/cache/page_cache.h"
#include "sim/engine/replay_selection.h"
#include "sim/prefetch/prefetcher.h"

/* Accesses, in pages. Each is counted once: hits + prefetched + demanded = accesses. */
typedef struct kvt_residency_counts {
	uint64_t accesses;
	uint64_t hits;       /* in HBM since an earlier step, or made there by decode */
	uint64_t prefetched; /* moved to HBM ahead, and not read since */
	uint64_t demanded;   /* fetched when attention asked */
	uint64_t streamed;   /* of those, how many passed through without entering the cache */
	uint64_t born;       /* of the hits, how many decode made at this step */
	uint64_t compulsory; /* first accesses ever to pages that were stored: never hits */
	uint64_t evicted;
	/* needed pages: those of the best choice within the budget; each step's */
	uint64_t needed;
	uint64_t needed_selected; /* of them, that the selection holds */
	uint64_t needed_here;     /* that are in HBM, or on their way, when attention begins */
	uint64_t needed_moved;    /* of those, that are moved ahead for this very step */
	/* moved = used + wasted + unused >= prefetched */
	uint64_t moved;    /* pages moved to HBM ahead of attention */
	uint64_t used;     /* prefetched pages that were needed before they left */
	uint64_t wasted;   /* that left and had not been needed */
	uint64_t unused;   /* that are in HBM at the end and have not been needed */
	uint64_t polluted; /* moves of a page that had left for a prefetched one */
} kvt_residency_counts;

typedef struct kvt_residency_spec {
	const kvt_policy_ops *policy;
	uint32_t n_pages, capacity_max, n_steps;
	/* for a policy that needs the future, the caller's: which step after a step is the next
	 * to attend to everything, [n_steps], n_steps for none; and the selections of all steps,
	 * NULL when every step attends to everything */
	const uint32_t *next_all;
	kvt_access_log *future;
	kvt_access_log *log; /* gets the accesses of steps that attend to their selection; the
				caller's; may be NULL */
} kvt_residency_spec;

typedef struct kvt_residency kvt_residency;

kvt_residency *kvt_residency_new(const kvt_residency_spec *spec);
void kvt_residency_free(kvt_residency *residency);

/* [n_pages], 1 for a page that is in HBM. */
const uint8_t *kvt_residency_resident(const kvt_residency *residency);

/* The most pages that were in HBM at once. */
uint32_t kvt_residency_peak(const kvt_residency *residency);

/*
 * Makes room for the selection of the next step and what is to be there beside it, and lets them
 * in; all of that stays pinned until the step is attended. Appends what has to be moved ahead to
 * `fetch`, `like` saying the extents' context, layer and page bytes. `capacity`: pages that may be
 * in HBM now, at least those. Returns a number above all pages that left for it (0: none), since a
 * page whose write to storage is still under way has to be waited for.
 */
uint32_t kvt_residency_prepare(kvt_residency *residency, uint32_t step,
	const kvt_selection *selection, uint32_t capacity, const kvt_extent *like,
	kvt_extent_list *fetch);

/*
 * The prepared step is attended, everything present (`all`) or its selection: counts its accesses
 * and, with `all`, appends what is missing to `fetch`, by rising page. A missing page enters HBM
 * where there is room or a page that may leave; else it passes through. Returns what left, as
 * above.
 */
uint32_t kvt_residency_attend(kvt_residency *residency, uint32_t step,
	const kvt_selection *selection, bool all, const kvt_extent *like, kvt_extent_list *fetch,
	kvt_residency_counts *counts);

/* The prepared step's needed pages, before it is attended. */
void kvt_residency_need(
	kvt_residency *residency, const kvt_selection *selection, kvt_residency_counts *counts);

/* [n_pages], 1 for a page that is moved to HBM for the prepared step. */
const uint8_t *kvt_residency_arriving(const kvt_residency *residency);

/* What attention gave the pages that it attended to: the policy learns it. */
void kvt_residency_learn(kvt_residency *residency, uint32_t step, const kvt_page_masses *row);

/* Pages in HBM that were prefetched and have not been needed. */
uint32_t kvt_residency_unused(const kvt_residency *residency);

#endif
