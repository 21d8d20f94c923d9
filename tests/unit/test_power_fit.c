/* test_power_fit.c: exponents of exact power laws, of disturbed ones, and over a range only. */
#include <glib.h>
#include <math.h>

#include "sim/base/rng.h"
#include "sim/engine/power_fit.h"

enum { POINTS = 40 };

static void test_exact(void)
{
	static const double exponents[] = { -1, 0, 0.37, 1, 2.5 };
	for (size_t e = 0; e < G_N_ELEMENTS(exponents); e++) {
		double x[POINTS], y[POINTS];
		for (unsigned i = 0; i < POINTS; i++) {
			x[i] = 1e4 * pow(1.2, i);
			y[i] = 3e-5 * pow(x[i], exponents[e]);
		}
		kvt_power_fit fit;
		g_assert_true(kvt_power_fit_make(&fit, x, y, POINTS, 0, INFINITY));
		g_assert_cmpuint(fit.points, ==, POINTS);
		g_assert_cmpfloat_with_epsilon(fit.exponent, exponents[e], 1e-12);
		g_assert_cmpfloat_with_epsilon(fit.factor, 3e-5, 1e-15);
		g_assert_cmpfloat(fit.worst, <, 1e-10);
	}
}

/* What lies outside the range has no say; what bends inside shows in `worst`. */
static void test_range(void)
{
	double x[POINTS], y[POINTS];
	for (unsigned i = 0; i < POINTS; i++) {
		x[i] = i + 1;
		y[i] = x[i] < 10 ? 1000 : x[i] <= 30 ? 2 * x[i] : 5 / x[i];
	}
	kvt_power_fit fit;
	g_assert_true(kvt_power_fit_make(&fit, x, y, POINTS, 10, 30));
	g_assert_cmpuint(fit.points, ==, 21);
	g_assert_cmpfloat_with_epsilon(fit.exponent, 1, 1e-12);
	g_assert_cmpfloat(fit.low, ==, 10);
	g_assert_cmpfloat(fit.high, ==, 30);
	g_assert_true(kvt_power_fit_make(&fit, x, y, POINTS, 5, 30));
	g_assert_cmpfloat(fit.worst, >, 0.5);
}

/* Least squares: no other line through the logarithms is nearer to the points. */
static void test_least(void)
{
	kvt_rng rng = kvt_rng_init(4, 2);
	double x[POINTS], y[POINTS];
	for (unsigned i = 0; i < POINTS; i++) {
		x[i] = 1 + 100 * kvt_rng_uniform(&rng);
		y[i] = pow(x[i], 0.6) * exp(0.2 * kvt_rng_normal(&rng));
	}
	kvt_power_fit fit;
	g_assert_true(kvt_power_fit_make(&fit, x, y, POINTS, 0, INFINITY));
	g_assert_cmpfloat_with_epsilon(fit.exponent, 0.6, 0.15);
	for (int de = -1; de <= 1; de++)
		for (int df = -1; df <= 1; df++) {
			double sum = 0, least = 0;
			for (unsigned i = 0; i < POINTS; i++) {
				double rest = log(y[i] / fit.factor) - fit.exponent * log(x[i]);
				least += rest * rest;
				rest -= 1e-3 * df + 1e-3 * de * log(x[i]);
				sum += rest * rest;
			}
			g_assert_cmpfloat(least, <=, sum);
		}
}

static void test_refused(void)
{
	const double x[] = { 1, 2, 2 }, y[] = { 1, 2, 3 };
	kvt_power_fit fit;
	g_assert_false(kvt_power_fit_make(&fit, x, y, 3, 5, 9));
	g_assert_false(kvt_power_fit_make(&fit, x, y, 1, 0, 9));
	g_assert_false(kvt_power_fit_make(&fit, x + 1, y + 1, 2, 0, 9));
	g_assert_true(kvt_power_fit_make(&fit, x, y, 2, 0, 9));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/power-fit/exact", test_exact);
	g_test_add_func("/power-fit/range", test_range);
	g_test_add_func("/power-fit/least", test_least);
	g_test_add_func("/power-fit/refused", test_refused);
	return g_test_run();
}
