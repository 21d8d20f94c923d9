/*
 * kv_layout.h: how one context's KV is cut into pages: a page is page_tokens tokens of one layer,
 * all ranks together. Global layers keep every page; chunked and sliding layers keep the pages of
 * their window. Where the pages are is the tiers' business; this is their arithmetic, so that ten
 * million tokens at 16 tokens a page (7.5 million pages) are handled as runs.
 */
#ifndef KVT_KV_LAYOUT_H
#define KVT_KV_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "models/llm.h"
#include "sim/tier/tier.h"

typedef struct kvt_kv_layout {
	const kvt_llm *llm;
	unsigned ranks;
	unsigned held_ranks;  /* whose KV the pages are of: all, or one */
	uint32_t context;     /* goes into the extents */
	uint64_t page_tokens; /* tokens a page */
	uint64_t token_bytes; /* K and V of one token in one layer, all ranks that are held */
	unsigned global_layers, local_layers;
} kvt_kv_layout;

void kvt_kv_layout_init(kvt_kv_layout *layout, const kvt_llm *llm, unsigned ranks, uint32_t context,
	uint64_t page_tokens);

/* Pages of one rank of the group alone. */
void kvt_kv_layout_hold_one(kvt_kv_layout *layout);

bool kvt_kv_layer_is_global(const kvt_kv_layout *layout, unsigned layer);

/* Earlier tokens of a layer that are held after `tokens`: all, or at most the window. */
uint64_t kvt_kv_held_tokens(const kvt_kv_layout *layout, unsigned layer, uint64_t tokens);

/* The pages that cover tokens [first, first + count) of a layer; n_pages 0 when count is 0. */
kvt_extent kvt_kv_extent(
	const kvt_kv_layout *layout, unsigned layer, uint64_t first, uint64_t count);

/* Pages and bytes of all layers after `tokens`, partial pages counted whole. */
uint64_t kvt_kv_pages(const kvt_kv_layout *layout, uint64_t tokens);
uint64_t kvt_kv_page_bytes_total(const kvt_kv_layout *layout, uint64_t tokens);

#endif
