/*
 * least_squares.h: the minimum of a sum of squares over a few variables, by Levenberg and
 * Marquardt's damped Gauss-Newton steps (Marquardt, SIAM Journal 11, 1963) with derivatives by
 * forward differences. Local and deterministic; robust only if the caller's residuals are.
 */
#ifndef KVT_LEAST_SQUARES_H
#define KVT_LEAST_SQUARES_H

/* Fills `residuals` (as many as was promised) at x; they should be smooth and finite near it. */
typedef void (*kvt_residuals_fn)(const double *x, double *residuals, void *arg);

/*
 * Moves x (n variables of scale about 1) to a local minimum of the sum of `count` squared residuals
 * and returns that sum. At most `iterations` steps are tried; stops when a step gains less than
 * 1e-7 of the sum. Points where a residual is not finite are never taken; the first must be one
 * where all are.
 */
double kvt_least_squares(
	unsigned n, double *x, unsigned count, unsigned iterations, kvt_residuals_fn f, void *arg);

#endif
