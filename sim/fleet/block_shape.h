/*
 * block_shape.h: what one block of a request's tokens is in bytes, by kind of layer. A block is
 * block_tokens tokens, what traces give an id; a piece is the KV of one block in all layers of one
 * kind (global, chunked, sliding); HBM is paged in page_tokens tokens of a kind, as PagedAttention
 * does. Arithmetic only.
 */
#ifndef KVT_BLOCK_SHAPE_H
#define KVT_BLOCK_SHAPE_H

#include <glib.h>
#include <stdint.h>

#include "models/llm.h"

enum { KVT_BLOCK_KINDS_MAX = 3 };

typedef struct kvt_block_kind {
	kvt_attention_kind attention;
	uint32_t layers;
	uint64_t window;      /* tokens, of chunked and sliding kinds */
	uint64_t token_bytes; /* in HBM: K and V of a token in these layers, all ranks together */
	uint64_t saved_bytes; /* the same outside HBM: one copy, whatever ranks replicate */
} kvt_block_kind;

typedef struct kvt_block_shape {
	uint32_t block_tokens, page_tokens; /* the second divides the first */
	uint32_t n_kinds;                   /* global comes first where there is one */
	kvt_block_kind kinds[KVT_BLOCK_KINDS_MAX];
} kvt_block_shape;

/* The kinds of a model's layers on `ranks` ranks. page_tokens 0: as block_tokens. A usage error
 * when pages do not divide blocks or a block has 4 GiB or more. */
gboolean kvt_block_shape_init(kvt_block_shape *shape, const kvt_llm *llm, unsigned ranks,
	uint32_t block_tokens, uint32_t page_tokens, GError **error);

/* Blocks that hold `tokens` tokens, the last of them maybe in part. */
static inline uint64_t kvt_block_shape_blocks(const kvt_block_shape *shape, uint64_t tokens)
{
	return (tokens + shape->block_tokens - 1) / shape->block_tokens;
}

/* The first earlier token that token number `tokens` attends to in a kind's layers, and the first
 * block that has to be held for it. What lies before it may go. */
uint64_t kvt_block_shape_first_token(const kvt_block_shape *shape, unsigned kind, uint64_t tokens);

static inline uint32_t kvt_block_shape_first_block(
	const kvt_block_shape *shape, unsigned kind, uint64_t tokens)
{
	if (shape->kinds[kind].attention == KVT_ATTENTION_GLOBAL)
		return 0;
	return (uint32_t)(kvt_block_shape_first_token(shape, kind, tokens) / shape->block_tokens);
}

/* Bytes of a whole piece in HBM, and outside it. */
static inline uint64_t kvt_block_shape_piece_bytes(const kvt_block_shape *shape, unsigned kind)
{
	return shape->block_tokens * shape->kinds[kind].token_bytes;
}

static inline uint64_t kvt_block_shape_saved_bytes(const kvt_block_shape *shape, unsigned kind)
{
	return shape->block_tokens * shape->kinds[kind].saved_bytes;
}

#endif
