/*
 * block_allocator.h: the HBM of one replica as blocks of pages (PagedAttention, Kwon et al. 2023):
 * reference counts, blocks that grow page by page, copies for who writes into a shared one, and the
 * exact count of bytes that are allocated and hold nothing. What a block is the KV of is
 * kv_manager.h's to know. Pages come from large_pages.h; every call is O(1) a page.
 */
#ifndef KVT_BLOCK_ALLOCATOR_H
#define KVT_BLOCK_ALLOCATOR_H

#include "sim/fleet/block_shape.h"
#include "sim/fleet/large_pages.h"

#define KVT_NO_BLOCK UINT32_MAX

/* One block of one kind. It is known by the number of its first page. */
typedef struct kvt_block {
	uint32_t references;
	uint32_t tokens;    /* that have a place in it, 1 .. block_tokens */
	uint32_t last_page; /* of its pages, which are linked */
	uint32_t link;      /* the holder's */
	uint8_t state;      /* the holder's; 0 at first */
} kvt_block;

typedef struct kvt_block_waste {
	uint64_t allocated_bytes; /* pages of blocks */
	uint64_t used_bytes;      /* of tokens that have a place in them */
	uint64_t waste_bytes;     /* the difference: internal fragmentation */
	uint64_t stranded_bytes;  /* free small pages that other kinds cannot have */
	uint64_t free_bytes;      /* whole large pages */
	uint64_t left_over_bytes; /* less than a large page, never used */
	uint64_t peak_waste_bytes, peak_allocated_bytes, peak_stranded_bytes;
} kvt_block_waste;

typedef struct kvt_block_allocator {
	kvt_block_shape shape;
	uint64_t bytes;
	kvt_large_pages *pages;
	uint64_t page_bytes[KVT_BLOCK_KINDS_MAX];
	uint64_t allocated_bytes, used_bytes;
	uint64_t peak_waste, peak_allocated, peak_stranded;
	kvt_block *blocks;   /* [pages], by first page */
	uint32_t *page_next; /* [pages], within a block */
	uint64_t copies, copied_bytes;
} kvt_block_allocator;

/* An error when the memory holds no large page. */
kvt_block_allocator *kvt_block_allocator_new(
	const kvt_block_shape *shape, uint64_t bytes, GError **error);
void kvt_block_allocator_free(kvt_block_allocator *allocator);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_block_allocator, kvt_block_allocator_free)

/* A block of a kind for 1 .. block_tokens tokens with one reference; KVT_NO_BLOCK, and nothing
 * changes, when pages are missing. */
uint32_t kvt_block_allocate(
	kvt_block_allocator *allocator, unsigned kind, uint32_t tokens, kvt_page_owner *owner);

/* Room for more tokens, `tokens` in all, in a block with one reference. False, and nothing changes,
 * when pages are missing. */
gboolean kvt_block_grow(kvt_block_allocator *allocator, unsigned kind, uint32_t block,
	uint32_t tokens, kvt_page_owner *owner);

/* Another holder; and one less: true when it was the last one. The block stays until it is freed,
 * as caches keep blocks that nobody holds. */
static inline void kvt_block_hold(kvt_block_allocator *allocator, uint32_t block)
{
	allocator->blocks[block].references++;
}

static inline gboolean kvt_block_release(kvt_block_allocator *allocator, uint32_t block)
{
	g_assert(allocator->blocks[block].references > 0);
	return --allocator->blocks[block].references == 0;
}

/* Gives back a block that nobody holds. */
void kvt_block_free(kvt_block_allocator *allocator, unsigned kind, uint32_t block);

/*
 * The block that a holder of the first `tokens` tokens of one may go on writing: that one when it
 * alone holds it and nothing comes after those tokens, else a copy of them, of which it is the one
 * holder; then its hold of the old one is still to be released. KVT_NO_BLOCK, and nothing changes,
 * when pages for the copy are missing.
 */
uint32_t kvt_block_write(kvt_block_allocator *allocator, unsigned kind, uint32_t block,
	uint32_t tokens, kvt_page_owner *owner);

/* Pages of a block, of its tokens' number. */
static inline uint32_t kvt_block_pages(const kvt_block_allocator *allocator, uint32_t tokens)
{
	return (tokens + allocator->shape.page_tokens - 1) / allocator->shape.page_tokens;
}

/* Pages of a kind that could be allocated now, if no other kind takes any. */
static inline uint64_t kvt_block_available(const kvt_block_allocator *allocator, unsigned kind)
{
	return kvt_large_pages_available(allocator->pages, kind);
}

/* allocated + stranded + free + left over = bytes. */
kvt_block_waste kvt_block_allocator_waste(const kvt_block_allocator *allocator);

#endif
