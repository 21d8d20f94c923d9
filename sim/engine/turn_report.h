/*
 * turn_report.h: a turn's figures as JSON, with where every setting and constant behind them is
 * from. Formatting only.
 */
#ifndef KVT_TURN_REPORT_H
#define KVT_TURN_REPORT_H

#include <jansson.h>

#include "sim/engine/turn.h"

/* One turn: ttft_s, tpot_s, tokens_per_s, bytes{tier}, stages{...}, peak_hbm_bytes. A new
 * reference. */
json_t *kvt_turn_to_json(const kvt_experiment *experiment, const kvt_turn *turn);

/* The settings of the experiment's file and where they are from, and what the times of each kind
 * of work are from: an array of {name, value, source}. A new reference. */
json_t *kvt_turn_provenance(const kvt_experiment *experiment);

#endif
