/*
 * recompute.h: pages of a layer that storage did not deliver, made again: their tokens go through
 * the layers below, as passes of their own (forward_pass.h) on the same device.
 *
 * What it costs, of n tokens from position p on, in layer l, when they have not gone through layers
 * before (lost_pages.h), with everything below global:
 *
 *     sum over layers j < l of (QKV + attention of n new tokens to p earlier ones and each other +
 *     output + MLP + two all-reduces, of n tokens), and QKV of layer l
 *
 * each as work_cost.h prices it, in pieces of chunk_tokens. The p earlier tokens' keys and values
 * of layers below l are read: from HBM where they stay there, else once more from storage, window
 * after window, through one buffer more. Pages that are lost on the way are made again first; these
 * are of lower layers, so there is an end to it.
 */
#ifndef KVT_RECOMPUTE_H
#define KVT_RECOMPUTE_H

#include "sim/engine/lost_pages.h"

/* How it ended, in *outcome: status is 0, -ENODATA when the limits of lost_pages.h do not allow as
 * much, or a pass' other errno. Loads and bytes are those of its passes. */
typedef kvt_pass_result kvt_recompute_outcome;

/*
 * Makes the `runs` of a layer again, lost by a pass of this spec; `keep`: pages that were to pass
 * through HBM, which stay from now on. done(arg) is called on the loop. In a choice, and for local
 * layers then, runs are counted as the pass counts tokens.
 */
void kvt_recompute_start(kvt_engine *engine, const kvt_pass_spec *spec, unsigned layer,
	const GArray *runs, bool keep, kvt_recompute_outcome *outcome, kvt_callback done,
	void *arg);

#endif
