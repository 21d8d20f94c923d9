/*
 * policy_clock.c: a hand goes round the pages in the order they entered and evicts the first that
 * was not used since it came by (Corbato 1968). Kept as a queue: what the hand passes goes to its
 * young end.
 */
#include "sim/cache/page_lists.h"
#include "sim/cache/policy.h"

typedef struct clock_policy {
	kvt_policy base;
	kvt_page_lists queue; /* one; the hand is at its old end */
	uint8_t *used;        /* [universe], since the hand came by */
} clock_policy;

static kvt_policy *clock_create(uint32_t universe, uint32_t capacity)
{
	clock_policy *policy = g_new0(clock_policy, 1);
	kvt_page_lists_init(&policy->queue, universe, 1);
	policy->used = g_new(uint8_t, universe);
	return &policy->base;
}

static void clock_free(kvt_policy *base)
{
	clock_policy *policy = (clock_policy *)base;
	kvt_page_lists_clear(&policy->queue);
	g_free(policy->used);
	g_free(policy);
}

static void clock_admit(kvt_policy *base, uint32_t page)
{
	clock_policy *policy = (clock_policy *)base;
	kvt_page_lists_push(&policy->queue, 0, page);
	policy->used[page] = 0;
}

static void clock_touch(kvt_policy *base, uint32_t page)
{
	((clock_policy *)base)->used[page] = 1;
}

static void clock_remove(kvt_policy *base, uint32_t page)
{
	kvt_page_lists_take(&((clock_policy *)base)->queue, 0, page);
}

static uint32_t clock_victim(kvt_policy *base, const uint8_t *pinned)
{
	clock_policy *policy = (clock_policy *)base;
	/* once round clears what was used, and finds a page the second time if one may leave */
	for (uint64_t tried = 0; tried < 2 * (uint64_t)policy->queue.count[0]; tried++) {
		uint32_t page = kvt_page_lists_oldest(&policy->queue, 0);
		if (!pinned[page]) {
			if (!policy->used[page])
				return page;
			policy->used[page] = 0;
		}
		kvt_page_lists_take(&policy->queue, 0, page);
		kvt_page_lists_push(&policy->queue, 0, page);
	}
	return UINT32_MAX;
}

const kvt_policy_ops kvt_policy_clock = {
	.name = "clock",
	.summary = "evicts the first page that was not used since the hand last came by",
	.create = clock_create,
	.free = clock_free,
	.admit = clock_admit,
	.touch = clock_touch,
	.remove = clock_remove,
	.victim = clock_victim,
};
