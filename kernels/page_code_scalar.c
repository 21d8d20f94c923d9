/*
 * page_code_scalar.c: scores of page codes in plain C, the reference that every variant must match
 * to the last bit. Integer products are exact; floats are added and multiplied in the order written
 * here, with fused products only where fmaf is called.
 */
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

enum { TOKENS = KVT_CODE_TOKENS, BLOCK = KVT_CODE_BLOCK };

/* Octaves x 2^23: the bits of 1.0f, and the powers at which tokens are cut off. */
static const float one = 127 * 0x1p23f, least = 0x1p23f, most = 227 * 0x1p23f;

/* 2^k (1 + f) for y / 2^23 - 127 = k + f: the bits of a float are its logarithm, nearly. */
static float power(float y)
{
	y = y < least ? least : y;
	y = y > most ? most : y;
	int32_t bits = (int32_t)nearbyintf(y);
	float value;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

static float step_of(const uint8_t *means, uint32_t head_dim, unsigned class, unsigned page)
{
	return kvt_code_step(means[8 * head_dim + BLOCK * class + page]);
}

/* The mean row's logit, in octaves x 2^23 and 4 as large as the factor has it. */
static float mean_product(
	const uint8_t *means, unsigned page, const kvt_code_query *query, uint32_t head)
{
	uint32_t head_dim = query->head_dim, half = head_dim / 2;
	const int8_t *q = query->q + (size_t)head * head_dim;
	int32_t sum = -15 * (query->sum[head] / 2);
	for (uint32_t i = 0; i < half; i++) {
		unsigned byte = means[i / 4 * 64 + 4 * page + i % 4];
		sum += q[i] * (int)(byte & 15) + q[half + i] * (int)(byte >> 4);
	}
	return (float)sum * step_of(means, head_dim, 0, page);
}

/* Products of the 16 detail rows with a query, each with the middle of its levels taken off. */
static void detail_products(const kvt_code_query *query, uint32_t head, uint32_t head_dim,
	const uint8_t *detail, int32_t *product)
{
	const int8_t *q = query->q + (size_t)head * head_dim;
	for (unsigned row = 0; row < TOKENS; row++) {
		product[row] = -3 * (query->sum[head] / 2);
		for (uint32_t i = 0; i < head_dim; i++) {
			const uint8_t *byte = detail + i / 16 * 64 + 4 * row + i % 4;
			product[row] += q[i] * (*byte >> i % 16 / 4 * 2 & 3);
		}
	}
	product[1] += 4 * product[0];
	product[0] = 0;
}

static unsigned class_of(unsigned row)
{
	return row < 2 ? row : row < 4 ? 2 : row < 8 ? 3 : 4;
}

static float page_sum(
	const kvt_code_block *block, unsigned page, const kvt_code_query *query, uint32_t head)
{
	int32_t product[TOKENS];
	float x[TOKENS], factor = query->factor[head];
	detail_products(query, head, block->head_dim, block->details[page], product);
	for (unsigned row = 0; row < TOKENS; row++)
		x[row] = (float)product[row] *
			 step_of(block->means, block->head_dim, class_of(row), page);
	for (unsigned half = 1; half < TOKENS; half *= 2)
		for (unsigned i = 0; i < TOKENS; i++)
			if (!(i & half)) {
				float a = x[i], b = x[i + half];
				x[i] = a + b;
				x[i + half] = a - b;
			}
	float base = fmaf(mean_product(block->means, page, query, head), factor, one);
	for (unsigned i = 0; i < TOKENS; i++)
		x[i] = power(fmaf(x[i], factor, base));
	for (unsigned n = TOKENS / 2; n > 0; n /= 2)
		for (unsigned i = 0; i < n; i++)
			x[i] += x[i + n];
	return x[0];
}

void kvt_code_score_scalar(const kvt_code_block *block, const kvt_code_query *query, uint32_t head,
	float *sums, size_t pitch)
{
	for (unsigned h = 0; h < 4; h++)
		for (unsigned page = 0; page < BLOCK; page++)
			sums[h * pitch + page] = page_sum(block, page, query, head + h);
}

void kvt_code_score_means_scalar(const uint8_t *means, uint32_t n, const kvt_code_query *query,
	uint32_t head, float *sums, size_t pitch)
{
	uint32_t head_dim = query->head_dim;
	for (uint32_t i = 0; i < n * BLOCK; i++) {
		const uint8_t *block = means + i / BLOCK * BLOCK * kvt_code_mean_bytes(head_dim);
		const uint8_t *bits = block + 8 * head_dim + BLOCK * KVT_CODE_CLASSES;
		unsigned page = i % BLOCK;
		float variance =
			kvt_code_variance((uint16_t)(bits[2 * page] | bits[2 * page + 1] << 8));
		for (unsigned h = 0; h < 4; h++) {
			float product = mean_product(block, page, query, head + h);
			float base = fmaf(variance, query->noise[head + h], one);
			sums[h * pitch + i] =
				16 * power(fmaf(product, query->factor[head + h], base));
		}
	}
}
