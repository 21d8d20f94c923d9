/*
 * remote_tier.c: the operations of the remote tier: connecting, admission, discards, statistics.
 * How I/Os move is remote_parts.c's, remote_read.c's and remote_write.c's; connections are
 * remote_link.c's.
 */
#include "emu/remote/remote_tier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emu/loop/real_loop.h"
#include "emu/remote/remote_tier_internal.h"
#include "emu/store/store.h"
#include "sim/base/error.h"

/* --- Tenants --- */

static remote_link *find_link(const remote_tier *tier, uint32_t tenant)
{
	return tenant < tier->links->len ? g_ptr_array_index(tier->links, tenant) : NULL;
}

/* Whether what it has is not known yet, and will be soon. */
static bool is_new(const remote_link *link)
{
	return !link->was_up && (link->state == REMOTE_CONNECTING || link->state == REMOTE_LISTING);
}

/* --- Operations --- */

static void finish_later(void *arg)
{
	kvt_remote_finish(arg);
}

void kvt_remote_begin(remote_io *io)
{
	remote_tier *tier = io->tier;
	int status =
		io->begun ? 0 : kvt_page_store_begin(tier->pages, &io->ticket, io->io, io->bytes);
	io->begun = status == 0;
	if (status == 0)
		kvt_remote_enqueue(io);
	else
		io->status = status;
	if (status != 0)
		kvt_remote_finish(io);
}

static void wait_for(remote_link *link, remote_io *io)
{
	io->next = NULL;
	if (link->waiting)
		link->last_waiting->next = io;
	else
		link->waiting = io;
	link->last_waiting = io;
}

static int remote_submit(kvt_tier *base, kvt_io *io)
{
	remote_tier *tier = (remote_tier *)base;
	uint64_t bytes;
	int error = kvt_io_check(io, &bytes);
	if (error != 0)
		return error;
	if (tier->in_flight >= tier->settings.max_ios)
		return -EAGAIN;
	remote_link *link = find_link(tier, io->tenant);
	remote_io *state = kvt_remote_take_io(tier, io, bytes);
	if (link)
		kvt_remote_link_wake(link);
	bool wait = link && is_new(link);
	int status = 0;
	/* of what there is to be read, nothing is known yet, or no more */
	bool known = !link || (link->state != REMOTE_LISTING && !wait);
	if (known || io->op == KVT_IO_WRITE) {
		status = kvt_page_store_begin(tier->pages, &state->ticket, io, bytes);
		state->begun = status == 0;
	}
	if (status == -EINVAL) {
		kvt_remote_give_io(state);
		return status;
	}
	tier->in_flight++;
	state->link = link;
	io->submitted = kvt_loop_now(tier->loop);
	state->status = status;
	if (status == 0 && !wait && (!link || link->state != REMOTE_UP))
		kvt_remote_fail(state, -EIO, KVT_REMOTE_FAILURE_DOWN);
	tier->submitting = true;
	if (state->status != 0)
		kvt_loop_at(tier->loop, 0, finish_later, state);
	else if (wait)
		wait_for(link, state);
	else
		kvt_remote_enqueue(state);
	tier->submitting = false;
	return 0;
}

static void remote_commit(kvt_tier *base)
{
	remote_tier *tier = (remote_tier *)base;
	for (guint i = 0; i < tier->links->len; i++)
		kvt_remote_flush(g_ptr_array_index(tier->links, i));
}

static uint64_t remote_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	remote_tier *tier = (remote_tier *)base;
	remote_link *link = find_link(tier, tenant);
	uint64_t bytes = kvt_page_store_discard(tier->pages, tenant, extent);
	if (bytes > 0 && link) {
		kvt_remote_grants_drop(link, extent);
		kvt_remote_link_discard(link, extent);
	}
	return bytes;
}

static bool remote_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	remote_tier *tier = (remote_tier *)base;
	remote_link *link = find_link(tier, tenant);
	if (!link)
		return false;
	/* who asks will read: this is when a node that had gone is sought */
	kvt_remote_link_wake(link);
	return link->state == REMOTE_UP && kvt_page_store_holds(tier->pages, tenant, extent);
}

static void remote_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	remote_tier *tier = (remote_tier *)base;
	*stats = tier->stats;
	stats->used = kvt_page_store_used(tier->pages);
	stats->peak_used = kvt_page_store_peak_taken(tier->pages);
}

static int remote_register_memory(kvt_tier *base, void *memory, uint64_t bytes)
{
	remote_tier *tier = (remote_tier *)base;
	kvt_fabric_region *region = g_new0(kvt_fabric_region, 1);
	int status = tier->fabric->ops->region_open(
		tier->domain, memory, bytes, KVT_FABRIC_REMOTE_WRITE, region);
	if (status == 0)
		g_ptr_array_add(tier->regions, region);
	else
		g_free(region);
	return status;
}

static const char *remote_notice(kvt_tier *base)
{
	remote_tier *tier = (remote_tier *)base;
	const kvt_remote_counts *counts = &tier->counts;
	g_autoptr(GString) text = g_string_new(NULL);
	for (unsigned i = 0; i < KVT_REMOTE_LOSSES; i++)
		if (counts->losses[i] > 0)
			g_string_append_printf(text, ", %" G_GUINT64_FORMAT " times %s",
				counts->losses[i], kvt_remote_loss_names[i]);
	for (unsigned i = 0; i < KVT_REMOTE_FAILURES; i++)
		if (counts->failures[i] > 0)
			g_string_append_printf(text, ", %" G_GUINT64_FORMAT " I/Os failed (%s)",
				counts->failures[i], kvt_remote_failure_names[i]);
	for (guint i = 0; i < tier->links->len; i++) {
		const remote_link *link = g_ptr_array_index(tier->links, i);
		if (link->dropped > 0)
			g_string_append_printf(text,
				", %" G_GUINT64_FORMAT
				" pages of tenant %u are beyond the capacity and not used",
				link->dropped, link->tenant.number);
		if (link->reason)
			g_string_append_printf(
				text, ", tenant %u last: %s", link->tenant.number, link->reason);
	}
	g_clear_pointer(&tier->notice, g_free);
	if (text->len > 0)
		tier->notice = g_strdup_printf("node %s:%u: %s", tier->address, tier->settings.port,
			text->str + strlen(", "));
	return tier->notice;
}

static void remote_close(kvt_tier *base)
{
	remote_tier *tier = (remote_tier *)base;
	const kvt_fabric_ops *fabric = tier->fabric->ops;
	kvt_helper_pool_free(tier->helpers);
	for (guint i = 0; i < tier->links->len; i++)
		kvt_remote_link_free(g_ptr_array_index(tier->links, i));
	g_ptr_array_unref(tier->links);
	for (guint i = 0; i < tier->ios->len; i++) {
		remote_io *io = g_ptr_array_index(tier->ios, i);
		g_array_unref(io->skipped);
		g_free(io);
	}
	g_ptr_array_unref(tier->ios);
	for (guint i = 0; i < tier->all_parts->len; i++)
		kvt_remote_free_part(tier, g_ptr_array_index(tier->all_parts, i));
	g_ptr_array_unref(tier->all_parts);
	for (guint i = 0; i < tier->regions->len; i++) {
		kvt_fabric_region *region = g_ptr_array_index(tier->regions, i);
		fabric->region_close(region);
		g_free(region);
	}
	g_ptr_array_unref(tier->regions);
	if (tier->domain)
		fabric->domain_free(tier->domain);
	kvt_page_store_free(tier->pages);
	if (tier->free_fabric)
		fabric->free(tier->fabric);
	g_free(tier->address);
	g_free(tier->notice);
	g_free(tier);
}

const kvt_tier_ops kvt_tier_remote_node = {
	.name = "remote",
	.summary = "a storage node's memory and drives, over RDMA (real)",
	.flags = KVT_TIER_REAL | KVT_TIER_LASTING,
	.options = kvt_remote_options,
	.settings_size = sizeof(remote_options),
	.open = kvt_remote_open,
	.submit = remote_submit,
	.commit = remote_commit,
	.discard = remote_discard,
	.holds = remote_holds,
	.register_memory = remote_register_memory,
	.notice = remote_notice,
	.stats = remote_stats,
	.close = remote_close,
};

/* --- Opening --- */

void kvt_remote_tier_make_books(remote_tier *tier, uint64_t capacity)
{
	if (tier->settings.capacity > 0)
		capacity = tier->settings.capacity;
	tier->pages = kvt_page_store_new(capacity);
	tier->stats.capacity = capacity;
}

static kvt_remote_settings complete(const kvt_remote_settings *settings)
{
	kvt_remote_settings s = *settings;
	s.part_bytes = s.part_bytes ? s.part_bytes : 1 << 20;
	s.staging_bytes = s.staging_bytes ? s.staging_bytes : 64 << 20;
	s.parts = s.parts ? s.parts : 64;
	s.max_ios = s.max_ios ? s.max_ios : 1024;
	s.timeout = s.timeout ? s.timeout : 10 * KVT_SECOND;
	s.pause = s.pause ? s.pause : 100 * KVT_MILLISECOND;
	s.longest_pause = s.longest_pause ? s.longest_pause : 10 * KVT_SECOND;
	s.connection.message_bytes = KVT_REMOTE_MESSAGE;
	s.address = s.model = NULL;
	s.tenants = NULL;
	return s;
}

/* Connects the first tenant, or finds out why not. */
static bool connect_first(remote_tier *tier, GError **error)
{
	remote_link *link = g_ptr_array_index(tier->links, 0);
	tier->opening = true;
	kvt_remote_link_wake(link);
	if (link->state == REMOTE_CONNECTING) {
		kvt_real_loop_hold(tier->loop);
		kvt_loop_run(tier->loop);
		kvt_real_loop_release(tier->loop);
	}
	tier->opening = false;
	if (link->state == REMOTE_UP)
		return true;
	return (tier->settings.may_be_down && link->loss != KVT_REMOTE_LOSS_REFUSED) ||
	       kvt_error_failed(error, "node %s:%u: tenant %u is not connected: %s", tier->address,
		       tier->settings.port, link->tenant.number, link->reason);
}

kvt_tier *kvt_remote_tier_new(const kvt_tier_env *env, kvt_fabric *fabric,
	const kvt_remote_settings *settings, GError **error)
{
	const char *model = settings->model ? settings->model : "any";
	remote_tier *tier = g_new0(remote_tier, 1);
	g_assert(settings->n_tenants > 0);
	tier->base.ops = &kvt_tier_remote_node;
	tier->loop = env->loop;
	tier->fabric = fabric;
	tier->settings = complete(settings);
	tier->address = g_strdup(settings->address);
	tier->model = kvt_store_checksum(model, strlen(model));
	tier->links = g_ptr_array_new();
	tier->regions = g_ptr_array_new();
	tier->ios = g_ptr_array_new();
	tier->all_parts = g_ptr_array_new();
	kvt_tier_stats_init(&tier->stats, settings->capacity);
	for (unsigned i = 0; i < settings->n_tenants; i++)
		g_ptr_array_add(tier->links, kvt_remote_link_new(tier, i, &settings->tenants[i]));
	tier->helpers = kvt_helper_pool_new(env->loop, settings->helpers, error);
	tier->domain = tier->helpers ? fabric->ops->domain_new(fabric, error) : NULL;
	if (!tier->domain || !connect_first(tier, error)) {
		remote_close(&tier->base);
		return NULL;
	}
	if (!tier->pages)
		kvt_remote_tier_make_books(tier, UINT64_MAX);
	return &tier->base;
}

/* --- What it has done --- */

bool kvt_remote_tier_up(const kvt_tier *base)
{
	const remote_tier *tier = (const remote_tier *)base;
	return ((const remote_link *)g_ptr_array_index(tier->links, 0))->state == REMOTE_UP;
}

kvt_remote_counts kvt_remote_tier_counts(const kvt_tier *base)
{
	return ((const remote_tier *)base)->counts;
}
