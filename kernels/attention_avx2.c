/* attention_avx2.c: attention of 1, 2 or 4 rows to a tile of tokens with AVX2, FMA and F16C. */
#include "kernels/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <math.h>

#define TARGET "avx2,fma,f16c"
#define AVX2 __attribute__((target(TARGET), always_inline)) static inline

/* Vectors that a loop goes over have to stay in registers. */
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { TILE = KVT_ATTENTION_TILE, LANES = 8, BLOCK = 16 };

/* E4M3 as half precision: 2^-8 of its value, NaN as NaN. */
AVX2 __m256i half_of_e4m3(__m128i bytes)
{
	__m256i wide = _mm256_cvtepu8_epi16(bytes);
	__m256i sign = _mm256_slli_epi16(_mm256_and_si256(wide, _mm256_set1_epi16(0x80)), 8);
	__m256i magnitude = _mm256_and_si256(wide, _mm256_set1_epi16(0x7f));
	__m256i nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f));
	__m256i half = _mm256_or_si256(_mm256_slli_epi16(magnitude, 7), sign);
	return _mm256_or_si256(half, _mm256_and_si256(nan, _mm256_set1_epi16(0x7e00)));
}

/* The block-th 16 numbers of a token as two vectors. */
AVX2 void load_block(kvt_element element, const uint8_t *numbers, uint32_t block, __m256 *out)
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

/* Number i of the result is the sum of vector i. */
AVX2 __m256 sums_of(const __m256 *x)
{
	__m256 low = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
	__m256 high = _mm256_hadd_ps(_mm256_hadd_ps(x[4], x[5]), _mm256_hadd_ps(x[6], x[7]));
	return _mm256_add_ps(
		_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

/* 2^x, relative error below 1e-7; 0 below -126, NaN of NaN. */
AVX2 __m256 power(__m256 x)
{
	const __m256 least = _mm256_set1_ps(-126);
	__m256 counts = _mm256_cmp_ps(x, least, _CMP_NLT_UQ);
	/* of two numbers one of which is NaN the second is taken */
	x = _mm256_max_ps(least, x);
	__m256 whole = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m256 f = _mm256_sub_ps(x, whole);
	__m256 y = _mm256_set1_ps(0x1.41fbbcp-13f);
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0x1.5f3e52p-10f));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0x1.3b2d4cp-7f));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0x1.c6aee8p-5f));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0x1.ebfbdcp-3f));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0x1.62e430p-1f));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(1));
	__m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
	__m256 scale = _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
	return _mm256_and_ps(_mm256_mul_ps(y, scale), counts);
}

AVX2 void fetch(const uint8_t *line, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)line + i, _MM_HINT_T1);
}

/* Products of 8 / rows tokens with the rows: number i is of token i / rows, row i % rows. */
AVX2 __m256 products(const kvt_attention_tile *tile, kvt_element element, int rows, uint32_t first)
{
	const uint32_t head_dim = tile->head_dim;
	const int tokens = LANES / rows;
	__m256 sum[LANES];
	UNROLL for (int i = 0; i < LANES; i++) sum[i] = _mm256_setzero_ps();
	for (uint32_t block = 0; block < head_dim / BLOCK; block++) {
		const float *query = tile->query + BLOCK * (size_t)block;
		UNROLL for (int t = 0; t < tokens; t++)
		{
			__m256 k[2];
			load_block(element, tile->keys[first + (uint32_t)t], block, k);
			UNROLL for (int r = 0; r < rows; r++)
			{
				const float *q = query + (size_t)r * head_dim;
				__m256 s = sum[t * rows + r];
				s = _mm256_fmadd_ps(k[0], _mm256_loadu_ps(q), s);
				sum[t * rows + r] =
					_mm256_fmadd_ps(k[1], _mm256_loadu_ps(q + LANES), s);
			}
		}
	}
	return sums_of(sum);
}

/* The largest number, or the sum, of each row, in all its places. */
AVX2 __m256 rows_max(__m256 x, int rows)
{
	x = _mm256_max_ps(x, _mm256_permute2f128_ps(x, x, 1));
	if (rows <= 2)
		x = _mm256_max_ps(x, _mm256_permute_ps(x, 0x4e));
	if (rows == 1)
		x = _mm256_max_ps(x, _mm256_permute_ps(x, 0xb1));
	return x;
}

AVX2 __m256 rows_sum(__m256 x, int rows)
{
	x = _mm256_add_ps(x, _mm256_permute2f128_ps(x, x, 1));
	if (rows <= 2)
		x = _mm256_add_ps(x, _mm256_permute_ps(x, 0x4e));
	if (rows == 1)
		x = _mm256_add_ps(x, _mm256_permute_ps(x, 0xb1));
	return x;
}

/* Weights of tokens in `share`, [token][row]; keep[row]: what sums so far are to be multiplied
 * with to be relative to the new maximum. */
AVX2 void weigh(kvt_attention_tile *tile, kvt_element element, int rows, float *share, float *keep)
{
	const uint32_t tokens = LANES / (uint32_t)rows, n = tile->n_tokens;
	const size_t bytes = tile->head_dim * kvt_element_bytes(element);
	const __m256 none = _mm256_set1_ps(-INFINITY);
	float row[LANES], out[LANES];
	for (int i = 0; i < LANES; i++)
		row[i] = tile->max[i % rows];
	__m256 old = _mm256_loadu_ps(row), most = old, sum = _mm256_setzero_ps();
	for (uint32_t t = 0; t < n; t += tokens) {
		for (uint32_t i = t; i < t + tokens && i < tile->n_next; i++)
			fetch(tile->next_keys[i], bytes);
		__m256 logit = products(tile, element, rows, t);
		if (n - t < tokens) {
			int valid = (int)((n - t) * (uint32_t)rows);
			__m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
			__m256i in = _mm256_cmpgt_epi32(_mm256_set1_epi32(valid), place);
			logit = _mm256_blendv_ps(none, logit, _mm256_castsi256_ps(in));
		}
		_mm256_store_ps(share + t * (uint32_t)rows, logit);
		/* NaN first: it is not larger */
		most = _mm256_max_ps(logit, most);
	}
	most = rows_max(most, rows);
	__m256 empty = _mm256_cmp_ps(most, none, _CMP_EQ_OQ);
	__m256 base = _mm256_andnot_ps(empty, most);
	for (uint32_t t = 0; t < n; t += tokens) {
		float *place = share + t * (uint32_t)rows;
		__m256 p = power(_mm256_sub_ps(_mm256_load_ps(place), base));
		sum = _mm256_add_ps(sum, p);
		_mm256_store_ps(place, p);
	}
	_mm256_storeu_ps(keep, power(_mm256_sub_ps(old, base)));
	_mm256_storeu_ps(row, most);
	_mm256_storeu_ps(out, rows_sum(sum, rows));
	for (int r = 0; r < rows; r++) {
		tile->max[r] = row[r];
		tile->weight[r] = tile->weight[r] * keep[r] + out[r];
	}
}

/* Adds weighted values of a block of numbers. A tile's are summed first, which rounds less than
 * adding each to the sum of all. */
AVX2 void add_values(kvt_attention_tile *tile, kvt_element element, int rows, const float *share,
	const float *keep, uint32_t block)
{
	const size_t head_dim = tile->head_dim;
	const size_t at = BLOCK * (size_t)block * kvt_element_bytes(element);
	float *out = tile->sum + BLOCK * (size_t)block;
	__m256 sum[4][2];
	UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < 2; v++) sum[r][v] =
		_mm256_setzero_ps();
	for (uint32_t t = 0; t < tile->n_tokens; t++) {
		/* once a line */
		if (t < tile->n_next && at % 64 == 0)
			fetch(tile->next_values[t] + at, 1);
		__m256 value[2];
		load_block(element, tile->values[t], block, value);
		UNROLL for (int r = 0; r < rows; r++)
		{
			__m256 p = _mm256_set1_ps(share[t * (uint32_t)rows + (uint32_t)r]);
			UNROLL for (int v = 0; v < 2; v++) sum[r][v] =
				_mm256_fmadd_ps(p, value[v], sum[r][v]);
		}
	}
	UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < 2; v++)
	{
		float *place = out + (size_t)r * head_dim + LANES * v;
		__m256 old = _mm256_loadu_ps(place);
		_mm256_storeu_ps(place, _mm256_fmadd_ps(old, _mm256_set1_ps(keep[r]), sum[r][v]));
	}
}

AVX2 void attend(kvt_attention_tile *tile, kvt_element element, int rows)
{
	float share[TILE * 4] __attribute__((aligned(32))), keep[LANES];
	weigh(tile, element, rows, share, keep);
	for (uint32_t block = 0; block < tile->head_dim / BLOCK; block++)
		add_values(tile, element, rows, share, keep, block);
}

#define ATTEND(name, element)                                                                      \
	__attribute__((target(TARGET))) static void name(kvt_attention_tile *tile)                 \
	{                                                                                          \
		if (tile->n_rows == 4)                                                             \
			attend(tile, element, 4);                                                  \
		else if (tile->n_rows == 2)                                                        \
			attend(tile, element, 2);                                                  \
		else                                                                               \
			attend(tile, element, 1);                                                  \
	}
ATTEND(attend_bf16, KVT_ELEMENT_BF16)
ATTEND(attend_f16, KVT_ELEMENT_F16)
ATTEND(attend_e4m3, KVT_ELEMENT_E4M3)

void kvt_attention_tile_avx2(kvt_attention_tile *tile)
{
	if (tile->element == KVT_ELEMENT_BF16)
		attend_bf16(tile);
	else if (tile->element == KVT_ELEMENT_F16)
		attend_f16(tile);
	else
		attend_e4m3(tile);
}
#endif
