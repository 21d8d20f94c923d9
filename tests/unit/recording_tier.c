/* recording_tier.c: operations that are passed on. */
#include "tests/unit/recording_tier.h"

typedef struct recording_tier {
	kvt_tier base;
	kvt_tier_ops ops;
	kvt_tier *inner;
	recording *log;
} recording_tier;

/* An I/O's own end, while the tier's is in its place. */
typedef struct passed_io {
	recording_tier *tier;
	void (*done)(kvt_io *io);
	void *arg;
} passed_io;

static void on_done(kvt_io *io)
{
	passed_io *passed = io->arg;
	recording *log = passed->tier->log;
	io->done = passed->done;
	io->arg = passed->arg;
	if (io->op == KVT_IO_READ && io->status == 0 && log->arrived)
		log->arrived(log->arg, io);
	g_free(passed);
	io->done(io);
}

static int record_submit(kvt_tier *base, kvt_io *io)
{
	recording_tier *tier = (recording_tier *)base;
	GString *lines = io->op == KVT_IO_READ ? tier->log->reads : tier->log->writes;
	passed_io *passed = g_new(passed_io, 1);
	*passed = (passed_io){ tier, io->done, io->arg };
	io->done = on_done;
	io->arg = passed;
	int error = kvt_tier_submit(tier->inner, io);
	if (error != 0) {
		io->done = passed->done;
		io->arg = passed->arg;
		g_free(passed);
		return error;
	}
	for (unsigned i = 0; lines && i < io->n_extents; i++)
		g_string_append_printf(lines, "%u:%u:%" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT "%c",
			io->extents[i].context, io->extents[i].layer, io->extents[i].first_page,
			io->extents[i].n_pages, i + 1 < io->n_extents ? ' ' : '\n');
	return 0;
}

static void record_commit(kvt_tier *base)
{
	kvt_tier_commit(((recording_tier *)base)->inner);
}

static uint64_t record_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((recording_tier *)base)->inner;
	return inner->ops->discard(inner, tenant, extent);
}

static bool record_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((recording_tier *)base)->inner;
	return inner->ops->holds(inner, tenant, extent);
}

static bool record_preload(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((recording_tier *)base)->inner;
	if (inner->ops->preload)
		return inner->ops->preload(inner, tenant, extent);
	return inner->ops->holds(inner, tenant, extent);
}

static void record_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	kvt_tier *inner = ((recording_tier *)base)->inner;
	inner->ops->stats(inner, stats);
}

static void record_close(kvt_tier *base)
{
	kvt_tier_close(((recording_tier *)base)->inner);
	g_free(base);
}

kvt_tier *recording_tier_new(kvt_tier *inner, recording *log)
{
	recording_tier *tier = g_new0(recording_tier, 1);
	tier->ops = *inner->ops;
	tier->ops.submit = record_submit;
	tier->ops.commit = record_commit;
	tier->ops.discard = record_discard;
	tier->ops.holds = record_holds;
	tier->ops.preload = record_preload;
	tier->ops.stats = record_stats;
	tier->ops.close = record_close;
	tier->base.ops = &tier->ops;
	tier->inner = inner;
	tier->log = log;
	return &tier->base;
}
