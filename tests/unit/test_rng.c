/* test_rng.c: Philox against its published vectors, and the distributions against theory. */
#include <glib.h>
#include <math.h>
#include <stdlib.h>

#include "sim/base/rng.h"

/* philox4x32-10 rows of kat_vectors, Random123 1.14 (D. E. Shaw Research). */
static void test_known_answers(void)
{
	static const struct {
		uint32_t counter[4], key[2], result[4];
	} vectors[] = {
		{ { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
		{ { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff }, { 0xffffffff, 0xffffffff },
			{ 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
		{ { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, { 0xa4093822, 0x299f31d0 },
			{ 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(vectors); i++) {
		const uint32_t *c = vectors[i].counter, *k = vectors[i].key, *r = vectors[i].result;
		kvt_rng rng =
			kvt_rng_init(k[0] | (uint64_t)k[1] << 32, c[2] | (uint64_t)c[3] << 32);
		rng.counter = c[0] | (uint64_t)c[1] << 32;
		g_assert_cmphex(kvt_rng_next(&rng), ==, r[0] | (uint64_t)r[1] << 32);
		g_assert_cmphex(kvt_rng_next(&rng), ==, r[2] | (uint64_t)r[3] << 32);
	}
}

/* Pinned, since a changed id would change every run of every seed. */
static void test_stream_ids(void)
{
	g_assert_cmphex(kvt_rng_stream_id("nvme.latency", 0), ==, 0xb01394aa7ac8a741);
	g_assert_cmphex(
		kvt_rng_stream_id("nvme.latency", 0), !=, kvt_rng_stream_id("nvme.latency", 1));
	g_assert_cmphex(
		kvt_rng_stream_id("nvme.latency", 0), !=, kvt_rng_stream_id("nvme.latencx", 0));
}

/* A stream's numbers are the same however much another stream is used in between. */
static void test_independent(void)
{
	kvt_rng alone = kvt_rng_init(7, 1), beside = kvt_rng_init(7, 1), other = kvt_rng_init(7, 2);
	unsigned same = 0;
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t expected = kvt_rng_next(&alone), noise = 0;
		for (unsigned j = 0; j < i % 4; j++)
			noise = kvt_rng_next(&other);
		g_assert_cmphex(kvt_rng_next(&beside), ==, expected);
		same += noise == expected;
	}
	g_assert_cmpuint(same, ==, 0);

	/* Neighbouring streams are uncorrelated: 5 standard errors of the product's mean. */
	kvt_rng a = kvt_rng_init(7, 10), b = kvt_rng_init(7, 11);
	double product = 0;
	enum { N = 100000 };
	for (unsigned i = 0; i < N; i++)
		product += (kvt_rng_uniform(&a) - 0.5) * (kvt_rng_uniform(&b) - 0.5);
	g_assert_cmpfloat(fabs(product / N), <, 5.0 / 12 / sqrt(N));
}

/* Chi-square over 64 cells and the first two moments. */
static void test_uniform(void)
{
	enum { N = 256000, CELLS = 64 };
	unsigned cells[CELLS] = { 0 }, finest = 0;
	double sum = 0, squares = 0;
	kvt_rng rng = kvt_rng_init(1, kvt_rng_stream_id("uniform", 0));
	for (unsigned i = 0; i < N; i++) {
		double u = kvt_rng_uniform(&rng);
		g_assert_true(u >= 0.0 && u < 1.0);
		cells[(unsigned)(u * CELLS)]++;
		sum += u;
		squares += u * u;
		finest += fmod(u, 0x1p-52) != 0.0;
	}
	/* All 53 bits are used: the last is set half of the time. */
	g_assert_cmpfloat(fabs(finest - N / 2.0), <, 5 * sqrt(N / 4.0));
	double chi = 0, expected = (double)N / CELLS;
	for (unsigned i = 0; i < CELLS; i++)
		chi += (cells[i] - expected) * (cells[i] - expected) / expected;
	/* 63 degrees of freedom: 0.1% to 99.9%. */
	g_assert_cmpfloat(chi, >, 33.0);
	g_assert_cmpfloat(chi, <, 104.0);
	g_assert_cmpfloat(fabs(sum / N - 0.5), <, 5 * sqrt(1.0 / 12 / N));
	g_assert_cmpfloat(fabs(squares / N - 1.0 / 3), <, 5 * sqrt(4.0 / 45 / N));
}

static void test_below(void)
{
	enum { N = 120000, SIDES = 6 };
	unsigned counts[SIDES] = { 0 };
	kvt_rng rng = kvt_rng_init(3, 0);
	for (unsigned i = 0; i < N; i++)
		counts[kvt_rng_below(&rng, SIDES)]++;
	for (unsigned i = 0; i < SIDES; i++)
		g_assert_cmpfloat(
			fabs(counts[i] - N / 6.0), <, 5 * sqrt(N * (1.0 / 6) * (5.0 / 6)));
	g_assert_cmpuint(kvt_rng_below(&rng, 1), ==, 0);

	/* Of 2^64 raw numbers, 3 x 2^62 results get one or two each, by their remainder of 3,
	 * unless a quarter is rejected. */
	uint64_t n = (uint64_t)3 << 62, multiples = 0;
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t value = kvt_rng_below(&rng, n);
		g_assert_cmpuint(value, <, n);
		multiples += value % 3 == 0;
	}
	g_assert_cmpfloat(fabs((double)multiples - 20000 / 3.0), <, 5 * sqrt(20000 * 2.0 / 9));
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void test_moments(void)
{
	enum { N = 200000 };
	kvt_rng rng = kvt_rng_init(5, 0);
	double sum = 0, squares = 0, cubes = 0, fourths = 0;
	for (unsigned i = 0; i < N; i++) {
		double z = kvt_rng_normal(&rng);
		sum += z;
		squares += z * z;
		cubes += z * z * z;
		fourths += z * z * z * z;
	}
	g_assert_cmpfloat(fabs(sum / N), <, 5 / sqrt(N));
	g_assert_cmpfloat(fabs(squares / N - 1), <, 5 * sqrt(2.0 / N));
	g_assert_cmpfloat(fabs(cubes / N), <, 5 * sqrt(15.0 / N));
	g_assert_cmpfloat(fabs(fourths / N - 3), <, 5 * sqrt(96.0 / N));

	sum = squares = 0;
	for (unsigned i = 0; i < N; i++) {
		double x = kvt_rng_exponential(&rng, 4.0);
		g_assert_true(x >= 0.0 && isfinite(x));
		sum += x;
		squares += x * x;
	}
	g_assert_cmpfloat(fabs(sum / N - 4), <, 5 * 4 / sqrt(N));
	g_assert_cmpfloat(fabs(squares / N - 32), <, 5 * 16 * sqrt(20.0 / N));
}

static void test_lognormal(void)
{
	enum { N = 200000 };
	g_autofree double *samples = g_new(double, N);
	kvt_rng rng = kvt_rng_init(9, 0);
	double squares = 0;
	for (unsigned i = 0; i < N; i++) {
		samples[i] = kvt_rng_lognormal(&rng, 80e-6, 350e-6);
		squares += pow(log(samples[i] / 80e-6), 2);
	}
	/* The logarithm's deviation tells more of p99 than the few samples above it do. */
	double sigma = log(350.0 / 80) / 2.3263478740408408;
	g_assert_cmpfloat(fabs(sqrt(squares / N) / sigma - 1), <, 5 / sqrt(2.0 * N));
	qsort(samples, N, sizeof(*samples), compare_doubles);
	g_assert_cmpfloat(fabs(samples[N / 2] / 80e-6 - 1), <, 0.01);
	g_assert_cmpfloat(fabs(samples[N / 100 * 99] / 350e-6 - 1), <, 0.02);
	g_assert_cmpfloat(fabs(kvt_rng_lognormal(&rng, 2.0, 2.0) - 2.0), <, 1e-15);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/rng/known-answers", test_known_answers);
	g_test_add_func("/rng/stream-ids", test_stream_ids);
	g_test_add_func("/rng/independent", test_independent);
	g_test_add_func("/rng/uniform", test_uniform);
	g_test_add_func("/rng/below", test_below);
	g_test_add_func("/rng/moments", test_moments);
	g_test_add_func("/rng/lognormal", test_lognormal);
	return g_test_run();
}
