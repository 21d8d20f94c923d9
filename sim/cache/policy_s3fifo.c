/*
 * policy_s3fifo.c: S3-FIFO (Yang et al., SOSP'23): a small queue that pages enter and soon leave, a
 * main queue for those that were used more than once there, and a memory of those that left the
 * small one, which enter the main one when they come back. As its authors built it: uses do not
 * count on in the main queue, and whether a page is remembered is asked before room is made for it.
 */
#include <string.h>

#include "sim/cache/page_lists.h"
#include "sim/cache/policy.h"

enum { SMALL, MAIN, LEFT, LISTS, ABSENT = LISTS };

/* The small queue's part of the pages; uses that are counted; uses that lead to the main queue. */
enum { SMALL_PART = 10, USES_MAX = 3, USES_MAIN = 2 };

typedef struct s3fifo {
	kvt_policy base;
	kvt_page_lists lists;
	uint8_t *where; /* [universe], the list of a page, or ABSENT */
	uint8_t *uses;  /* [universe], of a resident page since it entered */
	uint32_t capacity;
	uint32_t victim;   /* the page that was last named, or UINT32_MAX */
	uint32_t returned; /* the page that was announced, if it is remembered; or UINT32_MAX */
} s3fifo;

static kvt_policy *s3fifo_create(uint32_t universe, uint32_t capacity)
{
	s3fifo *policy = g_new0(s3fifo, 1);
	kvt_page_lists_init(&policy->lists, universe, LISTS);
	policy->where = g_malloc(universe);
	memset(policy->where, ABSENT, universe);
	policy->uses = g_malloc(universe);
	policy->capacity = capacity;
	policy->victim = policy->returned = UINT32_MAX;
	return &policy->base;
}

static void s3fifo_free(kvt_policy *base)
{
	s3fifo *policy = (s3fifo *)base;
	kvt_page_lists_clear(&policy->lists);
	g_free(policy->where);
	g_free(policy->uses);
	g_free(policy);
}

static void move(s3fifo *policy, uint32_t page, uint8_t to)
{
	if (policy->where[page] != ABSENT)
		kvt_page_lists_take(&policy->lists, policy->where[page], page);
	if (to != ABSENT)
		kvt_page_lists_push(&policy->lists, to, page);
	policy->where[page] = to;
}

static void s3fifo_admit(kvt_policy *base, uint32_t page)
{
	s3fifo *policy = (s3fifo *)base;
	move(policy, page, policy->returned == page ? MAIN : SMALL);
	policy->uses[page] = 0;
	policy->victim = policy->returned = UINT32_MAX;
}

/* What leaves for it does not push it out of memory. */
static void s3fifo_announce(kvt_policy *base, uint32_t page)
{
	s3fifo *policy = (s3fifo *)base;
	policy->returned = policy->where[page] == LEFT ? page : UINT32_MAX;
	if (policy->returned == page)
		move(policy, page, ABSENT);
}

static void s3fifo_touch(kvt_policy *base, uint32_t page)
{
	s3fifo *policy = (s3fifo *)base;
	policy->uses[page] = MIN(policy->uses[page] + 1, USES_MAX);
	policy->victim = UINT32_MAX;
}

/* Nine tenths as many pages as fit are remembered. */
static void limit_left(s3fifo *policy)
{
	uint64_t most = (uint64_t)policy->capacity * (SMALL_PART - 1) / SMALL_PART;
	while (policy->lists.count[LEFT] > most)
		move(policy, kvt_page_lists_oldest(&policy->lists, LEFT), ABSENT);
}

static void s3fifo_remove(kvt_policy *base, uint32_t page)
{
	s3fifo *policy = (s3fifo *)base;
	gboolean remember = page == policy->victim && policy->where[page] == SMALL;
	move(policy, page, remember ? LEFT : ABSENT);
	policy->victim = UINT32_MAX;
	limit_left(policy);
}

/* Pages that are pinned keep their places. */
static uint32_t small_victim(s3fifo *policy, const uint8_t *pinned)
{
	uint32_t page = kvt_page_lists_oldest(&policy->lists, SMALL);
	while (page != UINT32_MAX) {
		uint32_t younger = kvt_page_lists_younger(&policy->lists, page);
		if (!pinned[page] && policy->uses[page] < USES_MAIN)
			return page;
		if (!pinned[page]) {
			policy->uses[page] = 0;
			move(policy, page, MAIN);
		}
		page = younger;
	}
	return UINT32_MAX;
}

static uint32_t main_victim(s3fifo *policy, const uint8_t *pinned)
{
	for (;;) {
		uint32_t page = kvt_page_lists_oldest_free(&policy->lists, MAIN, pinned);
		if (page == UINT32_MAX || policy->uses[page] == 0)
			return page;
		policy->uses[page]--;
		move(policy, page, MAIN);
	}
}

static uint32_t s3fifo_victim(kvt_policy *base, const uint8_t *pinned)
{
	s3fifo *policy = (s3fifo *)base;
	uint32_t page = UINT32_MAX;
	gboolean small_first = policy->lists.count[SMALL] >= policy->capacity / SMALL_PART;
	if (small_first)
		page = small_victim(policy, pinned);
	if (page == UINT32_MAX)
		page = main_victim(policy, pinned);
	/* what the main queue holds may be pinned, but for what has just come from the small one */
	if (page == UINT32_MAX && !small_first)
		page = small_victim(policy, pinned);
	if (page == UINT32_MAX)
		page = main_victim(policy, pinned);
	policy->victim = page;
	return page;
}

static void s3fifo_resize(kvt_policy *base, uint32_t capacity)
{
	s3fifo *policy = (s3fifo *)base;
	policy->capacity = capacity;
	limit_left(policy);
}

const kvt_policy_ops kvt_policy_s3fifo = {
	.name = "s3fifo",
	.counts_pages = TRUE,
	.summary = "a small queue that tries pages out before a main one (S3-FIFO)",
	.create = s3fifo_create,
	.free = s3fifo_free,
	.admit = s3fifo_admit,
	.touch = s3fifo_touch,
	.remove = s3fifo_remove,
	.victim = s3fifo_victim,
	.announce = s3fifo_announce,
	.resize = s3fifo_resize,
};
