/* test_units.c: quantities read and written back, and everything that must be refused. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/base/units.h"

static void test_accepts(void)
{
	static const struct {
		const char *text;
		kvt_unit unit;
		double value;
	} cases[] = {
		{ "0.8", KVT_UNIT_NONE, 0.8 },
		{ "1e6", KVT_UNIT_NONE, 1e6 },
		{ ".5", KVT_UNIT_NONE, 0.5 },
		{ "3.", KVT_UNIT_NONE, 3 },
		{ "4", KVT_UNIT_COUNT, 4 },
		{ "400K", KVT_UNIT_COUNT, 400000 },
		{ "102.4K", KVT_UNIT_COUNT, 102400 },
		{ "1.1M", KVT_UNIT_COUNT, 1100000 },
		{ "1.001K", KVT_UNIT_COUNT, 1001 },
		{ "2e3", KVT_UNIT_COUNT, 2000 },
		{ "0", KVT_UNIT_COUNT, 0 },
		{ "4096B", KVT_UNIT_BYTES, 4096 },
		{ "64KiB", KVT_UNIT_BYTES, 65536 },
		{ "64kB", KVT_UNIT_BYTES, 64000 },
		{ "48GB", KVT_UNIT_BYTES, 48e9 },
		{ "48 GiB", KVT_UNIT_BYTES, 51539607552.0 },
		{ "1.5TB", KVT_UNIT_BYTES, 1.5e12 },
		{ "45GB/s", KVT_UNIT_RATE, 45e9 },
		{ "400Gb/s", KVT_UNIT_RATE, 50e9 },
		{ "1GiB/s", KVT_UNIT_RATE, 1073741824.0 },
		{ "350us", KVT_UNIT_TIME, 350e-6 },
		{ "350\u00b5s", KVT_UNIT_TIME, 350e-6 },
		{ "19us", KVT_UNIT_TIME, 19e-6 },
		{ "90ns", KVT_UNIT_TIME, 90e-9 },
		{ "1.3s", KVT_UNIT_TIME, 1.3 },
		{ "6.2min", KVT_UNIT_TIME, 372 },
		{ "8.3h", KVT_UNIT_TIME, 29880 },
		{ "181TFLOP/s", KVT_UNIT_FLOPS, 181e12 },
		{ "2.5M/s", KVT_UNIT_FREQUENCY, 2.5e6 },
		{ "2.52GHz", KVT_UNIT_FREQUENCY, 2.52e9 },
		{ "0/s", KVT_UNIT_FREQUENCY, 0 },
		{ "500000IOPS", KVT_UNIT_FREQUENCY, 5e5 },
		{ "2%", KVT_UNIT_SHARE, 0.02 },
		{ "0.02", KVT_UNIT_SHARE, 0.02 },
		{ "100%", KVT_UNIT_SHARE, 1 },
		{ "350W", KVT_UNIT_POWER, 350 },
		{ "1.2kW", KVT_UNIT_POWER, 1200 },
		{ "7500USD", KVT_UNIT_MONEY, 7500 },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GError) error = NULL;
		double value = -1;
		g_assert_true(kvt_unit_parse(cases[i].text, cases[i].unit, &value, &error));
		g_assert_no_error(error);
		if (value != cases[i].value)
			g_error("%s gave %.17g", cases[i].text, value);
	}
}

static void test_refuses(void)
{
	static const struct {
		const char *text;
		kvt_unit unit;
		const char *message;
	} cases[] = {
		{ "45", KVT_UNIT_RATE,
			"\"45\" has no unit, expected a rate with a unit, like 45GB/s or 400Gb/s" },
		{ "0", KVT_UNIT_TIME,
			"\"0\" has no unit, expected a time with a unit, like 350us, 1.3s or "
			"6.2min" },
		{ "64KB", KVT_UNIT_BYTES,
			"\"64KB\" is ambiguous (kB is 1000 bytes, KiB is 1024), expected a size "
			"with a unit, like 64KiB or 48GB" },
		{ "-3s", KVT_UNIT_TIME,
			"\"-3s\" is negative, expected a time with a unit, like 350us, 1.3s or "
			"6.2min" },
		{ "", KVT_UNIT_NONE,
			"\"\" is empty, expected a plain number without a unit, like 0.8 or 3" },
		{ "12 GB/ss", KVT_UNIT_RATE,
			"\"12 GB/ss\" has the unknown unit \"GB/ss\", expected a rate with a unit, "
			"like 45GB/s or 400Gb/s" },
		{ "1.5", KVT_UNIT_COUNT,
			"\"1.5\" is not whole, expected a whole number, like 4, 128 or 400K" },
		{ "101%", KVT_UNIT_SHARE,
			"\"101%\" is more than the whole, expected a share between 0 and 1, like "
			"2% or 0.02" },
		{ "1e400", KVT_UNIT_NONE,
			"\"1e400\" is too large, expected a plain number without a unit, like 0.8 "
			"or 3" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GError) error = NULL;
		double value = -1;
		g_assert_false(kvt_unit_parse(cases[i].text, cases[i].unit, &value, &error));
		g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
		g_assert_cmpstr(error->message, ==, cases[i].message);
		g_assert_cmpfloat(value, ==, -1);
	}
}

/* Nothing of this is a number in any unit. */
static void test_never(void)
{
	static const char *const texts[] = { "nan", "inf", "-inf", "infinity", "0x10", "+5s", " 5s",
		"5s ", "5  s", "5 ", "5s5s", "e5", ".", "-", "--5s", "1..2s", "1,5GB", "5\ns",
		"1e999GB/s", "\xff\xfe", "5 GB GB", "\u0665GB" };
	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
		for (kvt_unit unit = KVT_UNIT_NONE; unit <= KVT_UNIT_MONEY; unit++) {
			g_autoptr(GError) error = NULL;
			double value;
			if (kvt_unit_parse(texts[i], unit, &value, &error))
				g_error("%s was accepted as unit %d", texts[i], unit);
			g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
			g_assert_null(strchr(error->message, '\n'));
		}
}

static void test_format(void)
{
	static const struct {
		double value;
		kvt_unit unit;
		const char *text;
	} cases[] = {
		{ 1.3, KVT_UNIT_TIME, "1.30 s" },
		{ 0, KVT_UNIT_TIME, "0 s" },
		{ 0.457, KVT_UNIT_TIME, "457 ms" },
		{ 0.99999, KVT_UNIT_TIME, "1.00 s" },
		{ 350e-6, KVT_UNIT_TIME, "350 us" },
		{ 100, KVT_UNIT_TIME, "100 s" },
		{ 372, KVT_UNIT_TIME, "6.20 min" },
		{ 29880, KVT_UNIT_TIME, "8.30 h" },
		{ 44.9e9, KVT_UNIT_RATE, "44.9 GB/s" },
		{ 65536, KVT_UNIT_BYTES, "64 KiB" },
		{ 57.344e9, KVT_UNIT_BYTES, "57.3 GB" },
		{ 48e9, KVT_UNIT_BYTES, "48 GB" },
		{ 0, KVT_UNIT_BYTES, "0 B" },
		{ 1048576, KVT_UNIT_COUNT, "1.05M" },
		{ 8192, KVT_UNIT_COUNT, "8192" },
		{ 400000, KVT_UNIT_COUNT, "400K" },
		{ 0.02, KVT_UNIT_SHARE, "2%" },
		{ 0.1234, KVT_UNIT_SHARE, "12.3%" },
		{ 181.4e12, KVT_UNIT_FLOPS, "181 TFLOP/s" },
		{ 2.5e6, KVT_UNIT_FREQUENCY, "2.50 M/s" },
		{ 1154, KVT_UNIT_NONE, "1154" },
		{ 0.00123456, KVT_UNIT_NONE, "0.00123" },
		{ -0.05, KVT_UNIT_SHARE, "-5%" },
		{ NAN, KVT_UNIT_TIME, "-" },
		{ INFINITY, KVT_UNIT_TIME, "inf" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *text = kvt_unit_format(cases[i].value, cases[i].unit);
		g_assert_cmpstr(text, ==, cases[i].text);
	}
}

/* What is written can be read back, within the digits that were written. */
static void test_round_trip(void)
{
	for (kvt_unit unit = KVT_UNIT_NONE; unit <= KVT_UNIT_MONEY; unit++)
		for (int i = -12 * 7; i <= 14 * 7; i++) {
			double value = pow(10, i / 7.0);
			if (unit == KVT_UNIT_SHARE && value > 1.0)
				continue;
			if (unit == KVT_UNIT_COUNT)
				value = rint(value);
			g_autoptr(GError) error = NULL;
			g_autofree char *text = kvt_unit_format(value, unit);
			double back;
			g_assert_true(kvt_unit_parse(text, unit, &back, &error));
			g_assert_no_error(error);
			if (fabs(back - value) > 0.0051 * value)
				g_error("%.17g was written as %s", value, text);
		}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/units/accepts", test_accepts);
	g_test_add_func("/units/refuses", test_refuses);
	g_test_add_func("/units/never", test_never);
	g_test_add_func("/units/format", test_format);
	g_test_add_func("/units/round-trip", test_round_trip);
	return g_test_run();
}
