/*
 * product_codes.h: product quantisation of keys (Jegou, Douze, Schmid, PAMI 2011): a byte for every
 * 4 channels names the nearest of up to 256 codewords, which k-means has found in a sample. Scores
 * are sums of table entries, one table of products with the query for every 4 channels.
 */
#ifndef KVT_PRODUCT_CODES_H
#define KVT_PRODUCT_CODES_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

enum {
	KVT_PRODUCT_CHANNELS = 4,
	KVT_PRODUCT_WORDS = 256,
	/* Tokens that k-means looks at, at most: spread evenly over the sample. */
	KVT_PRODUCT_SAMPLE = 4096,
};

/* Bytes of a token's code; codebooks have as many parts. head_dim is a multiple of 4. */
static inline size_t kvt_product_code_bytes(uint32_t head_dim)
{
	return head_dim / KVT_PRODUCT_CHANNELS;
}

/* Bytes of a codebook: words[part][channel][KVT_PRODUCT_WORDS] in half precision. */
static inline size_t kvt_product_book_bytes(uint32_t head_dim)
{
	return (size_t)head_dim * KVT_PRODUCT_WORDS * sizeof(uint16_t);
}

/*
 * Finds the first n_words words of each part, 1 to KVT_PRODUCT_WORDS; the others become copies of
 * word 0. keys[n_tokens][head_dim], n_tokens > 0. The same keys and seed give the same book.
 */
void kvt_product_train(uint32_t head_dim, const float *keys, uint32_t n_tokens, uint32_t n_words,
	uint64_t seed, uint16_t *book);

/* A book made ready for coding; freed by g_free. It does not refer to `book`. */
typedef struct kvt_product_coder kvt_product_coder;
kvt_product_coder *kvt_product_coder_new(uint32_t head_dim, const uint16_t *book);

/* codes[n_tokens][kvt_product_code_bytes] of keys[n_tokens][head_dim]: nearest words, the lowest
 * number where two are as near. */
void kvt_product_encode(
	const kvt_product_coder *coder, const float *keys, uint32_t n_tokens, uint8_t *codes);

/* What a code stands for: key[head_dim]. */
void kvt_product_decode(uint32_t head_dim, const uint16_t *book, const uint8_t *code, float *key);

/* table[part][KVT_PRODUCT_WORDS]: products of the query's channels with each word. */
void kvt_product_tables(uint32_t head_dim, const uint16_t *book, const float *query, float *table);

/* products[i] = the sum of table[part][code of the part] over n_parts bytes of the i-th of n codes;
 * sums are taken in one order on every machine. */
void kvt_product_score(
	uint32_t n_parts, const float *table, const uint8_t *codes, uint32_t n, float *products);

#endif
