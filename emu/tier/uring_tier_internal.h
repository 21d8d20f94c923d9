/*
 * uring_tier_internal.h: what the files of the tier of real drives share: uring_tier.c
 * (operations), uring_parts.c (pieces of I/Os on their way), uring_read.c and uring_write.c. For
 * these alone.
 */
#ifndef KVT_URING_TIER_INTERNAL_H
#define KVT_URING_TIER_INTERNAL_H

#include "emu/loop/helper_pool.h"
#include "emu/tier/uring_tier.h"
#include "sim/tier/page_store.h"

typedef struct uring_tier uring_tier;
typedef struct uring_io uring_io;

/* Bytes of one I/O that move at once; pooled. */
typedef struct uring_part {
	kvt_raw_io raw;
	kvt_helper_task task;
	uring_io *io;
	/* of a read: pages of a piece, where they are once read, and where they go from there */
	unsigned piece;
	uint64_t first, n_pages; /* first: in the piece */
	uint8_t *pages, *copy_to;
	bool bad; /* a page of it is */
	uint8_t *buffer;
	uint64_t buffer_bytes;
	struct uring_part *next_free;
} uring_part;

/* One of a write: a ticket and the pages that it is for. */
typedef struct uring_record {
	kvt_store_ticket ticket;
	kvt_extent pages;
	const uint8_t *home; /* NULL: zeros */
	uint64_t header_at;  /* in the I/O's headers */
} uring_record;

/* An I/O on its way; pooled. */
struct uring_io {
	uring_tier *tier;
	kvt_io *io;
	uint64_t bytes;
	bool in_use, begun, waiting;
	bool complete; /* of a write: all is on the device */
	bool stale;    /* of a write: the store had newer versions of some pages */
	kvt_page_ticket ticket;
	kvt_helper_task task;
	/* Of a read, pieces, and for each where its pages go, or NULL; of a write, records. */
	GArray *pieces, *homes, *records;
	uint8_t *headers; /* of all records */
	uint64_t header_bytes;
	const uint8_t *zeros;
	/* the part to come: of which piece or record, and from which page or byte on */
	unsigned at;
	uint64_t offset;
	unsigned parts; /* on their way */
	bool syncing;
	int status;
	uring_io *next;              /* that waits in its class, or is free */
	uring_io *earlier, *younger; /* writes in flight */
};

typedef struct uring_class {
	uring_io *first, *last;
	unsigned parts;
} uring_class;

struct uring_tier {
	kvt_tier base;
	kvt_loop *loop;
	kvt_io_engine *engine;
	kvt_helper_pool *helpers;
	kvt_store *store;
	/* Those over the same store, of the one that owns it; and of these that one. */
	GPtrArray *beside;
	uring_tier *owner;
	kvt_page_store *pages; /* the contract's rules; the store knows places */
	kvt_tier_stats stats;
	kvt_uring_counts counts;
	GString *notice;
	uint64_t model, max_transfer;
	bool sync;
	unsigned max_ios, in_flight, max_parts; /* max_parts: of one class */
	uring_class classes[KVT_PRIORITY_CLASSES];
	uring_io *oldest, *newest; /* writes in flight */
	uring_io *free_ios;
	uring_part *free_parts;
	GPtrArray *ios, *all_parts; /* every one ever made, to free them */
	/* for writes without memory: as much as a part or a page has; and all that ever were */
	uint8_t *zeros;
	uint64_t zero_bytes;
	GPtrArray *all_zeros;
};

static inline uint64_t uring_blocks_up(uint64_t bytes)
{
	return (bytes + KVT_STORE_BLOCK - 1) / KVT_STORE_BLOCK * KVT_STORE_BLOCK;
}

static inline bool uring_aligned(uint64_t a)
{
	return a % KVT_STORE_BLOCK == 0;
}

/* --- uring_parts.c --- */

uring_io *kvt_uring_take_io(uring_tier *tier, kvt_io *io, uint64_t bytes);
void kvt_uring_give_io(uring_io *io);

/* Where the pages of extent i lie, or NULL. */
uint8_t *kvt_uring_home(const kvt_io *io, unsigned i);

/* A part of the I/O, counted; its buffer has at least that many bytes. */
uring_part *kvt_uring_take_part(uring_io *io, uint64_t buffer_bytes);
/* Gives the part to the engine. */
void kvt_uring_move_part(uring_part *part, void (*done)(kvt_raw_io *raw));
/* The part has ended with that status: goes on with its I/O. */
void kvt_uring_end_part(uring_part *part, int status);

/* Puts the I/O in its class's queue, for parts to be made of it. */
void kvt_uring_enqueue(uring_io *io);
/* Begins as many parts as may be on their way. */
void kvt_uring_pump(uring_tier *tier);

/* Ends the I/O with its status: books, counts, reports. */
void kvt_uring_finish(uring_io *io);

/* Makes the contract's books forget what the store no longer has of a run. */
void kvt_uring_forget_lost(uring_tier *tier, uint32_t tenant, const kvt_extent *extent);

/* --- uring_read.c, uring_write.c --- */

/* Finds or reserves; sets io->status on failure. */
void kvt_uring_begin_read(uring_io *io);
void kvt_uring_begin_write(uring_io *io);

/* The next part, begun; false when there is none left. */
bool kvt_uring_next_read(uring_io *io);
bool kvt_uring_next_write(uring_io *io);

/* All parts of the I/O have ended. */
void kvt_uring_end_read(uring_io *io);
void kvt_uring_end_write(uring_io *io);

/* Drops what a write in flight has reserved. */
void kvt_uring_abandon(uring_io *io);

#endif
