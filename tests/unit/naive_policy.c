/* naive_policy.c: eviction policies by lists. */
#include "tests/unit/naive_policy.h"

#include <glib.h>
#include <string.h>

static int find(const naive_list *list, uint32_t page)
{
	for (unsigned i = 0; i < list->n; i++)
		if (list->pages[i] == page)
			return (int)i;
	return -1;
}

static bool drop(naive_list *list, uint32_t page)
{
	int at = find(list, page);
	if (at < 0)
		return false;
	memmove(&list->pages[at], &list->pages[at + 1],
		(list->n - (unsigned)at - 1) * sizeof(uint32_t));
	list->n--;
	return true;
}

static void append(naive_list *list, uint32_t page)
{
	list->pages[list->n++] = page;
}

static uint32_t first_free(const naive_list *list, const uint8_t *pinned)
{
	for (unsigned i = 0; i < list->n; i++)
		if (!pinned[list->pages[i]])
			return list->pages[i];
	return UINT32_MAX;
}

static bool is(const naive_cache *cache, const char *policy)
{
	return strcmp(cache->policy, policy) == 0;
}

bool naive_knows(const char *policy)
{
	static const char *const names[] = { "lru", "fifo", "clock", "lfu", "arc", "s3fifo",
		"sieve", NULL };
	return g_strv_contains(names, policy);
}

void naive_init(naive_cache *cache, const char *policy, unsigned capacity)
{
	memset(cache, 0, sizeof(*cache));
	cache->policy = policy;
	cache->capacity = capacity;
	cache->hand = UINT32_MAX;
}

bool naive_has(const naive_cache *cache, uint32_t page)
{
	return find(&cache->a, page) >= 0 || find(&cache->b, page) >= 0;
}

void naive_touch(naive_cache *cache, uint32_t page)
{
	cache->uses[page]++;
	cache->last_use[page] = ++cache->now;
	if (is(cache, "lru")) {
		drop(&cache->a, page);
		append(&cache->a, page);
	} else if (is(cache, "arc")) {
		drop(&cache->a, page);
		drop(&cache->b, page);
		append(&cache->b, page);
	} else if (is(cache, "s3fifo")) {
		cache->uses[page] = MIN(cache->uses[page], 3);
	}
}

void naive_remove(naive_cache *cache, uint32_t page)
{
	int at = find(&cache->a, page);
	if (page == cache->hand)
		cache->hand = at + 1 < (int)cache->a.n ? cache->a.pages[at + 1] : UINT32_MAX;
	bool found = drop(&cache->a, page) || drop(&cache->b, page);
	g_assert_true(found);
}

/* The hand goes round the pages that may leave; it passes the others by. */
static uint32_t clock_leaves(naive_cache *cache, const uint8_t *pinned)
{
	for (;;) {
		uint32_t page = cache->a.pages[0];
		if (!pinned[page] && cache->uses[page] == 0)
			return page;
		if (!pinned[page])
			cache->uses[page] = 0;
		drop(&cache->a, page);
		append(&cache->a, page);
	}
}

/* The hand goes up the pages, which stay where they are. */
static uint32_t sieve_leaves(naive_cache *cache, const uint8_t *pinned)
{
	for (unsigned at = cache->hand == UINT32_MAX ? 0 : (unsigned)find(&cache->a, cache->hand);;
		at = (at + 1) % cache->a.n) {
		uint32_t page = cache->a.pages[at];
		if (!pinned[page] && cache->uses[page] == 0) {
			cache->hand = at + 1 < cache->a.n ? cache->a.pages[at + 1] : UINT32_MAX;
			return page;
		}
		if (!pinned[page])
			cache->uses[page] = 0;
	}
}

static uint32_t lfu_leaves(const naive_cache *cache, const uint8_t *pinned)
{
	uint32_t least = UINT32_MAX;
	for (unsigned i = 0; i < cache->a.n; i++) {
		uint32_t page = cache->a.pages[i];
		if (pinned[page])
			continue;
		if (least == UINT32_MAX || cache->uses[page] < cache->uses[least] ||
			(cache->uses[page] == cache->uses[least] &&
				cache->last_use[page] < cache->last_use[least]))
			least = page;
	}
	return least;
}

static uint32_t simple_enter(naive_cache *cache, uint32_t page, const uint8_t *pinned)
{
	uint32_t leaves = UINT32_MAX;
	if (cache->a.n == cache->capacity) {
		leaves = is(cache, "clock")   ? clock_leaves(cache, pinned)
			 : is(cache, "lfu")   ? lfu_leaves(cache, pinned)
			 : is(cache, "sieve") ? sieve_leaves(cache, pinned)
					      : first_free(&cache->a, pinned);
		drop(&cache->a, leaves);
	}
	append(&cache->a, page);
	cache->uses[page] = 0;
	return leaves;
}

/* REPLACE of the paper: a is T1, b is T2, left_a is B1, left_b is B2. */
static uint32_t arc_replace(naive_cache *cache, bool in_left_b, const uint8_t *pinned)
{
	long once = cache->a.n;
	bool from_a = once >= 1 && ((in_left_b && once == cache->target) || once > cache->target);
	if (first_free(from_a ? &cache->a : &cache->b, pinned) == UINT32_MAX)
		from_a = !from_a;
	uint32_t leaves = first_free(from_a ? &cache->a : &cache->b, pinned);
	drop(from_a ? &cache->a : &cache->b, leaves);
	append(from_a ? &cache->left_a : &cache->left_b, leaves);
	return leaves;
}

static uint32_t arc_enter(naive_cache *cache, uint32_t page, const uint8_t *pinned)
{
	unsigned c = cache->capacity, b1 = cache->left_a.n, b2 = cache->left_b.n;
	bool full = cache->a.n + cache->b.n == c;
	uint32_t leaves = UINT32_MAX;
	if (find(&cache->left_a, page) >= 0) { /* case II */
		cache->target = MIN(c, cache->target + (b2 > b1 ? (double)b2 / b1 : 1));
		if (full)
			leaves = arc_replace(cache, false, pinned);
		drop(&cache->left_a, page);
		append(&cache->b, page);
	} else if (find(&cache->left_b, page) >= 0) { /* case III */
		cache->target = MAX(0, cache->target - (b1 > b2 ? (double)b1 / b2 : 1));
		if (full)
			leaves = arc_replace(cache, true, pinned);
		drop(&cache->left_b, page);
		append(&cache->b, page);
	} else if (cache->a.n + b1 == c && cache->a.n == c) { /* case IV A, all of it used once */
		leaves = first_free(&cache->a, pinned);
		drop(&cache->a, leaves);
		append(&cache->a, page);
	} else { /* case IV */
		if (cache->a.n + b1 == c)
			drop(&cache->left_a, cache->left_a.pages[0]);
		else if (cache->a.n + cache->b.n + b1 + b2 == 2 * c)
			drop(&cache->left_b, cache->left_b.pages[0]);
		if (full)
			leaves = arc_replace(cache, false, pinned);
		append(&cache->a, page);
	}
	return leaves;
}

static void s3fifo_remember(naive_cache *cache, uint32_t page)
{
	append(&cache->left_a, page);
	while (cache->left_a.n > cache->capacity * 9 / 10)
		drop(&cache->left_a, cache->left_a.pages[0]);
}

/* EVICTS of the paper: a is S, b is M, left_a is G. Access bits are cleared during the move. */
static uint32_t s3fifo_from_small(naive_cache *cache, const uint8_t *pinned)
{
	for (;;) {
		uint32_t page = first_free(&cache->a, pinned);
		if (page == UINT32_MAX)
			return page;
		drop(&cache->a, page);
		if (cache->uses[page] <= 1) {
			s3fifo_remember(cache, page);
			return page;
		}
		cache->uses[page] = 0;
		append(&cache->b, page);
	}
}

static uint32_t s3fifo_from_main(naive_cache *cache, const uint8_t *pinned)
{
	for (;;) {
		uint32_t page = first_free(&cache->b, pinned);
		if (page == UINT32_MAX)
			return page;
		drop(&cache->b, page);
		if (cache->uses[page] == 0)
			return page;
		cache->uses[page]--;
		append(&cache->b, page);
	}
}

static uint32_t s3fifo_enter(naive_cache *cache, uint32_t page, const uint8_t *pinned)
{
	uint32_t leaves = UINT32_MAX;
	bool returned = drop(&cache->left_a, page);
	if (cache->a.n + cache->b.n == cache->capacity) {
		if (cache->a.n >= cache->capacity / 10)
			leaves = s3fifo_from_small(cache, pinned);
		if (leaves == UINT32_MAX)
			leaves = s3fifo_from_main(cache, pinned);
		if (leaves == UINT32_MAX)
			leaves = s3fifo_from_small(cache, pinned);
		if (leaves == UINT32_MAX)
			leaves = s3fifo_from_main(cache, pinned);
	}
	append(returned ? &cache->b : &cache->a, page);
	cache->uses[page] = 0;
	return leaves;
}

uint32_t naive_enter(naive_cache *cache, uint32_t page, const uint8_t *pinned)
{
	cache->last_use[page] = ++cache->now;
	if (is(cache, "arc"))
		return arc_enter(cache, page, pinned);
	if (is(cache, "s3fifo"))
		return s3fifo_enter(cache, page, pinned);
	return simple_enter(cache, page, pinned);
}
