/* length_sweep.c: runs an experiment at each length of its [sweep] section. */
#include "sim/engine/length_sweep.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "sim/base/error.h"

typedef struct sweep_settings {
	int64_t from, to, points, fit_from, fit_to;
} sweep_settings;

const kvt_option kvt_sweep_options[] = {
	{ "from", KVT_OPTION_INTEGER, 0, offsetof(sweep_settings, from), "10K", 1, 1e12, NULL,
		"shortest context, tokens" },
	{ "to", KVT_OPTION_INTEGER, 0, offsetof(sweep_settings, to), "10M", 1, 1e12, NULL,
		"longest context, tokens" },
	{ "points", KVT_OPTION_INTEGER, 0, offsetof(sweep_settings, points), "20", 2, 10000, NULL,
		"lengths, evenly spaced on a logarithmic scale" },
	{ "fit_from", KVT_OPTION_INTEGER, 0, offsetof(sweep_settings, fit_from), "0", 0, 1e12, NULL,
		"shortest context that a curve's exponent is fitted to; 0: `from`" },
	{ "fit_to", KVT_OPTION_INTEGER, 0, offsetof(sweep_settings, fit_to), "0", 0, 1e12, NULL,
		"longest; 0: `to`" },
	{ 0 },
};

bool kvt_length_sweep_present(const char *path)
{
	g_autoptr(kvt_config) config = kvt_config_load(path, NULL);
	return config && kvt_config_section(config, "sweep");
}

static bool run_point(const char *path, const char *const *overrides, uint64_t tokens, bool cold,
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
		(cold && !kvt_turn_run(experiment, KVT_RUN_COLD, NULL, &point.cold, error))) {
		g_prefix_error(error, "at %" G_GUINT64_FORMAT " tokens: ", tokens);
		return false;
	}
	g_array_append_val(points, point);
	return true;
}

static bool read_sweep(kvt_config *config, sweep_settings *sweep, GError **error)
{
	kvt_section *section = kvt_config_section_or_empty(config, "sweep");
	if (!kvt_section_read(section, kvt_sweep_options, sweep, TRUE, error))
		return false;
	if (sweep->to <= sweep->from)
		return kvt_section_error(section, "to", error,
			"the sweep is empty, expected more tokens than `from`");
	sweep->fit_from = sweep->fit_from > 0 ? sweep->fit_from : sweep->from;
	sweep->fit_to = sweep->fit_to > 0 ? sweep->fit_to : sweep->to;
	if (sweep->fit_from >= sweep->fit_to)
		return kvt_section_error(section, "fit_to", error,
			"nothing to fit, expected more tokens than `fit_from`");
	return true;
}

static bool run_points(const char *path, const char *const *overrides, const sweep_settings *sweep,
	bool cold, GArray *points, GError **error)
{
	double step = log((double)sweep->to / (double)sweep->from) / (double)(sweep->points - 1);
	for (int64_t i = 0; i < sweep->points; i++) {
		double tokens = (double)sweep->from * exp(step * (double)i);
		if (!run_point(path, overrides, (uint64_t)llrint(tokens), cold, points, error))
			return false;
	}
	return true;
}

bool kvt_length_sweep_run(
	const char *path, const char *const *overrides, GArray *points, GError **error)
{
	g_autoptr(kvt_config) config = kvt_config_load(path, error);
	sweep_settings sweep;
	return config && read_sweep(config, &sweep, error) &&
	       run_points(path, overrides, &sweep, true, points, error);
}

bool kvt_length_curves_present(const char *path)
{
	g_autoptr(kvt_config) config = kvt_config_load(path, NULL);
	if (!config || !kvt_config_section(config, "sweep"))
		return false;
	g_autofree const char **names = kvt_config_section_names(config, "curve");
	return names[0] != NULL;
}

void kvt_length_curve_free(kvt_length_curve *curve)
{
	if (!curve)
		return;
	g_array_unref(curve->points);
	g_free(curve->id);
	g_free(curve->title);
	g_free(curve);
}

/* A curve's settings as overrides; NULL with an error for a key that is none. */
static char **read_curve(kvt_config *config, const char *name, char **title, GError **error)
{
	kvt_section *section = kvt_config_section(config, name);
	g_autofree const char **keys = kvt_section_keys(section);
	g_autoptr(GStrvBuilder) sets = g_strv_builder_new();
	for (unsigned i = 0; keys[i]; i++) {
		const char *value = kvt_section_text(section, keys[i]);
		if (g_str_equal(keys[i], "title")) {
			*title = g_strdup(value);
			continue;
		}
		if (!strchr(keys[i], '.')) {
			kvt_section_error(section, keys[i], error,
				"not a setting, expected title or section.key, such as "
				"select.mass");
			return NULL;
		}
		g_autofree char *set = g_strconcat(keys[i], "=", value, NULL);
		g_strv_builder_add(sets, set);
	}
	return g_strv_builder_end(sets);
}

static bool run_curve(const char *path, kvt_config *config, const char *name,
	const sweep_settings *sweep, kvt_length_curve *curve, GError **error)
{
	g_auto(GStrv) sets = read_curve(config, name, &curve->title, error);
	if (!sets)
		return false;
	if (!curve->title)
		curve->title = g_strdup(curve->id);
	if (!run_points(path, (const char *const *)sets, sweep, false, curve->points, error)) {
		g_prefix_error(error, "[%s] of %s: ", name, path);
		return false;
	}
	g_autofree double *tokens = g_new(double, curve->points->len);
	g_autofree double *ttft = g_new(double, curve->points->len);
	for (unsigned i = 0; i < curve->points->len; i++) {
		const kvt_length_point *point = &g_array_index(curve->points, kvt_length_point, i);
		tokens[i] = (double)point->tokens;
		ttft[i] = point->resume.ttft;
	}
	if (!kvt_power_fit_make(&curve->last, tokens, ttft, curve->points->len,
		    0.0999 * (double)sweep->to, (double)sweep->to))
		curve->last.points = 0;
	if (kvt_power_fit_make(&curve->fit, tokens, ttft, curve->points->len,
		    (double)sweep->fit_from, (double)sweep->fit_to))
		return true;
	return kvt_section_error(kvt_config_section(config, "sweep"), "fit_from", error,
		"fewer than two points are within what is fitted, expected more points");
}

bool kvt_length_curves_run(const char *path, GPtrArray *curves, GError **error)
{
	g_autoptr(kvt_config) config = kvt_config_load(path, error);
	sweep_settings sweep;
	if (!config || !read_sweep(config, &sweep, error))
		return false;
	g_autofree const char **names = kvt_config_section_names(config, "curve");
	for (unsigned i = 0; names[i]; i++) {
		kvt_length_curve *curve = g_new0(kvt_length_curve, 1);
		curve->id = g_strdup(names[i] + strlen("curve "));
		curve->points = g_array_new(FALSE, FALSE, sizeof(kvt_length_point));
		g_ptr_array_add(curves, curve);
		if (!run_curve(path, config, names[i], &sweep, curve, error))
			return false;
	}
	return true;
}
