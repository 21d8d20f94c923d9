/*
 * units.h: quantities as people write them, `64KiB`, `45GB/s`, `350us`, `1M`, `2%`, and back.
 * A bare number where a unit is due is an error. Decimal and binary prefixes are kept apart:
 * kB/MB/GB are powers of 1000, KiB/MiB/GiB powers of 1024, K/M/G/T of a count are decimal.
 */
#ifndef KVT_UNITS_H
#define KVT_UNITS_H

#include <glib.h>

typedef enum kvt_unit {
	KVT_UNIT_NONE,      /* a plain number, no unit allowed: 0.8, 3, 1e6 */
	KVT_UNIT_COUNT,     /* tokens, drives, I/Os: 4, 128, 400K, 1M; suffix optional; integer */
	KVT_UNIT_BYTES,     /* 4096B, 64KiB, 48GB */
	KVT_UNIT_RATE,      /* bytes/s: 45GB/s, 400Gb/s (bits), 864GB/s */
	KVT_UNIT_TIME,      /* seconds: 350us, 1.3s, 6.2min, 8.3h, 90ns */
	KVT_UNIT_FLOPS,     /* FLOP/s: 181TFLOP/s */
	KVT_UNIT_FREQUENCY, /* 1/s: 2.5M/s, 500K/s, 2.52GHz, 0/s; also IOPS */
	KVT_UNIT_SHARE,     /* 0..1, written 2% or 0.02 */
	KVT_UNIT_POWER,     /* watts: 350W, 1.2kW */
	KVT_UNIT_MONEY,     /* US dollars: 7500USD, 0.12USD/kWh is not a KVT_UNIT_MONEY */
} kvt_unit;

/*
 * Parses the whole of `text` as a quantity of `unit` into *value, in base units (bytes, bytes/s,
 * seconds, FLOP/s, 1/s, share). False with an error that says what was expected otherwise. Never
 * accepts NaN, infinity, a negative number, or trailing text.
 */
gboolean kvt_unit_parse(const char *text, kvt_unit unit, double *value, GError **error);

/* What a reader is told to write, such as "a size with a unit, like 64KiB or 48GB". */
const char *kvt_unit_expectation(kvt_unit unit);

/* `value` in base units as short text with a unit, three or four digits ("1.30 s", "44.9 GB/s").
 * Returns a new string. */
char *kvt_unit_format(double value, kvt_unit unit);

#endif
