/*
 * ring_tier.h: several tiers as one: stripes of pages go to their homes on a ring (ring_places.h),
 * each to as many as there are replicas. A part that fails is gone around: reads come from the next
 * that has the pages, writes go to the next that takes them.
 *
 * - A write goes to the first `replicas` parts around the ring that live and have room. It succeeds
 *   when every stripe is stored in at least one; what fails to take a new version loses the old
 * one.
 * - A read asks, stripe by stripe, the first part around the ring that lives and has it, and the
 *   next one where that ends with an error.
 * - A part of which `failures` I/Os in a row end with an error that says nothing of the pages (not
 *   -ENOENT, -EBADMSG, -ENOSPC) is left out for `retry`; then the next I/O tries it again.
 * - Pages that no living part has complete with -ENOENT; where parts that were asked failed, with
 *   the last one's error. Counted by cause.
 * - Discards go to all parts, also those left out. As tier.h says they take effect at once: a part
 *   that cannot reach its pages must not show them again before they are gone.
 * - What parts hold from before, or from others' writes, is found when it is asked for.
 *
 * To make one tier of several nodes: open each node's tier in the same env, each with its own
 * `instance`, name them by what stays when others come and go (host:port), and hand all over here.
 */
#ifndef KVT_RING_TIER_H
#define KVT_RING_TIER_H

#include "sim/tier/ring_places.h"
#include "sim/tier/tier.h"

typedef struct kvt_ring_settings {
	unsigned replicas;     /* of a page; 0: 1; more than parts: as many as parts */
	unsigned points;       /* of a part on the ring; 0: 128 */
	unsigned stripe_pages; /* 0: 16 */
	unsigned failures;     /* 0: 3 */
	kvt_time retry;        /* 0: 1 s */
	uint64_t capacity;     /* bytes of pages, replicas counted once; 0: all parts' / replicas */
} kvt_ring_settings;

/* What has been. */
typedef struct kvt_ring_counts {
	uint64_t fallbacks;       /* stripes that were read from another part after an error */
	uint64_t thin_writes;     /* stripes stored in fewer parts than there should be replicas */
	uint64_t left_out, taken; /* times that parts were left out, and taken back */
	/* reads that ended without their pages: no part has them, none of those that do lives, or
	 * the last that was asked failed, or had a wrong checksum */
	uint64_t missing, no_part, failed, corrupt;
} kvt_ring_counts;

/* Takes over n parts (1 to KVT_RING_PARTS_MAX), closed with it; `names`, of each, are copied. They
 * are its alone to use but for their statistics. */
kvt_tier *kvt_ring_tier_new(const kvt_tier_env *env, kvt_tier *const *parts,
	const char *const *names, unsigned n, const kvt_ring_settings *settings);

kvt_ring_counts kvt_ring_tier_counts(const kvt_tier *tier);

/* Whether a part is left out at present. */
bool kvt_ring_tier_leaves_out(const kvt_tier *tier, unsigned part);

#endif
