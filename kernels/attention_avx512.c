/*
 * attention_avx512.c: attention of 1, 2 or 4 rows to a tile of tokens with AVX-512. Products and
 * sums are FP32: dot products of BF16 pairs (vdpbf16ps) would need the query rounded to BF16 or
 * split into three, which is no faster for the group sizes there are.
 */
#include "kernels/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <math.h>

#define TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
#define AVX512 __attribute__((target(TARGET), always_inline)) static inline

/* Vectors that a loop goes over have to stay in registers. */
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { TILE = KVT_ATTENTION_TILE, LANES = 16, BLOCK = 32 };

/* E4M3 as half precision: 2^-8 of its value, NaN as NaN. */
AVX512 __m512i half_of_e4m3(__m256i bytes)
{
	__m512i wide = _mm512_cvtepu8_epi16(bytes);
	__m512i sign = _mm512_slli_epi16(_mm512_and_si512(wide, _mm512_set1_epi16(0x80)), 8);
	__m512i magnitude = _mm512_and_si512(wide, _mm512_set1_epi16(0x7f));
	__mmask32 nan = _mm512_cmpeq_epi16_mask(magnitude, _mm512_set1_epi16(0x7f));
	__m512i half = _mm512_or_si512(_mm512_slli_epi16(magnitude, 7), sign);
	return _mm512_mask_mov_epi16(half, nan, _mm512_set1_epi16(0x7e00));
}

/* The block-th 32 numbers of a token as two vectors. */
AVX512 void load_block(kvt_element element, const uint8_t *numbers, uint32_t block, __m512 *out)
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
		const __m256i *byte = (const __m256i *)(numbers + 32 * (size_t)block);
		__m512i half = half_of_e4m3(_mm256_loadu_si256(byte));
		out[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(half));
		out[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1));
	}
}

/* Halves added: x's result first, then y's. */
AVX512 __m512 fold_512(__m512 x, __m512 y)
{
	return _mm512_add_ps(_mm512_mask_mov_ps(x, 0xff00, y), _mm512_shuffle_f32x4(x, y, 0x4e));
}

/* The same of halves of halves, and on within lanes of four numbers. */
AVX512 __m512 fold_256(__m512 x, __m512 y)
{
	return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
}

AVX512 __m512 fold_128(__m512 x, __m512 y)
{
	return _mm512_add_ps(_mm512_mask_mov_ps(x, 0xcccc, y), _mm512_shuffle_ps(x, y, 0x4e));
}

AVX512 __m512 fold_64(__m512 x, __m512 y)
{
	return _mm512_add_ps(_mm512_shuffle_ps(x, y, 0x88), _mm512_shuffle_ps(x, y, 0xdd));
}

/* Number i of the result is the sum of vector i. */
AVX512 __m512 sums_of(__m512 *x)
{
	/* four vectors become one of four quarters, which have a vector's sum each; then quarters
	 * of four such are gathered in the same way */
	UNROLL for (int i = 0; i < 4; i++)
	{
		__m512 low = fold_512(x[i], x[i + 4]), high = fold_512(x[i + 8], x[i + 12]);
		x[i] = fold_256(low, high);
	}
	return fold_64(fold_128(x[0], x[1]), fold_128(x[2], x[3]));
}

/* 2^x, relative error below 1e-7; 0 of minus infinity, NaN of NaN. */
AVX512 __m512 power(__m512 x)
{
	/* of two numbers one of which is NaN the second is taken */
	x = _mm512_max_ps(_mm512_set1_ps(-200), x);
	__m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m512 f = _mm512_sub_ps(x, whole);
	__m512 y = _mm512_set1_ps(0x1.41fbbcp-13f);
	y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0x1.5f3e52p-10f));
	y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0x1.3b2d4cp-7f));
	y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0x1.c6aee8p-5f));
	y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0x1.ebfbdcp-3f));
	y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0x1.62e430p-1f));
	y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1));
	return _mm512_scalef_ps(y, whole);
}

AVX512 void fetch(const uint8_t *line, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)line + i, _MM_HINT_T1);
}

/* Products of 16 / rows tokens with the rows: number i is of token i / rows, row i % rows. */
AVX512 __m512 products(
	const kvt_attention_tile *tile, kvt_element element, int rows, uint32_t first)
{
	const uint32_t head_dim = tile->head_dim;
	const int tokens = LANES / rows;
	__m512 sum[LANES];
	UNROLL for (int i = 0; i < LANES; i++) sum[i] = _mm512_setzero_ps();
	for (uint32_t block = 0; block < head_dim / BLOCK; block++) {
		const float *query = tile->query + BLOCK * (size_t)block;
		__m512 q[2][4];
		UNROLL for (int r = 0; r < rows; r++)
		{
			q[0][r] = _mm512_loadu_ps(query + (size_t)r * head_dim);
			q[1][r] = _mm512_loadu_ps(query + (size_t)r * head_dim + LANES);
		}
		UNROLL for (int t = 0; t < tokens; t++)
		{
			__m512 k[2];
			load_block(element, tile->keys[first + (uint32_t)t], block, k);
			UNROLL for (int r = 0; r < rows; r++) sum[t * rows + r] =
				_mm512_fmadd_ps(k[0], q[0][r], sum[t * rows + r]);
			UNROLL for (int r = 0; r < rows; r++) sum[t * rows + r] =
				_mm512_fmadd_ps(k[1], q[1][r], sum[t * rows + r]);
		}
	}
	return sums_of(sum);
}

/* The largest number, or the sum, of each row, in all its places. */
AVX512 __m512 rows_max(__m512 x, int rows)
{
	x = _mm512_max_ps(x, _mm512_shuffle_f32x4(x, x, 0x4e));
	x = _mm512_max_ps(x, _mm512_shuffle_f32x4(x, x, 0xb1));
	if (rows <= 2)
		x = _mm512_max_ps(x, _mm512_permute_ps(x, 0x4e));
	if (rows == 1)
		x = _mm512_max_ps(x, _mm512_permute_ps(x, 0xb1));
	return x;
}

AVX512 __m512 rows_sum(__m512 x, int rows)
{
	x = _mm512_add_ps(x, _mm512_shuffle_f32x4(x, x, 0x4e));
	x = _mm512_add_ps(x, _mm512_shuffle_f32x4(x, x, 0xb1));
	if (rows <= 2)
		x = _mm512_add_ps(x, _mm512_permute_ps(x, 0x4e));
	if (rows == 1)
		x = _mm512_add_ps(x, _mm512_permute_ps(x, 0xb1));
	return x;
}

/* A number a row, in all places of the row. */
AVX512 __m512 load_rows(const float *numbers, int rows)
{
	if (rows == 1)
		return _mm512_set1_ps(*numbers);
	if (rows == 2)
		return _mm512_castsi512_ps(_mm512_broadcastq_epi64(_mm_loadu_si64(numbers)));
	return _mm512_broadcast_f32x4(_mm_loadu_ps(numbers));
}

/* Weights of tokens in `share`, [token][row]; sums so far are made relative to the new maximum. */
AVX512 void weigh(kvt_attention_tile *tile, kvt_element element, int rows, float *share)
{
	const uint32_t tokens = LANES / (uint32_t)rows, n = tile->n_tokens;
	const __mmask16 all_rows = (__mmask16)((1 << rows) - 1);
	const __m512 none = _mm512_set1_ps(-INFINITY);
	const size_t bytes = tile->head_dim * kvt_element_bytes(element);
	__m512 old = load_rows(tile->max, rows), most = old;
	for (uint32_t t = 0; t < n; t += tokens) {
		for (uint32_t i = t; i < t + tokens && i < tile->n_next; i++)
			fetch(tile->next_keys[i], bytes);
		__m512 logit = products(tile, element, rows, t);
		if (n - t < tokens)
			logit = _mm512_mask_mov_ps(
				none, (__mmask16)((1u << (n - t) * (uint32_t)rows) - 1), logit);
		_mm512_store_ps(share + t * (uint32_t)rows, logit);
		/* NaN first: it is not larger */
		most = _mm512_max_ps(logit, most);
	}
	most = rows_max(most, rows);
	__mmask16 empty = _mm512_cmpeq_ps_mask(most, none);
	__m512 base = _mm512_mask_mov_ps(most, empty, _mm512_setzero_ps()), sum;
	sum = _mm512_setzero_ps();
	for (uint32_t t = 0; t < n; t += tokens) {
		__m512 *place = (__m512 *)(share + t * (uint32_t)rows);
		__m512 p = power(_mm512_sub_ps(*place, base));
		sum = _mm512_add_ps(sum, p);
		*place = p;
	}
	float keep[LANES];
	__m512 factor = power(_mm512_sub_ps(old, base));
	_mm512_storeu_ps(keep, factor);
	__m512 weight = _mm512_maskz_loadu_ps(all_rows, tile->weight);
	_mm512_mask_storeu_ps(
		tile->weight, all_rows, _mm512_fmadd_ps(weight, factor, rows_sum(sum, rows)));
	_mm512_mask_storeu_ps(tile->max, all_rows, most);
	if (_mm512_cmp_ps_mask(factor, _mm512_set1_ps(1), _CMP_NEQ_UQ) == 0)
		return;
	for (int r = 0; r < rows; r++)
		for (uint32_t i = 0; i < tile->head_dim; i += LANES) {
			float *place = tile->sum + (size_t)r * tile->head_dim + i;
			_mm512_storeu_ps(place,
				_mm512_mul_ps(_mm512_loadu_ps(place), _mm512_set1_ps(keep[r])));
		}
}

/* Adds weighted values of `blocks` blocks of numbers from `block` on. A tile's are summed first,
 * which rounds less than adding each to the sum of all. */
AVX512 void add_values(kvt_attention_tile *tile, kvt_element element, int rows, const float *share,
	uint32_t block, int blocks)
{
	const size_t head_dim = tile->head_dim;
	const size_t bytes = BLOCK * (size_t)blocks * kvt_element_bytes(element);
	float *out = tile->sum + BLOCK * (size_t)block;
	__m512 sum[4][4];
	UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < 2 * blocks; v++)
		sum[r][v] = _mm512_setzero_ps();
	for (uint32_t t = 0; t < tile->n_tokens; t++) {
		if (t < tile->n_next)
			fetch(tile->next_values[t] +
					BLOCK * (size_t)block * kvt_element_bytes(element),
				bytes);
		__m512 value[4];
		UNROLL for (int b = 0; b < blocks; b++)
			load_block(element, tile->values[t], block + (uint32_t)b, value + 2 * b);
		UNROLL for (int r = 0; r < rows; r++)
		{
			__m512 p = _mm512_set1_ps(share[t * (uint32_t)rows + (uint32_t)r]);
			UNROLL for (int v = 0; v < 2 * blocks; v++) sum[r][v] =
				_mm512_fmadd_ps(p, value[v], sum[r][v]);
		}
	}
	UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < 2 * blocks; v++)
	{
		float *place = out + (size_t)r * head_dim + LANES * v;
		_mm512_storeu_ps(place, _mm512_add_ps(_mm512_loadu_ps(place), sum[r][v]));
	}
}

AVX512 void attend(kvt_attention_tile *tile, kvt_element element, int rows)
{
	float share[TILE * 4] __attribute__((aligned(64)));
	uint32_t block = 0, blocks = tile->head_dim / BLOCK;
	weigh(tile, element, rows, share);
	for (; block + 2 <= blocks; block += 2)
		add_values(tile, element, rows, share, block, 2);
	if (block < blocks)
		add_values(tile, element, rows, share, block, 1);
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

void kvt_attention_tile_avx512(kvt_attention_tile *tile)
{
	if (tile->element == KVT_ELEMENT_BF16)
		attend_bf16(tile);
	else if (tile->element == KVT_ELEMENT_F16)
		attend_f16(tile);
	else
		attend_e4m3(tile);
}
#endif
