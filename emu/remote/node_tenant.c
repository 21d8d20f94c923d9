/*
 * node_tenant.c: what a tenant may have at once, and its share of the bandwidth: a bucket of bytes
 * that requests draw from in the order of their class, and wait for.
 */
#include <errno.h>
#include <math.h>

#include "emu/remote/node_internal.h"

/* Requests of higher classes that one of a lower class waits behind at most. */
#define PATIENCE 16u

node_tenant *kvt_node_tenant_find(kvt_node *node, uint32_t number)
{
	for (unsigned i = 0; i < node->n_tenants; i++)
		if (node->tenants[i].settings.number == number)
			return &node->tenants[i];
	return NULL;
}

/* --- Bandwidth --- */

void kvt_node_begin(node_request *request)
{
	if (!request->session->connection)
		kvt_node_refuse(request, -ESHUTDOWN);
	else if (request->type == KVT_REMOTE_FETCH)
		kvt_node_fetch(request);
	else
		kvt_node_reserve(request);
}

static void refill(node_tenant *tenant)
{
	kvt_time now = kvt_loop_now(tenant->node->loop);
	tenant->tokens += tenant->settings.bandwidth * kvt_time_to_seconds(now - tenant->filled);
	tenant->tokens = MIN(tenant->tokens, (double)tenant->settings.burst);
	tenant->filled = now;
}

/* The class whose turn it is: the highest, but a lower one now and then. */
static node_queue *next_queue(node_tenant *tenant)
{
	node_queue *highest = NULL, *lowest = NULL;
	for (unsigned class = 0; class < KVT_PRIORITY_CLASSES; class ++) {
		node_queue *queue = &tenant->delayed[class];
		if (!queue->first)
			continue;
		highest = highest ? highest : queue;
		lowest = queue;
	}
	if (lowest != highest && ++tenant->passed >= PATIENCE) {
		tenant->passed = 0;
		return lowest;
	}
	return highest;
}

/* Begins what the bucket allows; a request may leave it in debt, so that none is too large. */
static void pump(void *arg)
{
	node_tenant *tenant = arg;
	node_queue *queue;
	tenant->timer = 0;
	refill(tenant);
	while (tenant->tokens > 0 && (queue = next_queue(tenant))) {
		node_request *request = node_queue_pop(queue);
		if (request->session->connection)
			tenant->tokens -= (double)request->bytes;
		kvt_node_begin(request);
	}
	if (!next_queue(tenant))
		return;
	double seconds = -tenant->tokens / tenant->settings.bandwidth;
	tenant->timer = kvt_loop_after(
		tenant->node->loop, kvt_time_from_seconds(seconds) + KVT_MICROSECOND, pump, tenant);
}

void kvt_node_admit(node_request *request)
{
	node_tenant *tenant = request->session->tenant;
	uint64_t most = tenant->node->settings.slab_bytes;
	/* before its bytes count for anything */
	if (request->run.pages.page_bytes > most || request->bytes > most) {
		kvt_node_refuse(request, -E2BIG);
		return;
	}
	if (tenant->settings.bandwidth <= 0) {
		kvt_node_begin(request);
		return;
	}
	refill(tenant);
	if (tenant->timer == 0 && tenant->tokens > 0) {
		tenant->tokens -= (double)request->bytes;
		kvt_node_begin(request);
		return;
	}
	tenant->counts.delayed++;
	node_queue_push(&tenant->delayed[request->priority], request);
	if (tenant->timer == 0)
		pump(tenant);
}

/* --- What is stored --- */

static node_share *find_share(node_tenant *tenant, const node_model *model, guint *at)
{
	for (*at = 0; *at < tenant->shares->len; ++*at)
		if (g_array_index(tenant->shares, node_share, *at).model == model)
			return &g_array_index(tenant->shares, node_share, *at);
	return NULL;
}

node_share *kvt_node_share(node_tenant *tenant, node_model *model)
{
	guint at;
	node_share *share = find_share(tenant, model, &at);
	if (share || tenant->shares->len >= tenant->settings.models)
		return share;
	const node_share empty = { .model = model };
	g_array_append_val(tenant->shares, empty);
	return &g_array_index(tenant->shares, node_share, at);
}

void kvt_node_share_check(node_tenant *tenant, node_model *model)
{
	guint at;
	node_share *share = find_share(tenant, model, &at);
	if (share && share->bytes == 0 && share->sessions == 0)
		g_array_remove_index_fast(tenant->shares, at);
}

/* Pages of a model that a session is of, or that the store had: the share is there, or the tenant
 * has more models stored than it may now have. */
static void count_bytes(node_tenant *tenant, node_model *model, uint64_t bytes)
{
	guint at;
	node_share *share = find_share(tenant, model, &at);
	if (!share) {
		const node_share empty = { .model = model };
		g_array_append_val(tenant->shares, empty);
		share = &g_array_index(tenant->shares, node_share, at);
	}
	share->bytes += bytes;
	model->bytes += bytes;
	tenant->used += bytes;
}

void kvt_node_stored(node_tenant *tenant, node_model *model, const kvt_extent *pages)
{
	count_bytes(tenant, model, kvt_page_map_add(model->pages, tenant->settings.number, pages));
}

void kvt_node_unstored(node_tenant *tenant, node_model *model, const kvt_extent *pages)
{
	count_bytes(
		tenant, model, -kvt_page_map_remove(model->pages, tenant->settings.number, pages));
}

/* --- Counts --- */

const char *const kvt_node_type_names[KVT_NODE_TYPES] = { NULL, "fetch", "release", "reserve",
	"commit", "abort", "discard", "list" };

const char *const kvt_node_refusal_names[KVT_NODE_REFUSALS] = { NULL, "version", "tenant", "key",
	"connections", "draining", "room" };

/* A cause's index is that of its errno here; the last is all others. */
static const int causes[KVT_NODE_CAUSES] = { ENOENT, EIO, EBADMSG, ENOSPC, EDQUOT, EAGAIN, ESTALE,
	EINVAL, E2BIG, ESHUTDOWN, ENOMEM, 0 };

const char *const kvt_node_cause_names[KVT_NODE_CAUSES] = { "missing", "io", "checksum", "space",
	"quota", "pool", "ticket", "invalid", "size", "draining", "memory", "other" };

const double kvt_node_times[KVT_NODE_TIMES] = { 10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3,
	2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1, 2, 5, 10, INFINITY };

void kvt_node_count(node_tenant *tenant, const node_request *request, int status)
{
	kvt_node *node = tenant->node;
	unsigned cause = 0, time = 0;
	if (status != 0) {
		while (cause < KVT_NODE_CAUSES - 1 && causes[cause] != -status)
			cause++;
		tenant->counts.errors[cause]++;
	}
	double seconds = kvt_time_to_seconds(kvt_loop_now(node->loop) - request->arrived);
	while (time < KVT_NODE_TIMES - 1 && seconds > kvt_node_times[time])
		time++;
	node->latency[request->type][time]++;
	node->latency_sum[request->type] += seconds;
}
