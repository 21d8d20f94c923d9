/* lossy_tier.c: reads that are passed on, and fail on their way back. */
#include "tests/unit/lossy_tier.h"

#include <errno.h>

#include "sim/base/rng.h"

typedef struct lossy_tier {
	kvt_tier base;
	kvt_tier_ops ops;
	kvt_tier *inner;
	lossy_settings *settings;
} lossy_tier;

typedef struct passed_io {
	lossy_tier *tier;
	void (*done)(kvt_io *io);
	void *arg;
} passed_io;

static gpointer key_of(unsigned layer, uint64_t page)
{
	return GSIZE_TO_POINTER(((uint64_t)layer << 40 | page) + 1);
}

int lossy_page(const lossy_settings *settings, unsigned layer, uint64_t page)
{
	static const int all[] = { -ENOENT, -EIO, -EBADMSG };
	if (settings->mended && g_hash_table_contains(settings->mended, key_of(layer, page)))
		return 0;
	kvt_rng rng = kvt_rng_init(settings->seed, (uint64_t)layer << 40 | page);
	if (kvt_rng_uniform(&rng) >= settings->rate)
		return 0;
	return settings->status != 0 ? settings->status
				     : all[kvt_rng_below(&rng, G_N_ELEMENTS(all))];
}

static void lose(lossy_settings *settings, kvt_io *io)
{
	settings->reads++;
	for (unsigned i = 0; io->status == 0 && i < io->n_extents; i++)
		for (uint64_t p = 0; io->status == 0 && p < io->extents[i].n_pages; p++)
			io->status = lossy_page(
				settings, io->extents[i].layer, io->extents[i].first_page + p);
	settings->failed += io->status != 0;
	io->bytes = io->status == 0 ? io->bytes : 0;
}

static void mend(lossy_settings *settings, const kvt_io *io)
{
	for (unsigned i = 0; io->status == 0 && i < io->n_extents; i++)
		for (uint64_t p = 0; p < io->extents[i].n_pages; p++)
			g_hash_table_add(settings->mended,
				key_of(io->extents[i].layer, io->extents[i].first_page + p));
}

static void on_done(kvt_io *io)
{
	passed_io *passed = io->arg;
	lossy_settings *settings = passed->tier->settings;
	io->done = passed->done;
	io->arg = passed->arg;
	if (io->op == KVT_IO_READ)
		lose(settings, io);
	else if (settings->mended && settings->mends)
		mend(settings, io);
	g_free(passed);
	io->done(io);
}

static int lossy_submit(kvt_tier *base, kvt_io *io)
{
	lossy_tier *tier = (lossy_tier *)base;
	passed_io *passed = g_new(passed_io, 1);
	*passed = (passed_io){ tier, io->done, io->arg };
	io->done = on_done;
	io->arg = passed;
	int error = kvt_tier_submit(tier->inner, io);
	if (error == 0)
		return 0;
	io->done = passed->done;
	io->arg = passed->arg;
	g_free(passed);
	return error;
}

static void lossy_commit(kvt_tier *base)
{
	kvt_tier_commit(((lossy_tier *)base)->inner);
}

static uint64_t lossy_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((lossy_tier *)base)->inner;
	return inner->ops->discard(inner, tenant, extent);
}

static bool lossy_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((lossy_tier *)base)->inner;
	return inner->ops->holds(inner, tenant, extent);
}

static bool lossy_preload(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((lossy_tier *)base)->inner;
	return inner->ops->preload(inner, tenant, extent);
}

static void lossy_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	kvt_tier *inner = ((lossy_tier *)base)->inner;
	inner->ops->stats(inner, stats);
}

static void lossy_close(kvt_tier *base)
{
	kvt_tier_close(((lossy_tier *)base)->inner);
	g_free(base);
}

kvt_tier *lossy_tier_new(kvt_tier *inner, lossy_settings *settings)
{
	lossy_tier *tier = g_new0(lossy_tier, 1);
	tier->ops = *inner->ops;
	tier->ops.submit = lossy_submit;
	tier->ops.commit = lossy_commit;
	tier->ops.discard = lossy_discard;
	tier->ops.holds = lossy_holds;
	if (inner->ops->preload)
		tier->ops.preload = lossy_preload;
	tier->ops.stats = lossy_stats;
	tier->ops.close = lossy_close;
	tier->base.ops = &tier->ops;
	tier->inner = inner;
	tier->settings = settings;
	return &tier->base;
}
