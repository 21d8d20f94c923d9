/* kv_check.c: every table of the KV manager against every other, for tests. Changes nothing. */
#include "sim/fleet/kv_internal.h"

/* Counts the blocks of a chain, which the sequence alone holds; returns their bytes. */
static uint64_t check_chain(
	const kvt_kv_manager *manager, unsigned kind, uint32_t block, uint32_t *n, uint64_t *used)
{
	const kvt_block_allocator *allocator = manager->allocator;
	uint64_t bytes = 0;
	for (; block != KVT_NO_BLOCK; block = allocator->blocks[block].link, (*n)++) {
		const kvt_block *own = &allocator->blocks[block];
		g_assert(own->references == 1);
		bytes += kvt_block_pages(allocator, own->tokens) * allocator->page_bytes[kind];
		*used += own->tokens * manager->shape->kinds[kind].token_bytes;
	}
	return bytes;
}

/* Adds a sequence's holds of pieces to `holds`; returns bytes of what it holds alone. */
static uint64_t check_sequence(const kvt_kv_manager *manager, const kvt_kv_sequence *sequence,
	uint32_t *holds, uint64_t *used)
{
	uint64_t bytes = 0;
	for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
		const kvt_kv_window *window = &sequence->windows[kind];
		g_assert(window->low <= window->high);
		g_assert(window->high == window->low ||
			 window->high == kvt_block_shape_blocks(manager->shape, window->room));
		uint32_t n = 0, high = MIN(window->high, window->n_named);
		for (uint32_t block = window->low; block < high; block++)
			holds[kvt_kv_prompt_piece(manager, &sequence->prompt, block, kind)]++;
		uint64_t kind_used = 0;
		bytes += check_chain(manager, kind, window->first, &n, &kind_used);
		uint32_t first = MAX(window->low, window->n_named);
		g_assert(n == (window->high > first ? window->high - first : 0));
		/* whole blocks but for the last one: so much is the waste of one page at most */
		if (n > 0)
			g_assert(kind_used ==
				 (window->room - (uint64_t)first * manager->shape->block_tokens) *
					 manager->shape->kinds[kind].token_bytes);
		*used += kind_used;
	}
	return bytes;
}

static uint64_t check_moves(
	const kvt_kv_manager *manager, uint32_t *holds, uint8_t *loading, uint64_t *used)
{
	uint64_t bytes = 0;
	for (uint32_t id = 0; id < manager->n_moves; id++) {
		const kvt_kv_move_state *state = &manager->moves[id];
		if (!state->active)
			continue;
		uint32_t n = 0;
		if (state->move.kind == KVT_KV_LOAD)
			for (uint32_t piece = state->first; piece != KVT_NO_PIECE;
				piece = manager->hbm->link[piece], n++)
				loading[piece]++;
		if (state->move.kind == KVT_KV_STORE) {
			const kvt_block_tier *tier = manager->tiers[state->move.to - 1];
			for (uint32_t piece = state->first; piece != KVT_NO_PIECE;
				piece = tier->link[piece], n++) {
				holds[piece] += state->holds_source ? 1 : 0;
				g_assert(kvt_block_tier_state(tier, piece) == KVT_PIECE_ARRIVING);
			}
		}
		g_assert(n == state->move.n_pieces);
		for (unsigned kind = 0; state->orphan && kind < manager->n_kinds; kind++)
			bytes += check_chain(manager, kind, state->chains[kind], &n, used);
	}
	return bytes;
}

/* One piece in HBM against its block; returns the bytes of its pages. */
static uint64_t check_piece(const kvt_kv_manager *manager, uint32_t piece, uint32_t holds,
	gboolean loading, uint64_t *kept, uint64_t *used)
{
	const kvt_block_allocator *allocator = manager->allocator;
	uint32_t index = manager->map[piece];
	gboolean kept_there = kvt_block_tier_has(manager->hbm, piece);
	if (index == KVT_NO_BLOCK) {
		g_assert(!kept_there && holds == 0 && !loading);
		return 0;
	}
	const kvt_block *block = &allocator->blocks[index];
	unsigned kind = kvt_kv_piece_kind(manager, piece);
	uint32_t n_pages = kvt_block_pages(allocator, block->tokens);
	g_assert((block->state == KVT_KV_LOADING) == loading);
	g_assert(block->references >= holds);
	if (kept_there) {
		g_assert(block->state == KVT_KV_READY);
		g_assert(block->tokens == manager->shape->block_tokens);
		g_assert(manager->hbm->pinned[piece] == (block->references > 0));
	} else {
		g_assert(block->references > 0 || loading);
	}
	if (kept_there && block->references == 0)
		kept[kind] += n_pages;
	*used += block->tokens * manager->shape->kinds[kind].token_bytes;
	return n_pages * allocator->page_bytes[kind];
}

void kvt_kv_check(const kvt_kv_manager *manager)
{
	const kvt_block_allocator *allocator = manager->allocator;
	uint32_t n_pieces = manager->hbm->n_pieces;
	g_autofree uint32_t *holds = g_new0(uint32_t, MAX(n_pieces, 1));
	g_autofree uint8_t *loading = g_new0(uint8_t, MAX(n_pieces, 1));
	uint64_t bytes = 0, used = 0, kept[KVT_BLOCK_KINDS_MAX] = { 0 }, foreign = 0;
	for (uint32_t id = 0; id < manager->n_sequences; id++)
		if (manager->sequences[id].life == KVT_KV_RUNNING)
			bytes += check_sequence(manager, &manager->sequences[id], holds, &used);
	bytes += check_moves(manager, holds, loading, &used);
	for (uint32_t piece = 0; piece < n_pieces; piece++) {
		bytes += check_piece(manager, piece, holds[piece], loading[piece], kept, &used);
		if (manager->map[piece] != KVT_NO_BLOCK)
			foreign += allocator->blocks[manager->map[piece]].references - holds[piece];
	}
	g_assert(foreign == manager->n_foreign);
	g_assert(bytes == allocator->allocated_bytes && used == allocator->used_bytes);
	for (unsigned kind = 0; kind < manager->n_kinds; kind++)
		g_assert(kept[kind] == manager->kept_pages[kind]);
	kvt_block_waste waste = kvt_block_allocator_waste(allocator);
	g_assert(waste.allocated_bytes + waste.stranded_bytes + waste.free_bytes +
			 waste.left_over_bytes ==
		 allocator->bytes);
	kvt_block_tier_check(manager->hbm);
	for (uint32_t i = 0; i < manager->n_tiers; i++)
		kvt_block_tier_check(manager->tiers[i]);
}

uint64_t kvt_kv_held_bytes(const kvt_kv_manager *manager, uint32_t id)
{
	const kvt_kv_sequence *sequence = kvt_kv_get_sequence(manager, id);
	const kvt_block_allocator *allocator = manager->allocator;
	uint64_t bytes = 0;
	if (sequence->life == KVT_KV_OUT)
		return 0;
	for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
		const kvt_kv_window *window = &sequence->windows[kind];
		uint64_t first = (uint64_t)window->low * manager->shape->block_tokens;
		uint64_t tokens = window->room > first ? window->room - first : 0;
		bytes += (tokens + manager->shape->page_tokens - 1) / manager->shape->page_tokens *
			 allocator->page_bytes[kind];
	}
	return bytes;
}
