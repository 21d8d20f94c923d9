/* kv_match.c: the longest prefix of a prompt that is somewhere, and where it is best read from. */
#include "sim/fleet/kv_internal.h"

static gboolean is_whole(const kvt_kv_manager *manager, uint32_t index)
{
	const kvt_block *block = kvt_kv_block(manager, index);
	return block->state == KVT_KV_READY && block->tokens == manager->shape->block_tokens;
}

kvt_kv_place kvt_kv_locate_below(
	const kvt_kv_manager *manager, const kvt_kv_manager *peer, uint32_t piece)
{
	for (uint32_t i = 0; i < manager->n_tiers; i++)
		if (kvt_block_tier_has(manager->tiers[i], piece))
			return (kvt_kv_place){ .level = i + 1 };
	if (!peer || peer == manager)
		return (kvt_kv_place){ .level = KVT_KV_NOWHERE };
	uint32_t block = peer->map[piece];
	if (block != KVT_NO_BLOCK && is_whole(peer, block))
		return (kvt_kv_place){ .level = KVT_KV_PEER, .peer_level = KVT_KV_HBM };
	for (uint32_t i = 0; i < peer->n_tiers; i++)
		if (kvt_block_tier_has(peer->tiers[i], piece))
			return (kvt_kv_place){ .level = KVT_KV_PEER, .peer_level = i + 1 };
	return (kvt_kv_place){ .level = KVT_KV_NOWHERE };
}

/* Where block number `number` of a prompt is, in one kind of layers. */
static inline kvt_kv_place locate(
	const kvt_kv_manager *manager, const kvt_kv_prompt *prompt, uint32_t number, unsigned kind)
{
	uint32_t piece = kvt_kv_prompt_piece(manager, prompt, number, kind);
	uint32_t index = manager->map[piece];
	if (index == KVT_NO_BLOCK && prompt->limited && number >= prompt->load_end)
		return (kvt_kv_place){ .level = KVT_KV_NOWHERE };
	if (index == KVT_NO_BLOCK)
		return kvt_kv_locate_below(manager, prompt->peer, piece);
	const kvt_block *block = kvt_kv_block(manager, index);
	if (block->state == KVT_KV_EMPTY ||
		block->tokens < kvt_kv_block_share(manager, prompt->tokens, number))
		return (kvt_kv_place){ .level = KVT_KV_NOWHERE };
	return (kvt_kv_place){ .level = KVT_KV_HBM };
}

/* The tier of a place, or NULL for a peer's HBM. */
static kvt_block_tier *tier_at(
	const kvt_kv_manager *manager, const kvt_kv_manager *peer, kvt_kv_place place)
{
	if (place.level != KVT_KV_PEER)
		return manager->tiers[place.level - 1];
	return place.peer_level == KVT_KV_HBM ? NULL : peer->tiers[place.peer_level - 1];
}

void kvt_kv_pin_place(kvt_kv_manager *manager, kvt_kv_manager *peer, kvt_kv_place place,
	uint32_t tenant, uint32_t piece)
{
	kvt_block_tier *tier = tier_at(manager, peer, place);
	if (!tier) {
		kvt_kv_hold(peer, piece);
		peer->n_foreign++;
		return;
	}
	kvt_block_tier_pin(tier, piece);
	if (tier->next_use && manager->hbm->next_use)
		tier->next_use[piece] = manager->hbm->next_use[piece];
	kvt_block_tier_touch(tier, piece);
	tier->counts[tenant].read_pieces++;
	tier->counts[tenant].read_bytes += kvt_block_tier_piece_bytes(tier, piece);
}

void kvt_kv_unpin_place(const kvt_kv_manager *manager, kvt_kv_manager *peer, kvt_kv_place place,
	uint32_t tenant, uint32_t piece)
{
	kvt_block_tier *tier = tier_at(manager, peer, place);
	if (tier) {
		kvt_block_tier_unpin(tier, piece);
		kvt_block_tier_renew(tier, piece);
		return;
	}
	peer->n_foreign--;
	kvt_kv_release(peer, tenant, piece);
}

uint32_t kvt_kv_needed_from(
	const kvt_kv_manager *manager, const kvt_kv_prompt *prompt, unsigned kind, uint32_t blocks)
{
	/* the last token is computed in any case, and looks back */
	uint64_t tokens = MIN((uint64_t)blocks * manager->shape->block_tokens, prompt->tokens - 1);
	return kvt_block_shape_first_block(manager->shape, kind, tokens);
}

static void count(kvt_kv_manager *manager, kvt_kv_match *match, uint32_t level, unsigned kind)
{
	match->level_blocks[level] += kind == 0;
	match->level_bytes[level] += kvt_block_shape_saved_bytes(manager->shape, kind);
}

/* One kind, global: one pass. */
static void match_whole(
	kvt_kv_manager *manager, const kvt_kv_prompt *prompt, uint32_t n_named, kvt_kv_match *match)
{
	uint32_t level_blocks[KVT_KV_LEVELS] = { 0 }, block = 0;
	for (; block < n_named; block++) {
		kvt_kv_place place = locate(manager, prompt, block, 0);
		if (place.level == KVT_KV_NOWHERE)
			break;
		level_blocks[place.level]++;
	}
	match->blocks = block;
	for (unsigned level = 0; level < KVT_KV_LEVELS; level++) {
		match->level_blocks[level] = level_blocks[level];
		match->level_bytes[level] =
			level_blocks[level] * kvt_block_shape_saved_bytes(manager->shape, 0);
	}
}

/* Several kinds, or windows: the longest length at which every kind has what it needs. */
static void match_windows(
	kvt_kv_manager *manager, const kvt_kv_prompt *prompt, uint32_t n_named, kvt_kv_match *match)
{
	const kvt_block_shape *shape = manager->shape;
	uint32_t run_start[KVT_BLOCK_KINDS_MAX] = {
		0
	}; /* of the blocks that are there up to here */
	for (uint32_t block = 0; block < n_named; block++) {
		gboolean enough = TRUE;
		for (unsigned kind = 0; kind < manager->n_kinds; kind++) {
			kvt_kv_place place = locate(manager, prompt, block, kind);
			if (place.level == KVT_KV_NOWHERE) {
				run_start[kind] = block + 1;
				if (shape->kinds[kind].attention == KVT_ATTENTION_GLOBAL)
					n_named = block;
			}
			uint32_t from = kvt_kv_needed_from(manager, prompt, kind, block + 1);
			enough &= from >= run_start[kind];
		}
		if (enough && block < n_named)
			match->blocks = block + 1;
	}
	for (unsigned kind = 0; kind < manager->n_kinds; kind++)
		for (uint32_t block = kvt_kv_needed_from(manager, prompt, kind, match->blocks);
			block < match->blocks; block++)
			count(manager, match, locate(manager, prompt, block, kind).level, kind);
}

void kvt_kv_match_prompt(kvt_kv_manager *manager, const kvt_kv_prompt *prompt, kvt_kv_match *match)
{
	g_assert(prompt->tokens > 0 && prompt->tenant < manager->names->n_tenants);
	g_assert(!prompt->peer || prompt->peer->names == manager->names);
	*match = (kvt_kv_match){ 0 };
	uint32_t n_named = kvt_kv_named_blocks(manager, prompt);
	if (manager->windowed)
		match_windows(manager, prompt, n_named, match);
	else
		match_whole(manager, prompt, n_named, match);
	match->tokens = MIN((uint64_t)match->blocks * manager->shape->block_tokens, prompt->tokens);
}
