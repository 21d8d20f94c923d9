/*
 * sweep_sample.h: where the points of a sample lie in a box of [0, 1) by any number of axes. Every
 * coordinate is a function of (seed, axis, point) alone: any thread or rank can make any point, and
 * another axis moves none.
 */
#ifndef KVT_SWEEP_SAMPLE_H
#define KVT_SWEEP_SAMPLE_H

#include <stdint.h>

typedef enum kvt_sample_method {
	/* each axis cut into as many equal parts as there are points, one point in each (McKay,
	   Beckman, Conover 1979) */
	KVT_SAMPLE_LATIN,
	/* Halton's sequence, a prime base an axis, digits scrambled at random; its first points are
	 * those of a shorter sample */
	KVT_SAMPLE_HALTON,
} kvt_sample_method;

/* "latin", "halton", NULL. */
extern const char *const kvt_sample_method_names[];

enum { KVT_SAMPLE_AXES_MAX = 64 };

/* The coordinate of `point`, of n, on an axis: `index` counts axes from 0, `name` is its own. */
double kvt_sample_coordinate(kvt_sample_method method, uint64_t seed, unsigned index,
	const char *name, uint64_t point, uint64_t n);

#endif
