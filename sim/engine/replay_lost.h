/*
 * replay_lost.h: pages that a replay's storage does not deliver are computed again before they are
 * attended to, and stored again beside what goes on. For replay.c alone.
 *
 * What it costs: neighbouring pages' tokens, KVT_RECOMPUTE_LEAST at once, go through all layers
 * below as one step's token does (dense work of so few takes as long): each layer's other work, and
 * attention to all that came before, which is taken to be in HBM there. All KV heads come of it.
 */
#ifndef KVT_REPLAY_LOST_H
#define KVT_REPLAY_LOST_H

#include "sim/engine/replay_run.h"

/* For kvt_transfers_spec; arg is the kvt_replay. */
kvt_time kvt_replay_make_again(void *arg, kvt_transfer *transfer, const kvt_extent_list *pages);

#endif
