/*
 * adapt.h: a fleet's feedback. Every period it looks at what links are used for and have queued,
 * and at who waits, and adapts three things: how long loads are expected to take, and so whether a
 * prefix below HBM is loaded or computed again; how many prompts load ahead of the one that is
 * computed; and whether what falls out of a tier goes to drives that others wait for. Bounds and
 * thresholds are [adapt]'s. Nothing in it is random; where it is off nothing of it exists.
 */
#ifndef KVT_ADAPT_H
#define KVT_ADAPT_H

#include "sim/fleet/fleet.h"

/* Of a fleet that has not begun, which outlives it. */
kvt_adapt *kvt_adapt_new(const kvt_fleet *fleet);
void kvt_adapt_free(kvt_adapt *adapt);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_adapt, kvt_adapt_free)

/* A request comes: it looks while there is something to see. */
void kvt_adapt_wake(kvt_adapt *adapt);

/* What it does: times that it looked, that a tier was closed to what falls, that an estimate of a
 * link and that a number of prompts ahead changed. */
typedef struct kvt_adapt_stats {
	uint64_t looks, closings, estimates, ahead_changes;
} kvt_adapt_stats;

kvt_adapt_stats kvt_adapt_get_stats(const kvt_adapt *adapt);

#endif
