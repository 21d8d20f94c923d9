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

/* Of a block's pages. */
AVX512 __m512 class_steps(const uint8_t *means, uint32_t head_dim, unsigned class)
{
	const uint8_t *steps = means + 8 * (size_t)head_dim + (size_t)BLOCK * class;
	return steps_of(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)steps)));
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
		__m512 step = class_steps(means + i * block_bytes, head_dim, 0);
		UNROLL for (int h = 0; h < 4; h++) product[i][h] =
			_mm512_mul_ps(_mm512_cvtepi32_ps(sum[i][h]), step);
	}
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

/* Lane i of vector j and lane j of vector i change places. */
AVX512 void transpose_lanes(__m512i *x)
{
	__m512i a = _mm512_shuffle_i32x4(x[0], x[1], 0x44);
	__m512i b = _mm512_shuffle_i32x4(x[0], x[1], 0xee);
	__m512i c = _mm512_shuffle_i32x4(x[2], x[3], 0x44);
	__m512i d = _mm512_shuffle_i32x4(x[2], x[3], 0xee);
	x[0] = _mm512_shuffle_i32x4(a, c, 0x88);
	x[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
	x[2] = _mm512_shuffle_i32x4(b, d, 0x88);
	x[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

/* In every lane, number i of vector j and number j of vector i change places. */
AVX512 void transpose_within_lanes(__m512i a, __m512i b, __m512i c, __m512i d, __m512i *out)
{
	__m512i ab = _mm512_unpacklo_epi32(a, b), cd = _mm512_unpacklo_epi32(c, d);
	out[0] = _mm512_unpacklo_epi64(ab, cd);
	out[1] = _mm512_unpackhi_epi64(ab, cd);
	ab = _mm512_unpackhi_epi32(a, b);
	cd = _mm512_unpackhi_epi32(c, d);
	out[2] = _mm512_unpacklo_epi64(ab, cd);
	out[3] = _mm512_unpackhi_epi64(ab, cd);
}

/* Sums and differences over 16 vectors. */
AVX512 void hadamard(__m512 *x)
{
	UNROLL for (int half = 1; half < 16; half *= 2)
		UNROLL for (int i = 0; i < 16; i++) if (!(i & half))
	{
		__m512 a = x[i], b = x[i + half];
		x[i] = _mm512_add_ps(a, b);
		x[i + half] = _mm512_sub_ps(a, b);
	}
}

/* Steps of the classes of a block's pages, and what a page's tokens have in common by head and
 * page: lanes are heads, and the numbers in them the 4 pages of a quarter of the block. */
typedef struct block_terms {
	float step[KVT_CODE_CLASSES][BLOCK] __attribute__((aligned(64)));
	__m512i base[4];
	__m512 factor;
} block_terms;

AVX512 void set_terms(
	const kvt_code_block *block, const kvt_code_query *query, uint32_t head, block_terms *terms)
{
	const __m512i heads = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
	__m512 mean[1][4];
	UNROLL for (unsigned c = 1; c < KVT_CODE_CLASSES; c++)
		_mm512_store_ps(terms->step[c], class_steps(block->means, block->head_dim, c));
	mean_products(block->means, 1, query, head, mean);
	UNROLL for (int h = 0; h < 4; h++) terms->base[h] = _mm512_castps_si512(_mm512_fmadd_ps(
		mean[0][h], _mm512_set1_ps(query->factor[head + h]), _mm512_set1_ps(one)));
	transpose_lanes(terms->base);
	terms->factor = _mm512_permutexvar_ps(
		heads, _mm512_castps128_ps512(_mm_loadu_ps(query->factor + head)));
}

/* The sums of four pages, out of products[page][head] whose 16 numbers are rows: lanes become
 * heads, numbers in them pages, and the rows vectors. */
AVX512 __m512 four_sums(__m512i (*product)[4], const block_terms *terms, unsigned page)
{
	__m512i row[16];
	__m512 x[16], step[KVT_CODE_CLASSES];
	UNROLL for (unsigned i = 0; i < 4; i++) transpose_lanes(product[i]);
	UNROLL for (unsigned i = 0; i < 4; i++) transpose_within_lanes(
		product[0][i], product[1][i], product[2][i], product[3][i], row + 4 * i);
	/* row 1 has its upper bits in row 0 */
	row[1] = _mm512_add_epi32(row[1], _mm512_slli_epi32(row[0], 2));
	UNROLL for (unsigned c = 1; c < KVT_CODE_CLASSES; c++) step[c] =
		_mm512_broadcast_f32x4(_mm_load_ps(terms->step[c] + page));
	x[0] = _mm512_setzero_ps();
	UNROLL for (unsigned i = 1; i < 16; i++) x[i] =
		_mm512_mul_ps(_mm512_cvtepi32_ps(row[i]), step[i < 2      ? i
								  : i < 4 ? 2
								  : i < 8 ? 3
									  : 4]);
	hadamard(x);
	__m512 base = _mm512_castsi512_ps(terms->base[page / 4]);
	UNROLL for (unsigned i = 0; i < 16; i++) x[i] =
		power(_mm512_fmadd_ps(x[i], terms->factor, base));
	UNROLL for (unsigned n = 8; n > 0; n /= 2) UNROLL for (unsigned i = 0; i < n; i++) x[i] =
		_mm512_add_ps(x[i], x[i + n]);
	return x[0];
}

__attribute__((target(TARGET))) void kvt_code_score_avx512(const kvt_code_block *block,
	const kvt_code_query *query, uint32_t head, float *sums, size_t pitch)
{
	const int8_t *q = query->q + (size_t)head * block->head_dim;
	__m512i start[4], product[4][4];
	block_terms terms;
	set_terms(block, query, head, &terms);
	UNROLL for (int h = 0; h < 4; h++) start[h] =
		_mm512_set1_epi32(-3 * (query->sum[head + h] / 2));
	for (unsigned page = 0; page < BLOCK; page += 4) {
		detail_products(block->details + page, block->head_dim, q, start, product);
		__m512 all = four_sums(product, &terms, page);
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
