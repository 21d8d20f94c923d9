/* test_half_float.c: every half is exact inward, and outward the nearest half, ties to even. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/base/rng.h"
#include "traces/half_float.h"

enum { HALVES = 1 << 16 };

/* The value of a half by its definition. */
static double value_of(uint16_t half)
{
	int exponent = half >> 10 & 31;
	int fraction = half & 1023;
	double magnitude =
		exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
	return half & 0x8000 ? -magnitude : magnitude;
}

static void test_inward(void)
{
	g_autofree uint16_t *halves = g_new(uint16_t, HALVES);
	g_autofree float *floats = g_new(float, HALVES);
	for (unsigned i = 0; i < HALVES; i++)
		halves[i] = (uint16_t)i;
	/* 5 short of a whole number of vectors, so that the rest is covered too. */
	kvt_half_to_float(halves, floats, HALVES - 5);
	for (unsigned i = 0; i < HALVES - 5; i++) {
		if ((i & 0x7c00) != 0x7c00) {
			g_assert_cmpfloat(floats[i], ==, (float)value_of((uint16_t)i));
			g_assert_cmpint(signbit(floats[i]) != 0, ==, i >> 15);
		} else if ((i & 0x3ff) == 0) {
			g_assert_cmpfloat(floats[i], ==, i >> 15 ? -INFINITY : INFINITY);
		} else {
			g_assert_true(isnan(floats[i]));
		}
	}
}

static void test_round_trip(void)
{
	for (unsigned i = 0; i < HALVES; i++) {
		uint16_t half = (uint16_t)i, back;
		float value;
		kvt_half_to_float(&half, &value, 1);
		kvt_half_from_float(&value, &back, 1);
		if (isnan(value))
			g_assert_cmpint(back & 0x7e00, ==, 0x7e00);
		else
			g_assert_cmpint(back, ==, half);
	}
}

/* The half nearest to a magnitude, searched. */
static uint16_t nearest(double magnitude)
{
	if (magnitude >= 65520)
		return 0x7c00;
	uint16_t low = 0, high = 0x7bff;
	while (low < high) {
		uint16_t middle = (uint16_t)((low + high + 1) / 2);
		if (value_of(middle) <= magnitude)
			low = middle;
		else
			high = (uint16_t)(middle - 1);
	}
	double below = magnitude - value_of(low);
	double above = (low == 0x7bff ? 65536 : value_of((uint16_t)(low + 1))) - magnitude;
	if (below == above)
		return (uint16_t)(low + (low & 1));
	return below < above ? low : (uint16_t)(low + 1);
}

static void check_outward(float value)
{
	uint16_t half;
	kvt_half_from_float(&value, &half, 1);
	uint16_t expected = (uint16_t)(nearest(fabs(value)) | (signbit(value) ? 0x8000 : 0));
	g_assert_cmpint(half, ==, expected);
}

static void test_outward(void)
{
	kvt_rng rng = kvt_rng_init(7, 0);
	for (unsigned i = 0; i < 200000; i++) {
		uint32_t bits = (uint32_t)kvt_rng_next(&rng);
		/* Exponents around those of halves, where rounding happens. */
		bits = (bits & 0x807fffff) | (95 + bits / 7 % 50) << 23;
		float value;
		memcpy(&value, &bits, sizeof value);
		check_outward(value);
	}
	/* Halfway points and their neighbours, subnormal ones included. */
	for (unsigned i = 0; i < 0x7bff; i++) {
		float middle = (float)((value_of((uint16_t)i) + value_of((uint16_t)(i + 1))) / 2);
		check_outward(middle);
		check_outward(nextafterf(middle, 0));
		check_outward(nextafterf(middle, INFINITY));
		check_outward(-middle);
	}
	check_outward(65519.996f);
	check_outward(65520);
	check_outward(1e30f);
	check_outward(INFINITY);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/half/inward", test_inward);
	g_test_add_func("/half/round-trip", test_round_trip);
	g_test_add_func("/half/outward", test_outward);
	return g_test_run();
}
