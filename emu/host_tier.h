/*
 * host_tier.h: a tier that keeps pages in this process's memory: real copies with checksums, no
 * files. For emulating DRAM, and for emulation where there is no store.
 */
#ifndef KVT_HOST_TIER_H
#define KVT_HOST_TIER_H

#include "sim/tier/tier.h"

/* `tier = host-dram`. */
extern const kvt_tier_ops kvt_tier_host;

/* Where a stored page lies, for tests that change it; NULL: it is not there. */
void *kvt_host_tier_page(
	kvt_tier *tier, uint32_t tenant, uint32_t context, uint32_t layer, uint64_t page);

#endif
