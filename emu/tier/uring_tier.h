/*
 * uring_tier.h: the tier of real drives: pages in a page store (emu/store/store.h), moved by the
 * I/O engine (emu/io/io_engine.h), every page's checksum verified when it arrives. What it may
 * answer is tier.h's contract; that a page is whole, and where it lies, is the store's.
 */
#ifndef KVT_URING_TIER_H
#define KVT_URING_TIER_H

#include "emu/io/io_engine.h"
#include "emu/store/store.h"
#include "sim/tier/tier.h"

/* `tier = store`: opens the store at `path`, or makes one. The loop of its environment is a real
 * one. Memory of I/Os may lie anywhere; what lies at multiples of 4 KiB is not copied. */
extern const kvt_tier_ops kvt_tier_store;

typedef struct kvt_uring_counts {
	uint64_t direct_bytes,
		copied_bytes; /* moved to and from I/Os' memory; by way of a buffer */
	uint64_t verified_pages, bad_pages;
	uint64_t lost_pages; /* that the store had to forget, beside bad ones */
	uint64_t gathered;   /* times that a write had to wait for the store's gc */
} kvt_uring_counts;

kvt_uring_counts kvt_uring_tier_counts(const kvt_tier *tier);

/*
 * A tier of the same store's pages of another model (as kvt_store_run's), over the same engine and
 * threads: with books, figures and queues of its own, and the other's capacity. Of the first tier's
 * own model it is that one. Closing the first tier closes those that are left.
 */
kvt_tier *kvt_uring_tier_beside(kvt_tier *tier, uint64_t model);

/* For tests, calibration and talk. They stay the tier's. */
kvt_io_engine *kvt_uring_tier_engine(kvt_tier *tier);
kvt_store *kvt_uring_tier_store(kvt_tier *tier);

#endif
