/*
 * sweep_file.h: the results of a sweep as one HDF5 file of columns, a row a point, in the order of
 * the points. Same points, same bytes: nothing of how they were run is in it, unless timings are
 * asked for.
 *
 *   /parameters/SECTION.KEY  float64 in base units, or fixed-length UTF-8 text
 *   /metrics/NAME            float64 in base units; NaN where a point has no such figure
 *   /status                  uint8: 0 done, 1 failed, 2 not run yet
 *   /error                   fixed-length UTF-8 text: why a point failed, else empty
 *   /timing/seconds, worker  float64, uint32: with timings only
 *
 * A column has an attribute `units`. Attributes of the file: schema, version, command, experiment
 * (its whole text, included files among it), identity (which the results belong to), points, done,
 * failed.
 */
#ifndef KVT_SWEEP_FILE_H
#define KVT_SWEEP_FILE_H

#include "sim/sweep/sweep_journal.h"
#include "sim/sweep/sweep_plan.h"

#define KVT_SWEEP_SCHEMA "kvtier.sweep/1"

typedef enum kvt_sweep_status {
	KVT_SWEEP_DONE,
	KVT_SWEEP_FAILED,
	KVT_SWEEP_PENDING,
} kvt_sweep_status;

/* What a file says of itself, besides its columns. */
typedef struct kvt_sweep_about {
	const char *version, *command, *experiment, *identity;
	bool timings;
} kvt_sweep_about;

/* Writes what the journal has by now to `path`: whole, or not at all. */
gboolean kvt_sweep_file_write(const char *path, const kvt_sweep_plan *plan,
	kvt_sweep_journal *journal, const kvt_sweep_about *about, GError **error);

/* What is at a path: counts of an earlier file. */
typedef struct kvt_sweep_found {
	bool exists, same; /* there is a file; it is of the sweep of that identity */
	uint64_t points, done, failed;
} kvt_sweep_found;

/* False with an error when there is a file that is no result of a sweep. */
gboolean kvt_sweep_file_look(
	const char *path, const char *identity, kvt_sweep_found *found, GError **error);

#endif
