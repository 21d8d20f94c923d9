/*
 * page_code_avx2.c: scores of page codes with AVX2 and FMA, the same bits as page_code_scalar.c.
 * Two vectors hold the 16 rows of a page, 4 channels of each.
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

enum {
	BLOCK = KVT_CODE_BLOCK,
	/* Pairs of products of 2 bits and 8 bits, at most 762 each, that 16 bits hold the sum of;
	 * of 4 bits, at most 3810 each. */
	DETAIL_PAIRS = 40,
	MEAN_PAIRS = 8,
};

/* Four numbers of a query as one. */
typedef int32_t __attribute__((may_alias)) four;

/* Octaves x 2^23; page_code_scalar.c */
static const float one = 127 * 0x1p23f, least = 0x1p23f, most = 227 * 0x1p23f;

AVX2 __m256 power(__m256 y)
{
	y = _mm256_min_ps(_mm256_max_ps(y, _mm256_set1_ps(least)), _mm256_set1_ps(most));
	return _mm256_castsi256_ps(_mm256_cvtps_epi32(y));
}

/* The steps of 8 numbers e; kvt_code_step */
AVX2 __m256 steps_of(__m256i e)
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

/* Steps of class 0 of 8 pages. */
AVX2 __m256 mean_steps(const uint8_t *means, uint32_t head_dim, unsigned page)
{
	const uint8_t *steps = means + 8 * (size_t)head_dim + page;
	return steps_of(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)steps)));
}

/* Sums of pairs of 16 bits. */
AVX2 __m256i widened(__m256i pairs)
{
	return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

AVX2 __m256i with_pairs(__m256i pairs, __m256i codes, int32_t q)
{
	return _mm256_add_epi16(pairs, _mm256_maddubs_epi16(codes, _mm256_set1_epi32(q)));
}

/* Products of the mean rows of 8 pages, from `page` on, with four queries, times their steps. */
AVX2 void mean_products(const uint8_t *block, unsigned page, const kvt_code_query *query,
	uint32_t head, __m256 *product)
{
	const __m256i field = _mm256_set1_epi8(15);
	const uint32_t head_dim = query->head_dim, pitch = head_dim / 4, n = head_dim / 8;
	const four *low = (const four *)(query->q + (size_t)head * head_dim);
	const four *high = low + pitch / 2;
	const uint8_t *means = block + 4 * (size_t)page;
	__m256i sum[4];
	UNROLL for (int h = 0; h < 4; h++) sum[h] =
		_mm256_set1_epi32(-15 * (query->sum[head + h] / 2));
	for (uint32_t v = 0; v < n;) {
		uint32_t end = n - v < MEAN_PAIRS / 2 ? n : v + MEAN_PAIRS / 2;
		__m256i pairs[4] = { _mm256_setzero_si256(), _mm256_setzero_si256(),
			_mm256_setzero_si256(), _mm256_setzero_si256() };
		for (; v < end; v++) {
			__m256i bytes =
				_mm256_loadu_si256((const __m256i *)(means + 64 * (size_t)v));
			__m256i l = _mm256_and_si256(bytes, field);
			__m256i u = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), field);
			UNROLL for (int h = 0; h < 4; h++)
			{
				pairs[h] = with_pairs(pairs[h], l, low[h * pitch + v]);
				pairs[h] = with_pairs(pairs[h], u, high[h * pitch + v]);
			}
		}
		UNROLL for (int h = 0; h < 4; h++) sum[h] =
			_mm256_add_epi32(sum[h], widened(pairs[h]));
	}
	__m256 step = mean_steps(block, head_dim, page);
	UNROLL for (int h = 0; h < 4; h++) product[h] =
		_mm256_mul_ps(_mm256_cvtepi32_ps(sum[h]), step);
}

/* Products of 8 detail rows, those from byte `detail` on, with four queries; start: less the middle
 * of the levels. */
AVX2 void detail_products(const uint8_t *detail, uint32_t head_dim, const int8_t *q,
	const __m256i *start, __m256i *product)
{
	const __m256i field = _mm256_set1_epi8(3);
	const uint32_t pitch = head_dim / 4, n = head_dim / 16;
	const four *numbers = (const four *)q;
	UNROLL for (int h = 0; h < 4; h++) product[h] = start[h];
	for (uint32_t v = 0; v < n;) {
		uint32_t end = n - v < DETAIL_PAIRS / 4 ? n : v + DETAIL_PAIRS / 4;
		__m256i pairs[4] = { _mm256_setzero_si256(), _mm256_setzero_si256(),
			_mm256_setzero_si256(), _mm256_setzero_si256() };
		for (; v < end; v++, numbers += 4) {
			__m256i bytes =
				_mm256_loadu_si256((const __m256i *)(detail + 64 * (size_t)v));
			UNROLL for (int k = 0; k < 4; k++)
			{
				__m256i code = _mm256_and_si256(
					k ? _mm256_srli_epi16(bytes, 2 * k) : bytes, field);
				UNROLL for (int h = 0; h < 4; h++) pairs[h] =
					with_pairs(pairs[h], code, numbers[h * pitch + k]);
			}
		}
		UNROLL for (int h = 0; h < 4; h++) product[h] =
			_mm256_add_epi32(product[h], widened(pairs[h]));
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
	UNROLL for (int i = 0; i < 2; i++)
	{
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

/* Halves are added until four of each head are left, then four heads at once. */
AVX2 __m128 sums_of_four(const __m256 *half)
{
	__m128 quarter[4];
	UNROLL for (int h = 0; h < 4; h++) quarter[h] =
		_mm_add_ps(_mm256_castps256_ps128(half[h]), _mm256_extractf128_ps(half[h], 1));
	_MM_TRANSPOSE4_PS(quarter[0], quarter[1], quarter[2], quarter[3]);
	return _mm_add_ps(_mm_add_ps(quarter[0], quarter[2]), _mm_add_ps(quarter[1], quarter[3]));
}

/* The sums of a page, four heads. */
AVX2 __m128 page_sums(const kvt_code_block *block, unsigned page, const kvt_code_query *query,
	uint32_t head, const __m256i *start, const float (*base)[BLOCK])
{
	const __m256i class_low = _mm256_setr_epi32(0, 1, 2, 2, 3, 3, 3, 3);
	const uint32_t head_dim = block->head_dim;
	const int8_t *q = query->q + (size_t)head * head_dim;
	const uint8_t *steps = block->means + 8 * (size_t)head_dim + page;
	__m256i low[4], high[4];
	/* a vector of 64 bytes of detail is rows 0-7 in its first half, 8-15 in the second; the
	 * halves of all vectors are gone over in turn */
	detail_products(block->details[page], head_dim, q, start, low);
	detail_products(block->details[page] + 32, head_dim, q, start, high);
	__m256i e = _mm256_setr_epi32(steps[0], steps[BLOCK], steps[2 * BLOCK], steps[3 * BLOCK],
		steps[4 * BLOCK], 0, 0, 0);
	__m256 of_class = steps_of(e);
	__m256 of_row[2] = { _mm256_permutevar8x32_ps(of_class, class_low),
		_mm256_permutevar8x32_ps(of_class, _mm256_set1_epi32(4)) };
	__m256 half[4];
	UNROLL for (int h = 0; h < 4; h++) half[h] =
		tokens(low[h], high[h], of_row, query->factor[head + h], base[h][page]);
	return sums_of_four(half);
}

__attribute__((target(TARGET))) void kvt_code_score_avx2(const kvt_code_block *block,
	const kvt_code_query *query, uint32_t head, float *sums, size_t pitch)
{
	float base[4][BLOCK] __attribute__((aligned(32)));
	__m256i start[4];
	for (unsigned page = 0; page < BLOCK; page += 8) {
		__m256 mean[4];
		mean_products(block->means, page, query, head, mean);
		for (int h = 0; h < 4; h++)
			_mm256_store_ps(base[h] + page,
				_mm256_fmadd_ps(mean[h], _mm256_set1_ps(query->factor[head + h]),
					_mm256_set1_ps(one)));
	}
	for (int h = 0; h < 4; h++)
		start[h] = _mm256_set1_epi32(-3 * (query->sum[head + h] / 2));
	for (unsigned page = 0; page < BLOCK; page += 4) {
		__m128 four_pages[4];
		for (unsigned i = 0; i < 4; i++)
			four_pages[i] = page_sums(
				block, page + i, query, head, start, (const float(*)[BLOCK])base);
		_MM_TRANSPOSE4_PS(four_pages[0], four_pages[1], four_pages[2], four_pages[3]);
		for (int h = 0; h < 4; h++)
			_mm_storeu_ps(sums + h * pitch + page, four_pages[h]);
	}
}

/* kvt_code_variance of 8 pages. */
AVX2 __m256 variances(const uint8_t *means, uint32_t head_dim, unsigned page)
{
	const uint8_t *bytes =
		means + 8 * (size_t)head_dim + (size_t)BLOCK * KVT_CODE_CLASSES + (size_t)2 * page;
	__m256i upper = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)bytes));
	__m256i bits = _mm256_and_si256(_mm256_slli_epi32(upper, 16), _mm256_set1_epi32(INT32_MAX));
	return _mm256_min_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0x1.fp127f));
}

AVX2 void score_half(const uint8_t *means, unsigned page, const kvt_code_query *query,
	uint32_t head, float *sums, size_t pitch)
{
	__m256 mean[4], variance = variances(means, query->head_dim, page);
	mean_products(means, page, query, head, mean);
	UNROLL for (int h = 0; h < 4; h++)
	{
		__m256 base = _mm256_fmadd_ps(
			variance, _mm256_set1_ps(query->noise[head + h]), _mm256_set1_ps(one));
		__m256 y = _mm256_fmadd_ps(mean[h], _mm256_set1_ps(query->factor[head + h]), base);
		_mm256_storeu_ps(
			sums + h * pitch + page, _mm256_mul_ps(power(y), _mm256_set1_ps(16)));
	}
}

__attribute__((target(TARGET))) void kvt_code_score_means_avx2(const uint8_t *means, uint32_t n,
	const kvt_code_query *query, uint32_t head, float *sums, size_t pitch)
{
	const size_t block_bytes = BLOCK * kvt_code_mean_bytes(query->head_dim);
	for (uint32_t i = 0; i < n; i++, means += block_bytes, sums += BLOCK) {
		/* a scan crosses into new pages of memory too often for the hardware to foresee */
		for (size_t at = 0; at < block_bytes; at += 64)
			_mm_prefetch((const char *)means + 4 * block_bytes + at, _MM_HINT_T0);
		score_half(means, 0, query, head, sums, pitch);
		score_half(means, 8, query, head, sums, pitch);
	}
}
#endif
