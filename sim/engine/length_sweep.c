/* length_sweep.c: runs an experiment at each length of its [sweep] section. */
#include "sim/engine/length_sweep.h"

#include <math.h>
#include <stddef.h>

#include "sim/base/error.h"

typedef struct sweep_settings {
	int64_t from, to, points;
} sweep_settings;

const kvt_option kvt_sweep_options[] = {
	{ "from", KVT_OPTION_INTEGER, 0, offsetof(sweep_settings, from), "10K", 1, 1e12, NULL,
		"shortest context, tokens" },
	{ "to", KVT_OPTION_INTEGER, 0, offsetof(sweep_settings, to), "10M", 1, 1e12, NULL,
		"longest context, tokens" },
	{ "points", KVT_OPTION_INTEGER, 0, offsetof(sweep_settings, points), "20", 2, 10000, NULL,
		"lengths, evenly spaced on a logarithmic scale" },
	{ 0 },
};

bool kvt_length_sweep_present(const char *path)
{
	g_autoptr(kvt_config) config = kvt_config_load(path, NULL);
	return config && kvt_config_section(config, "sweep");
}

static bool run_point(const char *path, const char *const *overrides, uint64_t tokens,
	GArray *points, GError **error)
{
	g_autoptr(GPtrArray) sets = g_ptr_array_new();
	for (unsigned i = 0; overrides && overrides[i]; i++)
		g_ptr_array_add(sets, (gpointer)overrides[i]);
	g_autofree char *length = g_strdup_printf("context.tokens=%" G_GUINT64_FORMAT, tokens);
	g_ptr_array_add(sets, length);
	g_ptr_array_add(sets, NULL);
	g_autoptr(kvt_experiment) experiment =
		kvt_experiment_load(path, (const char *const *)sets->pdata, error);
	kvt_length_point point = { .tokens = tokens };
	if (!experiment || !kvt_turn_run(experiment, KVT_RUN_RESUME, NULL, &point.resume, error) ||
		!kvt_turn_run(experiment, KVT_RUN_COLD, NULL, &point.cold, error)) {
		g_prefix_error(error, "at %" G_GUINT64_FORMAT " tokens: ", tokens);
		return false;
	}
	g_array_append_val(points, point);
	return true;
}

bool kvt_length_sweep_run(
	const char *path, const char *const *overrides, GArray *points, GError **error)
{
	g_autoptr(kvt_config) config = kvt_config_load(path, error);
	if (!config)
		return false;
	sweep_settings sweep;
	kvt_section *section = kvt_config_section_or_empty(config, "sweep");
	if (!kvt_section_read(section, kvt_sweep_options, &sweep, TRUE, error))
		return false;
	if (sweep.to <= sweep.from)
		return kvt_section_error(section, "to", error,
			"the sweep is empty, expected more tokens than `from`");
	double step = log((double)sweep.to / (double)sweep.from) / (double)(sweep.points - 1);
	for (int64_t i = 0; i < sweep.points; i++) {
		double tokens = (double)sweep.from * exp(step * (double)i);
		if (!run_point(path, overrides, (uint64_t)llrint(tokens), points, error))
			return false;
	}
	return true;
}
