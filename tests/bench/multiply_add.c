/* multiply_add.c: loops of multiply-adds, and nothing but what brings their numbers. */
#include "tests/bench/multiply_add.h"

#include <string.h>
#include <time.h>

enum { STEPS = 50000, NUMBERS = 4096, ROUNDS = 400, ROWS = 4 };

static double thread_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#ifdef __x86_64__
#include <immintrin.h>

static volatile float result; /* so that nothing is optimised away */

typedef float vector_8 __attribute__((vector_size(32)));
typedef float vector_16 __attribute__((vector_size(64)));

enum { CHAINS = 10 };

#define TWO(x, y) "vfmadd213ps %11, %10, %" #x "\n\tvfmadd213ps %11, %10, %" #y "\n\t"

/* Chains that do not wait for one another, in registers; by name, since an array of them may end up
 * in memory. */
#define REGISTERS(name, vector, isa_target)                                                        \
	__attribute__((target(isa_target), noinline)) static float name(void)                      \
	{                                                                                          \
		vector x = { 0 }, y = { 0 };                                                       \
		x += 0.5f;                                                                         \
		y += 1.0f;                                                                         \
		vector a = y, b = y, c = y, d = y, e = y, f = y, g = y, h = y, i = y, j = y;       \
		for (int step = 0; step < STEPS; step++)                                           \
			__asm__ volatile(TWO(0, 1) TWO(2, 3) TWO(4, 5) TWO(6, 7) TWO(8, 9)         \
					 : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f),   \
					 "+v"(g), "+v"(h), "+v"(i), "+v"(j)                        \
					 : "v"(x), "v"(y));                                        \
		return (a + b + c + d + e + f + g + h + i + j)[0];                                 \
	}

REGISTERS(registers_avx2, vector_8, "avx2,fma")
REGISTERS(registers_avx512, vector_16, "avx512f")

#define AVX2 __attribute__((target("avx2,fma,f16c"), always_inline)) static inline
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl"), always_inline)) static inline

/* Two vectors of numbers, each number once, in any order; E4M3 as what its bits say as a half. */
AVX2 void two_avx2(kvt_element element, const uint8_t *at, __m256 *a, __m256 *b)
{
	if (element == KVT_ELEMENT_BF16) {
		__m256i pair = _mm256_loadu_si256((const __m256i *)at);
		*a = _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16));
		*b = _mm256_castsi256_ps(
			_mm256_and_si256(pair, _mm256_set1_epi32((int)0xffff0000)));
	} else if (element == KVT_ELEMENT_F16) {
		*a = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)at));
		*b = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)at + 1));
	} else {
		__m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)at));
		wide = _mm256_slli_epi16(wide, 7);
		*a = _mm256_cvtph_ps(_mm256_castsi256_si128(wide));
		*b = _mm256_cvtph_ps(_mm256_extracti128_si256(wide, 1));
	}
}

AVX512 void two_avx512(kvt_element element, const uint8_t *at, __m512 *a, __m512 *b)
{
	if (element == KVT_ELEMENT_BF16) {
		__m512i pair = _mm512_loadu_si512(at);
		*a = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
		*b = _mm512_castsi512_ps(
			_mm512_and_si512(pair, _mm512_set1_epi32((int)0xffff0000)));
	} else if (element == KVT_ELEMENT_F16) {
		*a = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)at));
		*b = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)at + 1));
	} else {
		__m512i wide = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)at));
		wide = _mm512_slli_epi16(wide, 7);
		*a = _mm512_cvtph_ps(_mm512_castsi512_si256(wide));
		*b = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(wide, 1));
	}
}

/* Each pair of vectors meets four rows; sums are many enough not to wait for one another. */
#define SHAPE(isa, vector, set, add, isa_target, lanes)                                            \
	__attribute__((target(isa_target), always_inline)) static inline float shape_##isa(        \
		kvt_element element, const uint8_t *numbers, const float *rows)                    \
	{                                                                                          \
		const size_t bytes = kvt_element_bytes(element) * 2 * (lanes);                     \
		vector s0 = set(0), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0; \
		for (int round = 0; round < ROUNDS; round++) {                                     \
			const float *row = rows + round % 8 * ROWS;                                \
			vector p0 = set(row[0]), p1 = set(row[1]), p2 = set(row[2]),               \
			       p3 = set(row[3]);                                                   \
			for (size_t i = 0; i < NUMBERS * kvt_element_bytes(element); i += bytes) { \
				vector a, b;                                                       \
				two_##isa(element, numbers + i, &a, &b);                           \
				s0 = add(p0, a, s0), t0 = add(p0, b, t0);                          \
				s1 = add(p1, a, s1), t1 = add(p1, b, t1);                          \
				s2 = add(p2, a, s2), t2 = add(p2, b, t2);                          \
				s3 = add(p3, a, s3), t3 = add(p3, b, t3);                          \
			}                                                                          \
		}                                                                                  \
		return (s0 + s1 + s2 + s3 + t0 + t1 + t2 + t3)[0];                                 \
	}                                                                                          \
	__attribute__((target(isa_target), noinline)) static float any_shape_##isa(                \
		kvt_element element, const uint8_t *numbers, const float *rows)                    \
	{                                                                                          \
		if (element == KVT_ELEMENT_BF16)                                                   \
			return shape_##isa(KVT_ELEMENT_BF16, numbers, rows);                       \
		if (element == KVT_ELEMENT_F16)                                                    \
			return shape_##isa(KVT_ELEMENT_F16, numbers, rows);                        \
		return shape_##isa(KVT_ELEMENT_E4M3, numbers, rows);                               \
	}

SHAPE(avx2, __m256, _mm256_set1_ps, _mm256_fmadd_ps, "avx2,fma,f16c", 8)
SHAPE(avx512, __m512, _mm512_set1_ps, _mm512_fmadd_ps, "avx512f,avx512bw,avx512vl,avx2,fma,f16c",
	16)

double multiply_adds_of_registers(kvt_isa isa)
{
	if (isa == KVT_ISA_SCALAR)
		return 0;
	double began = thread_seconds();
	result = isa == KVT_ISA_AVX512 ? registers_avx512() : registers_avx2();
	double lanes = isa == KVT_ISA_AVX512 ? 16 : 8;
	return CHAINS * lanes * STEPS / (thread_seconds() - began);
}

double multiply_adds_of_shape(kvt_isa isa, kvt_element element)
{
	uint8_t numbers[NUMBERS * 2] __attribute__((aligned(64)));
	float rows[8 * ROWS];
	if (isa == KVT_ISA_SCALAR)
		return 0;
	for (int i = 0; i < NUMBERS * 2; i++)
		numbers[i] = (uint8_t)(i % 2 ? 0x3c : i);
	for (int i = 0; i < 8 * ROWS; i++)
		rows[i] = 1e-3f * (float)(i % 5 - 2);
	double began = thread_seconds();
	result = isa == KVT_ISA_AVX512 ? any_shape_avx512(element, numbers, rows)
				       : any_shape_avx2(element, numbers, rows);
	return (double)NUMBERS * ROWS * ROUNDS / (thread_seconds() - began);
}
#else
double multiply_adds_of_registers(kvt_isa isa)
{
	return 0;
}

double multiply_adds_of_shape(kvt_isa isa, kvt_element element)
{
	return 0;
}
#endif
