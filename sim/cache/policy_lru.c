/* policy_lru.c: evicts the page that was not used for longest. */
#include "sim/cache/page_lists.h"
#include "sim/cache/policy.h"

/* Pages that a search has found pinned are put aside, so that the next one need not pass them
 * again: they are in use, so they come back to the other list, as the most recent, when they are
 * touched. */
enum { LISTED, ASIDE, LISTS };

typedef struct lru {
	kvt_policy base;
	kvt_page_lists lists;
	uint8_t *where; /* [universe], the list of a resident page */
} lru;

static kvt_policy *lru_create(uint32_t universe, uint32_t capacity)
{
	lru *policy = g_new0(lru, 1);
	kvt_page_lists_init(&policy->lists, universe, LISTS);
	policy->where = g_new0(uint8_t, universe);
	return &policy->base;
}

static void lru_free(kvt_policy *base)
{
	lru *policy = (lru *)base;
	kvt_page_lists_clear(&policy->lists);
	g_free(policy->where);
	g_free(policy);
}

static void put(lru *policy, uint32_t page, uint8_t list)
{
	kvt_page_lists_push(&policy->lists, list, page);
	policy->where[page] = list;
}

static void lru_admit(kvt_policy *base, uint32_t page)
{
	put((lru *)base, page, LISTED);
}

static void lru_remove(kvt_policy *base, uint32_t page)
{
	lru *policy = (lru *)base;
	kvt_page_lists_take(&policy->lists, policy->where[page], page);
}

static void lru_touch(kvt_policy *base, uint32_t page)
{
	lru_remove(base, page);
	put((lru *)base, page, LISTED);
}

static uint32_t lru_victim(kvt_policy *base, const uint8_t *pinned)
{
	lru *policy = (lru *)base;
	uint32_t page;
	while ((page = kvt_page_lists_oldest(&policy->lists, LISTED)) != UINT32_MAX) {
		if (!pinned[page])
			return page;
		lru_remove(base, page);
		put(policy, page, ASIDE);
	}
	/* one that was put aside may be free without having been touched */
	return kvt_page_lists_oldest_free(&policy->lists, ASIDE, pinned);
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
