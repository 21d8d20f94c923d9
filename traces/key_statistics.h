/*
 * key_statistics.h: how attention and page scoring look on a layer's queries and keys, in a few
 * numbers, for comparing a grown trace with a recorded one. Plain scorers, not the prefetchers'
 * own: the yardstick must not change with what it measures.
 */
#ifndef KVT_KEY_STATISTICS_H
#define KVT_KEY_STATISTICS_H

#include "traces/attention_trace.h"

enum {
	KVT_KEY_STATISTICS_STEPS = 32,          /* looked at, at most, evenly spread */
	KVT_KEY_STATISTICS_PAGES_MAX = 1 << 17, /* of a layer: scores of all are held in memory */
};

/* The budget of pages, as a share of those present, that scorers fill. */
#define KVT_KEY_STATISTICS_BUDGET 0.02

/* Means over steps and KV heads. The first page and the last four always count as kept. */
typedef struct kvt_key_statistics {
	double oracle; /* mass of the best pages */
	double far; /* the same beyond the last 64 pages and the first, as a share of the mass there
		     */
	double means;   /* mass of pages chosen by their mean key and the step's own queries */
	double bounds;  /* by the least and largest of each element (Quest, Tang et al., ICML'24) */
	double entropy; /* of the mass over pages, as a share of the most there can be */
} kvt_key_statistics;

/* Error when the layer has no queries or keys, is chunked, or has more pages. */
bool kvt_key_statistics_measure(
	kvt_attention_layer *layer, kvt_key_statistics *statistics, GError **error);

#endif
