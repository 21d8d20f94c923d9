/*
 * turn_tokens.h: what devices of the emulation share: the tokens that a turn computes, whose keys,
 * values and queries are made before anything is timed, and who looks at what their attention came
 * to. Where the bytes lie is the devices' business.
 */
#ifndef KVT_TURN_TOKENS_H
#define KVT_TURN_TOKENS_H

#include "emu/device/kv_source.h"
#include "sim/engine/device.h"

/* What a layer's attention came to, of query tokens [position, position + tokens):
 * output[kv_heads][tokens][heads][head_dim], lse[kv_heads][tokens][heads]. */
typedef void (*kvt_attended)(void *arg, unsigned layer, uint64_t position, uint64_t tokens,
	const float *output, const float *lse);

/* Whether anybody looks at a token's. */
typedef bool (*kvt_attended_wanted)(void *arg, unsigned layer, uint64_t position);

/* Whether work of a kind is done, and not a timed wait; of tokens whose KV was lost all of it is
 * timed, and the source makes their pages once more, in time that nobody takes off. */
static inline bool kvt_turn_work_is_real(kvt_work_kind kind)
{
	return kind == KVT_WORK_ATTENTION || kind == KVT_WORK_MERGE;
}

/* The tokens [first, end). */
typedef struct kvt_turn_tokens {
	const kvt_kv_source *source;
	uint64_t first, end;
} kvt_turn_tokens;

/* Bytes of a layer's queries, and of the pages of its keys and values, from that of `first` on. */
uint64_t kvt_turn_tokens_query_bytes(const kvt_turn_tokens *tokens);
uint64_t kvt_turn_tokens_page_bytes(const kvt_turn_tokens *tokens);

/* Fills a layer's queries[kv_heads][end - first][heads][head_dim], and pages. */
void kvt_turn_tokens_make(
	const kvt_turn_tokens *tokens, unsigned layer, float *queries, void *pages);

/* Bytes of keys and values, from a place in those pages to one in the pages of the sequence. */
typedef void (*kvt_turn_tokens_run)(void *arg, uint64_t from, uint64_t to, uint64_t bytes);

/* Calls `run` for the keys and values of tokens [position, position + n), in order of pages; whole
 * neighbouring pages are one run. */
void kvt_turn_tokens_each(const kvt_turn_tokens *tokens, uint64_t position, uint64_t n,
	kvt_turn_tokens_run run, void *arg);

#endif
