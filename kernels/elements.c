/* elements.c: numbers of keys, as they lie in a cache, to floats and back. Portable bit code that
 * compilers vectorise. */
#include "kernels/kernels.h"

#include <string.h>

static float from_bits(uint32_t bits)
{
	float value;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

static void from_f16(const uint16_t *half, size_t n, float *out)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t sign = (uint32_t)(half[i] & 0x8000) << 16;
		uint32_t magnitude = half[i] & 0x7fff;
		/* a product by 2^112 moves the exponent, and makes subnormal numbers right */
		float scaled = from_bits(magnitude << 13) * 0x1p112f;
		uint32_t bits;
		memcpy(&bits, &scaled, sizeof(bits));
		if (magnitude >= 0x7c00)
			bits = 0x7f800000 | magnitude << 13;
		out[i] = from_bits(bits | sign);
	}
}

static void from_bf16(const uint16_t *upper, size_t n, float *out)
{
	for (size_t i = 0; i < n; i++)
		out[i] = from_bits((uint32_t)upper[i] << 16);
}

static void from_e4m3(const uint8_t *byte, size_t n, float *out)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t sign = (uint32_t)(byte[i] & 0x80) << 24, magnitude = byte[i] & 0x7f;
		float scaled = from_bits(magnitude << 20) * 0x1p120f;
		uint32_t bits;
		memcpy(&bits, &scaled, sizeof(bits));
		if (magnitude == 0x7f)
			bits = 0x7fc00000;
		out[i] = from_bits(bits | sign);
	}
}

void kvt_elements_to_float(kvt_element element, const void *numbers, size_t n, float *out)
{
	if (element == KVT_ELEMENT_F32)
		memcpy(out, numbers, n * sizeof(float));
	else if (element == KVT_ELEMENT_E4M3)
		from_e4m3(numbers, n, out);
	else if (element == KVT_ELEMENT_F16)
		from_f16(numbers, n, out);
	else
		from_bf16(numbers, n, out);
}

static uint32_t to_bits(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static void to_f16(const float *numbers, size_t n, uint16_t *half)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t bits = to_bits(numbers[i]), sign = bits >> 16 & 0x8000;
		bits &= 0x7fffffff;
		if (bits < 0x38800000) {
			/* subnormal: adding 1/2 leaves units of 2^-24 in the lowest bits, rounded
			 */
			bits = to_bits(from_bits(bits) + 0.5f) - 0x3f000000;
		} else if (bits > 0x7f800000) {
			bits = 0x7e00;
		} else {
			bits = (bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13;
			bits = bits > 0x7c00 ? 0x7c00 : bits;
		}
		half[i] = (uint16_t)(sign | bits);
	}
}

static void to_bf16(const float *numbers, size_t n, uint16_t *upper)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t bits = to_bits(numbers[i]);
		if ((bits & 0x7fffffff) > 0x7f800000)
			bits |= 0x400000;
		else
			bits += 0x7fff + (bits >> 16 & 1);
		upper[i] = (uint16_t)(bits >> 16);
	}
}

static void to_e4m3(const float *numbers, size_t n, uint8_t *byte)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t bits = to_bits(numbers[i]), sign = bits >> 24 & 0x80;
		bits &= 0x7fffffff;
		if (bits > 0x7f800000) {
			bits = 0x7f;
		} else if (bits < 0x3c800000) {
			/* subnormal: adding 2^14 leaves units of 2^-9 in the lowest bits, rounded
			 */
			bits = to_bits(from_bits(bits) + 0x1p14f) - 0x46800000;
		} else {
			bits = (bits - 0x3c000000 + 0x7ffff + (bits >> 20 & 1)) >> 20;
			bits = bits > 0x7e ? 0x7e : bits;
		}
		byte[i] = (uint8_t)(sign | bits);
	}
}

void kvt_elements_from_float(kvt_element element, const float *numbers, size_t n, void *out)
{
	if (element == KVT_ELEMENT_F32)
		memcpy(out, numbers, n * sizeof(float));
	else if (element == KVT_ELEMENT_E4M3)
		to_e4m3(numbers, n, out);
	else if (element == KVT_ELEMENT_F16)
		to_f16(numbers, n, out);
	else
		to_bf16(numbers, n, out);
}
