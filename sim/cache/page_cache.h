/*
 * page_cache.h: which pages of one layer and KV head are resident in HBM under a budget of pages:
 * enter, pin, touch, leave through a policy, with exact counts. It decides residency only; moving
 * the bytes, and when, is its caller's (sim/engine/).
 *
 * Invariants, asserted: resident <= capacity; a pinned page never leaves; entered = resident +
 * left.
 */
#ifndef KVT_PAGE_CACHE_H
#define KVT_PAGE_CACHE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "sim/cache/policy.h"

#define KVT_NO_PAGE UINT32_MAX

typedef struct kvt_page_cache_stats {
	uint64_t entered, left,
		touches; /* pages that came in and went out; accesses to residents */
	uint32_t resident, peak_resident; /* pages now, and at most */
} kvt_page_cache_stats;

/* Read the members through the functions below; they are here so that those are inlined. */
typedef struct kvt_page_cache {
	kvt_policy *policy;
	uint32_t universe, capacity; /* page ids are below universe; pages at a time */
	uint32_t capacity_max;       /* what the policy was made for */
	uint32_t n_pinned;
	uint8_t *resident, *pinned; /* [universe], 0 or 1 */
	kvt_page_cache_stats stats;
} kvt_page_cache;

/* A cache of pages 0 .. universe - 1 that holds none and may hold `capacity` of them. */
kvt_page_cache *kvt_page_cache_new(
	const kvt_policy_ops *policy, uint32_t universe, uint32_t capacity);
void kvt_page_cache_free(kvt_page_cache *cache);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_page_cache, kvt_page_cache_free)

/* Changes the capacity: not below what is resident nor above what the cache was made for. */
void kvt_page_cache_set_capacity(kvt_page_cache *cache, uint32_t capacity);

static inline bool kvt_page_cache_has(const kvt_page_cache *cache, uint32_t page)
{
	return cache->resident[page];
}

/*
 * Lets an absent page in. When the cache is full the policy's victim leaves first and is put into
 * *evicted (else KVT_NO_PAGE). False, and nothing changes, when it is full of pinned pages.
 */
bool kvt_page_cache_enter(kvt_page_cache *cache, uint32_t page, uint32_t *evicted);

/* Takes out a resident page that is not pinned. */
void kvt_page_cache_remove(kvt_page_cache *cache, uint32_t page);

/* An access to a resident page. */
static inline void kvt_page_cache_touch(kvt_page_cache *cache, uint32_t page)
{
	cache->stats.touches++;
	cache->policy->ops->touch(cache->policy, page);
}

/* The access that a page entered for, where other pages entered or were touched in between. */
static inline void kvt_page_cache_first_use(kvt_page_cache *cache, uint32_t page)
{
	cache->stats.touches++;
	if (cache->policy->ops->first_use)
		cache->policy->ops->first_use(cache->policy, page);
}

/* Tells a policy that needs the future when the resident page is used next (UINT64_MAX: never);
 * to be called after each enter and touch. Nothing for the others. */
static inline void kvt_page_cache_next_use(kvt_page_cache *cache, uint32_t page, uint64_t access)
{
	if (cache->policy->ops->needs_future)
		cache->policy->ops->next_use(cache->policy, page, access);
}

/* What attention gave a page, resident or not; see kvt_policy_ops. */
static inline void kvt_page_cache_mass(
	kvt_page_cache *cache, uint32_t page, uint32_t step, uint32_t mass)
{
	if (cache->policy->ops->mass)
		cache->policy->ops->mass(cache->policy, page, cache->resident[page], step, mass);
}

/* Whether a page could enter now. */
static inline bool kvt_page_cache_has_room(const kvt_page_cache *cache)
{
	return cache->stats.resident < cache->capacity || cache->n_pinned < cache->stats.resident;
}

/* Keeps a resident page from leaving; pinning twice is pinning once. */
static inline void kvt_page_cache_pin(kvt_page_cache *cache, uint32_t page)
{
	g_assert(cache->resident[page]);
	cache->n_pinned += !cache->pinned[page];
	cache->pinned[page] = 1;
}

static inline void kvt_page_cache_unpin(kvt_page_cache *cache, uint32_t page)
{
	cache->n_pinned -= cache->pinned[page];
	cache->pinned[page] = 0;
}

#endif
