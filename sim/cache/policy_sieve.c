/*
 * policy_sieve.c: SIEVE (Zhang et al., NSDI'24): a hand goes from the oldest page to younger ones
 * and evicts the first that was not used since it came by. Unlike a clock's, pages that it passes
 * keep their places, and new ones enter behind it.
 */
#include "sim/cache/page_lists.h"
#include "sim/cache/policy.h"

typedef struct sieve {
	kvt_policy base;
	kvt_page_lists queue; /* one */
	uint8_t *used;        /* [universe], since the hand came by */
	uint32_t hand;        /* where it goes on; UINT32_MAX: at the oldest page */
} sieve;

static kvt_policy *sieve_create(uint32_t universe, uint32_t capacity)
{
	sieve *policy = g_new0(sieve, 1);
	kvt_page_lists_init(&policy->queue, universe, 1);
	policy->used = g_new(uint8_t, universe);
	policy->hand = UINT32_MAX;
	return &policy->base;
}

static void sieve_free(kvt_policy *base)
{
	sieve *policy = (sieve *)base;
	kvt_page_lists_clear(&policy->queue);
	g_free(policy->used);
	g_free(policy);
}

static void sieve_admit(kvt_policy *base, uint32_t page)
{
	sieve *policy = (sieve *)base;
	kvt_page_lists_push(&policy->queue, 0, page);
	policy->used[page] = 0;
}

static void sieve_touch(kvt_policy *base, uint32_t page)
{
	((sieve *)base)->used[page] = 1;
}

static void sieve_remove(kvt_policy *base, uint32_t page)
{
	sieve *policy = (sieve *)base;
	if (page == policy->hand)
		policy->hand = kvt_page_lists_younger(&policy->queue, page);
	kvt_page_lists_take(&policy->queue, 0, page);
}

static uint32_t sieve_victim(kvt_policy *base, const uint8_t *pinned)
{
	sieve *policy = (sieve *)base;
	/* once round clears what was used, and finds a page the second time if one may leave */
	for (uint64_t tried = 0; tried < 2 * (uint64_t)policy->queue.count[0]; tried++) {
		if (policy->hand == UINT32_MAX)
			policy->hand = kvt_page_lists_oldest(&policy->queue, 0);
		uint32_t page = policy->hand;
		if (!pinned[page]) {
			if (!policy->used[page])
				return page;
			policy->used[page] = 0;
		}
		policy->hand = kvt_page_lists_younger(&policy->queue, page);
	}
	return UINT32_MAX;
}

const kvt_policy_ops kvt_policy_sieve = {
	.name = "sieve",
	.summary = "a hand sifts out pages not used since it came by; the others stay (SIEVE)",
	.create = sieve_create,
	.free = sieve_free,
	.admit = sieve_admit,
	.touch = sieve_touch,
	.remove = sieve_remove,
	.victim = sieve_victim,
};
