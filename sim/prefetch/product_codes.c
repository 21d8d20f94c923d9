/* product_codes.c: k-means over a few channels at a time, codes, and tables of products. */
#include "sim/prefetch/product_codes.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "sim/base/rng.h"

enum { CHANNELS = KVT_PRODUCT_CHANNELS, WORDS = KVT_PRODUCT_WORDS, LANES = 4, ROUNDS = 8 };

typedef float lanes __attribute__((vector_size(16)));
typedef int32_t masks __attribute__((vector_size(16)));

/* The words of a part, four to a vector. */
typedef struct part_words {
	lanes word[CHANNELS][WORDS / LANES];
	lanes half_square[WORDS / LANES]; /* of each word */
} part_words;

struct kvt_product_coder {
	uint32_t head_dim;
	part_words parts[];
};

static void set_words(part_words *part, const float words[CHANNELS][WORDS])
{
	memcpy(part->word, words, sizeof(part->word));
	for (unsigned v = 0; v < WORDS / LANES; v++) {
		lanes square = { 0 };
		for (unsigned c = 0; c < CHANNELS; c++)
			square += part->word[c][v] * part->word[c][v];
		part->half_square[v] = square * 0.5f;
	}
}

static lanes choose(masks mask, lanes yes, lanes no)
{
	return (lanes)(((masks)yes & mask) | ((masks)no & ~mask));
}

/* The word nearest to x, the lowest number of several: the largest x.w - w.w / 2. */
static unsigned nearest(const part_words *part, const float *x, unsigned n_words)
{
	const lanes none = { -INFINITY, -INFINITY, -INFINITY, -INFINITY };
	lanes best = none;
	masks at = { 0 };
	for (unsigned v = 0; v < (n_words + LANES - 1) / LANES; v++) {
		lanes near = x[0] * part->word[0][v];
		for (unsigned c = 1; c < CHANNELS; c++)
			near += x[c] * part->word[c][v];
		near -= part->half_square[v];
		masks better = near > best, here = { (int)v, (int)v, (int)v, (int)v };
		best = choose(better, near, best);
		at = (at & ~better) | (here & better);
	}
	unsigned word = 0;
	float most = -INFINITY;
	for (unsigned lane = 0; lane < LANES; lane++) {
		unsigned number = (unsigned)at[lane] * LANES + lane;
		if (best[lane] > most || (best[lane] == most && number < word)) {
			most = best[lane];
			word = number;
		}
	}
	return word;
}

static float distance(const float *x, const float *y)
{
	float sum = 0;
	for (unsigned c = 0; c < CHANNELS; c++)
		sum += (x[c] - y[c]) * (x[c] - y[c]);
	return sum;
}

/* Words from n_words on are the first one, so that no key is nearest to them. */
static void copy_first(uint32_t n_words, float words[CHANNELS][WORDS])
{
	for (unsigned c = 0; c < CHANNELS; c++)
		for (uint32_t w = n_words; w < WORDS; w++)
			words[c][w] = words[c][0];
}

/* First words, each a point that is likely as it is far from the words there are (k-means++). */
static void seed_words(const float *points, uint32_t n, uint32_t n_words, kvt_rng *rng,
	float words[CHANNELS][WORDS])
{
	g_autofree float *apart = g_new(float, n);
	const float *word = points + CHANNELS * kvt_rng_below(rng, n);
	for (uint32_t i = 0; i < n; i++)
		apart[i] = INFINITY;
	for (uint32_t w = 0; w < n_words; w++) {
		double total = 0;
		for (unsigned c = 0; c < CHANNELS; c++)
			words[c][w] = word[c];
		for (uint32_t i = 0; i < n; i++) {
			float d = distance(points + (size_t)i * CHANNELS, word);
			apart[i] = d < apart[i] ? d : apart[i];
			total += (double)apart[i];
		}
		double left = kvt_rng_uniform(rng) * total;
		uint32_t i = 0;
		for (; i < n - 1 && left >= (double)apart[i]; i++)
			left -= (double)apart[i];
		word = points + (size_t)i * CHANNELS;
	}
	copy_first(n_words, words);
}

/* Lloyd's rounds; a word that no point is near to stays where it is. */
static void improve_words(
	const float *points, uint32_t n, uint32_t n_words, float words[CHANNELS][WORDS])
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		double sum[CHANNELS][WORDS] = { { 0 } };
		uint32_t count[WORDS] = { 0 };
		part_words part;
		set_words(&part, words);
		for (uint32_t i = 0; i < n; i++) {
			const float *x = points + (size_t)i * CHANNELS;
			unsigned word = nearest(&part, x, n_words);
			count[word]++;
			for (unsigned c = 0; c < CHANNELS; c++)
				sum[c][word] += (double)x[c];
		}
		for (unsigned c = 0; c < CHANNELS; c++) {
			for (uint32_t w = 0; w < n_words; w++)
				if (count[w] > 0)
					words[c][w] = (float)(sum[c][w] / count[w]);
		}
		copy_first(n_words, words);
	}
}

void kvt_product_train(uint32_t head_dim, const float *keys, uint32_t n_tokens, uint32_t n_words,
	uint64_t seed, uint16_t *book)
{
	uint32_t stride = (n_tokens + KVT_PRODUCT_SAMPLE - 1) / KVT_PRODUCT_SAMPLE;
	uint32_t n = (n_tokens + stride - 1) / stride;
	g_autofree float *points = g_new(float, (size_t)n *CHANNELS);
	float words[CHANNELS][WORDS];
	for (uint32_t part = 0; part < kvt_product_code_bytes(head_dim); part++) {
		for (uint32_t i = 0; i < n; i++)
			memcpy(points + (size_t)i * CHANNELS,
				keys + (size_t)i * stride * head_dim + part * CHANNELS,
				CHANNELS * sizeof(float));
		kvt_rng rng = kvt_rng_init(seed, kvt_rng_stream_id("prefetch.pq", part));
		seed_words(points, n, n_words, &rng, words);
		improve_words(points, n, n_words, words);
		kvt_elements_from_float(KVT_ELEMENT_F16, (float *)words, CHANNELS * (size_t)WORDS,
			book + (size_t)part * CHANNELS * WORDS);
	}
}

static void read_words(const uint16_t *book, uint32_t part, float words[CHANNELS][WORDS])
{
	kvt_elements_to_float(KVT_ELEMENT_F16, book + (size_t)part * CHANNELS * WORDS,
		CHANNELS * (size_t)WORDS, (float *)words);
}

kvt_product_coder *kvt_product_coder_new(uint32_t head_dim, const uint16_t *book)
{
	size_t n_parts = kvt_product_code_bytes(head_dim);
	kvt_product_coder *coder =
		g_malloc(sizeof(kvt_product_coder) + n_parts * sizeof(part_words));
	coder->head_dim = head_dim;
	float words[CHANNELS][WORDS];
	for (uint32_t part = 0; part < n_parts; part++) {
		read_words(book, part, words);
		set_words(&coder->parts[part], words);
	}
	return coder;
}

void kvt_product_encode(
	const kvt_product_coder *coder, const float *keys, uint32_t n_tokens, uint8_t *codes)
{
	uint32_t n_parts = (uint32_t)kvt_product_code_bytes(coder->head_dim);
	for (uint32_t part = 0; part < n_parts; part++)
		for (uint32_t t = 0; t < n_tokens; t++)
			codes[(size_t)t * n_parts + part] = (uint8_t)nearest(&coder->parts[part],
				keys + (size_t)t * coder->head_dim + part * CHANNELS, WORDS);
}

void kvt_product_decode(uint32_t head_dim, const uint16_t *book, const uint8_t *code, float *key)
{
	float words[CHANNELS][WORDS];
	for (uint32_t part = 0; part < kvt_product_code_bytes(head_dim); part++) {
		read_words(book, part, words);
		for (unsigned c = 0; c < CHANNELS; c++)
			key[part * CHANNELS + c] = words[c][code[part]];
	}
}

void kvt_product_tables(uint32_t head_dim, const uint16_t *book, const float *query, float *table)
{
	float words[CHANNELS][WORDS];
	for (uint32_t part = 0; part < kvt_product_code_bytes(head_dim); part++) {
		const float *q = query + part * CHANNELS;
		float *out = table + (size_t)part * WORDS;
		read_words(book, part, words);
		for (unsigned w = 0; w < WORDS; w++)
			out[w] = (q[0] * words[0][w] + q[1] * words[1][w]) +
				 (q[2] * words[2][w] + q[3] * words[3][w]);
	}
}

void kvt_product_score(
	uint32_t n_parts, const float *table, const uint8_t *codes, uint32_t n, float *products)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *code = codes + (size_t)i * n_parts;
		/* two sums, because an addition takes longer than a look-up */
		float even = 0, odd = 0;
		for (uint32_t part = 0; part + 1 < n_parts; part += 2) {
			even += table[part * WORDS + code[part]];
			odd += table[(part + 1) * WORDS + code[part + 1]];
		}
		if (n_parts % 2)
			even += table[(n_parts - 1) * WORDS + code[n_parts - 1]];
		products[i] = even + odd;
	}
}
