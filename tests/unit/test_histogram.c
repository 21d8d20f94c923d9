/* test_histogram.c: quantiles against an exact sort, the bucket error bound, and merging. */
#include <glib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/base/histogram.h"
#include "sim/base/rng.h"

static int compare_values(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void test_empty(void)
{
	kvt_histogram histogram;
	kvt_histogram_init(&histogram);
	g_assert_cmpuint(kvt_histogram_quantile(&histogram, 0.5), ==, 0);
	g_assert_cmpfloat(kvt_histogram_mean(&histogram), ==, 0.0);
}

/* One value alone is reported exactly, wherever it lies: the clamp leaves it no room. */
static void test_single(void)
{
	static const double quantiles[] = { 0, 0.01, 0.5, 0.99, 1 };
	for (unsigned bit = 0; bit < 64; bit++)
		for (int offset = -1; offset <= 1; offset++) {
			uint64_t value = ((uint64_t)1 << bit) + (uint64_t)offset;
			kvt_histogram histogram;
			kvt_histogram_init(&histogram);
			kvt_histogram_add(&histogram, value);
			for (size_t i = 0; i < G_N_ELEMENTS(quantiles); i++)
				g_assert_cmpuint(kvt_histogram_quantile(&histogram, quantiles[i]),
					==, value);
		}
}

/* Any value between two far ones is within half a bucket, 1/64 of itself, and below 32 exact. */
static void test_bound(void)
{
	kvt_rng rng = kvt_rng_init(1, 0);
	kvt_histogram histogram;
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t value = kvt_rng_next(&rng) >> (i % 64);
		kvt_histogram_init(&histogram);
		kvt_histogram_add(&histogram, 0);
		kvt_histogram_add(&histogram, value);
		kvt_histogram_add(&histogram, UINT64_MAX);
		uint64_t middle = kvt_histogram_quantile(&histogram, 0.5);
		uint64_t error = middle > value ? middle - value : value - middle;
		g_assert_cmpuint(error, <=, value / 64);
	}
}

static void test_against_sort(void)
{
	enum { N = 20000 };
	static const double quantiles[] = { 0, 0.001, 0.1, 0.25, 0.5, 0.9, 0.99, 0.999, 1 };
	g_autofree uint64_t *values = g_new(uint64_t, N);
	g_autofree kvt_histogram *histogram = g_new(kvt_histogram, 1);
	for (unsigned shape = 0; shape < 3; shape++) {
		kvt_rng rng = kvt_rng_init(2, shape);
		double sum = 0;
		kvt_histogram_init(histogram);
		for (unsigned i = 0; i < N; i++) {
			if (shape == 0)
				values[i] = kvt_rng_below(&rng, 100);
			else if (shape == 1)
				values[i] = (uint64_t)kvt_rng_lognormal(&rng, 8e7, 3.5e8);
			else
				values[i] = (uint64_t)kvt_rng_exponential(&rng, 1e12);
			kvt_histogram_add(histogram, values[i]);
			sum += (double)values[i];
		}
		qsort(values, N, sizeof(*values), compare_values);
		g_assert_cmpuint(histogram->count, ==, N);
		g_assert_cmpuint(histogram->minimum, ==, values[0]);
		g_assert_cmpuint(histogram->maximum, ==, values[N - 1]);
		g_assert_cmpfloat(fabs(kvt_histogram_mean(histogram) - sum / N), <=, 1e-9 * sum);
		uint64_t last = 0;
		for (size_t i = 0; i < G_N_ELEMENTS(quantiles); i++) {
			double rank = ceil(quantiles[i] * N);
			uint64_t exact = values[rank > 0 ? (size_t)rank - 1 : 0];
			uint64_t got = kvt_histogram_quantile(histogram, quantiles[i]);
			uint64_t error = got > exact ? got - exact : exact - got;
			g_assert_cmpuint(error, <=, exact / 64);
			g_assert_cmpuint(got, >=, last);
			last = got;
		}
	}
}

/* Merging two halves is the same as adding everything to one. */
static void test_merge(void)
{
	g_autofree kvt_histogram *all = g_new(kvt_histogram, 3);
	for (unsigned i = 0; i < 3; i++)
		kvt_histogram_init(&all[i]);
	kvt_rng rng = kvt_rng_init(4, 0);
	for (unsigned i = 0; i < 5000; i++) {
		uint64_t value = kvt_rng_below(&rng, 1000000);
		kvt_histogram_add(&all[0], value);
		kvt_histogram_add(&all[1 + i % 2], value);
	}
	kvt_histogram_merge(&all[1], &all[2]);
	g_assert_cmpmem(&all[0], sizeof(*all), &all[1], sizeof(*all));

	kvt_histogram_init(&all[2]);
	kvt_histogram_merge(&all[1], &all[2]);
	g_assert_cmpmem(&all[0], sizeof(*all), &all[1], sizeof(*all));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/histogram/empty", test_empty);
	g_test_add_func("/histogram/single", test_single);
	g_test_add_func("/histogram/bound", test_bound);
	g_test_add_func("/histogram/against-sort", test_against_sort);
	g_test_add_func("/histogram/merge", test_merge);
	return g_test_run();
}
