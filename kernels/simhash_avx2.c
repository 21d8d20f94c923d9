/*
 * simhash_avx2.c: estimates of SimHash codes with AVX2 and FMA, the same bits as simhash_score.c.
 * Two vectors hold 16 tokens of a page, 4 hash bits of each.
 */
#include "kernels/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>

#define TARGET "avx2,fma"
#define AVX2 __attribute__((target(TARGET), always_inline)) static inline

/* Vectors that a loop goes over have to stay in registers. */
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Four weights of a query as one. */
typedef int32_t __attribute__((may_alias)) four;

/* Octaves x 2^23; page_code_scalar.c */
static const float one = 127 * 0x1p23f, least = 0x1p23f, most = 227 * 0x1p23f;

AVX2 __m256 power(__m256 y)
{
	y = _mm256_min_ps(_mm256_max_ps(y, _mm256_set1_ps(least)), _mm256_set1_ps(most));
	return _mm256_castsi256_ps(_mm256_cvtps_epi32(y));
}

/* Sums of the weights of the bits that are set, 8 tokens by four heads: pairs are at most 254, and
 * KVT_SIMHASH_BITS_MAX / 4 of them fit into 16 bits. */
AVX2 void products(const uint8_t *code, uint32_t n_bits, const int8_t *weight, __m256i *product)
{
	const __m256i field = _mm256_set1_epi8(1);
	const uint32_t pitch = n_bits / 4;
	const four *w = (const four *)weight;
	__m256i pairs[4] = { _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
		_mm256_setzero_si256() };
	for (uint32_t v = 0; v < n_bits / 32; v++) {
		__m256i bytes = _mm256_loadu_si256((const __m256i *)(code + 64 * (size_t)v));
		UNROLL for (int k = 0; k < 8; k++, w++)
		{
			__m256i bit = _mm256_and_si256(_mm256_srli_epi16(bytes, k), field);
			UNROLL for (int h = 0; h < 4; h++)
			{
				__m256i weights = _mm256_set1_epi32(w[h * pitch]);
				pairs[h] = _mm256_add_epi16(
					pairs[h], _mm256_maddubs_epi16(bit, weights));
			}
		}
	}
	UNROLL for (int h = 0; h < 4; h++) product[h] =
		_mm256_madd_epi16(pairs[h], _mm256_set1_epi16(1));
}

/* kvt_simhash_norm of 8 tokens. */
AVX2 __m256 norms(const uint8_t *bytes)
{
	__m256i half = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)bytes));
	__m256i bits = _mm256_slli_epi32(_mm256_and_si256(half, _mm256_set1_epi32(0x7fff)), 13);
	return _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0x1p112f));
}

AVX2 __m256 tokens(__m256i product, __m256 norm, int32_t sum, float factor)
{
	__m256i signs = _mm256_sub_epi32(_mm256_slli_epi32(product, 1), _mm256_set1_epi32(sum));
	__m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(signs), norm);
	return power(_mm256_fmadd_ps(scaled, _mm256_set1_ps(factor), _mm256_set1_ps(one)));
}

__attribute__((target(TARGET))) void kvt_simhash_score_avx2(
	const uint8_t *const *codes, const kvt_simhash_query *query, uint32_t head, float *sums)
{
	const uint32_t n_bits = query->n_bits;
	const int8_t *weight = query->weight + (size_t)head * n_bits;
	for (int i = 0; i < 4; i++) {
		__m256i low[4], high[4];
		__m128 quarter[4];
		products(codes[i], n_bits, weight, low);
		products(codes[i] + 32, n_bits, weight, high);
		__m256 norm_low = norms(codes[i] + 2 * (size_t)n_bits);
		__m256 norm_high = norms(codes[i] + 2 * (size_t)n_bits + 16);
		UNROLL for (int h = 0; h < 4; h++)
		{
			int32_t sum = query->sum[head + h];
			float factor = query->factor[head + h];
			__m256 half = _mm256_add_ps(tokens(low[h], norm_low, sum, factor),
				tokens(high[h], norm_high, sum, factor));
			quarter[h] = _mm_add_ps(
				_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
		}
		_MM_TRANSPOSE4_PS(quarter[0], quarter[1], quarter[2], quarter[3]);
		__m128 heads = _mm_add_ps(
			_mm_add_ps(quarter[0], quarter[2]), _mm_add_ps(quarter[1], quarter[3]));
		float sum[4];
		_mm_storeu_ps(sum, heads);
		for (int h = 0; h < 4; h++)
			sums[4 * h + i] = sum[h];
	}
}
#endif
