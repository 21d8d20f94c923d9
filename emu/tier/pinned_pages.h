/*
 * pinned_pages.h: which pages lie where in an arena: blocks of neighbours that were written
 * together, found by tenant, context, layer and page. Memory of pages that are no longer found is
 * given back when nobody reads it any more. It copies nothing, and what may be read and how much
 * fits is sim/tier/page_store.h's.
 */
#ifndef KVT_PINNED_PAGES_H
#define KVT_PINNED_PAGES_H

#include "emu/tier/memory_arena.h"
#include "sim/tier/tier.h"

/* Pages of a layer that were written together and lie together, or each somewhere. */
typedef struct kvt_pinned_block {
	uint64_t offset;  /* in the arena; of pages that lie together */
	uint64_t *places; /* each one's in the arena; NULL: they lie together */
	uint64_t page_bytes, first_page, n_pages;
	uint64_t kept; /* pages that are there or whose memory is still held */
	unsigned pins; /* those who read or write it */
	GArray *dead;  /* spans of pages to be given back with the last pin; or NULL */
	uint64_t checksums[];
} kvt_pinned_block;

typedef struct kvt_pinned_pages {
	kvt_arena *arena;
	GHashTable *layers;
} kvt_pinned_pages;

/* The arena stays the caller's and must outlive the pages. */
void kvt_pinned_pages_init(kvt_pinned_pages *pages, kvt_arena *arena);
void kvt_pinned_pages_clear(kvt_pinned_pages *pages);

/* Memory for the next pages of a run, as many as there is memory for in one place and at most n,
 * with a pin; NULL: for none. Nobody finds them until they are shown. */
kvt_pinned_block *kvt_pinned_pages_take(
	kvt_pinned_pages *pages, uint64_t page_bytes, uint64_t first_page, uint64_t n);

/* The same of pages that lie anywhere: the i-th place that is found is page order[i]'s, counted
 * from the first. NULL: there is no memory for all of them. */
kvt_pinned_block *kvt_pinned_pages_scatter(kvt_pinned_pages *pages, uint64_t page_bytes,
	uint64_t first_page, uint64_t n, const uint64_t *order);

/* Makes a block's pages those of the extent's layer, but for those of which there is a later write:
 * `sequence` says which is. The caller has a pin. */
void kvt_pinned_pages_show(kvt_pinned_pages *pages, uint32_t tenant, const kvt_extent *extent,
	kvt_pinned_block *block, uint64_t sequence);

/* Gives a block back that was never shown; its memory goes now or with the last pin. */
void kvt_pinned_pages_drop(kvt_pinned_pages *pages, kvt_pinned_block *block);

/* Where the extent's layer has `page`: its block, and the end of pages there that are the layer's.
 * NULL: it has not. */
kvt_pinned_block *kvt_pinned_pages_at(const kvt_pinned_pages *pages, uint32_t tenant,
	const kvt_extent *extent, uint64_t page, uint64_t *end);

/* The pages of the extent are no longer found. */
void kvt_pinned_pages_forget(kvt_pinned_pages *pages, uint32_t tenant, const kvt_extent *extent);

/* Ends a pin; the block may be gone then. */
void kvt_pinned_pages_unpin(kvt_pinned_pages *pages, kvt_pinned_block *block);

static inline uint8_t *kvt_pinned_page(
	const kvt_pinned_pages *pages, const kvt_pinned_block *block, uint64_t index)
{
	return kvt_arena_base(pages->arena) +
	       (block->places ? block->places[index] : block->offset + index * block->page_bytes);
}

#endif
