/*
 * kriging.h: interpolation between scattered, noisy points by ordinary kriging: the best linear
 * unbiased estimate for a field of unknown mean whose covariance falls as exp(-distance) (Cressie,
 * Statistics for Spatial Data, 1993, 3.2). It solves one small dense system; choosing the near
 * points and scaling the axes is the caller's.
 */
#ifndef KVT_KRIGING_H
#define KVT_KRIGING_H

#include <stddef.h>

/* Doubles that kvt_kriging_estimate needs as scratch. */
#define KVT_KRIGING_SCRATCH(count) ((size_t)(count) * ((count) + 4))

/*
 * The estimate at `target` from `count` >= 1 points of `dims` coordinates each, already divided by
 * their correlation lengths. `nugget[i]` > 0 is the variance of point i's noise over the field's
 * variance.
 */
double kvt_kriging_estimate(unsigned dims, unsigned count, const double *points,
	const double *values, const double *nugget, const double *target, double *scratch);

#endif
