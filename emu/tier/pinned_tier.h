/*
 * pinned_tier.h: the tier of this machine's memory: pages in one mapping, copied in and out,
 * verified on the way out. The modelled one is sim/tier/memory_tier.c's.
 */
#ifndef KVT_PINNED_TIER_H
#define KVT_PINNED_TIER_H

#include "sim/tier/tier.h"

/* `tier = memory`. The loop of its environment is a real one. */
extern const kvt_tier_ops kvt_tier_memory;

/* Where a page lies, or NULL; for tests, which change it there. */
void *kvt_pinned_tier_page(kvt_tier *tier, uint32_t tenant, const kvt_extent *page);

#endif
