/*
 * page_code_avx2.c: scores of page codes with AVX2 and FMA, the same bits as page_code_scalar.c.
 * Two vectors hold the 16 rows of a page, 4 channels of each.
 */
#include "kernels/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2,fma"))) static inline

/* Octaves x 2^23; page_code_scalar.c */
static const float one = 127 * 0x1p23f, least = 0x1p23f, most = 227 * 0x1p23f;

enum {
	AHEAD = 6, /* how far ahead of a list's page its records are asked for */
	/* Pairs of products of 2 bits and 8 bits, at most 762 each, that 16 bits hold the sum of.
	 */
	PAIRS_MAX = 40,
};

AVX2 __m256 power(__m256 y)
{
	y = _mm256_min_ps(_mm256_max_ps(y, _mm256_set1_ps(least)), _mm256_set1_ps(most));
	return _mm256_castsi256_ps(_mm256_cvtps_epi32(y));
}

/* Steps of 8 rows, given the byte of each. */
AVX2 __m256 row_steps(__m256i e)
{
	const __m256i eighths = _mm256_setr_epi32(0x3f800000, 0x3f8b95c2, 0x3f9837f0, 0x3fa5fed7,
		0x3fb504f3, 0x3fc5672a, 0x3fd744fd, 0x3feac0c7);
	__m256i part =
		_mm256_permutevar8x32_epi32(eighths, _mm256_and_si256(e, _mm256_set1_epi32(7)));
	__m256i octave = _mm256_slli_epi32(
		_mm256_sub_epi32(_mm256_srli_epi32(e, 3), _mm256_set1_epi32(16)), 23);
	__m256i none = _mm256_cmpeq_epi32(e, _mm256_setzero_si256());
	return _mm256_castsi256_ps(_mm256_andnot_si256(none, _mm256_add_epi32(part, octave)));
}

/* 8 or 16 bytes of nibbles: the low ones, then the high ones. */
AVX2 __m256i nibbles(__m128i bytes)
{
	__m256i both =
		_mm256_inserti128_si256(_mm256_castsi128_si256(bytes), _mm_srli_epi16(bytes, 4), 1);
	return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

AVX2 __m256i two_loads(const int8_t *low, const int8_t *high)
{
	return _mm256_inserti128_si256(
		_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)low)),
		_mm_loadu_si128((const __m128i *)high), 1);
}

AVX2 __m256i two_half_loads(const int8_t *low, const int8_t *high)
{
	return _mm256_inserti128_si256(
		_mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)low)),
		_mm_loadl_epi64((const __m128i *)high), 1);
}

/* sum + products of unsigned by signed bytes, four to a number; pairs stay within 16 bits. */
AVX2 __m256i add_products(__m256i sum, __m256i codes, __m256i q)
{
	__m256i pairs = _mm256_maddubs_epi16(codes, q);
	return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* The sum of each of four vectors of 8. */
AVX2 __m128i sum_of_each(const __m256i *x)
{
	__m256i pairs =
		_mm256_hadd_epi32(_mm256_hadd_epi32(x[0], x[1]), _mm256_hadd_epi32(x[2], x[3]));
	return _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
}

/* Products of the mean row with four queries, times its step. */
AVX2 __m128 mean_products(const uint8_t *mean, uint32_t head_dim, const int8_t *q, __m128i middle)
{
	uint32_t half = head_dim / 2, i = 0;
	__m256i sum[4] = { _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
		_mm256_setzero_si256() };
	for (; i + 16 <= half; i += 16) {
		__m256i codes = nibbles(_mm_loadu_si128((const __m128i *)(mean + i)));
		for (int h = 0; h < 4; h++) {
			const int8_t *row = q + h * head_dim + i;
			sum[h] = add_products(sum[h], codes, two_loads(row, row + half));
		}
	}
	if (i < half) {
		__m256i codes = nibbles(_mm_loadl_epi64((const __m128i *)(mean + i)));
		for (int h = 0; h < 4; h++) {
			const int8_t *row = q + h * head_dim + i;
			sum[h] = add_products(sum[h], codes, two_half_loads(row, row + half));
		}
	}
	__m128 step = _mm_set1_ps(kvt_code_step(mean[half]));
	return _mm_mul_ps(_mm_cvtepi32_ps(_mm_sub_epi32(sum_of_each(sum), middle)), step);
}

static inline int32_t four_numbers(const int8_t *q)
{
	int32_t bits;
	memcpy(&bits, q, sizeof(bits));
	return bits;
}

/* Products of 8 detail rows, those from byte `detail` on, with four queries, for up to PAIRS_MAX
 * groups of 4 channels: 16 bits a pair. */
AVX2 void detail_pairs(const uint8_t *detail, uint32_t n_channels, uint32_t head_dim,
	const int8_t *q, __m256i *pairs)
{
	const __m256i field = _mm256_set1_epi8(3);
	__m256i p0 = _mm256_setzero_si256(), p1 = p0, p2 = p0, p3 = p0;
	for (uint32_t i = 0; i < n_channels; i += 16) {
		__m256i bytes = _mm256_loadu_si256((const __m256i *)(detail + 4 * (size_t)i));
		for (int k = 0; k < 4; k++) {
			__m256i code = _mm256_and_si256(bytes, field);
			bytes = _mm256_srli_epi16(bytes, 2);
			const int8_t *at = q + i + 4 * k;
			__m256i q0 = _mm256_set1_epi32(four_numbers(at));
			__m256i q1 = _mm256_set1_epi32(four_numbers(at + head_dim));
			__m256i q2 = _mm256_set1_epi32(four_numbers(at + 2 * head_dim));
			__m256i q3 = _mm256_set1_epi32(four_numbers(at + 3 * head_dim));
			p0 = _mm256_add_epi16(p0, _mm256_maddubs_epi16(code, q0));
			p1 = _mm256_add_epi16(p1, _mm256_maddubs_epi16(code, q1));
			p2 = _mm256_add_epi16(p2, _mm256_maddubs_epi16(code, q2));
			p3 = _mm256_add_epi16(p3, _mm256_maddubs_epi16(code, q3));
		}
	}
	pairs[0] = p0;
	pairs[1] = p1;
	pairs[2] = p2;
	pairs[3] = p3;
}

AVX2 void detail_products(const uint8_t *detail, uint32_t head_dim, const int8_t *q,
	const __m256i *start, __m256i *product)
{
	for (int h = 0; h < 4; h++)
		product[h] = start[h];
	for (uint32_t i = 0; i < head_dim; i += 4 * PAIRS_MAX) {
		uint32_t n = head_dim - i < 4 * PAIRS_MAX ? head_dim - i : 4 * PAIRS_MAX;
		__m256i pairs[4];
		detail_pairs(detail + 4 * (size_t)i, n, head_dim, q + i, pairs);
		for (int h = 0; h < 4; h++)
			product[h] = _mm256_add_epi32(
				product[h], _mm256_madd_epi16(pairs[h], _mm256_set1_epi16(1)));
	}
}

/* Sums and differences over the 16 rows in two vectors. */
AVX2 void hadamard(__m256 *low, __m256 *high)
{
	const __m256 minus1 = _mm256_castsi256_ps(_mm256_set1_epi64x(INT64_MIN));
	const __m256 minus2 = _mm256_castsi256_ps(
		_mm256_setr_epi32(0, 0, INT32_MIN, INT32_MIN, 0, 0, INT32_MIN, INT32_MIN));
	const __m256 minus4 = _mm256_castsi256_ps(
		_mm256_setr_epi32(0, 0, 0, 0, INT32_MIN, INT32_MIN, INT32_MIN, INT32_MIN));
	__m256 x[2] = { *low, *high };
	for (int i = 0; i < 2; i++) {
		x[i] = _mm256_add_ps(_mm256_permute_ps(x[i], 0xb1), _mm256_xor_ps(x[i], minus1));
		x[i] = _mm256_add_ps(_mm256_permute_ps(x[i], 0x4e), _mm256_xor_ps(x[i], minus2));
		x[i] = _mm256_add_ps(
			_mm256_permute2f128_ps(x[i], x[i], 1), _mm256_xor_ps(x[i], minus4));
	}
	*low = _mm256_add_ps(x[0], x[1]);
	*high = _mm256_sub_ps(x[0], x[1]);
}

/* The power of the page's 16 tokens, those that are 8 apart added. */
AVX2 __m256 tokens(__m256i low, __m256i high, const __m256 *steps, float factor, float base)
{
	/* row 1 has its upper bits in row 0 */
	__m256i upper = _mm256_slli_epi32(_mm256_shuffle_epi32(low, 0xb1), 2);
	low = _mm256_add_epi32(low, _mm256_blend_epi32(_mm256_setzero_si256(), upper, 2));
	__m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(low), steps[0]);
	__m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(high), steps[1]);
	x = _mm256_blend_ps(x, _mm256_setzero_ps(), 1);
	hadamard(&x, &y);
	__m256 scale = _mm256_set1_ps(factor), offset = _mm256_set1_ps(base);
	return _mm256_add_ps(
		power(_mm256_fmadd_ps(x, scale, offset)), power(_mm256_fmadd_ps(y, scale, offset)));
}

AVX2 __m128 sums_of_four(const __m256 *half)
{
	__m128 quarter[4];
	for (int h = 0; h < 4; h++)
		quarter[h] = _mm_add_ps(
			_mm256_castps256_ps128(half[h]), _mm256_extractf128_ps(half[h], 1));
	_MM_TRANSPOSE4_PS(quarter[0], quarter[1], quarter[2], quarter[3]);
	return _mm_add_ps(_mm_add_ps(quarter[0], quarter[2]), _mm_add_ps(quarter[1], quarter[3]));
}

AVX2 void store_sums(__m128 four, float *sums[4], uint32_t i)
{
	float sum[4];
	_mm_storeu_ps(sum, four);
	for (int h = 0; h < 4; h++)
		if (sums[h])
			sums[h][i] = sum[h];
}

static inline size_t page_at(const kvt_page_list *pages, uint32_t i)
{
	return pages->ids ? pages->ids[i] : pages->first + i;
}

AVX2 void prefetch(const kvt_codes *codes, size_t page)
{
	const char *detail = (const char *)codes->details + page * 4 * codes->head_dim;
	for (uint32_t i = 0; i < 4 * codes->head_dim; i += 64)
		_mm_prefetch(detail + i, _MM_HINT_T0);
	_mm_prefetch((const char *)codes->means + page * kvt_code_mean_bytes(codes->head_dim),
		_MM_HINT_T0);
}

/* A vector of 64 bytes of detail is rows 0-7 in its first half, 8-15 in the second; the halves of
 * all vectors are gone over in turn. */
AVX2 void page_products(const uint8_t *detail, uint32_t head_dim, const int8_t *q,
	const __m256i *start, __m256i (*product)[4])
{
	detail_products(detail, head_dim, q, start, product[0]);
	detail_products(detail + 32, head_dim, q, start, product[1]);
}

__attribute__((target("avx2,fma"))) void kvt_code_score_avx2(const kvt_codes *codes,
	const kvt_code_query *query, uint32_t head, const kvt_page_list *pages, float *sums[4])
{
	const __m256i class_low = _mm256_setr_epi32((int)0xffffff00, (int)0xffffff01,
		(int)0xffffff02, (int)0xffffff02, (int)0xffffff03, (int)0xffffff03, (int)0xffffff03,
		(int)0xffffff03);
	uint32_t head_dim = codes->head_dim;
	const int8_t *q = query->q + (size_t)head * head_dim;
	const __m128i sum = _mm_loadu_si128((const __m128i *)(query->sum + head));
	const __m128i middle = _mm_mullo_epi32(_mm_srai_epi32(sum, 1), _mm_set1_epi32(15));
	const __m128 factor = _mm_loadu_ps(query->factor + head);
	__m256i start[4];
	for (int h = 0; h < 4; h++)
		start[h] = _mm256_set1_epi32(-3 * (query->sum[head + h] / 2));
	for (uint32_t i = 0; i < pages->n; i++) {
		size_t page = page_at(pages, i);
		const uint8_t *mean = codes->means + page * kvt_code_mean_bytes(head_dim);
		if (pages->ids && i + AHEAD < pages->n)
			prefetch(codes, pages->ids[i + AHEAD]);
		__m256i product[2][4];
		page_products(codes->details + page * 4 * head_dim, head_dim, q, start, product);
		float base[4];
		_mm_storeu_ps(base, _mm_fmadd_ps(mean_products(mean, head_dim, q, middle), factor,
					    _mm_set1_ps(one)));
		__m256i e = _mm256_broadcastsi128_si256(
			_mm_loadl_epi64((const __m128i *)(mean + head_dim / 2)));
		__m256 steps[2] = { row_steps(_mm256_shuffle_epi8(e, class_low)),
			row_steps(_mm256_set1_epi32(mean[head_dim / 2 + 4])) };
		__m256 half[4];
		for (int h = 0; h < 4; h++)
			half[h] = tokens(product[0][h], product[1][h], steps,
				query->factor[head + h], base[h]);
		store_sums(sums_of_four(half), sums, i);
	}
}

__attribute__((target("avx2,fma"))) void kvt_code_score_means_avx2(const kvt_codes *codes,
	const kvt_code_query *query, uint32_t head, const kvt_page_list *pages, float *sums[4])
{
	uint32_t head_dim = codes->head_dim;
	const int8_t *q = query->q + (size_t)head * head_dim;
	const __m128i sum = _mm_loadu_si128((const __m128i *)(query->sum + head));
	const __m128i middle = _mm_mullo_epi32(_mm_srai_epi32(sum, 1), _mm_set1_epi32(15));
	const __m128 factor = _mm_loadu_ps(query->factor + head);
	const __m128 noise = _mm_loadu_ps(query->noise + head);
	for (uint32_t i = 0; i < pages->n; i++) {
		size_t page = page_at(pages, i);
		const uint8_t *mean = codes->means + page * kvt_code_mean_bytes(head_dim);
		__m128 variance = _mm_set1_ps(kvt_code_variance(mean + head_dim / 2));
		__m128 base = _mm_fmadd_ps(variance, noise, _mm_set1_ps(one));
		__m128 y = _mm_fmadd_ps(mean_products(mean, head_dim, q, middle), factor, base);
		y = _mm_min_ps(_mm_max_ps(y, _mm_set1_ps(least)), _mm_set1_ps(most));
		__m128 token = _mm_castsi128_ps(_mm_cvtps_epi32(y));
		store_sums(_mm_mul_ps(token, _mm_set1_ps(16)), sums, i);
	}
}
#endif
