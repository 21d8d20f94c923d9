/*
 * node_metrics.c: what the storage node has done and is doing as Prometheus' text. Names keep their
 * meaning; what is of a tenant carries its number, and no key ever.
 */
#include <inttypes.h>
#include <math.h>

#include "emu/remote/node_internal.h"

static void head(GString *text, const char *name, const char *type, const char *help)
{
	g_string_append_printf(text, "# HELP kvtier_node_%s %s\n# TYPE kvtier_node_%s %s\n", name,
		help, name, type);
}

static void single(
	GString *text, const char *name, const char *type, const char *help, uint64_t value)
{
	head(text, name, type, help);
	g_string_append_printf(text, "kvtier_node_%s %" PRIu64 "\n", name, value);
}

/* --- Of each tenant --- */

typedef struct tenant_metric {
	const char *name, *type, *help;
	size_t offset; /* of a uint64_t in kvt_node_tenant_state */
} tenant_metric;

#define COUNT(field) offsetof(kvt_node_tenant_state, counts.field)
#define STATE(field) offsetof(kvt_node_tenant_state, field)

static const tenant_metric metrics[] = {
	{ "leased_bytes_total", "counter", "Bytes that clients were told to read in the pool",
		COUNT(leased_bytes) },
	{ "written_bytes_total", "counter", "Bytes written to memory of clients",
		COUNT(written_bytes) },
	{ "store_read_bytes_total", "counter", "Bytes of fetches that came from the store",
		COUNT(store_bytes) },
	{ "committed_bytes_total", "counter", "Bytes of pages acknowledged",
		COUNT(committed_bytes) },
	{ "leases_total", "counter", "Leases given", COUNT(leases) },
	{ "expired_leases_total", "counter", "Leases that ran out", COUNT(expired_leases) },
	{ "tickets_total", "counter", "Writes begun", COUNT(tickets) },
	{ "expired_tickets_total", "counter", "Writes that took too long", COUNT(expired_tickets) },
	{ "delayed_requests_total", "counter", "Requests that waited for bandwidth",
		COUNT(delayed) },
	{ "waiting_requests_total", "counter", "Requests that waited for room in the pool",
		COUNT(waited) },
	{ "connections_total", "counter", "Connections that came up", COUNT(connections) },
	{ "protocol_errors_total", "counter", "Connections ended for what was sent",
		COUNT(protocol_errors) },
	{ "broken_connections_total", "counter", "Connections that ended with an error",
		COUNT(broken_connections) },
	{ "capacity_bytes", "gauge", "Bytes of pages that may be stored", STATE(capacity) },
	{ "used_bytes", "gauge", "Bytes of pages stored", STATE(used) },
	{ "reserved_bytes", "gauge", "Bytes of writes under way", STATE(reserved) },
	{ "pool_bytes", "gauge", "Bytes of the pool taken", STATE(pool_bytes) },
	{ "held_bytes", "gauge", "Bytes of the pool held by leases, writes and transfers",
		STATE(held_bytes) },
	{ 0 },
};

static const tenant_metric gauges[] = {
	{ "connections", "gauge", "Connections now", STATE(connections) },
	{ "requests", "gauge", "Requests and writes under way", STATE(requests) },
	{ "leases", "gauge", "Leases now", STATE(leases) },
	{ "tickets", "gauge", "Writes between RESERVE and their end", STATE(tickets) },
	{ 0 },
};

static void add_states(GString *text, const kvt_node_tenant_state *states, unsigned n)
{
	for (const tenant_metric *m = metrics; m->name; m++) {
		head(text, m->name, m->type, m->help);
		for (unsigned i = 0; i < n; i++)
			g_string_append_printf(text, "kvtier_node_%s{tenant=\"%u\"} %" PRIu64 "\n",
				m->name, states[i].number,
				*(const uint64_t *)((const char *)&states[i] + m->offset));
	}
	for (const tenant_metric *m = gauges; m->name; m++) {
		head(text, m->name, m->type, m->help);
		for (unsigned i = 0; i < n; i++)
			g_string_append_printf(text, "kvtier_node_%s{tenant=\"%u\"} %u\n", m->name,
				states[i].number,
				*(const unsigned *)((const char *)&states[i] + m->offset));
	}
}

static void add_labelled(GString *text, const char *name, const char *label,
	const char *const *labels, unsigned n_labels, size_t offset,
	const kvt_node_tenant_state *states, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const uint64_t *values = (const uint64_t *)((const char *)&states[i] + offset);
		for (unsigned k = 0; k < n_labels; k++)
			if (labels[k])
				g_string_append_printf(text,
					"kvtier_node_%s{tenant=\"%u\",%s=\"%s\"} %" PRIu64 "\n",
					name, states[i].number, label, labels[k], values[k]);
	}
}

/* --- Of the node --- */

static void add_refusals(GString *text, const kvt_node *node)
{
	head(text, "refused_connections_total", "counter", "Connections refused, by reason");
	for (unsigned i = 0; i < KVT_NODE_REFUSALS; i++)
		if (kvt_node_refusal_names[i])
			g_string_append_printf(text,
				"kvtier_node_refused_connections_total{reason=\"%s\"} %" PRIu64
				"\n",
				kvt_node_refusal_names[i], node->refused[i]);
	g_string_append_printf(text,
		"kvtier_node_refused_connections_total{reason=\"hello\"} %" PRIu64 "\n",
		node->strange_hellos);
}

static void add_latencies(GString *text, const kvt_node *node)
{
	head(text, "request_seconds", "histogram", "From a request to its answer");
	for (unsigned type = 0; type < KVT_NODE_TYPES; type++) {
		const char *name = kvt_node_type_names[type];
		uint64_t sum = 0;
		if (!name || type == KVT_REMOTE_RELEASE || type == KVT_REMOTE_ABORT)
			continue;
		for (unsigned i = 0; i < KVT_NODE_TIMES; i++) {
			char end[G_ASCII_DTOSTR_BUF_SIZE] = "+Inf";
			sum += node->latency[type][i];
			if (!isinf(kvt_node_times[i]))
				g_ascii_formatd(end, sizeof(end), "%g", kvt_node_times[i]);
			g_string_append_printf(text,
				"kvtier_node_request_seconds_bucket{request=\"%s\",le=\"%s\"} "
				"%" PRIu64 "\n",
				name, end, sum);
		}
		char seconds[G_ASCII_DTOSTR_BUF_SIZE];
		g_ascii_formatd(seconds, sizeof(seconds), "%.9g", node->latency_sum[type]);
		g_string_append_printf(text,
			"kvtier_node_request_seconds_sum{request=\"%s\"} %s\n"
			"kvtier_node_request_seconds_count{request=\"%s\"} %" PRIu64 "\n",
			name, seconds, name, sum);
	}
}

static void add_pool(GString *text, const kvt_node *node)
{
	const kvt_slab_pool_info info = kvt_slab_pool_get_info(node->pool);
	single(text, "slab_bytes", "gauge", "Bytes of a slab of the pool", info.slab_bytes);
	single(text, "slabs", "gauge", "Slabs of the pool", info.slabs);
	single(text, "slabs_taken", "gauge", "Slabs that are some tenant's", info.taken);
	single(text, "slabs_held", "gauge", "Slabs that somebody needs as they are", info.held);
	single(text, "pool_page_bytes", "gauge", "Bytes of pages found in the pool",
		info.page_bytes);
	single(text, "evicted_slabs_total", "counter", "Slabs given up for others", info.evicted);
	single(text, "evicted_pages_total", "counter", "Pages forgotten with them",
		info.evicted_pages);
	single(text, "slabs_refused_total", "counter", "Times that there was no slab to be had",
		info.refused);
	single(text, "registrations_refused_total", "counter",
		"Times that the device registered no slab", node->region_errors);
	single(text, "draining", "gauge", "Whether the node is going down", node->draining);
}

char *kvt_node_metrics(const kvt_node *node)
{
	unsigned n = node->n_tenants;
	GString *text = g_string_new(NULL);
	g_autofree kvt_node_tenant_state *states = g_new(kvt_node_tenant_state, n);
	for (unsigned i = 0; i < n; i++)
		states[i] = kvt_node_tenant_get(node, i);
	head(text, "requests_total", "counter", "Requests, by kind");
	add_labelled(text, "requests_total", "request", kvt_node_type_names, KVT_NODE_TYPES,
		COUNT(requests), states, n);
	head(text, "errors_total", "counter", "Answers that refused, by cause");
	add_labelled(text, "errors_total", "cause", kvt_node_cause_names, KVT_NODE_CAUSES,
		COUNT(errors), states, n);
	add_states(text, states, n);
	add_refusals(text, node);
	add_pool(text, node);
	add_latencies(text, node);
	return g_string_free(text, FALSE);
}
