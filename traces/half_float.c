/* half_float.c: IEEE half precision conversions; branch-free inward, rounding to even outward. */
#include "traces/half_float.h"

#include <stdbool.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { LANES = 16 };

static inline float widen(uint16_t half)
{
	uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13;
	/* The exponent's bias goes from 15 to 127; all ones (infinity, NaN) must stay all ones. */
	uint32_t normal = magnitude + (magnitude >= 0x0f800000 ? 224u << 23 : 112u << 23);
	/* A subnormal is read as 2^-14 + value, so that no denormal float is ever touched. */
	uint32_t shifted = magnitude + (113u << 23);
	float value;
	memcpy(&value, &shifted, sizeof value);
	value -= 0x1p-14f;
	uint32_t small;
	memcpy(&small, &value, sizeof small);
	uint32_t bits = magnitude < 0x00800000 ? small : normal;
	bits |= (uint32_t)(half & 0x8000) << 16;
	memcpy(&value, &bits, sizeof value);
	return value;
}

void kvt_half_to_float(const uint16_t *half, float *out, size_t n)
{
	size_t i = 0;
	/* Compilers at -O2 vectorise only loops of known length. */
	for (; i + LANES <= n; i += LANES)
		for (size_t j = 0; j < LANES; j++)
			out[i + j] = widen(half[i + j]);
	for (; i < n; i++)
		out[i] = widen(half[i]);
}

static uint16_t narrow(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
	bits &= 0x7fffffff;
	if (bits > 0x7f800000)
		return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x3ff));
	if (bits >= 0x477ff000) /* 65520 and above round to infinity */
		return sign | 0x7c00;
	if (bits < 0x38800000) { /* below 2^-14: adding 0.5 puts the rounding at 2^-24 */
		float magnitude;
		memcpy(&magnitude, &bits, sizeof magnitude);
		magnitude += 0.5f;
		memcpy(&bits, &magnitude, sizeof bits);
		return (uint16_t)(sign | (bits - 0x3f000000));
	}
	bits += 0xfff + (bits >> 13 & 1);
	return (uint16_t)(sign | ((bits >> 13) - (112u << 10)));
}

#ifdef __x86_64__
/* The builtin remembers what CPUID said, which takes tens of microseconds in a virtual machine.
 * clang 14's does not know of f16c, but no processor has AVX2 without it. That of avx asks whether
 * the operating system saves the registers. */
static bool has_f16c(void)
{
#if defined(__clang__) && __clang_major__ < 15
	return __builtin_cpu_supports("avx2");
#else
	return __builtin_cpu_supports("avx") && __builtin_cpu_supports("f16c");
#endif
}

/* The same bits for every float, NaN included, as narrow(). */
__attribute__((target("avx,f16c"))) static size_t narrow_wide(
	const float *value, uint16_t *out, size_t n)
{
	size_t i = 0;
	for (; i + 8 <= n; i += 8)
		_mm_storeu_si128((__m128i *)(out + i),
			_mm256_cvtps_ph(_mm256_loadu_ps(value + i), _MM_FROUND_TO_NEAREST_INT));
	return i;
}
#endif

void kvt_half_from_float(const float *value, uint16_t *out, size_t n)
{
	size_t i = 0;
#ifdef __x86_64__
	if (has_f16c())
		i = narrow_wide(value, out, n);
#endif
	for (; i < n; i++)
		out[i] = narrow(value[i]);
}
