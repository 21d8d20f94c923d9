/*
 * reuse_statistics.h: what is known of the pages of one KV head from earlier steps: the share of
 * the mass they were thought to get, smoothed, and how far attention, where it looked, found that
 * to be wrong. Integers all through, so that decisions are the same on every machine.
 */
#ifndef KVT_REUSE_STATISTICS_H
#define KVT_REUSE_STATISTICS_H

#include "sim/prefetch/prefetcher.h"

typedef struct kvt_reuse {
	uint32_t end;      /* pages below it have been scored */
	uint32_t *share;   /* [max_pages], of the newest scores, corrected; units of top_pages.h */
	uint32_t *recent;  /* the same over the last two or three steps: half of it is the newest */
	uint32_t *lasting; /* over about eight: a quarter is */
	int16_t *correction; /* octaves x 2^8 that attention found a page's share to be off by */
	/* mass of pages that are not scored, such as the last one, smoothed, units of top_pages.h
	 */
	uint32_t unscored;
	uint32_t scored_step; /* whose query the newest scores are by; UINT32_MAX: none yet */
	/* what attention found at seen_step, before pages were scored by its query */
	uint32_t seen_step, n_seen, *seen; /* [max_pages] */
	float *seen_mass;                  /* [max_pages] */
} kvt_reuse;

void kvt_reuse_init(kvt_reuse *reuse, uint32_t max_pages);
void kvt_reuse_clear(kvt_reuse *reuse);

/* New scores of pages first .. first + n - 1: share[n] of their mass, a sum of about KVT_MASS_ONE.
 * They are corrected, made shares of all mass, and remembered. */
void kvt_reuse_score(kvt_reuse *reuse, uint32_t first, uint32_t n, const uint32_t *share);

/* The same of ids[n] alone, distinct, when the others were not scored: they get no share until they
 * are, and what is smoothed of them stays as it was. */
void kvt_reuse_score_pages(
	kvt_reuse *reuse, uint32_t n, const uint32_t *ids, const uint32_t *share);

/* Forgets the shares, not what is smoothed, of ids[n]. */
void kvt_reuse_forget_shares(kvt_reuse *reuse, uint32_t n, const uint32_t *ids);

/* Attention found these masses, on the pages that it attended to alone; scores are by the same
 * step's query. */
void kvt_reuse_learn(kvt_reuse *reuse, const kvt_page_masses *row);

/* The same of a step whose query may not be known yet: what was found is learnt when it can be held
 * against scores by that query, now or at kvt_reuse_scored_by. */
void kvt_reuse_observe(kvt_reuse *reuse, uint32_t step, const kvt_page_masses *row);

/* The newest scores are by the query of `step`. */
void kvt_reuse_scored_by(kvt_reuse *reuse, uint32_t step);

#endif
