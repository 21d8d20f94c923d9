/*
 * block_tier.h: which pieces one tier of the cache holds: DRAM or NVMe of a node, a pool of several
 * nodes, a CXL expander; also what HBM keeps of requests that have ended. Capacity in bytes, the
 * order of eviction by any policy of sim/cache, pins, quotas and counters a tenant. A tier may be
 * in the chains of several replicas. It says what is where, moves nothing and knows no time.
 *
 * A piece (block_shape.h) is a number, block name x kinds + kind. It is absent, arriving (it has
 * room, cannot be read and does not leave), or there. Tenants' blocks have different names, so a
 * tier cannot confuse them.
 */
#ifndef KVT_BLOCK_TIER_H
#define KVT_BLOCK_TIER_H

#include <stdbool.h>

#include "sim/cache/policy.h"
#include "sim/fleet/block_names.h"
#include "sim/fleet/block_shape.h"
#include "sim/fleet/tier_homes.h"

#define KVT_NO_PIECE UINT32_MAX

typedef enum kvt_piece_state {
	KVT_PIECE_ABSENT,
	KVT_PIECE_ARRIVING,
	KVT_PIECE_THERE,
} kvt_piece_state;

typedef struct kvt_block_tier_settings {
	const char *name;
	const kvt_policy_ops *policy; /* one that needs the future reads next_use below */
	uint64_t capacity;            /* bytes */
	uint32_t n_kinds;             /* pieces a block */
	uint64_t piece_bytes[KVT_BLOCK_KINDS_MAX];
	const kvt_block_names *names; /* sealed; borrowed while the tier is made */
	const uint64_t *quotas;       /* [names->n_tenants], bytes, 0 none; NULL: none has one */
	/* Pins are many and long, as in HBM, where running requests hold what they use: policies
	 * see a piece when it is unpinned, as a new one that was used as often as it was pinned (up
	 * to KVT_BLOCK_USES_MAX times), so that none has to search among what is held. */
	gboolean hides_pinned;
} kvt_block_tier_settings;

enum { KVT_BLOCK_USES_MAX = 7 };

/* Those of a tier that holds blocks as they are outside HBM. */
static inline kvt_block_tier_settings kvt_block_tier_settings_of(const kvt_block_shape *shape,
	const char *name, const kvt_policy_ops *policy, uint64_t capacity,
	const kvt_block_names *names, const uint64_t *quotas)
{
	kvt_block_tier_settings settings = { .name = name,
		.policy = policy,
		.capacity = capacity,
		.n_kinds = shape->n_kinds,
		.names = names,
		.quotas = quotas };
	for (unsigned kind = 0; kind < shape->n_kinds; kind++)
		settings.piece_bytes[kind] = kvt_block_shape_saved_bytes(shape, kind);
	return settings;
}

/* What a tenant has and has had in a tier: of pieces that are charged to it, as it brought them in.
 * With one kind of layers a piece is a block. */
typedef struct kvt_block_tier_count {
	uint64_t pieces, bytes; /* now: there or arriving, bytes with what is reserved */
	uint64_t peak_bytes;
	uint64_t in_pieces, in_bytes;     /* that entered, those that failed to arrive included */
	uint64_t read_pieces, read_bytes; /* that loads read */
	uint64_t out_pieces, out_bytes;   /* that left because others needed the room */
	uint64_t failed_pieces;           /* that did not arrive, or could not be read */
	uint64_t refused_pieces;          /* that found no room: all the rest was pinned */
} kvt_block_tier_count;

typedef struct kvt_block_tier {
	char *name;
	uint64_t capacity;
	uint64_t bytes;      /* in use: pieces and what is reserved */
	uint64_t held_bytes; /* of those: pinned, arriving or reserved, so that they cannot leave */
	uint64_t peak_bytes;
	uint32_t n_pieces, n_tenants, n_kinds;
	uint64_t piece_bytes[KVT_BLOCK_KINDS_MAX];
	kvt_block_tier_count *counts; /* [n_tenants] */
	uint32_t *next_use; /* [n_pieces], to be set before a piece enters or is touched: when it is
			       used next, UINT32_MAX never; NULL where the policy does not care */
	uint32_t *link;     /* [n_pieces], the mover's, of pieces that arrive */
	kvt_tier_homes *homes; /* of a pool of several nodes; NULL: it is in one place. Borrowed */
	unsigned writer;       /* node, to be set before a piece enters a pool */
	/* private */
	uint8_t *state;  /* [n_pieces], kvt_piece_state */
	uint8_t *pinned; /* [n_pieces], 0 or 1 */
	uint8_t *uses;   /* [n_pieces], times it was pinned; NULL unless pinned ones are hidden */
	uint16_t *pins;  /* [n_pieces] */
	uint16_t *owner; /* [n_pieces], the tenant it is charged to */
	kvt_policy *policy;
	uint64_t *quotas;             /* [n_tenants], 0: none; NULL: no one has one */
	kvt_policy **tenant_policies; /* [n_tenants], of those with a quota */
	uint32_t *tenant_start;       /* [n_tenants], the piece that is number 0 in it */
} kvt_block_tier;

kvt_block_tier *kvt_block_tier_new(const kvt_block_tier_settings *settings);
void kvt_block_tier_free(kvt_block_tier *tier);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_block_tier, kvt_block_tier_free)

static inline uint64_t kvt_block_tier_piece_bytes(const kvt_block_tier *tier, uint32_t piece)
{
	return tier->piece_bytes[tier->n_kinds == 1 ? 0 : piece % tier->n_kinds];
}

static inline kvt_piece_state kvt_block_tier_state(const kvt_block_tier *tier, uint32_t piece)
{
	return (kvt_piece_state)tier->state[piece];
}

static inline bool kvt_block_tier_has(const kvt_block_tier *tier, uint32_t piece)
{
	return tier->state[piece] == KVT_PIECE_THERE;
}

static inline bool kvt_block_tier_has_room(const kvt_block_tier *tier, uint64_t bytes)
{
	return tier->bytes + bytes <= tier->capacity;
}

/* Whether there would be room if all left that can. */
static inline bool kvt_block_tier_can_have_room(const kvt_block_tier *tier, uint64_t bytes)
{
	return tier->held_bytes + bytes <= tier->capacity;
}

/* Says which absent piece a tenant brings next, before victims are asked for. */
void kvt_block_tier_announce(kvt_block_tier *tier, uint32_t tenant, uint32_t piece);

/*
 * The piece that should leave so that `tenant` can have `bytes`; KVT_NO_PIECE when all are pinned.
 * A tenant that would be above its quota gives up its own first; else he does who is furthest above
 * his; else the policy chooses among all. So a tenant that stays below its quota loses nothing to
 * others where everyone has one and they fit into the tier together.
 */
uint32_t kvt_block_tier_victim(kvt_block_tier *tier, uint32_t tenant, uint64_t bytes);

/* An absent piece takes room, which there is: arriving, or there at once. */
void kvt_block_tier_enter(
	kvt_block_tier *tier, uint32_t tenant, uint32_t piece, kvt_piece_state state);

/* An arriving piece is there, or has failed and is absent. */
void kvt_block_tier_arrived(kvt_block_tier *tier, uint32_t piece, bool intact);

/* A piece that is there and not pinned leaves; `evicted`: it was victim()'s last answer. */
void kvt_block_tier_remove(kvt_block_tier *tier, uint32_t piece, bool evicted);

/* Another use of a piece that is there. */
void kvt_block_tier_touch(kvt_block_tier *tier, uint32_t piece);

/* The same use goes on or ends, some time after its touch: it is recent, but not used once more. */
void kvt_block_tier_renew(kvt_block_tier *tier, uint32_t piece);

/* A piece that is there does not leave until it was unpinned as often as it was pinned. Where
 * hides_pinned is not set, policies may put aside what they find pinned: it is to be touched or
 * renewed when it is unpinned. */
void kvt_block_tier_pin(kvt_block_tier *tier, uint32_t piece);
void kvt_block_tier_unpin(kvt_block_tier *tier, uint32_t piece);

/* Bytes without a name, of requests that were swapped out: room there is, until it is given back.
 */
void kvt_block_tier_reserve(kvt_block_tier *tier, uint32_t tenant, uint64_t bytes);
void kvt_block_tier_unreserve(kvt_block_tier *tier, uint32_t tenant, uint64_t bytes);

/* Asserts that tables, counters and pins agree, in O(pieces); for tests. */
void kvt_block_tier_check(const kvt_block_tier *tier);

#endif
