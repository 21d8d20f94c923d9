/*
 * policy_belady.c: evicts the page that is used again last (Belady 1966, MIN): the bound that
 * policies which see only the past are measured against.
 */
#include "sim/cache/page_heap.h"
#include "sim/cache/policy.h"

typedef struct belady {
	kvt_policy base;
	kvt_page_heap heap; /* the further the next use, the less; of equal ones the oldest page */
} belady;

static kvt_policy *belady_create(uint32_t universe, uint32_t capacity)
{
	belady *policy = g_new0(belady, 1);
	kvt_page_heap_init(&policy->heap, universe);
	return &policy->base;
}

static void belady_free(kvt_policy *base)
{
	kvt_page_heap_clear(&((belady *)base)->heap);
	g_free(base);
}

static void belady_admit(kvt_policy *base, uint32_t page)
{
	kvt_page_heap_add(&((belady *)base)->heap, page, (kvt_page_key){ 0 });
}

static void belady_touch(kvt_policy *base, uint32_t page)
{
	/* next_use, which follows, is what counts */
}

static void belady_remove(kvt_policy *base, uint32_t page)
{
	kvt_page_heap_remove(&((belady *)base)->heap, page);
}

static uint32_t belady_victim(kvt_policy *base, const uint8_t *pinned)
{
	return kvt_page_heap_least_free(&((belady *)base)->heap, pinned);
}

static void belady_next_use(kvt_policy *base, uint32_t page, uint64_t access)
{
	kvt_page_heap_set(
		&((belady *)base)->heap, page, (kvt_page_key){ .major = UINT64_MAX - access });
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
