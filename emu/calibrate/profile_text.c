/* profile_text.c: keys of model files as calibration writes them. */
#include "emu/calibrate/profile_text.h"

/* No spread of a few repeats is smaller than what the next day brings. */
static const double LEAST_UNCERTAINTY = 0.02, MOST_UNCERTAINTY = 0.95;

void kvt_put(GString *text, const char *key, double value, const char *format)
{
	char number[64];
	g_ascii_formatd(number, sizeof(number), format, value);
	g_string_append_printf(text, "%s = %s", key, number);
}

void kvt_put_rate(GString *text, const char *key, double value)
{
	kvt_put(text, key, value / 1e6, "%.2f");
	g_string_append(text, "MB/s\n");
}

void kvt_put_time(GString *text, const char *key, double value)
{
	kvt_put(text, key, MAX(value, 2e-9) * 1e6, "%.4f");
	g_string_append(text, "us\n");
}

void kvt_put_frequency(GString *text, const char *key, double value)
{
	kvt_put(text, key, value, "%.0f");
	g_string_append(text, "/s\n");
}

void kvt_put_share(GString *text, const char *key, double value)
{
	kvt_put(text, key, 100 * value, "%.1f");
	g_string_append(text, "%\n");
}

void kvt_put_uncertainty(GString *text, const char *key, double value)
{
	g_autofree char *full = g_strconcat(key, ".uncertainty", NULL);
	kvt_put_share(text, full, CLAMP(value, LEAST_UNCERTAINTY, MOST_UNCERTAINTY));
}

double kvt_measured_spread(const kvt_measured *m)
{
	return (m->high - m->low) / (2 * m->value);
}

void kvt_put_bytes(GString *text, const char *key, uint64_t bytes)
{
	g_string_append_printf(text, "%s = %" G_GUINT64_FORMAT "B\n", key, bytes);
}

/* "source" of a key that was measured on this machine, and how far repeats were apart. */
void kvt_put_measured(GString *text, const char *key, const char *how, double uncertainty)
{
	g_string_append_printf(text, "%s.source = measured: %s\n", key, how);
	kvt_put_uncertainty(text, key, uncertainty);
}
