/* sweep_supply.c: a queue of ranges under a lock, which points of milliseconds hardly touch. */
#include "sim/sweep/sweep_supply.h"

struct kvt_sweep_supply {
	GMutex lock;
	GCond changed;
	GQueue ranges; /* of kvt_sweep_range */
	uint64_t left;
	bool ended;
};

kvt_sweep_supply *kvt_sweep_supply_new(void)
{
	kvt_sweep_supply *supply = g_new0(kvt_sweep_supply, 1);
	g_mutex_init(&supply->lock);
	g_cond_init(&supply->changed);
	g_queue_init(&supply->ranges);
	return supply;
}

void kvt_sweep_supply_free(kvt_sweep_supply *supply)
{
	if (!supply)
		return;
	g_queue_clear_full(&supply->ranges, g_free);
	g_cond_clear(&supply->changed);
	g_mutex_clear(&supply->lock);
	g_free(supply);
}

void kvt_sweep_supply_add(kvt_sweep_supply *supply, kvt_sweep_range range)
{
	if (range.count == 0)
		return;
	g_mutex_lock(&supply->lock);
	g_queue_push_tail(&supply->ranges, g_memdup2(&range, sizeof range));
	supply->left += range.count;
	g_cond_broadcast(&supply->changed);
	g_mutex_unlock(&supply->lock);
}

void kvt_sweep_supply_end(kvt_sweep_supply *supply, bool drop)
{
	g_mutex_lock(&supply->lock);
	supply->ended = true;
	if (drop) {
		g_queue_clear_full(&supply->ranges, g_free);
		supply->left = 0;
	}
	g_cond_broadcast(&supply->changed);
	g_mutex_unlock(&supply->lock);
}

/* Called with the lock held. */
static kvt_sweep_range cut(kvt_sweep_supply *supply, uint64_t most)
{
	kvt_sweep_range *range = g_queue_peek_head(&supply->ranges);
	if (!range || most == 0)
		return (kvt_sweep_range){ 0 };
	kvt_sweep_range taken = { range->first, MIN(most, range->count) };
	range->first += taken.count;
	range->count -= taken.count;
	supply->left -= taken.count;
	if (range->count == 0)
		g_free(g_queue_pop_head(&supply->ranges));
	return taken;
}

bool kvt_sweep_supply_take(kvt_sweep_supply *supply, uint64_t *point)
{
	g_mutex_lock(&supply->lock);
	while (supply->left == 0 && !supply->ended)
		g_cond_wait(&supply->changed, &supply->lock);
	kvt_sweep_range taken = cut(supply, 1);
	g_mutex_unlock(&supply->lock);
	*point = taken.first;
	return taken.count > 0;
}

kvt_sweep_range kvt_sweep_supply_cut(kvt_sweep_supply *supply, uint64_t most)
{
	g_mutex_lock(&supply->lock);
	kvt_sweep_range taken = cut(supply, most);
	g_mutex_unlock(&supply->lock);
	return taken;
}

uint64_t kvt_sweep_supply_left(kvt_sweep_supply *supply)
{
	g_mutex_lock(&supply->lock);
	uint64_t left = supply->left;
	g_mutex_unlock(&supply->lock);
	return left;
}
