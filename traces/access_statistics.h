/*
 * access_statistics.h: what the access rows of a layer look like in a few numbers, for comparing a
 * grown trace with a recorded one. From rows alone: pages that a row leaves out count as 0, so all
 * are known up to the mass that rows cover.
 */
#ifndef KVT_ACCESS_STATISTICS_H
#define KVT_ACCESS_STATISTICS_H

#include "traces/attention_trace.h"

enum { KVT_ACCESS_BUDGETS = 4 };

/* Budgets as shares of the pages present: 1, 2, 5 and 10%. */
extern const double kvt_access_budgets[KVT_ACCESS_BUDGETS];

/* Means over steps and KV heads. The first page and the last four always count as kept
 * (traces/attention_mass.h). */
typedef struct kvt_access_statistics {
	double oracle[KVT_ACCESS_BUDGETS];    /* mass of the best pages of a budget */
	double last_step[KVT_ACCESS_BUDGETS]; /* mass of the pages that were best a step earlier */
	double overlap;  /* share of the top 2% of the pages that were in it a step earlier */
	double distinct; /* pages in any row, of those present in the end */
	double recent;   /* mass of the last 64 pages present */
	double first;    /* mass of the first page */
	double covered;  /* mass in rows */
} kvt_access_statistics;

/* Measures the steps first_step .. end_step - 1 (end_step 0: to the last one); error when a row
 * cannot be read or there are fewer than two steps. */
bool kvt_access_statistics_measure(kvt_attention_layer *layer, uint64_t first_step,
	uint64_t end_step, kvt_access_statistics *statistics, GError **error);

#endif
