/*
 * sweep_summary.h: what is printed of a sweep's results: every point, or what figures reached over
 * all of them.
 */
#ifndef SWEEP_SUMMARY_H
#define SWEEP_SUMMARY_H

#include "sim/cmd/command_options.h"
#include "sim/sweep/sweep_results.h"

enum { SWEEP_ROWS_MAX = 100000 };

/* A row a point: parameters and figures; a text table has those that are `shown` alone. */
gboolean sweep_print_rows(const kvt_command_options *options, const kvt_sweep_results *results,
	const char *const *shown, GError **error);

/* A row a figure: lowest, median, highest, and at which points. JSON has what was swept, too. */
gboolean sweep_print_summary(const kvt_command_options *options, const kvt_sweep_results *results,
	const kvt_sweep_plan *plan, const char *const *shown, GError **error);

/* An error when points failed: how many, and why the first did. */
gboolean sweep_check_failed(
	const kvt_sweep_results *results, const kvt_sweep_plan *plan, GError **error);

#endif
