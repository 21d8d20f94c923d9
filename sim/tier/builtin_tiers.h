/* builtin_tiers.h: the tier kinds of the simulator, one line each; tier_registry.c lists them. */
#ifndef KVT_BUILTIN_TIERS_H
#define KVT_BUILTIN_TIERS_H

#include "sim/tier/tier.h"

extern const kvt_tier_ops kvt_tier_hbm;         /* memory_tier.c */
extern const kvt_tier_ops kvt_tier_dram;        /* memory_tier.c */
extern const kvt_tier_ops kvt_tier_remote_dram; /* memory_tier.c */
extern const kvt_tier_ops kvt_tier_nvme;        /* nvme_tier.c */
extern const kvt_tier_ops kvt_tier_remote_nvme; /* nvme_tier.c */
extern const kvt_tier_ops kvt_tier_null;        /* null_tier.c */

#endif
