/* naive_policy.h: eviction policies as their papers describe them, with lists that are searched
 * from end to end: slow, and easy to believe. What the real ones are compared with, page by page.
 */
#ifndef KVT_NAIVE_POLICY_H
#define KVT_NAIVE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

enum { NAIVE_PAGES_MAX = 8192 };

typedef struct naive_list {
	unsigned n;
	uint32_t pages[NAIVE_PAGES_MAX]; /* the oldest first */
} naive_list;

typedef struct naive_cache {
	const char *policy;
	unsigned capacity;
	naive_list a, b, left_a, left_b; /* resident; remembered */
	unsigned uses[NAIVE_PAGES_MAX];
	uint64_t last_use[NAIVE_PAGES_MAX], now;
	double target; /* ARC's p */
	uint32_t hand; /* SIEVE's: the page it is at, or UINT32_MAX: the oldest */
} naive_cache;

/* Whether there is one of that name. */
bool naive_knows(const char *policy);

void naive_init(naive_cache *cache, const char *policy, unsigned capacity);
bool naive_has(const naive_cache *cache, uint32_t page);
void naive_touch(naive_cache *cache, uint32_t page);
void naive_remove(naive_cache *cache, uint32_t page);

/* Lets an absent page in; returns the page that leaves for it, UINT32_MAX when there is room. Some
 * page is not pinned when there is none. */
uint32_t naive_enter(naive_cache *cache, uint32_t page, const uint8_t *pinned);

#endif
