/*
 * replay_source.h: what a replay reads: which pages exist at each decode step and how strongly each
 * KV head attended to them. replay_trace.h makes one of a recorded trace; tests make their own. It
 * knows nothing of budgets, tiers or time.
 */
#ifndef KVT_REPLAY_SOURCE_H
#define KVT_REPLAY_SOURCE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Shares of the attention mass of one (step, layer, KV head) by page, in any order; the pages are
 * distinct and present. Those that are not listed have the rest of the mass, at most 1 - sum. */
typedef struct kvt_replay_row {
	uint32_t n;
	const uint32_t *pages;
	const float *mass;
} kvt_replay_row;

/* The pages that a step can attend to in a layer, first .. end - 1. */
typedef struct kvt_replay_present {
	uint32_t first, end;
	bool closed; /* the step's token is the last that fits into page end - 1 */
	bool prompt; /* it was given, not sampled: one of the question's own tokens */
} kvt_replay_present;

typedef struct kvt_replay_source kvt_replay_source;
struct kvt_replay_source {
	uint32_t n_steps, n_layers, n_heads;
	uint32_t n_pages;              /* page ids are below it */
	const uint32_t *layer_numbers; /* [n_layers], as in the model; they go into extents */
	/* Neither first nor end falls from one step to the next. */
	kvt_replay_present (*present)(
		const kvt_replay_source *source, uint32_t step, uint32_t layer);
	/* Rows are asked for in order of steps, once (twice where a policy looks ahead). A row
	 * should list at least `wanted` pages where as many are present. Its arrays hold until the
	 * next call. False with an error when the source cannot be read. */
	bool (*row)(kvt_replay_source *source, uint32_t step, uint32_t layer, uint32_t head,
		uint32_t wanted, kvt_replay_row *row, GError **error);
	/* Shapes of keys and queries; 0 where no layer has them. A logit is scale x (query . key).
	 */
	uint32_t group; /* query heads a KV head */
	uint32_t head_dim, block_tokens;
	float scale;
	/* Whether a layer has keys and queries; NULL: none has. The others are only called then. */
	bool (*has_keys)(const kvt_replay_source *source, uint32_t layer);
	/* Keys of n_pages complete pages from `first`, half precision, into
	 * keys[n_pages][block_tokens][head_dim]. */
	bool (*keys)(kvt_replay_source *source, uint32_t layer, uint32_t head, uint32_t first,
		uint32_t n_pages, uint16_t *keys, GError **error);
	/* A step's queries, of all heads: queries[n_heads][group][head_dim]. Asked for in order of
	 * steps. */
	bool (*queries)(kvt_replay_source *source, uint32_t step, uint32_t layer, float *queries,
		GError **error);
};

static inline bool kvt_replay_source_has_keys(const kvt_replay_source *source, uint32_t layer)
{
	return source->has_keys && source->has_keys(source, layer);
}

#endif
