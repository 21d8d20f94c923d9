/* block_allocator.c: blocks of linked pages with reference counts, and what they waste. */
#include "sim/fleet/block_allocator.h"

kvt_block_allocator *kvt_block_allocator_new(
	const kvt_block_shape *shape, uint64_t bytes, GError **error)
{
	uint64_t page_bytes[KVT_BLOCK_KINDS_MAX];
	for (unsigned kind = 0; kind < shape->n_kinds; kind++)
		page_bytes[kind] = shape->page_tokens * shape->kinds[kind].token_bytes;
	kvt_large_pages *pages = kvt_large_pages_new(bytes, page_bytes, shape->n_kinds, error);
	if (!pages)
		return NULL;
	kvt_block_allocator *allocator = g_new0(kvt_block_allocator, 1);
	allocator->shape = *shape;
	allocator->bytes = bytes;
	allocator->pages = pages;
	for (unsigned kind = 0; kind < shape->n_kinds; kind++)
		allocator->page_bytes[kind] = page_bytes[kind];
	uint32_t n_pages = pages->first_small[shape->n_kinds];
	allocator->blocks = g_new0(kvt_block, n_pages);
	allocator->page_next = g_new0(uint32_t, n_pages);
	return allocator;
}

void kvt_block_allocator_free(kvt_block_allocator *allocator)
{
	if (!allocator)
		return;
	kvt_large_pages_free(allocator->pages);
	g_free(allocator->blocks);
	g_free(allocator->page_next);
	g_free(allocator);
}

static void count_peaks(kvt_block_allocator *allocator)
{
	uint64_t waste = allocator->allocated_bytes - allocator->used_bytes;
	allocator->peak_waste = MAX(allocator->peak_waste, waste);
	allocator->peak_allocated = MAX(allocator->peak_allocated, allocator->allocated_bytes);
	if (allocator->shape.n_kinds > 1)
		allocator->peak_stranded =
			MAX(allocator->peak_stranded, kvt_large_pages_stranded(allocator->pages));
}

static void use(kvt_block_allocator *allocator, unsigned kind, uint32_t tokens, uint32_t n_pages)
{
	allocator->used_bytes += tokens * allocator->shape.kinds[kind].token_bytes;
	if (n_pages == 0)
		return;
	allocator->allocated_bytes += n_pages * allocator->page_bytes[kind];
	count_peaks(allocator);
}

uint32_t kvt_block_allocate(
	kvt_block_allocator *allocator, unsigned kind, uint32_t tokens, kvt_page_owner *owner)
{
	g_assert(tokens > 0 && tokens <= allocator->shape.block_tokens);
	uint32_t n_pages = kvt_block_pages(allocator, tokens);
	if (kvt_block_available(allocator, kind) < n_pages)
		return KVT_NO_BLOCK;
	uint32_t first = kvt_large_pages_take(allocator->pages, kind, owner), last = first;
	for (uint32_t i = 1; i < n_pages; i++) {
		uint32_t page = kvt_large_pages_take(allocator->pages, kind, owner);
		allocator->page_next[last] = page;
		last = page;
	}
	allocator->blocks[first] = (kvt_block){
		.references = 1, .tokens = tokens, .last_page = last, .link = KVT_NO_BLOCK
	};
	use(allocator, kind, tokens, n_pages);
	return first;
}

gboolean kvt_block_grow(kvt_block_allocator *allocator, unsigned kind, uint32_t index,
	uint32_t tokens, kvt_page_owner *owner)
{
	kvt_block *block = &allocator->blocks[index];
	g_assert(block->references == 1 && tokens >= block->tokens);
	g_assert(tokens <= allocator->shape.block_tokens);
	uint32_t more =
		kvt_block_pages(allocator, tokens) - kvt_block_pages(allocator, block->tokens);
	if (more > 0 && kvt_block_available(allocator, kind) < more)
		return FALSE;
	for (uint32_t i = 0; i < more; i++) {
		uint32_t page = kvt_large_pages_take(allocator->pages, kind, owner);
		allocator->page_next[block->last_page] = page;
		block->last_page = page;
	}
	use(allocator, kind, tokens - block->tokens, more);
	block->tokens = tokens;
	return TRUE;
}

void kvt_block_free(kvt_block_allocator *allocator, unsigned kind, uint32_t index)
{
	const kvt_block *block = &allocator->blocks[index];
	g_assert(block->references == 0);
	uint32_t n_pages = kvt_block_pages(allocator, block->tokens);
	allocator->used_bytes -= block->tokens * allocator->shape.kinds[kind].token_bytes;
	allocator->allocated_bytes -= n_pages * allocator->page_bytes[kind];
	uint32_t page = index;
	for (uint32_t i = 0; i < n_pages; i++) {
		uint32_t next = allocator->page_next[page];
		kvt_large_pages_give(allocator->pages, kind, page);
		page = next;
	}
	if (allocator->shape.n_kinds > 1)
		count_peaks(allocator);
}

uint32_t kvt_block_write(kvt_block_allocator *allocator, unsigned kind, uint32_t index,
	uint32_t tokens, kvt_page_owner *owner)
{
	const kvt_block *block = &allocator->blocks[index];
	g_assert(block->references > 0 && tokens <= block->tokens);
	if (block->references == 1 && tokens == block->tokens)
		return index;
	uint32_t copy = kvt_block_allocate(allocator, kind, tokens, owner);
	if (copy == KVT_NO_BLOCK)
		return KVT_NO_BLOCK;
	allocator->copies++;
	allocator->copied_bytes += tokens * allocator->shape.kinds[kind].token_bytes;
	return copy;
}

kvt_block_waste kvt_block_allocator_waste(const kvt_block_allocator *allocator)
{
	const kvt_large_pages *pages = allocator->pages;
	return (kvt_block_waste){
		.allocated_bytes = allocator->allocated_bytes,
		.used_bytes = allocator->used_bytes,
		.waste_bytes = allocator->allocated_bytes - allocator->used_bytes,
		.stranded_bytes = kvt_large_pages_stranded(pages),
		.free_bytes = pages->n_whole * pages->large_bytes,
		.left_over_bytes = allocator->bytes - pages->n_large * pages->large_bytes,
		.peak_waste_bytes = allocator->peak_waste,
		.peak_allocated_bytes = allocator->peak_allocated,
		.peak_stranded_bytes = allocator->peak_stranded,
	};
}
