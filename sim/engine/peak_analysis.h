/*
 * peak_analysis.h: the four-metric peak analysis of arXiv 2405.08944: prefill bound by FLOP/s,
 * decode and context switch by bandwidth, concurrency by memory. Closed forms, no simulation; in
 * the source's own units (which count GiB of KV as GB) or exactly.
 */
#ifndef KVT_PEAK_ANALYSIS_H
#define KVT_PEAK_ANALYSIS_H

#include "sim/engine/experiment.h"

typedef struct kvt_peak {
	double kv_bytes;                        /* as counted */
	double prefill, decode, context_switch; /* seconds */
	double users;                           /* contexts that fit beside the weights */
} kvt_peak;

/* The experiment's [peak] settings in their own convention; `exact` takes the model's true
 * parameter count and decimal bytes instead. */
kvt_peak kvt_peak_analyse(const kvt_experiment *experiment, bool exact);

#endif
