/*
 * attention_internal.h: the inside of an attention model, for the files that fit, save and ask it;
 * nobody else's business.
 */
#ifndef KVT_ATTENTION_INTERNAL_H
#define KVT_ATTENTION_INTERNAL_H

#include "models/attention_model.h"

/* Query heads and KV heads that were measured together. */
typedef struct kvt_attention_pair {
	int64_t heads, kv_heads;
} kvt_attention_pair;

/* Prefill behind a prefix, one sequence: measured over what the grid, without prefixes, says. */
typedef struct kvt_attention_behind {
	kvt_attention_pair pair;
	int64_t tokens, prefix; /* new ones, earlier ones; at least 1 */
	double factor;
} kvt_attention_behind;

/* A measured kernel: one phase, source, pair of formats and head_dim, on its grid. */
typedef struct kvt_attention_grid {
	kvt_attention_phase phase;
	char *source, *dtype, *kv_dtype;
	double dtype_bytes, kv_bytes;
	int64_t head_dim;
	kvt_attention_base base;
	GArray *batches, *tokens; /* int64_t, ascending */
	GArray *pairs;            /* kvt_attention_pair, by KV heads, then heads */
	/* ln(seconds) at (pair, batch, tokens), tokens fastest; never falls in batch or tokens */
	double *times;
	/* at (pair, batch): how many of `tokens` lie within the measured ones; 0: none measured */
	uint8_t *reach;
	GArray *behind; /* kvt_attention_behind, of prefill; empty where it was not measured */
} kvt_attention_grid;

struct kvt_attention_model {
	char *name;
	kvt_attention_gpu gpu;
	GPtrArray *grids; /* kvt_attention_grid, by phase, source, formats, head_dim */
};

enum {
	KVT_GRID_BATCHES_MAX = 64,
	KVT_GRID_TOKENS_MAX = 64,
	KVT_GRID_PAIRS_MAX = 256,
	KVT_GRIDS_MAX = 64,
	KVT_GRID_BEHIND_MAX = 1024,
};

kvt_attention_model *kvt_attention_model_new(const char *name, const kvt_attention_gpu *gpu);
kvt_attention_grid *kvt_attention_grid_new(kvt_attention_phase phase, const char *source,
	const char *dtype, const char *kv_dtype, int64_t head_dim);
void kvt_attention_grid_free(kvt_attention_grid *grid);
/* Allocates times and reach once the axes are there. */
void kvt_attention_grid_allocate(kvt_attention_grid *grid);

/* What the measured prefixes say of the query's, by distance; 1 where there are none. */
double kvt_attention_behind_factor(
	const kvt_attention_grid *grid, const kvt_attention_query *query);
/* Takes prefill rows of one sequence with a prefix into grids that are otherwise fitted. */
void kvt_attention_behind_fit(kvt_attention_model *model, const kvt_kernel_row *rows, size_t count);
/* To the step in which a table keeps it, and between 1/100 and 100. */
double kvt_attention_behind_round(double factor);

/* Bytes of an element of a format by any of its names, 0 for an unknown one. */
double kvt_attention_dtype_bytes(const char *name);

static inline int64_t kvt_grid_batch(const kvt_attention_grid *grid, unsigned i)
{
	return g_array_index(grid->batches, int64_t, i);
}

static inline int64_t kvt_grid_tokens(const kvt_attention_grid *grid, unsigned i)
{
	return g_array_index(grid->tokens, int64_t, i);
}

static inline kvt_attention_pair kvt_grid_pair(const kvt_attention_grid *grid, unsigned i)
{
	return g_array_index(grid->pairs, kvt_attention_pair, i);
}

static inline size_t kvt_grid_cell(
	const kvt_attention_grid *grid, unsigned pair, unsigned batch, unsigned tokens)
{
	return ((size_t)pair * grid->batches->len + batch) * grid->tokens->len + tokens;
}

static inline size_t kvt_grid_cells(const kvt_attention_grid *grid)
{
	return (size_t)grid->pairs->len * grid->batches->len * grid->tokens->len;
}

/* ln(seconds) to the step in which a table keeps it, so that a fitted model predicts what a saved
 * and loaded one does. */
double kvt_attention_quantise(double log_seconds);

#endif
