/*
 * policy_belady.c: evicts the page that is used again last (Belady 1966, MIN): the bound that
 * policies which see only the past are measured against. A heap of resident pages by next use,
 * with each page's place in it.
 */
#include "sim/cache/policy.h"

typedef struct belady {
	kvt_policy base;
	uint32_t count;
	uint32_t *heap;     /* pages; the root leaves next */
	uint32_t *place;    /* of a resident page in the heap */
	uint64_t *next_use; /* of a resident page */
	uint32_t *passed;   /* pinned pages set aside while looking for a victim */
} belady;

static kvt_policy *belady_create(uint32_t universe, uint32_t capacity)
{
	belady *policy = g_new0(belady, 1);
	policy->heap = g_new(uint32_t, universe);
	policy->place = g_new(uint32_t, universe);
	policy->next_use = g_new(uint64_t, universe);
	policy->passed = g_new(uint32_t, universe);
	return &policy->base;
}

static void belady_free(kvt_policy *base)
{
	belady *policy = (belady *)base;
	g_free(policy->heap);
	g_free(policy->place);
	g_free(policy->next_use);
	g_free(policy->passed);
	g_free(policy);
}

/* Among pages that are never used again the oldest leaves first. */
static gboolean leaves_before(const belady *policy, uint32_t a, uint32_t b)
{
	if (policy->next_use[a] != policy->next_use[b])
		return policy->next_use[a] > policy->next_use[b];
	return a < b;
}

static void put(belady *policy, uint32_t place, uint32_t page)
{
	policy->heap[place] = page;
	policy->place[page] = place;
}

static void sift(belady *policy, uint32_t place, uint32_t page)
{
	while (place > 0) {
		uint32_t parent = (place - 1) / 2;
		if (!leaves_before(policy, page, policy->heap[parent]))
			break;
		put(policy, place, policy->heap[parent]);
		place = parent;
	}
	for (;;) {
		uint32_t child = 2 * place + 1;
		if (child >= policy->count)
			break;
		if (child + 1 < policy->count &&
			leaves_before(policy, policy->heap[child + 1], policy->heap[child]))
			child++;
		if (!leaves_before(policy, policy->heap[child], page))
			break;
		put(policy, place, policy->heap[child]);
		place = child;
	}
	put(policy, place, page);
}

static void belady_admit(kvt_policy *base, uint32_t page)
{
	belady *policy = (belady *)base;
	policy->next_use[page] = UINT64_MAX;
	policy->count++;
	sift(policy, policy->count - 1, page);
}

static void belady_touch(kvt_policy *base, uint32_t page)
{
	/* next_use, which follows, is what counts */
}

static void belady_remove(kvt_policy *base, uint32_t page)
{
	belady *policy = (belady *)base;
	uint32_t place = policy->place[page];
	uint32_t last = policy->heap[--policy->count];
	if (last != page)
		sift(policy, place, last);
}

static uint32_t belady_victim(kvt_policy *base, const uint8_t *pinned)
{
	belady *policy = (belady *)base;
	uint32_t n_passed = 0, victim = UINT32_MAX;
	while (policy->count > 0 && victim == UINT32_MAX) {
		uint32_t page = policy->heap[0];
		if (pinned[page]) {
			policy->passed[n_passed++] = page;
			belady_remove(base, page);
		} else {
			victim = page;
		}
	}
	for (uint32_t i = 0; i < n_passed; i++) {
		policy->count++;
		sift(policy, policy->count - 1, policy->passed[i]);
	}
	return victim;
}

static void belady_next_use(kvt_policy *base, uint32_t page, uint64_t access)
{
	belady *policy = (belady *)base;
	policy->next_use[page] = access;
	sift(policy, policy->place[page], page);
}

const kvt_policy_ops kvt_policy_belady = {
	.name = "belady",
	.summary = "evicts the page that is used again last; knows the future, a bound",
	.needs_future = TRUE,
	.create = belady_create,
	.free = belady_free,
	.admit = belady_admit,
	.touch = belady_touch,
	.remove = belady_remove,
	.victim = belady_victim,
	.next_use = belady_next_use,
};
