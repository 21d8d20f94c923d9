/*
 * gemm_fit.h: the parts of fitting a kvt_gemm_model, shared by gemm_fit.c, gemm_base_fit.c and
 * gemm_field.c and by nobody else.
 */
#ifndef KVT_GEMM_FIT_H
#define KVT_GEMM_FIT_H

#include "models/gemm_series.h"

/*
 * What a kernel's distance from the base may depend on: size, and how its shape meets tiles,
 * waves, alignment and the row counts at which libraries change kernels.
 */
enum { GEMM_FEATURES = 11 };

typedef struct gemm_sample {
	int64_t m, n, k;
	double seconds;
	double residual; /* log(seconds / base) */
	double noise;    /* of this row over that of an ordinary one, as variance */
	double feature[GEMM_FEATURES];
} gemm_sample;

/* Measured rows of one kernel, ordered by (n, k, m), and where each column (n, k) begins. */
typedef struct gemm_samples {
	gemm_series *series;
	int64_t sms;
	gemm_sample *rows;
	unsigned count;
	unsigned *column_start; /* n.count * k.count + 1 */
} gemm_samples;

/* Rows shorter than this are launch overhead and timer noise; they count less. */
#define GEMM_SHORT_SECONDS 1e-4

/* `value` as a table prints it, so that a fitted model and its saved copy agree. */
double gemm_rounded(double value);

/* The constants of series->base by least absolute log error. */
void gemm_fit_base(const gemm_samples *samples);

/*
 * The log residual at every cell of the grid, (n * k.count + k) * m.count + m, by kriging from the
 * rows around it with lengths and noise that predict left-out rows best; NAN in columns without
 * rows. To be freed.
 */
double *gemm_fit_field(gemm_samples *samples);

#endif
