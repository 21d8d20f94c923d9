/*
 * block_tier.h: which pieces one tier of the cache holds: DRAM or NVMe of a node, a pool of several
 * nodes, a CXL expander; also what HBM keeps of requests that have ended. Capacity in bytes, the
 * order of eviction by any policy of sim/cache, pins, quotas and counters a tenant. A tier may be
 * in the chains of several replicas. It says what is where, moves nothing and knows no time.
 *
 * A piece is a number below n_pieces, block name x kinds + kind (kv_manager.h). It is absent,
 * arriving (room is taken, it cannot be read and does not leave), or there. Pieces of different
 * tenants have different names, so a tier cannot confuse them.
 */
#ifndef KVT_BLOCK_TIER_H
#define KVT_BLOCK_TIER_H

#include <stdbool.h>

#include "sim/cache/policy.h"
#include "sim/fleet/block_names.h"

#define KVT_NO_PIECE UINT32_MAX

typedef enum kvt_piece_state {
	KVT_PIECE_ABSENT,
	KVT_PIECE_ARRIVING,
	KVT_PIECE_THERE,
} kvt_piece_state;

typedef struct kvt_block_tier_settings {
	const char *name;
	const kvt_policy_ops *policy; /* one that needs the future gets what next_use says */
	uint64_t capacity;            /* bytes */
	uint64_t piece_bytes_min;     /* of the smallest piece: bounds their number */
	uint32_t n_kinds;             /* pieces a block */
	const kvt_block_names *names; /* sealed; borrowed */
	const uint64_t *quotas;       /* [names->n_tenants], bytes, 0 none; NULL: none has one */
} kvt_block_tier_settings;

/* What a tenant has and has had in a tier; a piece counts where it is charged: to the tenant that
 * brought it in. */
typedef struct kvt_block_tier_count {
	uint64_t blocks, bytes; /* now: there or arriving */
	uint64_t peak_bytes;
	uint64_t in_blocks, in_bytes;     /* that entered, failed ones included */
	uint64_t read_blocks, read_bytes; /* that were read, counted when a read begins */
	uint64_t out_blocks, out_bytes;   /* that left because others needed the room */
	uint64_t failed_blocks;           /* whose arrival failed */
	uint64_t refused_blocks;          /* that found everything pinned, or too small a tier */
} kvt_block_tier_count;

typedef struct kvt_block_tier {
	char *name;
	uint64_t capacity, bytes, reserved, peak_bytes;
	uint32_t n_pieces, n_tenants, n_kinds;
	gboolean needs_future;
	kvt_block_tier_count *counts; /* [n_tenants] */
	/* private */
	uint8_t *state;     /* [n_pieces], kvt_piece_state */
	uint8_t *pinned;    /* [n_pieces], 0 or 1 */
	uint16_t *pins;     /* [n_pieces] */
	uint16_t *owner;    /* [n_pieces], the tenant it is charged to */
	uint32_t *link;     /* [n_pieces], the next one of a move */
	uint32_t *next_use; /* [n_pieces], where the policy needs it */
	kvt_policy *policy;
	uint64_t *quotas;             /* [n_tenants], 0: none */
	kvt_policy **tenant_policies; /* [n_tenants], of those with a quota */
	uint32_t *tenant_start;       /* [n_tenants], the piece that is 0 in it */
} kvt_block_tier;

kvt_block_tier *kvt_block_tier_new(const kvt_block_tier_settings *settings, GError **error);
void kvt_block_tier_free(kvt_block_tier *tier);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_block_tier, kvt_block_tier_free)

static inline bool kvt_block_tier_has(const kvt_block_tier *tier, uint32_t piece)
{
	return tier->state[piece] == KVT_PIECE_THERE;
}

/*
 * The piece that should leave for one of `tenant`'s, or KVT_NO_PIECE when all are pinned. A tenant
 * that has its quota or more gives up its own first; for one that has less, those give who have
 * more than theirs, the furthest above first; else the policy chooses among all.
 */
uint32_t kvt_block_tier_victim(kvt_block_tier *tier, uint32_t tenant, uint64_t bytes);

/* An absent piece gets room, which there must be, and is arriving or there. */
void kvt_block_tier_enter(kvt_block_tier *tier, uint32_t piece, uint32_t tenant, uint64_t bytes,
	kvt_piece_state state);

/* Says, before victims are asked for, which absent piece room is made for. */
void kvt_block_tier_announce(kvt_block_tier *tier, uint32_t piece, uint32_t tenant);

static inline bool kvt_block_tier_has_room(const kvt_block_tier *tier, uint64_t bytes)
{
	return tier->bytes + tier->reserved + bytes <= tier->capacity;
}

/* An arriving piece is there, or has failed and is absent again. */
void kvt_block_tier_arrived(kvt_block_tier *tier, uint32_t piece, uint64_t bytes, bool intact);

/* A piece that is there and not pinned leaves; `evicted` when victim() has just named it. */
void kvt_block_tier_remove(kvt_block_tier *tier, uint32_t piece, uint64_t bytes, bool evicted);

/* Another use of a piece that is there. */
void kvt_block_tier_touch(kvt_block_tier *tier, uint32_t piece);

/* While a piece is pinned, which counts, it does not leave. */
void kvt_block_tier_pin(kvt_block_tier *tier, uint32_t piece);
void kvt_block_tier_unpin(kvt_block_tier *tier, uint32_t piece);

/* Bytes without a name, of requests that were swapped out: they take room until given back. */
void kvt_block_tier_reserve(kvt_block_tier *tier, uint32_t tenant, uint64_t bytes);
void kvt_block_tier_unreserve(kvt_block_tier *tier, uint32_t tenant, uint64_t bytes);

#endif
