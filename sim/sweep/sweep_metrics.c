/* sweep_metrics.c: numbers of results, by name. */
#include "sim/sweep/sweep_metrics.h"

#include <math.h>
#include <string.h>

void kvt_sweep_metrics_init(kvt_sweep_metrics *metrics)
{
	metrics->names = g_string_new(NULL);
	metrics->values = g_array_new(FALSE, FALSE, sizeof(double));
}

void kvt_sweep_metrics_reset(kvt_sweep_metrics *metrics)
{
	g_string_truncate(metrics->names, 0);
	g_array_set_size(metrics->values, 0);
}

void kvt_sweep_metrics_clear(kvt_sweep_metrics *metrics)
{
	if (metrics->names)
		g_string_free(metrics->names, TRUE);
	g_clear_pointer(&metrics->values, g_array_unref);
	metrics->names = NULL;
}

void kvt_sweep_metrics_add(kvt_sweep_metrics *metrics, const char *name, double value)
{
	for (const char *c = name; *c; c++)
		g_string_append_c(metrics->names, *c == '/' || (unsigned char)*c < ' ' ? '_' : *c);
	g_string_append_c(metrics->names, '\n');
	g_array_append_val(metrics->values, value);
}

static void add_members(kvt_sweep_metrics *metrics, GString *path, const json_t *object)
{
	const size_t length = path->len;
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)object, key, value)
	{
		g_string_truncate(path, length);
		g_string_append(path, key);
		if (json_is_number(value))
			kvt_sweep_metrics_add(metrics, path->str, json_number_value(value));
		else if (json_is_boolean(value))
			kvt_sweep_metrics_add(metrics, path->str, json_is_true(value));
		else if (json_is_null(value))
			kvt_sweep_metrics_add(metrics, path->str, NAN);
		else if (json_is_object(value))
			add_members(metrics, g_string_append_c(path, '.'), value);
	}
}

void kvt_sweep_metrics_add_json(kvt_sweep_metrics *metrics, const json_t *object)
{
	GString *path = g_string_new(NULL);
	add_members(metrics, path, object);
	g_string_free(path, TRUE);
}

/* Times and amounts whose names have no unit in them, as a fleet's have. */
static const struct {
	const char *prefix, *units;
} named_units[] = { { "ttft.", "s" }, { "tpot.", "s" }, { "e2e.", "s" }, { "queueing.", "s" },
	{ "token_gap.", "s" }, { "cost_", "USD" }, { "joules", "J" }, { "gpu_hours", "h" } };

const char *kvt_sweep_metric_units(const char *name)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(named_units); i++)
		if (g_str_has_prefix(name, named_units[i].prefix))
			return g_str_has_suffix(name, ".count") ? "" : named_units[i].units;
	if (g_str_has_suffix(name, "bytes_per_s"))
		return "B/s";
	if (g_str_has_suffix(name, "_per_s") || g_str_equal(name, "goodput"))
		return "/s";
	if (g_str_has_suffix(name, "_s"))
		return "s";
	if (g_str_has_suffix(name, "bytes") || g_str_has_prefix(name, "bytes.") ||
		strstr(name, "_bytes.") || strstr(name, ".bytes."))
		return "B";
	return "";
}
