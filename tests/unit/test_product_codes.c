/* test_product_codes.c: product codes of keys: more words, less error; nearest words and products
 * against naive arithmetic; the same book for the same keys. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "sim/base/rng.h"
#include "sim/prefetch/product_codes.h"

enum { DIM = 32, TOKENS = 1500, CODE = DIM / KVT_PRODUCT_CHANNELS, WORDS = KVT_PRODUCT_WORDS };

/* Keys around a few places, far from the origin. */
static float *make_keys(uint64_t seed)
{
	float *keys = g_new(float, TOKENS *DIM);
	kvt_rng rng = kvt_rng_init(seed, 0);
	float places[12][DIM];
	for (uint32_t place = 0; place < 12; place++)
		for (uint32_t i = 0; i < DIM; i++)
			places[place][i] = 4 + 2 * (float)kvt_rng_normal(&rng);
	for (uint32_t t = 0; t < TOKENS; t++) {
		const float *place = places[kvt_rng_below(&rng, 12)];
		for (uint32_t i = 0; i < DIM; i++)
			keys[t * DIM + i] = place[i] + 0.5f * (float)kvt_rng_normal(&rng);
	}
	return keys;
}

static uint16_t *make_book(const float *keys, uint32_t n_tokens, uint32_t n_words, uint64_t seed)
{
	uint16_t *book = g_malloc(kvt_product_book_bytes(DIM));
	kvt_product_train(DIM, keys, n_tokens, n_words, seed, book);
	return book;
}

static uint8_t *encode(const uint16_t *book, const float *keys, uint32_t n_tokens)
{
	uint8_t *codes = g_malloc((size_t)n_tokens * CODE);
	kvt_product_coder *coder = kvt_product_coder_new(DIM, book);
	kvt_product_encode(coder, keys, n_tokens, codes);
	g_free(coder);
	return codes;
}

/* Mean square of what codes lose. */
static double loss(const uint16_t *book, const float *keys, uint32_t n_tokens)
{
	g_autofree uint8_t *codes = encode(book, keys, n_tokens);
	double sum = 0;
	for (uint32_t t = 0; t < n_tokens; t++) {
		float back[DIM];
		kvt_product_decode(DIM, book, codes + t * CODE, back);
		for (uint32_t i = 0; i < DIM; i++)
			sum += pow((double)keys[t * DIM + i] - (double)back[i], 2);
	}
	return sum / n_tokens / DIM;
}

static void test_more_words(void)
{
	g_autofree float *keys = make_keys(1);
	double variance = 0, last = INFINITY;
	for (uint32_t i = 0; i < DIM; i++) {
		double mean = 0;
		for (uint32_t t = 0; t < TOKENS; t++)
			mean += (double)keys[t * DIM + i] / TOKENS;
		for (uint32_t t = 0; t < TOKENS; t++)
			variance += pow((double)keys[t * DIM + i] - mean, 2) / TOKENS / DIM;
	}
	for (uint32_t n_words = 1; n_words <= WORDS; n_words *= 2) {
		g_autofree uint16_t *book = make_book(keys, TOKENS, n_words, 5);
		double now = loss(book, keys, TOKENS);
		if (n_words == 1) /* the mean */
			g_assert_cmpfloat_with_epsilon(now, variance, 1e-3 * variance);
		g_assert_cmpfloat(now, <, 0.97 * last);
		last = now;
	}
	/* 12 places 2 apart, noise of 0.5: 256 words know the places, and part of the noise */
	g_assert_cmpfloat(last, <, 0.25 * 0.5);
}

static void test_deterministic(void)
{
	g_autofree float *keys = make_keys(2);
	size_t bytes = kvt_product_book_bytes(DIM);
	g_autofree uint16_t *a = make_book(keys, TOKENS, WORDS, 1), *b = NULL, *c = NULL;
	b = make_book(keys, TOKENS, WORDS, 1);
	c = make_book(keys, TOKENS, WORDS, 2);
	g_assert_cmpmem(a, bytes, b, bytes);
	g_assert_cmpint(memcmp(a, c, bytes), !=, 0);
}

/* Codes name the nearest words, and products are those with what codes stand for. */
static void test_codes(void)
{
	g_autofree float *keys = make_keys(3);
	g_autofree uint16_t *book = make_book(keys, TOKENS, 100, 1);
	g_autofree uint8_t *codes = encode(book, keys, TOKENS);
	float words[CODE][KVT_PRODUCT_CHANNELS][WORDS], query[DIM], table[CODE * WORDS];
	kvt_elements_to_float(KVT_ELEMENT_F16, book, (size_t)DIM * WORDS, (float *)words);
	kvt_rng rng = kvt_rng_init(8, 0);
	for (uint32_t i = 0; i < DIM; i++)
		query[i] = (float)kvt_rng_normal(&rng);
	g_autofree float *products = g_new(float, TOKENS);
	kvt_product_tables(DIM, book, query, table);
	kvt_product_score(CODE, table, codes, TOKENS, products);
	for (uint32_t t = 0; t < TOKENS; t++) {
		double product = 0;
		for (uint32_t part = 0; part < CODE; part++) {
			double apart[WORDS], least = INFINITY;
			unsigned code = codes[t * CODE + part];
			for (uint32_t w = 0; w < WORDS; w++) {
				apart[w] = 0;
				for (unsigned c = 0; c < KVT_PRODUCT_CHANNELS; c++)
					apart[w] +=
						pow((double)keys[t * DIM +
								 part * KVT_PRODUCT_CHANNELS + c] -
								(double)words[part][c][w],
							2);
				least = fmin(least, apart[w]);
			}
			/* differences of squares near 100 in single precision */
			g_assert_cmpfloat(apart[code], <=, least + 1e-4);
			g_assert_cmpuint(code, <, 100);
			for (unsigned c = 0; c < KVT_PRODUCT_CHANNELS; c++)
				product += (double)words[part][c][code] *
					   (double)query[part * KVT_PRODUCT_CHANNELS + c];
		}
		g_assert_cmpfloat_with_epsilon((double)products[t], product, 1e-4);
	}
}

/* Fewer tokens than words, and tokens that are all the same. */
static void test_few(void)
{
	g_autofree float *keys = make_keys(4);
	for (uint32_t n = 1; n <= 64; n *= 4) {
		g_autofree uint16_t *book = make_book(keys, n, WORDS, 1);
		/* half precision of numbers up to 16 */
		g_assert_cmpfloat(loss(book, keys, n), <, pow(0x1p-8, 2));
	}
	for (uint32_t i = 0; i < TOKENS * DIM; i++)
		keys[i] = (float)(i % DIM);
	g_autofree uint16_t *book = make_book(keys, TOKENS, WORDS, 1);
	g_assert_cmpfloat(loss(book, keys, TOKENS), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/product-codes/more-words", test_more_words);
	g_test_add_func("/product-codes/deterministic", test_deterministic);
	g_test_add_func("/product-codes/codes", test_codes);
	g_test_add_func("/product-codes/few", test_few);
	return g_test_run();
}
