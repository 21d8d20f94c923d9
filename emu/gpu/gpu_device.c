/*
 * gpu_device.c: calls become work of the GPU's streams as they are submitted; a token is a call's
 * number in its stream, over when the loop has heard of the event behind it.
 */
#include "emu/gpu/gpu_device.h"

#include <errno.h>
#include <stdlib.h>

#include "sim/base/error.h"

typedef struct gpu_device gpu_device;
typedef struct stream stream;

/* Somebody who waits for a call. */
typedef struct waiter {
	struct waiter *next;
	kvt_callback callback;
	void *arg;
} waiter;

/* A call under way, or one that may be used again. */
typedef struct call {
	struct call *next;
	stream *stream;
	kvt_work work;
	uint64_t number;
	kvt_gpu_event *start, *end;
	waiter *waiters, **last_waiter;
} call;

struct stream {
	gpu_device *device;
	kvt_gpu_stream *gpu;
	unsigned track;
	uint64_t submitted, ended; /* numbers of calls */
	call **calls;              /* those under way, by number modulo room, a power of two */
	uint64_t room;
	/* where the stream was when it last had nothing to do, and when that was */
	kvt_gpu_event *anchor;
	kvt_time anchored;
};

struct gpu_device {
	kvt_device base;
	kvt_gpu_device_settings settings;
	stream streams[KVT_STREAMS];
	call *unused;
	kvt_gpu_watch *watch;
	kvt_gpu_pages *pages;
	kvt_gpu_attention *attention;
	kvt_time busy[KVT_WORK_KINDS];
};

/* The first failure counts. */
static void note(gpu_device *device, int status)
{
	if (status != 0 && *device->settings.status == 0)
		*device->settings.status = status;
}

/* What is computed again is no one's to look at: the source has its keys and values. */
static bool is_real(const kvt_work *work)
{
	return kvt_turn_work_is_real(work->kind) && !work->again;
}

/* The call of a token, or NULL when it is over. */
static call *call_of(gpu_device *device, kvt_token token)
{
	if (token <= 0)
		return NULL;
	const stream *s = &device->streams[(uint64_t)token % KVT_STREAMS];
	uint64_t number = (uint64_t)token / KVT_STREAMS;
	g_assert(number <= s->submitted);
	return number <= s->ended ? NULL : s->calls[number & (s->room - 1)];
}

static call *take_call(gpu_device *device)
{
	call *c = device->unused;
	if (c) {
		device->unused = c->next;
		return c;
	}
	c = g_new0(call, 1);
	c->start = device->settings.gpu->ops->event_new(device->settings.gpu);
	c->end = device->settings.gpu->ops->event_new(device->settings.gpu);
	return c;
}

static void free_call(gpu_device *device, call *c)
{
	for (waiter *w = c->waiters, *next; w; w = next) {
		next = w->next;
		g_free(w);
	}
	device->settings.gpu->ops->event_free(c->start);
	device->settings.gpu->ops->event_free(c->end);
	g_free(c);
}

/* Makes room for one call more. */
static void grow(stream *s)
{
	if (s->submitted - s->ended < s->room)
		return;
	uint64_t room = MAX(2 * s->room, 64);
	call **calls = g_new0(call *, room);
	for (uint64_t i = s->ended + 1; i <= s->submitted; i++)
		calls[i & (room - 1)] = s->calls[i & (s->room - 1)];
	g_free(s->calls);
	s->calls = calls;
	s->room = room;
}

static void account(gpu_device *device, const call *c)
{
	const kvt_gpu_ops *ops = device->settings.gpu->ops;
	const stream *s = c->stream;
	kvt_time took = ops->elapsed(c->start, c->end);
	device->busy[c->work.kind] += took;
	if (!device->settings.timeline || took <= 0)
		return;
	kvt_time start = s->anchored + ops->elapsed(s->anchor, c->start);
	kvt_timeline_span(device->settings.timeline, s->track, kvt_work_names[c->work.kind], start,
		start + took);
}

/* The stream has come past a call. */
static void call_over(void *arg, int status)
{
	call *c = arg;
	stream *s = c->stream;
	gpu_device *device = s->device;
	g_assert(c->number == s->ended + 1);
	note(device, status);
	if (status == 0)
		account(device, c);
	s->ended++;
	waiter *w = c->waiters;
	c->next = device->unused;
	device->unused = c;
	for (waiter *next; w; w = next) {
		next = w->next;
		w->callback(w->arg);
		g_free(w);
	}
}

static int queue_work(gpu_device *device, kvt_gpu_stream *stream_, const kvt_work *work)
{
	int status = 0;
	if (is_real(work))
		return work->kind == KVT_WORK_MERGE
			       ? kvt_gpu_attention_merge(device->attention, work)
			       : kvt_gpu_attention_attend(device->attention, work);
	if (work->kind == KVT_WORK_QKV && !work->again)
		status = kvt_gpu_attention_take(device->attention, work);
	if (work->kind == KVT_WORK_OUTPUT && !work->again)
		status = kvt_gpu_attention_show(device->attention, work);
	return status ? status
		      : device->settings.gpu->ops->wait_time(
				stream_, kvt_work_cost_time(device->settings.cost, work));
}

static kvt_token gpu_submit(kvt_device *base, kvt_stream stream_index, const kvt_work *work,
	const kvt_token *after, unsigned n_after)
{
	gpu_device *device = (gpu_device *)base;
	const kvt_gpu_ops *ops = device->settings.gpu->ops;
	stream *s = &device->streams[stream_index];
	g_assert(device->attention);
	g_assert(stream_index == KVT_STREAM_COMPUTE || !kvt_turn_work_is_real(work->kind));
	call *c = take_call(device);
	if (s->submitted == s->ended) {
		note(device, ops->record(s->gpu, s->anchor));
		s->anchored = kvt_loop_now(device->settings.loop);
	}
	for (unsigned i = 0; i < n_after; i++) {
		const call *other = call_of(device, after[i]);
		if (other && other->stream != s)
			note(device, ops->wait_event(s->gpu, other->end));
	}
	grow(s);
	c->stream = s;
	c->work = *work;
	c->number = ++s->submitted;
	c->waiters = NULL;
	c->last_waiter = &c->waiters;
	s->calls[c->number & (s->room - 1)] = c;
	note(device, ops->record(s->gpu, c->start));
	note(device, queue_work(device, s->gpu, work));
	kvt_gpu_watch_record(device->watch, s->gpu, c->end, call_over, c);
	return (kvt_token)(c->number * KVT_STREAMS + stream_index);
}

static void gpu_notify(kvt_device *base, kvt_token token, kvt_callback callback, void *arg)
{
	gpu_device *device = (gpu_device *)base;
	call *c = call_of(device, token);
	if (!c) {
		kvt_loop_at(device->settings.loop, 0, callback, arg);
		return;
	}
	waiter *w = g_new(waiter, 1);
	*w = (waiter){ .callback = callback, .arg = arg };
	*c->last_waiter = w;
	c->last_waiter = &w->next;
}

static void *gpu_memory(kvt_device *base, unsigned place, const kvt_extent *extent)
{
	gpu_device *device = (gpu_device *)base;
	void *memory = kvt_gpu_pages_memory(device->pages, place, extent);
	if (!memory)
		note(device, -ENOMEM);
	return memory;
}

static void gpu_remake(kvt_device *base, const kvt_extent *extent)
{
	gpu_device *device = (gpu_device *)base;
	const kvt_kv_source *source = device->settings.attention.source;
	kvt_gpu_stream *compute = device->streams[KVT_STREAM_COMPUTE].gpu;
	uint64_t bytes = kvt_extent_bytes(extent);
	kvt_gpu_copy copy = { gpu_memory(base, KVT_PLACE_HOME, extent), g_malloc(bytes), bytes };
	kvt_kv_source_fill(source, extent->layer, extent->first_page * source->shape.page_tokens,
		extent->n_pages * source->shape.page_tokens, (void *)(uintptr_t)copy.from);
	if (copy.to)
		note(device, compute->gpu->ops->copy(compute, &copy, 1, KVT_GPU_COPY_AUTOMATIC));
	g_free((void *)(uintptr_t)copy.from);
}

static kvt_time gpu_busy(kvt_device *base, kvt_work_kind kind)
{
	return ((gpu_device *)base)->busy[kind];
}

static void gpu_free(kvt_device *base)
{
	gpu_device *device = (gpu_device *)base;
	const kvt_gpu_ops *ops = device->settings.gpu->ops;
	kvt_gpu_watch_free(device->watch);
	kvt_gpu_attention_free(device->attention);
	kvt_gpu_pages_free(device->pages);
	for (unsigned i = 0; i < KVT_STREAMS; i++) {
		stream *s = &device->streams[i];
		ops->stream_free(s->gpu);
		ops->event_free(s->anchor);
		for (uint64_t n = s->ended + 1; n <= s->submitted; n++)
			free_call(device, s->calls[n & (s->room - 1)]);
		g_free(s->calls);
	}
	for (call *c = device->unused, *next; c; c = next) {
		next = c->next;
		c->waiters = NULL;
		free_call(device, c);
	}
	g_free(device);
}

static const kvt_device_ops gpu_ops = {
	.name = "gpu",
	.submit = gpu_submit,
	.notify = gpu_notify,
	.memory = gpu_memory,
	.remake = gpu_remake,
	.busy = gpu_busy,
	.free = gpu_free,
};

kvt_device *kvt_gpu_device_new(const kvt_gpu_device_settings *settings, GError **error)
{
	static const char *const tracks[KVT_STREAMS] = { "compute", "all-reduce" };
	kvt_real_gpu *gpu = settings->gpu;
	gpu_device *device = g_new0(gpu_device, 1);
	device->base.ops = &gpu_ops;
	device->settings = *settings;
	device->watch = kvt_gpu_watch_new(settings->loop, gpu);
	bool good = true;
	for (unsigned i = 0; i < KVT_STREAMS; i++) {
		stream *s = &device->streams[i];
		*s = (stream){ .device = device,
			.gpu = gpu->ops->stream_new(gpu, true),
			.anchor = gpu->ops->event_new(gpu) };
		good = good && s->gpu && s->anchor;
		if (settings->timeline)
			s->track = kvt_timeline_track(settings->timeline, tracks[i], 0);
	}
	if (good)
		return &device->base;
	kvt_error_failed(error, "the GPU has no streams left");
	gpu_free(&device->base);
	return NULL;
}

bool kvt_gpu_device_commit(kvt_device *base, uint64_t resident, uint64_t newest,
	void (*each)(void *arg, void *memory, uint64_t bytes), void *arg, GError **error)
{
	gpu_device *device = (gpu_device *)base;
	const kvt_gpu_device_settings *settings = &device->settings;
	kvt_gpu_stream *compute = device->streams[KVT_STREAM_COMPUTE].gpu;
	const kvt_gpu_room room = { .tokens = settings->attention.tokens,
		.resident = resident,
		.newest = newest,
		.window_tokens = settings->window_tokens,
		/* what stays passes through none */
		.buffers = resident < settings->attention.tokens ? settings->buffers : 0 };
	g_assert(!device->pages);
	device->pages =
		kvt_gpu_pages_new(compute, &settings->attention.source->shape, &room, error);
	if (!device->pages)
		return false;
	device->attention = kvt_gpu_attention_new(
		compute, device->watch, device->pages, &settings->attention, error);
	if (!device->attention)
		return false;
	kvt_gpu_pages_each(device->pages, each, arg);
	return true;
}

const char *kvt_gpu_device_reason(int status)
{
	return status == -ENOMEM    ? "no device memory was left for pages that were made again"
	       : status == -EFAULT  ? "keys and values that are not in its memory were asked for"
	       : status == -EINVAL  ? "it has no kernel for the model's shape"
	       : status == -ENOTSUP ? "it was asked for what it cannot do"
				    : "its work failed";
}
