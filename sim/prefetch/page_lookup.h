/*
 * page_lookup.h: which pages of one KV head to score with a query, when looking at all of them
 * would take too long. A lookup starts from what stood high at the last steps and from hash tables
 * that are asked with the query, and walks from pages that turn out good to those that are like
 * them. The caller scores what a lookup asks for; it knows no sketch, and decides nothing.
 */
#ifndef KVT_PAGE_LOOKUP_H
#define KVT_PAGE_LOOKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/prefetch/page_graph.h"

typedef struct kvt_page_lookup kvt_page_lookup;

typedef struct kvt_page_lookup_spec {
	uint32_t head_dim, group; /* query heads */
	uint32_t max_pages;       /* ids are below it */
	uint64_t seed;
	/* NULL: hash tables alone, no walk */
	kvt_page_distance *distance;
	void *distance_arg;
} kvt_page_lookup_spec;

/* What lookups took so far, beside the scores of the pages that they asked for. */
typedef struct kvt_page_lookup_counts {
	uint64_t lookups, pages; /* pages that the caller was asked to score */
	uint64_t buckets;        /* of hash tables, that were opened */
	uint64_t links;          /* from page to page, that were followed */
	uint64_t rounds;
} kvt_page_lookup_counts;

kvt_page_lookup *kvt_page_lookup_new(const kvt_page_lookup_spec *spec);
void kvt_page_lookup_free(kvt_page_lookup *lookup);

/* Adds a page that is complete, ids rising; mean[head_dim] of its keys less a centre that all pages
 * share. The order is all that matters, not when. */
void kvt_page_lookup_add(kvt_page_lookup *lookup, uint32_t page, const float *mean);

/* 32 + floor(factor x n^0.6), at most n: pages that a lookup among n may score. Integer arithmetic:
 * the same on every machine. factor is in eighths, below 256. */
uint32_t kvt_page_lookup_allowance(uint32_t factor, uint32_t n);

/* Another KV head's lookup of the same layer, or NULL: what stands high there is looked at here,
 * too, since heads often want the same passage. Held until it is set anew or the lookup is freed.
 */
void kvt_page_lookup_set_companion(kvt_page_lookup *lookup, const kvt_page_lookup *companion);

/* Begins a lookup among the pages first .. end - 1, all added, for queries[group][head_dim]; at
 * most `allowed` of them will be scored, at least 1. */
void kvt_page_lookup_begin(kvt_page_lookup *lookup, uint32_t first, uint32_t end, uint32_t allowed,
	const float *queries);

/* Pages that are to be scored, distinct; *n of them. The list grows from call to call. */
const uint32_t *kvt_page_lookup_pages(const kvt_page_lookup *lookup, uint32_t *n);

/*
 * Asks for more pages: true when the list has grown. share[i], of all that were listed before, is
 * what the i-th is thought to have of their mass, in units of 1 / KVT_MASS_ONE (top_pages.h); the
 * first call of a lookup needs none.
 */
bool kvt_page_lookup_next(kvt_page_lookup *lookup, const uint32_t *share);

/* Of pages that were not scored, the k that are likely to have most, the best first, and their
 * share as guessed. Returns how many there are. Before the lookup ends. */
uint32_t kvt_page_lookup_guess(
	kvt_page_lookup *lookup, uint32_t k, uint32_t *pages, uint32_t *share);

/* Ends the lookup; share[], as above, is remembered. */
void kvt_page_lookup_end(kvt_page_lookup *lookup, const uint32_t *share);

/* Pages that stand high from the lookups so far, *n of them, the best first, and the share of each,
 * by page id: smoothed, the newest counting half. Until the next lookup ends. */
const uint32_t *kvt_page_lookup_standing(
	const kvt_page_lookup *lookup, uint32_t *n, const uint32_t **share);

/* Mass of the pages that the last lookup did not list, as a multiple of that of the listed ones, in
 * units of 1 / KVT_MASS_ONE: from a few that every lookup scores in turn, smoothed. */
uint64_t kvt_page_lookup_rest(const kvt_page_lookup *lookup);

const kvt_page_lookup_counts *kvt_page_lookup_counted(const kvt_page_lookup *lookup);

/* The pages that a page is linked to, as in page_graph.h; none without a walk. */
const uint32_t *kvt_page_lookup_links(const kvt_page_lookup *lookup, uint32_t page, uint32_t *n);

/* Bytes of links and tables. */
uint64_t kvt_page_lookup_bytes(const kvt_page_lookup *lookup);

#endif
