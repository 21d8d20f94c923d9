/*
 * policy_lfu.c: evicts the page that was used least often since it entered; of equal ones that
 * which was not used for longest. Counts do not age: what was popular once stays long.
 *
 * Pages of as many uses are in one list, by their last use, and lists are in the order of uses, so
 * that a use is a step from one list to the next (Shah, Mitra and Matani 2010).
 */
#include "sim/cache/page_lists.h"
#include "sim/cache/policy.h"

/* The list that stands for none: where lists begin and end. */
enum { END = 0 };

typedef struct level {
	uint64_t uses;
	uint32_t fewer, more; /* the lists beside it; of one that is not in use, more: the next */
} level;

typedef struct lfu {
	kvt_policy base;
	kvt_page_lists lists; /* END, and as many as pages that may be resident */
	level *levels;        /* of each list */
	uint32_t *where;      /* [universe], the list of a resident page */
	uint32_t unused;      /* lists, a chain */
} lfu;

static kvt_policy *lfu_create(uint32_t universe, uint32_t capacity)
{
	lfu *policy = g_new0(lfu, 1);
	kvt_page_lists_init(&policy->lists, universe, capacity + 1);
	policy->levels = g_new0(level, (size_t)capacity + 1);
	policy->where = g_new(uint32_t, universe);
	for (uint32_t list = capacity; list > END; list--) {
		policy->levels[list].more = policy->unused;
		policy->unused = list;
	}
	return &policy->base;
}

static void lfu_free(kvt_policy *base)
{
	lfu *policy = (lfu *)base;
	kvt_page_lists_clear(&policy->lists);
	g_free(policy->levels);
	g_free(policy->where);
	g_free(policy);
}

/* The list of so many uses, which is the one after `fewer` or has to be put there. */
static uint32_t list_after(lfu *policy, uint32_t fewer, uint64_t uses)
{
	level *levels = policy->levels;
	uint32_t more = levels[fewer].more, list = policy->unused;
	if (more != END && levels[more].uses == uses)
		return more;
	g_assert(list != END);
	policy->unused = levels[list].more;
	levels[list] = (level){ .uses = uses, .fewer = fewer, .more = more };
	levels[fewer].more = levels[more].fewer = list;
	return list;
}

static void put(lfu *policy, uint32_t page, uint32_t list)
{
	kvt_page_lists_push(&policy->lists, list, page);
	policy->where[page] = list;
}

static void lfu_remove(kvt_policy *base, uint32_t page)
{
	lfu *policy = (lfu *)base;
	level *levels = policy->levels;
	uint32_t list = policy->where[page];
	kvt_page_lists_take(&policy->lists, list, page);
	if (policy->lists.count[list] > 0)
		return;
	levels[levels[list].fewer].more = levels[list].more;
	levels[levels[list].more].fewer = levels[list].fewer;
	levels[list].more = policy->unused;
	policy->unused = list;
}

static void lfu_admit(kvt_policy *base, uint32_t page)
{
	lfu *policy = (lfu *)base;
	put(policy, page, list_after(policy, END, 1));
}

static void lfu_touch(kvt_policy *base, uint32_t page)
{
	lfu *policy = (lfu *)base;
	level *levels = policy->levels;
	uint32_t list = policy->where[page], more = levels[list].more;
	uint64_t uses = levels[list].uses + 1;
	/* often a popular page is alone with its count, which can rise where it is */
	if (policy->lists.count[list] == 1 && (more == END || levels[more].uses != uses)) {
		levels[list].uses = uses;
		return;
	}
	more = list_after(policy, list, uses);
	lfu_remove(base, page);
	put(policy, page, more);
}

static void lfu_first_use(kvt_policy *base, uint32_t page)
{
	lfu *policy = (lfu *)base;
	uint32_t list = policy->where[page];
	kvt_page_lists_take(&policy->lists, list, page);
	kvt_page_lists_push(&policy->lists, list, page);
}

static uint32_t lfu_victim(kvt_policy *base, const uint8_t *pinned)
{
	const lfu *policy = (const lfu *)base;
	for (uint32_t list = policy->levels[END].more; list != END;
		list = policy->levels[list].more) {
		uint32_t page = kvt_page_lists_oldest_free(&policy->lists, list, pinned);
		if (page != UINT32_MAX)
			return page;
	}
	return UINT32_MAX;
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
