/* naive_kv.h: the KV manager of one kind of global layers as its rules read: lists of blocks that
 * are searched from end to end, and sums that are added up anew each time. Slow, and easy to
 * believe; what the real one is compared with, block by block. LRU everywhere, no quotas. */
#ifndef KVT_NAIVE_KV_H
#define KVT_NAIVE_KV_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum { NAIVE_KV_MAX = 512, NAIVE_KV_TIERS = 2 };

typedef enum naive_state { NAIVE_EMPTY, NAIVE_LOADING, NAIVE_READY } naive_state;

/* A block in HBM by its name; `recent` orders those that are kept. */
typedef struct naive_block {
	unsigned name, tokens, holders;
	naive_state state;
	bool kept; /* whole, and held by nobody at least once */
	uint64_t recent;
} naive_block;

typedef struct naive_copy {
	unsigned name, pins;
	bool arriving;
	uint64_t recent;
} naive_copy;

typedef struct naive_sequence {
	bool used;
	unsigned tenant, names[NAIVE_KV_MAX], n_names;
	unsigned prompt, room, computed;
	unsigned own[NAIVE_KV_MAX], n_own; /* tokens of its own blocks */
} naive_sequence;

typedef struct naive_move {
	bool used, load, keeps;
	unsigned from, to, names[NAIVE_KV_MAX], n;
} naive_move;

typedef struct naive_kv {
	unsigned block, page, pages;   /* tokens, tokens, in HBM */
	unsigned room[NAIVE_KV_TIERS]; /* blocks of the tiers */
	bool write_through;
	naive_block hbm[NAIVE_KV_MAX];
	unsigned n_hbm;
	naive_copy tiers[NAIVE_KV_TIERS][NAIVE_KV_MAX];
	unsigned n_tier[NAIVE_KV_TIERS];
	naive_sequence sequences[16];
	/* moves of the last call, by where they go */
	naive_move moves[16];
	unsigned n_moves;
	uint64_t now;
} naive_kv;

/* The name of a tenant's id: tenants never share one. */
unsigned naive_kv_name(unsigned tenant, unsigned id);

naive_block *naive_kv_find(naive_kv *kv, unsigned name);
naive_copy *naive_kv_find_copy(naive_kv *kv, unsigned tier, unsigned name);
unsigned naive_kv_used_pages(const naive_kv *kv);
unsigned naive_kv_used_tokens(const naive_kv *kv);

/* Blocks of a prefix that is there, by level. */
unsigned naive_kv_match(naive_kv *kv, unsigned tenant, const uint32_t *ids, unsigned n_ids,
	unsigned tokens, unsigned levels[1 + NAIVE_KV_TIERS]);
bool naive_kv_admit(naive_kv *kv, unsigned sequence, unsigned tenant, const uint32_t *ids,
	unsigned n_ids, unsigned tokens);
bool naive_kv_extend(naive_kv *kv, unsigned sequence, unsigned tokens);
void naive_kv_computed(naive_kv *kv, unsigned sequence, unsigned tokens);
void naive_kv_end(naive_kv *kv, unsigned sequence, const uint32_t *ids, unsigned n_ids, bool drop);
void naive_kv_moved(naive_kv *kv, const naive_move *move, unsigned n_intact);

#endif
