/*
 * kv_internal.h: what the parts of the KV manager share: kv_manager.c (blocks in HBM: held, kept,
 * evicted), kv_moves.c (moves and falling down the chain), kv_match.c (what is where), kv_admit.c
 * (room for sequences), kv_sequence.c (their life) and kv_swap.c (out and in again). Nobody else
 * includes it.
 */
#ifndef KVT_KV_INTERNAL_H
#define KVT_KV_INTERNAL_H

#include "sim/fleet/kv_manager.h"

/* Of a block in HBM: its KV is missing, on its way, or there. */
enum { KVT_KV_EMPTY, KVT_KV_LOADING, KVT_KV_READY };

/*
 * A sequence's blocks of one kind. It holds blocks low .. high - 1 of its context; those below
 * n_named by name, shared with others, the rest alone, as a chain from the oldest on.
 */
typedef struct kvt_kv_window {
	uint32_t low, high, n_named;
	uint32_t first, last; /* of the chain */
	uint64_t room;        /* tokens of the context that have a place */
} kvt_kv_window;

typedef enum kvt_kv_life { KVT_KV_NOBODY, KVT_KV_RUNNING, KVT_KV_OUT } kvt_kv_life;

typedef struct kvt_kv_sequence {
	kvt_kv_prompt prompt;
	kvt_kv_life life;
	gboolean moving;   /* its own blocks are being restored or saved, */
	uint32_t own_move; /* by this one */
	uint32_t matched;  /* blocks that were found at admission */
	uint32_t cursor;   /* blocks from the first on that were seen to be there */
	uint32_t marked;   /* blocks up to which computed() has been */
	uint64_t computed; /* tokens */
	uint64_t saved_tokens, saved_bytes; /* while it is out */
	uint32_t saved_level;
	kvt_page_owner owner;
	kvt_kv_window windows[KVT_BLOCK_KINDS_MAX];
	uint32_t next_free;
} kvt_kv_sequence;

typedef struct kvt_kv_move_state {
	kvt_kv_move move;
	gboolean active, holds_source, counted;
	uint32_t tenant, stamp; /* of the sequence that it is for */
	kvt_kv_manager *peer;
	uint32_t first, last; /* pieces, along the destination's link */
	kvt_kv_part *parts;   /* where nodes pool a tier; NULL: nowhere */
	uint32_t n_parts;
	gboolean orphan; /* the sequence was dropped while its blocks were being restored into: */
	uint32_t chains[KVT_BLOCK_KINDS_MAX];
	uint32_t next_free;
} kvt_kv_move_state;

struct kvt_kv_manager {
	kvt_block_allocator *allocator;
	const kvt_block_shape *shape; /* the allocator's */
	const kvt_block_names *names;
	kvt_block_tier *hbm; /* blocks that nobody holds, or that were once held by nobody */
	kvt_block_tier *tiers[KVT_KV_TIERS_MAX];
	uint32_t n_tiers, n_kinds;
	unsigned node;
	gboolean write_through;
	uint32_t closed;   /* levels that take nothing that falls, a bit each */
	gboolean windowed; /* some layers need no more than a window */
	uint32_t *map;     /* [n_pieces], the block in HBM, or KVT_NO_BLOCK */
	uint64_t kept_pages[KVT_BLOCK_KINDS_MAX]; /* of blocks that nobody holds */
	kvt_kv_sequence *sequences;
	uint32_t n_sequences, free_sequence;
	kvt_kv_move_state *moves;
	uint32_t n_moves, free_move;
	uint32_t stamp;
	uint32_t *missing; /* scratch: blocks of a prompt that are not in HBM */
	uint32_t missing_room;
	uint64_t n_foreign;   /* holds by loads of other replicas */
	kvt_kv_count *counts; /* [n_tenants] */
};

/* One call of the interface: the moves it makes, one from each place to each. */
typedef struct kvt_kv_call {
	kvt_kv_manager *manager;
	kvt_kv_moves *out;
	uint32_t tenant, sequence;
	gboolean counted; /* its loads were counted as hits */
	gboolean moved;   /* the tables below have been set */
	uint32_t stores[KVT_KV_LEVELS][KVT_KV_LEVELS];
	uint32_t keeps[KVT_KV_LEVELS]; /* stores of what stays in HBM */
	uint32_t loads[KVT_KV_LEVELS], peer_loads[KVT_KV_LEVELS];
} kvt_kv_call;

/* Where a piece is best read from: a level, or KVT_KV_NOWHERE. */
#define KVT_KV_NOWHERE UINT32_MAX
typedef struct kvt_kv_place {
	uint32_t level, peer_level;
} kvt_kv_place;

static inline uint32_t kvt_kv_piece(const kvt_kv_manager *manager, uint32_t name, unsigned kind)
{
	return name * manager->n_kinds + kind;
}

static inline uint32_t kvt_kv_prompt_piece(
	const kvt_kv_manager *manager, const kvt_kv_prompt *prompt, uint32_t block, unsigned kind)
{
	return kvt_kv_piece(manager,
		kvt_block_names_get(manager->names, prompt->tenant, prompt->ids[block]), kind);
}

static inline unsigned kvt_kv_piece_kind(const kvt_kv_manager *manager, uint32_t piece)
{
	return manager->n_kinds == 1 ? 0 : piece % manager->n_kinds;
}

static inline kvt_block *kvt_kv_block(const kvt_kv_manager *manager, uint32_t block)
{
	return &manager->allocator->blocks[block];
}

/* Tokens of a prompt that block number `block` has a place for. */
static inline uint32_t kvt_kv_block_share(
	const kvt_kv_manager *manager, uint64_t tokens, uint32_t block)
{
	uint64_t start = (uint64_t)block * manager->shape->block_tokens;
	return (uint32_t)MIN(tokens - start, manager->shape->block_tokens);
}

/* The piece of a block that a sequence holds by name. */
static inline uint32_t kvt_kv_sequence_piece(const kvt_kv_manager *manager,
	const kvt_kv_sequence *sequence, uint32_t block, unsigned kind)
{
	return kvt_kv_prompt_piece(manager, &sequence->prompt, block, kind);
}

static inline gboolean kvt_kv_is_global(const kvt_kv_manager *manager, unsigned kind)
{
	return manager->shape->kinds[kind].attention == KVT_ATTENTION_GLOBAL;
}

/* kv_manager.c */

/* One more holder of a piece that is in HBM; one less: what nobody holds is kept or freed. */
void kvt_kv_hold(kvt_kv_manager *manager, uint32_t piece);
void kvt_kv_release(kvt_kv_manager *manager, uint32_t tenant, uint32_t piece);

/* What nobody holds: kept when it is whole and there, freed otherwise. */
void kvt_kv_settle(kvt_kv_manager *manager, uint32_t tenant, uint32_t piece);

/* A block in HBM, for which others are evicted if need be; KVT_NO_BLOCK when too much is held. */
uint32_t kvt_kv_allocate(
	kvt_kv_call *call, kvt_kv_sequence *sequence, unsigned kind, uint32_t tokens);
/* Evicts until so many pages of a kind can be had. */
gboolean kvt_kv_make_room(kvt_kv_call *call, unsigned kind, uint32_t n_pages);

kvt_kv_sequence *kvt_kv_get_sequence(const kvt_kv_manager *manager, uint32_t sequence);

/* kv_moves.c */

void kvt_kv_call_begin(kvt_kv_call *call, kvt_kv_manager *manager, kvt_kv_moves *out,
	uint32_t tenant, uint32_t sequence);
/* Lists the moves: stores from the furthest tier on, then loads. */
void kvt_kv_call_end(kvt_kv_call *call);

/* A piece that leaves `from`, and may be reused at once, goes to the next tier below with room,
 * unless the next one has it. */
void kvt_kv_fall(kvt_kv_call *call, uint32_t from, uint32_t piece, uint32_t tenant);
/* A piece that stays in HBM, held until that is done, goes to the first tier, too. */
void kvt_kv_keep_below(kvt_kv_call *call, uint32_t piece);
/* A piece of HBM that is LOADING comes from a place where it has been pinned. */
void kvt_kv_load(kvt_kv_call *call, kvt_kv_place place, kvt_kv_manager *peer, uint32_t piece);
/* A sequence's own blocks go to a level or come from there; at once in the list. */
uint32_t kvt_kv_move_own(kvt_kv_call *call, kvt_kv_move_kind kind, uint32_t level, uint64_t bytes);
/* Evicts from a tier until there is room; false when too much is held, and then nothing was. */
gboolean kvt_kv_tier_room(kvt_kv_call *call, uint32_t level, uint64_t bytes);

/* kv_match.c */

/* Where a piece that is not in HBM is best read from. */
kvt_kv_place kvt_kv_locate_below(
	const kvt_kv_manager *manager, const kvt_kv_manager *peer, uint32_t piece);
/* Pins a piece at a place outside HBM, and undoes that. */
void kvt_kv_pin_place(kvt_kv_manager *manager, kvt_kv_manager *peer, kvt_kv_place place,
	uint32_t tenant, uint32_t piece);
void kvt_kv_unpin_place(const kvt_kv_manager *manager, kvt_kv_manager *peer, kvt_kv_place place,
	uint32_t tenant, uint32_t piece);

/* Blocks of a prompt that its tokens reach: ids beyond them are not looked at. */
static inline uint32_t kvt_kv_named_blocks(
	const kvt_kv_manager *manager, const kvt_kv_prompt *prompt)
{
	return (uint32_t)MIN(prompt->n_ids, kvt_block_shape_blocks(manager->shape, prompt->tokens));
}

/* The first block of a kind that is needed when the prefix of `blocks` blocks is there. */
uint32_t kvt_kv_needed_from(
	const kvt_kv_manager *manager, const kvt_kv_prompt *prompt, unsigned kind, uint32_t blocks);

/* kv_admit.c */

/* What admit and swap_in share: holds and loads what was matched, and gives global layers room for
 * `tokens` tokens. 0 or -ENOSPC, then nothing is held. */
int kvt_kv_place_sequence(
	kvt_kv_call *call, kvt_kv_sequence *sequence, const kvt_kv_match *match, uint64_t tokens);
/* Room of one kind for the first `tokens` tokens. */
int kvt_kv_grow(kvt_kv_call *call, kvt_kv_sequence *sequence, unsigned kind, uint64_t tokens);

/* kv_sequence.c */

/* Gives up everything the sequence holds, last blocks first; with write_through, what is not in the
 * first tier goes there, unless `call` is NULL. */
void kvt_kv_release_sequence(kvt_kv_manager *manager, kvt_kv_call *call, kvt_kv_sequence *sequence);
void kvt_kv_free_sequence(kvt_kv_manager *manager, uint32_t sequence);
/* Lets go what windows no longer need after `tokens` tokens. */
void kvt_kv_slide(kvt_kv_manager *manager, kvt_kv_sequence *sequence, uint64_t tokens);
/* Frees a chain of blocks of its own. */
void kvt_kv_free_chain(kvt_kv_manager *manager, unsigned kind, uint32_t block);

#endif
