/* replay_report.h: a replay's figures as JSON and as a table for people. Formatting only. */
#ifndef KVT_REPLAY_REPORT_H
#define KVT_REPLAY_REPORT_H

#include <jansson.h>

#include "sim/base/output.h"
#include "sim/engine/replay.h"

/* The figures: mass_kept, mass_oracle, hit_rate{tier}, bytes{tier}, stall_s, steps and the others.
 * `tier` names the storage tier. A new reference. */
json_t *kvt_replay_to_json(
	const kvt_replay_settings *settings, const kvt_replay_result *result, const char *tier);

/* The same for reading: a figure, its value, what it is. */
kvt_table *kvt_replay_to_table(
	const kvt_replay_settings *settings, const kvt_replay_result *result, const char *tier);

#endif
