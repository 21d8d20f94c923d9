/*
 * striped_tier.h: two tiers as one: every page has its home in one of them, so that a given share
 * is in the second. An I/O is complete when both parts are, and fails when either does: then none
 * of its pages becomes readable.
 */
#ifndef KVT_STRIPED_TIER_H
#define KVT_STRIPED_TIER_H

#include "sim/tier/tier.h"

enum { KVT_STRIPE_PAGES = 16 };

/*
 * Pages go to the tiers by stripes of KVT_STRIPE_PAGES, spread evenly, `second_share` (0..1, to a
 * millionth) of them to the second. In each tier a context's stripes lie one after the other, so a
 * run is one run there too, under page numbers that only this tier knows: the two are its alone to
 * use but for their statistics. They stay the caller's to close, after it.
 */
kvt_tier *kvt_striped_tier_new(
	const kvt_tier_env *env, kvt_tier *first, kvt_tier *second, double second_share);

#endif
