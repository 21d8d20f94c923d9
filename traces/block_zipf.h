/*
 * block_zipf.h: a block trace that is made, not recorded: independent accesses, the k-th most
 * popular block in proportion to 1 / k^alpha. What caches are commonly compared on; nothing in it
 * is as in prompts.
 */
#ifndef KVT_BLOCK_ZIPF_H
#define KVT_BLOCK_ZIPF_H

#include "traces/block_trace.h"

typedef struct kvt_zipf {
	double alpha; /* 0: all the same */
	uint32_t n_blocks;
	uint64_t n_accesses;
	uint64_t seed;
} kvt_zipf;

/* The same for the same numbers; blocks that are never asked for have no id. */
kvt_block_trace *kvt_block_zipf(const kvt_zipf *zipf);

#endif
