/*
 * attention_heat.h: attention mass by step and by place in the context, in a grid for a picture:
 * where a step looks, and when that changes. From access rows alone: pages that a row leaves out
 * count as 0.
 */
#ifndef KVT_ATTENTION_HEAT_H
#define KVT_ATTENTION_HEAT_H

#include "traces/attention_trace.h"

/* KV head of a view: the mean over all of them. */
#define KVT_ATTENTION_HEAT_MEAN UINT32_MAX

/* What is looked at: the steps first_step .. end_step - 1 and the pages first_page .. end_page - 1;
 * an end of 0 is the end of what was recorded. */
typedef struct kvt_attention_view {
	uint64_t first_step, end_step;
	uint64_t first_page, end_page;
	uint32_t kv_head; /* or KVT_ATTENTION_HEAT_MEAN */
} kvt_attention_view;

/* Bin b holds the pages from kvt_attention_heat_first_page(heat, b) to the next one's, less one. */
typedef struct kvt_attention_heat {
	uint64_t first_step, steps;
	uint64_t first_page, pages;
	uint32_t bins;
	double *mass; /* [steps x bins], sums over the bin's pages; freed by ..._clear */
} kvt_attention_heat;

void kvt_attention_heat_clear(kvt_attention_heat *heat);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_attention_heat, kvt_attention_heat_clear)

/*
 * Reads the view's rows into at most `bins` bins (fewer where there are fewer pages). Error when
 * there are no such steps, pages or head, when the grid is too large to be looked at (2^26 cells),
 * or when a row cannot be read.
 */
bool kvt_attention_heat_measure(kvt_attention_layer *layer, const kvt_attention_view *view,
	uint32_t bins, kvt_attention_heat *heat, GError **error);

uint64_t kvt_attention_heat_first_page(const kvt_attention_heat *heat, uint32_t bin);

#endif
