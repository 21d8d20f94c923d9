/* striped_tier.c: cuts runs at stripes and gives each part to the tier that is its home. */
#include "sim/tier/striped_tier.h"

#include <errno.h>
#include <math.h>

enum { STRIPE_PAGES = 16, PARTS = 2 };

typedef struct striped_tier {
	kvt_tier base;
	kvt_loop *loop;
	kvt_tier *parts[PARTS];
	double second_share;
} striped_tier;

/* An I/O on its way: one I/O a part, and the extents they point to. */
typedef struct striped_io {
	striped_tier *tier;
	kvt_io *io;
	kvt_io parts[PARTS];
	GArray *extents[PARTS];
	unsigned pending;
} striped_io;

/* Stripe n lies in the second tier when the share's running total passes a whole number there. */
static unsigned home_of(const striped_tier *tier, uint64_t stripe)
{
	double share = tier->second_share;
	return floor((double)(stripe + 1) * share) > floor((double)stripe * share);
}

/* Appends what each tier holds of the run; neighbouring pages stay one run. */
static void split(const striped_tier *tier, const kvt_extent *extent, GArray *out[PARTS])
{
	uint64_t page = extent->first_page, end = page + extent->n_pages;
	while (page < end) {
		uint64_t stripe = page / STRIPE_PAGES;
		uint64_t stripe_end = MIN((stripe + 1) * STRIPE_PAGES, end);
		GArray *runs = out[home_of(tier, stripe)];
		kvt_extent *last =
			runs->len > 0 ? &g_array_index(runs, kvt_extent, runs->len - 1) : NULL;
		if (last && last->context == extent->context && last->layer == extent->layer &&
			last->first_page + last->n_pages == page) {
			last->n_pages += stripe_end - page;
		} else {
			kvt_extent run = *extent;
			run.first_page = page;
			run.n_pages = stripe_end - page;
			g_array_append_val(runs, run);
		}
		page = stripe_end;
	}
}

static void striped_io_free(striped_io *split_io)
{
	for (unsigned i = 0; i < PARTS; i++)
		g_array_unref(split_io->extents[i]);
	g_free(split_io);
}

static void part_done(kvt_io *part)
{
	striped_io *split_io = part->arg;
	kvt_io *io = split_io->io;
	if (part->status != 0 && io->status == 0)
		io->status = part->status;
	io->bytes += part->bytes;
	if (--split_io->pending > 0)
		return;
	io->completed = kvt_loop_now(split_io->tier->loop);
	striped_io_free(split_io);
	io->done(io);
}

static int striped_submit(kvt_tier *base, kvt_io *io)
{
	striped_tier *tier = (striped_tier *)base;
	if (io->n_extents == 0 || !io->done)
		return -EINVAL;
	striped_io *split_io = g_new0(striped_io, 1);
	split_io->tier = tier;
	split_io->io = io;
	for (unsigned i = 0; i < PARTS; i++)
		split_io->extents[i] = g_array_new(FALSE, FALSE, sizeof(kvt_extent));
	for (unsigned i = 0; i < io->n_extents; i++)
		split(tier, &io->extents[i], split_io->extents);
	io->submitted = kvt_loop_now(tier->loop);
	io->status = 0;
	io->bytes = 0;
	int error = 0;
	for (unsigned i = 0; i < PARTS && error == 0; i++) {
		if (split_io->extents[i]->len == 0)
			continue;
		split_io->parts[i] = (kvt_io){ .op = io->op,
			.tenant = io->tenant,
			.priority = io->priority,
			.extents = (const kvt_extent *)split_io->extents[i]->data,
			.n_extents = split_io->extents[i]->len,
			.done = part_done,
			.arg = split_io };
		error = kvt_tier_submit(tier->parts[i], &split_io->parts[i]);
		split_io->pending += error == 0;
	}
	if (error == 0)
		return 0;
	if (split_io->pending == 0) {
		striped_io_free(split_io);
		return error;
	}
	/* one part is under way already: the I/O as a whole fails when that part is over */
	io->status = error;
	return 0;
}

static uint64_t striped_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	striped_tier *tier = (striped_tier *)base;
	uint64_t bytes = 0;
	for (unsigned i = 0; i < PARTS; i++)
		bytes += tier->parts[i]->ops->discard(tier->parts[i], tenant, extent);
	return bytes;
}

/* Preloads each part of the run, or asks whether it is held; false as soon as one says so. */
static bool each_part(striped_tier *tier, uint32_t tenant, const kvt_extent *extent, bool preload)
{
	GArray *extents[PARTS];
	bool ok = true;
	for (unsigned i = 0; i < PARTS; i++)
		extents[i] = g_array_new(FALSE, FALSE, sizeof(kvt_extent));
	split(tier, extent, extents);
	for (unsigned i = 0; i < PARTS; i++) {
		const kvt_tier_ops *ops = tier->parts[i]->ops;
		for (guint j = 0; ok && j < extents[i]->len; j++) {
			const kvt_extent *run = &g_array_index(extents[i], kvt_extent, j);
			ok = preload ? ops->preload && ops->preload(tier->parts[i], tenant, run)
				     : ops->holds(tier->parts[i], tenant, run);
		}
		g_array_unref(extents[i]);
	}
	return ok;
}

static bool striped_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	return each_part((striped_tier *)base, tenant, extent, false);
}

static bool striped_preload(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	return each_part((striped_tier *)base, tenant, extent, true);
}

static void striped_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	striped_tier *tier = (striped_tier *)base;
	tier->parts[0]->ops->stats(tier->parts[0], stats);
	kvt_tier_stats other;
	tier->parts[1]->ops->stats(tier->parts[1], &other);
	stats->capacity = stats->capacity > UINT64_MAX - other.capacity
				  ? UINT64_MAX
				  : stats->capacity + other.capacity;
	stats->used += other.used;
	stats->peak_used += other.peak_used;
	stats->reads += other.reads;
	stats->read_bytes += other.read_bytes;
	stats->read_errors += other.read_errors;
	stats->writes += other.writes;
	stats->written_bytes += other.written_bytes;
	stats->write_errors += other.write_errors;
	stats->device_ios += other.device_ios;
	kvt_histogram_merge(&stats->read_latency, &other.read_latency);
	kvt_histogram_merge(&stats->write_latency, &other.write_latency);
}

static void striped_close(kvt_tier *base)
{
	g_free(base);
}

static const kvt_tier_ops striped_ops = {
	.name = "striped",
	.summary = "two tiers that share a context's pages",
	.flags = KVT_TIER_MODELLED,
	.submit = striped_submit,
	.discard = striped_discard,
	.holds = striped_holds,
	.preload = striped_preload,
	.stats = striped_stats,
	.close = striped_close,
};

kvt_tier *kvt_striped_tier_new(
	const kvt_tier_env *env, kvt_tier *first, kvt_tier *second, double second_share)
{
	striped_tier *tier = g_new0(striped_tier, 1);
	tier->base.ops = &striped_ops;
	tier->loop = env->loop;
	tier->parts[0] = first;
	tier->parts[1] = second;
	tier->second_share = second_share;
	return &tier->base;
}
