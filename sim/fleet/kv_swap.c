/* kv_swap.c: a sequence that gives HBM up and comes again, or is given up itself. */
#include <errno.h>

#include "sim/fleet/kv_internal.h"

/* Bytes, outside HBM, of what was computed into blocks of the sequence's own; 0 when they do not
 * begin at the same block in every kind, as after an extension that failed half-way. */
static uint64_t own_bytes(const kvt_kv_manager *manager, const kvt_kv_sequence *sequence)
{
	uint64_t bytes = 0;
	for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
		const kvt_kv_window *window = &sequence->windows[kind];
		if (window->n_named != sequence->windows[0].n_named)
			return 0;
		uint64_t first =
			(uint64_t)MAX(window->low, window->n_named) * manager->shape->block_tokens;
		if (sequence->computed > first)
			bytes += (sequence->computed - first) *
				 manager->shape->kinds[kind].saved_bytes;
	}
	return bytes;
}

/* Blocks of the prompt that every kind still knows by name. */
static uint32_t named_blocks(const kvt_kv_manager *manager, const kvt_kv_sequence *sequence)
{
	uint32_t n = UINT32_MAX;
	for (unsigned kind = 0; kind < manager->n_kinds; kind++)
		n = MIN(n, sequence->windows[kind].n_named);
	return n;
}

int kvt_kv_swap_out(kvt_kv_manager *manager, uint32_t id, kvt_kv_moves *moves)
{
	kvt_kv_sequence *sequence = kvt_kv_get_sequence(manager, id);
	g_assert(sequence->life == KVT_KV_RUNNING);
	if (sequence->moving)
		return -EBUSY;
	kvt_kv_call call;
	kvt_kv_call_begin(&call, manager, moves, sequence->prompt.tenant, id);
	uint64_t bytes = own_bytes(manager, sequence);
	uint32_t level = 0;
	if (bytes > 0) {
		for (level = 1; level <= manager->n_tiers; level++)
			if (kvt_kv_tier_room(&call, level, bytes))
				break;
		if (level > manager->n_tiers)
			return -ENOSPC;
		kvt_block_tier_reserve(manager->tiers[level - 1], sequence->prompt.tenant, bytes);
		sequence->own_move = kvt_kv_move_own(&call, KVT_KV_SAVE, level, bytes);
		sequence->moving = TRUE;
	}
	sequence->saved_level = level;
	sequence->saved_bytes = bytes;
	sequence->saved_tokens = bytes > 0 ? sequence->computed : 0;
	sequence->prompt.n_ids = named_blocks(manager, sequence);
	sequence->prompt.peer = NULL;
	sequence->prompt.limited = FALSE;
	kvt_kv_release_sequence(manager, &call, sequence);
	kvt_kv_call_end(&call);
	sequence->life = KVT_KV_OUT;
	sequence->cursor = 0;
	sequence->computed = 0;
	return 0;
}

static void forget_saved(kvt_kv_manager *manager, kvt_kv_sequence *sequence)
{
	if (sequence->saved_bytes > 0)
		kvt_block_tier_unreserve(manager->tiers[sequence->saved_level - 1],
			sequence->prompt.tenant, sequence->saved_bytes);
	sequence->saved_tokens = sequence->saved_bytes = 0;
}

/* Room for what was saved, in every kind. */
static int make_own_room(kvt_kv_call *call, kvt_kv_sequence *sequence)
{
	kvt_kv_manager *manager = call->manager;
	for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
		int status = kvt_kv_grow(call, sequence, kind, sequence->saved_tokens);
		if (status != 0) {
			kvt_kv_release_sequence(manager, NULL, sequence);
			return status;
		}
	}
	kvt_kv_slide(manager, sequence, sequence->saved_tokens);
	return 0;
}

int kvt_kv_swap_in(kvt_kv_manager *manager, uint32_t id, kvt_kv_moves *moves, kvt_kv_match *match)
{
	kvt_kv_sequence *sequence = kvt_kv_get_sequence(manager, id);
	g_assert(sequence->life == KVT_KV_OUT);
	if (sequence->moving)
		return -EBUSY;
	kvt_kv_match found;
	kvt_kv_match_prompt(manager, &sequence->prompt, &found);
	/* what was saved goes on from the end of the prefix: without all of that it is of no use */
	gboolean whole = sequence->saved_tokens > 0 && found.blocks == sequence->prompt.n_ids;
	kvt_kv_call call;
	kvt_kv_call_begin(&call, manager, moves, sequence->prompt.tenant, id);
	uint64_t tokens = MAX(sequence->prompt.tokens, whole ? sequence->saved_tokens : 0);
	int status = kvt_kv_place_sequence(&call, sequence, &found, tokens);
	if (status == 0 && whole)
		status = make_own_room(&call, sequence);
	if (status == 0 && whole) {
		sequence->own_move = kvt_kv_move_own(
			&call, KVT_KV_RESTORE, sequence->saved_level, sequence->saved_bytes);
		sequence->moving = TRUE;
	}
	kvt_kv_call_end(&call);
	if (status != 0)
		return status;
	sequence->life = KVT_KV_RUNNING;
	if (!whole)
		forget_saved(manager, sequence);
	if (match)
		*match = found;
	return 0;
}

void kvt_kv_drop(kvt_kv_manager *manager, uint32_t id)
{
	kvt_kv_sequence *sequence = kvt_kv_get_sequence(manager, id);
	if (sequence->life == KVT_KV_OUT) {
		/* room for a save that is on its way is given back when it ends */
		if (!sequence->moving)
			forget_saved(manager, sequence);
	} else {
		if (sequence->moving) {
			/* so are the blocks that a load writes into */
			kvt_kv_move_state *state = &manager->moves[sequence->own_move];
			state->orphan = TRUE;
			for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
				state->chains[kind] = sequence->windows[kind].first;
				sequence->windows[kind].first = KVT_NO_BLOCK;
			}
		}
		kvt_kv_release_sequence(manager, NULL, sequence);
	}
	kvt_kv_free_sequence(manager, id);
}
