/*
 * sweep_columns.h: the figures of a sweep's points as columns, whatever each point has: which there
 * are, in the order in which the points name them, and where each list of names goes.
 */
#ifndef KVT_SWEEP_COLUMNS_H
#define KVT_SWEEP_COLUMNS_H

#include "sim/sweep/sweep_journal.h"

typedef struct kvt_sweep_columns {
	GPtrArray *names;   /* of the columns */
	unsigned **columns; /* of each list of names of the journal: the column of each figure */
	unsigned n_lists;
	uint64_t error_bytes; /* of the longest error */
} kvt_sweep_columns;

/* Of a journal that is mapped. */
kvt_sweep_columns *kvt_sweep_columns_new(const kvt_sweep_journal *journal);
void kvt_sweep_columns_free(kvt_sweep_columns *columns);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_sweep_columns, kvt_sweep_columns_free)

/* Puts the figures of a point that ran to `row`, a double a column, NaN where it has none. */
void kvt_sweep_columns_row(const kvt_sweep_columns *columns, const kvt_sweep_frame *frame,
	unsigned names, double *row, size_t stride);

#endif
