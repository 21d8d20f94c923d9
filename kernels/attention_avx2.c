/* attention_avx2.c: attention with AVX2, FMA and F16C: what attention_lanes.h needs. */
#include "kernels/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <math.h>

#define TARGET "avx2,fma,f16c"
#define INLINE __attribute__((target(TARGET), always_inline)) static inline

/* What lies at the pointer is read again: kept in registers, sums would not be. */
#define HIDE(pointer) __asm__ volatile("" : "+r"(pointer))

/* Vectors that a loop goes over have to stay in registers. */
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { TILE = KVT_ATTENTION_TILE, LANES = 8, BLOCK = 16, FEW = 4, ROWS = 6, WIDE = 2 };

typedef __m256 vector;

INLINE vector load(const float *from)
{
	return _mm256_loadu_ps(from);
}

INLINE void store(float *to, vector x)
{
	_mm256_storeu_ps(to, x);
}

INLINE vector spread(float x)
{
	return _mm256_set1_ps(x);
}

INLINE vector fma_of(vector a, vector b, vector c)
{
	return _mm256_fmadd_ps(a, b, c);
}

INLINE vector most_of(vector a, vector b)
{
	return _mm256_max_ps(a, b);
}

/* 0 in place of minus infinity */
INLINE vector finite_or_0(vector x)
{
	return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(-INFINITY), _CMP_EQ_OQ), x);
}

/* E4M3 as half precision: 2^-8 of its value, NaN as NaN. */
INLINE __m256i half_of_e4m3(__m128i bytes)
{
	__m256i wide = _mm256_cvtepu8_epi16(bytes);
	__m256i sign = _mm256_slli_epi16(_mm256_and_si256(wide, _mm256_set1_epi16(0x80)), 8);
	__m256i magnitude = _mm256_and_si256(wide, _mm256_set1_epi16(0x7f));
	__m256i nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f));
	__m256i half = _mm256_or_si256(_mm256_slli_epi16(magnitude, 7), sign);
	return _mm256_or_si256(half, _mm256_and_si256(nan, _mm256_set1_epi16(0x7e00)));
}

/* The block-th 16 numbers of a token as two vectors. */
INLINE void load_block(kvt_element element, const uint8_t *numbers, uint32_t block, __m256 *out)
{
	if (element == KVT_ELEMENT_BF16) {
		__m256i pair = _mm256_loadu_si256((const __m256i *)(numbers + 32 * (size_t)block));
		out[0] = _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16));
		out[1] = _mm256_castsi256_ps(
			_mm256_and_si256(pair, _mm256_set1_epi32((int)0xffff0000)));
	} else if (element == KVT_ELEMENT_F16) {
		const __m128i *half = (const __m128i *)(numbers + 32 * (size_t)block);
		out[0] = _mm256_cvtph_ps(_mm_loadu_si128(half));
		out[1] = _mm256_cvtph_ps(_mm_loadu_si128(half + 1));
	} else {
		const __m128i *byte = (const __m128i *)(numbers + 16 * (size_t)block);
		__m256i half = half_of_e4m3(_mm_loadu_si128(byte));
		out[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(half));
		out[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1));
	}
}

/* LANES numbers from `at` on of two tokens, as two vectors with a token in each half. */
INLINE void load_pair(
	kvt_element element, const uint8_t *a, const uint8_t *b, uint32_t at, vector *out)
{
	if (element == KVT_ELEMENT_BF16) {
		__m128i low = _mm_loadu_si128((const __m128i *)(a + 2 * (size_t)at));
		__m128i high = _mm_loadu_si128((const __m128i *)(b + 2 * (size_t)at));
		__m256i pair = _mm256_set_m128i(high, low);
		out[0] = _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16));
		out[1] = _mm256_castsi256_ps(
			_mm256_and_si256(pair, _mm256_set1_epi32((int)0xffff0000)));
		return;
	}
	__m128i first, second;
	if (element == KVT_ELEMENT_F16) {
		first = _mm_loadu_si128((const __m128i *)(a + 2 * (size_t)at));
		second = _mm_loadu_si128((const __m128i *)(b + 2 * (size_t)at));
	} else {
		__m128i low = _mm_loadl_epi64((const __m128i *)(a + (size_t)at));
		__m128i high = _mm_loadl_epi64((const __m128i *)(b + (size_t)at));
		__m256i half = half_of_e4m3(_mm_unpacklo_epi64(low, high));
		first = _mm256_castsi256_si128(half);
		second = _mm256_extracti128_si256(half, 1);
	}
	out[0] = _mm256_cvtph_ps(_mm_unpacklo_epi64(first, second));
	out[1] = _mm256_cvtph_ps(_mm_unpackhi_epi64(first, second));
}

/* Half a vector in both halves. */
INLINE vector twice(const float *from)
{
	return _mm256_broadcast_ps((const __m128 *)from);
}

/* Sums of the halves of x[pair][width], the index-th vector of [token][width]. */
INLINE vector sums_of(const vector *x, int width, int index)
{
	x += 4 * index;
	vector z = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
	if (width == 2)
		return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(z), 0xd8));
	if (width == 1)
		return _mm256_permutevar8x32_ps(z, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
	return z;
}

/* Terms of 2^x over [-1/2, 1/2]. */
static const float power_terms[] = { 0x1.41fbbcp-13f, 0x1.5f3e52p-10f, 0x1.3b2d4cp-7f,
	0x1.c6aee8p-5f, 0x1.ebfbdcp-3f, 0x1.62e430p-1f };

/* 2^x, relative error below 1e-7; 0 below -126, NaN of NaN. */
INLINE __m256 power(__m256 x)
{
	const __m256 least = _mm256_set1_ps(-126);
	__m256 counts = _mm256_cmp_ps(x, least, _CMP_NLT_UQ);
	/* of two numbers one of which is NaN the second is taken */
	x = _mm256_max_ps(least, x);
	__m256 whole = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m256 f = _mm256_sub_ps(x, whole);
	const float *c = power_terms;
	HIDE(c);
	__m256 y = _mm256_set1_ps(c[0]);
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(c[1]));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(c[2]));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(c[3]));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(c[4]));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(c[5]));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(1));
	__m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
	__m256 scale = _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
	return _mm256_and_ps(_mm256_mul_ps(y, scale), counts);
}

/* Of 8 vectors of 8 tokens, 8 of the tokens' numbers. */
INLINE void transpose(vector *x)
{
	vector y[LANES];
	UNROLL for (int i = 0; i < LANES; i += 4)
	{
		__m256d low0 = _mm256_castps_pd(_mm256_unpacklo_ps(x[i], x[i + 1]));
		__m256d high0 = _mm256_castps_pd(_mm256_unpackhi_ps(x[i], x[i + 1]));
		__m256d low1 = _mm256_castps_pd(_mm256_unpacklo_ps(x[i + 2], x[i + 3]));
		__m256d high1 = _mm256_castps_pd(_mm256_unpackhi_ps(x[i + 2], x[i + 3]));
		y[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(low0, low1));
		y[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low0, low1));
		y[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high0, high1));
		y[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high0, high1));
	}
	/* half k of y[i + j] has number 4 k + j of tokens i to i + 3 */
	UNROLL for (int j = 0; j < 4; j++)
	{
		x[j] = _mm256_permute2f128_ps(y[j], y[j + 4], 0x20);
		x[j + 4] = _mm256_permute2f128_ps(y[j], y[j + 4], 0x31);
	}
}

INLINE __m256i places_below(int n)
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The first n numbers of x, and the others of y. */
INLINE vector first_of(uint32_t n, vector x, vector y)
{
	return _mm256_blendv_ps(y, x, _mm256_castsi256_ps(places_below((int)n)));
}

/* The largest number, or the sum, of each row, in all its places, `width` apart. */
INLINE vector across_max(vector x, int width)
{
	x = _mm256_max_ps(x, _mm256_permute2f128_ps(x, x, 1));
	if (width <= 2)
		x = _mm256_max_ps(x, _mm256_permute_ps(x, 0x4e));
	if (width == 1)
		x = _mm256_max_ps(x, _mm256_permute_ps(x, 0xb1));
	return x;
}

INLINE vector across_sum(vector x, int width)
{
	x = _mm256_add_ps(x, _mm256_permute2f128_ps(x, x, 1));
	if (width <= 2)
		x = _mm256_add_ps(x, _mm256_permute_ps(x, 0x4e));
	if (width == 1)
		x = _mm256_add_ps(x, _mm256_permute_ps(x, 0xb1));
	return x;
}

/* A number a row, in all places of the row; 0 where there is no row. */
INLINE vector load_rows(const float *numbers, int rows, int width)
{
	__m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
	place = _mm256_and_si256(place, _mm256_set1_epi32(width - 1));
	return _mm256_permutevar8x32_ps(_mm256_maskload_ps(numbers, places_below(rows)), place);
}

INLINE void store_rows(float *numbers, vector x, int rows)
{
	_mm256_maskstore_ps(numbers, places_below(rows), x);
}

INLINE int any_above(vector x, vector limit)
{
	return _mm256_movemask_ps(_mm256_cmp_ps(x, limit, _CMP_GT_OQ)) != 0;
}

#include "kernels/attention_lanes.h"

#define FORMAT(name, element)                                                                      \
	ATTEND_FEW(name, element, 1)                                                               \
	ATTEND_FEW(name, element, 2)                                                               \
	ATTEND_FEW(name, element, 3)                                                               \
	ATTEND_FEW(name, element, 4)                                                               \
	ATTEND_MANY(name, element)
FORMAT(bf16, KVT_ELEMENT_BF16)
FORMAT(f16, KVT_ELEMENT_F16)
FORMAT(e4m3, KVT_ELEMENT_E4M3)

#define FEW_OF(name)                                                                               \
	{                                                                                          \
		few_##name##_1, few_##name##_2, few_##name##_3, few_##name##_4                     \
	}

void kvt_attention_tile_avx2(kvt_attention_tile *tile)
{
	static void (*const few[][FEW])(kvt_attention_tile *) = {
		[KVT_ELEMENT_BF16] = FEW_OF(bf16),
		[KVT_ELEMENT_F16] = FEW_OF(f16),
		[KVT_ELEMENT_E4M3] = FEW_OF(e4m3),
	};
	few[tile->element][tile->n_rows - 1](tile);
}

void kvt_attention_rows_avx2(kvt_attention_tile *tile)
{
	static void (*const many[])(kvt_attention_tile *) = {
		[KVT_ELEMENT_BF16] = many_bf16,
		[KVT_ELEMENT_F16] = many_f16,
		[KVT_ELEMENT_E4M3] = many_e4m3,
	};
	many[tile->element](tile);
}
#endif
