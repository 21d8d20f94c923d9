/*
 * code_sketch.h: the codes (kernels.h) of a layer's pages and what the newest query makes of them:
 * the share of the attention mass that each page is thought to get. It ranks nothing and keeps
 * nothing of earlier queries.
 */
#ifndef KVT_CODE_SKETCH_H
#define KVT_CODE_SKETCH_H

#include <stdbool.h>

#include "sim/prefetch/prefetcher.h"

typedef struct kvt_code_sketch kvt_code_sketch;

/* As kvt_prefetcher_ops.unfit: layers it cannot code. */
const char *kvt_code_sketch_unfit(const kvt_prefetcher_spec *spec);

kvt_code_sketch *kvt_code_sketch_new(const kvt_prefetcher_spec *spec);
void kvt_code_sketch_free(kvt_code_sketch *sketch);

/* As kvt_prefetcher_ops.train, write and query; `stats` counts the bytes. */
void kvt_code_sketch_train(kvt_code_sketch *sketch, uint32_t head, const kvt_page_keys *sample,
	kvt_prefetcher_stats *stats);
void kvt_code_sketch_write(kvt_code_sketch *sketch, uint32_t head, const kvt_page_keys *keys,
	kvt_prefetcher_stats *stats);
void kvt_code_sketch_query(
	kvt_code_sketch *sketch, uint32_t step, uint32_t head, const float *queries);

/* Pages 0 .. n - 1 of a head have been written. */
uint32_t kvt_code_sketch_pages(const kvt_code_sketch *sketch, uint32_t head);

/* Whether there is a query; *step is its step. */
bool kvt_code_sketch_has_query(const kvt_code_sketch *sketch, uint32_t head, uint32_t *step);

/*
 * Scores pages with the head's newest query: ids[n], or first .. first + n - 1 where ids is NULL,
 * all written. share[i] is of the mass of those pages, in units of 1 / KVT_MASS_ONE
 * (top_pages.h), the mean over the group's query heads. The same on every machine.
 */
void kvt_code_sketch_score(kvt_code_sketch *sketch, uint32_t head, uint32_t first, uint32_t n,
	const uint32_t *ids, uint32_t *share, kvt_prefetcher_stats *stats);

/* The same of a list that grows: ids[n_before] have been scored by this call, for the same head and
 * query, and nothing else since; the others are scored now. share[n] is of the mass of all of them.
 */
void kvt_code_sketch_score_more(kvt_code_sketch *sketch, uint32_t head, uint32_t n_before,
	uint32_t n, const uint32_t *ids, uint32_t *share, kvt_prefetcher_stats *stats);

/* What a head's codes leave out of keys, [head_dim]; its newest queries, [group][head_dim]. */
const float *kvt_code_sketch_centre(const kvt_code_sketch *sketch, uint32_t head);
const float *kvt_code_sketch_queries(const kvt_code_sketch *sketch, uint32_t head);

/* Squared distances between the means of a page and of others[n], all written. */
void kvt_code_sketch_distances(const kvt_code_sketch *sketch, uint32_t head, uint32_t page,
	const uint32_t *others, uint32_t n, float *distances);

#endif
