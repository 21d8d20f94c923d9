/*
 * sweep_metrics.h: the figures of one point of a sweep: named doubles in the order in which they
 * were added.
 */
#ifndef KVT_SWEEP_METRICS_H
#define KVT_SWEEP_METRICS_H

#include <glib.h>
#include <jansson.h>

typedef struct kvt_sweep_metrics {
	GString *names; /* each ended by a newline */
	GArray *values; /* of double */
} kvt_sweep_metrics;

void kvt_sweep_metrics_init(kvt_sweep_metrics *metrics);
void kvt_sweep_metrics_reset(kvt_sweep_metrics *metrics);
void kvt_sweep_metrics_clear(kvt_sweep_metrics *metrics);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_sweep_metrics, kvt_sweep_metrics_clear)

/* Adds a figure in base units; names are not repeated, and have a '_' for what a name in a file may
 * not have. */
void kvt_sweep_metrics_add(kvt_sweep_metrics *metrics, const char *name, double value);

/* Adds every number of an object by the dotted path to it ("stages.loading_s"), bools as 0 and 1,
 * null as NaN; texts and arrays are left out. */
void kvt_sweep_metrics_add_json(kvt_sweep_metrics *metrics, const json_t *object);

/* The unit of a figure by its name, as kvtier's results are named: "s", "B", "B/s", "/s", "USD",
 * ..., or "". */
const char *kvt_sweep_metric_units(const char *name);

#endif
