/* cache_options.h: what `kvtier cache` is asked: which trace, which policies, how large caches. It
 * runs nothing; cache_command.c does. */
#ifndef KVT_CACHE_OPTIONS_H
#define KVT_CACHE_OPTIONS_H

#include "sim/cache/cache_run.h"
#include "sim/cache/policy.h"
#include "traces/block_trace.h"

/* A capacity and how it was written; the share of distinct blocks becomes blocks with a trace. */
typedef struct kvt_cache_size {
	double amount;
	enum { KVT_CACHE_IN_BLOCKS, KVT_CACHE_IN_BYTES, KVT_CACHE_IN_SHARE } unit;
} kvt_cache_size;

/* The policies of "lru,arc", each once; NULL-terminated, g_free'd. NULL with an error for what is
 * not known or cannot work on a block trace. */
const kvt_policy_ops **kvt_cache_policies(const char *text, GError **error);

/* The sizes of "1K,10%,4GiB" into *n of them, g_free'd; NULL with an error. */
kvt_cache_size *kvt_cache_sizes(const char *text, unsigned *n, GError **error);

/* What a size is for accesses; false with an error when it is nothing, or in bytes and those of
 * blocks are not known. */
bool kvt_cache_capacity_of(const kvt_cache_size *size, const kvt_accesses *accesses,
	kvt_cache_capacity *capacity, GError **error);

/* The trace of a file, or one made for "zipf:ALPHA,BLOCKS,ACCESSES[,SEED]". */
kvt_block_trace *kvt_cache_trace(const char *text, kvt_block_source source, GError **error);

#endif
