/*
 * page_sketch.h: what prefetchers have in common that keep a record of fixed size of every page's
 * keys, and score all pages present with the newest query. A kind of sketch says how a record is
 * built and what logits it stands for; the rest of the prefetcher is here.
 *
 * Logits become shares of the mass a query head (softmax over the scored pages), and the heads of a
 * group the mean of those: kvt_group_shares. Powers are this file's own, so that the same logits
 * give the same shares whatever the math library.
 */
#ifndef KVT_PAGE_SKETCH_H
#define KVT_PAGE_SKETCH_H

#include "sim/prefetch/prefetcher.h"
#include "sim/prefetch/scored_pages.h"

typedef struct kvt_page_sketch kvt_page_sketch;

typedef struct kvt_page_sketch_kind {
	/* A record gives one logit for all tokens of its page, or one for each. */
	gboolean by_token;
	size_t (*record_bytes)(const kvt_prefetcher_spec *spec);
	/* Of what the pages of a head share and scoring reads: a codebook, a centre. NULL: none. */
	size_t (*shared_bytes)(const kvt_prefetcher_spec *spec);
	/* Makes `shared`, shared_bytes of it, from keys[n_tokens][head_dim]; NULL with
	 * shared_bytes. Numbers of keys are finite: others count as 0. */
	void (*train)(const kvt_prefetcher_spec *spec, const float *keys, uint32_t n_tokens,
		void *shared);
	/* What building records reads in the place of `shared`, freed by g_free; NULL: that. */
	void *(*prepare)(const kvt_prefetcher_spec *spec, const void *shared);
	/* Makes the record of keys[block_tokens][head_dim]. */
	void (*build)(const kvt_prefetcher_spec *spec, const void *shared, const float *keys,
		void *record);
	/* Logits of n records for queries[group][head_dim]: those of head g at logits + g x pitch,
	 * n of them, or n x block_tokens. Without the factor of scale. */
	void (*score)(const kvt_prefetcher_spec *spec, const void *shared, const float *queries,
		const void *records, uint32_t n, float *logits, size_t pitch);
	/* In the place of score: sums of e^logit over the tokens of a page, scale applied, in any
	 * unit that all pages of a head share: sums[g x pitch + i] of the i-th record. */
	void (*sums)(const kvt_prefetcher_spec *spec, const void *shared, const float *queries,
		const void *records, uint32_t n, float *sums, size_t pitch);
} kvt_page_sketch_kind;

/* An object for ops->create, and the rest of its operations. */
kvt_prefetcher *kvt_page_sketch_new(
	const kvt_page_sketch_kind *kind, const kvt_prefetcher_spec *spec);
void kvt_page_sketch_free(kvt_prefetcher *prefetcher);
void kvt_page_sketch_train(kvt_prefetcher *prefetcher, uint32_t head, const kvt_page_keys *sample);
void kvt_page_sketch_write(kvt_prefetcher *prefetcher, uint32_t head, const kvt_page_keys *keys);
void kvt_page_sketch_query(
	kvt_prefetcher *prefetcher, uint32_t step, uint32_t head, const float *queries);
void kvt_page_sketch_observe(
	kvt_prefetcher *prefetcher, uint32_t step, uint32_t head, const kvt_page_masses *row);
void kvt_page_sketch_plan(
	kvt_prefetcher *prefetcher, const kvt_plan_request *request, kvt_plan *plan);

/* head_dim a multiple of 8 and a group that kvt_group_shares takes; for ops->unfit. */
const char *kvt_page_sketch_unfit(const kvt_prefetcher_spec *spec);

#define KVT_PAGE_SKETCH_OPS                                                                        \
	.reads_keys = TRUE, .free = kvt_page_sketch_free, .train = kvt_page_sketch_train,          \
	.write = kvt_page_sketch_write, .query = kvt_page_sketch_query,                            \
	.observe = kvt_page_sketch_observe, .plan = kvt_page_sketch_plan

/* The mean of keys[n_tokens][head_dim], less centre[head_dim] where that is not NULL. */
void kvt_page_sketch_mean(
	uint32_t head_dim, const float *keys, uint32_t n_tokens, const float *centre, float *mean);

/*
 * sums[i] = the sum of e^(scale x logit - m) over the i-th group of `tokens` logits, m being the
 * largest of all; a logit that is NaN counts as -infinity. The power is right to 2^-21.
 */
void kvt_logits_to_sums(const float *logits, uint32_t n, uint32_t tokens, float scale, float *sums);

#endif
