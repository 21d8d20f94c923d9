/*
 * policy_arc.c: ARC (Megiddo and Modha, FAST'03, figure 4): pages used once and pages used again,
 * each with a memory of those that left; what comes back says which of the two deserves more room.
 * The share is a real number, as in the paper; so are its steps.
 */
#include <string.h>

#include "sim/cache/page_lists.h"
#include "sim/cache/policy.h"

/* The lists, as the paper names them: T1, T2 resident, B1, B2 remembered. */
enum { ONCE, AGAIN, LEFT_ONCE, LEFT_AGAIN, LISTS, ABSENT = LISTS };

typedef struct arc {
	kvt_policy base;
	kvt_page_lists lists;
	uint8_t *where;    /* [universe], the list of a page, or ABSENT */
	uint32_t capacity; /* c */
	double target;     /* p: pages that ONCE should hold */
	uint32_t incoming; /* the page that was announced, or UINT32_MAX */
	uint32_t victim;   /* the page that was last named, or UINT32_MAX */
	uint8_t forgotten; /* that one is not remembered */
} arc;

static kvt_policy *arc_create(uint32_t universe, uint32_t capacity)
{
	arc *policy = g_new0(arc, 1);
	kvt_page_lists_init(&policy->lists, universe, LISTS);
	policy->where = g_malloc(universe);
	memset(policy->where, ABSENT, universe);
	policy->capacity = capacity;
	policy->incoming = policy->victim = UINT32_MAX;
	return &policy->base;
}

static void arc_free(kvt_policy *base)
{
	arc *policy = (arc *)base;
	kvt_page_lists_clear(&policy->lists);
	g_free(policy->where);
	g_free(policy);
}

static void move(arc *policy, uint32_t page, uint8_t to)
{
	if (policy->where[page] != ABSENT)
		kvt_page_lists_take(&policy->lists, policy->where[page], page);
	if (to != ABSENT)
		kvt_page_lists_push(&policy->lists, to, page);
	policy->where[page] = to;
}

static void forget_oldest(arc *policy, uint32_t list)
{
	uint32_t page = kvt_page_lists_oldest(&policy->lists, list);
	if (page != UINT32_MAX)
		move(policy, page, ABSENT);
}

static double ratio(uint32_t a, uint32_t b)
{
	return MAX((double)a / b, 1);
}

/* Cases II, III and IV up to the choice of what leaves. */
static void arc_announce(kvt_policy *base, uint32_t page)
{
	arc *policy = (arc *)base;
	const uint32_t *n = policy->lists.count;
	uint32_t capacity = policy->capacity;
	policy->incoming = page;
	policy->victim = UINT32_MAX;
	if (policy->where[page] == LEFT_ONCE) {
		policy->target = MIN(capacity, policy->target + ratio(n[LEFT_AGAIN], n[LEFT_ONCE]));
	} else if (policy->where[page] == LEFT_AGAIN) {
		policy->target = MAX(policy->target - ratio(n[LEFT_ONCE], n[LEFT_AGAIN]), 0);
	} else if (n[ONCE] + n[LEFT_ONCE] >= capacity) {
		forget_oldest(policy, LEFT_ONCE);
	} else if (n[ONCE] + n[AGAIN] + n[LEFT_ONCE] + n[LEFT_AGAIN] >= 2 * capacity) {
		forget_oldest(policy, LEFT_AGAIN);
	}
}

/* REPLACE, and case IV A where pages used once fill all of the cache and are not remembered. */
static uint32_t arc_victim(kvt_policy *base, const uint8_t *pinned)
{
	arc *policy = (arc *)base;
	const kvt_page_lists *lists = &policy->lists;
	const uint32_t *n = lists->count;
	uint8_t origin = policy->incoming == UINT32_MAX ? ABSENT : policy->where[policy->incoming];
	gboolean all_once = origin == ABSENT && n[ONCE] >= policy->capacity;
	gboolean from_once = all_once || n[ONCE] > policy->target ||
			     (n[ONCE] == policy->target && n[ONCE] > 0 && origin == LEFT_AGAIN);
	uint32_t page = kvt_page_lists_oldest_free(lists, from_once ? ONCE : AGAIN, pinned);
	if (page == UINT32_MAX)
		page = kvt_page_lists_oldest_free(lists, from_once ? AGAIN : ONCE, pinned);
	policy->victim = page;
	policy->forgotten = all_once;
	return page;
}

static void arc_remove(kvt_policy *base, uint32_t page)
{
	arc *policy = (arc *)base;
	gboolean evicted = page == policy->victim && !policy->forgotten;
	move(policy, page,
		!evicted                      ? ABSENT
		: policy->where[page] == ONCE ? LEFT_ONCE
					      : LEFT_AGAIN);
	policy->victim = UINT32_MAX;
}

static void arc_admit(kvt_policy *base, uint32_t page)
{
	arc *policy = (arc *)base;
	move(policy, page, policy->where[page] == ABSENT ? ONCE : AGAIN);
	policy->incoming = policy->victim = UINT32_MAX;
}

static void arc_touch(kvt_policy *base, uint32_t page)
{
	arc *policy = (arc *)base;
	move(policy, page, AGAIN);
	policy->victim = UINT32_MAX;
}

static void arc_first_use(kvt_policy *base, uint32_t page)
{
	arc *policy = (arc *)base;
	move(policy, page, policy->where[page]);
	policy->victim = UINT32_MAX;
}

static void arc_resize(kvt_policy *base, uint32_t capacity)
{
	arc *policy = (arc *)base;
	const uint32_t *n = policy->lists.count;
	policy->capacity = capacity;
	policy->target = MIN(policy->target, capacity);
	while (n[LEFT_ONCE] > 0 && n[ONCE] + n[LEFT_ONCE] > capacity)
		forget_oldest(policy, LEFT_ONCE);
	while (n[LEFT_AGAIN] > 0 &&
		n[ONCE] + n[AGAIN] + n[LEFT_ONCE] + n[LEFT_AGAIN] > 2 * (uint64_t)capacity)
		forget_oldest(policy, LEFT_AGAIN);
}

const kvt_policy_ops kvt_policy_arc = {
	.name = "arc",
	.counts_pages = TRUE,
	.summary = "balances recency against frequency by what came back after it left (ARC)",
	.create = arc_create,
	.free = arc_free,
	.admit = arc_admit,
	.touch = arc_touch,
	.remove = arc_remove,
	.victim = arc_victim,
	.first_use = arc_first_use,
	.announce = arc_announce,
	.resize = arc_resize,
};
