/*
 * policy_lfu.c: evicts the page that was used least often since it entered; of equal ones that
 * which was not used for longest. Counts do not age: what was popular once stays long.
 */
#include "sim/cache/page_heap.h"
#include "sim/cache/policy.h"

typedef struct lfu {
	kvt_policy base;
	kvt_page_heap heap; /* by uses, then by the last use */
	uint64_t now;       /* accesses so far */
} lfu;

static kvt_policy *lfu_create(uint32_t universe, uint32_t capacity)
{
	lfu *policy = g_new0(lfu, 1);
	kvt_page_heap_init(&policy->heap, universe);
	return &policy->base;
}

static void lfu_free(kvt_policy *base)
{
	kvt_page_heap_clear(&((lfu *)base)->heap);
	g_free(base);
}

static void lfu_admit(kvt_policy *base, uint32_t page)
{
	lfu *policy = (lfu *)base;
	kvt_page_heap_add(&policy->heap, page, (kvt_page_key){ 1, policy->now++ });
}

static void lfu_touch(kvt_policy *base, uint32_t page)
{
	lfu *policy = (lfu *)base;
	uint64_t uses = policy->heap.key[page].major + 1;
	kvt_page_heap_set(&policy->heap, page, (kvt_page_key){ uses, policy->now++ });
}

static void lfu_first_use(kvt_policy *base, uint32_t page)
{
	lfu *policy = (lfu *)base;
	uint64_t uses = policy->heap.key[page].major;
	kvt_page_heap_set(&policy->heap, page, (kvt_page_key){ uses, policy->now++ });
}

static void lfu_remove(kvt_policy *base, uint32_t page)
{
	kvt_page_heap_remove(&((lfu *)base)->heap, page);
}

static uint32_t lfu_victim(kvt_policy *base, const uint8_t *pinned)
{
	return kvt_page_heap_least_free(&((lfu *)base)->heap, pinned);
}

const kvt_policy_ops kvt_policy_lfu = {
	.name = "lfu",
	.summary = "evicts the page that was used least often since it entered",
	.create = lfu_create,
	.free = lfu_free,
	.admit = lfu_admit,
	.touch = lfu_touch,
	.remove = lfu_remove,
	.victim = lfu_victim,
	.first_use = lfu_first_use,
};
