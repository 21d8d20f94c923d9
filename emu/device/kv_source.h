/*
 * kv_source.h: what the emulation's model computes: keys, values and queries of every layer, token
 * and head, recorded or random, the same bytes whenever they are asked for. Not where they lie:
 * pages are the tiers' and the device's.
 */
#ifndef KVT_KV_SOURCE_H
#define KVT_KV_SOURCE_H

#include <glib.h>

#include "emu/device/kv_recording.h"
#include "kernels/kernels.h"
#include "sim/cache/kv_layout.h"

/* How a page lies in memory: for each KV head its keys [page_tokens][head_dim], then its values. */
typedef struct kvt_kv_shape {
	kvt_element element;
	uint32_t layers, kv_heads, heads; /* heads: query heads that share a KV head */
	uint32_t head_dim, page_tokens;
	float scale;          /* a logit is scale x (query . key) */
	uint64_t block_bytes; /* of a page's keys of one KV head */
	uint64_t page_bytes;  /* 2 kv_heads blocks */
} kvt_kv_shape;

/* False with an error for a model or layout that the emulation cannot do: latent attention, local
 * layers, scales, several ranks that are all held, other formats than BF16, FP16 and FP8. Of one
 * rank's share of heads, where the layout holds one of several. */
bool kvt_kv_shape_init(kvt_kv_shape *shape, const kvt_kv_layout *layout, GError **error);

/* The kernel's shape of one KV head. */
kvt_attention_shape kvt_kv_attention_shape(const kvt_kv_shape *shape);

/*
 * Without a recording: random numbers of the seed, of about normal distribution, keys and values of
 * variance 1. With one, token t is the recording's token at kvt_kv_source_position(t).
 */
typedef struct kvt_kv_source {
	kvt_kv_shape shape;
	uint64_t seed;
	const kvt_kv_recording *recording; /* NULL: none */
	uint64_t stored, first_step, n_queries;
} kvt_kv_source;

/*
 * Makes tokens [0, stored) the recording's first ones, and [stored, stored + n_queries) those from
 * there on whose queries were recorded: where queries are of sampled positions only, the tokens
 * between these are left out. Layer i is the recording's layer i modulo its layers; numbers are
 * rounded where the shape's element is not the recording's half precision. The recording must
 * outlive the source. False with an error when shapes differ or there are fewer queries.
 */
bool kvt_kv_source_record(kvt_kv_source *source, const kvt_kv_recording *recording, uint64_t stored,
	uint64_t n_queries, GError **error);

/* Where a token was in the recording; without one, the token. */
uint64_t kvt_kv_source_position(const kvt_kv_source *source, uint64_t token);

/* Of a recording: tokens between the first stored one and the last one with a query that were left
 * out. */
uint64_t kvt_kv_source_left_out(const kvt_kv_source *source);

/* Writes keys and values of tokens [first, first + n) of a layer. `pages`: where the page of token
 * `first` lies; other tokens of it are left alone. Any thread. */
void kvt_kv_source_fill(
	const kvt_kv_source *source, unsigned layer, uint64_t first, uint64_t n, void *pages);

/* Queries of tokens [first, first + n), of a recording not below `stored`, and one KV head:
 * out[n][heads][head_dim]. Any thread. */
void kvt_kv_source_queries(const kvt_kv_source *source, unsigned layer, unsigned kv_head,
	uint64_t first, uint64_t n, float *out);

#endif
