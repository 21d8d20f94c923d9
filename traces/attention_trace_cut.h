/*
 * attention_trace_cut.h: writes a smaller trace from a larger one: fewer steps, layers, tensors, or
 * a context cut down to some of its pages. It makes samples and test data; it measures nothing.
 */
#ifndef KVT_ATTENTION_TRACE_CUT_H
#define KVT_ATTENTION_TRACE_CUT_H

#include "sim/base/progress.h"
#include "traces/attention_trace.h"

/* Pages first .. end - 1. */
typedef struct kvt_page_range {
	uint64_t first, end;
} kvt_page_range;

/* What stays. */
typedef struct kvt_attention_cut {
	uint64_t first_step, end_step; /* end_step 0: to the last one */
	uint64_t step_stride;          /* every so many of them; 0 stands for 1 */
	const uint32_t *layers;        /* rising; [layer_count], 0: all recorded ones */
	uint32_t layer_count;
	unsigned without; /* kvt_attention_tensors that go even where they are recorded */

	/*
	 * Pages of the context that stay, rising, before the page of the first step that stays;
	 * [range_count], 0: all. The pages from there on always stay. What stays moves together and
	 * is numbered anew, and the rows are recomputed by softmax over it, so the layers must be
	 * global and have queries and keys. Each step then attends as it would have had the other
	 * pages never been there; the trace says so in `derived`.
	 */
	const kvt_page_range *ranges;
	size_t range_count;

	const char *source, *license; /* replace those of the trace; NULL: keep */
} kvt_attention_cut;

/*
 * Writes what `cut` leaves of the trace to `path`, which appears when it is complete; `path` must
 * not be the trace itself. Tokens behind the last step go. Rows are copied bit by bit unless the
 * context is cut. `progress` may be NULL.
 */
bool kvt_attention_trace_cut(kvt_attention_trace *trace, const char *path,
	const kvt_attention_cut *cut, kvt_progress *progress, GError **error);

#endif
