/*
 * page_code_avx512.c: scores of page codes with AVX-512 and VNNI, the same bits as
 * page_code_scalar.c. A vector holds the 16 rows of a page, or the 16 pages of a block, 4 channels
 * of each.
 */
#include "kernels/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>

#define TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"
#define AVX512 __attribute__((target(TARGET), always_inline)) static inline

/* Vectors that a loop goes over have to stay in registers. */
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum {
	BLOCK = KVT_CODE_BLOCK,
	/* Bytes by which a scan asks for means ahead of their turn: it crosses into new pages of
	 * memory too often for the hardware to foresee. */
	AHEAD = 20480,
};

/* Four numbers of a query as one. */
typedef int32_t __attribute__((may_alias)) four;

/* Octaves x 2^23; page_code_scalar.c */
static const float one = 127 * 0x1p23f, least = 0x1p23f, most = 227 * 0x1p23f;

AVX512 __m512 power(__m512 y)
{
	y = _mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(least)), _mm512_set1_ps(most));
	return _mm512_castsi512_ps(_mm512_cvtps_epi32(y));
}

/* The steps of 16 numbers e; kvt_code_step */
AVX512 __m512 steps_of(__m512i e)
{
	const __m512i eighths = _mm512_castsi256_si512(_mm256_setr_epi32(0x3f800000, 0x3f8b95c2,
		0x3f9837f0, 0x3fa5fed7, 0x3fb504f3, 0x3fc5672a, 0x3fd744fd, 0x3feac0c7));
	__m512i part = _mm512_permutexvar_epi32(_mm512_and_si512(e, _mm512_set1_epi32(7)), eighths);
	__m512i octave = _mm512_slli_epi32(
		_mm512_sub_epi32(_mm512_srli_epi32(e, 3), _mm512_set1_epi32(16)), 23);
	return _mm512_castsi512_ps(
		_mm512_maskz_add_epi32(_mm512_test_epi32_mask(e, e), part, octave));
}

/* Steps of class 0 of a block's pages. */
AVX512 __m512 mean_steps(const uint8_t *means, uint32_t head_dim)
{
	const __m128i *steps = (const __m128i *)(means + 8 * (size_t)head_dim);
	return steps_of(_mm512_cvtepu8_epi32(_mm_loadu_si128(steps)));
}

/* Products of the mean rows of n blocks, at most 2, with four queries, times their steps. */
AVX512 void mean_products(const uint8_t *means, const int n, const kvt_code_query *query,
	uint32_t head, __m512 (*product)[4])
{
	const __m512i field = _mm512_set1_epi8(15);
	const uint32_t head_dim = query->head_dim, pitch = head_dim / 4;
	const size_t block_bytes = BLOCK * kvt_code_mean_bytes(head_dim);
	const four *q = (const four *)(query->q + (size_t)head * head_dim);
	__m512i sum[2][4];
	UNROLL for (int h = 0; h < 4; h++)
	{
		sum[0][h] = _mm512_set1_epi32(-15 * (query->sum[head + h] / 2));
		UNROLL for (int i = 1; i < n; i++) sum[i][h] = sum[0][h];
	}
	for (uint32_t v = 0; v < head_dim / 8; v++, q++) {
		__m512i low[2], high[2];
		UNROLL for (int i = 0; i < n; i++)
		{
			_mm_prefetch((const char *)means + AHEAD + 64 * ((size_t)v * n + i),
				_MM_HINT_T1);
			__m512i bytes =
				_mm512_loadu_si512(means + i * block_bytes + 64 * (size_t)v);
			low[i] = _mm512_and_si512(bytes, field);
			high[i] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), field);
		}
		UNROLL for (int h = 0; h < 4; h++)
		{
			__m512i numbers = _mm512_set1_epi32(q[h * pitch]);
			UNROLL for (int i = 0; i < n; i++) sum[i][h] =
				_mm512_dpbusd_epi32(sum[i][h], low[i], numbers);
			numbers = _mm512_set1_epi32(q[h * pitch + pitch / 2]);
			UNROLL for (int i = 0; i < n; i++) sum[i][h] =
				_mm512_dpbusd_epi32(sum[i][h], high[i], numbers);
		}
	}
	UNROLL for (int i = 0; i < n; i++)
	{
		__m512 step = mean_steps(means + i * block_bytes, head_dim);
		UNROLL for (int h = 0; h < 4; h++) product[i][h] =
			_mm512_mul_ps(_mm512_cvtepi32_ps(sum[i][h]), step);
	}
}

/* The 5 steps of a page are 8 bytes of `steps`. */
AVX512 void transpose_steps(const kvt_code_block *block, __m128i *steps)
{
	const __m128i *class = (const __m128i *)(block->means + 8 * (size_t)block->head_dim);
	const __m128i last = _mm_loadu_si128(class + 4), none = _mm_setzero_si128();
	__m128i a = _mm_loadu_si128(class), b = _mm_loadu_si128(class + 1);
	__m128i c = _mm_loadu_si128(class + 2), d = _mm_loadu_si128(class + 3);
	UNROLL for (int half = 0; half < 2; half++)
	{
		__m128i ab = half ? _mm_unpackhi_epi8(a, b) : _mm_unpacklo_epi8(a, b);
		__m128i cd = half ? _mm_unpackhi_epi8(c, d) : _mm_unpacklo_epi8(c, d);
		__m128i ef = half ? _mm_unpackhi_epi8(last, none) : _mm_unpacklo_epi8(last, none);
		__m128i low = _mm_unpacklo_epi16(ab, cd), high = _mm_unpackhi_epi16(ab, cd);
		__m128i low_ef = _mm_unpacklo_epi16(ef, none),
			high_ef = _mm_unpackhi_epi16(ef, none);
		steps[4 * half] = _mm_unpacklo_epi32(low, low_ef);
		steps[4 * half + 1] = _mm_unpackhi_epi32(low, low_ef);
		steps[4 * half + 2] = _mm_unpacklo_epi32(high, high_ef);
		steps[4 * half + 3] = _mm_unpackhi_epi32(high, high_ef);
	}
}

/* Steps of a page's 16 rows out of its 8 bytes. */
AVX512 __m512 row_steps(const uint8_t *steps)
{
	const __m512i class_of = _mm512_setr_epi32((int)0xffffff00, (int)0xffffff01,
		(int)0xffffff02, (int)0xffffff02, (int)0xffffff03, (int)0xffffff03, (int)0xffffff03,
		(int)0xffffff03, (int)0xffffff04, (int)0xffffff04, (int)0xffffff04, (int)0xffffff04,
		(int)0xffffff04, (int)0xffffff04, (int)0xffffff04, (int)0xffffff04);
	__m128i bytes = _mm_loadl_epi64((const __m128i *)steps);
	return steps_of(_mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), class_of));
}

/* Products of the 16 detail rows of four pages with four queries; start: less the middle of the
 * levels. */
AVX512 void detail_products(const uint8_t *const *details, uint32_t head_dim, const int8_t *query,
	const __m512i *start, __m512i (*product)[4])
{
	const __m512i field = _mm512_set1_epi8(3);
	const uint32_t pitch = head_dim / 4;
	const four *q = (const four *)query;
	__m512i sum[4][4];
	UNROLL for (int h = 0; h < 4; h++) UNROLL for (int i = 0; i < 4; i++) sum[i][h] = start[h];
	for (uint32_t v = 0; v < head_dim / 16; v++) {
		__m512i bytes[4];
		UNROLL for (int i = 0; i < 4; i++) bytes[i] =
			_mm512_loadu_si512(details[i] + 64 * (size_t)v);
		UNROLL for (int k = 0; k < 4; k++, q++)
		{
			__m512i code[4];
			UNROLL for (int i = 0; i < 4; i++)
			{
				code[i] = _mm512_and_si512(bytes[i], field);
				bytes[i] = _mm512_srli_epi16(bytes[i], 2);
			}
			UNROLL for (int h = 0; h < 4; h++)
			{
				__m512i numbers = _mm512_set1_epi32(q[h * pitch]);
				UNROLL for (int i = 0; i < 4; i++) sum[i][h] =
					_mm512_dpbusd_epi32(sum[i][h], code[i], numbers);
			}
		}
	}
	UNROLL for (int i = 0; i < 4; i++) UNROLL for (int h = 0; h < 4; h++) product[i][h] =
		sum[i][h];
}

/* Sums and differences over the 16 rows; products by 1 and -1 are exact. */
AVX512 __m512 hadamard(__m512 x)
{
	const __m512 plus = _mm512_set1_ps(1), minus = _mm512_set1_ps(-1);
	x = _mm512_fmadd_ps(x, _mm512_mask_mov_ps(plus, 0xaaaa, minus), _mm512_permute_ps(x, 0xb1));
	x = _mm512_fmadd_ps(x, _mm512_mask_mov_ps(plus, 0xcccc, minus), _mm512_permute_ps(x, 0x4e));
	x = _mm512_fmadd_ps(
		x, _mm512_mask_mov_ps(plus, 0xf0f0, minus), _mm512_shuffle_f32x4(x, x, 0xb1));
	return _mm512_fmadd_ps(
		x, _mm512_mask_mov_ps(plus, 0xff00, minus), _mm512_shuffle_f32x4(x, x, 0x4e));
}

/* Halves of four vectors are added until each has four numbers left, in its lane. */
AVX512 __m512 sum_of_lanes(const __m512 *x)
{
	__m512 a = _mm512_add_ps(
		_mm512_shuffle_f32x4(x[0], x[1], 0x44), _mm512_shuffle_f32x4(x[0], x[1], 0xee));
	__m512 b = _mm512_add_ps(
		_mm512_shuffle_f32x4(x[2], x[3], 0x44), _mm512_shuffle_f32x4(x[2], x[3], 0xee));
	return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

/* The same within lanes: number i of a lane is the sum of vector i's. */
AVX512 __m512 sum_within_lanes(const __m512 *x)
{
	__m512 a = _mm512_add_ps(_mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1]));
	__m512 b = _mm512_add_ps(_mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3]));
	return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
}

/* The four heads' tokens of a page. */
AVX512 __m512 page_tokens(const __m512i *product, __m512 steps, const float *factor,
	const float (*base)[BLOCK], unsigned page)
{
	__m512 token[4];
	UNROLL for (int h = 0; h < 4; h++)
	{
		/* row 1 has its upper bits in row 0 */
		__m512i upper = _mm512_slli_epi32(_mm512_shuffle_epi32(product[h], 0xb1), 2);
		__m512i whole = _mm512_mask_add_epi32(product[h], 2, product[h], upper);
		__m512 x = _mm512_maskz_mul_ps(0xfffe, _mm512_cvtepi32_ps(whole), steps);
		token[h] = power(_mm512_fmadd_ps(
			hadamard(x), _mm512_set1_ps(factor[h]), _mm512_set1_ps(base[h][page])));
	}
	return sum_of_lanes(token);
}

__attribute__((target(TARGET))) void kvt_code_score_avx512(const kvt_code_block *block,
	const kvt_code_query *query, uint32_t head, float *sums, size_t pitch)
{
	const int8_t *q = query->q + (size_t)head * block->head_dim;
	__m512 mean[1][4];
	__m512i start[4];
	float base[4][BLOCK] __attribute__((aligned(64)));
	__m128i steps[8];
	transpose_steps(block, steps);
	mean_products(block->means, 1, query, head, mean);
	UNROLL for (int h = 0; h < 4; h++)
	{
		start[h] = _mm512_set1_epi32(-3 * (query->sum[head + h] / 2));
		_mm512_store_ps(base[h],
			_mm512_fmadd_ps(mean[0][h], _mm512_set1_ps(query->factor[head + h]),
				_mm512_set1_ps(one)));
	}
	for (unsigned page = 0; page < BLOCK; page += 4) {
		__m512 four_pages[4];
		__m512i product[4][4];
		detail_products(block->details + page, block->head_dim, q, start, product);
		UNROLL for (unsigned i = 0; i < 4; i++) four_pages[i] =
			page_tokens(product[i], row_steps((const uint8_t *)steps + 8 * (page + i)),
				query->factor + head, (const float(*)[BLOCK])base, page + i);
		/* heads are lanes now, pages the numbers in them */
		__m512 all = sum_within_lanes(four_pages);
		_mm_storeu_ps(sums + page, _mm512_castps512_ps128(all));
		_mm_storeu_ps(sums + pitch + page, _mm512_extractf32x4_ps(all, 1));
		_mm_storeu_ps(sums + 2 * pitch + page, _mm512_extractf32x4_ps(all, 2));
		_mm_storeu_ps(sums + 3 * pitch + page, _mm512_extractf32x4_ps(all, 3));
	}
}

/* kvt_code_variance of a block's pages. */
AVX512 __m512 variances(const uint8_t *means, uint32_t head_dim)
{
	const uint8_t *bytes = means + 8 * (size_t)head_dim + (size_t)BLOCK * KVT_CODE_CLASSES;
	__m512i upper = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)bytes));
	__m512i bits = _mm512_and_si512(_mm512_slli_epi32(upper, 16), _mm512_set1_epi32(INT32_MAX));
	return _mm512_min_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0x1.fp127f));
}

AVX512 void score_blocks(const uint8_t *means, const int n, const kvt_code_query *query,
	uint32_t head, float *sums, size_t pitch)
{
	const size_t block_bytes = BLOCK * kvt_code_mean_bytes(query->head_dim);
	__m512 mean[2][4];
	mean_products(means, n, query, head, mean);
	UNROLL for (int i = 0; i < n; i++)
	{
		const uint8_t *block = means + i * block_bytes;
		__m512 variance = variances(block, query->head_dim);
		_mm_prefetch((const char *)means + 8 * n * query->head_dim + i * 128 + AHEAD,
			_MM_HINT_T1);
		_mm_prefetch((const char *)means + 8 * n * query->head_dim + i * 128 + 64 + AHEAD,
			_MM_HINT_T1);
		UNROLL for (int h = 0; h < 4; h++)
		{
			__m512 base = _mm512_fmadd_ps(variance,
				_mm512_set1_ps(query->noise[head + h]), _mm512_set1_ps(one));
			__m512 y = _mm512_fmadd_ps(
				mean[i][h], _mm512_set1_ps(query->factor[head + h]), base);
			/* 16 tokens: 4 octaves */
			__m512i tokens = _mm512_add_epi32(
				_mm512_castps_si512(power(y)), _mm512_set1_epi32(4 << 23));
			_mm512_storeu_si512(sums + h * pitch + (size_t)i * BLOCK, tokens);
		}
	}
}

__attribute__((target(TARGET))) void kvt_code_score_means_avx512(const uint8_t *means, uint32_t n,
	const kvt_code_query *query, uint32_t head, float *sums, size_t pitch)
{
	const size_t block_bytes = BLOCK * kvt_code_mean_bytes(query->head_dim);
	uint32_t i = 0;
	for (; i + 2 <= n; i += 2) {
		score_blocks(means, 2, query, head, sums + (size_t)i * BLOCK, pitch);
		means += 2 * block_bytes;
	}
	for (; i < n; i++, means += block_bytes)
		score_blocks(means, 1, query, head, sums + (size_t)i * BLOCK, pitch);
}
#endif
