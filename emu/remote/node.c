/*
 * node.c: the storage node as a whole: what it is made of, its models, requests that wait for room
 * in the pool, and draining.
 */
#include "emu/remote/node.h"

#include <errno.h>
#include <string.h>

#include "emu/remote/node_internal.h"
#include "emu/loop/real_loop.h"
#include "emu/tier/uring_tier.h"
#include "sim/base/error.h"

/* --- Models --- */

node_model *kvt_node_model(kvt_node *node, uint64_t number)
{
	for (guint i = 0; i < node->models->len; i++) {
		node_model *model = g_ptr_array_index(node->models, i);
		if (model->model == number)
			return model;
	}
	kvt_tier *tier = node->has_store ? node->store.tier(node->store.arg, number) : NULL;
	if (node->has_store && !tier)
		return NULL;
	node_model *model = g_new0(node_model, 1);
	model->model = number;
	model->tier = tier;
	model->pages = kvt_page_map_new();
	kvt_resubmit_init(&model->queue, node->loop, tier);
	g_ptr_array_add(node->models, model);
	return model;
}

static void free_model(kvt_node *node, node_model *model)
{
	kvt_resubmit_clear(&model->queue);
	if (model->tier)
		node->store.release(node->store.arg, model->tier);
	kvt_page_map_free(model->pages);
	g_ptr_array_remove_fast(node->models, model);
	g_free(model);
}

void kvt_node_model_check(kvt_node *node, node_model *model)
{
	if (model->sessions == 0 && model->bytes == 0)
		free_model(node, model);
}

void kvt_node_submit(node_request *request, GPtrArray *blocks, void (*done)(kvt_io *io))
{
	node_model *model = request->session->model;
	kvt_io *io = &request->io;
	request->extents = g_new(kvt_extent, blocks->len);
	request->memory = g_new(void *, blocks->len);
	for (guint i = 0; i < blocks->len; i++) {
		const kvt_slab_block *block = g_ptr_array_index(blocks, i);
		request->extents[i] = block->run.pages;
		request->memory[i] = block->memory;
	}
	io->tenant = request->run.tenant;
	io->priority = request->priority;
	io->extents = request->extents;
	io->n_extents = blocks->len;
	io->memory = request->memory;
	io->done = done;
	io->arg = request;
	kvt_resubmit_add(&model->queue, io);
}

void kvt_node_forget_lost(const node_session *session, const kvt_extent *pages)
{
	node_model *model = session->model;
	uint32_t tenant = session->tenant->settings.number;
	if (!model->tier || model->tier->ops->holds(model->tier, tenant, pages))
		return;
	for (uint64_t i = 0; i < pages->n_pages; i++) {
		kvt_store_run one = { model->model, tenant, *pages };
		one.pages.first_page += i;
		one.pages.n_pages = 1;
		if (kvt_page_map_count(model->pages, tenant, &one.pages) == 0 ||
			model->tier->ops->holds(model->tier, tenant, &one.pages))
			continue;
		kvt_slab_pool_forget(session->node->pool, &one);
		kvt_node_unstored(session->tenant, model, &one.pages);
	}
}

/* --- What the store has --- */

static kvt_tier *uring_model(void *arg, uint64_t model)
{
	return kvt_uring_tier_beside(arg, model);
}

static void uring_release(void *arg, kvt_tier *tier)
{
	if (tier != arg)
		kvt_tier_close(tier);
}

static unsigned uring_models(void *arg, uint64_t *models, unsigned max)
{
	return kvt_store_models(kvt_uring_tier_store(arg), models, max);
}

static void uring_each(
	void *arg, uint64_t model, void (*run)(void *arg, const kvt_store_run *run), void *run_arg)
{
	kvt_store_each(kvt_uring_tier_store(arg), model, run, run_arg);
}

kvt_node_store kvt_node_store_over(kvt_tier *tier)
{
	return (kvt_node_store){ uring_model, uring_release, uring_models, uring_each, tier };
}

typedef struct recovery {
	kvt_node *node;
	node_model *model;
} recovery;

static void recover_run(void *arg, const kvt_store_run *run)
{
	const recovery *r = arg;
	node_tenant *tenant = kvt_node_tenant_find(r->node, run->tenant);
	/* of those who are no tenants now, pages stay and nobody can ask for them */
	if (tenant && r->model->tier->ops->holds(r->model->tier, run->tenant, &run->pages))
		kvt_node_stored(tenant, r->model, &run->pages);
}

static bool recover(kvt_node *node, GError **error)
{
	const kvt_node_store *store = &node->store;
	unsigned n = node->has_store ? store->models(store->arg, NULL, 0) : 0;
	g_autofree uint64_t *models = g_new(uint64_t, n);
	if (n > 0)
		store->models(store->arg, models, n);
	for (unsigned i = 0; i < n; i++) {
		recovery r = { node, kvt_node_model(node, models[i]) };
		if (!r.model)
			return kvt_error_failed(error, "the store has pages of more models than "
						       "can be opened");
		store->each(store->arg, models[i], recover_run, &r);
		kvt_node_model_check(node, r.model);
	}
	return true;
}

/* --- Room in the pool --- */

static void retry(void *arg)
{
	kvt_node *node = arg;
	node->retry = 0;
	for (unsigned class = 0; class < KVT_PRIORITY_CLASSES; class ++) {
		node_queue queue = node->waiting[class];
		node_request *request;
		node->waiting[class] = (node_queue){ 0 };
		while ((request = node_queue_pop(&queue)))
			kvt_node_begin(request);
	}
}

static bool any_waiting(const kvt_node *node)
{
	for (unsigned class = 0; class < KVT_PRIORITY_CLASSES; class ++)
		if (node->waiting[class].first)
			return true;
	return false;
}

void kvt_node_room(kvt_node *node)
{
	if (node->retry == 0 && any_waiting(node))
		node->retry = kvt_loop_at(node->loop, 0, retry, node);
}

static void give_up(void *arg)
{
	kvt_node *node = arg;
	node->give_up = 0;
	kvt_node_room(node);
	if (any_waiting(node))
		node->give_up =
			kvt_loop_after(node->loop, node->settings.patience / 4, give_up, node);
}

void kvt_node_wait(node_request *request)
{
	kvt_node *node = request->session->node;
	kvt_time now = kvt_loop_now(node->loop);
	if (request->waiting == 0) {
		request->waiting = now;
		request->session->tenant->counts.waited++;
	}
	if (now - request->waiting >= node->settings.patience) {
		kvt_node_refuse(request, -EAGAIN);
		return;
	}
	node_queue_push(&node->waiting[request->priority], request);
	if (node->give_up == 0)
		node->give_up =
			kvt_loop_after(node->loop, node->settings.patience / 4, give_up, node);
}

/* --- Draining --- */

static void drain_step(void *arg)
{
	kvt_node *node = arg;
	bool busy = false;
	node->drain_check = 0;
	for (unsigned i = 0; i < node->n_tenants; i++)
		busy |= node->tenants[i].requests > 0 || node->tenants[i].leases > 0;
	if (!busy || node->drain_limit == 0)
		for (node_session *session = node->sessions; session; session = session->next)
			kvt_node_end_session(session);
	if (node->sessions || node->drained)
		return;
	node->drained = true;
	if (node->drain_limit != 0)
		kvt_loop_cancel(node->loop, node->drain_limit);
	kvt_real_loop_release(node->loop);
	node->drain_done(node->drain_arg);
}

void kvt_node_check_drain(kvt_node *node)
{
	if (node->draining && node->drain_check == 0 && !node->drained)
		node->drain_check = kvt_loop_at(node->loop, 0, drain_step, node);
}

static void drain_over(void *arg)
{
	kvt_node *node = arg;
	node->drain_limit = 0;
	kvt_node_check_drain(node);
}

void kvt_node_drain(kvt_node *node, void (*done)(void *arg), void *arg)
{
	g_assert(!node->draining);
	node->draining = true;
	node->drain_done = done;
	node->drain_arg = arg;
	node->fabric->ops->listener_free(node->listener);
	node->listener = NULL;
	node->drain_limit = kvt_loop_after(node->loop, node->settings.drain, drain_over, node);
	kvt_node_check_drain(node);
}

/* --- The node --- */

static bool make_tenants(kvt_node *node, const kvt_node_settings *settings, GError **error)
{
	node->tenants = g_new0(node_tenant, settings->n_tenants);
	for (unsigned i = 0; i < settings->n_tenants; i++) {
		node_tenant *tenant = &node->tenants[i];
		tenant->node = node;
		tenant->settings = settings->tenants[i];
		tenant->tokens = (double)tenant->settings.burst;
		tenant->filled = kvt_loop_now(node->loop);
		tenant->shares = g_array_new(FALSE, FALSE, sizeof(node_share));
		node->n_tenants++;
		tenant->domain = node->fabric->ops->domain_new(node->fabric, error);
		if (!tenant->domain)
			return false;
	}
	return true;
}

static bool make_pool(kvt_node *node, GError **error)
{
	const kvt_slab_pool_settings settings = {
		.bytes = node->settings.pool_bytes,
		.slab_bytes = node->settings.slab_bytes,
		.huge = node->settings.huge,
		.pinned = node->settings.pinned,
		.node = node->settings.numa_node,
		.evict = node->has_store,
		.opened = kvt_node_slab_opened,
		.sealed = kvt_node_slab_sealed,
		.closed = kvt_node_slab_closed,
		.arg = node,
	};
	node->pool = kvt_slab_pool_new(&settings, error);
	node->helpers =
		node->pool ? kvt_helper_pool_new(node->loop, node->settings.helpers, error) : NULL;
	return node->helpers != NULL;
}

kvt_node *kvt_node_new(
	kvt_loop *loop, kvt_fabric *fabric, const kvt_node_settings *settings, GError **error)
{
	kvt_node *node = g_new0(kvt_node, 1);
	node->loop = loop;
	node->fabric = fabric;
	node->settings = *settings;
	node->has_store = settings->store != NULL;
	if (node->has_store)
		node->store = *settings->store;
	node->models = g_ptr_array_new();
	node->leases = g_hash_table_new(g_int64_hash, g_int64_equal);
	node->tickets = g_hash_table_new(g_int64_hash, g_int64_equal);
	if (make_tenants(node, settings, error) && make_pool(node, error) && recover(node, error))
		node->listener = fabric->ops->listen(
			fabric, settings->address, settings->port, kvt_node_asked, node, error);
	if (!node->listener) {
		kvt_node_free(node);
		return NULL;
	}
	node->port = fabric->ops->listener_port(node->listener);
	kvt_real_loop_hold(loop);
	return node;
}

uint16_t kvt_node_port(const kvt_node *node)
{
	return node->port;
}

static void cancel(kvt_node *node, kvt_event event)
{
	if (event != 0)
		kvt_loop_cancel(node->loop, event);
}

void kvt_node_free(kvt_node *node)
{
	if (!node)
		return;
	g_assert(!node->sessions);
	if (node->listener) {
		node->fabric->ops->listener_free(node->listener);
		kvt_real_loop_release(node->loop);
	}
	cancel(node, node->timer);
	cancel(node, node->retry);
	cancel(node, node->give_up);
	cancel(node, node->drain_check);
	kvt_helper_pool_free(node->helpers);
	while (node->models->len > 0)
		free_model(node, g_ptr_array_index(node->models, 0));
	g_ptr_array_unref(node->models);
	kvt_slab_pool_free(node->pool);
	for (unsigned i = 0; i < node->n_tenants; i++) {
		node_tenant *tenant = &node->tenants[i];
		cancel(node, tenant->timer);
		g_array_unref(tenant->shares);
		if (tenant->domain)
			node->fabric->ops->domain_free(tenant->domain);
	}
	g_free(node->tenants);
	g_hash_table_unref(node->leases);
	g_hash_table_unref(node->tickets);
	g_free(node);
}

/* --- What is now --- */

unsigned kvt_node_tenants(const kvt_node *node)
{
	return node->n_tenants;
}

kvt_node_tenant_state kvt_node_tenant_get(const kvt_node *node, unsigned i)
{
	const node_tenant *tenant = &node->tenants[i];
	uint32_t number = tenant->settings.number;
	uint64_t slab_bytes = node->settings.slab_bytes;
	return (kvt_node_tenant_state){ number, tenant->counts, tenant->settings.capacity,
		tenant->used, tenant->reserved,
		kvt_slab_pool_taken(node->pool, number) * slab_bytes,
		kvt_slab_pool_held(node->pool, number) * slab_bytes, tenant->connections,
		tenant->requests, tenant->leases, tenant->tickets };
}
