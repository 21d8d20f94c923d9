/*
 * kv_source.h: what the emulation's model computes: keys, values and queries of every layer, token
 * and head, the same bytes whenever they are asked for. Not where they lie: pages are the tiers'
 * and the device's.
 */
#ifndef KVT_KV_SOURCE_H
#define KVT_KV_SOURCE_H

#include <glib.h>

#include "kernels/kernels.h"
#include "sim/cache/kv_layout.h"

/* How a page lies in memory: for each KV head its keys [page_tokens][head_dim], then its values. */
typedef struct kvt_kv_shape {
	kvt_element element;
	uint32_t layers, kv_heads, heads; /* heads: query heads that share a KV head */
	uint32_t head_dim, page_tokens;
	uint64_t block_bytes; /* of a page's keys of one KV head */
	uint64_t page_bytes;  /* 2 kv_heads blocks */
} kvt_kv_shape;

/* False with an error for a model or layout that the emulation cannot do: latent attention, local
 * layers, scales, several ranks, other formats than BF16, FP16 and FP8. */
bool kvt_kv_shape_init(kvt_kv_shape *shape, const kvt_kv_layout *layout, GError **error);

/* The kernel's shape of one KV head. */
kvt_attention_shape kvt_kv_attention_shape(const kvt_kv_shape *shape);

/* Random numbers of the seed, of about normal distribution: keys and values of variance 1. */
typedef struct kvt_kv_source {
	kvt_kv_shape shape;
	uint64_t seed;
} kvt_kv_source;

/* Writes keys and values of tokens [first, first + n) of a layer. `pages`: where the page of token
 * `first` lies; other tokens of it are left alone. Any thread. */
void kvt_kv_source_fill(
	const kvt_kv_source *source, unsigned layer, uint64_t first, uint64_t n, void *pages);

/* Queries of tokens [first, first + n) and one KV head: out[n][heads][head_dim]. Any thread. */
void kvt_kv_source_queries(const kvt_kv_source *source, unsigned layer, unsigned kv_head,
	uint64_t first, uint64_t n, float *out);

#endif
