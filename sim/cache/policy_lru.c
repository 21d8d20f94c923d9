/* policy_lru.c: evicts the page that was not used for longest. A list threaded through arrays. */
#include "sim/cache/policy.h"

typedef struct lru {
	kvt_policy base;
	uint32_t head; /* index of the list's ends in next and previous: the universe's size */
	uint32_t count;
	uint32_t *next, *previous; /* from the most recent page to the least recent one */
} lru;

static kvt_policy *lru_create(uint32_t universe, uint32_t capacity)
{
	lru *policy = g_new0(lru, 1);
	policy->head = universe;
	policy->next = g_new(uint32_t, (size_t)universe + 1);
	policy->previous = g_new(uint32_t, (size_t)universe + 1);
	policy->next[universe] = policy->previous[universe] = universe;
	return &policy->base;
}

static void lru_free(kvt_policy *base)
{
	lru *policy = (lru *)base;
	g_free(policy->next);
	g_free(policy->previous);
	g_free(policy);
}

static void unlink_page(lru *policy, uint32_t page)
{
	policy->next[policy->previous[page]] = policy->next[page];
	policy->previous[policy->next[page]] = policy->previous[page];
}

static void link_first(lru *policy, uint32_t page)
{
	uint32_t first = policy->next[policy->head];
	policy->next[page] = first;
	policy->previous[page] = policy->head;
	policy->previous[first] = page;
	policy->next[policy->head] = page;
}

static void lru_admit(kvt_policy *base, uint32_t page)
{
	lru *policy = (lru *)base;
	link_first(policy, page);
	policy->count++;
}

static void lru_touch(kvt_policy *base, uint32_t page)
{
	lru *policy = (lru *)base;
	unlink_page(policy, page);
	link_first(policy, page);
}

static void lru_remove(kvt_policy *base, uint32_t page)
{
	lru *policy = (lru *)base;
	unlink_page(policy, page);
	policy->count--;
}

static uint32_t lru_victim(kvt_policy *base, const uint8_t *pinned)
{
	lru *policy = (lru *)base;
	for (uint32_t tried = 0; tried < policy->count; tried++) {
		uint32_t page = policy->previous[policy->head];
		if (!pinned[page])
			return page;
		/* it is in use, so it is recent; and the next search need not pass it again */
		lru_touch(base, page);
	}
	return UINT32_MAX;
}

const kvt_policy_ops kvt_policy_lru = {
	.name = "lru",
	.summary = "evicts the page that was not used for longest",
	.create = lru_create,
	.free = lru_free,
	.admit = lru_admit,
	.touch = lru_touch,
	.remove = lru_remove,
	.victim = lru_victim,
	.first_use = lru_touch,
};
