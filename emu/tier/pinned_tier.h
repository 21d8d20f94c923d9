/*
 * pinned_tier.h: the tier of this machine's memory: pages in one mapping, copied in and out,
 * verified on the way out. The modelled one is sim/tier/memory_tier.c's.
 */
#ifndef KVT_PINNED_TIER_H
#define KVT_PINNED_TIER_H

#include "sim/tier/tier.h"

/* `tier = memory`. The loop of its environment is a real one. */
extern const kvt_tier_ops kvt_tier_memory;

/* Bytes of pages, where they lie and where they go. */
typedef struct kvt_pinned_run {
	void *to;
	const void *from;
	uint64_t bytes;
} kvt_pinned_run;

/* Pages that follow each other where they go to, for who moves them to verify there. */
typedef struct kvt_pinned_check {
	const void *to; /* where the first one goes */
	uint64_t page_bytes, n;
	const uint64_t *sums; /* kvt_page_checksum of each, the tier's until moved */
} kvt_pinned_check;

typedef enum kvt_pinned_verify {
	KVT_PINNED_TRUST,
	KVT_PINNED_IN_PLACE, /* by the tier, where they lie, while they are moved */
	KVT_PINNED_MOVED,    /* by who moves them, where they went */
} kvt_pinned_verify;

/*
 * A read whose bytes somebody else moves, a GPU say, from where they lie: as submit, of an I/O with
 * memory. `runs` (kvt_pinned_run, empty before) gets what is to be moved, in the order of the I/O's
 * pages; neighbours in both places are one. It stays as it is, whatever is discarded or written
 * meanwhile, until kvt_pinned_tier_moved, which must be called once; where no run is left, because
 * pages are not there, it must not be. With KVT_PINNED_MOVED `checks` (kvt_pinned_check, empty
 * before, else NULL) gets the same pages in the same order. The I/O completes when they were moved
 * and verified, as any other.
 */
int kvt_pinned_tier_read_in_place(
	kvt_tier *tier, kvt_io *io, kvt_pinned_verify verify, GArray *runs, GArray *checks);

/* Before moved: the page whose checksum `sum` is, one of its checks', did not arrive as it was
 * written: the read ends with -EBADMSG, and the page is forgotten if it is wrong where it lies. */
void kvt_pinned_tier_wrong(kvt_io *io, const uint64_t *sum);

/* On the loop, not within read_in_place: the runs of a read in place were moved, or (status: a
 * negative errno) were not. The I/O's done may run within. */
void kvt_pinned_tier_moved(kvt_io *io, int status);

/* The memory that all pages are in, to be made known to a device. */
void *kvt_pinned_tier_region(kvt_tier *tier, uint64_t *bytes);

/* Where a page lies, or NULL; for tests, which change it there. */
void *kvt_pinned_tier_page(kvt_tier *tier, uint32_t tenant, const kvt_extent *page);

#endif
