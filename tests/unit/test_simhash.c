/* test_simhash.c: SimHash codes against theory: collisions, the estimate's mean and variance,
 * MagicPIG's sampling probabilities; variants to the last bit; hostile input. */
#include <errno.h>
#include <glib.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernels/kernels.h"
#include "sim/base/rng.h"

enum { TOKENS = KVT_CODE_TOKENS, BITS_MAX = KVT_SIMHASH_BITS_MAX, HEADS = 6 };

static kvt_simhash new_hash(uint32_t dim, uint32_t n_bits, uint64_t seed)
{
	kvt_simhash hash;
	g_assert_cmpint(kvt_simhash_init(
				&hash, dim, n_bits, seed, g_malloc(kvt_simhash_bytes(dim, n_bits))),
		==, 0);
	return hash;
}

static void random_vector(kvt_rng *rng, uint32_t dim, float *x)
{
	for (uint32_t i = 0; i < dim; i++)
		x[i] = (float)kvt_rng_normal(rng);
}

static double dot(const float *a, const float *b, uint32_t dim)
{
	double sum = 0;
	for (uint32_t i = 0; i < dim; i++)
		sum += (double)a[i] * b[i];
	return sum;
}

/* b becomes a unit vector at the given cosine to the unit vector a. */
static void vectors_at(kvt_rng *rng, uint32_t dim, double cosine, float *a, float *b)
{
	random_vector(rng, dim, a);
	random_vector(rng, dim, b);
	double norm = sqrt(dot(a, a, dim));
	for (uint32_t i = 0; i < dim; i++)
		a[i] /= (float)norm;
	double along = dot(a, b, dim);
	for (uint32_t i = 0; i < dim; i++)
		b[i] -= (float)along * a[i];
	norm = sqrt(dot(b, b, dim));
	for (uint32_t i = 0; i < dim; i++)
		b[i] = (float)(cosine * a[i] + sqrt(1 - cosine * cosine) * b[i] / norm);
}

/* The projection is normal: mean, variance and kurtosis, and rows do not depend on one another. */
static void test_projection(void)
{
	enum { DIM = 512 };
	kvt_simhash hash = new_hash(DIM, BITS_MAX, 1);
	double sum[5] = { 0 }, n = (double)DIM * BITS_MAX, product = 0;
	for (size_t i = 0; i < (size_t)DIM * BITS_MAX; i++) {
		double x = hash.projection[i], power = 1;
		for (int k = 0; k < 5; k++, power *= x)
			sum[k] += power;
		product += i ? x * hash.projection[i - 1] : 0;
	}
	g_assert_cmpfloat(fabs(sum[1] / n), <, 5 / sqrt(n));
	g_assert_cmpfloat(fabs(sum[2] / n - 1), <, 5 * sqrt(2 / n));
	g_assert_cmpfloat(fabs(sum[3] / n), <, 5 * sqrt(15 / n));
	g_assert_cmpfloat(fabs(sum[4] / n - 3), <, 5 * sqrt(96 / n));
	g_assert_cmpfloat(fabs(product / n), <, 5 / sqrt(n));
	kvt_simhash again = new_hash(DIM, BITS_MAX, 1), other = new_hash(DIM, BITS_MAX, 2);
	size_t bytes = kvt_simhash_bytes(DIM, BITS_MAX);
	g_assert_cmpmem(hash.projection, bytes, again.projection, bytes);
	g_assert_cmpint(memcmp(hash.projection, other.projection, bytes), !=, 0);
	g_free(hash.projection);
	g_free(again.projection);
	g_free(other.projection);
}

/* How often bits agree, and hashes of K bits: 1 - theta / pi, and that to the K. */
static void test_collisions(void)
{
	enum { DIM = 64, SEEDS = 40 };
	static const double cosines[] = { -0.7, 0, 0.3, 0.6, 0.9 };
	double bits[5] = { 0 }, hashes[5] = { 0 };
	kvt_rng rng = kvt_rng_init(21, 0);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		kvt_simhash hash = new_hash(DIM, BITS_MAX, seed);
		for (size_t c = 0; c < G_N_ELEMENTS(cosines); c++) {
			float a[DIM], b[DIM];
			uint32_t sa[BITS_MAX / 32], sb[BITS_MAX / 32];
			vectors_at(&rng, DIM, cosines[c], a, b);
			kvt_simhash_signs(&hash, a, sa);
			kvt_simhash_signs(&hash, b, sb);
			for (uint32_t w = 0; w < BITS_MAX / 32; w++) {
				uint32_t same = ~(sa[w] ^ sb[w]);
				bits[c] += __builtin_popcount(same);
				for (int k = 0; k < 32; k += 4)
					hashes[c] += (same >> k & 15) == 15;
			}
		}
		g_free(hash.projection);
	}
	for (size_t c = 0; c < G_N_ELEMENTS(cosines); c++) {
		double p = 1 - acos(cosines[c]) / G_PI, p4 = p * p * p * p;
		double n = (double)SEEDS * BITS_MAX;
		g_assert_cmpfloat(fabs(kvt_simhash_collision(cosines[c]) - p), <, 1e-12);
		g_assert_cmpfloat(fabs(bits[c] / n - p), <, 4 * sqrt(p * (1 - p) / n));
		g_assert_cmpfloat(
			fabs(hashes[c] / (n / 4) - p4), <, 4 * sqrt(p4 * (1 - p4) / (n / 4)));
	}
}

/* MagicPIG's table, K = 10 and L = 150. */
static void test_sampled(void)
{
	static const double table[][2] = { { 0, 0.0097 }, { 0.2, 0.0867 }, { 0.3, 0.2137 },
		{ 0.5, 0.7356 }, { 0.6, 0.9434 }, { 0.8, 1.0 } };
	for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
		g_assert_cmpfloat(
			fabs(kvt_simhash_sampled(table[i][0], 10, 150) - table[i][1]), <, 0.00006);
	g_assert_cmpfloat(kvt_simhash_sampled(1, 10, 150), ==, 1);
	g_assert_cmpfloat(kvt_simhash_sampled(-1, 10, 150), ==, 0);
	/* two of two tables: both */
	g_assert_cmpfloat(fabs(kvt_simhash_sampled(0, 1, 2) - 0.25), <, 1e-12);
}

typedef struct scored {
	void *memory;
	kvt_simhash_query query;
} scored;

static scored prepare(const kvt_simhash *hash, uint32_t n_heads, const float *queries, float scale)
{
	scored s;
	s.memory = aligned_alloc(
		64, (kvt_simhash_query_bytes(hash->n_bits, n_heads) + 63) & ~(size_t)63);
	g_assert_cmpint(kvt_simhash_query_init(&s.query, hash->n_bits, n_heads, s.memory), ==, 0);
	g_assert_cmpint(kvt_simhash_query_set(&s.query, hash, queries, scale), ==, 0);
	return s;
}

/* What the code says of a token's product with the query. */
static double estimate(const uint8_t *code, const scored *s, unsigned token)
{
	double product = 0;
	for (uint32_t j = 0; j < s->query.n_bits; j++)
		product += (kvt_simhash_bit(code, token, j) ? 1 : -1) * s->query.weight[j];
	return product * kvt_simhash_norm(code, s->query.n_bits, token) * s->query.factor[0] /
	       0x1p23 * G_LN2;
}

static const double cosines[TOKENS] = { 0, 0.5, 0.9, -0.3, 1, -1, 0.2, 0.7, 0.05, 0.95, 0.4, -0.6,
	0.8, 0.1, 0.3, 0.6 };

/* Of estimates over projections, as shares of the norms' product, [t] at cosines[t]. */
static void estimate_moments(uint32_t n_seeds, bool orthogonal, double *mean, double *variance)
{
	enum { DIM = 64, BITS = 128 };
	double sum[TOKENS] = { 0 }, square[TOKENS] = { 0 };
	kvt_rng rng = kvt_rng_init(22, 0);
	float query[DIM], keys[TOKENS * DIM];
	random_vector(&rng, DIM, query);
	double query_norm = sqrt(dot(query, query, DIM));
	for (unsigned t = 0; t < TOKENS; t++) {
		float *key = keys + t * DIM;
		random_vector(&rng, DIM, key);
		double along = dot(query, key, DIM) / query_norm;
		for (uint32_t i = 0; i < DIM; i++)
			key[i] -= (float)(along / query_norm) * query[i];
		double across = sqrt(1 - cosines[t] * cosines[t]) / sqrt(dot(key, key, DIM));
		/* of norm 1 + t */
		for (uint32_t i = 0; i < DIM; i++)
			key[i] = (float)((1 + t) *
					 (cosines[t] * query[i] / query_norm + across * key[i]));
	}
	uint8_t code[2 * BITS + 32];
	for (uint64_t seed = 0; seed < n_seeds; seed++) {
		kvt_simhash hash = new_hash(DIM, BITS, seed);
		if (orthogonal)
			kvt_simhash_orthogonalise(&hash);
		scored s = prepare(&hash, 1, query, 1);
		g_assert_cmpint(
			kvt_simhash_build(&hash, KVT_ELEMENT_F32, keys, sizeof(query), NULL, code),
			==, 0);
		for (unsigned t = 0; t < TOKENS; t++) {
			double e = estimate(code, &s, t) / (query_norm * (1 + t));
			sum[t] += e;
			square[t] += e * e;
		}
		free(s.memory);
		g_free(hash.projection);
	}
	for (unsigned t = 0; t < TOKENS; t++) {
		mean[t] = sum[t] / n_seeds;
		variance[t] = square[t] / n_seeds - mean[t] * mean[t];
	}
}

/* The estimate's mean and variance against theory. */
static void test_estimate(void)
{
	enum { BITS = 128, SEEDS = 500 };
	double mean[TOKENS], variance[TOKENS];
	estimate_moments(SEEDS, false, mean, variance);
	for (unsigned t = 0; t < TOKENS; t++) {
		double theory = (G_PI / 2 - cosines[t] * cosines[t]) / BITS;
		/* half-precision norms and 8-bit queries are within 0.1% */
		g_assert_cmpfloat(
			fabs(mean[t] - cosines[t]), <, 4.5 * sqrt(theory / SEEDS) + 0.001);
		g_assert_cmpfloat(fabs(variance[t] / theory - 1), <, 4.5 * sqrt(2.0 / SEEDS));
	}
}

/* With orthogonal projections: no bias either, and less variance. */
static void test_orthogonal(void)
{
	enum { DIM = 48, BITS = 128, SEEDS = 500 };
	kvt_simhash hash = new_hash(DIM, BITS, 3);
	kvt_simhash_orthogonalise(&hash);
	double length = 0;
	for (uint32_t a = 0; a < BITS; a++)
		for (uint32_t b = a; b < BITS; b++) {
			double sum = 0;
			for (uint32_t i = 0; i < DIM; i++)
				sum += (double)hash.projection[i * BITS + a] *
				       (double)hash.projection[i * BITS + b];
			length = length > 0 ? length : sum;
			if (a / DIM == b / DIM)
				g_assert_cmpfloat(fabs(sum - (a == b ? length : 0)), <, 1e-4 * DIM);
		}
	/* E |u_1| = sqrt(2 / pi n) (1 + 1 / 4n ...), against sqrt(2 / pi) */
	g_assert_cmpfloat(fabs(sqrt(length / DIM) - 1 + 0.25 / DIM), <, 0.001);
	g_free(hash.projection);
	double mean[TOKENS], variance[TOKENS];
	estimate_moments(SEEDS, true, mean, variance);
	for (unsigned t = 0; t < TOKENS; t++) {
		double theory = (G_PI / 2 - 1 - cosines[t] * cosines[t] / 2) / BITS;
		g_assert_cmpfloat(
			fabs(mean[t] - cosines[t]), <, 4.5 * sqrt(theory / SEEDS) + 0.001);
		/* the theory is that of many dimensions */
		g_assert_cmpfloat(
			fabs(variance[t] / theory - 1), <, 4.5 * sqrt(2.0 / SEEDS) + 0.03);
	}
}

/* Scores are the sums of e^estimate, but for powers that are up to 6% high. */
static void test_scores(void)
{
	enum { DIM = 64, BITS = 128, PAGES = 30 };
	kvt_rng rng = kvt_rng_init(23, 0);
	kvt_simhash hash = new_hash(DIM, BITS, 7);
	float query[DIM], keys[TOKENS * DIM], centre[DIM], sums[PAGES];
	uint8_t codes[PAGES * (2 * BITS + 32)];
	g_assert_cmpuint(kvt_simhash_page_bytes(BITS), ==, 18 * TOKENS);
	random_vector(&rng, DIM, query);
	random_vector(&rng, DIM, centre);
	for (uint32_t page = 0; page < PAGES; page++) {
		random_vector(&rng, TOKENS * DIM, keys);
		kvt_simhash_build(&hash, KVT_ELEMENT_F32, keys, sizeof(query), centre,
			codes + page * kvt_simhash_page_bytes(BITS));
	}
	scored s = prepare(&hash, 1, query, 0.125f);
	kvt_page_list all = { .n = PAGES };
	g_assert_cmpint(
		kvt_simhash_score(KVT_ISA_SCALAR, codes, &s.query, &all, sums, PAGES), ==, 0);
	for (uint32_t page = 0; page < PAGES; page++) {
		double exact = 0;
		for (unsigned t = 0; t < TOKENS; t++)
			exact += exp(estimate(codes + page * kvt_simhash_page_bytes(BITS), &s, t));
		g_assert_cmpfloat(sums[page], >, exact * 0.999);
		g_assert_cmpfloat(sums[page], <, exact * 1.062);
	}
	free(s.memory);
	g_free(hash.projection);
}

/* Every variant, over ranges and lists, of any bytes and queries of any size: the same bits. */
static void check_variants(kvt_rng *rng, uint32_t n_bits, uint32_t n_heads, float size)
{
	enum { PAGES = 22, DIM = 24 };
	kvt_simhash hash = new_hash(DIM, n_bits, n_bits);
	size_t bytes = PAGES * kvt_simhash_page_bytes(n_bits);
	g_autofree uint8_t *codes = g_malloc(bytes);
	for (size_t i = 0; i < bytes; i++)
		codes[i] = (uint8_t)kvt_rng_below(rng, 256);
	float queries[HEADS * DIM], found[HEADS * PAGES], expected[HEADS * PAGES];
	random_vector(rng, HEADS * DIM, queries);
	for (uint32_t i = 0; i < HEADS * DIM; i++)
		queries[i] *= size;
	scored s = prepare(&hash, n_heads, queries, 0.1f);
	uint32_t ids[PAGES];
	for (uint32_t i = 0; i < PAGES; i++)
		ids[i] = (uint32_t)kvt_rng_below(rng, PAGES);
	kvt_page_list lists[] = { { .n = PAGES }, { .n = 7, .first = 5 },
		{ .n = PAGES, .ids = ids }, { .n = 0 } };
	for (size_t l = 0; l < G_N_ELEMENTS(lists); l++)
		for (kvt_isa isa = KVT_ISA_SCALAR; isa < KVT_ISA_COUNT; isa++) {
			memset(found, 0, sizeof(found));
			memset(expected, 0, sizeof(expected));
			g_assert_cmpint(kvt_simhash_score(KVT_ISA_SCALAR, codes, &s.query,
						&lists[l], expected, PAGES),
				==, 0);
			int status =
				kvt_simhash_score(isa, codes, &s.query, &lists[l], found, PAGES);
			g_assert_cmpint(status, ==, kvt_isa_supported(isa) ? 0 : -ENOTSUP);
			if (status == 0)
				g_assert_cmpmem(found, sizeof(found), expected, sizeof(expected));
			for (uint32_t i = 0; i < n_heads * PAGES; i++)
				g_assert_true(isfinite(found[i]));
		}
	free(s.memory);
	g_free(hash.projection);
}

static void test_variants(void)
{
	kvt_rng rng = kvt_rng_init(24, 0);
	static const uint32_t bits[] = { 32, 64, 96, 128, 256, 512 };
	for (size_t i = 0; i < G_N_ELEMENTS(bits); i++)
		for (uint32_t heads = 1; heads <= HEADS; heads++)
			check_variants(&rng, bits[i], heads, 0.01f);
	static const float sizes[] = { 0, 1e-30f, 1e-6f, 1, 1e5f, 1e18f, 1e30f, INFINITY, NAN };
	for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++)
		check_variants(&rng, 128, 4, sizes[i]);
}

static void test_hostile(void)
{
	enum { DIM = 32, BITS = 64 };
	kvt_simhash hash = new_hash(DIM, BITS, 0);
	float keys[TOKENS * DIM];
	uint8_t code[2 * BITS + 32];
	kvt_rng rng = kvt_rng_init(25, 0);
	random_vector(&rng, TOKENS * DIM, keys);
	keys[0] = NAN;
	keys[40] = INFINITY;
	keys[70] = 3e38f;
	keys[100] = 1e9f;
	g_assert_cmpint(
		kvt_simhash_build(&hash, KVT_ELEMENT_F32, keys, DIM * sizeof(float), NULL, code),
		==, 3);
	for (unsigned t = 0; t < TOKENS; t++)
		g_assert_true(isfinite(kvt_simhash_norm(code, BITS, t)));
	g_assert_cmpfloat(kvt_simhash_norm(code, BITS, 3), ==, 65504);
	g_assert_cmpfloat(fabs(kvt_simhash_norm(code, BITS, 5) /
					  sqrt(dot(keys + 5 * DIM, keys + 5 * DIM, DIM)) -
				  1),
		<, 0.0005);
	kvt_simhash bad;
	kvt_simhash_query query;
	g_assert_cmpint(kvt_simhash_init(&bad, 0, 64, 0, keys), ==, -EINVAL);
	g_assert_cmpint(kvt_simhash_init(&bad, 513, 64, 0, keys), ==, -EINVAL);
	g_assert_cmpint(kvt_simhash_init(&bad, 64, 48, 0, keys), ==, -EINVAL);
	g_assert_cmpint(kvt_simhash_init(&bad, 64, BITS_MAX + 32, 0, keys), ==, -EINVAL);
	g_assert_cmpint(kvt_simhash_query_init(&query, 0, 1, keys), ==, -EINVAL);
	g_assert_cmpint(kvt_simhash_query_init(&query, 64, 0, keys), ==, -EINVAL);
	g_assert_cmpint(
		kvt_simhash_query_init(&query, 64, KVT_CODE_HEADS_MAX + 1, keys), ==, -EINVAL);
	scored s = prepare(&hash, 1, keys, 1);
	kvt_simhash wider = new_hash(DIM, 2 * BITS, 0);
	g_assert_cmpint(kvt_simhash_query_set(&s.query, &wider, keys, 1), ==, -EINVAL);
	kvt_page_list one = { .n = 1 };
	float sum;
	g_assert_cmpint(
		kvt_simhash_score(KVT_ISA_COUNT, code, &s.query, &one, &sum, 1), ==, -ENOTSUP);
	free(s.memory);
	g_free(wider.projection);
	g_free(hash.projection);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/simhash/projection", test_projection);
	g_test_add_func("/simhash/collisions", test_collisions);
	g_test_add_func("/simhash/sampled", test_sampled);
	g_test_add_func("/simhash/estimate", test_estimate);
	g_test_add_func("/simhash/orthogonal", test_orthogonal);
	g_test_add_func("/simhash/scores", test_scores);
	g_test_add_func("/simhash/variants", test_variants);
	g_test_add_func("/simhash/hostile", test_hostile);
	return g_test_run();
}
