/*
 * striped_tier.h: two tiers as one: every page has its home in one of them, so that a given share
 * is in the second. An I/O is complete when both parts are, and fails when either does.
 */
#ifndef KVT_STRIPED_TIER_H
#define KVT_STRIPED_TIER_H

#include "sim/tier/tier.h"

/* Pages go to the tiers by stripes, spread evenly, `second_share` (0..1) of them to the second.
 * The two tiers stay the caller's and must outlive it. */
kvt_tier *kvt_striped_tier_new(
	const kvt_tier_env *env, kvt_tier *first, kvt_tier *second, double second_share);

#endif
