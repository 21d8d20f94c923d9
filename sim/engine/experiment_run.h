/*
 * experiment_run.h: a whole experiment of any kind in virtual time, from its settings to its
 * figures. Where the settings are from is turn_report.h's, how it looks on paper the command's.
 */
#ifndef KVT_EXPERIMENT_RUN_H
#define KVT_EXPERIMENT_RUN_H

#include <jansson.h>

#include "sim/core/timeline.h"
#include "sim/engine/decision_log.h"
#include "sim/engine/experiment.h"

/*
 * Runs it: a result of schema kvtier.run (kvtier.peak for KVT_RUN_PEAK), a new reference; NULL with
 * an error. `timeline` and `decisions` (recorded or followed) may be NULL. It reads no HDF5 and
 * keeps nothing outside of the experiment: several may run at once, each in its thread.
 */
json_t *kvt_experiment_run(const kvt_experiment *experiment, kvt_timeline *timeline,
	kvt_decision_log *decisions, GError **error);

#endif
