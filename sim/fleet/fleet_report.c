/* fleet_report.c: the figures, key by key. */
#include "sim/fleet/fleet_report.h"

#include "sim/base/output.h"
#include "sim/engine/turn_report.h"
#include "sim/fleet/telemetry.h"
#include "sim/fleet/tenant_report.h"

static void set_real(json_t *object, const char *key, double value)
{
	json_object_set_new(object, key, kvt_json_real(value));
}

static void set_integer(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *percentiles(const kvt_percentiles *p)
{
	json_t *object = json_object();
	set_real(object, "p50", p->p50);
	set_real(object, "p95", p->p95);
	set_real(object, "p99", p->p99);
	set_real(object, "p999", p->p999);
	set_real(object, "mean", p->mean);
	set_real(object, "max", p->max);
	set_integer(object, "count", p->count);
	return object;
}

static void set_percentiles(json_t *object, const char *key, const kvt_percentiles *p)
{
	json_object_set_new(object, key, percentiles(p));
}

static json_t *hit_rates(const kvt_fleet *fleet, const kvt_service_figures *f)
{
	json_t *object = json_object();
	set_real(object, "hbm", f->hit_rate[KVT_KV_HBM]);
	for (unsigned i = 0; i < fleet->settings->n_tiers; i++)
		set_real(object, fleet->settings->tiers[i].name, f->hit_rate[i + 1]);
	if (fleet->settings->migration)
		set_real(object, "peer", f->hit_rate[KVT_KV_PEER]);
	set_real(object, "all", f->hit_rate_all);
	return object;
}

static void set_service(json_t *object, const kvt_fleet *fleet, const kvt_service_figures *f)
{
	set_percentiles(object, "ttft", &f->ttft);
	set_percentiles(object, "tpot", &f->tpot);
	set_real(object, "goodput", f->goodput);
	json_object_set_new(object, "hit_rate", hit_rates(fleet, f));
	set_integer(object, "requests", f->requests);
	set_integer(object, "served", f->served);
	set_integer(object, "refused_requests", f->refused);
	set_real(object, "goodput_share", f->goodput_share);
	set_real(object, "hit_tokens_share", f->hit_tokens_share);
	set_percentiles(object, "e2e", &f->e2e);
	set_percentiles(object, "queueing", &f->queueing);
}

static json_t *units(void)
{
	static const char *const texts[][2] = {
		{ "ttft", "s, a request, from its arrival to its first token" },
		{ "tpot", "s, mean of a request's tokens after the first" },
		{ "token_gap", "s, a token, from the one before; a histogram's, within 1.6%" },
		{ "e2e", "s, a request, from its arrival to its last token" },
		{ "queueing", "s, a request, from its arrival to its admission" },
		{ "goodput", "requests/s that met the SLOs of both ttft and tpot" },
		{ "hit_rate", "blocks of prompts found there, of those looked up, once a request" },
		{ "cost_per_mtoken", "USD, a million generated tokens" },
		{ "joules_per_mtoken", "J of all machines, a million generated tokens" },
	};
	json_t *object = json_object();
	for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
		json_object_set_new(object, texts[i][0], json_string(texts[i][1]));
	return object;
}

static json_t *refused(const kvt_fleet *fleet, const kvt_fleet_figures *f)
{
	json_t *object = json_object();
	/* the other reasons are tenants' */
	unsigned n = fleet->tenants ? KVT_REFUSALS : KVT_REFUSED_LARGE + 1;
	for (unsigned i = 1; i < n; i++)
		set_integer(object, kvt_refusal_names[i], f->refused_by[i]);
	return object;
}

static json_t *littles_law(const kvt_fleet *fleet)
{
	double mean = kvt_fleet_mean_requests(fleet);
	double product = kvt_fleet_rate_times_time(fleet);
	json_t *object = json_object();
	set_real(object, "mean_requests", mean);
	set_real(object, "rate_times_time", product);
	set_real(object, "error", mean > 0 ? ABS(mean - product) / mean : 0);
	return object;
}

static json_t *replicas(const kvt_fleet_figures *f)
{
	const kvt_replica_stats *s = &f->replicas;
	json_t *object = json_object();
	set_real(object, "busy_share", f->busy_share);
	set_real(object, "stall_share", f->stall_share);
	set_integer(object, "steps", s->steps);
	set_integer(object, "prompt_tokens", s->prompt_tokens);
	set_integer(object, "output_tokens", s->output_tokens);
	set_integer(object, "recomputed_tokens", s->recomputed_tokens);
	set_integer(object, "preemptions", s->preemptions);
	set_integer(object, "swaps", s->swaps);
	set_real(object, "running_mean", f->running);
	set_integer(object, "running_max", s->running_max);
	set_integer(object, "waiting_max", s->waiting_max);
	set_integer(object, "hbm_peak_bytes", f->peak_hbm_bytes);
	set_integer(object, "waste_peak_bytes", f->peak_waste_bytes);
	return object;
}

static const char *level_name(const kvt_fleet *fleet, unsigned level)
{
	return level == 0 ? "hbm" : fleet->settings->tiers[level - 1].name;
}

static json_t *moved(const kvt_fleet *fleet)
{
	json_t *object = json_object();
	unsigned levels = fleet->settings->n_tiers + 1;
	for (unsigned from = 0; from < levels; from++) {
		for (unsigned to = 0; to < levels; to++) {
			uint64_t bytes = kvt_fleet_transfers_moved(fleet->transfers, from, to);
			g_autofree char *key = g_strdup_printf(
				"%s to %s", level_name(fleet, from), level_name(fleet, to));
			if (bytes > 0)
				set_integer(object, key, bytes);
		}
	}
	return object;
}

static json_t *links(const kvt_fleet *fleet, double duration)
{
	json_t *array = json_array();
	unsigned n;
	const kvt_fleet_link *list = kvt_fleet_links_list(fleet->links, &n);
	for (unsigned i = 0; i < n; i++) {
		kvt_link_stats stats = kvt_network_link_stats(fleet->network, list[i].link);
		if (stats.bytes <= 0)
			continue;
		json_t *object = json_object();
		json_object_set_new(object, "name", kvt_json_text(list[i].name));
		set_real(object, "bytes_per_s", list[i].rate);
		set_real(object, "bytes", stats.bytes);
		set_real(object, "utilisation", stats.busy_units / (list[i].rate * duration));
		set_real(object, "busy_share", kvt_time_to_seconds(stats.busy) / duration);
		json_array_append_new(array, object);
	}
	return array;
}

static json_t *tenants(const kvt_fleet *fleet, const kvt_fleet_figures *f)
{
	json_t *array = json_array();
	for (unsigned i = 0; i < f->n_tenants; i++) {
		json_t *object = json_object();
		json_object_set_new(object, "name", kvt_json_text(fleet->trace->tenant_names[i]));
		set_service(object, fleet, &f->tenants[i]);
		if (fleet->tenants)
			kvt_tenant_report_add(object, fleet, f, i);
		json_array_append_new(array, object);
	}
	return array;
}

json_t *kvt_fleet_report_json(const kvt_fleet *fleet, const kvt_fleet_figures *f)
{
	const kvt_fleet_settings *s = fleet->settings;
	json_t *result = kvt_json_result("fleet", 1);
	json_object_set_new(result, "title", kvt_json_text(s->title));
	set_service(result, fleet, &f->all);
	set_real(result, "gpu_hours", f->gpu_hours);
	set_real(result, "cost_per_mtoken", f->cost_per_mtoken);
	set_real(result, "joules_per_mtoken", f->joules_per_mtoken);
	set_real(result, "cost_usd", f->cost);
	set_real(result, "joules", f->joules);
	set_percentiles(result, "token_gap", &f->token_gap);
	set_real(result, "duration_s", f->duration);
	set_real(result, "output_tokens_per_s",
		f->duration > 0 ? (double)f->replicas.output_tokens / f->duration : 0);
	json_object_set_new(result, "refused", refused(fleet, f));
	json_object_set_new(result, "littles_law", littles_law(fleet));
	set_integer(result, "hbm_kv_bytes", fleet->hbm_bytes);
	json_object_set_new(result, "replicas", replicas(f));
	json_object_set_new(result, "moved_bytes", moved(fleet));
	json_object_set_new(result, "links", links(fleet, f->duration));
	if (f->n_tenants > 1 || fleet->tenants)
		json_object_set_new(result, "tenants", tenants(fleet, f));
	if (fleet->telemetry)
		json_object_set_new(result, "telemetry", kvt_telemetry_json(fleet->telemetry));
	if (fleet->tenants)
		json_object_set_new(result, "fairness", kvt_tenant_report_fairness(fleet, f));
	json_object_set_new(result, "step_times", json_string(kvt_step_cost_source(fleet->cost)));
	json_object_set_new(result, "trace", kvt_json_text(fleet->trace->source));
	json_object_set_new(result, "units", units());
	json_object_set_new(result, "provenance", kvt_turn_provenance(s->experiment));
	return result;
}
