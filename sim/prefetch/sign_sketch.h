/*
 * sign_sketch.h: the signs of a key along 128 random directions, and its norm: SimHash bits with
 * the sign-full estimate of products (QJL, arXiv 2406.03482). For unit directions u_j, uniform on
 * the sphere, and any q,
 *
 *	q.k = |k| / (128 c) x E[sum over j of sign(u_j.k) (u_j.q)],  c = E|u_j1| = E|u_j.x| / |x|,
 *
 * so the sum estimates the product without bias. The directions are orthogonal in blocks of
 * head_dim, which lowers the variance: below (pi / 2 |q|^2 |k|^2 - (q.k)^2) / 128.
 */
#ifndef KVT_SIGN_SKETCH_H
#define KVT_SIGN_SKETCH_H

#include <stddef.h>
#include <stdint.h>

enum { KVT_SIGN_BITS = 128, KVT_SIGN_BYTES = KVT_SIGN_BITS / 8, KVT_SIGN_WORDS = 256 };

/* directions[KVT_SIGN_BITS][head_dim] of length 1, the same for the same seed. */
void kvt_sign_directions(uint32_t head_dim, uint64_t seed, float *directions);

/* The bits of key[head_dim], bit j % 8 of byte j / 8 for direction j; returns its norm. */
float kvt_sign_build(
	uint32_t head_dim, const float *directions, const float *key, uint8_t bits[KVT_SIGN_BYTES]);

/* table[byte][KVT_SIGN_WORDS]: what each value of each byte of bits adds to the estimate of the
 * query's product with a key of norm 1. */
void kvt_sign_tables(uint32_t head_dim, const float *directions, const float *query, float *table);

/* The share of equal bits of two sketches is 1 - angle / pi on average. */
static inline uint32_t kvt_sign_equal_bits(const uint8_t *a, const uint8_t *b)
{
	uint32_t n = 0;
	for (unsigned i = 0; i < KVT_SIGN_BYTES; i++)
		n += 8 - (uint32_t)__builtin_popcount(a[i] ^ b[i]);
	return n;
}

#endif
