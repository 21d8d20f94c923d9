/* sweep_sample.c: Latin hypercubes by a keyed permutation, and scrambled Halton sequences. */
#include "sim/sweep/sweep_sample.h"

#include <glib.h>
#include <math.h>
#include <stdbool.h>

#include "sim/base/rng.h"

const char *const kvt_sample_method_names[] = { "latin", "halton", NULL };

enum { FEISTEL_ROUNDS = 6 };

/* The index-th number of a stream that belongs to this axis. */
static uint64_t draw(uint64_t seed, const char *name, uint64_t index)
{
	kvt_rng rng = kvt_rng_init(seed, kvt_rng_stream_id(name, index));
	return kvt_rng_next(&rng);
}

/* A permutation of [0, n) that needs no memory: a Feistel network over the next power of four, gone
 * through again until it ends below n. */
static uint64_t permute(uint64_t key, uint64_t value, uint64_t n)
{
	unsigned half = 1;
	while (half < 32 && (1ull << (2 * half)) < n)
		half++;
	const uint64_t mask = (1ull << half) - 1;
	do {
		uint64_t left = value >> half, right = value & mask;
		for (unsigned round = 0; round < FEISTEL_ROUNDS; round++) {
			kvt_rng rng = kvt_rng_init(key + round, right);
			uint64_t next = left ^ (kvt_rng_next(&rng) & mask);
			left = right;
			right = next;
		}
		value = left << half | right;
	} while (value >= n);
	return value;
}

static double latin(uint64_t seed, const char *name, uint64_t point, uint64_t n)
{
	uint64_t key = draw(seed, name, 0);
	kvt_rng within = kvt_rng_init(key, kvt_rng_stream_id(name, point + 1));
	double at = (double)permute(key, point, n) + kvt_rng_uniform(&within);
	/* the sum may round up to the next part's beginning */
	return MIN(at / (double)n, nextafter(1, 0));
}

static uint64_t prime(unsigned index)
{
	uint64_t candidate = 2;
	for (unsigned found = 0;; candidate++) {
		bool is_prime = true;
		for (uint64_t d = 2; d * d <= candidate && is_prime; d++)
			is_prime = candidate % d != 0;
		if (is_prime && found++ == index)
			return candidate;
	}
}

/* Digits d of the point become (a d + c) mod base, with a and c of their own for each place; zeros
 * without end before it, too, as far as a double can tell. */
static double halton(uint64_t seed, unsigned index, const char *name, uint64_t point)
{
	const uint64_t base = prime(index);
	double value = 0, weight = 1;
	for (uint64_t place = 0; weight > 0x1p-53; place++, point /= base) {
		kvt_rng rng = kvt_rng_init(seed, kvt_rng_stream_id(name, place));
		uint64_t a = 1 + kvt_rng_below(&rng, base - 1 > 0 ? base - 1 : 1);
		uint64_t c = kvt_rng_below(&rng, base);
		weight /= (double)base;
		value += weight * (double)((a * (point % base) + c) % base);
	}
	return MIN(value, nextafter(1, 0));
}

double kvt_sample_coordinate(kvt_sample_method method, uint64_t seed, unsigned index,
	const char *name, uint64_t point, uint64_t n)
{
	g_assert(point < n && index < KVT_SAMPLE_AXES_MAX);
	return method == KVT_SAMPLE_HALTON ? halton(seed, index, name, point)
					   : latin(seed, name, point, n);
}
