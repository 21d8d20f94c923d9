/*
 * sweep_results.h: a file of results (sweep_file.h) read back: its columns, and which points
 * failed.
 */
#ifndef KVT_SWEEP_RESULTS_H
#define KVT_SWEEP_RESULTS_H

#include "sim/sweep/sweep_file.h"

typedef struct kvt_sweep_column {
	char *name;  /* "gpu.count", "ttft_s" */
	char *units; /* "" where it has none */
	bool parameter, text;
} kvt_sweep_column;

typedef struct kvt_sweep_results {
	char *path;
	uint64_t n_points, done, failed;
	GPtrArray *columns; /* of kvt_sweep_column: parameters, then metrics */
	uint8_t *status;    /* [n_points] of kvt_sweep_status */
} kvt_sweep_results;

/* NULL with an error when the file is no such one, or damaged. */
kvt_sweep_results *kvt_sweep_results_open(const char *path, GError **error);
void kvt_sweep_results_free(kvt_sweep_results *results);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_sweep_results, kvt_sweep_results_free)

/* All of a column's numbers, a new array of n_points. NULL with an error. */
double *kvt_sweep_results_numbers(
	const kvt_sweep_results *results, const kvt_sweep_column *column, GError **error);

/* All of a column's texts, or every point's error where `column` is NULL: a new array. */
char **kvt_sweep_results_texts(
	const kvt_sweep_results *results, const kvt_sweep_column *column, GError **error);

#endif
