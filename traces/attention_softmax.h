/*
 * attention_softmax.h: the arithmetic of recomputing attention masses, on a chunk of keys that fits
 * in cache: logits, exponentials, sums by page. It knows arrays only, no trace and no file.
 */
#ifndef KVT_ATTENTION_SOFTMAX_H
#define KVT_ATTENTION_SOFTMAX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	KVT_SOFTMAX_LANES = 16,  /* tokens of a tile */
	KVT_SOFTMAX_QUERIES = 4, /* queries that one call takes */
};

/* Writes token-major halves[tokens][dim] as tiles[ceil(tokens / 16)][dim][16] floats, zeros behind
 * the last token. Returns the index of the first token that holds NaN or infinity, or `tokens`. */
size_t kvt_softmax_tile(const uint16_t *halves, size_t tokens, size_t dim, float *tiles);

/*
 * Logits of 4 queries against `count` tiles: queries[dim][4] with the scale already in them,
 * logits[4][count x 16]. `narrow` keeps to the vectors that every machine has (for tests: the
 * result is the same).
 */
void kvt_softmax_logits(const float *tiles, size_t count, size_t dim, const float *queries,
	float *logits, bool narrow);

/*
 * Turns logits[tokens] of one query into exp(logit - max), summed by page: sums[i] is that of the
 * i-th block_tokens tokens. Only tokens low <= t < high count, high <= tokens. Returns the max,
 * -INFINITY when no token counts. The array is overwritten up to the next multiple of 16 tokens.
 */
float kvt_softmax_sum_pages(float *logits, size_t tokens, size_t low, size_t high,
	size_t block_tokens, float *sums, bool narrow);

/* Turns values[n] into exp(value - largest) in place; the array has room for n rounded up to a
 * multiple of 16. The same bits on every machine, which exp() of libm does not promise. */
void kvt_softmax_relative(float *values, size_t n);

#endif
