/* median.h: the figure that benchmarks print of several. */
#ifndef KVT_MEDIAN_H
#define KVT_MEDIAN_H

#include <stddef.h>

/* Sorts values[n], n > 0; of an even number the mean of the two in the middle. */
double bench_median(double *values, size_t n);

#endif
