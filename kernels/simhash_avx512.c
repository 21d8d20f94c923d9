/*
 * simhash_avx512.c: estimates of SimHash codes with AVX-512 and VNNI, the same bits as
 * simhash_score.c. A vector holds 16 tokens of a page, 4 hash bits of each.
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

/* Four weights of a query as one. */
typedef int32_t __attribute__((may_alias)) four;

/* Octaves x 2^23; page_code_scalar.c */
static const float one = 127 * 0x1p23f, least = 0x1p23f, most = 227 * 0x1p23f;

AVX512 __m512 power(__m512 y)
{
	y = _mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(least)), _mm512_set1_ps(most));
	return _mm512_castsi512_ps(_mm512_cvtps_epi32(y));
}

/* Sums of the weights of the bits that are set, four pages by four heads. */
AVX512 void products(
	const uint8_t *const *codes, uint32_t n_bits, const int8_t *weight, __m512i (*product)[4])
{
	const __m512i field = _mm512_set1_epi8(1);
	const uint32_t pitch = n_bits / 4;
	const four *w = (const four *)weight;
	__m512i sum[4][4];
	UNROLL for (int h = 0; h < 4; h++) UNROLL for (int i = 0; i < 4; i++) sum[i][h] =
		_mm512_setzero_si512();
	for (uint32_t v = 0; v < n_bits / 32; v++) {
		__m512i bytes[4];
		UNROLL for (int i = 0; i < 4; i++) bytes[i] =
			_mm512_loadu_si512(codes[i] + 64 * (size_t)v);
		for (int k = 0; k < 8; k++, w++) {
			__m512i bit[4];
			UNROLL for (int i = 0; i < 4; i++)
			{
				bit[i] = _mm512_and_si512(bytes[i], field);
				bytes[i] = _mm512_srli_epi16(bytes[i], 1);
			}
			UNROLL for (int h = 0; h < 4; h++)
			{
				__m512i weights = _mm512_set1_epi32(w[h * pitch]);
				UNROLL for (int i = 0; i < 4; i++) sum[i][h] =
					_mm512_dpbusd_epi32(sum[i][h], bit[i], weights);
			}
		}
	}
	UNROLL for (int i = 0; i < 4; i++) UNROLL for (int h = 0; h < 4; h++) product[i][h] =
		sum[i][h];
}

/* kvt_simhash_norm of a page's tokens. */
AVX512 __m512 norms(const uint8_t *code, uint32_t n_bits)
{
	__m512i half = _mm512_cvtepu16_epi32(
		_mm256_loadu_si256((const __m256i *)(code + 2 * (size_t)n_bits)));
	__m512i bits = _mm512_slli_epi32(_mm512_and_si512(half, _mm512_set1_epi32(0x7fff)), 13);
	return _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0x1p112f));
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

__attribute__((target(TARGET))) void kvt_simhash_score_avx512(
	const uint8_t *const *codes, const kvt_simhash_query *query, uint32_t head, float *sums)
{
	__m512i product[4][4];
	__m512 page[4];
	products(codes, query->n_bits, query->weight + (size_t)head * query->n_bits, product);
	UNROLL for (int i = 0; i < 4; i++)
	{
		__m512 norm = norms(codes[i], query->n_bits), token[4];
		UNROLL for (int h = 0; h < 4; h++)
		{
			__m512i twice = _mm512_slli_epi32(product[i][h], 1);
			__m512i signs =
				_mm512_sub_epi32(twice, _mm512_set1_epi32(query->sum[head + h]));
			__m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(signs), norm);
			token[h] = power(_mm512_fmadd_ps(scaled,
				_mm512_set1_ps(query->factor[head + h]), _mm512_set1_ps(one)));
		}
		page[i] = sum_of_lanes(token);
	}
	/* heads are lanes now, pages the numbers in them */
	_mm512_storeu_ps(sums, sum_within_lanes(page));
}
#endif
