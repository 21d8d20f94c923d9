/*
 * page_code_avx512.c: scores of page codes with AVX-512 and VNNI, the same bits as
 * page_code_scalar.c. A vector holds the 16 rows of a page, 4 channels of each.
 */
#include "kernels/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>

#define AVX512                                                                                     \
	__attribute__((                                                                            \
		target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"))) static inline

/* Octaves x 2^23; page_code_scalar.c */
static const float one = 127 * 0x1p23f, least = 0x1p23f, most = 227 * 0x1p23f;

/* How far ahead of a list's page its records are asked for. */
enum { AHEAD = 6 };

AVX512 __m512 power(__m512 y)
{
	y = _mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(least)), _mm512_set1_ps(most));
	return _mm512_castsi512_ps(_mm512_cvtps_epi32(y));
}

/* Steps of 16 rows out of the 5 bytes of a mean record. */
AVX512 __m512 row_steps(const uint8_t *steps)
{
	const __m512i class_of = _mm512_setr_epi32((int)0xffffff00, (int)0xffffff01,
		(int)0xffffff02, (int)0xffffff02, (int)0xffffff03, (int)0xffffff03, (int)0xffffff03,
		(int)0xffffff03, (int)0xffffff04, (int)0xffffff04, (int)0xffffff04, (int)0xffffff04,
		(int)0xffffff04, (int)0xffffff04, (int)0xffffff04, (int)0xffffff04);
	const __m512i eighths = _mm512_castsi256_si512(_mm256_setr_epi32(0x3f800000, 0x3f8b95c2,
		0x3f9837f0, 0x3fa5fed7, 0x3fb504f3, 0x3fc5672a, 0x3fd744fd, 0x3feac0c7));
	__m512i e = _mm512_shuffle_epi8(
		_mm512_broadcast_i32x4(_mm_loadl_epi64((const __m128i *)steps)), class_of);
	__m512i part = _mm512_permutexvar_epi32(_mm512_and_si512(e, _mm512_set1_epi32(7)), eighths);
	__m512i octave = _mm512_slli_epi32(
		_mm512_sub_epi32(_mm512_srli_epi32(e, 3), _mm512_set1_epi32(16)), 23);
	return _mm512_castsi512_ps(_mm512_maskz_add_epi32(_mm512_test_epi32_mask(e, e),
		_mm512_add_epi32(part, octave), _mm512_setzero_si512()));
}

/* 8 or 16 bytes of nibbles: the low ones, then the high ones. */
AVX512 __m256i nibbles(__m128i bytes)
{
	__m256i both =
		_mm256_inserti128_si256(_mm256_castsi128_si256(bytes), _mm_srli_epi16(bytes, 4), 1);
	return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

AVX512 __m256i two_loads(const int8_t *low, const int8_t *high)
{
	return _mm256_inserti128_si256(
		_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)low)),
		_mm_loadu_si128((const __m128i *)high), 1);
}

AVX512 __m256i two_half_loads(const int8_t *low, const int8_t *high)
{
	return _mm256_inserti128_si256(
		_mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)low)),
		_mm_loadl_epi64((const __m128i *)high), 1);
}

/* The sum of each of four vectors of 8. */
AVX512 __m128i sum_of_each(const __m256i *x)
{
	__m256i pairs =
		_mm256_hadd_epi32(_mm256_hadd_epi32(x[0], x[1]), _mm256_hadd_epi32(x[2], x[3]));
	return _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
}

/* Products of the mean row with four queries, times its step. */
AVX512 __m128 mean_products(const uint8_t *mean, uint32_t head_dim, const int8_t *q, __m128i middle)
{
	uint32_t half = head_dim / 2, i = 0;
	__m256i sum[4] = { _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
		_mm256_setzero_si256() };
	for (; i + 16 <= half; i += 16) {
		__m256i codes = nibbles(_mm_loadu_si128((const __m128i *)(mean + i)));
		for (int h = 0; h < 4; h++) {
			const int8_t *row = q + h * head_dim + i;
			sum[h] = _mm256_dpbusd_epi32(sum[h], codes, two_loads(row, row + half));
		}
	}
	if (i < half) {
		__m256i codes = nibbles(_mm_loadl_epi64((const __m128i *)(mean + i)));
		for (int h = 0; h < 4; h++) {
			const int8_t *row = q + h * head_dim + i;
			sum[h] =
				_mm256_dpbusd_epi32(sum[h], codes, two_half_loads(row, row + half));
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

/* Products of the 16 detail rows with four queries; start: less the middle of the levels. */
AVX512 void detail_products(const uint8_t *detail, uint32_t head_dim, const int8_t *q,
	const __m512i *start, __m512i *product)
{
	const __m512i field = _mm512_set1_epi8(3);
	__m512i p0 = start[0], p1 = start[1], p2 = start[2], p3 = start[3];
	for (uint32_t i = 0; i < head_dim; i += 16) {
		__m512i bytes = _mm512_loadu_si512(detail + 4 * (size_t)i);
		for (int k = 0; k < 4; k++) {
			__m512i code = _mm512_and_si512(bytes, field);
			bytes = _mm512_srli_epi16(bytes, 2);
			const int8_t *at = q + i + 4 * k;
			p0 = _mm512_dpbusd_epi32(p0, code, _mm512_set1_epi32(four_numbers(at)));
			p1 = _mm512_dpbusd_epi32(
				p1, code, _mm512_set1_epi32(four_numbers(at + head_dim)));
			p2 = _mm512_dpbusd_epi32(
				p2, code, _mm512_set1_epi32(four_numbers(at + 2 * head_dim)));
			p3 = _mm512_dpbusd_epi32(
				p3, code, _mm512_set1_epi32(four_numbers(at + 3 * head_dim)));
		}
	}
	product[0] = p0;
	product[1] = p1;
	product[2] = p2;
	product[3] = p3;
}

/* Sums and differences over the 16 rows. */
AVX512 __m512 hadamard(__m512 x)
{
	const __m512 minus1 = _mm512_castsi512_ps(_mm512_set1_epi64(INT64_MIN));
	const __m512 minus2 = _mm512_castsi512_ps(_mm512_set4_epi32(INT32_MIN, INT32_MIN, 0, 0));
	const __m512i bit = _mm512_set1_epi32(INT32_MIN);
	const __m512 minus4 = _mm512_castsi512_ps(_mm512_maskz_mov_epi32(0xf0f0, bit));
	const __m512 minus8 = _mm512_castsi512_ps(_mm512_maskz_mov_epi32(0xff00, bit));
	x = _mm512_add_ps(_mm512_permute_ps(x, 0xb1), _mm512_xor_ps(x, minus1));
	x = _mm512_add_ps(_mm512_permute_ps(x, 0x4e), _mm512_xor_ps(x, minus2));
	x = _mm512_add_ps(_mm512_shuffle_f32x4(x, x, 0xb1), _mm512_xor_ps(x, minus4));
	return _mm512_add_ps(_mm512_shuffle_f32x4(x, x, 0x4e), _mm512_xor_ps(x, minus8));
}

/* Halves are added until four of each are left, then four heads at once. */
AVX512 __m128 sums_of_four(const __m512 *x)
{
	__m128 quarter[4];
	for (int h = 0; h < 4; h++) {
		__m256 half = _mm256_add_ps(
			_mm512_castps512_ps256(x[h]), _mm512_extractf32x8_ps(x[h], 1));
		quarter[h] =
			_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
	}
	_MM_TRANSPOSE4_PS(quarter[0], quarter[1], quarter[2], quarter[3]);
	return _mm_add_ps(_mm_add_ps(quarter[0], quarter[2]), _mm_add_ps(quarter[1], quarter[3]));
}

AVX512 void store_sums(__m128 four, float *sums[4], uint32_t i)
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

AVX512 void prefetch(const kvt_codes *codes, size_t page)
{
	const char *detail = (const char *)codes->details + page * 4 * codes->head_dim;
	for (uint32_t i = 0; i < 4 * codes->head_dim; i += 64)
		_mm_prefetch(detail + i, _MM_HINT_T0);
	_mm_prefetch((const char *)codes->means + page * kvt_code_mean_bytes(codes->head_dim),
		_MM_HINT_T0);
}

__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"))) void
kvt_code_score_avx512(const kvt_codes *codes, const kvt_code_query *query, uint32_t head,
	const kvt_page_list *pages, float *sums[4])
{
	uint32_t head_dim = codes->head_dim;
	const int8_t *q = query->q + (size_t)head * head_dim;
	const __m128i sum = _mm_loadu_si128((const __m128i *)(query->sum + head));
	const __m128i middle = _mm_mullo_epi32(_mm_srai_epi32(sum, 1), _mm_set1_epi32(15));
	const __m128 factor = _mm_loadu_ps(query->factor + head);
	__m512i start[4];
	for (int h = 0; h < 4; h++)
		start[h] = _mm512_set1_epi32(-3 * (query->sum[head + h] / 2));
	for (uint32_t i = 0; i < pages->n; i++) {
		size_t page = page_at(pages, i);
		const uint8_t *mean = codes->means + page * kvt_code_mean_bytes(head_dim);
		if (pages->ids && i + AHEAD < pages->n)
			prefetch(codes, pages->ids[i + AHEAD]);
		__m512i product[4];
		detail_products(codes->details + page * 4 * head_dim, head_dim, q, start, product);
		float base[4];
		_mm_storeu_ps(base, _mm_fmadd_ps(mean_products(mean, head_dim, q, middle), factor,
					    _mm_set1_ps(one)));
		__m512 steps = row_steps(mean + head_dim / 2), token[4];
		for (int h = 0; h < 4; h++) {
			/* row 1 has its upper bits in row 0 */
			__m512i upper =
				_mm512_slli_epi32(_mm512_shuffle_epi32(product[h], 0xb1), 2);
			__m512i whole = _mm512_mask_add_epi32(product[h], 2, product[h], upper);
			__m512 x = _mm512_maskz_mul_ps(0xfffe, _mm512_cvtepi32_ps(whole), steps);
			token[h] = power(_mm512_fmadd_ps(hadamard(x),
				_mm512_set1_ps(query->factor[head + h]), _mm512_set1_ps(base[h])));
		}
		store_sums(sums_of_four(token), sums, i);
	}
}

__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"))) void
kvt_code_score_means_avx512(const kvt_codes *codes, const kvt_code_query *query, uint32_t head,
	const kvt_page_list *pages, float *sums[4])
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
