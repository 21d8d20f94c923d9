/*
 * settle.h: what a turn leaves in storage when its first token is there: pages that were lost and
 * made again go back to where they were lost, and those that were fetched to the pool of the node
 * that the session has come to. A failed write costs the page its place there, and the turn
 * nothing.
 */
#ifndef KVT_SETTLE_H
#define KVT_SETTLE_H

#include "sim/engine/lost_pages.h"
#include "sim/engine/turn_plan.h"

/* Writes runs (kvt_page_run) of the turn's pages to `tier`, a window's tokens at a time at most,
 * and adds to *writes. Runs the engine's loop, on which nothing else may be under way. */
void kvt_settle_runs(const kvt_engine *engine, const kvt_turn_plan *plan, kvt_tier *tier,
	const GArray *runs, kvt_page_writes *writes);

/*
 * The same of all pages of the context's tokens [0, tokens), local layers by their windows: from
 * HBM where they are, else from storage once more, through the turn's staging buffers. Those that
 * storage does not deliver count as failed. `lost` may be NULL.
 */
void kvt_settle_context(kvt_engine *engine, const kvt_turn_plan *plan, const kvt_lost_pages *lost,
	kvt_tier *tier, uint64_t tokens, kvt_page_writes *writes);

/* The same of local layers alone, where what streamed went to storage chunk by chunk: but for what
 * the last chunk's windows have not. */
void kvt_settle_windows(kvt_engine *engine, const kvt_turn_plan *plan, kvt_tier *tier,
	uint64_t tokens, kvt_page_writes *writes);

/* The same where storage has global layers in the parts that pages are chosen from, and all of the
 * context is in HBM. */
void kvt_settle_parts(kvt_engine *engine, const kvt_turn_plan *plan, const kvt_page_choice *choice,
	kvt_tier *tier, uint64_t tokens, kvt_page_writes *writes);

#endif
