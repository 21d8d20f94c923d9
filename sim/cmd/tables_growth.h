/*
 * tables_growth.h: how time to first token grows along the curves of the experiments ([curve ID]),
 * for `kvtier tables`. Formatting only: sim/engine/length_sweep.h runs them.
 */
#ifndef KVT_TABLES_GROWTH_H
#define KVT_TABLES_GROWTH_H

#include "sim/base/output.h"

/* The curves of all experiments in the folder that have some, of kvt_length_curve; NULL with an
 * error. */
GPtrArray *kvt_tables_run_curves(const char *folder, GError **error);

/* A row a curve: its exponent, what that was fitted to, and what was recorded. */
kvt_table *kvt_tables_growth(const GPtrArray *curves);

/* A row a point. */
kvt_table *kvt_tables_curve_points(const GPtrArray *curves);

/* The growth with a heading and what a reader has to know. */
gboolean kvt_tables_print_growth(const GPtrArray *curves, FILE *stream, GError **error);

#endif
