/*
 * sweep_kind.h: what a sweep can run at each point: kinds of experiments, one table each. To add
 * one, write its table and a line in sweep_kind.c.
 */
#ifndef KVT_SWEEP_KIND_H
#define KVT_SWEEP_KIND_H

#include <stdbool.h>

#include "models/model_store.h"
#include "sim/base/config.h"
#include "sim/sweep/sweep_metrics.h"

typedef struct kvt_sweep_kind {
	const char *name;
	/* Whether a file is of this kind. The first in the list that says so runs it. */
	bool (*accepts)(kvt_config *config);
	/* The option that a key is read by; NULL when there is none. */
	const kvt_option *(*option)(const char *section, const char *key);
	/* What all points of a sweep share, besides models; both NULL: nothing. */
	void *(*begin)(void);
	void (*end)(void *shared);
	/*
	 * Runs one point: the file with the point's values, taken over, and with models from the
	 * store. Adds its figures to `metrics`; false with an error of one line when it fails.
	 * Called by several threads at once: no mutable globals, and no HDF5, whose one lock is for
	 * the file of results. The same config gives the same figures.
	 */
	bool (*run)(void *shared, kvt_config *config, kvt_model_store *models,
		kvt_sweep_metrics *metrics, GError **error);
	/* Figures that tables show, NULL-terminated; those that a point lacks are left out. */
	const char *const *shown;
} kvt_sweep_kind;

/* The kind of a file. */
const kvt_sweep_kind *kvt_sweep_kind_of(kvt_config *config);

/* What `kvtier run` runs (sweep_experiment.c). */
extern const kvt_sweep_kind kvt_sweep_experiment;

/* What `kvtier fleet` runs (sweep_fleet.c). */
extern const kvt_sweep_kind kvt_sweep_fleet;

#endif
