/*
 * upload_tier.c: the operations of a tier whose reads end in a GPU's memory: which I/Os these are,
 * their queues and their ends, and what the tier is opened with. How bytes come there is
 * upload_direct.c's and upload_staged.c's.
 */
#include "emu/gpu/upload_tier.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "emu/gpu/upload_internal.h"
#include "emu/tier/pinned_tier.h"
#include "sim/base/error.h"

enum { PATIENCE = 16 }; /* turns of higher classes that one waits for at most */

static const char *const way_names[] = { "automatic", "engine", "kernel", NULL };
static const char *const verify_names[] = { "device", "host", "no", NULL };

#define SETTING(field) offsetof(kvt_upload_settings, field)

const kvt_option kvt_upload_options[] = {
	{ "staging", KVT_OPTION_BYTES, 0, SETTING(staging), "256MiB", 1 << 16, 1e12, NULL,
		"pinned memory between a tier that cannot be pinned itself and the GPU" },
	{ "buffers", KVT_OPTION_INTEGER, 0, SETTING(buffers), "32", 1, 65536, NULL,
		"pieces that it holds at least: I/Os are cut so" },
	{ "verify", KVT_OPTION_CHOICE, 0, SETTING(verify), "device", 0, 0, verify_names,
		"who verifies pages of tier memory: the GPU where they arrived, the tier's helpers "
		"while it copies them, or nobody" },
	{ "way", KVT_OPTION_CHOICE, 0, SETTING(way), "automatic", 0, 0, way_names,
		"who copies: the GPU's copy engines, a kernel of it, or what is faster for runs "
		"of their size" },
	{ 0 },
};

typedef struct device_region {
	const uint8_t *first, *end;
} device_region;

/* An I/O that is the inner tier's alone, while reads are staged; pooled. */
typedef struct passed_io {
	upload_tier *tier;
	kvt_io *io;
	kvt_io inner;
	struct passed_io *next_free;
} passed_io;

/* --- I/Os that the GPU brings --- */

static upload_io *take_io(upload_tier *tier, kvt_io *io, uint64_t bytes)
{
	upload_io *state = tier->free_ios;
	if (state) {
		tier->free_ios = state->next;
	} else {
		state = g_new0(upload_io, 1);
		state->tier = tier;
		state->runs = g_array_new(FALSE, FALSE, sizeof(kvt_pinned_run));
		state->checks = g_array_new(FALSE, FALSE, sizeof(kvt_pinned_check));
		g_ptr_array_add(tier->ios, state);
	}
	state->io = io;
	state->bytes = bytes;
	state->pending = 0;
	state->queued = state->stale = false;
	state->status = 0;
	return state;
}

void kvt_upload_give_io(upload_io *io)
{
	io->next = io->tier->free_ios;
	io->tier->free_ios = io;
}

static void free_io(gpointer pointer)
{
	upload_io *io = pointer;
	g_array_unref(io->runs);
	g_array_unref(io->checks);
	g_free(io);
}

void kvt_upload_enqueue(upload_io *io)
{
	upload_queue *queue = &io->tier->classes[io->io->priority];
	io->next = NULL;
	io->queued = true;
	if (queue->first)
		queue->last->next = io;
	else
		queue->first = io;
	queue->last = io;
}

void kvt_upload_dequeue(upload_tier *tier, unsigned class)
{
	upload_queue *queue = &tier->classes[class];
	queue->first->queued = false;
	queue->first = queue->first->next;
}

/* The rest of an I/O that has failed need not begin. */
static void leave_queue(upload_io *io)
{
	upload_queue *queue = &io->tier->classes[io->io->priority];
	upload_io *before = NULL;
	for (upload_io *other = queue->first; other != io; other = other->next)
		before = other;
	if (before)
		before->next = io->next;
	else
		queue->first = io->next;
	if (!io->next)
		queue->last = before;
	io->queued = false;
}

void kvt_upload_end_part(upload_io *io, int status)
{
	io->pending--;
	if (status != 0 && io->status == 0) {
		io->status = status;
		if (io->queued)
			leave_queue(io);
	}
	if (io->pending > 0 || io->queued)
		return;
	if (io->tier->direct)
		kvt_upload_direct_end(io);
	else
		kvt_upload_staged_end(io);
}

unsigned kvt_upload_next_class(upload_tier *tier, unsigned may_go)
{
	unsigned waiting = 0;
	for (unsigned i = 0; i < KVT_PRIORITY_CLASSES; i++)
		waiting |= (unsigned)(tier->classes[i].first != NULL) << i;
	return kvt_class_turns_next(&tier->turns, waiting, may_go, PATIENCE);
}

static void pump(upload_tier *tier)
{
	if (tier->direct)
		kvt_upload_direct_pump(tier);
	else
		kvt_upload_staged_pump(tier);
}

static void pump_now(void *arg)
{
	upload_tier *tier = arg;
	tier->pump = 0;
	pump(tier);
}

void kvt_upload_pump_soon(upload_tier *tier)
{
	if (tier->pump == 0)
		tier->pump = kvt_loop_at(tier->loop, 0, pump_now, tier);
}

/* --- I/Os that are the inner tier's alone --- */

static void passed_done(kvt_io *inner)
{
	passed_io *passed = inner->arg;
	upload_tier *tier = passed->tier;
	kvt_io *io = passed->io;
	io->status = inner->status;
	io->bytes = inner->bytes;
	io->completed = kvt_loop_now(tier->loop);
	passed->next_free = tier->free_passed;
	tier->free_passed = passed;
	kvt_tier_stats_count(&tier->stats, io);
	kvt_upload_pump_soon(tier);
	io->done(io);
}

static int pass(upload_tier *tier, kvt_io *io)
{
	if (tier->direct)
		return kvt_tier_submit(tier->inner, io);
	passed_io *passed = tier->free_passed;
	if (passed) {
		tier->free_passed = passed->next_free;
	} else {
		passed = g_new0(passed_io, 1);
		passed->tier = tier;
		g_ptr_array_add(tier->all_passed, passed);
	}
	passed->io = io;
	passed->inner = *io;
	passed->inner.done = passed_done;
	passed->inner.arg = passed;
	int error = kvt_tier_submit(tier->inner, &passed->inner);
	if (error != 0) {
		passed->next_free = tier->free_passed;
		tier->free_passed = passed;
		return error;
	}
	io->submitted = kvt_loop_now(tier->loop);
	return 0;
}

/* --- Operations --- */

bool kvt_upload_is_device(const upload_tier *tier, const void *memory)
{
	const uint8_t *at = memory;
	for (guint k = 0; k < tier->regions->len; k++) {
		const device_region *region = &g_array_index(tier->regions, device_region, k);
		if (at >= region->first && at < region->end)
			return true;
	}
	return false;
}

static bool names_device(const upload_tier *tier, const kvt_io *io)
{
	for (unsigned i = 0; io->memory && i < io->n_extents; i++)
		if (kvt_upload_is_device(tier, io->memory[i]))
			return true;
	return false;
}

static int upload_submit(kvt_tier *base, kvt_io *io)
{
	upload_tier *tier = (upload_tier *)base;
	uint64_t bytes;
	int error = kvt_io_check(io, &bytes);
	if (error != 0)
		return error;
	if (!names_device(tier, io))
		return pass(tier, io);
	if (io->op == KVT_IO_WRITE)
		return kvt_upload_write(tier, io, bytes);
	upload_io *state = take_io(tier, io, bytes);
	error = tier->direct ? kvt_upload_direct_begin(state) : kvt_upload_staged_begin(state);
	if (error != 0)
		kvt_upload_give_io(state);
	return error;
}

static void upload_commit(kvt_tier *base)
{
	upload_tier *tier = (upload_tier *)base;
	pump(tier);
	kvt_tier_commit(tier->inner);
}

static uint64_t upload_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	upload_tier *tier = (upload_tier *)base;
	uint64_t bytes = tier->inner->ops->discard(tier->inner, tenant, extent);
	/* pieces of an I/O that have been read already know nothing of it */
	for (upload_io *io = bytes > 0 ? tier->newest : NULL; io; io = io->older)
		for (unsigned i = 0; io->io->tenant == tenant && i < io->io->n_extents; i++)
			io->stale |= kvt_extent_overlaps(&io->io->extents[i], extent);
	return bytes;
}

static bool upload_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	upload_tier *tier = (upload_tier *)base;
	return tier->inner->ops->holds(tier->inner, tenant, extent);
}

static bool upload_preload(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	upload_tier *tier = (upload_tier *)base;
	return tier->inner->ops->preload(tier->inner, tenant, extent);
}

static int upload_register_memory(kvt_tier *base, void *memory, uint64_t bytes)
{
	upload_tier *tier = (upload_tier *)base;
	return tier->inner->ops->register_memory(tier->inner, memory, bytes);
}

static const char *upload_notice(kvt_tier *base)
{
	upload_tier *tier = (upload_tier *)base;
	const kvt_tier_ops *ops = tier->inner->ops;
	const char *inner = ops->notice ? ops->notice(tier->inner) : NULL;
	if (tier->own_notice->len == 0)
		return inner;
	g_string_assign(tier->notice, tier->own_notice->str);
	if (inner)
		g_string_append_printf(tier->notice, "\n%s", inner);
	return tier->notice->str;
}

static void upload_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	upload_tier *tier = (upload_tier *)base;
	kvt_tier_stats inner;
	tier->inner->ops->stats(tier->inner, &inner);
	*stats = tier->direct ? inner : tier->stats;
	stats->capacity = inner.capacity;
	stats->used = inner.used;
	stats->peak_used = inner.peak_used;
	stats->device_ios = inner.device_ios;
}

/* Nothing may move any more when memory goes. */
static void stop_moving(upload_tier *tier)
{
	if (tier->pump != 0)
		kvt_loop_cancel(tier->loop, tier->pump);
	if (tier->flush != 0)
		kvt_loop_cancel(tier->loop, tier->flush);
	kvt_gpu_watch_free(tier->watch);
	for (unsigned i = 0; i < UPLOAD_STREAMS; i++) {
		for (unsigned k = 0; k < UPLOAD_LANES; k++)
			tier->gpu->ops->stream_free(tier->streams[i].lanes[k]);
		tier->gpu->ops->stream_free(tier->streams[i].checks);
	}
	g_ptr_array_unref(tier->all_batches);
	if (tier->sums)
		tier->gpu->ops->unpin(tier->gpu, tier->sums);
	if (tier->direct)
		tier->gpu->ops->unpin(tier->gpu, tier->pinned);
}

/* After the inner tier was closed, or before it was made this one's. */
static void free_tier(upload_tier *tier)
{
	if (!tier->direct && tier->pinned)
		tier->gpu->ops->unpin(tier->gpu, tier->pinned);
	g_ptr_array_unref(tier->writes);
	free(tier->sums);
	kvt_arena_free(tier->staging);
	g_array_unref(tier->regions);
	g_ptr_array_unref(tier->ios);
	g_ptr_array_unref(tier->pieces);
	g_ptr_array_unref(tier->all_passed);
	g_string_free(tier->notice, TRUE);
	g_string_free(tier->own_notice, TRUE);
	g_free(tier);
}

static void upload_close(kvt_tier *base)
{
	upload_tier *tier = (upload_tier *)base;
	stop_moving(tier);
	kvt_tier_close(tier->inner);
	free_tier(tier);
}

/* --- Opening --- */

static const kvt_tier_ops upload_ops = {
	.summary = "another tier, read into a GPU's memory",
	.options = kvt_upload_options,
	.settings_size = sizeof(kvt_upload_settings),
	.submit = upload_submit,
	.commit = upload_commit,
	.discard = upload_discard,
	.holds = upload_holds,
	.preload = upload_preload,
	.register_memory = upload_register_memory,
	.notice = upload_notice,
	.stats = upload_stats,
	.close = upload_close,
};

/* Pages of this machine's memory need no staging where all of it can be pinned. */
static void try_direct(upload_tier *tier)
{
	uint64_t bytes;
	if (tier->inner->ops != &kvt_tier_memory)
		return;
	void *region = kvt_pinned_tier_region(tier->inner, &bytes);
	int error = tier->gpu->ops->pin(tier->gpu, region, bytes);
	tier->direct = error == 0;
	tier->pinned = tier->direct ? region : NULL;
	if (error != 0)
		g_string_append_printf(tier->own_notice,
			"%" G_GUINT64_FORMAT " bytes of memory cannot be pinned for the GPU (%s): "
			"pages are copied twice, by way of staging",
			bytes, g_strerror(-error));
}

static bool make_staging(upload_tier *tier, GError **error)
{
	const kvt_upload_settings *s = &tier->settings;
	const kvt_tier_ops *inner = tier->inner->ops;
	tier->staging = kvt_arena_new(s->staging, KVT_HUGE_NO, false, -1, error);
	if (!tier->staging)
		return false;
	void *memory = kvt_arena_base(tier->staging);
	uint64_t bytes = kvt_arena_bytes(tier->staging);
	tier->piece_bytes = s->staging / (uint64_t)s->buffers;
	int refused = tier->gpu->ops->pin(tier->gpu, memory, bytes);
	if (refused != 0)
		return kvt_error_failed(error,
			"staging: %" G_GUINT64_FORMAT " bytes cannot be pinned for the GPU: %s",
			bytes, g_strerror(-refused));
	tier->pinned = memory;
	if (inner->register_memory && inner->register_memory(tier->inner, memory, bytes) != 0)
		g_string_append_printf(tier->own_notice,
			"%sstaging is not registered with tier %s: its I/Os prepare memory each "
			"time",
			tier->own_notice->len > 0 ? "\n" : "", inner->name);
	return true;
}

static bool make_streams(upload_tier *tier, GError **error)
{
	bool made = true;
	for (unsigned i = 0; i < UPLOAD_STREAMS; i++) {
		upload_stream *stream = &tier->streams[i];
		for (unsigned k = 0; k < UPLOAD_LANES; k++) {
			stream->lanes[k] =
				tier->gpu->ops->stream_new(tier->gpu, i == UPLOAD_URGENT);
			made &= stream->lanes[k] != NULL;
		}
		/* a moment's work that pages wait for: before attention, whoever they are for */
		stream->checks = tier->gpu->ops->stream_new(tier->gpu, true);
		made &= stream->checks != NULL;
	}
	return made || kvt_error_failed(error, "the GPU has no stream left for copies");
}

/* Memory that sums come back to; without it, or on a GPU that makes none, the host verifies. */
static void make_sums(upload_tier *tier)
{
	const kvt_gpu_ops *ops = tier->gpu->ops;
	if (!tier->direct || tier->settings.verify != KVT_UPLOAD_VERIFY_DEVICE)
		return;
	uint64_t bytes = kvt_upload_sums_bytes();
	void *sums = ops->checksum ? aligned_alloc(4096, bytes) : NULL;
	if (sums && ops->pin(tier->gpu, sums, bytes) == 0) {
		tier->sums = sums;
		return;
	}
	free(sums);
	tier->settings.verify = KVT_UPLOAD_VERIFY_HOST;
}

/* What streams do for the first time takes milliseconds: kernels are loaded, lists made. They do it
 * before anybody waits, and with what a GPU has no kernel for it is not asked for again. */
static void warm_up(upload_tier *tier)
{
	enum { BYTES = 4096 };
	const kvt_gpu_ops *ops = tier->gpu->ops;
	const uint8_t *from = tier->pinned;
	/* lanes run beside each other: each has its own */
	uint8_t *to = ops->alloc(tier->gpu, UPLOAD_STREAMS * UPLOAD_LANES * 4 * BYTES), *next = to;
	const kvt_cuda_page page = { from, BYTES };
	for (unsigned i = 0; i < UPLOAD_STREAMS && to; i++) {
		for (unsigned k = 0; k < UPLOAD_LANES; k++) {
			kvt_gpu_stream *lane = tier->streams[i].lanes[k];
			const kvt_gpu_copy copies[] = { { next, from, BYTES },
				{ next + 2 * BYTES, from + 2 * BYTES, BYTES } };
			next += 4 * BYTES;
			ops->copy(lane, copies, G_N_ELEMENTS(copies), KVT_GPU_COPY_AUTOMATIC);
			ops->copy(lane, copies, G_N_ELEMENTS(copies), KVT_GPU_COPY_ENGINE);
		}
		if (tier->sums &&
			ops->checksum(tier->streams[i].checks, &page, 1, tier->sums) == -ENOTSUP)
			tier->settings.verify = KVT_UPLOAD_VERIFY_HOST;
	}
	ops->release(tier->gpu, to);
}

kvt_tier *kvt_upload_tier_new(const kvt_tier_env *env, kvt_real_gpu *gpu, kvt_tier *inner,
	const kvt_upload_settings *settings, GError **error)
{
	upload_tier *tier = g_new0(upload_tier, 1);
	tier->ops = upload_ops;
	tier->ops.name = inner->ops->name;
	tier->ops.flags = inner->ops->flags;
	if (!inner->ops->preload)
		tier->ops.preload = NULL;
	if (!inner->ops->register_memory)
		tier->ops.register_memory = NULL;
	tier->base.ops = &tier->ops;
	tier->loop = env->loop;
	tier->gpu = gpu;
	tier->inner = inner;
	tier->settings = *settings;
	tier->turn = KVT_PRIORITY_CLASSES;
	tier->writes = g_ptr_array_new_with_free_func(kvt_upload_write_free);
	tier->watch = kvt_gpu_watch_new(env->loop, gpu);
	tier->regions = g_array_new(FALSE, FALSE, sizeof(device_region));
	tier->ios = g_ptr_array_new_with_free_func(free_io);
	tier->pieces = g_ptr_array_new_with_free_func(kvt_upload_piece_free);
	tier->all_batches = g_ptr_array_new_with_free_func(kvt_upload_batch_free);
	tier->all_passed = g_ptr_array_new_with_free_func(g_free);
	tier->notice = g_string_new(NULL);
	tier->own_notice = g_string_new(NULL);
	kvt_tier_stats_init(&tier->stats, 0);
	if (make_streams(tier, error)) {
		try_direct(tier);
		make_sums(tier);
		if (tier->direct || make_staging(tier, error)) {
			warm_up(tier);
			return &tier->base;
		}
	}
	stop_moving(tier);
	free_tier(tier);
	return NULL;
}

void kvt_upload_tier_add_device_memory(kvt_tier *base, void *memory, uint64_t bytes)
{
	const device_region region = { memory, (const uint8_t *)memory + bytes };
	g_array_append_val(((upload_tier *)base)->regions, region);
}

kvt_upload_counts kvt_upload_tier_counts(const kvt_tier *base)
{
	const upload_tier *tier = (const upload_tier *)base;
	kvt_upload_counts counts = tier->counts;
	counts.direct = tier->direct;
	return counts;
}
