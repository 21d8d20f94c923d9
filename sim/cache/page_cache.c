/* page_cache.c: residency of pages under a budget, eviction through a policy. */
#include "sim/cache/page_cache.h"

kvt_page_cache *kvt_page_cache_new(
	const kvt_policy_ops *policy, uint32_t universe, uint32_t capacity)
{
	g_assert(universe > 0 && universe < KVT_NO_PAGE && capacity > 0);
	kvt_page_cache *cache = g_new0(kvt_page_cache, 1);
	cache->policy = kvt_policy_new(policy, universe, capacity);
	cache->universe = universe;
	cache->capacity = cache->capacity_max = capacity;
	cache->resident = g_new0(uint8_t, universe);
	cache->pinned = g_new0(uint8_t, universe);
	return cache;
}

void kvt_page_cache_free(kvt_page_cache *cache)
{
	if (!cache)
		return;
	cache->policy->ops->free(cache->policy);
	g_free(cache->resident);
	g_free(cache->pinned);
	g_free(cache);
}

void kvt_page_cache_set_capacity(kvt_page_cache *cache, uint32_t capacity)
{
	g_assert(capacity > 0 && capacity >= cache->stats.resident);
	g_assert(capacity <= cache->capacity_max);
	if (cache->policy->ops->resize && capacity != cache->capacity)
		cache->policy->ops->resize(cache->policy, capacity);
	cache->capacity = capacity;
}

void kvt_page_cache_remove(kvt_page_cache *cache, uint32_t page)
{
	g_assert(cache->resident[page] && !cache->pinned[page]);
	cache->policy->ops->remove(cache->policy, page);
	cache->resident[page] = 0;
	cache->stats.resident--;
	cache->stats.left++;
}

bool kvt_page_cache_enter(kvt_page_cache *cache, uint32_t page, uint32_t *evicted)
{
	g_assert(page < cache->universe && !cache->resident[page]);
	*evicted = KVT_NO_PAGE;
	if (!kvt_page_cache_has_room(cache))
		return false;
	if (cache->policy->ops->announce)
		cache->policy->ops->announce(cache->policy, page);
	if (cache->stats.resident >= cache->capacity) {
		*evicted = cache->policy->ops->victim(cache->policy, cache->pinned);
		g_assert(*evicted < cache->universe);
		kvt_page_cache_remove(cache, *evicted);
	}
	cache->policy->ops->admit(cache->policy, page);
	cache->resident[page] = 1;
	cache->stats.resident++;
	cache->stats.entered++;
	if (cache->stats.resident > cache->stats.peak_resident)
		cache->stats.peak_resident = cache->stats.resident;
	return true;
}
