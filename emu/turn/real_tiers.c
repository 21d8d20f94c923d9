/* real_tiers.c: every kind of tier of the emulation by name. */
#include "emu/turn/real_tiers.h"

#include "emu/tier/pinned_tier.h"
#include "emu/remote/remote_tier.h"
#include "emu/tier/uring_tier.h"

static const kvt_tier_ops *const kinds[] = {
	&kvt_tier_store,
	&kvt_tier_memory,
	&kvt_tier_remote_node,
	NULL,
};

const kvt_tier_ops *const *kvt_real_tiers(void)
{
	return kinds;
}

const kvt_tier_ops *kvt_real_tier_find(const char *name)
{
	for (unsigned i = 0; kinds[i]; i++)
		if (g_str_equal(kinds[i]->name, name))
			return kinds[i];
	return NULL;
}
