/*
 * lent_tier.h: a tier that somebody else owns, handed to one who closes it when he is done: that
 * does nothing to it. Memory that I/Os name is not registered with it, since the tier outlives it.
 */
#ifndef KVT_LENT_TIER_H
#define KVT_LENT_TIER_H

#include "sim/tier/tier.h"

/* `inner` must outlive it. */
kvt_tier *kvt_lent_tier_new(kvt_tier *inner);

#endif
