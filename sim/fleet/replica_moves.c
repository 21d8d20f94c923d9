/*
 * replica_moves.c: moves of the KV manager as transfers. Moves of one call make one batch: what
 * enters the room that others of it make begins when those have ended, and who was given room
 * writes there no sooner.
 */
#include "sim/fleet/replica_internal.h"

typedef struct move_batch move_batch;

typedef struct move_state {
	move_batch *batch;
	kvt_kv_move move;
	uint32_t peer;  /* replica, of KVT_KV_PEER */
	uint32_t flows; /* of it, under way: one from each place to each */
	bool begun;
} move_state;

struct move_batch {
	kvt_replica *replica;
	kvt_sequence *sequence;          /* that waits for it; NULL: none */
	uint32_t admission;              /* of the sequence */
	uint32_t tenant;                 /* who made the moves */
	uint32_t leaving[KVT_KV_LEVELS]; /* moves that make room there, not over */
	uint32_t left, n;
	move_state moves[];
};

static void end_move(void *arg);

static kvt_fleet_place place_of(const move_state *state, uint8_t level)
{
	if (level == KVT_KV_PEER)
		return (kvt_fleet_place){ state->peer, state->move.peer_level };
	return (kvt_fleet_place){ state->batch->replica->index, level };
}

static bool is_shared(const kvt_replica *r, uint32_t level)
{
	return level >= 1 && level <= r->env.settings->n_tiers &&
	       kvt_tier_settings_shared(&r->env.settings->tiers[level - 1]);
}

/* Where a part of a move begins and ends: at a replica of the node where it lies. What is shared by
 * all nodes is reached from there. */
static void set_part_places(const move_state *state, const kvt_kv_part *part, kvt_fleet_place *from,
	kvt_fleet_place *to)
{
	const kvt_replica *r = state->batch->replica;
	*from = place_of(state, state->move.from);
	*to = place_of(state, state->move.to);
	if (part->from_home != KVT_NO_HOME)
		from->replica = kvt_replica_of_node(r, part->from_home);
	if (part->to_home != KVT_NO_HOME)
		to->replica = kvt_replica_of_node(r, part->to_home);
	if (is_shared(r, state->move.from))
		from->replica = to->replica;
	else if (is_shared(r, state->move.to))
		to->replica = from->replica;
}

static void begin_flow(move_state *state, kvt_fleet_place from, kvt_fleet_place to, uint64_t bytes)
{
	kvt_replica *r = state->batch->replica;
	const kvt_kv_move *move = &state->move;
	const kvt_fleet_transfer_spec spec = { .from = from,
		.to = to,
		.bytes = bytes,
		.priority = 1,
		.tenant = state->batch->tenant,
		.done = end_move,
		.arg = state };
	kvt_fleet_transfer transfer = kvt_fleet_transfers_start(r->env.transfers, &spec);
	kvt_sequence *sequence = state->batch->sequence;
	if (sequence && move->to == KVT_KV_HBM && sequence->n_transfers < KVT_SEQUENCE_LOADS_MAX)
		sequence->transfers[sequence->n_transfers++] = transfer;
}

static void begin_move(move_state *state)
{
	uint32_t n;
	const kvt_kv_part *parts = kvt_kv_move_parts(state->batch->replica->kv, state->move.id, &n);
	state->begun = true;
	state->flows = MAX(n, 1);
	if (n == 0) {
		begin_flow(state, place_of(state, state->move.from),
			place_of(state, state->move.to), state->move.bytes);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		kvt_fleet_place from, to;
		set_part_places(state, &parts[i], &from, &to);
		begin_flow(state, from, to, parts[i].bytes);
	}
}

/* Begins those whose room is there, in order. */
static void begin_moves(move_batch *batch)
{
	for (uint32_t i = 0; i < batch->n; i++) {
		move_state *state = &batch->moves[i];
		if (!state->begun && batch->leaving[state->move.to] == 0)
			begin_move(state);
	}
}

/* Whether the sequence still is what it was when the batch began. */
static kvt_sequence *waiting_sequence(const move_batch *batch)
{
	kvt_sequence *sequence = batch->sequence;
	return sequence && sequence->admission == batch->admission ? sequence : NULL;
}

static void count_load(kvt_replica *r, kvt_sequence *sequence)
{
	if (!sequence)
		return;
	sequence->loads--;
	sequence->last_load = kvt_loop_now(r->env.loop);
}

static void end_move(void *arg)
{
	move_state *state = arg;
	if (--state->flows > 0)
		return;
	move_batch *batch = state->batch;
	kvt_replica *r = batch->replica;
	kvt_kv_move move = state->move;
	kvt_sequence *sequence = waiting_sequence(batch);
	uint32_t all = MAX(move.n_pieces, 1);
	if (move.to == KVT_KV_HBM) {
		kvt_kv_loaded(r->kv, move.id, all);
		count_load(r, sequence);
	} else {
		kvt_kv_stored(r->kv, move.id, all);
	}
	r->moving--;
	if (move.kind == KVT_KV_SAVE)
		r->saves--;
	/* blocks that were read there may have stood in its way */
	if (move.from == KVT_KV_PEER)
		kvt_replica_kick(r->env.replicas[state->peer]);
	if (move.makes_room && --batch->leaving[move.from] == 0) {
		begin_moves(batch);
		if (move.from == KVT_KV_HBM && sequence)
			sequence->rooms--;
	}
	if (--batch->left == 0)
		g_free(batch);
	kvt_replica_loaded(r);
	kvt_replica_kick(r);
}

void kvt_replica_start_moves(kvt_replica *r, kvt_sequence *sequence)
{
	uint32_t n = r->moves.n;
	if (n == 0)
		return;
	move_batch *batch = g_malloc0(sizeof(*batch) + n * sizeof(batch->moves[0]));
	batch->replica = r;
	batch->sequence = sequence;
	batch->admission = sequence ? sequence->admission : 0;
	batch->tenant = r->acting;
	batch->left = batch->n = n;
	r->moving += n;
	for (uint32_t i = 0; i < n; i++) {
		const kvt_kv_move *move = &r->moves.moves[i];
		batch->moves[i] = (move_state){ .batch = batch,
			.move = *move,
			.peer = sequence ? sequence->peer : UINT32_MAX };
		batch->leaving[move->from] += move->makes_room != 0;
		if (sequence && move->to == KVT_KV_HBM)
			sequence->loads++;
		if (move->kind == KVT_KV_SAVE)
			r->saves++;
	}
	r->moves.n = 0;
	if (sequence && batch->leaving[KVT_KV_HBM] > 0)
		sequence->rooms++;
	begin_moves(batch);
}

kvt_time kvt_replica_loads_left(kvt_replica *r, const kvt_sequence *sequence)
{
	/* those that wait for room, or are too many to be kept, have not begun */
	if (sequence->loads > 0 && sequence->n_transfers == 0)
		return KVT_TIME_NEVER;
	kvt_time left = 0;
	for (uint32_t i = 0; i < sequence->n_transfers; i++)
		left = MAX(
			left, kvt_fleet_transfers_left(r->env.transfers, sequence->transfers[i]));
	return left;
}
