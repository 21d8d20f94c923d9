/* replay_lost.c: which tokens, how long they take, and a copy of their pages on its way back. */
#include "sim/engine/replay_lost.h"

#include <stdlib.h>
#include <string.h>

#include "sim/engine/lost_pages.h"

static kvt_time attention_time(const kvt_replay *run, uint64_t pages)
{
	const kvt_replay_settings *settings = run->settings;
	if (settings->attention_time)
		return settings->attention_time(
			settings->attention_arg, pages * settings->block_tokens);
	return kvt_time_for_bytes(
		pages * settings->page_bytes * run->source->n_heads, settings->hbm_rate);
}

/* The pages of any KV head, and what their tokens take. */
static kvt_time recompute(kvt_replay *run, uint32_t layers, const kvt_extent_list *pages)
{
	const uint64_t block = MAX(run->settings->block_tokens, 1);
	const uint32_t most = (uint32_t)MAX(KVT_RECOMPUTE_LEAST / block, 1);
	const uint32_t n = run->source->n_pages;
	g_autofree uint8_t *lost = g_new0(uint8_t, n);
	kvt_time time = 0;
	for (unsigned i = 0; i < pages->n; i++)
		memset(lost + pages->extents[i].first_page, 1, pages->extents[i].n_pages);
	for (uint32_t page = 0; page < n;) {
		uint32_t end = page;
		while (end < n && end - page < most && lost[end])
			end++;
		if (end > page)
			time += layers * (run->settings->layer_time + attention_time(run, end));
		run->result->lost.tokens += (end - page) * block;
		page = MAX(end, page + 1);
	}
	return time;
}

static void stored_again(void *arg, kvt_transfer *transfer)
{
	kvt_replay_lost *lost = &((kvt_replay *)arg)->result->lost;
	lost->stored_again_bytes += transfer->io.bytes;
	for (unsigned i = 0; i < transfer->list.n && transfer->io.status != 0; i++)
		lost->failed_bytes += kvt_extent_bytes(&transfer->list.extents[i]);
	g_clear_pointer(&transfer->copy, free);
}

/* The pages may leave HBM before they are written: a copy of them is. */
static void *copy_of(const kvt_replay *run, const kvt_extent_list *pages)
{
	kvt_replay_device *device = run->device;
	uint64_t bytes = pages->pages * run->settings->page_bytes;
	if (!device->ops->memory)
		return NULL;
	char *copy = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096), *at = copy;
	for (unsigned i = 0; i < pages->n; i++) {
		const kvt_extent *run_of = &pages->extents[i];
		memcpy(at, device->ops->memory(device, run_of), kvt_extent_bytes(run_of));
		at += kvt_extent_bytes(run_of);
	}
	return copy;
}

static bool is_being_stored(const kvt_replay *run, const kvt_extent *extent)
{
	for (guint i = 0; i < run->all_writes->len; i++) {
		const kvt_transfer *write = g_ptr_array_index(run->all_writes, i);
		for (unsigned k = 0; k < write->list.n && write->active; k++)
			if (kvt_extent_overlaps(&write->list.extents[k], extent))
				return true;
	}
	return false;
}

static void store_again(kvt_replay *run, const kvt_extent_list *pages)
{
	kvt_transfer *write = g_new0(kvt_transfer, 1);
	kvt_transfer_init(write, run->transfers, KVT_TRANSFER_WRITE, stored_again, run);
	write->may_fail = true;
	for (unsigned i = 0; i < pages->n; i++)
		if (!is_being_stored(run, &pages->extents[i]))
			kvt_extent_list_add(&write->list, &pages->extents[i]);
	g_ptr_array_add(run->all_writes, write);
	write->copy = copy_of(run, &write->list);
	if (write->list.n > 0)
		kvt_transfer_start(write, false);
}

kvt_time kvt_replay_make_again(void *arg, kvt_transfer *transfer, const kvt_extent_list *pages)
{
	kvt_replay *run = arg;
	const kvt_timed_layer *layer = transfer->arg;
	kvt_replay_device *device = run->device;
	for (unsigned i = 0; i < pages->n && device->ops->remake; i++)
		device->ops->remake(device, &pages->extents[i]);
	kvt_time time = recompute(run, layer->number, pages);
	run->result->lost.pages += pages->pages;
	run->result->lost.time += time;
	store_again(run, pages);
	return time;
}
