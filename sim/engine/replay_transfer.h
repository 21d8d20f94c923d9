/*
 * replay_transfer.h: a replay's reads and writes of pages on their way to the storage tier:
 * prefetches take turns, what the tier refuses is offered again, what fails is made again, and of a
 * read that fails all the same it is found out which pages are lost. It moves what it is told and
 * keeps the times; it decides nothing.
 */
#ifndef KVT_REPLAY_TRANSFER_H
#define KVT_REPLAY_TRANSFER_H

#include "sim/cache/extent_list.h"
#include "sim/core/timeline.h"
#include "sim/engine/replay_device.h"
#include "sim/tier/tier.h"

typedef enum kvt_transfer_kind {
	KVT_TRANSFER_DEMAND, /* in the order of priority */
	KVT_TRANSFER_PREFETCH,
	KVT_TRANSFER_WRITE,
	KVT_TRANSFER_KINDS,
} kvt_transfer_kind;

typedef struct kvt_transfer kvt_transfer;
typedef struct kvt_transfers kvt_transfers;

struct kvt_transfer {
	kvt_io io; /* stays first */
	kvt_transfers *owner;
	kvt_transfer_kind kind;
	kvt_extent_list list;
	/* of a write: a copy of the list's pages, one after another, to be written instead of what
	 * the device has; and whether it may fail, and is done then, too */
	void *copy;
	bool may_fail;
	/* of a read that failed: runs that are read by themselves (kvt_extent), the one that is,
	 * bytes that came, and the pages that did not */
	GArray *suspects;
	kvt_extent suspect;
	uint64_t came;
	kvt_extent_list lost;
	void **memory; /* [memory_size], where the list's runs lie */
	unsigned memory_size;
	bool active;    /* wanted, and not done yet */
	bool held;      /* wanted, but has to wait for something */
	bool searching; /* for lost pages */
	kvt_time wanted, released, accepted, completed;
	unsigned attempts;
	kvt_transfer *next; /* in a queue */
	void (*done)(void *arg, kvt_transfer *transfer);
	void *arg;
};

typedef struct kvt_transfers_spec {
	kvt_loop *loop;
	kvt_tier *tier;
	kvt_timeline *timeline;    /* may be NULL */
	kvt_replay_device *device; /* whose memory pages move to and from; may be NULL */
	unsigned prefetch_depth;
	/* The tier does not deliver these pages of a read: makes them again, and returns how long
	 * that takes; the transfer is done then. NULL: the I/O cannot be done. */
	kvt_time (*lost)(void *arg, kvt_transfer *transfer, const kvt_extent_list *pages);
	/* an I/O cannot be done: status is a negative errno; nothing more is submitted */
	void (*failed)(void *arg, kvt_transfer *transfer, int status);
	void *arg; /* of both */
} kvt_transfers_spec;

kvt_transfers *kvt_transfers_new(const kvt_transfers_spec *spec);
void kvt_transfers_free(kvt_transfers *transfers);

/* Readies a transfer for use, once; `done` is called on the loop each time it is over. */
void kvt_transfer_init(kvt_transfer *transfer, kvt_transfers *owner, kvt_transfer_kind kind,
	void (*done)(void *arg, kvt_transfer *transfer), void *arg);

/* Frees what a transfer that is not active owns, not itself. */
void kvt_transfer_clear(kvt_transfer *transfer);

/* Starts to move the transfer's list, which holds at least one page and is not active; with `held`,
 * once kvt_transfer_release says so. */
void kvt_transfer_start(kvt_transfer *transfer, bool held);
void kvt_transfer_release(kvt_transfer *transfer);

/* I/Os that were made again. */
uint64_t kvt_transfers_retries(const kvt_transfers *transfers);

#endif
