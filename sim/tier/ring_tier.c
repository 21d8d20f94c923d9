/* ring_tier.c: I/Os cut at stripes, the parts they go to, and what these hold. */
#include "sim/tier/ring_tier.h"

#include <errno.h>
#include <string.h>

#include "sim/tier/ring_internal.h"

const uint8_t *kvt_ring_order(const kvt_ring *ring, uint32_t tenant, const kvt_extent *piece)
{
	return kvt_ring_places_of(ring->places, tenant, piece->context,
		piece->first_page / ring->settings.stripe_pages);
}

/* --- Parts --- */

bool kvt_ring_part_lives(const kvt_ring *ring, const kvt_ring_part *part)
{
	return !part->out || kvt_loop_now(ring->loop) >= part->out_until;
}

void kvt_ring_part_ended(kvt_ring *ring, kvt_ring_part *part, int status)
{
	if (status == 0 || status == -ENOENT || status == -EBADMSG || status == -ENOSPC) {
		ring->counts.taken += part->out;
		part->failed = 0;
		part->out = false;
		return;
	}
	if (++part->failed < ring->settings.failures)
		return;
	ring->counts.left_out += !part->out;
	part->out = true;
	part->out_until = kvt_loop_now(ring->loop) + ring->settings.retry;
}

/* Whether a write that is done in this part, and not yet as a whole, has stored pages of the run
 * there. */
static bool half_written(
	const kvt_ring *ring, unsigned part, uint32_t tenant, const kvt_extent *run)
{
	for (const kvt_ring_io *split = ring->writing; split; split = split->next)
		for (const kvt_ring_share *s = split->shares; s; s = s->next) {
			if (s->part != part || !s->done || s->io.status != 0 ||
				s->io.tenant != tenant)
				continue;
			for (unsigned i = 0; i < s->io.n_extents; i++)
				if (kvt_extent_overlaps(&s->io.extents[i], run))
					return true;
		}
	return false;
}

bool kvt_ring_has(kvt_ring *ring, unsigned index, uint32_t tenant, const kvt_extent *run)
{
	kvt_ring_part *part = &ring->parts[index];
	if (kvt_page_map_count(part->held, tenant, run) == run->n_pages)
		return true;
	return part->tier->ops->holds(part->tier, tenant, run) &&
	       !half_written(ring, index, tenant, run);
}

void kvt_ring_take_back(kvt_ring *ring, unsigned index, uint32_t tenant, const kvt_extent *run)
{
	kvt_ring_part *part = &ring->parts[index];
	kvt_page_map_remove(part->held, tenant, run);
	if (!half_written(ring, index, tenant, run)) {
		part->tier->ops->discard(part->tier, tenant, run);
		return;
	}
	kvt_extent page = *run;
	page.n_pages = 1;
	for (uint64_t i = 0; i < run->n_pages; i++, page.first_page++)
		if (!half_written(ring, index, tenant, &page))
			part->tier->ops->discard(part->tier, tenant, &page);
}

/* --- I/Os --- */

static kvt_ring_io *take_io(kvt_ring *ring)
{
	kvt_ring_io *split = ring->free_ios;
	if (split) {
		ring->free_ios = split->next;
		memset(split->open, 0, sizeof(split->open));
		return split;
	}
	split = g_new0(kvt_ring_io, 1);
	split->ring = ring;
	split->pieces = g_array_new(FALSE, FALSE, sizeof(kvt_ring_piece));
	g_ptr_array_add(ring->ios, split);
	return split;
}

static void give_io(kvt_ring_io *split)
{
	kvt_ring *ring = split->ring;
	for (kvt_ring_share *share = split->shares, *next; share; share = next) {
		next = share->next;
		share->next = ring->free_shares;
		ring->free_shares = share;
	}
	split->shares = NULL;
	split->next = ring->free_ios;
	ring->free_ios = split;
}

static void free_io(gpointer pointer)
{
	kvt_ring_io *split = pointer;
	g_array_unref(split->pieces);
	g_free(split);
}

static void free_share(gpointer pointer)
{
	kvt_ring_share *share = pointer;
	g_array_unref(share->extents);
	g_array_unref(share->memory);
	g_array_unref(share->pieces);
	g_free(share);
}

static kvt_ring_share *take_share(kvt_ring_io *split, unsigned part)
{
	kvt_ring *ring = split->ring;
	kvt_ring_share *share = ring->free_shares;
	if (share) {
		ring->free_shares = share->next;
		g_array_set_size(share->extents, 0);
		g_array_set_size(share->memory, 0);
		g_array_set_size(share->pieces, 0);
	} else {
		share = g_new0(kvt_ring_share, 1);
		share->extents = g_array_new(FALSE, FALSE, sizeof(kvt_extent));
		share->memory = g_array_new(FALSE, FALSE, sizeof(void *));
		share->pieces = g_array_new(FALSE, FALSE, sizeof(guint));
		g_ptr_array_add(ring->shares, share);
	}
	share->owner = split;
	share->part = part;
	share->done = false;
	share->next = split->shares;
	split->shares = share;
	return share;
}

/* Whether the piece goes on where the share's last run ends. */
static bool joins(const kvt_ring_share *share, const kvt_ring_piece *piece)
{
	if (share->extents->len == 0)
		return false;
	guint last = share->extents->len - 1;
	const kvt_extent *run = &g_array_index(share->extents, kvt_extent, last);
	char *memory = g_array_index(share->memory, void *, last);
	return run->context == piece->extent.context && run->layer == piece->extent.layer &&
	       run->page_bytes == piece->extent.page_bytes &&
	       run->first_page + run->n_pages == piece->extent.first_page &&
	       (memory ? memory + kvt_extent_bytes(run) : NULL) == (char *)piece->memory;
}

void kvt_ring_add(kvt_ring_io *split, guint index, unsigned part)
{
	const kvt_ring_piece *piece = &g_array_index(split->pieces, kvt_ring_piece, index);
	if (!split->open[part])
		split->open[part] = take_share(split, part);
	kvt_ring_share *share = split->open[part];
	g_array_append_val(share->pieces, index);
	if (joins(share, piece)) {
		g_array_index(share->extents, kvt_extent, share->extents->len - 1).n_pages +=
			piece->extent.n_pages;
		return;
	}
	g_array_append_val(share->extents, piece->extent);
	g_array_append_val(share->memory, piece->memory);
}

static void finish(void *arg)
{
	kvt_ring_io *split = arg;
	kvt_ring *ring = split->ring;
	kvt_io *io = split->io;
	if (split->begun && io->op == KVT_IO_WRITE) {
		kvt_ring_io **link = &ring->writing;
		while (*link != split)
			link = &(*link)->next;
		*link = split->next;
		split->status = kvt_ring_write_end(split);
	} else if (split->begun) {
		split->status = kvt_page_store_end(ring->pages, &split->ticket, split->status);
	}
	io->status = split->status;
	io->bytes = io->status == 0 ? split->bytes : 0;
	io->completed = kvt_loop_now(ring->loop);
	give_io(split);
	kvt_tier_stats_count(&ring->stats, io);
	io->done(io);
}

static uint64_t write_bytes(kvt_ring_share *share)
{
	uint64_t bytes = 0;
	for (guint i = 0; i < share->extents->len; i++)
		bytes += kvt_extent_bytes(&g_array_index(share->extents, kvt_extent, i));
	return bytes;
}

static void share_done(kvt_io *io)
{
	kvt_ring_share *share = io->arg;
	kvt_ring_io *split = share->owner;
	kvt_ring_part *part = &split->ring->parts[share->part];
	share->done = true;
	kvt_ring_part_ended(split->ring, part, io->status);
	if (io->op == KVT_IO_READ)
		kvt_ring_read_done(share);
	else
		kvt_ring_write_done(share);
	if (io->op == KVT_IO_WRITE)
		part->writing -= write_bytes(share);
	if (--split->pending == 0)
		finish(split);
	kvt_resubmit_completed(&part->queue);
}

int kvt_ring_submit_open(kvt_ring_io *split, bool first)
{
	kvt_ring *ring = split->ring;
	for (unsigned i = 0; i < ring->n; i++) {
		kvt_ring_share *share = split->open[i];
		if (!share)
			continue;
		share->io = (kvt_io){ .op = split->io->op,
			.tenant = split->io->tenant,
			.priority = split->io->priority,
			.extents = (const kvt_extent *)share->extents->data,
			.n_extents = share->extents->len,
			.memory = split->io->memory ? (void *const *)share->memory->data : NULL,
			.done = share_done,
			.arg = share };
		int error = 0;
		if (first)
			error = kvt_resubmit_try(&ring->parts[i].queue, &share->io);
		if (error != 0)
			return error;
		split->open[i] = NULL;
		split->pending++;
		if (!first)
			kvt_resubmit_add(&ring->parts[i].queue, &share->io);
		first = false;
	}
	return 0;
}

/* Pieces of the I/O. */
static void cut(kvt_ring_io *split)
{
	const kvt_io *io = split->io;
	const uint64_t stripe_pages = split->ring->settings.stripe_pages;
	g_array_set_size(split->pieces, 0);
	for (unsigned i = 0; i < io->n_extents; i++) {
		char *memory = io->memory ? io->memory[i] : NULL;
		kvt_ring_piece piece = { .extent = io->extents[i] };
		for (uint64_t left = io->extents[i].n_pages; left > 0;) {
			uint64_t at = piece.extent.first_page % stripe_pages;
			piece.extent.n_pages = MIN(left, stripe_pages - at);
			piece.memory = memory;
			g_array_append_val(split->pieces, piece);
			left -= piece.extent.n_pages;
			piece.extent.first_page += piece.extent.n_pages;
			memory = memory ? memory + kvt_extent_bytes(&piece.extent) : NULL;
		}
	}
}

/* Whether parts have all of the run; what they have is there from now on. */
static bool adopt(kvt_ring *ring, uint32_t tenant, const kvt_extent *run)
{
	kvt_extent page = *run;
	page.n_pages = 1;
	for (uint64_t i = 0; i < run->n_pages; i++, page.first_page++) {
		if (kvt_page_store_holds(ring->pages, tenant, &page))
			continue;
		bool has = false;
		for (unsigned part = 0; part < ring->n && !has; part++)
			has = kvt_ring_part_lives(ring, &ring->parts[part]) &&
			      kvt_ring_has(ring, part, tenant, &page);
		if (!has || !kvt_page_store_preload(ring->pages, tenant, &page))
			return false;
	}
	return true;
}

static bool ring_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_ring *ring = (kvt_ring *)base;
	return kvt_extent_valid(extent) &&
	       (kvt_page_store_holds(ring->pages, tenant, extent) || adopt(ring, tenant, extent));
}

/* Books the I/O, and finds its parts; a status that it is to complete with, or that refuses it. */
static int begin(kvt_ring_io *split)
{
	kvt_ring *ring = split->ring;
	const kvt_io *io = split->io;
	for (unsigned i = 0; io->op == KVT_IO_READ && i < io->n_extents; i++)
		if (!ring_holds(&ring->base, io->tenant, &io->extents[i])) {
			ring->counts.missing++;
			return -ENOENT;
		}
	int status = kvt_page_store_begin(ring->pages, &split->ticket, io, split->bytes);
	if (status != 0)
		return status;
	cut(split);
	split->begun = true;
	if (io->op == KVT_IO_READ && !kvt_ring_read_assign(split, 0))
		status = split->status;
	if (io->op == KVT_IO_WRITE)
		status = kvt_ring_write_assign(split);
	return status;
}

/* Takes back what begin has booked: nothing of it was submitted. */
static void unbegin(kvt_ring_io *split, int status)
{
	if (split->begun)
		kvt_page_store_end(split->ring->pages, &split->ticket, status);
	split->begun = false;
	for (unsigned i = 0; i < split->ring->n; i++)
		split->open[i] = NULL;
}

static int ring_submit(kvt_tier *base, kvt_io *io)
{
	kvt_ring *ring = (kvt_ring *)base;
	uint64_t bytes;
	int error = kvt_io_check(io, &bytes);
	if (error != 0)
		return error;
	kvt_ring_io *split = take_io(ring);
	split->io = io;
	split->bytes = bytes;
	split->begun = false;
	split->pending = 0;
	split->status = 0;
	kvt_time now = kvt_loop_now(ring->loop);
	int status = begin(split);
	if (status == 0)
		error = kvt_ring_submit_open(split, true);
	else if (status == -EINVAL)
		error = status;
	if (status != 0 || error != 0)
		unbegin(split, status != 0 ? status : error);
	if (error != 0) {
		give_io(split);
		return error;
	}
	split->status = status;
	if (status != 0)
		kvt_loop_at(ring->loop, now, finish, split);
	io->submitted = now;
	if (split->begun && io->op == KVT_IO_WRITE) {
		split->next = ring->writing;
		ring->writing = split;
		for (kvt_ring_share *share = split->shares; share; share = share->next)
			ring->parts[share->part].writing += write_bytes(share);
	}
	return 0;
}

static void ring_commit(kvt_tier *base)
{
	kvt_ring *ring = (kvt_ring *)base;
	for (unsigned i = 0; i < ring->n; i++)
		kvt_tier_commit(ring->parts[i].tier);
}

static uint64_t ring_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_ring *ring = (kvt_ring *)base;
	if (!kvt_extent_valid(extent))
		return 0;
	uint64_t bytes = kvt_page_store_discard(ring->pages, tenant, extent);
	for (unsigned i = 0; i < ring->n; i++)
		kvt_ring_take_back(ring, i, tenant, extent);
	return bytes;
}

/* Declares a stripe in its homes. */
static bool preload_piece(kvt_ring *ring, uint32_t tenant, const kvt_extent *piece)
{
	const uint8_t *order = kvt_ring_order(ring, tenant, piece);
	for (unsigned i = 0; i < ring->settings.replicas; i++) {
		kvt_ring_part *part = &ring->parts[order[i]];
		if (!part->tier->ops->preload(part->tier, tenant, piece))
			return false;
		kvt_page_map_add(part->held, tenant, piece);
	}
	return true;
}

/* A preload has failed: pages that were not there before are not there now. */
static void undo_preload(kvt_ring *ring, uint32_t tenant, const kvt_extent *run)
{
	kvt_extent page = *run;
	page.n_pages = 1;
	for (uint64_t i = 0; i < run->n_pages; i++, page.first_page++)
		for (unsigned part = 0;
			part < ring->n && !kvt_page_store_holds(ring->pages, tenant, &page); part++)
			kvt_ring_take_back(ring, part, tenant, &page);
}

static bool ring_preload(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_ring *ring = (kvt_ring *)base;
	const uint64_t stripe_pages = ring->settings.stripe_pages;
	if (!kvt_extent_valid(extent) || !kvt_page_store_has_room(ring->pages, tenant, extent))
		return false;
	kvt_extent piece = *extent;
	uint64_t end = extent->first_page + extent->n_pages;
	while (piece.first_page < end) {
		uint64_t at = piece.first_page % stripe_pages;
		piece.n_pages = MIN(end - piece.first_page, stripe_pages - at);
		if (!preload_piece(ring, tenant, &piece)) {
			kvt_extent done = *extent;
			done.n_pages = piece.first_page + piece.n_pages - extent->first_page;
			undo_preload(ring, tenant, &done);
			return false;
		}
		piece.first_page += piece.n_pages;
	}
	return kvt_page_store_preload(ring->pages, tenant, extent);
}

static void ring_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	kvt_ring *ring = (kvt_ring *)base;
	*stats = ring->stats;
	stats->used = kvt_page_store_used(ring->pages);
	stats->peak_used = kvt_page_store_peak_taken(ring->pages);
	for (unsigned i = 0; i < ring->n; i++) {
		kvt_tier_stats part;
		ring->parts[i].tier->ops->stats(ring->parts[i].tier, &part);
		stats->device_ios += part.device_ios;
	}
}

static void ring_close(kvt_tier *base)
{
	kvt_ring *ring = (kvt_ring *)base;
	for (unsigned i = 0; i < ring->n; i++) {
		kvt_ring_part *part = &ring->parts[i];
		kvt_resubmit_clear(&part->queue);
		kvt_tier_close(part->tier);
		kvt_page_map_free(part->held);
	}
	kvt_ring_places_free(ring->places);
	kvt_page_store_free(ring->pages);
	g_ptr_array_unref(ring->ios);
	g_ptr_array_unref(ring->shares);
	g_free(ring);
}

static const kvt_tier_ops ring_ops = {
	.name = "ring",
	.summary = "several tiers as one, stripes by consistent hashing, with replicas",
	.submit = ring_submit,
	.commit = ring_commit,
	.discard = ring_discard,
	.holds = ring_holds,
	.preload = ring_preload,
	.stats = ring_stats,
	.close = ring_close,
};

/* Bytes of pages that all parts have room for; UINT64_MAX: unbounded. */
static uint64_t capacity_of(const kvt_ring *ring)
{
	uint64_t capacity = 0;
	for (unsigned i = 0; i < ring->n; i++) {
		kvt_tier_stats stats;
		ring->parts[i].tier->ops->stats(ring->parts[i].tier, &stats);
		if (stats.capacity > UINT64_MAX - capacity)
			return UINT64_MAX;
		capacity += stats.capacity;
	}
	return capacity / ring->settings.replicas;
}

kvt_tier *kvt_ring_tier_new(const kvt_tier_env *env, kvt_tier *const *parts,
	const char *const *names, unsigned n, const kvt_ring_settings *settings)
{
	kvt_ring *ring = g_new0(kvt_ring, 1);
	kvt_ring_settings *own = &ring->settings;
	*own = *settings;
	own->replicas = CLAMP(own->replicas, 1, n);
	own->points = own->points > 0 ? own->points : 128;
	own->stripe_pages = own->stripe_pages > 0 ? own->stripe_pages : 16;
	own->failures = own->failures > 0 ? own->failures : 3;
	own->retry = own->retry > 0 ? own->retry : KVT_SECOND;
	ring->ops = ring_ops;
	ring->ops.flags = ~0u;
	ring->loop = env->loop;
	ring->n = n;
	ring->places = kvt_ring_places_new(names, n, own->points);
	for (unsigned i = 0; i < n; i++) {
		kvt_ring_part *part = &ring->parts[i];
		part->tier = parts[i];
		part->held = kvt_page_map_new();
		kvt_resubmit_init(&part->queue, env->loop, parts[i]);
		ring->ops.flags &= parts[i]->ops->flags;
		if (!parts[i]->ops->preload)
			ring->ops.preload = NULL;
	}
	ring->base.ops = &ring->ops;
	own->capacity = own->capacity > 0 ? own->capacity : capacity_of(ring);
	ring->pages = kvt_page_store_new(own->capacity);
	ring->ios = g_ptr_array_new_with_free_func(free_io);
	ring->shares = g_ptr_array_new_with_free_func(free_share);
	kvt_tier_stats_init(&ring->stats, own->capacity);
	return &ring->base;
}

kvt_ring_counts kvt_ring_tier_counts(const kvt_tier *tier)
{
	return ((const kvt_ring *)tier)->counts;
}

bool kvt_ring_tier_leaves_out(const kvt_tier *tier, unsigned part)
{
	return ((const kvt_ring *)tier)->parts[part].out;
}
