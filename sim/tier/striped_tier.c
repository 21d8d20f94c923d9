/* striped_tier.c: cuts runs at stripes and gives each part to the tier that is its home. */
#include "sim/tier/striped_tier.h"

#include <errno.h>
#include <math.h>

#include "sim/tier/page_store.h"
#include "sim/tier/resubmit.h"

enum { PARTS = 2, SHARE_UNITS = 1000000 };

typedef struct striped_tier striped_tier;

/* An I/O on its way: one I/O a part, and the extents they point to; pooled. */
typedef struct striped_io {
	striped_tier *tier;
	kvt_io *io;
	uint64_t bytes;
	bool begun; /* its pages and room are booked */
	kvt_page_ticket tickets[PARTS];
	kvt_io parts[PARTS];
	GArray *extents[PARTS];
	bool part_done[PARTS];
	unsigned pending;
	int status;
	struct striped_io *next; /* free, or of the writes in flight */
} striped_io;

struct striped_tier {
	kvt_tier base;
	kvt_loop *loop;
	kvt_tier *parts[PARTS];
	kvt_resubmit queues[PARTS];
	uint64_t share; /* of SHARE_UNITS, in the second */
	/* The parts' pages as this tier sees them: of I/Os that are complete in both. What does not
	 * fit is refused before a part hears of it. */
	kvt_page_store *pages[PARTS];
	kvt_tier_stats stats;
	striped_io *writing;
	striped_io *free_ios;
	GPtrArray *ios; /* every one ever made, to free them */
};

/* Of the first `pages` pages of a context, how many are at home in a part. Stripe n lies in the
 * second when the share's running total passes a whole number there. */
static uint64_t pages_before(const striped_tier *tier, uint64_t pages, unsigned part)
{
	uint64_t stripe = pages / KVT_STRIPE_PAGES, rest = pages % KVT_STRIPE_PAGES;
	unsigned __int128 product = (unsigned __int128)stripe * tier->share;
	uint64_t in_second = (uint64_t)(product / SHARE_UNITS);
	unsigned home = (uint64_t)(product % SHARE_UNITS) + tier->share >= SHARE_UNITS;
	uint64_t before = part == 1 ? in_second : stripe - in_second;
	return before * KVT_STRIPE_PAGES + (home == part ? rest : 0);
}

/* The part's share of a run, in the part's own page numbers; false when it has none. */
static bool part_of(
	const striped_tier *tier, const kvt_extent *extent, unsigned part, kvt_extent *out)
{
	uint64_t first = pages_before(tier, extent->first_page, part);
	uint64_t end = pages_before(tier, extent->first_page + extent->n_pages, part);
	*out = *extent;
	out->first_page = first;
	out->n_pages = end - first;
	return end > first;
}

/* Bytes of pages and of writes in flight. */
static uint64_t taken(const striped_tier *tier)
{
	uint64_t bytes = 0;
	for (unsigned part = 0; part < PARTS; part++)
		bytes += kvt_page_store_taken(tier->pages[part]);
	return bytes;
}

static striped_io *take_io(striped_tier *tier)
{
	striped_io *split = tier->free_ios;
	if (split) {
		tier->free_ios = split->next;
		return split;
	}
	split = g_new0(striped_io, 1);
	split->tier = tier;
	for (unsigned i = 0; i < PARTS; i++)
		split->extents[i] = g_array_new(FALSE, FALSE, sizeof(kvt_extent));
	g_ptr_array_add(tier->ios, split);
	return split;
}

static void give_io(striped_io *split)
{
	split->next = split->tier->free_ios;
	split->tier->free_ios = split;
}

static void free_io(gpointer pointer)
{
	striped_io *split = pointer;
	for (unsigned i = 0; i < PARTS; i++)
		g_array_unref(split->extents[i]);
	g_free(split);
}

/* Whether a write that is complete in this part and not yet as a whole has stored the run there. */
static bool half_written(
	const striped_tier *tier, unsigned part, uint32_t tenant, const kvt_extent *local)
{
	for (const striped_io *split = tier->writing; split; split = split->next) {
		const kvt_io *io = &split->parts[part];
		if (!split->part_done[part] || io->tenant != tenant)
			continue;
		for (unsigned i = 0; i < io->n_extents; i++)
			if (kvt_extent_overlaps(&io->extents[i], local))
				return true;
	}
	return false;
}

/* Discards what a part holds of a run and this tier does not, nor is about to. */
static void take_back(striped_tier *tier, unsigned part, uint32_t tenant, const kvt_extent *local)
{
	kvt_tier *inner = tier->parts[part];
	kvt_extent page = *local;
	page.n_pages = 1;
	for (uint64_t i = 0; i < local->n_pages; i++, page.first_page++)
		if (!kvt_page_store_holds(tier->pages[part], tenant, &page) &&
			!half_written(tier, part, tenant, &page))
			inner->ops->discard(inner, tenant, &page);
}

static void forget_write(striped_io *split)
{
	striped_io **link = &split->tier->writing;
	while (*link != split)
		link = &(*link)->next;
	*link = split->next;
}

static void undo_write(striped_io *split)
{
	striped_tier *tier = split->tier;
	uint32_t tenant = split->io->tenant;
	for (unsigned part = 0; part < PARTS; part++)
		for (guint i = 0; i < split->extents[part]->len; i++) {
			const kvt_extent *local =
				&g_array_index(split->extents[part], kvt_extent, i);
			/* the part that failed may have lost what it was to replace */
			if (split->status != -ENOSPC)
				kvt_page_store_discard(tier->pages[part], tenant, local);
			take_back(tier, part, tenant, local);
		}
}

/* Books the parts' pages and room; returns the status as kvt_page_store_begin does. */
static int begin_parts(striped_io *split)
{
	striped_tier *tier = split->tier;
	int status = 0;
	unsigned begun = 0;
	for (; status == 0 && begun < PARTS; begun++) {
		const kvt_io *io = &split->parts[begun];
		uint64_t bytes = 0;
		for (unsigned i = 0; i < io->n_extents; i++)
			bytes += kvt_extent_bytes(&io->extents[i]);
		status =
			kvt_page_store_begin(tier->pages[begun], &split->tickets[begun], io, bytes);
	}
	split->begun = status == 0;
	for (unsigned part = 0; status != 0 && part + 1 < begun; part++)
		kvt_page_store_end(tier->pages[part], &split->tickets[part], status);
	tier->stats.peak_used = MAX(tier->stats.peak_used, taken(tier));
	return status;
}

/* What the whole completes with. */
static int end_parts(striped_io *split)
{
	int status = split->status;
	for (unsigned part = 0; part < PARTS; part++) {
		int ended = kvt_page_store_end(
			split->tier->pages[part], &split->tickets[part], split->status);
		status = status != 0 ? status : ended;
	}
	return status;
}

static void finish(void *arg)
{
	striped_io *split = arg;
	striped_tier *tier = split->tier;
	kvt_io *io = split->io;
	if (split->begun && io->op == KVT_IO_WRITE)
		forget_write(split);
	if (split->begun)
		split->status = end_parts(split);
	if (split->begun && split->status != 0 && io->op == KVT_IO_WRITE)
		undo_write(split);
	io->status = split->status;
	io->bytes = io->status == 0 ? split->bytes : 0;
	io->completed = kvt_loop_now(tier->loop);
	give_io(split);
	kvt_tier_stats_count(&tier->stats, io);
	io->done(io);
}

static void part_done(kvt_io *part)
{
	striped_io *split = part->arg;
	unsigned which = (unsigned)(part - split->parts);
	kvt_resubmit *queue = &split->tier->queues[which];
	split->part_done[which] = part->status == 0;
	if (part->status != 0 && split->status == 0)
		split->status = part->status;
	if (--split->pending == 0)
		finish(split);
	kvt_resubmit_completed(queue);
}

/* Fills the parts' I/Os; one that has nothing to do has no extents. */
static void split_io(striped_io *split)
{
	const kvt_io *io = split->io;
	split->pending = 0;
	for (unsigned part = 0; part < PARTS; part++) {
		GArray *extents = split->extents[part];
		g_array_set_size(extents, 0);
		for (unsigned i = 0; i < io->n_extents; i++) {
			kvt_extent local;
			if (part_of(split->tier, &io->extents[i], part, &local))
				g_array_append_val(extents, local);
		}
		split->parts[part] = (kvt_io){ .op = io->op,
			.tenant = io->tenant,
			.priority = io->priority,
			.extents = (const kvt_extent *)extents->data,
			.n_extents = extents->len,
			.done = part_done,
			.arg = split };
		split->part_done[part] = false;
		split->pending += extents->len > 0;
	}
}

/* Gets the parts under way; -EAGAIN as long as none is. */
static int submit_parts(striped_io *split)
{
	bool first = true;
	for (unsigned part = 0; part < PARTS; part++) {
		kvt_io *io = &split->parts[part];
		if (io->n_extents == 0)
			continue;
		kvt_resubmit *queue = &split->tier->queues[part];
		if (!first) {
			kvt_resubmit_add(queue, io);
			continue;
		}
		int error = kvt_resubmit_try(queue, io);
		if (error != 0)
			return error;
		first = false;
	}
	return 0;
}

static int striped_submit(kvt_tier *base, kvt_io *io)
{
	striped_tier *tier = (striped_tier *)base;
	uint64_t bytes;
	int error = kvt_io_check(io, &bytes);
	if (error != 0)
		return error;
	striped_io *split = take_io(tier);
	split->io = io;
	split->bytes = bytes;
	split_io(split);
	kvt_time now = kvt_loop_now(tier->loop);
	int status = begin_parts(split);
	split->status = status == -EINVAL ? 0 : status;
	if (status == 0)
		error = submit_parts(split);
	else if (status == -EINVAL)
		error = status;
	else
		kvt_loop_at(tier->loop, now, finish, split);
	if (error == 0) {
		io->submitted = now;
		if (split->begun && io->op == KVT_IO_WRITE) {
			split->next = tier->writing;
			tier->writing = split;
		}
		return 0;
	}
	if (split->begun) {
		split->status = error;
		end_parts(split);
	}
	give_io(split);
	return error;
}

static void striped_commit(kvt_tier *base)
{
	striped_tier *tier = (striped_tier *)base;
	for (unsigned i = 0; i < PARTS; i++)
		kvt_tier_commit(tier->parts[i]);
}

static uint64_t striped_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	striped_tier *tier = (striped_tier *)base;
	uint64_t bytes = 0;
	for (unsigned part = 0; kvt_extent_valid(extent) && part < PARTS; part++) {
		kvt_tier *inner = tier->parts[part];
		kvt_extent local;
		if (!part_of(tier, extent, part, &local))
			continue;
		bytes += kvt_page_store_discard(tier->pages[part], tenant, &local);
		if (half_written(tier, part, tenant, &local))
			take_back(tier, part, tenant, &local);
		else
			inner->ops->discard(inner, tenant, &local);
	}
	return bytes;
}

static bool striped_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	striped_tier *tier = (striped_tier *)base;
	for (unsigned part = 0; part < PARTS; part++) {
		kvt_extent local;
		if (!kvt_extent_valid(extent))
			return false;
		if (part_of(tier, extent, part, &local) &&
			!kvt_page_store_holds(tier->pages[part], tenant, &local))
			return false;
	}
	return true;
}

static bool striped_preload(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	striped_tier *tier = (striped_tier *)base;
	bool fits = kvt_extent_valid(extent);
	kvt_extent local[PARTS];
	bool has[PARTS] = { false };
	for (unsigned part = 0; fits && part < PARTS; part++) {
		has[part] = part_of(tier, extent, part, &local[part]);
		fits = !has[part] ||
		       kvt_page_store_has_room(tier->pages[part], tenant, &local[part]);
	}
	for (unsigned part = 0; fits && part < PARTS; part++) {
		kvt_tier *inner = tier->parts[part];
		fits = !has[part] ||
		       (inner->ops->preload && inner->ops->preload(inner, tenant, &local[part]));
	}
	for (unsigned part = 0; part < PARTS; part++) {
		if (has[part] && fits)
			kvt_page_store_preload(tier->pages[part], tenant, &local[part]);
		else if (has[part])
			take_back(tier, part, tenant, &local[part]);
	}
	tier->stats.peak_used = MAX(tier->stats.peak_used, taken(tier));
	return fits;
}

static void striped_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	striped_tier *tier = (striped_tier *)base;
	*stats = tier->stats;
	for (unsigned i = 0; i < PARTS; i++) {
		kvt_tier_stats part;
		tier->parts[i]->ops->stats(tier->parts[i], &part);
		stats->used += kvt_page_store_used(tier->pages[i]);
		stats->device_ios += part.device_ios;
		stats->capacity = part.capacity > UINT64_MAX - stats->capacity
					  ? UINT64_MAX
					  : stats->capacity + part.capacity;
	}
}

static void striped_close(kvt_tier *base)
{
	striped_tier *tier = (striped_tier *)base;
	for (unsigned i = 0; i < PARTS; i++) {
		kvt_resubmit_clear(&tier->queues[i]);
		kvt_page_store_free(tier->pages[i]);
	}
	g_ptr_array_unref(tier->ios);
	g_free(tier);
}

static const kvt_tier_ops striped_ops = {
	.name = "striped",
	.summary = "two tiers that share a context's pages",
	.flags = KVT_TIER_MODELLED,
	.submit = striped_submit,
	.commit = striped_commit,
	.discard = striped_discard,
	.holds = striped_holds,
	.preload = striped_preload,
	.stats = striped_stats,
	.close = striped_close,
};

kvt_tier *kvt_striped_tier_new(
	const kvt_tier_env *env, kvt_tier *first, kvt_tier *second, double second_share)
{
	g_assert(second_share >= 0 && second_share <= 1);
	striped_tier *tier = g_new0(striped_tier, 1);
	tier->base.ops = &striped_ops;
	tier->loop = env->loop;
	tier->parts[0] = first;
	tier->parts[1] = second;
	for (unsigned i = 0; i < PARTS; i++) {
		kvt_tier_stats stats;
		tier->parts[i]->ops->stats(tier->parts[i], &stats);
		tier->pages[i] = kvt_page_store_new(stats.capacity);
		kvt_resubmit_init(&tier->queues[i], env->loop, tier->parts[i]);
	}
	tier->share = (uint64_t)llround(second_share * SHARE_UNITS);
	tier->ios = g_ptr_array_new_with_free_func(free_io);
	kvt_tier_stats_init(&tier->stats, 0);
	return &tier->base;
}
