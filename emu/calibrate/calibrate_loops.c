/* calibrate_loops.c: plain loops in the widest vectors there are. They measure nothing. */
#include "emu/calibrate/calibrate_loops.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { CHAINS = 10 };

static uint64_t read_scalar(const uint64_t *from, uint64_t bytes)
{
	uint64_t a = 0, b = 0, c = 0, d = 0;
	for (uint64_t i = 0; i < bytes / 8; i += 4) {
		a += from[i];
		b += from[i + 1];
		c += from[i + 2];
		d += from[i + 3];
	}
	return a + b + c + d;
}

static float multiply_add_scalar(uint64_t rounds)
{
	float x[CHAINS] = { 0 };
	for (uint64_t r = 0; r < rounds; r++)
		for (unsigned i = 0; i < CHAINS; i++)
			x[i] = x[i] * 0.999f + 1e-3f;
	float all = 0;
	for (unsigned i = 0; i < CHAINS; i++)
		all += x[i];
	return all;
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static uint64_t read_avx2(const __m256i *from, uint64_t bytes)
{
	__m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
	for (uint64_t i = 0; i < bytes / 32; i += 4) {
		a = _mm256_add_epi64(a, _mm256_load_si256(from + i));
		b = _mm256_add_epi64(b, _mm256_load_si256(from + i + 1));
		c = _mm256_add_epi64(c, _mm256_load_si256(from + i + 2));
		d = _mm256_add_epi64(d, _mm256_load_si256(from + i + 3));
	}
	a = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
	return (uint64_t)(_mm256_extract_epi64(a, 0) + _mm256_extract_epi64(a, 1) +
			  _mm256_extract_epi64(a, 2) + _mm256_extract_epi64(a, 3));
}

__attribute__((target("avx512f"))) static uint64_t read_avx512(const __m512i *from, uint64_t bytes)
{
	__m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
	for (uint64_t i = 0; i < bytes / 64; i += 4) {
		a = _mm512_add_epi64(a, _mm512_load_si512(from + i));
		b = _mm512_add_epi64(b, _mm512_load_si512(from + i + 1));
		c = _mm512_add_epi64(c, _mm512_load_si512(from + i + 2));
		d = _mm512_add_epi64(d, _mm512_load_si512(from + i + 3));
	}
	a = _mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d));
	return (uint64_t)_mm512_reduce_add_epi64(a);
}

__attribute__((target("avx2,fma"))) static float multiply_add_avx2(uint64_t rounds)
{
	__m256 factor = _mm256_set1_ps(0.999f), more = _mm256_set1_ps(1e-3f), x[CHAINS];
	for (unsigned i = 0; i < CHAINS; i++)
		x[i] = more;
	for (uint64_t r = 0; r < rounds; r++)
#pragma GCC unroll 10
		for (unsigned i = 0; i < CHAINS; i++)
			x[i] = _mm256_fmadd_ps(x[i], factor, more);
	float all = 0;
	for (unsigned i = 0; i < CHAINS; i++)
		all += _mm256_cvtss_f32(x[i]);
	return all;
}

__attribute__((target("avx512f"))) static float multiply_add_avx512(uint64_t rounds)
{
	__m512 factor = _mm512_set1_ps(0.999f), more = _mm512_set1_ps(1e-3f), x[CHAINS];
	for (unsigned i = 0; i < CHAINS; i++)
		x[i] = more;
	for (uint64_t r = 0; r < rounds; r++)
#pragma GCC unroll 10
		for (unsigned i = 0; i < CHAINS; i++)
			x[i] = _mm512_fmadd_ps(x[i], factor, more);
	float all = 0;
	for (unsigned i = 0; i < CHAINS; i++)
		all += _mm512_cvtss_f32(x[i]);
	return all;
}
#endif

uint64_t kvt_loop_read(kvt_isa isa, const void *from, uint64_t bytes)
{
#ifdef __x86_64__
	if (isa == KVT_ISA_AVX512)
		return read_avx512(from, bytes);
	if (isa == KVT_ISA_AVX2)
		return read_avx2(from, bytes);
#endif
	return read_scalar(from, bytes);
}

double kvt_loop_multiply_add(kvt_isa isa, uint64_t rounds, float *sum)
{
	unsigned lanes = 1;
#ifdef __x86_64__
	if (isa == KVT_ISA_AVX512) {
		*sum = multiply_add_avx512(rounds);
		lanes = 16;
	} else if (isa == KVT_ISA_AVX2) {
		*sum = multiply_add_avx2(rounds);
		lanes = 8;
	} else
#endif
		*sum = multiply_add_scalar(rounds);
	return 2.0 * (double)rounds * CHAINS * lanes;
}
