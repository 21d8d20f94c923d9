/*
 * trace_growth_keys.h: the statistical model of a grown layer's keys. It reads a recorded layer and
 * makes synthetic_keys.h's arrays in memory; rows follow from them by softmax, not from here.
 *
 * The model is a smoothed block bootstrap. Each recorded page stays as it is, once: the first page
 * first, the local pages (trace_growth_model.h) last, those between in order and in runs, spread
 * evenly over the longer context. Between them come runs of recorded pages, drawn with replacement,
 * none of which a retrieval reads, so that what a turn looks for is still found in one place. A
 * drawn page is not repeated but moved, by a difference of two of its neighbours, twice: every
 * token by that of two keys near its own, and all its tokens alike by that of two page means near
 * its own. So noise has the covariance that recorded keys have around that place. How far tokens
 * move follows from how far pages do: the spread within pages and that between them stay in
 * proportion. All is then drawn towards the mean until the variance is that of the recording.
 */
#ifndef KVT_TRACE_GROWTH_KEYS_H
#define KVT_TRACE_GROWTH_KEYS_H

#include "traces/attention_trace.h"
#include "traces/synthetic_keys.h"
#include "traces/trace_growth_model.h"

/* How far all of a page moves, as a share of the difference of two neighbours: the root of the mean
 * square. Chosen on a recorded 128K whose pages were thinned to a third and grown again, where 0.3
 * to 0.5 are all close: less leaves copies too alike, more makes attention too narrow. */
#define KVT_GROWTH_MOVE 0.4

/*
 * Makes the keys of `layer` for a context that grows as the plan says, of `tokens` tokens in all.
 * retrieved[context_pages] marks pages of the recording that are not drawn. All layers of a plan
 * draw the same pages. False with an error when keys cannot be read, are not finite, or too few
 * pages are left to draw from; `keys` is then empty, else the caller clears it.
 */
bool kvt_growth_keys_make(kvt_attention_layer *layer, const kvt_growth_plan *plan,
	const uint8_t *retrieved, uint64_t tokens, kvt_synthetic_keys *keys, GError **error);

#endif
