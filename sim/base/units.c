/*
 * units.c: reads and writes quantities by one table of suffixes a unit. It knows no dimensions:
 * a product of units, such as USD/kWh, is not a quantity here.
 */
#include "sim/base/units.h"

#include <math.h>
#include <string.h>

#include "sim/base/error.h"

/* A suffix and what it multiplies by. Scales below one are divisors, so that 350us is the double
 * nearest to 350/10^6 and not the product of two rounded numbers. */
typedef struct kvt_suffix {
	const char *text;
	double multiplier, divisor;
} kvt_suffix;

#define KI 1024.0
#define MI (KI * 1024.0)
#define GI (MI * 1024.0)
#define TI (GI * 1024.0)
#define PI (TI * 1024.0)

static const kvt_suffix none_suffixes[] = { { "", 1, 1 }, { NULL, 0, 0 } };

static const kvt_suffix count_suffixes[] = { { "", 1, 1 }, { "K", 1e3, 1 }, { "k", 1e3, 1 },
	{ "M", 1e6, 1 }, { "G", 1e9, 1 }, { "T", 1e12, 1 }, { NULL, 0, 0 } };

static const kvt_suffix bytes_suffixes[] = { { "B", 1, 1 }, { "kB", 1e3, 1 }, { "MB", 1e6, 1 },
	{ "GB", 1e9, 1 }, { "TB", 1e12, 1 }, { "PB", 1e15, 1 }, { "KiB", KI, 1 }, { "MiB", MI, 1 },
	{ "GiB", GI, 1 }, { "TiB", TI, 1 }, { "PiB", PI, 1 }, { NULL, 0, 0 } };

static const kvt_suffix rate_suffixes[] = { { "B/s", 1, 1 }, { "kB/s", 1e3, 1 }, { "MB/s", 1e6, 1 },
	{ "GB/s", 1e9, 1 }, { "TB/s", 1e12, 1 }, { "PB/s", 1e15, 1 }, { "KiB/s", KI, 1 },
	{ "MiB/s", MI, 1 }, { "GiB/s", GI, 1 }, { "TiB/s", TI, 1 }, { "b/s", 1, 8 },
	{ "kb/s", 1e3, 8 }, { "Mb/s", 1e6, 8 }, { "Gb/s", 1e9, 8 }, { "Tb/s", 1e12, 8 },
	{ NULL, 0, 0 } };

static const kvt_suffix time_suffixes[] = { { "s", 1, 1 }, { "ms", 1, 1e3 }, { "us", 1, 1e6 },
	{ "\u00b5s", 1, 1e6 }, { "\u03bcs", 1, 1e6 }, { "ns", 1, 1e9 }, { "ps", 1, 1e12 },
	{ "min", 60, 1 }, { "h", 3600, 1 }, { NULL, 0, 0 } };

static const kvt_suffix flops_suffixes[] = { { "FLOP/s", 1, 1 }, { "MFLOP/s", 1e6, 1 },
	{ "GFLOP/s", 1e9, 1 }, { "TFLOP/s", 1e12, 1 }, { "PFLOP/s", 1e15, 1 },
	{ "EFLOP/s", 1e18, 1 }, { NULL, 0, 0 } };

static const kvt_suffix frequency_suffixes[] = { { "/s", 1, 1 }, { "K/s", 1e3, 1 },
	{ "k/s", 1e3, 1 }, { "M/s", 1e6, 1 }, { "G/s", 1e9, 1 }, { "Hz", 1, 1 }, { "kHz", 1e3, 1 },
	{ "MHz", 1e6, 1 }, { "GHz", 1e9, 1 }, { "IOPS", 1, 1 }, { "K IOPS", 1e3, 1 },
	{ "M IOPS", 1e6, 1 }, { NULL, 0, 0 } };

static const kvt_suffix share_suffixes[] = { { "", 1, 1 }, { "%", 1, 100 }, { NULL, 0, 0 } };

static const kvt_suffix power_suffixes[] = { { "W", 1, 1 }, { "mW", 1, 1e3 }, { "kW", 1e3, 1 },
	{ "MW", 1e6, 1 }, { NULL, 0, 0 } };

static const kvt_suffix money_suffixes[] = { { "USD", 1, 1 }, { NULL, 0, 0 } };

typedef struct kvt_unit_entry {
	const kvt_suffix *suffixes;
	const char *expectation;
} kvt_unit_entry;

static const kvt_unit_entry unit_table[] = {
	[KVT_UNIT_NONE] = { none_suffixes, "a plain number without a unit, like 0.8 or 3" },
	[KVT_UNIT_COUNT] = { count_suffixes, "a whole number, like 4, 128 or 400K" },
	[KVT_UNIT_BYTES] = { bytes_suffixes, "a size with a unit, like 64KiB or 48GB" },
	[KVT_UNIT_RATE] = { rate_suffixes, "a rate with a unit, like 45GB/s or 400Gb/s" },
	[KVT_UNIT_TIME] = { time_suffixes, "a time with a unit, like 350us, 1.3s or 6.2min" },
	[KVT_UNIT_FLOPS] = { flops_suffixes, "a compute rate with a unit, like 181TFLOP/s" },
	[KVT_UNIT_FREQUENCY] = { frequency_suffixes,
		"a number a second with a unit, like 2.5M/s or 2.52GHz" },
	[KVT_UNIT_SHARE] = { share_suffixes, "a share between 0 and 1, like 2% or 0.02" },
	[KVT_UNIT_POWER] = { power_suffixes, "a power with a unit, like 350W or 1.2kW" },
	[KVT_UNIT_MONEY] = { money_suffixes, "an amount with a unit, like 7500USD" },
};

const char *kvt_unit_expectation(kvt_unit unit)
{
	g_assert((unsigned)unit < G_N_ELEMENTS(unit_table));
	return unit_table[unit].expectation;
}

/* Length of the decimal number at the start of text, 0 when there is none. g_ascii_strtod alone
 * would also take hexadecimal, "inf" and "nan". */
static size_t number_length(const char *text)
{
	const char *at = text;
	size_t digits = 0;
	for (; g_ascii_isdigit(*at); at++)
		digits++;
	if (*at == '.') {
		at++;
		for (; g_ascii_isdigit(*at); at++)
			digits++;
	}
	if (digits == 0)
		return 0;
	/* An "e" that no digit follows belongs to the unit. */
	if (*at == 'e' || *at == 'E') {
		const char *exponent = at + 1;
		if (*exponent == '+' || *exponent == '-')
			exponent++;
		if (g_ascii_isdigit(*exponent)) {
			while (g_ascii_isdigit(*exponent))
				exponent++;
			at = exponent;
		}
	}
	return (size_t)(at - text);
}

static gboolean refuse(const char *text, kvt_unit unit, const char *reason, GError **error)
{
	g_autofree char *quoted = kvt_error_quote(text);
	return kvt_error_usage(
		error, "%s %s, expected %s", quoted, reason, kvt_unit_expectation(unit));
}

/* The prefix KB is written for 1000 and for 1024 alike, so it gets its own message. */
static gboolean refuse_suffix(const char *text, const char *suffix, kvt_unit unit, GError **error)
{
	if (*suffix == '\0')
		return refuse(text, unit, "has no unit", error);
	if ((unit == KVT_UNIT_BYTES || unit == KVT_UNIT_RATE) && g_str_has_prefix(suffix, "KB"))
		return refuse(text, unit, "is ambiguous (kB is 1000 bytes, KiB is 1024)", error);
	if (unit == KVT_UNIT_NONE || unit == KVT_UNIT_SHARE || unit == KVT_UNIT_COUNT)
		return refuse(text, unit, "does not end after the number", error);
	g_autofree char *quoted = kvt_error_quote(suffix);
	g_autofree char *reason = g_strdup_printf("has the unknown unit %s", quoted);
	return refuse(text, unit, reason, error);
}

static const kvt_suffix *find_suffix(const kvt_suffix *suffixes, const char *text)
{
	for (; suffixes->text != NULL; suffixes++)
		if (strcmp(suffixes->text, text) == 0)
			return suffixes;
	return NULL;
}

/* 102.4K is not exact in binary: a product within rounding of an integer is that integer. */
static double snap_to_integer(double value)
{
	double nearest = rint(value);
	return fabs(value - nearest) <= 4e-16 * value ? nearest : value;
}

gboolean kvt_unit_parse(const char *text, kvt_unit unit, double *value, GError **error)
{
	g_assert((unsigned)unit < G_N_ELEMENTS(unit_table));
	size_t length = number_length(text);
	if (length == 0) {
		if (*text == '-' && number_length(text + 1) > 0)
			return refuse(text, unit, "is negative", error);
		return refuse(text, unit, *text == '\0' ? "is empty" : "is not a number", error);
	}
	const char *suffix_text = text + length;
	/* "45 GB/s" is as good as "45GB/s". */
	if (*suffix_text == ' ' && suffix_text[1] != ' ' && suffix_text[1] != '\0')
		suffix_text++;
	const kvt_suffix *suffix = find_suffix(unit_table[unit].suffixes, suffix_text);
	if (suffix == NULL)
		return refuse_suffix(text, suffix_text, unit, error);

	g_autofree char *digits = g_strndup(text, length);
	double number = g_ascii_strtod(digits, NULL) * suffix->multiplier / suffix->divisor;
	if (!isfinite(number))
		return refuse(text, unit, "is too large", error);
	if (suffix->multiplier > 1.0)
		number = snap_to_integer(number);
	if (unit == KVT_UNIT_COUNT && number != rint(number))
		return refuse(text, unit, "is not whole", error);
	if (unit == KVT_UNIT_SHARE && number > 1.0)
		return refuse(text, unit, "is more than the whole", error);
	*value = number;
	return TRUE;
}

/* Three significant digits with their zeros, or all of an integer below 10000. */
static void append_digits(GString *out, double number)
{
	char digits[G_ASCII_DTOSTR_BUF_SIZE];
	if (number == rint(number) && number < 9999.5) {
		g_ascii_formatd(digits, sizeof(digits), "%.0f", number);
	} else if (number >= 99.95) {
		g_ascii_formatd(digits, sizeof(digits), number < 99999.5 ? "%.0f" : "%.3g", number);
	} else if (number >= 9.995) {
		g_ascii_formatd(digits, sizeof(digits), "%.1f", number);
	} else if (number >= 0.9995) {
		g_ascii_formatd(digits, sizeof(digits), "%.2f", number);
	} else {
		g_ascii_formatd(digits, sizeof(digits), "%.3g", number);
	}
	g_string_append(out, digits);
}

/* The suffixes of one unit in rising order that output uses; a value takes the largest that
 * leaves at least one of it after rounding to three digits. */
static const char *const output_ladder[][10] = {
	[KVT_UNIT_NONE] = { "" },
	[KVT_UNIT_COUNT] = { "", "K", "M", "G", "T" },
	[KVT_UNIT_BYTES] = { "B", "kB", "MB", "GB", "TB", "PB" },
	[KVT_UNIT_RATE] = { "B/s", "kB/s", "MB/s", "GB/s", "TB/s", "PB/s" },
	[KVT_UNIT_TIME] = { "ps", "ns", "us", "ms", "s", "min", "h" },
	[KVT_UNIT_FLOPS] = { "FLOP/s", "MFLOP/s", "GFLOP/s", "TFLOP/s", "PFLOP/s", "EFLOP/s" },
	[KVT_UNIT_FREQUENCY] = { "/s", "K/s", "M/s", "G/s" },
	[KVT_UNIT_SHARE] = { "%" },
	[KVT_UNIT_POWER] = { "W", "kW", "MW" },
	[KVT_UNIT_MONEY] = { "USD" },
};

static double in_suffix(double value, const kvt_suffix *suffix)
{
	return value * suffix->divisor / suffix->multiplier;
}

static const kvt_suffix *choose_suffix(double value, kvt_unit unit)
{
	const char *const *ladder = output_ladder[unit];
	const kvt_suffix *chosen = find_suffix(unit_table[unit].suffixes, ladder[0]);
	if (value == 0.0 && unit == KVT_UNIT_TIME)
		return find_suffix(time_suffixes, "s");
	for (size_t i = 1; ladder[i] != NULL; i++) {
		const kvt_suffix *next = find_suffix(unit_table[unit].suffixes, ladder[i]);
		double least = 0.9995;
		/* Minutes and hours begin at two of them: 100 s is plainer than 1.67 min. */
		if (unit == KVT_UNIT_TIME && next->multiplier > 1.0)
			least = 2.0;
		/* A count below 10000 is written out. */
		if (unit == KVT_UNIT_COUNT && i == 1)
			least = 10.0;
		if (in_suffix(value, next) < least)
			break;
		chosen = next;
	}
	return chosen;
}

/* Sizes that are a whole number of binary units, such as pages, are shown so: 64 KiB. */
static const kvt_suffix *choose_binary(double value)
{
	static const char *const binary[] = { "KiB", "MiB", "GiB", "TiB" };
	for (size_t i = 0; i < G_N_ELEMENTS(binary); i++) {
		const kvt_suffix *suffix = find_suffix(bytes_suffixes, binary[i]);
		double number = value / suffix->multiplier;
		if (number >= 1.0 && number < 1024.0 && number == rint(number))
			return suffix;
	}
	return NULL;
}

char *kvt_unit_format(double value, kvt_unit unit)
{
	g_assert((unsigned)unit < G_N_ELEMENTS(unit_table));
	if (isnan(value))
		return g_strdup("-");
	GString *out = g_string_new(value < 0.0 ? "-" : "");
	value = fabs(value);
	if (isinf(value)) {
		g_string_append(out, "inf");
		return g_string_free(out, FALSE);
	}
	const kvt_suffix *suffix = unit == KVT_UNIT_BYTES ? choose_binary(value) : NULL;
	if (suffix == NULL)
		suffix = choose_suffix(value, unit);
	append_digits(out, in_suffix(value, suffix));
	if (unit != KVT_UNIT_COUNT && unit != KVT_UNIT_SHARE && *suffix->text != '\0')
		g_string_append_c(out, ' ');
	g_string_append(out, suffix->text);
	return g_string_free(out, FALSE);
}
