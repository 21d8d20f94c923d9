/*
 * attention_avx512.c: attention with AVX-512: what attention_lanes.h needs. Products and sums are
 * FP32: dot products of BF16 pairs (vdpbf16ps) would need the query and the weights rounded to
 * BF16, or split into three, which is no faster.
 */
#include "kernels/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <math.h>

#define TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
#define INLINE __attribute__((target(TARGET), always_inline)) static inline

/* What lies at the pointer is read again: kept in registers, sums would not be. */
#define HIDE(pointer) __asm__ volatile("" : "+r"(pointer))

/* Vectors that a loop goes over have to stay in registers. */
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { TILE = KVT_ATTENTION_TILE, LANES = 16, BLOCK = 32, FEW = 8, ROWS = 6, WIDE = 4 };

typedef __m512 vector;

INLINE vector load(const float *from)
{
	return _mm512_loadu_ps(from);
}

INLINE void store(float *to, vector x)
{
	_mm512_storeu_ps(to, x);
}

INLINE vector spread(float x)
{
	return _mm512_set1_ps(x);
}

INLINE vector fma_of(vector a, vector b, vector c)
{
	return _mm512_fmadd_ps(a, b, c);
}

INLINE vector most_of(vector a, vector b)
{
	return _mm512_max_ps(a, b);
}

/* 0 in place of minus infinity */
INLINE vector finite_or_0(vector x)
{
	__mmask16 empty = _mm512_cmpeq_ps_mask(x, _mm512_set1_ps(-INFINITY));
	return _mm512_mask_mov_ps(x, empty, _mm512_setzero_ps());
}

/* E4M3 in the upper halves of words as half precision: 2^-8 of its value, NaN as NaN. */
INLINE __m256i half_of_word(__m256i word)
{
	__m256i half =
		_mm256_and_si256(_mm256_srai_epi16(word, 1), _mm256_set1_epi16((short)0xbfff));
	__mmask16 nan = _mm256_cmpeq_epi16_mask(
		_mm256_slli_epi16(word, 1), _mm256_set1_epi16((short)0xfe00));
	return _mm256_mask_mov_epi16(half, nan, _mm256_set1_epi16(0x7e00));
}

/* The same of bytes. */
INLINE __m256i half_of_e4m3(__m128i bytes)
{
	return half_of_word(_mm256_slli_epi16(_mm256_cvtepu8_epi16(bytes), 8));
}

/* The block-th 32 numbers of a token as two vectors. */
INLINE void load_block(kvt_element element, const uint8_t *numbers, uint32_t block, vector *out)
{
	if (element == KVT_ELEMENT_BF16) {
		__m512i pair = _mm512_loadu_si512(numbers + 64 * (size_t)block);
		out[0] = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
		out[1] = _mm512_castsi512_ps(
			_mm512_and_si512(pair, _mm512_set1_epi32((int)0xffff0000)));
	} else if (element == KVT_ELEMENT_F16) {
		const __m256i *half = (const __m256i *)(numbers + 64 * (size_t)block);
		out[0] = _mm512_cvtph_ps(_mm256_loadu_si256(half));
		out[1] = _mm512_cvtph_ps(_mm256_loadu_si256(half + 1));
	} else {
		const __m128i *byte = (const __m128i *)(numbers + 32 * (size_t)block);
		out[0] = _mm512_cvtph_ps(half_of_e4m3(_mm_loadu_si128(byte)));
		out[1] = _mm512_cvtph_ps(half_of_e4m3(_mm_loadu_si128(byte + 1)));
	}
}

/* LANES numbers from `at` on of two tokens, as two vectors with a token in each half. */
INLINE void load_pair(
	kvt_element element, const uint8_t *a, const uint8_t *b, uint32_t at, vector *out)
{
	if (element == KVT_ELEMENT_BF16) {
		__m256i low = _mm256_loadu_si256((const __m256i *)(a + 2 * (size_t)at));
		__m256i high = _mm256_loadu_si256((const __m256i *)(b + 2 * (size_t)at));
		__m512i pair = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
		out[0] = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
		out[1] = _mm512_castsi512_ps(
			_mm512_and_si512(pair, _mm512_set1_epi32((int)0xffff0000)));
	} else if (element == KVT_ELEMENT_F16) {
		UNROLL for (int i = 0; i < 2; i++)
		{
			__m128i low = _mm_loadu_si128((const __m128i *)(a + 2 * (size_t)at) + i);
			__m128i high = _mm_loadu_si128((const __m128i *)(b + 2 * (size_t)at) + i);
			out[i] = _mm512_cvtph_ps(_mm256_set_m128i(high, low));
		}
	} else {
		__m128i low = _mm_loadu_si128((const __m128i *)(a + (size_t)at));
		__m128i high = _mm_loadu_si128((const __m128i *)(b + (size_t)at));
		__m256i pair = _mm256_set_m128i(high, low);
		/* bytes as the upper halves of words; the sign stays, and one bit of it goes */
		UNROLL for (int i = 0; i < 2; i++)
		{
			__m256i zero = _mm256_setzero_si256();
			__m256i word = i ? _mm256_unpackhi_epi8(zero, pair)
					 : _mm256_unpacklo_epi8(zero, pair);
			out[i] = _mm512_cvtph_ps(half_of_word(word));
		}
	}
}

/* Half a vector in both halves. */
INLINE vector twice(const float *from)
{
	return _mm512_broadcast_f32x8(_mm256_loadu_ps(from));
}

/* Quarters 0 and 1 of x added, 2 and 3, then those of y. */
INLINE __m512 fold_256(__m512 x, __m512 y)
{
	return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
}

/* Halves of quarters added: x's result first, then y's; the same of halves of halves. */
INLINE __m512 fold_128(__m512 x, __m512 y)
{
	return _mm512_add_ps(_mm512_mask_mov_ps(x, 0xcccc, y), _mm512_shuffle_ps(x, y, 0x4e));
}

INLINE __m512 fold_64(__m512 x, __m512 y)
{
	return _mm512_add_ps(_mm512_shuffle_ps(x, y, 0x88), _mm512_shuffle_ps(x, y, 0xdd));
}

/* Sums of the halves of x[pair][width], the index-th vector of [token][width]. */
INLINE vector sums_of(const vector *x, int width, int index)
{
	vector y[4];
	UNROLL for (int i = 0; i < 4; i++)
	{
		/* number i of quarter k is of the first pair's two tokens, then the other's */
		if (width == 8)
			y[i] = fold_256(x[8 * index + i], x[8 * index + i + 4]);
		else if (width == 4)
			y[i] = fold_256(x[8 * index + i], x[8 * index + i + 4]);
		else if (width == 2)
			y[i] = fold_256(x[i / 2 * 4 + i % 2], x[i / 2 * 4 + i % 2 + 2]);
		else
			y[i] = fold_256(x[2 * i], x[2 * i + 1]);
	}
	vector z = fold_64(fold_128(y[0], y[1]), fold_128(y[2], y[3]));
	if (width == 8)
		return _mm512_shuffle_f32x4(z, z, 0xd8);
	if (width == 2)
		return _mm512_permutexvar_ps(
			_mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15), z);
	if (width == 1)
		return _mm512_permutexvar_ps(
			_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), z);
	return z;
}

/* Terms of 2^x over [-1/2, 1/2]. */
static const float power_terms[] = { 0x1.41fbbcp-13f, 0x1.5f3e52p-10f, 0x1.3b2d4cp-7f,
	0x1.c6aee8p-5f, 0x1.ebfbdcp-3f, 0x1.62e430p-1f };

/* 2^x, relative error below 1e-7; 0 of minus infinity, NaN of NaN. */
INLINE __m512 power(__m512 x)
{
	/* of two numbers one of which is NaN the second is taken */
	x = _mm512_max_ps(_mm512_set1_ps(-200), x);
	__m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m512 f = _mm512_sub_ps(x, whole);
	const float *c = power_terms;
	HIDE(c);
	__m512 y = _mm512_set1_ps(c[0]);
	y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(c[1]));
	y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(c[2]));
	y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(c[3]));
	y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(c[4]));
	y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(c[5]));
	y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1));
	return _mm512_scalef_ps(y, whole);
}

/* Of 16 vectors of 16 tokens, 16 of the tokens' numbers. */
INLINE void transpose(vector *x)
{
	vector y[LANES];
	UNROLL for (int i = 0; i < LANES; i += 4)
	{
		__m512d low0 = _mm512_castps_pd(_mm512_unpacklo_ps(x[i], x[i + 1]));
		__m512d high0 = _mm512_castps_pd(_mm512_unpackhi_ps(x[i], x[i + 1]));
		__m512d low1 = _mm512_castps_pd(_mm512_unpacklo_ps(x[i + 2], x[i + 3]));
		__m512d high1 = _mm512_castps_pd(_mm512_unpackhi_ps(x[i + 2], x[i + 3]));
		y[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low0, low1));
		y[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low0, low1));
		y[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high0, high1));
		y[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high0, high1));
	}
	/* quarter k of y[i + j] has number 4 k + j of tokens i to i + 3 */
	UNROLL for (int j = 0; j < 4; j++)
	{
		vector even0 = _mm512_shuffle_f32x4(y[j], y[j + 4], 0x88);
		vector odd0 = _mm512_shuffle_f32x4(y[j], y[j + 4], 0xdd);
		vector even1 = _mm512_shuffle_f32x4(y[j + 8], y[j + 12], 0x88);
		vector odd1 = _mm512_shuffle_f32x4(y[j + 8], y[j + 12], 0xdd);
		x[j] = _mm512_shuffle_f32x4(even0, even1, 0x88);
		x[j + 8] = _mm512_shuffle_f32x4(even0, even1, 0xdd);
		x[j + 4] = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
		x[j + 12] = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
	}
}

/* The first n numbers of x, and the others of y. */
INLINE vector first_of(uint32_t n, vector x, vector y)
{
	return _mm512_mask_mov_ps(y, (__mmask16)((1u << n) - 1), x);
}

/* The largest number, or the sum, of each row, in all its places, `width` apart. */
INLINE vector across_max(vector x, int width)
{
	x = _mm512_max_ps(x, _mm512_shuffle_f32x4(x, x, 0x4e));
	if (width <= 4)
		x = _mm512_max_ps(x, _mm512_shuffle_f32x4(x, x, 0xb1));
	if (width <= 2)
		x = _mm512_max_ps(x, _mm512_permute_ps(x, 0x4e));
	if (width == 1)
		x = _mm512_max_ps(x, _mm512_permute_ps(x, 0xb1));
	return x;
}

INLINE vector across_sum(vector x, int width)
{
	x = _mm512_add_ps(x, _mm512_shuffle_f32x4(x, x, 0x4e));
	if (width <= 4)
		x = _mm512_add_ps(x, _mm512_shuffle_f32x4(x, x, 0xb1));
	if (width <= 2)
		x = _mm512_add_ps(x, _mm512_permute_ps(x, 0x4e));
	if (width == 1)
		x = _mm512_add_ps(x, _mm512_permute_ps(x, 0xb1));
	return x;
}

/* A number a row, in all places of the row; 0 where there is no row. */
INLINE vector load_rows(const float *numbers, int rows, int width)
{
	__m512i place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	place = _mm512_and_si512(place, _mm512_set1_epi32(width - 1));
	vector x = _mm512_maskz_loadu_ps((__mmask16)((1 << rows) - 1), numbers);
	return _mm512_permutexvar_ps(place, x);
}

INLINE void store_rows(float *numbers, vector x, int rows)
{
	_mm512_mask_storeu_ps(numbers, (__mmask16)((1 << rows) - 1), x);
}

INLINE int any_above(vector x, vector limit)
{
	return _mm512_cmp_ps_mask(x, limit, _CMP_GT_OQ) != 0;
}

#include "kernels/attention_lanes.h"

#define FORMAT(name, element)                                                                      \
	ATTEND_FEW(name, element, 1)                                                               \
	ATTEND_FEW(name, element, 2)                                                               \
	ATTEND_FEW(name, element, 3)                                                               \
	ATTEND_FEW(name, element, 4)                                                               \
	ATTEND_FEW(name, element, 5)                                                               \
	ATTEND_FEW(name, element, 6)                                                               \
	ATTEND_FEW(name, element, 7)                                                               \
	ATTEND_FEW(name, element, 8)                                                               \
	ATTEND_MANY(name, element)
FORMAT(bf16, KVT_ELEMENT_BF16)
FORMAT(f16, KVT_ELEMENT_F16)
FORMAT(e4m3, KVT_ELEMENT_E4M3)

#define FEW_OF(name)                                                                               \
	{                                                                                          \
		few_##name##_1, few_##name##_2, few_##name##_3, few_##name##_4, few_##name##_5,    \
			few_##name##_6, few_##name##_7, few_##name##_8                             \
	}

void kvt_attention_tile_avx512(kvt_attention_tile *tile)
{
	static void (*const few[][FEW])(kvt_attention_tile *) = {
		[KVT_ELEMENT_BF16] = FEW_OF(bf16),
		[KVT_ELEMENT_F16] = FEW_OF(f16),
		[KVT_ELEMENT_E4M3] = FEW_OF(e4m3),
	};
	few[tile->element][tile->n_rows - 1](tile);
}

void kvt_attention_rows_avx512(kvt_attention_tile *tile)
{
	static void (*const many[])(kvt_attention_tile *) = {
		[KVT_ELEMENT_BF16] = many_bf16,
		[KVT_ELEMENT_F16] = many_f16,
		[KVT_ELEMENT_E4M3] = many_e4m3,
	};
	many[tile->element](tile);
}
#endif
