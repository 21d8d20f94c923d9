/*
 * page_choice.h: the share of a global layer's stored pages that a turn fetches before its first
 * token, as extents. Which pages are chosen is not known here (no model runs): a choice is so many
 * pages in so many runs, spread over the context, which is all that their transfer depends on.
 *
 * Every KV head of a rank chooses on its own, so that its pages lie by themselves: a part, which is
 * a context of its own in the tiers. Sketches, where the choice needs them, are another one.
 * Positions within a layer's chosen pages, one after another, are called held: held page i is
 * stored page kvt_page_choice_stored_page(i).
 */
#ifndef KVT_PAGE_CHOICE_H
#define KVT_PAGE_CHOICE_H

#include "sim/cache/extent_list.h"
#include "sim/cache/kv_layout.h"

typedef struct kvt_page_choice {
	uint64_t stored_pages; /* of a global layer, before the first new token */
	uint64_t chosen_pages; /* of them, at least 1 */
	double run_pages;      /* chosen neighbours, mean, at least 1 */
	unsigned parts;        /* KV heads a rank */
	/* A layer's pages are known when its queries are, rather than before the turn: its loads
	 * wait for them. */
	bool late;
	uint64_t sketch_bytes; /* a page, all KV heads: loaded before pages are chosen; 0: none */
	kvt_time score_time;   /* a layer's choice takes, when queries and sketches are there */
} kvt_page_choice;

/* A choice of `share` (above 0 to 1) of stored_pages. */
void kvt_page_choice_init(
	kvt_page_choice *choice, uint64_t stored_pages, double share, double run_pages);

/* Where the held page lies among the stored ones; rising, and held pages past the chosen ones are
 * those past the stored ones. */
uint64_t kvt_page_choice_stored_page(const kvt_page_choice *choice, uint64_t held_page);

/* Appends the held pages [first, first + n) of a global layer, of all parts, as extents. */
void kvt_page_choice_extents(const kvt_page_choice *choice, const kvt_kv_layout *layout,
	unsigned layer, uint64_t first, uint64_t n, kvt_extent_list *list);

/* What has to be in storage of a global layer, `pages` pages of it, for the above to be read: all
 * parts, and the sketches of the stored pages. */
void kvt_page_choice_stored(const kvt_page_choice *choice, const kvt_kv_layout *layout,
	unsigned layer, uint64_t pages, kvt_extent_list *list);

/* A layer's sketches: one run. n_pages is 0 where there are none. */
kvt_extent kvt_page_choice_sketches(
	const kvt_page_choice *choice, const kvt_kv_layout *layout, unsigned layer);

#endif
