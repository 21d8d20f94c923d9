/*
 * ring_internal.h: what a ring of tiers is made of, for its own files: ring_tier.c (parts, and what
 * they hold), ring_read.c, ring_write.c. Nobody else's.
 */
#ifndef KVT_RING_INTERNAL_H
#define KVT_RING_INTERNAL_H

#include "sim/tier/page_map.h"
#include "sim/tier/page_store.h"
#include "sim/tier/resubmit.h"
#include "sim/tier/ring_tier.h"

typedef struct kvt_ring kvt_ring;
typedef struct kvt_ring_io kvt_ring_io;

typedef struct kvt_ring_part {
	kvt_tier *tier;
	kvt_resubmit queue;
	kvt_page_map *held; /* pages that it has as the ring last wrote them */
	unsigned failed;    /* I/Os in a row */
	bool out;
	kvt_time out_until;
	uint64_t writing; /* bytes of writes in flight */
} kvt_ring_part;

/* Pages of an I/O within one stripe, or one page of them. */
typedef struct kvt_ring_piece {
	kvt_extent extent;
	void *memory;   /* NULL: nowhere */
	uint64_t asked; /* parts of which a read was refused or failed: a bit each */
	bool split;     /* into others */
	bool stored;    /* by a write, somewhere */
} kvt_ring_piece;

/* What one part does of an I/O. */
typedef struct kvt_ring_share {
	kvt_ring_io *owner;
	unsigned part;
	kvt_io io;
	GArray *extents; /* kvt_extent */
	GArray *memory;  /* void *, of each */
	GArray *pieces;  /* guint: which of the I/O's */
	bool done;
	struct kvt_ring_share *next;
} kvt_ring_share;

struct kvt_ring_io {
	kvt_ring *ring;
	kvt_io *io;
	uint64_t bytes;
	bool begun; /* its pages are booked */
	kvt_page_ticket ticket;
	GArray *pieces;                           /* kvt_ring_piece */
	kvt_ring_share *shares;                   /* all of them, the last first */
	kvt_ring_share *open[KVT_RING_PARTS_MAX]; /* to be submitted */
	unsigned pending;                         /* shares under way */
	int status;
	kvt_ring_io *next; /* free, or of the writes in flight */
};

struct kvt_ring {
	kvt_tier base;
	kvt_tier_ops ops; /* its own copy: flags are the parts' */
	kvt_loop *loop;
	kvt_ring_settings settings;
	kvt_ring_places *places;
	kvt_ring_part parts[KVT_RING_PARTS_MAX];
	unsigned n;
	kvt_page_store *pages; /* as who uses the ring sees them */
	kvt_tier_stats stats;
	kvt_ring_counts counts;
	kvt_ring_io *writing, *free_ios;
	kvt_ring_share *free_shares;
	GPtrArray *ios, *shares; /* every one ever made, to free them */
};

/* The parts in the order in which the piece belongs to them. */
const uint8_t *kvt_ring_order(const kvt_ring *ring, uint32_t tenant, const kvt_extent *piece);

/* Whether a part is to be asked now. */
bool kvt_ring_part_lives(const kvt_ring *ring, const kvt_ring_part *part);

/* An I/O of the part has ended. */
void kvt_ring_part_ended(kvt_ring *ring, kvt_ring_part *part, int status);

/* Whether a part has a run, in the version that the ring wrote last, or nobody has since. */
bool kvt_ring_has(kvt_ring *ring, unsigned part, uint32_t tenant, const kvt_extent *run);

/* Takes a run from a part, but for what a write in flight has just stored there. */
void kvt_ring_take_back(kvt_ring *ring, unsigned part, uint32_t tenant, const kvt_extent *run);

/* Adds a piece to what its part is to be asked. */
void kvt_ring_add(kvt_ring_io *split, guint piece, unsigned part);

/* Submits what was added. `first`: nothing is under way, so that a part that is full refuses the
 * whole with -EAGAIN; otherwise it waits, and the result is 0. */
int kvt_ring_submit_open(kvt_ring_io *split, bool first);

/* Reads: which part each piece from `from` on comes from; false when there is none for one. */
bool kvt_ring_read_assign(kvt_ring_io *split, guint from);
void kvt_ring_read_done(kvt_ring_share *share);

/* Writes: where the pieces go; 0, or -ENOSPC, or -EIO when no part lives. */
int kvt_ring_write_assign(kvt_ring_io *split);
void kvt_ring_write_done(kvt_ring_share *share);
/* All shares are done: books what is stored where; returns what the whole completes with. */
int kvt_ring_write_end(kvt_ring_io *split);

#endif
