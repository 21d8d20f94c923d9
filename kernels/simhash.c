/*
 * simhash.c: sign bits of keys under a random projection, queries made ready, and what is known of
 * both in theory. The scoring itself is in simhash_score.c and its variants.
 */
#include "kernels/kernels.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum { TOKENS = KVT_CODE_TOKENS, BITS_MAX = KVT_SIMHASH_BITS_MAX, DIM_MAX = KVT_CODE_HEAD_DIM_MAX };

static int allowed(uint32_t head_dim, uint32_t n_bits)
{
	return head_dim > 0 && head_dim <= DIM_MAX && n_bits > 0 && n_bits % 32 == 0 &&
	       n_bits <= BITS_MAX;
}

/* splitmix64 (Steele, Lea, Flood 2014) as a function of a counter. */
static uint64_t random_bits(uint64_t seed, uint64_t counter)
{
	uint64_t x = seed + (counter + 1) * UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* Normal without a math library, so the same everywhere: the sum of 1024 fair bits, spread evenly
 * between the whole numbers. Its kurtosis is 2.998. */
static float normal(uint64_t seed, uint64_t counter)
{
	int sum = -512;
	for (uint64_t i = 0; i < 16; i++)
		sum += __builtin_popcountll(random_bits(seed, 17 * counter + i));
	float within = (float)(random_bits(seed, 17 * counter + 16) >> 40) * 0x1p-24f;
	return ((float)sum + within - 0.5f) / 16;
}

size_t kvt_simhash_bytes(uint32_t head_dim, uint32_t n_bits)
{
	return sizeof(float) * head_dim * n_bits;
}

int kvt_simhash_init(
	kvt_simhash *hash, uint32_t head_dim, uint32_t n_bits, uint64_t seed, void *memory)
{
	if (!allowed(head_dim, n_bits))
		return -EINVAL;
	*hash = (kvt_simhash){ .head_dim = head_dim, .n_bits = n_bits, .projection = memory };
	for (size_t i = 0; i < (size_t)head_dim * n_bits; i++)
		hash->projection[i] = normal(seed, i);
	return 0;
}

/* E |u_1| of a direction u that is uniform on the sphere: 1 in one dimension, 2 / pi in two, and n
 * / (n + 1) of itself from n to n + 2. */
static double mean_component(uint32_t n)
{
	double mean = n % 2 ? 1 : 2 / M_PI;
	for (uint32_t i = 2 - n % 2; i < n; i += 2)
		mean *= (double)i / (i + 1);
	return mean;
}

/* Of columns a and b. */
static double product(const kvt_simhash *hash, uint32_t a, uint32_t b)
{
	double sum = 0;
	for (uint32_t i = 0; i < hash->head_dim; i++) {
		const float *row = hash->projection + (size_t)i * hash->n_bits;
		sum += (double)row[a] * (double)row[b];
	}
	return sum;
}

/* column a = f x column a + g x column b */
static void combine(kvt_simhash *hash, uint32_t a, double f, uint32_t b, double g)
{
	for (uint32_t i = 0; i < hash->head_dim; i++) {
		float *row = hash->projection + (size_t)i * hash->n_bits;
		row[a] = (float)(f * (double)row[a] + g * (double)row[b]);
	}
}

void kvt_simhash_orthogonalise(kvt_simhash *hash)
{
	/* E |length x u_1| is that of a normal number, sqrt(2 / pi) */
	double length = sqrt(2 / M_PI) / mean_component(hash->head_dim);
	for (uint32_t j = 0; j < hash->n_bits; j++) {
		for (uint32_t other = j - j % hash->head_dim; other < j; other++)
			combine(hash, j, 1, other, -product(hash, j, other) / (length * length));
		double norm = sqrt(product(hash, j, j));
		combine(hash, j, length / norm, j, 0);
	}
}

/* out[n_bits] = the projection of x: sums over channels, in their order. */
static void project(const kvt_simhash *hash, const float *x, float *out)
{
	for (uint32_t part = 0; part < hash->n_bits; part += 32) {
		const float *row = hash->projection + part;
		float sum[32] = { 0 };
		for (uint32_t i = 0; i < hash->head_dim; i++, row += hash->n_bits)
			for (uint32_t j = 0; j < 32; j++)
				sum[j] += x[i] * row[j];
		memcpy(out + part, sum, sizeof(sum));
	}
}

void kvt_simhash_signs(const kvt_simhash *hash, const float *x, uint32_t *words)
{
	float projected[BITS_MAX];
	project(hash, x, projected);
	memset(words, 0, hash->n_bits / 8);
	for (uint32_t j = 0; j < hash->n_bits; j++)
		words[j / 32] |= (uint32_t)(projected[j] >= 0) << j % 32;
}

/* The nearest half-precision number to a norm, at most the largest. */
static uint16_t to_half(float norm)
{
	float scaled = norm * 0x1p-112f;
	uint32_t bits;
	memcpy(&bits, &scaled, sizeof(bits));
	bits = (bits + 0xfff + (bits >> 13 & 1)) >> 13;
	return (uint16_t)(bits < 0x7bff ? bits : 0x7bff);
}

static void put_token(const kvt_simhash *hash, const float *x, unsigned token, uint8_t *code)
{
	uint32_t words[BITS_MAX / 32];
	double square = 0;
	kvt_simhash_signs(hash, x, words);
	for (uint32_t j = 0; j < hash->n_bits; j++) {
		uint8_t *byte = code + j / 32 * 64 + 4 * token + j % 4;
		*byte |= (uint8_t)((words[j / 32] >> j % 32 & 1) << j % 32 / 4);
	}
	for (uint32_t i = 0; i < hash->head_dim; i++)
		square += (double)x[i] * x[i];
	uint16_t norm = to_half((float)sqrt(square));
	code[2 * hash->n_bits + 2 * token] = (uint8_t)norm;
	code[2 * hash->n_bits + 2 * token + 1] = (uint8_t)(norm >> 8);
}

int kvt_simhash_build(const kvt_simhash *hash, kvt_element element, const void *keys, size_t stride,
	const float *centre, uint8_t *code)
{
	int odd = 0;
	float x[DIM_MAX];
	memset(code, 0, kvt_simhash_page_bytes(hash->n_bits));
	for (unsigned token = 0; token < TOKENS; token++) {
		kvt_elements_to_float(
			element, (const char *)keys + token * stride, hash->head_dim, x);
		for (uint32_t i = 0; i < hash->head_dim; i++) {
			/* sums of what is left stay finite */
			int bad = !(fabsf(x[i]) <= 0x1p40f);
			x[i] = bad ? 0 : centre ? x[i] - centre[i] : x[i];
			odd += bad;
		}
		put_token(hash, x, token, code);
	}
	return odd;
}

static uint32_t padded(uint32_t n_heads)
{
	return (n_heads + 3) & ~(uint32_t)3;
}

size_t kvt_simhash_query_bytes(uint32_t n_bits, uint32_t n_heads)
{
	return (size_t)padded(n_heads) * (n_bits + 2 * sizeof(float));
}

int kvt_simhash_query_init(
	kvt_simhash_query *query, uint32_t n_bits, uint32_t n_heads, void *memory)
{
	if (!allowed(1, n_bits) || n_heads == 0 || n_heads > KVT_CODE_HEADS_MAX)
		return -EINVAL;
	memset(memory, 0, kvt_simhash_query_bytes(n_bits, n_heads));
	query->n_bits = n_bits;
	query->n_heads = n_heads;
	query->weight = memory;
	query->sum = (int32_t *)(query->weight + (size_t)padded(n_heads) * n_bits);
	query->factor = (float *)(query->sum + padded(n_heads));
	return 0;
}

int kvt_simhash_query_set(
	kvt_simhash_query *query, const kvt_simhash *hash, const float *queries, float scale)
{
	/* sqrt(pi / 2) x log2 e */
	static const float constant = 0x1.cee2ecp+0f;
	uint32_t n_bits = hash->n_bits;
	float projected[BITS_MAX];
	if (n_bits != query->n_bits)
		return -EINVAL;
	for (uint32_t head = 0; head < query->n_heads; head++) {
		float largest = 0, sum = 0;
		int8_t *weight = query->weight + (size_t)head * n_bits;
		project(hash, queries + (size_t)head * hash->head_dim, projected);
		for (uint32_t j = 0; j < n_bits; j++) {
			largest = fmaxf(largest, fabsf(projected[j]));
			sum += fabsf(projected[j]);
		}
		memset(weight, 0, n_bits);
		query->sum[head] = 0;
		query->factor[head] = 0;
		/* numbers so large or small that products leave the range of a float, and NaN */
		if (!(sum < 0x1p40f) || !(largest > 0x1p-60f) || !(fabsf(scale) < 0x1p20f))
			continue;
		for (uint32_t j = 0; j < n_bits; j++) {
			weight[j] = (int8_t)nearbyintf(projected[j] * (127 / largest));
			query->sum[head] += weight[j];
		}
		query->factor[head] = largest / 127 * scale * constant / (float)n_bits * 0x1p23f;
	}
	return 0;
}

double kvt_simhash_collision(double cosine)
{
	return 1 - acos(fmin(fmax(cosine, -1), 1)) / M_PI;
}

double kvt_simhash_sampled(double cosine, unsigned k_bits, unsigned n_tables)
{
	double match = pow(kvt_simhash_collision(cosine), k_bits), miss = 1 - match;
	return 1 - pow(miss, n_tables) - n_tables * match * pow(miss, n_tables - 1.0);
}
