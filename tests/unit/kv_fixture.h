/*
 * kv_fixture.h: contexts of random KV in pages for tests of attention, with the outputs that double
 * precision gives.
 */
#ifndef KVT_KV_FIXTURE_H
#define KVT_KV_FIXTURE_H

#include "kernels/kernels.h"

/* Pages lie in no order; numbers are normal, queries have twice their spread. */
typedef struct kv_context {
	kvt_attention_shape shape;
	uint64_t n_tokens;
	uint32_t n_queries, n_pages;
	size_t page_bytes;
	uint8_t *memory; /* K page, V page, ... */
	const void **keys, **values;
	float *queries;
	double *exact, *exact_lse;
} kv_context;

kv_context kv_context_new(kvt_element element, uint32_t head_dim, uint32_t heads,
	uint32_t page_tokens, uint64_t n_tokens, uint32_t n_queries, uint64_t seed);
void kv_context_clear(kv_context *c);

/* Query tokens x heads. */
size_t kv_row_count(const kv_context *c);

/* All tokens, or [first, first + n), seen by all query tokens. */
kvt_attention_window kv_window_whole(const kv_context *c);
kvt_attention_window kv_window_part(const kv_context *c, uint64_t first, uint64_t n);

/* A partial result full of NaN. */
kvt_attention_partial kv_partial_new(const kv_context *c);
void kv_partial_clear(kvt_attention_partial *partial);

kvt_attention_partial kv_attend(
	const kv_context *c, kvt_isa isa, const kvt_attention_window *window);

/* Largest error of outputs and of an eighth of log-sum-exps, absolute, NaN being the largest. */
double kv_error(const kv_context *c, const kvt_attention_partial *partial);

#endif
