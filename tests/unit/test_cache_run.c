/*
 * test_cache_run.c: caches alone over block accesses, access by access against slow ones made of
 * lists, by number of blocks and by bytes, and Belady against every choice there is.
 */
#include <glib.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/cache/cache_run.h"
#include "tests/unit/naive_policy.h"

enum { LENGTH = 300, BLOCKS = 40, ROUNDS = 12, BYTES_MAX = 9 };

typedef struct sequence {
	uint32_t blocks[LENGTH], bytes[LENGTH], next[LENGTH];
} sequence;

/* Half of the accesses go to one of the last few blocks; with `resize` a block's size varies. */
static void make_sequence(kvt_rng *rng, sequence *s, uint32_t n_blocks, bool resize)
{
	uint32_t size[BLOCKS];
	for (uint32_t b = 0; b < n_blocks; b++)
		size[b] = 1 + (uint32_t)kvt_rng_below(rng, BYTES_MAX);
	for (unsigned i = 0; i < LENGTH; i++) {
		bool again = i >= 8 && kvt_rng_below(rng, 2) == 0;
		s->blocks[i] = again ? s->blocks[i - 1 - kvt_rng_below(rng, 8)]
				     : (uint32_t)kvt_rng_below(rng, n_blocks);
		if (resize && kvt_rng_below(rng, 8) == 0)
			size[s->blocks[i]] = 1 + (uint32_t)kvt_rng_below(rng, BYTES_MAX);
		s->bytes[i] = size[s->blocks[i]];
	}
	for (unsigned i = 0; i < LENGTH; i++) {
		s->next[i] = UINT32_MAX;
		for (unsigned j = LENGTH - 1; j > i; j--)
			if (s->blocks[j] == s->blocks[i])
				s->next[i] = j;
	}
}

static kvt_accesses first(const sequence *s, unsigned n, uint32_t n_blocks)
{
	return (kvt_accesses){
		.blocks = s->blocks, .bytes = s->bytes, .n = n, .n_blocks = n_blocks
	};
}

static bool by_lists_misses(naive_cache *naive, uint32_t block)
{
	static const uint8_t none_pinned[NAIVE_PAGES_MAX];
	if (naive_has(naive, block)) {
		naive_touch(naive, block);
		return false;
	}
	naive_enter(naive, block, none_pinned);
	return true;
}

/* What the i-th access does is the difference between runs that end before and after it. */
static void test_by_number(void)
{
	g_autofree naive_cache *naive = g_new(naive_cache, 1);
	kvt_rng rng = kvt_rng_init(31, 1);
	unsigned compared = 0;
	for (size_t p = 0; kvt_policy_registry()[p]; p++) {
		const kvt_policy_ops *ops = kvt_policy_registry()[p];
		if (!naive_knows(ops->name))
			continue;
		compared++;
		for (unsigned round = 0; round < ROUNDS; round++) {
			sequence s;
			make_sequence(&rng, &s, BLOCKS, round % 2);
			uint32_t capacity = 1 + (uint32_t)kvt_rng_below(&rng, BLOCKS);
			uint64_t misses = 0, bytes = 0;
			naive_init(naive, ops->name, capacity);
			for (unsigned i = 0; i < LENGTH; i++) {
				kvt_accesses accesses = first(&s, i + 1, BLOCKS);
				kvt_cache_misses found;
				bool missed = by_lists_misses(naive, s.blocks[i]);
				misses += missed;
				bytes += missed ? s.bytes[i] : 0;
				kvt_cache_run(&accesses, ops,
					(kvt_cache_capacity){ .amount = capacity }, &found);
				g_assert_cmpuint(found.accesses, ==, misses);
				g_assert_cmpuint(found.bytes, ==, bytes);
				g_assert_cmpuint(found.too_large, ==, 0);
			}
		}
	}
	g_assert_cmpuint(compared, ==, 7);
}

/* A cache of blocks of any size, as a list in the order in which they entered or were used. */
typedef struct sized_block {
	uint32_t block, bytes, uses, next;
	unsigned used_at;
} sized_block;

typedef struct sized_cache {
	const char *policy;
	GArray *blocks; /* sized_block, the oldest first */
	unsigned hand;  /* SIEVE's, an index */
	uint64_t capacity;
} sized_cache;

static sized_block *at(const sized_cache *cache, unsigned i)
{
	return &g_array_index(cache->blocks, sized_block, i);
}

/* Whether the first should leave before the second. */
static bool leaves_before(const char *policy, const sized_block *a, const sized_block *b)
{
	if (strcmp(policy, "lru") == 0)
		return a->used_at < b->used_at;
	if (strcmp(policy, "belady") == 0)
		return a->next > b->next;
	if (strcmp(policy, "lfu") == 0)
		return a->uses < b->uses || (a->uses == b->uses && a->used_at < b->used_at);
	return false; /* fifo: in their order */
}

static unsigned sized_victim(sized_cache *cache)
{
	unsigned best = 0;
	if (strcmp(cache->policy, "clock") == 0) {
		while (at(cache, 0)->uses > 0) {
			sized_block passed = *at(cache, 0);
			passed.uses = 0;
			g_array_remove_index(cache->blocks, 0);
			g_array_append_val(cache->blocks, passed);
		}
		return 0;
	}
	if (strcmp(cache->policy, "sieve") == 0) {
		while (at(cache, cache->hand)->uses > 0) {
			at(cache, cache->hand)->uses = 0;
			cache->hand = (cache->hand + 1) % cache->blocks->len;
		}
		return cache->hand; /* the next younger one has this index when it is gone */
	}
	for (unsigned i = 1; i < cache->blocks->len; i++)
		if (leaves_before(cache->policy, at(cache, i), at(cache, best)))
			best = i;
	return best;
}

/* Whether it misses; *too_large: it does not fit at all. */
static bool sized_access(sized_cache *cache, const sequence *s, unsigned i, bool *too_large)
{
	uint64_t used = 0;
	*too_large = false;
	for (unsigned k = 0; k < cache->blocks->len; k++) {
		sized_block *block = at(cache, k);
		if (block->block == s->blocks[i]) {
			block->uses++;
			block->used_at = i;
			block->next = s->next[i];
			return false;
		}
		used += block->bytes;
	}
	*too_large = s->bytes[i] > cache->capacity;
	if (*too_large)
		return true;
	while (used + s->bytes[i] > cache->capacity) {
		unsigned victim = sized_victim(cache);
		used -= at(cache, victim)->bytes;
		g_array_remove_index(cache->blocks, victim);
		/* from the youngest on to the oldest, not to what enters next */
		cache->hand = cache->hand < cache->blocks->len ? cache->hand : 0;
	}
	sized_block block = {
		.block = s->blocks[i], .bytes = s->bytes[i], .used_at = i, .next = s->next[i]
	};
	g_array_append_val(cache->blocks, block);
	return true;
}

static void compare_bytes(const kvt_policy_ops *ops, const sequence *s, uint64_t capacity)
{
	sized_cache cache = { .policy = ops->name,
		.capacity = capacity,
		.blocks = g_array_new(FALSE, FALSE, sizeof(sized_block)) };
	kvt_cache_misses should = { 0 }, found;
	for (unsigned i = 0; i < LENGTH; i++) {
		bool too_large, missed = sized_access(&cache, s, i, &too_large);
		should.accesses += missed;
		should.bytes += missed ? s->bytes[i] : 0;
		should.too_large += too_large;
		/* no access lies ahead that the list does not know of, so ends may be cut off */
		if (i % 7 != 0 && i + 1 < LENGTH && !ops->needs_future)
			continue;
		kvt_accesses accesses = first(s, i + 1, BLOCKS);
		kvt_cache_capacity bytes = { .in_bytes = true, .amount = capacity };
		if (!ops->needs_future)
			kvt_cache_run(&accesses, ops, bytes, &found);
		else if (i + 1 == LENGTH)
			kvt_cache_run_belady(&accesses, s->next, bytes, &found);
		else
			continue;
		g_assert_cmpuint(found.accesses, ==, should.accesses);
		g_assert_cmpuint(found.bytes, ==, should.bytes);
		g_assert_cmpuint(found.too_large, ==, should.too_large);
	}
	g_array_free(cache.blocks, TRUE);
}

static void test_by_bytes(void)
{
	kvt_rng rng = kvt_rng_init(32, 1);
	unsigned compared = 0;
	for (size_t p = 0; kvt_policy_registry()[p]; p++) {
		const kvt_policy_ops *ops = kvt_policy_registry()[p];
		if (!kvt_cache_run_takes_bytes(ops) || ops->mass)
			continue;
		compared++;
		for (unsigned round = 0; round < 4 * ROUNDS; round++) {
			sequence s;
			make_sequence(&rng, &s, BLOCKS, round % 2);
			compare_bytes(ops, &s, 4 + kvt_rng_below(&rng, 150));
		}
	}
	g_assert_cmpuint(compared, ==, 6);
}

/* The fewest misses when every missed block enters: every victim is tried. */
static unsigned fewest(const sequence *s, unsigned i, unsigned n, uint32_t held, int capacity)
{
	while (i < n && held >> s->blocks[i] & 1)
		i++;
	if (i == n)
		return 0;
	uint32_t mine = 1u << s->blocks[i];
	if (__builtin_popcount(held) < capacity)
		return 1 + fewest(s, i + 1, n, held | mine, capacity);
	unsigned best = UINT_MAX;
	for (uint32_t rest = held; rest != 0; rest &= rest - 1)
		best = MIN(best, fewest(s, i + 1, n, (held & ~(rest & -rest)) | mine, capacity));
	return 1 + best;
}

static void test_belady(void)
{
	enum { SHORT = 14, FEW = 5 };
	kvt_rng rng = kvt_rng_init(33, 1);
	for (unsigned round = 0; round < 60; round++) {
		sequence s;
		make_sequence(&rng, &s, FEW, false);
		for (unsigned i = 0; i < SHORT; i++)
			s.next[i] = s.next[i] < SHORT ? s.next[i] : UINT32_MAX;
		for (int capacity = 1; capacity <= FEW; capacity++) {
			kvt_accesses accesses = first(&s, SHORT, FEW);
			kvt_cache_misses found;
			kvt_cache_run_belady(&accesses, s.next,
				(kvt_cache_capacity){ .amount = (uint64_t)capacity }, &found);
			g_assert_cmpuint(found.accesses, ==, fewest(&s, 0, SHORT, 0, capacity));
		}
	}
}

/* First accesses are missed by all, Belady's are the fewest, and all that fits misses no more. */
static void test_bounds(void)
{
	kvt_rng rng = kvt_rng_init(34, 1);
	for (unsigned round = 0; round < ROUNDS; round++) {
		sequence s;
		make_sequence(&rng, &s, BLOCKS, false);
		kvt_accesses accesses = first(&s, LENGTH, BLOCKS);
		kvt_cache_misses floor, least, found;
		kvt_cache_run_compulsory(&accesses, &floor);
		for (uint64_t capacity = 1; capacity <= BLOCKS + 5; capacity += 5) {
			kvt_cache_capacity blocks = { .amount = capacity };
			kvt_cache_run_belady(&accesses, s.next, blocks, &least);
			g_assert_cmpuint(least.accesses, >=, floor.accesses);
			for (size_t p = 0; kvt_policy_registry()[p]; p++) {
				if (kvt_policy_registry()[p]->needs_future)
					continue;
				kvt_cache_run(&accesses, kvt_policy_registry()[p], blocks, &found);
				g_assert_cmpuint(found.accesses, >=, least.accesses);
				if (capacity >= BLOCKS) {
					g_assert_cmpuint(found.accesses, ==, floor.accesses);
					g_assert_cmpuint(found.bytes, ==, floor.bytes);
				}
			}
		}
	}
}

/* Bytes of blocks of one size are blocks, rounded down; of none that fits all misses. */
static void test_one_size(void)
{
	kvt_rng rng = kvt_rng_init(35, 1);
	sequence s;
	make_sequence(&rng, &s, BLOCKS, false);
	kvt_accesses accesses = {
		.blocks = s.blocks, .n = LENGTH, .n_blocks = BLOCKS, .block_bytes = 4096
	};
	const kvt_policy_ops *lru = kvt_policy_find("lru", NULL);
	kvt_cache_misses by_blocks, by_bytes;
	kvt_cache_run(&accesses, lru, (kvt_cache_capacity){ .amount = 9 }, &by_blocks);
	kvt_cache_run(&accesses, lru,
		(kvt_cache_capacity){ .in_bytes = true, .amount = 10 * 4096 - 1 }, &by_bytes);
	g_assert_cmpuint(by_blocks.accesses, ==, by_bytes.accesses);
	g_assert_cmpuint(by_blocks.bytes, ==, by_blocks.accesses * 4096);
	kvt_cache_run_belady(&accesses, s.next, (kvt_cache_capacity){ .amount = 9 }, &by_blocks);
	kvt_cache_run_belady(&accesses, s.next,
		(kvt_cache_capacity){ .in_bytes = true, .amount = 10 * 4096 - 1 }, &by_bytes);
	g_assert_cmpuint(by_blocks.accesses, ==, by_bytes.accesses);
	kvt_cache_capacity too_small = { .in_bytes = true, .amount = 4095 };
	kvt_cache_run(&accesses, lru, too_small, &by_bytes);
	g_assert_cmpuint(by_bytes.accesses, ==, LENGTH);
	g_assert_cmpuint(by_bytes.too_large, ==, LENGTH);
	kvt_cache_run_belady(&accesses, s.next, too_small, &by_blocks);
	g_assert_cmpmem(&by_blocks, sizeof(by_blocks), &by_bytes, sizeof(by_bytes));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cache-run/by-number", test_by_number);
	g_test_add_func("/cache-run/by-bytes", test_by_bytes);
	g_test_add_func("/cache-run/belady", test_belady);
	g_test_add_func("/cache-run/bounds", test_bounds);
	g_test_add_func("/cache-run/one-size", test_one_size);
	return g_test_run();
}
