/* sweep_axis.c: reads the values of an axis and makes texts of them. */
#include "sim/sweep/sweep_axis.h"

#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/base/output.h"

/* Levels of one axis; a grid of them is bounded elsewhere. */
#define LEVELS_MAX 1e8

static const char *const unit_names[] = {
	[KVT_UNIT_NONE] = "",
	[KVT_UNIT_COUNT] = "",
	[KVT_UNIT_BYTES] = "B",
	[KVT_UNIT_RATE] = "B/s",
	[KVT_UNIT_TIME] = "s",
	[KVT_UNIT_FLOPS] = "FLOP/s",
	[KVT_UNIT_FREQUENCY] = "/s",
	[KVT_UNIT_SHARE] = "",
	[KVT_UNIT_POWER] = "W",
	[KVT_UNIT_MONEY] = "USD",
};

const char *kvt_sweep_axis_units(const kvt_sweep_axis *axis)
{
	return unit_names[kvt_option_unit(axis->option)];
}

/* A quantity, which ranges have. */
static bool is_quantity(const kvt_option *option)
{
	return option->type == KVT_OPTION_INTEGER || option->type == KVT_OPTION_QUANTITY ||
	       option->type == KVT_OPTION_BYTES || option->type == KVT_OPTION_TIME;
}

static bool is_whole(const kvt_option *option)
{
	return option->type == KVT_OPTION_INTEGER || option->type == KVT_OPTION_BYTES ||
	       kvt_option_unit(option) == KVT_UNIT_COUNT;
}

bool kvt_sweep_axis_numeric(const kvt_sweep_axis *axis)
{
	return is_quantity(axis->option) || axis->option->type == KVT_OPTION_BOOL;
}

double kvt_sweep_axis_number(const kvt_sweep_axis *axis, const char *text)
{
	double value = NAN;
	kvt_option_value(axis->option, text, &value, NULL);
	return value;
}

static gboolean read_list(kvt_sweep_axis *axis, GError **error)
{
	axis->list = g_strsplit(axis->spec, ",", -1);
	axis->levels = g_strv_length(axis->list);
	for (char **value = axis->list; *value; value++) {
		double number;
		g_strstrip(*value);
		if (!kvt_option_value(axis->option, *value, &number, error))
			return FALSE;
		for (char **other = axis->list; other < value; other++)
			if (g_str_equal(*other, *value)) {
				g_autofree char *quoted = kvt_error_quote(*value);
				return kvt_error_usage(
					error, "%s is there twice, expected it once", quoted);
			}
	}
	if (axis->levels > 0)
		return TRUE;
	return kvt_error_usage(error, "there is no value, expected v1,v2,... or low..high:n");
}

static gboolean read_levels(kvt_sweep_axis *axis, const char *text, GError **error)
{
	double levels;
	if (!kvt_unit_parse(text, KVT_UNIT_COUNT, &levels, error))
		return FALSE;
	if (levels < 2 || levels > LEVELS_MAX)
		return kvt_error_usage(
			error, "%s points, expected from 2 to %.0fM", text, LEVELS_MAX / 1e6);
	axis->levels = (uint64_t)levels;
	return TRUE;
}

/* low..high[:n][:log], cut into its parts. */
static gboolean read_range(kvt_sweep_axis *axis, GError **error)
{
	g_auto(GStrv) parts = g_strsplit(axis->spec, ":", -1);
	g_auto(GStrv) ends = g_strsplit(parts[0], "..", 2);
	unsigned n = g_strv_length(parts);
	axis->logarithmic = n > 1 && g_str_equal(g_strstrip(parts[n - 1]), "log");
	n -= axis->logarithmic;
	if (!kvt_option_value(axis->option, g_strstrip(ends[0]), &axis->low, error) ||
		!kvt_option_value(axis->option, g_strstrip(ends[1]), &axis->high, error) ||
		(n > 1 && !read_levels(axis, g_strstrip(parts[1]), error)))
		return FALSE;
	if (n > 2)
		return kvt_error_usage(error, "expected low..high:n or low..high:n:log");
	if (axis->low >= axis->high)
		return kvt_error_usage(
			error, "the range is empty, expected low..high with low below high");
	if (axis->logarithmic && axis->low <= 0)
		return kvt_error_usage(
			error, "no logarithmic scale begins at 0, expected more than that");
	return TRUE;
}

static double level_value(const kvt_sweep_axis *axis, uint64_t level)
{
	/* both ends are as they were written */
	if (level == 0 || level == axis->levels - 1)
		return level == 0 ? axis->low : axis->high;
	double share = (double)level / (double)(axis->levels - 1);
	double value = axis->logarithmic ? axis->low * pow(axis->high / axis->low, share)
					 : axis->low + share * (axis->high - axis->low);
	return is_whole(axis->option) ? rint(value) : value;
}

/* Whole numbers that are close together may round to the same one. */
static gboolean check_distinct(const kvt_sweep_axis *axis, GError **error)
{
	if (!is_whole(axis->option))
		return TRUE;
	for (uint64_t i = 1; i < axis->levels; i++)
		if (level_value(axis, i) == level_value(axis, i - 1))
			return kvt_error_usage(error,
				"two of the %" G_GUINT64_FORMAT
				" points are the same whole number, expected fewer points",
				axis->levels);
	return TRUE;
}

kvt_sweep_axis *kvt_sweep_axis_new(
	const char *name, const char *spec, const kvt_option *option, GError **error)
{
	kvt_sweep_axis *axis = g_new0(kvt_sweep_axis, 1);
	axis->name = g_strdup(name);
	axis->spec = g_strdup(spec);
	axis->option = option;
	bool range = is_quantity(option) && strstr(spec, "..") != NULL;
	if (range ? read_range(axis, error) && check_distinct(axis, error) : read_list(axis, error))
		return axis;
	kvt_sweep_axis_free(axis);
	return NULL;
}

void kvt_sweep_axis_free(kvt_sweep_axis *axis)
{
	if (!axis)
		return;
	g_free(axis->name);
	g_free(axis->spec);
	g_strfreev(axis->list);
	g_free(axis);
}

static char *number_text(const kvt_sweep_axis *axis, double value)
{
	if (is_whole(axis->option))
		return g_strdup_printf("%.0f%s", value, kvt_sweep_axis_units(axis));
	g_autofree char *digits = kvt_number_text(value);
	return g_strconcat(digits, kvt_sweep_axis_units(axis), NULL);
}

char *kvt_sweep_axis_level(const kvt_sweep_axis *axis, uint64_t level)
{
	g_assert(level < axis->levels);
	return axis->list ? g_strdup(axis->list[level])
			  : number_text(axis, level_value(axis, level));
}

char *kvt_sweep_axis_at(const kvt_sweep_axis *axis, double share)
{
	if (axis->levels > 0)
		return kvt_sweep_axis_level(axis, (uint64_t)(share * (double)axis->levels));
	double low = axis->low, high = axis->high;
	bool whole = is_whole(axis->option);
	/* a whole number is as likely at the ends as elsewhere */
	if (whole && !axis->logarithmic)
		return number_text(axis, MIN(floor(low + share * (high - low + 1)), high));
	double value =
		axis->logarithmic ? low * pow(high / low, share) : low + share * (high - low);
	return number_text(axis, CLAMP(whole ? rint(value) : value, low, high));
}
