/* replay_compare.h: many replays of one trace side by side, a row for each prefetcher and budget.
 * Formatting only: it runs none. */
#ifndef KVT_REPLAY_COMPARE_H
#define KVT_REPLAY_COMPARE_H

#include "sim/base/output.h"
#include "sim/engine/replay.h"

/* The shares of the pages that are compared where none is asked for, ending in 0. */
extern const double kvt_replay_compare_budgets[];

/* A comparison without rows. */
kvt_table *kvt_replay_compare_new(void);

/* Adds what a replay with these settings gave. */
void kvt_replay_compare_add(
	kvt_table *table, const kvt_replay_settings *settings, const kvt_replay_result *result);

#endif
