/* sweep_fleet.c: a fleet (`kvtier fleet`) as a point of a sweep. A request trace is opened once,
 * and shared by all points that have the same traffic. */
#include <string.h>

#include "sim/fleet/fleet_report.h"
#include "sim/fleet/fleet_traffic.h"
#include "sim/sweep/sweep_kind.h"

typedef struct shared_traces {
	GMutex lock;
	GHashTable *by_key; /* kvt_request_trace, by kvt_fleet_traffic_key */
} shared_traces;

static bool accepts(kvt_config *config)
{
	return kvt_config_section(config, "fleet") || kvt_config_section(config, "traffic");
}

static const kvt_option *find(const kvt_option *options, const char *key)
{
	for (; options->name; options++)
		if (g_str_equal(options->name, key))
			return options;
	return NULL;
}

static const kvt_option *find_option(const char *section, const char *key)
{
	bool any = g_str_equal(section, "global");
	const kvt_option *found = NULL;
	for (const kvt_fleet_section *s = kvt_fleet_sections(); s->name && !found; s++)
		if (any || g_str_equal(s->name, section))
			found = find(s->options, key);
	if (!found && (any || g_str_has_prefix(section, "tier ")))
		found = find(kvt_fleet_tier_options, key);
	if (!found && (any || g_str_has_prefix(section, "tenant ")))
		found = find(kvt_tenant_options, key);
	if (!found && (any || g_strv_contains(kvt_fleet_shared_sections, section)))
		found = kvt_experiment_option(section, key);
	return found;
}

static void free_trace(void *trace)
{
	kvt_request_trace_close(trace);
}

static void *begin(void)
{
	shared_traces *shared = g_new0(shared_traces, 1);
	g_mutex_init(&shared->lock);
	shared->by_key = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_trace);
	return shared;
}

static void end(void *arg)
{
	shared_traces *shared = arg;
	g_hash_table_destroy(shared->by_key);
	g_mutex_clear(&shared->lock);
	g_free(shared);
}

/* Held while a trace is read: the others would want it, too. */
static const kvt_request_trace *open_trace(
	shared_traces *shared, const kvt_fleet_settings *settings, GError **error)
{
	g_autofree char *key = kvt_fleet_traffic_key(settings);
	g_mutex_lock(&shared->lock);
	kvt_request_trace *trace = g_hash_table_lookup(shared->by_key, key);
	if (!trace && (trace = kvt_fleet_traffic_open(settings, error)) != NULL)
		g_hash_table_insert(shared->by_key, g_strdup(key), trace);
	g_mutex_unlock(&shared->lock);
	return trace;
}

static bool run(void *shared, kvt_config *config, kvt_model_store *models,
	kvt_sweep_metrics *metrics, GError **error)
{
	g_autoptr(kvt_fleet_settings) settings = kvt_fleet_settings_new(config, models, error);
	const kvt_request_trace *trace = settings ? open_trace(shared, settings, error) : NULL;
	g_autoptr(kvt_fleet) fleet = trace ? kvt_fleet_new(settings, trace, error) : NULL;
	if (!fleet || !kvt_fleet_run(fleet, error))
		return false;
	g_autoptr(kvt_fleet_figures) figures = kvt_fleet_figures_new(fleet);
	json_t *result = kvt_fleet_report_json(fleet, figures);
	json_object_del(result, "seed");
	kvt_sweep_metrics_add_json(metrics, result);
	json_decref(result);
	return true;
}

static const char *const shown[] = { "ttft.p50", "ttft.p95", "ttft.p99", "tpot.p95", "goodput",
	"cost_per_mtoken", NULL };

const kvt_sweep_kind kvt_sweep_fleet = {
	.name = "fleet",
	.accepts = accepts,
	.option = find_option,
	.begin = begin,
	.end = end,
	.run = run,
	.shown = shown,
};
