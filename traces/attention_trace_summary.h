/*
 * attention_trace_summary.h: what a recorded layer holds, in one pass over its rows: how long they
 * are, what they cover, and which pages are touched at all. It replays nothing.
 */
#ifndef KVT_ATTENTION_TRACE_SUMMARY_H
#define KVT_ATTENTION_TRACE_SUMMARY_H

#include "sim/base/progress.h"
#include "traces/attention_trace.h"

typedef struct kvt_attention_layer_summary {
	uint64_t rows, accesses;
	uint32_t blocks_least, blocks_most; /* a row */
	double mass_mean, mass_least;       /* that rows cover */
	uint64_t pages_touched;             /* distinct (KV head, page) pairs: what any cache that
					     * starts empty must load at least once */
	uint64_t pages_present;             /* (KV head, page) pairs present at the last step */
} kvt_attention_layer_summary;

/* Reads and checks all rows. `progress` counts them from *rows_done on, and may be NULL. */
bool kvt_attention_layer_summarize(kvt_attention_layer *layer, kvt_attention_layer_summary *summary,
	kvt_progress *progress, uint64_t *rows_done, GError **error);

#endif
