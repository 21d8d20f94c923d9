/* sign_sketch.c: random directions, signs along them, and estimates of products from signs. */
#include "sim/prefetch/sign_sketch.h"

#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/base/rng.h"

static double product(uint32_t n, const double *x, const double *y)
{
	double sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += x[i] * y[i];
	return sum;
}

/* A random direction that is orthogonal to n_others rows of `others`. */
static void draw(uint32_t n, kvt_rng *rng, const double *others, uint32_t n_others, double *row)
{
	double norm;
	do {
		for (uint32_t i = 0; i < n; i++)
			row[i] = kvt_rng_normal(rng);
		for (uint32_t o = 0; o < n_others; o++) {
			const double *other = others + (size_t)o * n;
			double along = product(n, row, other);
			for (uint32_t i = 0; i < n; i++)
				row[i] -= along * other[i];
		}
		norm = sqrt(product(n, row, row));
	} while (norm < 1e-3);
	for (uint32_t i = 0; i < n; i++)
		row[i] /= norm;
}

void kvt_sign_directions(uint32_t head_dim, uint64_t seed, float *directions)
{
	kvt_rng rng = kvt_rng_init(seed, kvt_rng_stream_id("prefetch.simhash", head_dim));
	g_autofree double *block = g_new(double, (size_t)head_dim *head_dim);
	for (uint32_t j = 0; j < KVT_SIGN_BITS; j++) {
		uint32_t in_block = j % head_dim;
		double *row = block + (size_t)in_block * head_dim;
		draw(head_dim, &rng, block, in_block, row);
		for (uint32_t i = 0; i < head_dim; i++)
			directions[(size_t)j * head_dim + i] = (float)row[i];
	}
}

/* Four lanes, so that sums have one order whether or not there are vectors. */
static float dot(uint32_t n, const float *x, const float *y)
{
	float sum[4] = { 0 };
	for (uint32_t i = 0; i < n; i += 4)
		for (unsigned lane = 0; lane < 4; lane++)
			sum[lane] += x[i + lane] * y[i + lane];
	return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

float kvt_sign_build(
	uint32_t head_dim, const float *directions, const float *key, uint8_t bits[KVT_SIGN_BYTES])
{
	memset(bits, 0, KVT_SIGN_BYTES);
	for (uint32_t j = 0; j < KVT_SIGN_BITS; j++)
		if (dot(head_dim, directions + (size_t)j * head_dim, key) >= 0)
			bits[j / 8] |= (uint8_t)(1u << j % 8);
	return sqrtf(dot(head_dim, key, key));
}

/* E|u_1| of a direction in n dimensions: 1 in one, 2 / pi in two, and n / (n + 1) of itself from n
 * to n + 2. */
static double mean_component(uint32_t n)
{
	double mean = n % 2 ? 1 : 2 / G_PI;
	for (uint32_t i = n % 2 ? 1 : 2; i < n; i += 2)
		mean *= (double)i / (i + 1);
	return mean;
}

void kvt_sign_tables(uint32_t head_dim, const float *directions, const float *query, float *table)
{
	float factor = (float)(1 / (KVT_SIGN_BITS * mean_component(head_dim)));
	for (uint32_t byte = 0; byte < KVT_SIGN_BYTES; byte++) {
		float *out = table + (size_t)byte * KVT_SIGN_WORDS, along[8];
		for (unsigned bit = 0; bit < 8; bit++)
			along[bit] = factor *
				     dot(head_dim, directions + (size_t)(byte * 8 + bit) * head_dim,
					     query);
		for (unsigned word = 0; word < KVT_SIGN_WORDS; word++) {
			float sum = 0;
			for (unsigned bit = 0; bit < 8; bit++)
				sum += word >> bit & 1 ? along[bit] : -along[bit];
			out[word] = sum;
		}
	}
}
