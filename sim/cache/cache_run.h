/*
 * cache_run.h: a cache alone over a sequence of block accesses: how many miss, of blocks and of
 * bytes. There is no time in it and nothing else that moves: a missed block enters at once. Blocks
 * of different sizes may share a capacity in bytes.
 */
#ifndef KVT_CACHE_RUN_H
#define KVT_CACHE_RUN_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "sim/cache/policy.h"

/* Borrowed; blocks are dense ids below n_blocks. */
typedef struct kvt_accesses {
	const uint32_t *blocks; /* n; fewer than 2^32 - 1 */
	const uint32_t *bytes;  /* n, of the block at that access; NULL: always block_bytes */
	uint64_t n;
	uint32_t n_blocks;
	uint32_t block_bytes;
} kvt_accesses;

/* How much fits. */
typedef struct kvt_cache_capacity {
	bool in_bytes;   /* else blocks, whatever their sizes */
	uint64_t amount; /* 1 at least */
} kvt_cache_capacity;

typedef struct kvt_cache_misses {
	uint64_t accesses, bytes;
	uint64_t too_large; /* accesses to blocks that are larger than the cache: always missed */
} kvt_cache_misses;

/* Whether blocks of different sizes may share a capacity in bytes under this policy: not where it
 * decides by a number of blocks (ARC, S3-FIFO). */
bool kvt_cache_run_takes_bytes(const kvt_policy_ops *policy);

/*
 * Replays all of it through a cache that is empty at first. A block keeps the size it entered with
 * until it leaves. A capacity in bytes of blocks of one size is one of blocks, rounded down; none
 * at all misses everything. The policy does not need the future.
 */
void kvt_cache_run(const kvt_accesses *accesses, const kvt_policy_ops *policy,
	kvt_cache_capacity capacity, kvt_cache_misses *misses);

/*
 * The same under Belady's MIN: the block that is used again last leaves. With blocks of one size,
 * or a capacity in blocks, no policy that lets every missed block in misses less often; of
 * different sizes in bytes it is a strong policy and no bound. next[i] is the access after i to the
 * same block, UINT32_MAX: none.
 *
 * It needs no list of blocks: a resident block is a bit at its next access, which is then a hit;
 * the last bit is who leaves. One that is never used again leaves first, so it takes no room from
 * others after its own access.
 */
void kvt_cache_run_belady(const kvt_accesses *accesses, const uint32_t *next,
	kvt_cache_capacity capacity, kvt_cache_misses *misses);

/* What every cache misses: the first access to each block. */
void kvt_cache_run_compulsory(const kvt_accesses *accesses, kvt_cache_misses *misses);

#endif
