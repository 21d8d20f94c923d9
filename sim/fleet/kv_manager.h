/*
 * kv_manager.h: where every block of every request of one replica is: in HBM, and in the chain of
 * tiers below it, which other replicas may share. It decides what is allocated, found, kept and
 * evicted; it knows no time. What has to move is returned to the caller, who pays for it in time
 * and says when it has ended: only then does a copy count.
 *
 *   match      how much of a prompt is there, and where; changes nothing
 *   admit      a sequence: holds what is there, loads what is below, makes room for the rest
 *   ready      tokens of its prefix that are there now: loads end, others compute the same blocks
 *   extend     room for more tokens, before a step of prefill or decode computes them
 *   computed   that step has ended
 *   finish     the sequence has ended: its whole blocks stay until others need the room
 *   swap_out, swap_in    it gives HBM back and comes again
 *   drop       it is given up
 *   loaded, stored       a move has ended, well or not
 *
 * Rules that hold always: a block that anyone holds, reads or loads does not leave; a block counts
 * as present after its load or store has ended well, never before; whole blocks alone outlive their
 * sequence; tenants do not see each other's blocks (block_names.h) unless names are shared.
 * Blocks are used last to first, so that a prefix loses its end first.
 *
 * Models with several kinds of layers: global layers need a prefix whole, chunked and sliding ones
 * its last window. A prefix counts up to the longest length at which every kind has what it needs.
 * Parts that slid out of a sequence's window stay cached, older than its end, and leave before it.
 */
#ifndef KVT_KV_MANAGER_H
#define KVT_KV_MANAGER_H

#include "sim/fleet/block_allocator.h"
#include "sim/fleet/block_tier.h"

enum {
	KVT_KV_HBM = 0, /* level of HBM; the tiers follow from 1 */
	KVT_KV_TIERS_MAX = 6,
	KVT_KV_PEER = KVT_KV_TIERS_MAX + 1, /* what only another replica has */
	KVT_KV_LEVELS = KVT_KV_PEER + 1,
};

typedef struct kvt_kv_manager kvt_kv_manager;

typedef struct kvt_kv_settings {
	const kvt_block_shape *shape; /* copied */
	const kvt_block_names *names; /* sealed; borrowed */
	uint64_t hbm_bytes;           /* for KV, all ranks */
	const kvt_policy_ops *policy; /* of what HBM keeps */
	const uint64_t *hbm_quotas;   /* [n_tenants] of what HBM keeps, bytes, 0 none; or NULL */
	kvt_block_tier *const *tiers; /* from the nearest to the furthest; borrowed */
	uint32_t n_tiers;
	unsigned node;          /* that it is in, of those that pool tiers */
	gboolean write_through; /* blocks go to tier 1 when their sequence ends, not when HBM
				   evicts them */
} kvt_kv_settings;

/* What a request asks for. The ids stay the caller's and in place until the sequence has ended. */
typedef struct kvt_kv_prompt {
	uint32_t tenant;
	uint32_t n_ids;       /* 0 where a trace has none; blocks beyond them are nobody else's */
	const uint32_t *ids;  /* of the prompt's blocks in order, the last one maybe partial */
	uint64_t tokens;      /* of the prompt, at least 1 */
	uint32_t next_use;    /* for policies that need the future: when these blocks are used
				 next, UINT32_MAX never */
	kvt_kv_manager *peer; /* another replica where the session was: a source, too; or NULL */
	/* where limited, what is below HBM from block load_end on is not looked for: it is computed
	 * again */
	gboolean limited;
	uint32_t load_end;
} kvt_kv_prompt;

/* The longest prefix that is there. In blocks of `ids`; bytes as outside HBM, all kinds. */
typedef struct kvt_kv_match {
	uint32_t blocks;
	uint64_t tokens;                      /* of the prompt that they cover */
	uint32_t level_blocks[KVT_KV_LEVELS]; /* where each is best read from */
	uint64_t level_bytes[KVT_KV_LEVELS];
} kvt_kv_match;

typedef enum kvt_kv_move_kind {
	KVT_KV_LOAD,    /* into HBM: the sequence waits for it; end it with loaded() */
	KVT_KV_STORE,   /* away from HBM or down from a tier; end it with stored() */
	KVT_KV_RESTORE, /* a sequence's own blocks back into HBM; loaded() */
	KVT_KV_SAVE,    /* a sequence's own blocks out of HBM; stored() */
} kvt_kv_move_kind;

/*
 * Blocks on their way from one level to another. Room of what is evicted is used again at once: a
 * store whose `makes_room` is set has to be over before what was admitted or extended in the same
 * call writes there, and stores are listed before those that enter the room they make. Until
 * `stored`, nobody finds those blocks at `to`.
 */
typedef struct kvt_kv_move {
	uint32_t id;      /* for loaded() and stored() of the manager that returned it */
	uint8_t kind;     /* kvt_kv_move_kind */
	uint8_t from, to; /* level; KVT_KV_PEER: peer_level of the peer that was named */
	uint8_t peer_level;
	uint32_t makes_room; /* 0 or 1 */
	uint32_t n_pieces;   /* 0 for blocks without a name */
	uint64_t bytes;      /* as outside HBM */
	uint32_t sequence;   /* that it is for, UINT32_MAX: none */
} kvt_kv_move;

/* Grown as needed; the caller sets n to 0 when it has seen them. */
typedef struct kvt_kv_moves {
	kvt_kv_move *moves;
	uint32_t n, room;
} kvt_kv_moves;

static inline void kvt_kv_moves_clear(kvt_kv_moves *moves)
{
	g_free(moves->moves);
	*moves = (kvt_kv_moves){ 0 };
}

/* Bytes of a move from or to a tier that nodes pool, between the nodes where they lie. */
typedef struct kvt_kv_part {
	uint32_t from_home, to_home; /* node; KVT_NO_HOME: that end is no pool */
	uint64_t bytes;
} kvt_kv_part;

/* Hits of admitted prompts, once a request, by the level that each block came from. */
typedef struct kvt_kv_count {
	uint64_t requests;
	uint64_t lookup_blocks, lookup_tokens; /* blocks with ids; tokens of prompts */
	uint64_t hit_blocks[KVT_KV_LEVELS], hit_bytes[KVT_KV_LEVELS], hit_tokens;
	uint64_t failed_blocks; /* loads that failed: computed again, counted as hits no more */
} kvt_kv_count;

kvt_kv_manager *kvt_kv_manager_new(const kvt_kv_settings *settings, GError **error);
/* All moves have ended. */
void kvt_kv_manager_free(kvt_kv_manager *manager);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_kv_manager, kvt_kv_manager_free)

/* Whether a sequence of so many tokens, prompt and output, would fit were it alone, computed
 * `step_tokens` at a time; who does not has to be refused. */
gboolean kvt_kv_fits(const kvt_kv_manager *manager, uint64_t tokens, uint64_t step_tokens);

/* O(blocks). Blocks that are still being loaded for another sequence count as HBM's. */
void kvt_kv_match_prompt(kvt_kv_manager *manager, const kvt_kv_prompt *prompt, kvt_kv_match *match);

/*
 * Admits a sequence: its handle goes to *sequence, what was found to *match (may be NULL). Global
 * layers have room for the whole prompt from now on, windows for what was found; extend() makes
 * room for what is computed. 0, or -ENOSPC: not now, try again when a sequence or a move has ended;
 * then nothing is held, but blocks may have been evicted for it, and their moves returned (never
 * with one kind of layers).
 */
int kvt_kv_admit(kvt_kv_manager *manager, const kvt_kv_prompt *prompt, kvt_kv_moves *moves,
	kvt_kv_match *match, uint32_t *sequence);

/*
 * Tokens of the sequence whose KV is in HBM, from the first on: what was computed, what was loaded,
 * and what others computed of the same prompt meanwhile. *waiting, when given: a load is on its way
 * for the block that follows. Where it is not, that block is to be computed, even one that admit
 * had found: its load failed. At least the last token of a prompt is computed, even if all are
 * there.
 */
uint64_t kvt_kv_ready(kvt_kv_manager *manager, uint32_t sequence, gboolean *waiting);

/* Room for KV up to `tokens` tokens in all. 0, or -ENOSPC: end, drop or swap out a sequence and try
 * again; what room it did get stays the sequence's. O(1) when no page is needed. */
int kvt_kv_extend(kvt_kv_manager *manager, uint32_t sequence, uint64_t tokens, kvt_kv_moves *moves);

/* KV of the first `tokens` tokens, for which there is room, has been computed: others find whole
 * blocks of the prompt from now on. */
void kvt_kv_computed(kvt_kv_manager *manager, uint32_t sequence, uint64_t tokens);

/*
 * The sequence has ended. `ids`, where the next request of the session is known: the names of the
 * context's blocks, prompt and what was generated; whole blocks that were computed are kept under
 * them. NULL: those of the prompt alone are kept.
 */
void kvt_kv_finish(kvt_kv_manager *manager, uint32_t sequence, const uint32_t *ids, uint32_t n_ids,
	kvt_kv_moves *moves);

/* The same for a sequence that is given up: running, loading or swapped out. Moves for it go on
 * and have to be ended all the same. */
void kvt_kv_drop(kvt_kv_manager *manager, uint32_t sequence);

/*
 * Gives up HBM but not the sequence: blocks with names are released as when it ends, its own are
 * saved in the first tier with room. -ENOSPC, and nothing changes: no tier has room; drop it and
 * admit its prompt again. swap_in is admit and extend in one, for what it had; ready() says what
 * has to be computed again: nothing, unless blocks of its prompt have been evicted everywhere or
 * its own were lost. -EBUSY: a save or restore of it is on its way, try again when that has ended.
 */
int kvt_kv_swap_out(kvt_kv_manager *manager, uint32_t sequence, kvt_kv_moves *moves);
int kvt_kv_swap_in(
	kvt_kv_manager *manager, uint32_t sequence, kvt_kv_moves *moves, kvt_kv_match *match);

/* A move has ended; the first `n_intact` of its pieces arrived (n_pieces: all; of blocks without a
 * name, 1: all, 0: none). The others are not there, and who waited for them computes them. */
void kvt_kv_loaded(kvt_kv_manager *manager, uint32_t move, uint32_t n_intact);
void kvt_kv_stored(kvt_kv_manager *manager, uint32_t move, uint32_t n_intact);

/* The parts of a move that has not ended; 0 of them: neither end is a pool. They hold until the
 * next call that returns moves. */
const kvt_kv_part *kvt_kv_move_parts(const kvt_kv_manager *manager, uint32_t move, uint32_t *n);

/* Levels, a bit each, that take nothing that falls out of the one above until this is called again:
 * it goes further down, or nowhere. What is there stays, and is found. */
void kvt_kv_close_levels(kvt_kv_manager *manager, uint32_t levels);

/* What is where */

/* Blocks and bytes of HBM: kvt_block_allocator_waste, and what is kept for no sequence. */
const kvt_block_allocator *kvt_kv_allocator(const kvt_kv_manager *manager);
const kvt_block_tier *kvt_kv_hbm(const kvt_kv_manager *manager);
const kvt_kv_count *kvt_kv_counts(const kvt_kv_manager *manager, uint32_t tenant);
uint64_t kvt_kv_held_bytes(const kvt_kv_manager *manager, uint32_t sequence);

/* Checks every invariant between tables, in O(everything); for tests. */
void kvt_kv_check(const kvt_kv_manager *manager);

#endif
