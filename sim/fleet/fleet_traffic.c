/* fleet_traffic.c: opens traces, makes others from them, and puts them side by side. */
#include "sim/fleet/fleet_traffic.h"

#include "sim/base/error.h"
#include "sim/base/rng.h"
#include "traces/request_model.h"
#include "traces/request_transform.h"

static char *tenant_path(const kvt_fleet_settings *s, const kvt_tenant_settings *t)
{
	return kvt_experiment_find_file(s->experiment, t->trace, "traces/samples");
}

static bool has_own(const kvt_tenant_settings *t)
{
	return t->trace[0] != '\0';
}

/* Of a model that is fitted to the trace; each tenant's draws are its own. */
static kvt_request_trace *generate(const kvt_fleet_settings *s, const kvt_tenant_settings *t,
	const kvt_request_trace *trace, GError **error)
{
	kvt_request_model model = kvt_request_model_fit(trace);
	model.session_rate *= t->rate_scale;
	uint64_t seed = (uint64_t)s->seed * 0x9e3779b97f4a7c15u + g_str_hash(t->name);
	return kvt_request_generate(&model, 0, t->generate, seed, error);
}

/* Faster, and the first of it. */
static kvt_request_trace *edit(const kvt_tenant_settings *t, const kvt_request_trace *trace,
	bool is_scaled, const char *name, GError **error)
{
	double scale = is_scaled ? 1 : t->rate_scale;
	kvt_request_edit e = { .count = (uint64_t)t->requests, .rate = scale };
	if (t->until > 0)
		e.until = (kvt_time)MAX((double)t->until * scale, 1);
	return kvt_request_transform(trace, &e, name, error);
}

static kvt_request_trace *open_tenant(
	const kvt_fleet_settings *s, const kvt_tenant_settings *t, GError **error)
{
	g_autofree char *path = tenant_path(s, t);
	g_autoptr(kvt_request_trace) trace = kvt_request_trace_open(path, error);
	if (!trace)
		return NULL;
	if (t->generate > 0) {
		kvt_request_trace *made = generate(s, t, trace, error);
		if (!made)
			return NULL;
		kvt_request_trace_close(trace);
		trace = made;
	}
	return edit(t, trace, t->generate > 0, path, error);
}

static kvt_request_trace *open_common(const kvt_fleet_settings *s, GError **error)
{
	g_autofree char *path = kvt_fleet_settings_trace_path(s);
	return kvt_request_trace_open(path, error);
}

static gboolean check_tenants(
	const kvt_fleet_settings *s, const kvt_request_trace *trace, GError **error)
{
	for (unsigned i = 0; i < s->n_tenants; i++) {
		const kvt_tenant_settings *tenant = &s->tenants[i];
		bool found = false;
		for (uint32_t t = 0; t < trace->n_tenants && !found; t++)
			found = g_str_equal(trace->tenant_names[t], tenant->name);
		if (found == tenant->active)
			continue;
		g_autofree char *name = g_strconcat("tenant ", tenant->name, NULL);
		kvt_section *section = kvt_config_section(s->experiment->config, name);
		if (found)
			return kvt_section_error(section, "active", error,
				"requests of [traffic] trace come in any case, expected yes where "
				"a tenant has no trace of its own");
		return kvt_section_error(section, NULL, error,
			"no request is of a tenant of this name, expected trace = FILE or one that "
			"[traffic] trace has");
	}
	return TRUE;
}

static kvt_request_trace *mix(const kvt_fleet_settings *s, GPtrArray *traces, GError **error)
{
	g_autofree kvt_request_part *parts = g_new0(kvt_request_part, s->n_tenants + 1);
	unsigned n = 0;
	if (s->trace[0] != '\0') {
		kvt_request_trace *trace = open_common(s, error);
		if (!trace)
			return NULL;
		g_ptr_array_add(traces, trace);
		parts[n++].trace = trace;
	}
	for (unsigned i = 0; i < s->n_tenants; i++) {
		const kvt_tenant_settings *t = &s->tenants[i];
		if (!t->active || !has_own(t))
			continue;
		kvt_request_trace *trace = open_tenant(s, t, error);
		if (!trace)
			return NULL;
		g_ptr_array_add(traces, trace);
		parts[n++] = (kvt_request_part){ .trace = trace, .name = t->name };
	}
	return kvt_request_mix(parts, n, 0, error);
}

static void close_trace(void *trace)
{
	kvt_request_trace_close(trace);
}

kvt_request_trace *kvt_fleet_traffic_open(const kvt_fleet_settings *s, GError **error)
{
	bool own = false;
	for (unsigned i = 0; i < s->n_tenants; i++)
		own |= s->tenants[i].active && has_own(&s->tenants[i]);
	g_autoptr(GPtrArray) traces = g_ptr_array_new_with_free_func(close_trace);
	g_autoptr(kvt_request_trace) trace = own ? mix(s, traces, error) : open_common(s, error);
	if (!trace || !check_tenants(s, trace, error))
		return NULL;
	return g_steal_pointer(&trace);
}

char *kvt_fleet_traffic_key(const kvt_fleet_settings *s)
{
	GString *key = g_string_new(NULL);
	if (s->trace[0] != '\0') {
		g_autofree char *path = kvt_fleet_settings_trace_path(s);
		g_string_append(key, path);
	}
	for (unsigned i = 0; i < s->n_tenants; i++) {
		const kvt_tenant_settings *t = &s->tenants[i];
		if (!has_own(t))
			continue;
		g_autofree char *path = tenant_path(s, t);
		g_string_append_printf(key,
			"\n%s %s %d %.17g %" G_GINT64_FORMAT " %" G_GINT64_FORMAT
			" %" G_GINT64_FORMAT " %" G_GINT64_FORMAT,
			t->name, path, t->active, t->rate_scale, t->requests, t->until, t->generate,
			t->generate > 0 ? s->seed : 0);
	}
	return g_string_free(key, FALSE);
}
