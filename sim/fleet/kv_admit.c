/* kv_admit.c: room for sequences: blocks that they find, load, share and have for their own. */
#include <errno.h>

#include "sim/fleet/kv_internal.h"

enum { NONE = UINT32_MAX };

/* Sequences */

static uint32_t new_sequence(kvt_kv_manager *manager, const kvt_kv_prompt *prompt)
{
	uint32_t id = manager->free_sequence;
	if (id != NONE) {
		manager->free_sequence = manager->sequences[id].next_free;
	} else {
		id = manager->n_sequences++;
		if ((id & (id - 1)) == 0)
			manager->sequences = g_renew(
				kvt_kv_sequence, manager->sequences, MAX(2 * (size_t)id, 1));
	}
	kvt_kv_sequence *sequence = &manager->sequences[id];
	*sequence = (kvt_kv_sequence){ .prompt = *prompt, .life = KVT_KV_RUNNING };
	kvt_page_owner_init(&sequence->owner, ++manager->stamp);
	return id;
}

/* Room */

/* Whether a block of the prompt can be the one in HBM that has its name: not where that ends
 * earlier, in a trace whose ids do not say so. */
static gboolean can_share(
	const kvt_kv_manager *manager, const kvt_kv_prompt *prompt, uint32_t block, unsigned kind)
{
	uint32_t index = manager->map[kvt_kv_prompt_piece(manager, prompt, block, kind)];
	return index == KVT_NO_BLOCK || kvt_kv_block(manager, index)->tokens >=
						kvt_kv_block_share(manager, prompt->tokens, block);
}

/* A block of the prompt that nobody has computed, or that somebody does just now. */
static gboolean take_named(
	kvt_kv_call *call, kvt_kv_sequence *sequence, unsigned kind, uint32_t block)
{
	kvt_kv_manager *manager = call->manager;
	uint32_t piece = kvt_kv_sequence_piece(manager, sequence, block, kind);
	uint32_t share = kvt_kv_block_share(manager, sequence->prompt.tokens, block);
	if (manager->map[piece] != KVT_NO_BLOCK) {
		kvt_kv_hold(manager, piece);
	} else {
		uint32_t index = kvt_kv_allocate(call, sequence, kind, share);
		if (index == KVT_NO_BLOCK)
			return FALSE;
		manager->map[piece] = index;
	}
	if (manager->hbm->next_use)
		manager->hbm->next_use[piece] = sequence->prompt.next_use;
	return TRUE;
}

/* The partial last block of the prompt is written into: it is no longer what its name says. */
static gboolean own_partial(
	kvt_kv_call *call, kvt_kv_sequence *sequence, unsigned kind, uint32_t block)
{
	kvt_kv_manager *manager = call->manager;
	kvt_kv_window *window = &sequence->windows[kind];
	uint32_t piece = kvt_kv_sequence_piece(manager, sequence, block, kind),
		 index = manager->map[piece];
	uint32_t share = kvt_kv_block_share(manager, sequence->prompt.tokens, block);
	const kvt_block *shared = kvt_kv_block(manager, index);
	/* a load that goes on for others writes into it, too */
	gboolean loading = shared->state == KVT_KV_LOADING;
	gboolean alone = shared->references == 1 && shared->tokens == share && !loading;
	uint32_t own = index;
	if (alone) {
		manager->map[piece] = KVT_NO_BLOCK;
	} else {
		if (!kvt_kv_make_room(call, kind, kvt_block_pages(manager->allocator, share)))
			return FALSE;
		kvt_block_hold(manager->allocator, index);
		own = kvt_block_write(manager->allocator, kind, index, share, &sequence->owner);
		kvt_block_release(manager->allocator, index);
		kvt_kv_release(manager, sequence->prompt.tenant, piece);
	}
	window->n_named = block;
	window->first = window->last = own;
	return TRUE;
}

static gboolean add_own(
	kvt_kv_call *call, kvt_kv_sequence *sequence, unsigned kind, uint32_t tokens)
{
	kvt_kv_window *window = &sequence->windows[kind];
	uint32_t index = kvt_kv_allocate(call, sequence, kind, tokens);
	if (index == KVT_NO_BLOCK)
		return FALSE;
	if (window->first == KVT_NO_BLOCK)
		window->first = index;
	else
		kvt_kv_block(call->manager, window->last)->link = index;
	window->last = index;
	return TRUE;
}

static gboolean grow_own(
	kvt_kv_call *call, kvt_kv_sequence *sequence, unsigned kind, uint32_t tokens)
{
	kvt_block_allocator *allocator = call->manager->allocator;
	uint32_t last = sequence->windows[kind].last;
	uint32_t more = kvt_block_pages(allocator, tokens) -
			kvt_block_pages(allocator, allocator->blocks[last].tokens);
	if (more > 0 && !kvt_kv_make_room(call, kind, more))
		return FALSE;
	return kvt_block_grow(allocator, kind, last, tokens, &sequence->owner);
}

int kvt_kv_grow(kvt_kv_call *call, kvt_kv_sequence *sequence, unsigned kind, uint64_t tokens)
{
	const uint32_t block_tokens = call->manager->shape->block_tokens;
	kvt_kv_window *window = &sequence->windows[kind];
	while (window->room < tokens) {
		uint32_t block = (uint32_t)(window->room / block_tokens);
		uint64_t start = (uint64_t)block * block_tokens;
		uint64_t end = MIN(start + block_tokens, tokens);
		gboolean fresh = window->room == start, done;
		if (fresh && block < window->n_named &&
			!can_share(call->manager, &sequence->prompt, block, kind))
			window->n_named = block;
		gboolean named = block < window->n_named;
		if (named && fresh) {
			done = take_named(call, sequence, kind, block);
			end = MIN(start + block_tokens, sequence->prompt.tokens);
		} else if (fresh) {
			done = add_own(call, sequence, kind, (uint32_t)(end - start));
		} else {
			done = (!named || own_partial(call, sequence, kind, block)) &&
			       grow_own(call, sequence, kind, (uint32_t)(end - start));
		}
		if (!done)
			return -ENOSPC;
		window->room = end;
		window->high = block + 1;
	}
	return 0;
}

/* Admission */

/* Whether one kind of global layers has pages for it: those that are free, and those of kept blocks
 * that it does not share. */
static gboolean has_pages(
	kvt_kv_manager *manager, const kvt_kv_sequence *sequence, uint32_t n_named, uint64_t tokens)
{
	const kvt_block_allocator *allocator = manager->allocator;
	const kvt_block_shape *shape = manager->shape;
	uint64_t available = kvt_block_available(allocator, 0), shared = 0, missing = 0;
	uint64_t per_block = shape->block_tokens / shape->page_tokens;
	if (available >= kvt_block_shape_blocks(shape, tokens) * per_block)
		return TRUE;
	const kvt_kv_prompt *prompt = &sequence->prompt;
	for (uint32_t block = 0; block < n_named; block++) {
		uint32_t share = kvt_kv_block_share(manager, prompt->tokens, block);
		uint32_t index = manager->map[kvt_kv_sequence_piece(manager, sequence, block, 0)];
		if (index == KVT_NO_BLOCK)
			missing += kvt_block_pages(allocator, share);
		else if (allocator->blocks[index].references == 0 &&
			 allocator->blocks[index].state == KVT_KV_READY)
			shared += kvt_block_pages(allocator, allocator->blocks[index].tokens);
	}
	uint64_t named_tokens = (uint64_t)n_named * shape->block_tokens;
	if (tokens > named_tokens)
		missing += (tokens - named_tokens + shape->page_tokens - 1) / shape->page_tokens;
	return available + manager->kept_pages[0] >= shared + missing;
}

static void note_missing(kvt_kv_manager *manager, uint32_t *n, uint32_t block, unsigned kind)
{
	if (*n == manager->missing_room) {
		manager->missing_room = MAX(1024, 2 * manager->missing_room);
		manager->missing = g_renew(uint32_t, manager->missing, manager->missing_room);
	}
	manager->missing[(*n)++] = block * manager->n_kinds + kind;
}

/* Holds what is in HBM and pins what is below it, last blocks first. Returns how many pieces are
 * noted as missing. */
static uint32_t hold_found(kvt_kv_manager *manager, kvt_kv_sequence *sequence)
{
	const kvt_kv_prompt *prompt = &sequence->prompt;
	uint32_t n = 0;
	for (unsigned kind = manager->n_kinds; kind-- > 0;) {
		const kvt_kv_window *window = &sequence->windows[kind];
		for (uint32_t block = window->high; block-- > window->low;) {
			uint32_t piece = kvt_kv_sequence_piece(manager, sequence, block, kind);
			if (manager->hbm->next_use)
				manager->hbm->next_use[piece] = prompt->next_use;
			if (manager->map[piece] != KVT_NO_BLOCK) {
				kvt_kv_hold(manager, piece);
				continue;
			}
			note_missing(manager, &n, block, kind);
			if (block < sequence->matched)
				kvt_kv_pin_place(manager, prompt->peer,
					kvt_kv_locate_below(manager, prompt->peer, piece),
					prompt->tenant, piece);
		}
	}
	return n;
}

static void unpin_missing(
	kvt_kv_manager *manager, const kvt_kv_sequence *sequence, uint32_t block, uint32_t piece)
{
	const kvt_kv_prompt *prompt = &sequence->prompt;
	if (block < sequence->matched)
		kvt_kv_unpin_place(manager, prompt->peer,
			kvt_kv_locate_below(manager, prompt->peer, piece), prompt->tenant, piece);
}

/* Undoes hold_found and take_missing's first part: `done` of the missing pieces have a block. */
static void give_back(
	kvt_kv_manager *manager, kvt_kv_sequence *sequence, uint32_t n_missing, uint32_t done)
{
	for (uint32_t i = 0; i < n_missing; i++) {
		uint32_t block = manager->missing[i] / manager->n_kinds;
		unsigned kind = manager->missing[i] % manager->n_kinds;
		uint32_t piece = kvt_kv_sequence_piece(manager, sequence, block, kind);
		unpin_missing(manager, sequence, block, piece);
		if (i >= n_missing - done)
			kvt_kv_release(manager, sequence->prompt.tenant, piece);
	}
	for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
		const kvt_kv_window *window = &sequence->windows[kind];
		for (uint32_t block = window->high; block-- > window->low;) {
			uint32_t piece = kvt_kv_sequence_piece(manager, sequence, block, kind);
			if (manager->map[piece] != KVT_NO_BLOCK)
				kvt_kv_release(manager, sequence->prompt.tenant, piece);
		}
	}
}

/* Blocks for what is missing, first blocks first; then loads for what is below. */
static int take_missing(kvt_kv_call *call, kvt_kv_sequence *sequence, uint32_t n_missing)
{
	kvt_kv_manager *manager = call->manager;
	for (uint32_t i = n_missing; i-- > 0;) {
		uint32_t block = manager->missing[i] / manager->n_kinds;
		unsigned kind = manager->missing[i] % manager->n_kinds;
		if (take_named(call, sequence, kind, block))
			continue;
		give_back(manager, sequence, n_missing, n_missing - 1 - i);
		return -ENOSPC;
	}
	for (uint32_t i = n_missing; i-- > 0;) {
		uint32_t block = manager->missing[i] / manager->n_kinds;
		unsigned kind = manager->missing[i] % manager->n_kinds;
		if (block >= sequence->matched)
			continue;
		uint32_t piece = kvt_kv_sequence_piece(manager, sequence, block, kind);
		kvt_block *place = kvt_kv_block(manager, manager->map[piece]);
		/* a trace may name a block twice in one prompt */
		if (place->state == KVT_KV_LOADING) {
			unpin_missing(manager, sequence, block, piece);
			continue;
		}
		place->state = KVT_KV_LOADING;
		kvt_kv_manager *peer = sequence->prompt.peer;
		kvt_kv_load(call, kvt_kv_locate_below(manager, peer, piece), peer, piece);
	}
	return 0;
}

/* Blocks of the prompt that go by name, of which `matched` are there. */
static uint32_t sharable_blocks(
	const kvt_kv_manager *manager, const kvt_kv_prompt *prompt, uint32_t matched)
{
	uint32_t n_named = kvt_kv_named_blocks(manager, prompt);
	for (uint32_t block = matched; block < n_named; block++)
		for (unsigned kind = 0; kind < manager->n_kinds; kind++)
			if (!can_share(manager, prompt, block, kind))
				return block;
	return n_named;
}

int kvt_kv_place_sequence(
	kvt_kv_call *call, kvt_kv_sequence *sequence, const kvt_kv_match *match, uint64_t tokens)
{
	kvt_kv_manager *manager = call->manager;
	const kvt_kv_prompt *prompt = &sequence->prompt;
	uint32_t n_named = sharable_blocks(manager, prompt, match->blocks);
	sequence->prompt.n_ids = n_named;
	if (manager->n_kinds == 1 && !manager->windowed &&
		!has_pages(manager, sequence, n_named, tokens))
		return -ENOSPC;
	uint64_t named_tokens =
		MIN((uint64_t)n_named * manager->shape->block_tokens, prompt->tokens);
	sequence->matched = sequence->marked = match->blocks;
	sequence->cursor = 0;
	sequence->computed = 0;
	for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
		gboolean global = kvt_kv_is_global(manager, kind);
		sequence->windows[kind] = (kvt_kv_window){
			.low = kvt_kv_needed_from(manager, prompt, kind, match->blocks),
			.high = global ? n_named : match->blocks,
			.n_named = n_named,
			.room = global ? named_tokens : match->tokens,
			.first = KVT_NO_BLOCK,
			.last = KVT_NO_BLOCK,
		};
	}
	int status = take_missing(call, sequence, hold_found(manager, sequence));
	for (unsigned kind = 0; kind < manager->n_kinds && status == 0; kind++) {
		if (!kvt_kv_is_global(manager, kind))
			continue;
		status = kvt_kv_grow(call, sequence, kind, tokens);
		if (status != 0)
			kvt_kv_release_sequence(manager, NULL, sequence);
	}
	return status;
}

static void count_request(
	kvt_kv_manager *manager, const kvt_kv_prompt *prompt, const kvt_kv_match *match)
{
	kvt_kv_count *count = &manager->counts[prompt->tenant];
	count->requests++;
	count->lookup_blocks += kvt_kv_named_blocks(manager, prompt);
	count->lookup_tokens += prompt->tokens;
	count->hit_tokens += match->tokens;
	for (unsigned level = 0; level < KVT_KV_LEVELS; level++) {
		count->hit_blocks[level] += match->level_blocks[level];
		count->hit_bytes[level] += match->level_bytes[level];
	}
}

int kvt_kv_admit(kvt_kv_manager *manager, const kvt_kv_prompt *prompt, kvt_kv_moves *moves,
	kvt_kv_match *match, uint32_t *id)
{
	kvt_kv_match found;
	kvt_kv_match_prompt(manager, prompt, &found);
	uint32_t new_id = new_sequence(manager, prompt);
	kvt_kv_call call;
	kvt_kv_call_begin(&call, manager, moves, prompt->tenant, new_id);
	call.counted = TRUE;
	int status =
		kvt_kv_place_sequence(&call, &manager->sequences[new_id], &found, prompt->tokens);
	kvt_kv_call_end(&call);
	if (status != 0) {
		kvt_kv_free_sequence(manager, new_id);
		return status;
	}
	count_request(manager, prompt, &found);
	if (match)
		*match = found;
	*id = new_id;
	return 0;
}
