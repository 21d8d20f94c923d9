/*
 * synthetic_keys.h: keys of a grown trace in compact form, and their expansion. A page shows the
 * tokens of a base page, each moved towards or away from its partners, other base tokens. It knows
 * arrays only: where they come from is trace_growth_keys.h, where they are kept traces/FORMAT.md.
 */
#ifndef KVT_SYNTHETIC_KEYS_H
#define KVT_SYNTHETIC_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limits of the format. Weights up to 16 keep sums of finite halves far from overflowing a float.
 */
enum {
	KVT_SYNTHETIC_PARTNERS_MAX = 64,
	KVT_SYNTHETIC_WEIGHT_MAX = 16,
	KVT_SYNTHETIC_DIM_MAX = 4096,
};

/*
 * Key of token i of page p of a KV head, in single precision and in this order, then rounded to
 * half: with b = page[p] x block_tokens + i,
 *
 *   base[b] + sum over r = 0 .. partners - 1 of weight[p][r] x (base[partner[b][r]] - base[b]).
 *
 * All weights 0: the base page as it is, bit for bit. Arrays belong to whoever filled this in.
 */
typedef struct kvt_synthetic_keys {
	uint32_t kv_heads, head_dim, block_tokens, partners;
	uint64_t base_tokens; /* a multiple of block_tokens */
	uint64_t pages;
	uint16_t *base;    /* [kv_heads][base_tokens][head_dim], halves */
	float *values;     /* the same, once prepared; base is not read then and may be NULL */
	uint32_t *partner; /* [kv_heads][base_tokens][partners], base tokens of the same head */
	uint32_t *page;    /* [pages], base pages */
	uint16_t *weight;  /* [pages][partners], halves */
} kvt_synthetic_keys;

/* What is wrong with the arrays' contents, a new string, or NULL. Base keys may be any halves. */
char *kvt_synthetic_keys_check(const kvt_synthetic_keys *keys);

/* Makes `values`, before keys are asked for. */
void kvt_synthetic_keys_prepare(kvt_synthetic_keys *keys);

/* Frees the arrays, not the struct. */
void kvt_synthetic_keys_clear(kvt_synthetic_keys *keys);

/* Keys of the tokens first .. first + count - 1 of a head as halves, out[count][head_dim]. The
 * arrays have passed the check; tokens are below pages x block_tokens. */
void kvt_synthetic_keys_half(const kvt_synthetic_keys *keys, uint32_t kv_head, uint64_t first,
	uint64_t count, uint16_t *out);

#endif
