/*
 * kernel_check.h: how far predictions are from measured kernel times: row by row against a fitted
 * table, or honestly against rows that a fresh fit has not seen. It judges any kind of kernel; what
 * a kind is fitted and predicted by is a kvt_kernel_fitter.
 */
#ifndef KVT_KERNEL_CHECK_H
#define KVT_KERNEL_CHECK_H

#include <glib.h>
#include <stddef.h>

#include "models/attention_base.h"
#include "models/kernel_csv.h"

/* Rows shorter than this are mostly launch and noise; they are counted apart. */
#define KVT_KERNEL_CHECK_SECONDS 1e-4

typedef struct kvt_kernel_check {
	size_t rows;            /* judged */
	size_t small;           /* left out of the figures: below the least time */
	size_t unknown;         /* left out: the model has no such kernel */
	size_t fitted;          /* rows that a fresh fit was made from; 0 for a table */
	double mape;            /* mean of |predicted / measured - 1| */
	double bias;            /* mean of predicted / measured - 1 */
	double p50, p90, worst; /* of the same; all 0 when no rows were judged */
	kvt_kernel_row worst_row;
	double worst_predicted; /* s */
} kvt_kernel_check;

/* How one kind of kernel is fitted and predicted; `arg` is what fit needs beside the rows. */
typedef struct kvt_kernel_fitter {
	void *(*fit)(const kvt_kernel_row *rows, size_t count, const void *arg, GError **error);
	/* Seconds into *seconds; 0, or a negative errno for what the model does not know. */
	int (*predict)(const void *model, const kvt_kernel_row *row, double *seconds);
	void (*free)(void *model);
	/* By what "a quarter of the largest" is told. */
	double (*size)(const kvt_kernel_row *row);
} kvt_kernel_fitter;

/* Attention, prefill and decode; `arg` of fit is a const kvt_attention_gpu *, its models are
 * kvt_attention_model *. */
extern const kvt_kernel_fitter kvt_attention_fitter;

/* Judges `model` on the rows of at least `least_seconds`. */
void kvt_kernel_check_rows(const kvt_kernel_fitter *fitter, const void *model,
	const kvt_kernel_row *rows, size_t count, double least_seconds, kvt_kernel_check *out);

/*
 * Leaves a share of the rows out at random (kvt_kernel_row_left_out), fits the rest, judges on
 * those left out. False with an error when nothing can be fitted.
 */
gboolean kvt_kernel_check_leave_out(const kvt_kernel_fitter *fitter, const void *arg,
	const kvt_kernel_row *rows, size_t count, double share, uint64_t seed, double least_seconds,
	kvt_kernel_check *out, GError **error);

/*
 * Fits the rows whose size is at most `share` of the largest, judges on the largest: those whose
 * size is over half of it (over `share` when share > 1/2). Sizes of prefill and decode are told
 * apart.
 */
gboolean kvt_kernel_check_train_below(const kvt_kernel_fitter *fitter, const void *arg,
	const kvt_kernel_row *rows, size_t count, double share, double least_seconds,
	kvt_kernel_check *out, GError **error);

#endif
