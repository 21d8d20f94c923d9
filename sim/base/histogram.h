/*
 * histogram.h: a log-linear histogram of non-negative integers (times in ps, sizes in bytes):
 * 32 linear buckets to each power of two, so a quantile is within 1/64 (1.6%) of the true value at
 * any scale, in 15 KiB, without keeping samples. Exact count, sum, minimum and maximum beside it.
 */
#ifndef KVT_HISTOGRAM_H
#define KVT_HISTOGRAM_H

#include <stdint.h>

enum { KVT_HISTOGRAM_SUB_BITS = 5, KVT_HISTOGRAM_BUCKETS = (64 - 5 + 1) << 5 };

typedef struct kvt_histogram {
	uint64_t count, minimum, maximum;
	double sum;
	uint64_t buckets[KVT_HISTOGRAM_BUCKETS];
} kvt_histogram;

void kvt_histogram_init(kvt_histogram *histogram);
void kvt_histogram_add(kvt_histogram *histogram, uint64_t value);
void kvt_histogram_merge(kvt_histogram *into, const kvt_histogram *from);
double kvt_histogram_mean(const kvt_histogram *histogram); /* 0 when empty */
/* The value at quantile q in [0, 1]: the midpoint of its bucket, clamped to [minimum, maximum];
 * 0 when empty. */
uint64_t kvt_histogram_quantile(const kvt_histogram *histogram, double q);

#endif
