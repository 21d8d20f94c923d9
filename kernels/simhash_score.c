/*
 * simhash_score.c: the estimates of SimHash codes: lists of pages, brought to the variants four at
 * a time, and the reference in plain C that every variant must match to the last bit.
 */
#include "kernels/kernels.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum { TOKENS = KVT_CODE_TOKENS, TOGETHER = 4, LINE = 64, AHEAD = 16 };

/* Octaves x 2^23; page_code_scalar.c */
static const float one = 127 * 0x1p23f, least = 0x1p23f, most = 227 * 0x1p23f;

static float power(float y)
{
	y = y < least ? least : y;
	y = y > most ? most : y;
	int32_t bits = (int32_t)nearbyintf(y);
	float value;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

static float page_sum(const uint8_t *code, const kvt_simhash_query *query, uint32_t head)
{
	const int8_t *weight = query->weight + (size_t)head * query->n_bits;
	float x[TOKENS];
	for (unsigned token = 0; token < TOKENS; token++) {
		int32_t product = 0;
		for (uint32_t j = 0; j < query->n_bits; j++)
			product += weight[j] * kvt_simhash_bit(code, token, j);
		/* a bit is worth 1 or -1 */
		product = 2 * product - query->sum[head];
		float scaled = (float)product * kvt_simhash_norm(code, query->n_bits, token);
		x[token] = power(fmaf(scaled, query->factor[head], one));
	}
	for (unsigned n = TOKENS / 2; n > 0; n /= 2)
		for (unsigned i = 0; i < n; i++)
			x[i] += x[i + n];
	return x[0];
}

void kvt_simhash_score_scalar(
	const uint8_t *const *codes, const kvt_simhash_query *query, uint32_t head, float *sums)
{
	for (uint32_t h = 0; h < 4; h++)
		for (uint32_t i = 0; i < TOGETHER; i++)
			sums[TOGETHER * h + i] = page_sum(codes[i], query, head + h);
}

static void (*const variants[KVT_ISA_COUNT])(
	const uint8_t *const *codes, const kvt_simhash_query *query, uint32_t head, float *sums) = {
	[KVT_ISA_SCALAR] = kvt_simhash_score_scalar,
#ifdef __x86_64__
	[KVT_ISA_AVX2] = kvt_simhash_score_avx2,
	[KVT_ISA_AVX512] = kvt_simhash_score_avx512,
#endif
};

static const uint8_t *code_at(
	const uint8_t *codes, size_t bytes, const kvt_page_list *pages, uint32_t i)
{
	return codes + (pages->ids ? pages->ids[i] : (size_t)pages->first + i) * bytes;
}

int kvt_simhash_score(kvt_isa isa, const uint8_t *codes, const kvt_simhash_query *query,
	const kvt_page_list *pages, float *sums, size_t pitch)
{
	size_t bytes = kvt_simhash_page_bytes(query->n_bits);
	if (!kvt_isa_supported(isa))
		return -ENOTSUP;
	for (uint32_t i = 0; i < pages->n; i += TOGETHER) {
		uint32_t n = pages->n - i < TOGETHER ? pages->n - i : TOGETHER;
		const uint8_t *four[TOGETHER];
		for (uint32_t k = 0; k < TOGETHER; k++)
			four[k] = code_at(codes, bytes, pages, k < n ? i + k : i);
		for (uint32_t k = i + AHEAD; k < i + AHEAD + TOGETHER && k < pages->n; k++)
			for (size_t at = 0; at < bytes; at += LINE)
				__builtin_prefetch(code_at(codes, bytes, pages, k) + at, 0, 2);
		for (uint32_t head = 0; head < query->n_heads; head += 4) {
			float out[4 * TOGETHER];
			variants[isa](four, query, head, out);
			/* a group that is no multiple of 4 ends with heads that nobody reads */
			for (uint32_t h = 0; h < 4 && head + h < query->n_heads; h++)
				memcpy(sums + (head + h) * pitch + i, out + TOGETHER * h,
					n * sizeof(float));
		}
	}
	return 0;
}
