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

/*
 * A read whose bytes somebody else moves, a GPU say, from where they lie: as submit, of an I/O with
 * memory. `runs` (kvt_pinned_run, empty before) gets what is to be moved; neighbours in both places
 * are one. It stays as it is, whatever is discarded or written meanwhile, until
 * kvt_pinned_tier_moved, which must be called once; where no run is left, because pages are not
 * there, it must not be. Pages are verified in place meanwhile if `verify`. The I/O completes when
 * both are over, as any other.
 */
int kvt_pinned_tier_read_in_place(kvt_tier *tier, kvt_io *io, bool verify, GArray *runs);

/* On the loop, not within read_in_place: the runs of a read in place were moved, or (status: a
 * negative errno) were not. The I/O's done may run within. */
void kvt_pinned_tier_moved(kvt_io *io, int status);

/* The memory that all pages are in, to be made known to a device. */
void *kvt_pinned_tier_region(kvt_tier *tier, uint64_t *bytes);

/* Where a page lies, or NULL; for tests, which change it there. */
void *kvt_pinned_tier_page(kvt_tier *tier, uint32_t tenant, const kvt_extent *page);

#endif
