/*
 * octaves.h: logarithms of integers by integer arithmetic, so that what is learnt from ratios is
 * the same on every machine. A factor is a number of octaves x KVT_OCTAVE.
 */
#ifndef KVT_OCTAVES_H
#define KVT_OCTAVES_H

#include <stdint.h>

enum { KVT_OCTAVE = 256 };

/* x 2^(octaves / KVT_OCTAVE), to a 16th of an octave, rounded down. x below 2^32, octaves from -16
 * to 15 times KVT_OCTAVE. */
static inline uint64_t kvt_octaves_scale(uint64_t x, int octaves)
{
	/* 2^(i / 16) in units of 2^-15 */
	static const uint32_t sixteenths[16] = { 32768, 34219, 35734, 37316, 38968, 40693, 42495,
		44376, 46341, 48393, 50535, 52773, 55109, 57549, 60097, 62757 };
	int whole = octaves >> 8;
	uint64_t scaled = x * sixteenths[octaves >> 4 & 15];
	return whole >= 0 ? scaled << whole >> 15 : scaled >> (15 - whole);
}

/* The binary logarithm x KVT_OCTAVE, low by at most 5 of these; x > 0. */
static inline int kvt_octaves_of(uint64_t x)
{
	int whole = 63 - __builtin_clzll(x);
	int fraction = (int)((whole >= 8 ? x >> (whole - 8) : x << (8 - whole)) & 255);
	return whole * KVT_OCTAVE + fraction + (88 * fraction * (KVT_OCTAVE - fraction) >> 16);
}

#endif
