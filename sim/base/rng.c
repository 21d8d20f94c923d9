/*
 * rng.c: Philox 4x32-10 keyed by the seed, its 128-bit counter holding (block, stream). One block
 * gives two 64-bit numbers. Not for cryptography.
 */
#include "sim/base/rng.h"

#include <Random123/philox.h>
#include <glib.h>
#include <math.h>
#include <string.h>
#include <xxhash.h>

kvt_rng kvt_rng_init(uint64_t seed, uint64_t stream)
{
	return (kvt_rng){ .seed = seed, .stream = stream };
}

uint64_t kvt_rng_stream_id(const char *name, uint64_t index)
{
	/* The index is hashed as little-endian bytes, so every host has the same streams. */
	uint64_t pair[2] = { GUINT64_TO_LE(XXH3_64bits(name, strlen(name))), GUINT64_TO_LE(index) };
	return XXH3_64bits(pair, sizeof(pair));
}

uint64_t kvt_rng_next(kvt_rng *rng)
{
	if (rng->has_spare) {
		rng->has_spare = 0;
		return rng->spare;
	}
	philox4x32_ctr_t counter = { { (uint32_t)rng->counter, (uint32_t)(rng->counter >> 32),
		(uint32_t)rng->stream, (uint32_t)(rng->stream >> 32) } };
	philox4x32_key_t key = { { (uint32_t)rng->seed, (uint32_t)(rng->seed >> 32) } };
	philox4x32_ctr_t block = philox4x32_R(10, counter, key);
	rng->counter++;
	rng->spare = block.v[2] | (uint64_t)block.v[3] << 32;
	rng->has_spare = 1;
	return block.v[0] | (uint64_t)block.v[1] << 32;
}

double kvt_rng_uniform(kvt_rng *rng)
{
	return (double)(kvt_rng_next(rng) >> 11) * 0x1p-53;
}

/* Lemire, "Fast random integer generation in an interval" (2019): a multiplication, and a
 * rejection that is rarely needed. */
uint64_t kvt_rng_below(kvt_rng *rng, uint64_t n)
{
	g_assert(n > 0);
	unsigned __int128 product = (unsigned __int128)kvt_rng_next(rng) * n;
	if ((uint64_t)product < n) {
		uint64_t threshold = -n % n;
		while ((uint64_t)product < threshold)
			product = (unsigned __int128)kvt_rng_next(rng) * n;
	}
	return (uint64_t)(product >> 64);
}

double kvt_rng_exponential(kvt_rng *rng, double mean)
{
	return -mean * log1p(-kvt_rng_uniform(rng));
}

/* Box-Muller; the sine half is dropped, so that one normal is always two numbers of the stream. */
double kvt_rng_normal(kvt_rng *rng)
{
	double radius = sqrt(-2.0 * log1p(-kvt_rng_uniform(rng)));
	return radius * cos(2.0 * G_PI * kvt_rng_uniform(rng));
}

double kvt_rng_lognormal(kvt_rng *rng, double median, double p99)
{
	g_assert(median > 0.0 && p99 >= median);
	const double normal_p99 = 2.3263478740408408; /* the standard normal's 99th percentile */
	double sigma = log(p99 / median) / normal_p99;
	return median * exp(sigma * kvt_rng_normal(rng));
}
