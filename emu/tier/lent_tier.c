/* lent_tier.c: everything is passed on but the end. */
#include "emu/tier/lent_tier.h"

typedef struct lent_tier {
	kvt_tier base;
	kvt_tier_ops ops;
	kvt_tier *inner;
} lent_tier;

static kvt_tier *inner_of(kvt_tier *tier)
{
	return ((lent_tier *)tier)->inner;
}

static int lent_submit(kvt_tier *tier, kvt_io *io)
{
	return kvt_tier_submit(inner_of(tier), io);
}

static void lent_commit(kvt_tier *tier)
{
	kvt_tier_commit(inner_of(tier));
}

static uint64_t lent_discard(kvt_tier *tier, uint32_t tenant, const kvt_extent *extent)
{
	return inner_of(tier)->ops->discard(inner_of(tier), tenant, extent);
}

static bool lent_holds(kvt_tier *tier, uint32_t tenant, const kvt_extent *extent)
{
	return inner_of(tier)->ops->holds(inner_of(tier), tenant, extent);
}

static bool lent_preload(kvt_tier *tier, uint32_t tenant, const kvt_extent *extent)
{
	return inner_of(tier)->ops->preload(inner_of(tier), tenant, extent);
}

static const char *lent_notice(kvt_tier *tier)
{
	return inner_of(tier)->ops->notice(inner_of(tier));
}

static void lent_stats(kvt_tier *tier, kvt_tier_stats *stats)
{
	inner_of(tier)->ops->stats(inner_of(tier), stats);
}

static void lent_close(kvt_tier *tier)
{
	g_free(tier);
}

kvt_tier *kvt_lent_tier_new(kvt_tier *inner)
{
	lent_tier *tier = g_new0(lent_tier, 1);
	tier->ops = *inner->ops;
	tier->ops.submit = lent_submit;
	tier->ops.commit = lent_commit;
	tier->ops.discard = lent_discard;
	tier->ops.holds = lent_holds;
	tier->ops.preload = inner->ops->preload ? lent_preload : NULL;
	tier->ops.register_memory = NULL;
	tier->ops.notice = inner->ops->notice ? lent_notice : NULL;
	tier->ops.stats = lent_stats;
	tier->ops.close = lent_close;
	tier->base.ops = &tier->ops;
	tier->inner = inner;
	return &tier->base;
}
