/* kv_moves.c: moves between levels, falling down the chain, and what the end of a move changes. */
#include "sim/fleet/kv_internal.h"

enum { NONE = UINT32_MAX };

void kvt_kv_call_begin(kvt_kv_call *call, kvt_kv_manager *manager, kvt_kv_moves *out,
	uint32_t tenant, uint32_t sequence)
{
	call->manager = manager;
	call->out = out;
	call->tenant = tenant;
	call->sequence = sequence;
	call->counted = call->moved = FALSE;
}

/* Most calls move nothing. */
static void begin_moves(kvt_kv_call *call)
{
	if (call->moved)
		return;
	call->moved = TRUE;
	memset(call->stores, 0xff, sizeof(call->stores));
	memset(call->keeps, 0xff, sizeof(call->keeps));
	memset(call->loads, 0xff, sizeof(call->loads));
	memset(call->peer_loads, 0xff, sizeof(call->peer_loads));
}

static uint32_t new_move(kvt_kv_call *call, kvt_kv_move_kind kind, uint32_t from, uint32_t to)
{
	kvt_kv_manager *manager = call->manager;
	uint32_t id = manager->free_move;
	if (id != NONE) {
		manager->free_move = manager->moves[id].next_free;
	} else {
		id = manager->n_moves++;
		if ((id & (id - 1)) == 0)
			manager->moves =
				g_renew(kvt_kv_move_state, manager->moves, MAX(2 * (size_t)id, 1));
	}
	kvt_kv_move_state *state = &manager->moves[id];
	*state = (kvt_kv_move_state){
		.move = { .id = id,
			.kind = (uint8_t)kind,
			.from = (uint8_t)from,
			.to = (uint8_t)to,
			.sequence = call->sequence },
		.active = TRUE,
		.counted = call->counted,
		.tenant = call->tenant,
		.first = KVT_NO_PIECE,
		.last = KVT_NO_PIECE,
	};
	if (call->sequence != NONE)
		state->stamp = manager->sequences[call->sequence].owner.stamp;
	return id;
}

static void free_move(kvt_kv_manager *manager, uint32_t id)
{
	g_free(manager->moves[id].parts);
	manager->moves[id].parts = NULL;
	manager->moves[id].n_parts = 0;
	manager->moves[id].active = FALSE;
	manager->moves[id].next_free = manager->free_move;
	manager->free_move = id;
}

static kvt_kv_move_state *get_move(kvt_kv_manager *manager, uint32_t id)
{
	g_assert(id < manager->n_moves && manager->moves[id].active);
	return &manager->moves[id];
}

static void list(kvt_kv_call *call, uint32_t id)
{
	if (id == NONE)
		return;
	kvt_kv_moves *out = call->out;
	if (out->n == out->room) {
		out->room = MAX(16, 2 * out->room);
		out->moves = g_renew(kvt_kv_move, out->moves, out->room);
	}
	out->moves[out->n++] = call->manager->moves[id].move;
}

void kvt_kv_call_end(kvt_kv_call *call)
{
	if (!call->moved)
		return;
	for (uint32_t from = KVT_KV_LEVELS; from-- > 0;)
		for (uint32_t to = 0; to < KVT_KV_LEVELS; to++)
			list(call, call->stores[from][to]);
	for (uint32_t to = 0; to < KVT_KV_LEVELS; to++)
		list(call, call->keeps[to]);
	for (uint32_t from = 0; from < KVT_KV_LEVELS; from++)
		list(call, call->loads[from]);
	for (uint32_t from = 0; from < KVT_KV_LEVELS; from++)
		list(call, call->peer_loads[from]);
	call->moved = FALSE;
}

static const kvt_tier_homes *homes_of(const kvt_kv_manager *manager, uint32_t level)
{
	return level >= 1 && level <= manager->n_tiers ? manager->tiers[level - 1]->homes : NULL;
}

static void add_part(kvt_kv_move_state *state, uint32_t from, uint32_t to, uint64_t bytes)
{
	for (uint32_t i = 0; i < state->n_parts; i++) {
		kvt_kv_part *part = &state->parts[i];
		if (part->from_home == from && part->to_home == to) {
			part->bytes += bytes;
			return;
		}
	}
	uint32_t n = state->n_parts++;
	if ((n & (n - 1)) == 0)
		state->parts = g_renew(kvt_kv_part, state->parts, MAX(2 * (size_t)n, 1));
	state->parts[n] = (kvt_kv_part){ from, to, bytes };
}

const kvt_kv_part *kvt_kv_move_parts(const kvt_kv_manager *manager, uint32_t move, uint32_t *n)
{
	g_assert(move < manager->n_moves && manager->moves[move].active);
	*n = manager->moves[move].n_parts;
	return manager->moves[move].parts;
}

/* Puts a piece at the end of a move; `destination` is where it will be. */
static void append(
	kvt_kv_manager *manager, uint32_t id, kvt_block_tier *destination, uint32_t piece)
{
	kvt_kv_move_state *state = &manager->moves[id];
	if (state->last == KVT_NO_PIECE)
		state->first = piece;
	else
		destination->link[state->last] = piece;
	state->last = piece;
	destination->link[piece] = KVT_NO_PIECE;
	state->move.n_pieces++;
	uint64_t bytes =
		kvt_block_shape_saved_bytes(manager->shape, kvt_kv_piece_kind(manager, piece));
	state->move.bytes += bytes;
	const kvt_tier_homes *from = homes_of(manager, state->move.from),
			     *to = homes_of(manager, state->move.to);
	if (from || to)
		add_part(state, from ? from->home[piece] : KVT_NO_HOME,
			to ? to->home[piece] : KVT_NO_HOME, bytes);
}

gboolean kvt_kv_tier_room(kvt_kv_call *call, uint32_t level, uint64_t bytes)
{
	kvt_block_tier *tier = call->manager->tiers[level - 1];
	if (!kvt_block_tier_can_have_room(tier, bytes))
		return FALSE;
	while (!kvt_block_tier_has_room(tier, bytes)) {
		uint32_t victim = kvt_block_tier_victim(tier, call->tenant, bytes);
		g_assert(victim != KVT_NO_PIECE);
		uint32_t tenant = tier->owner[victim];
		kvt_block_tier_remove(tier, victim, true);
		kvt_kv_fall(call, level, victim, tenant);
	}
	return TRUE;
}

/* Room and a place in the move for an absent piece, in a tier; false when too much is held. */
static gboolean enter(kvt_kv_call *call, uint32_t level, uint32_t piece, uint32_t tenant,
	const uint32_t *next_use)
{
	kvt_block_tier *tier = call->manager->tiers[level - 1];
	kvt_block_tier_announce(tier, tenant, piece);
	/* who brings it pays with its own */
	uint32_t caller = call->tenant;
	call->tenant = tenant;
	gboolean room = kvt_kv_tier_room(call, level, kvt_block_tier_piece_bytes(tier, piece));
	call->tenant = caller;
	if (!room) {
		tier->counts[tenant].refused_pieces++;
		return FALSE;
	}
	if (tier->next_use && next_use)
		tier->next_use[piece] = next_use[piece];
	tier->writer = call->manager->node;
	kvt_block_tier_enter(tier, tenant, piece, KVT_PIECE_ARRIVING);
	return TRUE;
}

/* Whether the piece is in the tier already. It has been in use above, so it is recent: a chain
 * keeps what was used last, however often it was copied down. */
static bool found_again(kvt_block_tier *tier, uint32_t piece)
{
	kvt_piece_state state = kvt_block_tier_state(tier, piece);
	if (state == KVT_PIECE_THERE)
		kvt_block_tier_touch(tier, piece);
	return state != KVT_PIECE_ABSENT;
}

void kvt_kv_fall(kvt_kv_call *call, uint32_t from, uint32_t piece, uint32_t tenant)
{
	kvt_kv_manager *manager = call->manager;
	const uint32_t *next_use =
		from == KVT_KV_HBM ? manager->hbm->next_use : manager->tiers[from - 1]->next_use;
	for (uint32_t to = from + 1; to <= manager->n_tiers; to++) {
		kvt_block_tier *tier = manager->tiers[to - 1];
		if (found_again(tier, piece))
			return;
		if ((manager->closed >> to & 1) != 0 || !enter(call, to, piece, tenant, next_use))
			continue;
		begin_moves(call);
		uint32_t *id = &call->stores[from][to];
		if (*id == NONE) {
			*id = new_move(call, KVT_KV_STORE, from, to);
			manager->moves[*id].move.makes_room = 1;
		}
		append(manager, *id, tier, piece);
		return;
	}
}

void kvt_kv_keep_below(kvt_kv_call *call, uint32_t piece)
{
	kvt_kv_manager *manager = call->manager;
	if (manager->n_tiers == 0 || found_again(manager->tiers[0], piece))
		return;
	if (!enter(call, 1, piece, call->tenant, manager->hbm->next_use))
		return;
	begin_moves(call);
	uint32_t *id = &call->keeps[1];
	if (*id == NONE) {
		*id = new_move(call, KVT_KV_STORE, KVT_KV_HBM, 1);
		manager->moves[*id].holds_source = TRUE;
	}
	kvt_kv_hold(manager, piece);
	append(manager, *id, manager->tiers[0], piece);
}

void kvt_kv_load(kvt_kv_call *call, kvt_kv_place place, kvt_kv_manager *peer, uint32_t piece)
{
	kvt_kv_manager *manager = call->manager;
	gboolean from_peer = place.level == KVT_KV_PEER;
	begin_moves(call);
	uint32_t *id = from_peer ? &call->peer_loads[place.peer_level] : &call->loads[place.level];
	if (*id == NONE) {
		*id = new_move(call, KVT_KV_LOAD, place.level, KVT_KV_HBM);
		manager->moves[*id].peer = peer;
		manager->moves[*id].move.peer_level = (uint8_t)place.peer_level;
	}
	append(manager, *id, manager->hbm, piece);
}

uint32_t kvt_kv_move_own(kvt_kv_call *call, kvt_kv_move_kind kind, uint32_t level, uint64_t bytes)
{
	gboolean save = kind == KVT_KV_SAVE;
	uint32_t id = new_move(call, kind, save ? KVT_KV_HBM : level, save ? level : KVT_KV_HBM);
	call->manager->moves[id].move.bytes = bytes;
	call->manager->moves[id].move.makes_room = save;
	/* what has no name has no home of its own: all nodes have their share of it */
	const kvt_tier_homes *homes = homes_of(call->manager, level);
	for (uint32_t node = 0; homes && node < homes->n_nodes; node++) {
		uint64_t share = bytes / homes->n_nodes + (node < bytes % homes->n_nodes);
		add_part(&call->manager->moves[id], save ? KVT_NO_HOME : node,
			save ? node : KVT_NO_HOME, share);
	}
	/* it follows what made its room */
	kvt_kv_call_end(call);
	list(call, id);
	return id;
}

/* The sequence that a move is for, if it is still there. */
static kvt_kv_sequence *sequence_of(kvt_kv_manager *manager, const kvt_kv_move_state *state)
{
	if (state->move.sequence == NONE)
		return NULL;
	kvt_kv_sequence *sequence = &manager->sequences[state->move.sequence];
	return sequence->life != KVT_KV_NOBODY && sequence->owner.stamp == state->stamp ? sequence
											: NULL;
}

/* A piece could not be read: its copy is not to be trusted, and was no hit. */
static void load_failed(kvt_kv_manager *manager, const kvt_kv_move_state *state, uint32_t piece)
{
	unsigned kind = kvt_kv_piece_kind(manager, piece);
	kvt_kv_count *count = &manager->counts[state->tenant];
	uint32_t level = state->move.from;
	count->failed_blocks += kind == 0;
	if (state->counted) {
		count->hit_blocks[level] -= kind == 0;
		count->hit_bytes[level] -= kvt_block_shape_saved_bytes(manager->shape, kind);
		count->hit_tokens -= kind == 0 ? manager->shape->block_tokens : 0;
	}
	const kvt_kv_manager *owner = state->peer ? state->peer : manager;
	uint32_t at = level == KVT_KV_PEER ? state->move.peer_level : level;
	if (at == KVT_KV_HBM)
		return;
	kvt_block_tier *tier = owner->tiers[at - 1];
	tier->counts[tier->owner[piece]].failed_pieces++;
	if (kvt_block_tier_has(tier, piece) && !tier->pinned[piece])
		kvt_block_tier_remove(tier, piece, false);
}

static void restored(kvt_kv_manager *manager, kvt_kv_move_state *state, gboolean intact)
{
	kvt_block_tier_unreserve(
		manager->tiers[state->move.from - 1], state->tenant, state->move.bytes);
	for (unsigned kind = 0; state->orphan && kind < manager->n_kinds; kind++)
		kvt_kv_free_chain(manager, kind, state->chains[kind]);
	kvt_kv_sequence *sequence = sequence_of(manager, state);
	if (!sequence)
		return;
	sequence->moving = FALSE;
	if (intact)
		sequence->computed = sequence->saved_tokens;
	sequence->saved_tokens = sequence->saved_bytes = 0;
}

void kvt_kv_loaded(kvt_kv_manager *manager, uint32_t move, uint32_t n_intact)
{
	kvt_kv_move_state *state = get_move(manager, move);
	g_assert(state->move.kind == KVT_KV_LOAD || state->move.kind == KVT_KV_RESTORE);
	if (state->move.kind == KVT_KV_RESTORE) {
		restored(manager, state, n_intact > 0);
		free_move(manager, move);
		return;
	}
	kvt_kv_place place = { state->move.from, state->move.peer_level };
	uint32_t i = 0;
	for (uint32_t piece = state->first, next; piece != KVT_NO_PIECE; piece = next, i++) {
		next = manager->hbm->link[piece];
		kvt_block *block = kvt_kv_block(manager, manager->map[piece]);
		g_assert(block->state == KVT_KV_LOADING);
		kvt_kv_unpin_place(manager, state->peer, place, state->tenant, piece);
		block->state = i < n_intact ? KVT_KV_READY : KVT_KV_EMPTY;
		if (i >= n_intact)
			load_failed(manager, state, piece);
		if (block->references == 0)
			kvt_kv_settle(manager, state->tenant, piece);
	}
	free_move(manager, move);
}

static void saved(kvt_kv_manager *manager, kvt_kv_move_state *state, gboolean intact)
{
	kvt_block_tier *tier = manager->tiers[state->move.to - 1];
	kvt_kv_sequence *sequence = sequence_of(manager, state);
	if (sequence)
		sequence->moving = FALSE;
	if (sequence && intact)
		return;
	/* it was given up meanwhile, or has nothing there to come back to */
	kvt_block_tier_unreserve(tier, state->tenant, state->move.bytes);
	if (sequence)
		sequence->saved_tokens = sequence->saved_bytes = 0;
}

void kvt_kv_stored(kvt_kv_manager *manager, uint32_t move, uint32_t n_intact)
{
	kvt_kv_move_state *state = get_move(manager, move);
	g_assert(state->move.kind == KVT_KV_STORE || state->move.kind == KVT_KV_SAVE);
	if (state->move.kind == KVT_KV_SAVE) {
		saved(manager, state, n_intact > 0);
		free_move(manager, move);
		return;
	}
	kvt_block_tier *tier = manager->tiers[state->move.to - 1];
	uint32_t i = 0;
	for (uint32_t piece = state->first, next; piece != KVT_NO_PIECE; piece = next, i++) {
		next = tier->link[piece];
		kvt_block_tier_arrived(tier, piece, i < n_intact);
		if (state->holds_source)
			kvt_kv_release(manager, state->tenant, piece);
	}
	free_move(manager, move);
}
