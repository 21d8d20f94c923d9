/* attention_softmax.c: logits, exponentials and page sums over tiles of keys, in the widest vectors
 * that the machine has among those that give the same bits. */
#include "traces/attention_softmax.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "traces/half_float.h"

enum { LANES = KVT_SOFTMAX_LANES, QUERIES = KVT_SOFTMAX_QUERIES, ROW = 64 };

#define LANE_BYTES 16
#define LANE_TARGET
#define LANE_NAME(x) narrow_##x
#include "traces/attention_softmax_lanes.h"

/* AVX2 without FMA: a fused multiply-add would round differently from one machine to the next. */
#ifdef __x86_64__
#define LANE_BYTES 32
#define LANE_TARGET __attribute__((target("avx2")))
#define LANE_NAME(x) wide_##x
#include "traces/attention_softmax_lanes.h"

static bool has_wide(void)
{
	return __builtin_cpu_supports("avx2");
}
#else
#define wide_logits narrow_logits
#define wide_largest narrow_largest
#define wide_exponentials narrow_exponentials

static bool has_wide(void)
{
	return false;
}
#endif

size_t kvt_softmax_tile(const uint16_t *halves, size_t tokens, size_t dim, float *tiles)
{
	size_t bad = tokens;
	float row[ROW];
	for (size_t t = 0; t < tokens; t++) {
		const uint16_t *half = halves + t * dim;
		float *tile = tiles + t / LANES * dim * LANES + t % LANES;
		for (size_t at = 0; at < dim; at += ROW) {
			size_t n = dim - at < ROW ? dim - at : ROW;
			kvt_half_to_float(half + at, row, n);
			for (size_t d = 0; d < n; d++) {
				tile[(at + d) * LANES] = row[d];
				if ((half[at + d] & 0x7c00) == 0x7c00 && t < bad)
					bad = t;
			}
		}
	}
	for (size_t t = tokens; t % LANES != 0; t++)
		for (size_t d = 0; d < dim; d++)
			tiles[(t / LANES * dim + d) * LANES + t % LANES] = 0;
	return bad;
}

void kvt_softmax_logits(const float *tiles, size_t count, size_t dim, const float *queries,
	float *logits, bool narrow)
{
	if (has_wide() && !narrow)
		wide_logits(tiles, count, dim, queries, logits);
	else
		narrow_logits(tiles, count, dim, queries, logits);
}

/* Sum of 16 values, as a tree of fixed shape. */
static inline float sum_tile(const float *v)
{
	float s[8];
	for (int i = 0; i < 8; i++)
		s[i] = v[i] + v[i + 8];
	for (int i = 0; i < 4; i++)
		s[i] += s[i + 4];
	return (s[0] + s[2]) + (s[1] + s[3]);
}

static void sum_by_page(const float *weight, size_t tokens, size_t block_tokens, float *sums)
{
	size_t page = 0;
	for (size_t t = 0; t < tokens; page++) {
		size_t end = t + block_tokens < tokens ? t + block_tokens : tokens;
		float sum = 0;
		for (; t % LANES == 0 && t + LANES <= end; t += LANES)
			sum += sum_tile(weight + t);
		for (; t < end; t++)
			sum += weight[t];
		sums[page] = sum;
	}
}

float kvt_softmax_sum_pages(float *logits, size_t tokens, size_t low, size_t high,
	size_t block_tokens, float *sums, bool narrow)
{
	size_t padded = (tokens + LANES - 1) / LANES * LANES;
	for (size_t t = 0; t < low; t++)
		logits[t] = -INFINITY;
	for (size_t t = high; t < padded; t++)
		logits[t] = -INFINITY;
	bool wide = has_wide() && !narrow;
	float max = -INFINITY;
	if (low < high) {
		max = wide ? wide_largest(logits, padded) : narrow_largest(logits, padded);
		if (wide)
			wide_exponentials(logits, padded, max);
		else
			narrow_exponentials(logits, padded, max);
	}
	/* What was masked must weigh nothing at all, not merely little. */
	memset(logits, 0, low * sizeof *logits);
	memset(logits + high, 0, (padded - high) * sizeof *logits);
	sum_by_page(logits, tokens, block_tokens, sums);
	return max;
}

void kvt_softmax_relative(float *values, size_t n)
{
	size_t padded = (n + LANES - 1) / LANES * LANES;
	for (size_t i = n; i < padded; i++)
		values[i] = -INFINITY;
	narrow_exponentials(values, padded, narrow_largest(values, padded));
}
