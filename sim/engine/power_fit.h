/*
 * power_fit.h: y = factor x^exponent through points, by ordinary least squares on the logarithms of
 * both: how something grows, in one number, and how far the points are from growing so.
 */
#ifndef KVT_POWER_FIT_H
#define KVT_POWER_FIT_H

#include <stdbool.h>

typedef struct kvt_power_fit {
	double factor, exponent;
	double low, high; /* the range of x that was fitted, as asked */
	double worst;     /* largest |y / fit - 1| within it */
	unsigned points;  /* within it */
} kvt_power_fit;

/* Fits the points with low <= x <= high, x and y above 0. False when they are fewer than two
 * different x. */
bool kvt_power_fit_make(
	kvt_power_fit *fit, const double *x, const double *y, unsigned n, double low, double high);

#endif
