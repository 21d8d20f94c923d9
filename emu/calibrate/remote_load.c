/* remote_load.c: I/Os of the tier's contract, so many in flight. */
#include "emu/calibrate/remote_load.h"

#include "emu/calibrate/calibrate_load.h"
#include "emu/tier/memory_arena.h"
#include "sim/base/error.h"

enum { MEMORY = 16 << 20, PAGE = 64 << 10 };
/* No load takes longer, s. */
static const double LONGEST = 5;
static const kvt_time FAREWELL = 100 * KVT_MILLISECOND;

typedef struct lane {
	kvt_remote_load *load;
	kvt_io io;
	kvt_extent extent;
	void *memory;
} lane;

struct kvt_remote_load {
	kvt_loop *loop;
	kvt_tier *tier;
	kvt_arena *arena;
	lane *lanes;
	kvt_meter meter;
	unsigned in_flight;
	uint64_t size, at; /* of an I/O; where the next one's pages are */
	int status;
};

static void submit(lane *l)
{
	kvt_remote_load *load = l->load;
	if (load->at + load->size > MEMORY)
		load->at = 0;
	l->extent = (kvt_extent){
		.first_page = load->at / PAGE, .n_pages = load->size / PAGE, .page_bytes = PAGE
	};
	l->memory = kvt_arena_base(load->arena) + load->at;
	load->at += load->size;
	int status = load->tier->ops->submit(load->tier, &l->io);
	load->in_flight += status == 0;
	if (status != 0)
		load->status = status;
}

static void on_done(kvt_io *io)
{
	lane *l = io->arg;
	kvt_remote_load *load = l->load;
	if (io->status != 0) {
		load->status = io->status;
		load->meter.stopping = true;
	}
	load->in_flight--;
	if (kvt_meter_count(&load->meter, kvt_loop_now(load->loop), io->submitted))
		submit(l);
	if (load->in_flight == 0)
		kvt_loop_stop(load->loop);
}

/* Runs I/Os of the meter's depth until it has enough. */
static gboolean drive(kvt_remote_load *load, kvt_io_op op, GError **error)
{
	load->lanes = g_new0(lane, load->meter.depth);
	for (unsigned i = 0; i < load->meter.depth; i++) {
		lane *l = &load->lanes[i];
		l->load = load;
		l->io = (kvt_io){ .op = op,
			.extents = &l->extent,
			.n_extents = 1,
			.memory = &l->memory,
			.done = on_done,
			.arg = l };
		submit(l);
	}
	if (load->tier->ops->commit)
		load->tier->ops->commit(load->tier);
	if (load->in_flight > 0)
		kvt_loop_run(load->loop);
	g_clear_pointer(&load->lanes, g_free);
	if (load->status == 0)
		return TRUE;
	const char *notice = load->tier->ops->notice(load->tier);
	return kvt_error_failed(error, "the remote tier failed: %s%s%s", g_strerror(-load->status),
		notice ? "; " : "", notice ? notice : "");
}

/* All pages, once. */
static gboolean store(kvt_remote_load *load, GError **error)
{
	load->size = 1 << 20;
	load->meter = (kvt_meter){ .depth = MEMORY / (1 << 20), .stopping = true };
	kvt_load_fill(kvt_arena_base(load->arena), MEMORY);
	return drive(load, KVT_IO_WRITE, error);
}

kvt_remote_load *kvt_remote_load_new(
	kvt_loop *loop, kvt_fabric *fabric, const kvt_remote_settings *settings, GError **error)
{
	kvt_remote_load *load = g_new0(kvt_remote_load, 1);
	const kvt_tier_env env = { .loop = loop };
	load->loop = loop;
	load->arena = kvt_arena_new(MEMORY, KVT_HUGE_TRANSPARENT, false, -1, error);
	if (load->arena)
		load->tier = kvt_remote_tier_new(&env, fabric, settings, error);
	if (load->tier) {
		/* refused where memory may not be locked: then by way of the tier's own */
		load->tier->ops->register_memory(load->tier, kvt_arena_base(load->arena), MEMORY);
		if (store(load, error))
			return load;
	}
	kvt_remote_load_free(load);
	return NULL;
}

static void stop(void *arg)
{
	kvt_loop_stop(((kvt_remote_load *)arg)->loop);
}

void kvt_remote_load_free(kvt_remote_load *load)
{
	if (!load)
		return;
	if (load->tier) {
		const kvt_extent all = { .n_pages = MEMORY / PAGE, .page_bytes = PAGE };
		load->tier->ops->discard(load->tier, 0, &all);
		/* nobody tells when the node has heard of it */
		kvt_loop_after(load->loop, FAREWELL, stop, load);
		kvt_loop_run(load->loop);
		kvt_tier_close(load->tier);
	}
	kvt_arena_free(load->arena);
	g_free(load);
}

double kvt_remote_load_from_drives(const kvt_remote_load *load)
{
	kvt_remote_counts counts = kvt_remote_tier_counts(load->tier);
	return (double)counts.pushed_pages / (double)MAX(counts.verified_pages, 1);
}

uint64_t kvt_remote_load_memory(const kvt_remote_load *load)
{
	return MEMORY;
}

gboolean kvt_remote_load_run(kvt_remote_load *load, const kvt_drive_point *point, unsigned least,
	double seconds, kvt_load_result *result, kvt_histogram *latencies, GError **error)
{
	g_assert(point->size % PAGE == 0 && point->size <= MEMORY);
	load->size = point->size;
	load->meter = (kvt_meter){ .depth = point->depth,
		.least = least,
		.seconds = seconds,
		.longest = LONGEST,
		.latencies = latencies };
	kvt_meter_begin(&load->meter, load->loop);
	if (!drive(load, KVT_IO_READ, error))
		return FALSE;
	kvt_meter_end(&load->meter, load->loop, load->size, result);
	return load->meter.counted > 0 ||
	       kvt_error_failed(error, "too few reads of %" G_GUINT64_FORMAT " bytes ended in %g s",
		       load->size, LONGEST);
}
