/* sweep_plan.c: reads axes and samples from options and from an experiment file. */
#include "sim/sweep/sweep_plan.h"

#include <string.h>

#include "sim/base/error.h"

typedef struct sweep_settings {
	int64_t sample, seed;
	int method;
	int64_t from, to, points, fit_from, fit_to; /* fit_ is what curves are fitted to */
} sweep_settings;

#define FIELD(name) offsetof(sweep_settings, name)

static const kvt_option sweep_options[] = {
	{ "sample", KVT_OPTION_INTEGER, 0, FIELD(sample), "0", 0, KVT_SWEEP_POINTS_MAX, NULL,
		"points of a sample; 0: a grid" },
	{ "method", KVT_OPTION_CHOICE, 0, FIELD(method), "latin", 0, 0, kvt_sample_method_names,
		"of the sample: a Latin hypercube, or a scrambled Halton sequence" },
	{ "seed", KVT_OPTION_INTEGER, 0, FIELD(seed), "1", 0, 9e15, NULL, "of the sample" },
	{ "from", KVT_OPTION_INTEGER, 0, FIELD(from), "0", 0, 1e12, NULL,
		"shortest context, tokens" },
	{ "to", KVT_OPTION_INTEGER, 0, FIELD(to), "0", 0, 1e12, NULL, "longest context, tokens" },
	{ "points", KVT_OPTION_INTEGER, 0, FIELD(points), "20", 2, 10000, NULL,
		"lengths, evenly spaced on a logarithmic scale" },
	{ "fit_from", KVT_OPTION_INTEGER, 0, FIELD(fit_from), "0", 0, 1e12, NULL, "" },
	{ "fit_to", KVT_OPTION_INTEGER, 0, FIELD(fit_to), "0", 0, 1e12, NULL, "" },
	{ 0 },
};

static void axis_free(void *axis)
{
	kvt_sweep_axis_free(axis);
}

/* Adds an axis, in the place of one of the same key. The error has no place. */
static gboolean add_axis(kvt_sweep_plan *plan, const char *section, const char *key,
	const char *spec, kvt_sweep_find_option find, GError **error)
{
	const kvt_option *option = find(section, key);
	if (!option)
		return kvt_error_usage(
			error, "an experiment has no such key, see \"kvtier help experiment\"");
	g_autofree char *name = g_strconcat(section, ".", key, NULL);
	g_autofree char *stripped = g_strstrip(g_strdup(spec));
	kvt_sweep_axis *axis = kvt_sweep_axis_new(name, stripped, option, error);
	if (!axis)
		return FALSE;
	for (unsigned i = 0; i < plan->axes->len; i++) {
		const kvt_sweep_axis *other = g_ptr_array_index(plan->axes, i);
		if (!g_str_equal(other->name, name))
			continue;
		axis_free(plan->axes->pdata[i]);
		plan->axes->pdata[i] = axis;
		return TRUE;
	}
	g_ptr_array_add(plan->axes, axis);
	return TRUE;
}

/* --over section.key=values */
static gboolean add_over(
	kvt_sweep_plan *plan, const char *over, kvt_sweep_find_option find, GError **error)
{
	const char *equals = strchr(over, '=');
	g_autofree char *left = g_strndup(over, equals ? (size_t)(equals - over) : strlen(over));
	g_strstrip(left);
	char *dot = strrchr(left, '.');
	if (!equals || !dot) {
		g_autofree char *quoted = kvt_error_quote(over);
		return kvt_error_usage(
			error, "--over %s: expected section.key=v1,v2,... or =low..high:n", quoted);
	}
	*dot = '\0';
	g_autoptr(GError) reason = NULL;
	if (add_axis(plan, left, dot + 1, equals + 1, find, &reason))
		return TRUE;
	return kvt_error_usage(error, "--over %s.%s: %s", left, dot + 1, reason->message);
}

/* The axes that a section of the file has: [sweep], whose keys are section.key, or [sweep SECTION].
 */
static gboolean add_section(
	kvt_sweep_plan *plan, kvt_section *section, kvt_sweep_find_option find, GError **error)
{
	const char *own = strchr(kvt_section_name(section), ' ');
	g_autofree const char **keys = kvt_section_keys(section);
	for (unsigned i = 0; keys[i]; i++) {
		g_autofree char *left = g_strdup(own ? own + 1 : keys[i]);
		char *dot = own ? NULL : strrchr(left, '.');
		if (!own && !dot)
			continue;
		const char *key = own ? keys[i] : dot + 1;
		if (dot)
			*dot = '\0';
		g_autoptr(GError) reason = NULL;
		if (!add_axis(plan, left, key, kvt_section_text(section, keys[i]), find, &reason))
			return kvt_section_error(section, keys[i], error, "%s", reason->message);
	}
	return TRUE;
}

/* Plain keys of [sweep] that are no settings of it. */
static gboolean refuse_unknown(kvt_section *section, GError **error)
{
	g_autofree const char **keys = kvt_section_keys(section);
	const char *names[G_N_ELEMENTS(sweep_options)] = { NULL };
	for (unsigned i = 0; sweep_options[i].name; i++)
		names[i] = sweep_options[i].name;
	for (unsigned i = 0; keys[i]; i++) {
		if (strchr(keys[i], '.') || g_strv_contains(names, keys[i]))
			continue;
		const char *near = kvt_error_suggest(keys[i], names);
		return near ? kvt_section_error(section, keys[i], error,
				      "unknown key, did you mean \"%s\"?", near)
			    : kvt_section_error(section, keys[i], error,
				      "unknown key, expected section.key or a setting of the "
				      "sweep");
	}
	return TRUE;
}

static gboolean read_file(kvt_sweep_plan *plan, kvt_config *config, sweep_settings *settings,
	kvt_sweep_find_option find, GError **error)
{
	kvt_section *section = kvt_config_section_or_empty(config, "sweep");
	if (!refuse_unknown(section, error) ||
		!kvt_section_read(section, sweep_options, settings, FALSE, error))
		return FALSE;
	if (settings->to > 0) {
		g_autofree char *range = g_strdup_printf("%" G_GINT64_FORMAT "..%" G_GINT64_FORMAT
							 ":%" G_GINT64_FORMAT ":log",
			settings->from, settings->to, settings->points);
		g_autoptr(GError) reason = NULL;
		if (!add_axis(plan, "context", "tokens", range, find, &reason))
			return kvt_section_error(section, "to", error, "%s", reason->message);
	}
	g_autofree const char **names = kvt_config_section_names(config, "sweep");
	for (unsigned i = 0; names[i]; i++)
		if (!add_section(plan, kvt_config_section(config, names[i]), find, error))
			return FALSE;
	return TRUE;
}

/* An option of the command line over the file's: as the key would be read. */
static gboolean override(
	const char *text, unsigned option, int64_t *value, const char *flag, GError **error)
{
	double number = (double)*value;
	g_autoptr(GError) reason = NULL;
	if (text && !kvt_option_value(&sweep_options[option], text, &number, &reason))
		return kvt_error_usage(error, "%s: %s", flag, reason->message);
	*value = (int64_t)number;
	return TRUE;
}

static gboolean apply_request(
	const kvt_sweep_request *request, sweep_settings *settings, GError **error)
{
	int64_t method = settings->method;
	if (!override(request->sample, 0, &settings->sample, "--sample", error) ||
		!override(request->method, 1, &method, "--method", error) ||
		!override(request->seed, 2, &settings->seed, "--seed", error))
		return FALSE;
	settings->method = (int)method;
	if (request->sample && settings->sample == 0)
		return kvt_error_usage(error, "--sample: 0 points, expected at least one");
	return TRUE;
}

/* Counts the points. */
static gboolean measure(kvt_sweep_plan *plan, const sweep_settings *settings, GError **error)
{
	if (plan->axes->len == 0)
		return kvt_error_usage(error,
			"nothing is varied, expected --over section.key=v1,v2,... or a section "
			"[sweep] with such keys");
	if (plan->axes->len > KVT_SAMPLE_AXES_MAX)
		return kvt_error_usage(error, "%u keys are varied, expected at most %d",
			plan->axes->len, KVT_SAMPLE_AXES_MAX);
	plan->sampled = settings->sample > 0;
	plan->method = (kvt_sample_method)settings->method;
	plan->seed = (uint64_t)settings->seed;
	double points = 1;
	for (unsigned i = 0; i < plan->axes->len && !plan->sampled; i++) {
		const kvt_sweep_axis *axis = g_ptr_array_index(plan->axes, i);
		if (axis->levels == 0)
			return kvt_error_usage(error,
				"%s: a range without a number of points, expected low..high:n, or "
				"a sample (--sample)",
				axis->name);
		points *= (double)axis->levels;
	}
	if (points > KVT_SWEEP_POINTS_MAX)
		return kvt_error_usage(
			error, "the grid has %.3g points, expected at most 1G: sample it", points);
	plan->n_points = plan->sampled ? (uint64_t)settings->sample : (uint64_t)points;
	return TRUE;
}

kvt_sweep_plan *kvt_sweep_plan_new(kvt_config *config, const kvt_sweep_request *request,
	kvt_sweep_find_option find, GError **error)
{
	g_autoptr(kvt_sweep_plan) plan = g_new0(kvt_sweep_plan, 1);
	plan->axes = g_ptr_array_new_with_free_func(axis_free);
	sweep_settings settings;
	if (!read_file(plan, config, &settings, find, error) ||
		!apply_request(request, &settings, error))
		return NULL;
	for (unsigned i = 0; request->over && request->over[i]; i++)
		if (!add_over(plan, request->over[i], find, error))
			return NULL;
	if (!measure(plan, &settings, error))
		return NULL;
	kvt_config_remove(config, "sweep");
	return g_steal_pointer(&plan);
}

void kvt_sweep_plan_free(kvt_sweep_plan *plan)
{
	if (!plan)
		return;
	g_ptr_array_free(plan->axes, TRUE);
	g_free(plan);
}

char *kvt_sweep_plan_value(const kvt_sweep_plan *plan, uint64_t point, unsigned axis)
{
	const kvt_sweep_axis *a = g_ptr_array_index(plan->axes, axis);
	if (plan->sampled)
		return kvt_sweep_axis_at(a, kvt_sample_coordinate(plan->method, plan->seed, axis,
						    a->name, point, plan->n_points));
	for (unsigned i = plan->axes->len - 1; i > axis; i--)
		point /= ((const kvt_sweep_axis *)g_ptr_array_index(plan->axes, i))->levels;
	return kvt_sweep_axis_level(a, point % a->levels);
}

char *kvt_sweep_plan_point(const kvt_sweep_plan *plan, uint64_t point)
{
	GString *text = g_string_new(NULL);
	for (unsigned i = 0; i < plan->axes->len; i++) {
		const kvt_sweep_axis *axis = g_ptr_array_index(plan->axes, i);
		g_autofree char *value = kvt_sweep_plan_value(plan, point, i);
		g_string_append_printf(text, "%s%s=%s", i > 0 ? " " : "", axis->name, value);
	}
	return g_string_free(text, FALSE);
}

void kvt_sweep_plan_apply(const kvt_sweep_plan *plan, uint64_t point, kvt_config *config)
{
	for (unsigned i = 0; i < plan->axes->len; i++) {
		const kvt_sweep_axis *axis = g_ptr_array_index(plan->axes, i);
		g_autofree char *value = kvt_sweep_plan_value(plan, point, i);
		g_autofree char *assignment = g_strconcat(axis->name, "=", value, NULL);
		/* its name and value have been read as such before */
		if (!kvt_config_set(config, assignment, NULL))
			g_assert_not_reached();
	}
}

char *kvt_sweep_plan_text(const kvt_sweep_plan *plan)
{
	GString *text = g_string_new(NULL);
	for (unsigned i = 0; i < plan->axes->len; i++) {
		const kvt_sweep_axis *axis = g_ptr_array_index(plan->axes, i);
		g_autofree char *over = g_strconcat(axis->name, "=", axis->spec, NULL);
		g_autofree char *quoted =
			strpbrk(over, " '\"$\\*?!;&|<>()") ? g_shell_quote(over) : g_strdup(over);
		g_string_append_printf(text, "%s--over %s", i > 0 ? " " : "", quoted);
	}
	if (plan->sampled)
		g_string_append_printf(text,
			" --sample %" G_GUINT64_FORMAT " --method %s --seed %" G_GUINT64_FORMAT,
			plan->n_points, kvt_sample_method_names[plan->method], plan->seed);
	return g_string_free(text, FALSE);
}
