/* fleet_summary.c: a fleet's figures as text. */
#include "sim/cmd/fleet_summary.h"

#include <glib.h>

#include "sim/base/units.h"

static double number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static void print_quantity(FILE *stream, const char *label, double value, kvt_unit unit)
{
	g_autofree char *text = kvt_unit_format(value, unit);
	fprintf(stream, "  %-34s %s\n", label, text);
}

static void print_percentiles(FILE *stream, const char *label, const json_t *p)
{
	static const char *const keys[] = { "p50", "p95", "p99", "p999", "mean" };
	fprintf(stream, "  %-34s", label);
	for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
		g_autofree char *text = kvt_unit_format(number(p, keys[i]), KVT_UNIT_TIME);
		fprintf(stream, " %10s", text);
	}
	fputc('\n', stream);
}

static void print_latencies(FILE *stream, const json_t *result)
{
	fprintf(stream, "\n  %-34s %10s %10s %10s %10s %10s\n", "", "p50", "p95", "p99", "p99.9",
		"mean");
	print_percentiles(
		stream, "time to first token, a request", json_object_get(result, "ttft"));
	print_percentiles(
		stream, "time per token after it, a request", json_object_get(result, "tpot"));
	print_percentiles(
		stream, "between two tokens, a token", json_object_get(result, "token_gap"));
	print_percentiles(
		stream, "arrival to last token, a request", json_object_get(result, "e2e"));
	print_percentiles(
		stream, "arrival to admission, a request", json_object_get(result, "queueing"));
}

static void print_service(FILE *stream, const json_t *result)
{
	fprintf(stream, "\n  %-34s %.0f of %.0f\n", "requests served", number(result, "served"),
		number(result, "requests"));
	const char *key;
	json_t *value;
	json_object_foreach(json_object_get(result, "refused"), key, value)
	{
		if (json_number_value(value) > 0)
			fprintf(stream, "  refused, %-25s %.0f\n", key, json_number_value(value));
	}
	fprintf(stream, "  %-34s %.3g/s, %.1f%% of requests\n", "goodput",
		number(result, "goodput"), 100 * number(result, "goodput_share"));
	fprintf(stream, "  %-34s %.0f/s\n", "tokens generated",
		number(result, "output_tokens_per_s"));
	print_quantity(stream, "duration", number(result, "duration_s"), KVT_UNIT_TIME);
	fputs("\n  blocks of prompts found in\n", stream);
	json_object_foreach(json_object_get(result, "hit_rate"), key, value)
		fprintf(stream, "    %-32s %.1f%%\n", key, 100 * json_number_value(value));
}

static void print_use(FILE *stream, const json_t *result)
{
	const json_t *replicas = json_object_get(result, "replicas");
	fputs("\n", stream);
	fprintf(stream, "  %-34s %.1f%%, %.1f%% waiting for KV\n", "replicas are busy",
		100 * number(replicas, "busy_share"), 100 * number(replicas, "stall_share"));
	fprintf(stream, "  %-34s %.1f, at most %.0f\n", "sequences in a step",
		number(replicas, "running_mean"), number(replicas, "running_max"));
	fprintf(stream, "  %-34s %.0f, %.0f of them swapped out\n", "preemptions",
		number(replicas, "preemptions"), number(replicas, "swaps"));
	print_quantity(
		stream, "HBM for KV, a replica", number(result, "hbm_kv_bytes"), KVT_UNIT_BYTES);
	print_quantity(stream, "  internal fragmentation, peak",
		number(replicas, "waste_peak_bytes"), KVT_UNIT_BYTES);
	const char *key;
	json_t *value;
	json_object_foreach(json_object_get(result, "moved_bytes"), key, value)
	{
		g_autofree char *label = g_strdup_printf("moved from %s", key);
		print_quantity(stream, label, json_number_value(value), KVT_UNIT_BYTES);
	}
	size_t i;
	json_array_foreach(json_object_get(result, "links"), i, value)
		fprintf(stream, "  %-34s %.1f%% used, busy %.1f%% of the time\n",
			json_string_value(json_object_get(value, "name")),
			100 * number(value, "utilisation"), 100 * number(value, "busy_share"));
}

static void print_tenants(FILE *stream, const json_t *tenants)
{
	if (!tenants)
		return;
	fprintf(stream, "\n  %-24s %8s %10s %10s %10s %10s %8s\n", "tenant", "requests", "ttft p50",
		"ttft p99", "tpot p50", "tpot p99", "goodput");
	size_t i;
	json_t *tenant;
	json_array_foreach(tenants, i, tenant)
	{
		static const char *const times[][2] = { { "ttft", "p50" }, { "ttft", "p99" },
			{ "tpot", "p50" }, { "tpot", "p99" } };
		fprintf(stream, "  %-24s %8.0f", json_string_value(json_object_get(tenant, "name")),
			number(tenant, "requests"));
		for (unsigned t = 0; t < G_N_ELEMENTS(times); t++) {
			g_autofree char *text = kvt_unit_format(
				number(json_object_get(tenant, times[t][0]), times[t][1]),
				KVT_UNIT_TIME);
			fprintf(stream, " %10s", text);
		}
		fprintf(stream, " %6.1f%%\n", 100 * number(tenant, "goodput_share"));
	}
}

/* What tenants have sections for: what they had of what is shared. */
static void print_sharing(FILE *stream, const json_t *result)
{
	const json_t *fairness = json_object_get(result, "fairness");
	if (!fairness)
		return;
	fprintf(stream, "\n  %-24s %8s %10s %10s %8s %8s %8s\n", "tenant", "refused", "ttft p95",
		"ttft p99.9", "GPU", "links", "found");
	size_t i;
	json_t *tenant;
	json_array_foreach(json_object_get(result, "tenants"), i, tenant)
	{
		static const char *const tails[] = { "p95", "p999" };
		fprintf(stream, "  %-24s %8.0f", json_string_value(json_object_get(tenant, "name")),
			number(tenant, "refused_requests"));
		for (unsigned t = 0; t < G_N_ELEMENTS(tails); t++) {
			g_autofree char *text = kvt_unit_format(
				number(json_object_get(tenant, "ttft"), tails[t]), KVT_UNIT_TIME);
			fprintf(stream, " %10s", text);
		}
		fprintf(stream, " %7.1f%% %7.1f%% %7.1f%%\n", 100 * number(tenant, "gpu_share"),
			100 * number(tenant, "link_share"),
			100 * number(json_object_get(tenant, "hit_rate"), "all"));
	}
	fprintf(stream, "  %-34s %.3f by GPU time for its weight, %.3f by goodput\n",
		"Jain's fairness index", number(fairness, "gpu"), number(fairness, "goodput"));
}

static void print_cost(FILE *stream, const json_t *result)
{
	const json_t *little = json_object_get(result, "littles_law");
	fputs("\n", stream);
	fprintf(stream, "  %-34s %.4g\n", "GPU hours", number(result, "gpu_hours"));
	fprintf(stream, "  %-34s %.4g USD\n", "a million generated tokens cost",
		number(result, "cost_per_mtoken"));
	fprintf(stream, "  %-34s %.4g MJ\n", "  and take",
		1e-6 * number(result, "joules_per_mtoken"));
	fprintf(stream, "  %-34s %.4g on average; rate x time is off by %.1g\n",
		"requests that are there", number(little, "mean_requests"),
		number(little, "error"));
}

void kvt_fleet_summary_write(const json_t *result, FILE *stream)
{
	const char *title = json_string_value(json_object_get(result, "title"));
	if (title && title[0] != '\0')
		fprintf(stream, "%s\n", title);
	print_latencies(stream, result);
	print_service(stream, result);
	print_tenants(stream, json_object_get(result, "tenants"));
	print_sharing(stream, result);
	print_use(stream, result);
	print_cost(stream, result);
}
