/* kv_sequence.c: a sequence's life once it is admitted: extended, computed, finished. */
#include "sim/fleet/kv_internal.h"

void kvt_kv_free_sequence(kvt_kv_manager *manager, uint32_t id)
{
	manager->sequences[id].life = KVT_KV_NOBODY;
	manager->sequences[id].next_free = manager->free_sequence;
	manager->free_sequence = id;
}

kvt_kv_sequence *kvt_kv_get_sequence(const kvt_kv_manager *manager, uint32_t id)
{
	g_assert(id < manager->n_sequences && manager->sequences[id].life != KVT_KV_NOBODY);
	return &manager->sequences[id];
}

int kvt_kv_extend(kvt_kv_manager *manager, uint32_t id, uint64_t tokens, kvt_kv_moves *moves)
{
	kvt_kv_sequence *sequence = kvt_kv_get_sequence(manager, id);
	g_assert(sequence->life == KVT_KV_RUNNING);
	kvt_kv_call call;
	kvt_kv_call_begin(&call, manager, moves, sequence->prompt.tenant, id);
	int status = 0;
	for (unsigned kind = 0; kind < manager->n_kinds && status == 0; kind++)
		if (sequence->windows[kind].room < tokens)
			status = kvt_kv_grow(&call, sequence, kind, tokens);
	kvt_kv_call_end(&call);
	return status;
}

/* What is there */

/* Windows of the prefix that was found are incomplete: the whole context is to be computed again,
 * from the first token, and windows begin anew. */
static void restart(kvt_kv_manager *manager, kvt_kv_sequence *sequence)
{
	for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
		kvt_kv_window *window = &sequence->windows[kind];
		if (kvt_kv_is_global(manager, kind))
			continue;
		kvt_kv_free_chain(manager, kind, window->first);
		for (uint32_t block = MIN(window->high, window->n_named); block-- > window->low;)
			kvt_kv_release(manager, sequence->prompt.tenant,
				kvt_kv_sequence_piece(manager, sequence, block, kind));
		window->low = window->high = 0;
		window->first = window->last = KVT_NO_BLOCK;
		window->room = 0;
	}
	sequence->matched = sequence->cursor = sequence->marked = 0;
	sequence->computed = 0;
}

/* The least state of a block's pieces that the sequence holds by name. */
static uint8_t state_of(
	const kvt_kv_manager *manager, const kvt_kv_sequence *sequence, uint32_t block)
{
	uint8_t least = KVT_KV_READY;
	for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
		const kvt_kv_window *window = &sequence->windows[kind];
		if (block < window->low || block >= MIN(window->high, window->n_named))
			continue;
		uint32_t index =
			manager->map[kvt_kv_sequence_piece(manager, sequence, block, kind)];
		least = MIN(least, kvt_kv_block(manager, index)->state);
	}
	return least;
}

uint64_t kvt_kv_ready(kvt_kv_manager *manager, uint32_t id, gboolean *waiting)
{
	kvt_kv_sequence *sequence = kvt_kv_get_sequence(manager, id);
	const uint32_t block_tokens = manager->shape->block_tokens;
	gboolean waits = FALSE;
	uint32_t end = manager->windowed ? sequence->matched : sequence->windows[0].n_named;
	uint8_t state = KVT_KV_READY;
	if (sequence->life == KVT_KV_OUT)
		end = 0;
	while (sequence->cursor < end) {
		state = state_of(manager, sequence, sequence->cursor);
		if (state != KVT_KV_READY)
			break;
		sequence->cursor++;
	}
	uint32_t cursor = MIN(sequence->cursor, end);
	uint64_t tokens = MIN((uint64_t)cursor * block_tokens, sequence->prompt.tokens);
	if (state == KVT_KV_LOADING) {
		waits = TRUE;
	} else if (state == KVT_KV_EMPTY && manager->windowed) {
		restart(manager, sequence);
		tokens = 0;
	} else {
		sequence->marked = MIN(sequence->marked, cursor);
		/* of the block that follows, or of those without a name */
		if (cursor == end || sequence->computed / block_tokens == cursor)
			tokens = MAX(tokens, sequence->computed);
		waits = sequence->moving && cursor == end;
	}
	if (waiting)
		*waiting = waits;
	return tokens;
}

static void mark_ready(kvt_kv_manager *manager, kvt_kv_sequence *sequence, uint32_t block)
{
	for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
		const kvt_kv_window *window = &sequence->windows[kind];
		if (block < window->low || block >= MIN(window->high, window->n_named))
			continue;
		uint32_t index =
			manager->map[kvt_kv_sequence_piece(manager, sequence, block, kind)];
		kvt_block *place = kvt_kv_block(manager, index);
		if (place->state == KVT_KV_EMPTY &&
			place->tokens <=
				kvt_kv_block_share(manager, sequence->prompt.tokens, block))
			place->state = KVT_KV_READY;
	}
}

void kvt_kv_slide(kvt_kv_manager *manager, kvt_kv_sequence *sequence, uint64_t tokens)
{
	for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
		kvt_kv_window *window = &sequence->windows[kind];
		uint32_t low = kvt_block_shape_first_block(manager->shape, kind, tokens);
		low = MIN(low, window->high);
		for (; window->low < low; window->low++) {
			if (window->low < window->n_named) {
				kvt_kv_release(manager, sequence->prompt.tenant,
					kvt_kv_sequence_piece(
						manager, sequence, window->low, kind));
				continue;
			}
			uint32_t own = window->first;
			window->first = kvt_kv_block(manager, own)->link;
			kvt_block_release(manager->allocator, own);
			kvt_block_free(manager->allocator, kind, own);
		}
		if (window->first == KVT_NO_BLOCK)
			window->last = KVT_NO_BLOCK;
	}
}

void kvt_kv_computed(kvt_kv_manager *manager, uint32_t id, uint64_t tokens)
{
	kvt_kv_sequence *sequence = kvt_kv_get_sequence(manager, id);
	g_assert(sequence->life == KVT_KV_RUNNING);
	for (unsigned kind = 0; kind < manager->n_kinds; kind++)
		g_assert(tokens <= sequence->windows[kind].room);
	uint32_t whole = (uint32_t)(tokens / manager->shape->block_tokens);
	if (tokens >= sequence->prompt.tokens)
		whole = MAX(whole, sequence->windows[0].n_named);
	whole = MIN(whole, kvt_kv_named_blocks(manager, &sequence->prompt));
	for (; sequence->marked < whole; sequence->marked++)
		mark_ready(manager, sequence, sequence->marked);
	sequence->computed = MAX(sequence->computed, tokens);
	if (manager->windowed)
		kvt_kv_slide(manager, sequence, tokens);
}

/* The end */

void kvt_kv_free_chain(kvt_kv_manager *manager, unsigned kind, uint32_t block)
{
	while (block != KVT_NO_BLOCK) {
		uint32_t next = kvt_kv_block(manager, block)->link;
		kvt_block_release(manager->allocator, block);
		kvt_block_free(manager->allocator, kind, block);
		block = next;
	}
}

static gboolean is_whole(const kvt_kv_manager *manager, uint32_t piece)
{
	const kvt_block *block = kvt_kv_block(manager, manager->map[piece]);
	return block->state == KVT_KV_READY && block->tokens == manager->shape->block_tokens;
}

void kvt_kv_release_sequence(kvt_kv_manager *manager, kvt_kv_call *call, kvt_kv_sequence *sequence)
{
	uint32_t high = 0;
	for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
		kvt_kv_window *window = &sequence->windows[kind];
		kvt_kv_free_chain(manager, kind, window->first);
		window->first = window->last = KVT_NO_BLOCK;
		high = MAX(high, MIN(window->high, window->n_named));
	}
	while (high-- > 0) {
		for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
			const kvt_kv_window *window = &sequence->windows[kind];
			if (high < window->low || high >= MIN(window->high, window->n_named))
				continue;
			uint32_t piece = kvt_kv_sequence_piece(manager, sequence, high, kind);
			if (call && manager->write_through && is_whole(manager, piece))
				kvt_kv_keep_below(call, piece);
			kvt_kv_release(manager, sequence->prompt.tenant, piece);
		}
	}
}

/* Gives whole blocks of the sequence's own the names that the next request will know them by. */
static void name_own(kvt_kv_manager *manager, kvt_kv_sequence *sequence, unsigned kind,
	const uint32_t *ids, uint32_t end)
{
	kvt_kv_window *window = &sequence->windows[kind];
	uint32_t block = MAX(window->low, window->n_named);
	for (; block < MIN(end, window->high); block++) {
		uint32_t own = window->first, name = kvt_block_names_get(manager->names,
						      sequence->prompt.tenant, ids[block]);
		uint32_t piece = kvt_kv_piece(manager, name, kind);
		window->first = kvt_kv_block(manager, own)->link;
		if (manager->map[piece] == KVT_NO_BLOCK) {
			manager->map[piece] = own;
			kvt_kv_block(manager, own)->state = KVT_KV_READY;
		} else {
			/* the same is there, from another sequence */
			kvt_kv_hold(manager, piece);
			kvt_block_release(manager->allocator, own);
			kvt_block_free(manager->allocator, kind, own);
		}
		if (manager->hbm->next_use)
			manager->hbm->next_use[piece] = sequence->prompt.next_use;
	}
	window->n_named = MAX(window->n_named, end);
}

void kvt_kv_finish(kvt_kv_manager *manager, uint32_t id, const uint32_t *ids, uint32_t n_ids,
	kvt_kv_moves *moves)
{
	kvt_kv_sequence *sequence = kvt_kv_get_sequence(manager, id);
	g_assert(sequence->life == KVT_KV_RUNNING && !sequence->moving);
	uint32_t end = (uint32_t)(sequence->computed / manager->shape->block_tokens);
	end = MIN(end, n_ids);
	if (end > sequence->windows[0].n_named) {
		for (unsigned kind = 0; kind < manager->n_kinds; kind++)
			name_own(manager, sequence, kind, ids, end);
		sequence->prompt.ids = ids;
	}
	kvt_kv_call call;
	kvt_kv_call_begin(&call, manager, moves, sequence->prompt.tenant, UINT32_MAX);
	kvt_kv_release_sequence(manager, &call, sequence);
	kvt_kv_call_end(&call);
	kvt_kv_free_sequence(manager, id);
}
