/* histogram.c: the log-linear buckets of histogram.h; it keeps no samples. */
#include "sim/base/histogram.h"

#include <glib.h>
#include <math.h>
#include <string.h>

enum { SUB = 1 << KVT_HISTOGRAM_SUB_BITS };

/* Values below SUB have a bucket each; above, the top SUB_BITS + 1 bits choose the bucket. */
static unsigned bucket_of(uint64_t value)
{
	if (value < SUB)
		return (unsigned)value;
	unsigned shift = 63u - (unsigned)__builtin_clzll(value) - KVT_HISTOGRAM_SUB_BITS;
	return ((shift + 1) << KVT_HISTOGRAM_SUB_BITS) + (unsigned)((value >> shift) - SUB);
}

static uint64_t bucket_midpoint(unsigned bucket)
{
	if (bucket < SUB)
		return bucket;
	unsigned shift = (bucket >> KVT_HISTOGRAM_SUB_BITS) - 1;
	uint64_t low = (uint64_t)(SUB + bucket % SUB) << shift;
	return low + (((uint64_t)1 << shift) >> 1);
}

void kvt_histogram_init(kvt_histogram *histogram)
{
	memset(histogram, 0, sizeof(*histogram));
	histogram->minimum = UINT64_MAX;
}

void kvt_histogram_add(kvt_histogram *histogram, uint64_t value)
{
	histogram->count++;
	histogram->sum += (double)value;
	histogram->minimum = MIN(histogram->minimum, value);
	histogram->maximum = MAX(histogram->maximum, value);
	histogram->buckets[bucket_of(value)]++;
}

void kvt_histogram_merge(kvt_histogram *into, const kvt_histogram *from)
{
	into->count += from->count;
	into->sum += from->sum;
	into->minimum = MIN(into->minimum, from->minimum);
	into->maximum = MAX(into->maximum, from->maximum);
	for (unsigned i = 0; i < KVT_HISTOGRAM_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
}

double kvt_histogram_mean(const kvt_histogram *histogram)
{
	return histogram->count > 0 ? histogram->sum / (double)histogram->count : 0.0;
}

uint64_t kvt_histogram_quantile(const kvt_histogram *histogram, double q)
{
	if (histogram->count == 0)
		return 0;
	if (!(q > 0.0))
		return histogram->minimum;
	if (q >= 1.0)
		return histogram->maximum;
	/* Nearest rank: the smallest value that at least q of all are at or below. */
	uint64_t rank = (uint64_t)ceil(q * (double)histogram->count);
	uint64_t seen = 0;
	unsigned bucket = 0;
	for (; bucket < KVT_HISTOGRAM_BUCKETS - 1; bucket++) {
		seen += histogram->buckets[bucket];
		if (seen >= rank)
			break;
	}
	return CLAMP(bucket_midpoint(bucket), histogram->minimum, histogram->maximum);
}
