/* cache_run.c: a page cache over block accesses, by number or by bytes. */
#include "sim/cache/cache_run.h"

#include "sim/cache/page_cache.h"

/* Accesses ahead of which memory is asked for. */
enum { AHEAD = 24 };

static uint32_t bytes_of(const kvt_accesses *accesses, uint64_t i)
{
	return accesses->bytes != NULL ? accesses->bytes[i] : accesses->block_bytes;
}

bool kvt_cache_run_takes_bytes(const kvt_policy_ops *policy)
{
	return !policy->counts_pages;
}

/* Neither pins nor time: what is asked for enters at once. */
static void run_by_number(
	const kvt_accesses *accesses, kvt_page_cache *cache, kvt_cache_misses *misses)
{
	const uint32_t *blocks = accesses->blocks;
	for (uint64_t i = 0; i < accesses->n; i++) {
		uint32_t block = blocks[i], evicted;
		if (i + AHEAD < accesses->n)
			__builtin_prefetch(&cache->resident[blocks[i + AHEAD]]);
		if (kvt_page_cache_has(cache, block)) {
			kvt_page_cache_touch(cache, block);
			continue;
		}
		misses->accesses++;
		misses->bytes += bytes_of(accesses, i);
		kvt_page_cache_enter(cache, block, &evicted);
	}
}

/* The cache has room for every block; it is bytes that end. */
static void run_by_bytes(const kvt_accesses *accesses, kvt_page_cache *cache, uint64_t capacity,
	kvt_cache_misses *misses)
{
	g_autofree uint32_t *held = g_new(uint32_t, accesses->n_blocks);
	uint64_t used = 0;
	for (uint64_t i = 0; i < accesses->n; i++) {
		uint32_t block = accesses->blocks[i], bytes = accesses->bytes[i], evicted;
		if (kvt_page_cache_has(cache, block)) {
			kvt_page_cache_touch(cache, block);
			continue;
		}
		misses->accesses++;
		misses->bytes += bytes;
		if (bytes > capacity) {
			misses->too_large++;
			continue;
		}
		while (used + bytes > capacity) {
			evicted = cache->policy->ops->victim(cache->policy, cache->pinned);
			kvt_page_cache_remove(cache, evicted);
			used -= held[evicted];
		}
		kvt_page_cache_enter(cache, block, &evicted);
		held[block] = bytes;
		used += bytes;
	}
}

/* Blocks that fit, where that does not depend on which. */
static bool blocks_that_fit(
	const kvt_accesses *accesses, kvt_cache_capacity capacity, uint64_t *blocks)
{
	if (capacity.in_bytes && accesses->bytes != NULL)
		return false;
	*blocks = capacity.in_bytes ? capacity.amount / accesses->block_bytes : capacity.amount;
	*blocks = MIN(*blocks, accesses->n_blocks);
	return true;
}

static void all_too_large(const kvt_accesses *accesses, kvt_cache_misses *misses)
{
	misses->accesses = misses->too_large = accesses->n;
	misses->bytes = accesses->n * accesses->block_bytes;
}

void kvt_cache_run(const kvt_accesses *accesses, const kvt_policy_ops *policy,
	kvt_cache_capacity capacity, kvt_cache_misses *misses)
{
	uint64_t blocks;
	bool by_number = blocks_that_fit(accesses, capacity, &blocks);
	g_assert(!policy->needs_future && (by_number || kvt_cache_run_takes_bytes(policy)));
	*misses = (kvt_cache_misses){ 0 };
	if (by_number && blocks == 0) {
		all_too_large(accesses, misses);
		return;
	}
	g_autoptr(kvt_page_cache) cache = kvt_page_cache_new(
		policy, accesses->n_blocks, by_number ? (uint32_t)blocks : accesses->n_blocks);
	if (by_number)
		run_by_number(accesses, cache, misses);
	else
		run_by_bytes(accesses, cache, capacity.amount, misses);
}

void kvt_cache_run_compulsory(const kvt_accesses *accesses, kvt_cache_misses *misses)
{
	g_autofree uint8_t *seen = g_new0(uint8_t, accesses->n_blocks);
	*misses = (kvt_cache_misses){ 0 };
	for (uint64_t i = 0; i < accesses->n; i++) {
		if (seen[accesses->blocks[i]])
			continue;
		seen[accesses->blocks[i]] = 1;
		misses->accesses++;
		misses->bytes += bytes_of(accesses, i);
	}
}

/* A set of accesses by number, 64 to a word, with a word's worth of words above, and so on. */
enum { LEVELS_MAX = 6 };

typedef struct access_set {
	uint64_t *word[LEVELS_MAX];
	unsigned levels;
} access_set;

static void set_init(access_set *set, uint64_t n)
{
	*set = (access_set){ 0 };
	do {
		n = (n + 63) / 64;
		set->word[set->levels++] = g_new0(uint64_t, n);
	} while (n > 1);
}

static void set_clear(access_set *set)
{
	for (unsigned level = 0; level < set->levels; level++)
		g_free(set->word[level]);
}

static bool set_has(const access_set *set, uint64_t i)
{
	return set->word[0][i / 64] >> i % 64 & 1;
}

static void set_add(access_set *set, uint64_t i)
{
	for (unsigned level = 0; level < set->levels; level++, i /= 64) {
		uint64_t before = set->word[level][i / 64];
		set->word[level][i / 64] |= UINT64_C(1) << i % 64;
		if (before != 0)
			return;
	}
}

static void set_remove(access_set *set, uint64_t i)
{
	for (unsigned level = 0; level < set->levels; level++, i /= 64) {
		set->word[level][i / 64] &= ~(UINT64_C(1) << i % 64);
		if (set->word[level][i / 64] != 0)
			return;
	}
}

/* The largest member; there is one. */
static uint64_t set_last(const access_set *set)
{
	uint64_t i = 0;
	for (unsigned level = set->levels; level-- > 0;)
		i = i * 64 + 63 - (uint64_t)__builtin_clzll(set->word[level][i]);
	return i;
}

/* What a block takes from the capacity. */
static uint64_t weight(const kvt_accesses *accesses, kvt_cache_capacity capacity, uint64_t i)
{
	return capacity.in_bytes ? bytes_of(accesses, i) : 1;
}

void kvt_cache_run_belady(const kvt_accesses *accesses, const uint32_t *next,
	kvt_cache_capacity capacity, kvt_cache_misses *misses)
{
	bool vary = capacity.in_bytes && accesses->bytes != NULL;
	/* what a block weighed when it entered, at its next access */
	g_autofree uint32_t *held = vary ? g_new(uint32_t, accesses->n) : NULL;
	uint64_t used = 0; /* by blocks that are used again */
	access_set residents;
	set_init(&residents, accesses->n);
	*misses = (kvt_cache_misses){ 0 };
	for (uint64_t i = 0; i < accesses->n; i++) {
		uint64_t mine = weight(accesses, capacity, i);
		bool hit = set_has(&residents, i);
		if (hit) {
			mine = vary ? held[i] : mine;
			set_remove(&residents, i);
			used -= mine;
		} else {
			misses->accesses++;
			misses->bytes += bytes_of(accesses, i);
			misses->too_large += mine > capacity.amount;
		}
		if (mine > capacity.amount)
			continue;
		while (used + mine > capacity.amount) {
			uint64_t last = set_last(&residents);
			set_remove(&residents, last);
			used -= vary ? held[last] : mine;
		}
		if (next[i] == UINT32_MAX)
			continue;
		set_add(&residents, next[i]);
		used += mine;
		if (vary)
			held[next[i]] = (uint32_t)mine;
	}
	set_clear(&residents);
}
