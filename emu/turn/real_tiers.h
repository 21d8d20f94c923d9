/*
 * real_tiers.h: the kinds of tier of the emulation, as sim/tier/tier_registry.c has the modelled
 * ones. A new kind is one line in real_tiers.c.
 */
#ifndef KVT_REAL_TIERS_H
#define KVT_REAL_TIERS_H

#include "sim/tier/tier.h"

/* NULL-terminated, in the order help shows them. */
const kvt_tier_ops *const *kvt_real_tiers(void);

/* The real kind of that name, or NULL. */
const kvt_tier_ops *kvt_real_tier_find(const char *name);

#endif
