/* hosted_device.c: calls one after the other in each stream, those of threads as flows over the
 * link of processors. A token is a call's number in its stream, times streams, plus the stream. */
#include "sim/engine/hosted_device.h"

#include <glib.h>

enum { AFTER_MAX = 8 };

typedef struct hosted_device hosted_device;

typedef struct call {
	kvt_work_kind kind;
	kvt_time duration; /* alone */
	kvt_token after[AFTER_MAX];
	unsigned n_after;
} call;

typedef struct stream {
	hosted_device *device;
	GQueue calls;              /* call; the first one may run */
	uint64_t submitted, ended; /* numbers of calls */
	bool running;
	kvt_time begun;
	unsigned track;
} stream;

/* Somebody who waits for a token. */
typedef struct waiter {
	kvt_token token;
	kvt_callback callback;
	void *arg;
} waiter;

struct hosted_device {
	kvt_device base;
	const kvt_topology *topology;
	kvt_loop *loop;
	kvt_work_cost *cost;
	unsigned threads;
	kvt_timeline *timeline;
	stream streams[KVT_STREAMS];
	GArray *waiters;
	kvt_time busy[KVT_WORK_KINDS];
};

static bool is_over(const hosted_device *device, kvt_token token)
{
	uint64_t number = (uint64_t)token / KVT_STREAMS;
	return device->streams[(uint64_t)token % KVT_STREAMS].ended >= number;
}

static bool by_threads(const call *c)
{
	return c->kind == KVT_WORK_ATTENTION || c->kind == KVT_WORK_MERGE;
}

static void advance(hosted_device *device);

static void tell(hosted_device *device)
{
	GArray *waiters = device->waiters;
	for (guint i = 0; i < waiters->len;) {
		waiter w = g_array_index(waiters, waiter, i);
		if (!is_over(device, w.token)) {
			i++;
			continue;
		}
		g_array_remove_index(waiters, i);
		kvt_loop_after(device->loop, 0, w.callback, w.arg);
	}
}

static void end(void *arg)
{
	stream *s = arg;
	s->running = false;
	s->ended++;
	tell(s->device);
	advance(s->device);
}

/* The work is done; the loop learns of what threads did a little later. */
static void worked(void *arg)
{
	stream *s = arg;
	hosted_device *device = s->device;
	g_autofree call *c = g_queue_pop_head(&s->calls);
	kvt_time now = kvt_loop_now(device->loop);
	device->busy[c->kind] += now - s->begun;
	if (device->timeline && now > s->begun)
		kvt_timeline_span(
			device->timeline, s->track, kvt_work_names[c->kind], s->begun, now);
	bool called = c->duration > 0 && by_threads(c);
	kvt_loop_after(
		device->loop, called ? kvt_work_cost_call_overhead(device->cost) : 0, end, s);
}

static void start(stream *s, const call *c)
{
	hosted_device *device = s->device;
	s->running = true;
	s->begun = kvt_loop_now(device->loop);
	if (c->duration == 0 || !by_threads(c)) {
		kvt_loop_after(device->loop, c->duration, worked, s);
		return;
	}
	double units = kvt_time_to_seconds(c->duration) * device->threads * KVT_PROCESSOR_UNITS;
	const kvt_flow_spec flow = { .path = { device->topology->processors },
		.path_length = 1,
		.cost = { 1 },
		.bytes = (uint64_t)MAX(units, 1),
		/* network software runs in interrupts, and what waits for it sleeps: threads that
		 * compute come after them */
		.priority = KVT_PRIORITY_CLASSES - 1,
		.max_rate = device->threads * KVT_PROCESSOR_UNITS,
		.done = worked,
		.arg = s };
	kvt_network_start(device->topology->network, &flow);
}

static void advance(hosted_device *device)
{
	for (unsigned i = 0; i < KVT_STREAMS; i++) {
		stream *s = &device->streams[i];
		const call *c = s->running ? NULL : g_queue_peek_head(&s->calls);
		bool ready = c != NULL;
		for (unsigned a = 0; ready && a < c->n_after; a++)
			ready = is_over(device, c->after[a]);
		if (ready)
			start(s, c);
	}
}

static kvt_token hosted_submit(kvt_device *base, kvt_stream to, const kvt_work *work,
	const kvt_token *after, unsigned n_after)
{
	hosted_device *device = (hosted_device *)base;
	stream *s = &device->streams[to];
	call *c = g_new(call, 1);
	*c = (call){ .kind = work->kind, .duration = kvt_work_cost_time(device->cost, work) };
	for (unsigned i = 0; i < n_after; i++) {
		if (is_over(device, after[i]))
			continue;
		g_assert(c->n_after < AFTER_MAX);
		c->after[c->n_after++] = after[i];
	}
	g_queue_push_tail(&s->calls, c);
	kvt_token token = (kvt_token)(++s->submitted * KVT_STREAMS + to);
	advance(device);
	return token;
}

static void hosted_notify(kvt_device *base, kvt_token token, kvt_callback callback, void *arg)
{
	hosted_device *device = (hosted_device *)base;
	const waiter w = { token, callback, arg };
	if (is_over(device, token))
		kvt_loop_after(device->loop, 0, callback, arg);
	else
		g_array_append_val(device->waiters, w);
}

static kvt_time hosted_busy(kvt_device *base, kvt_work_kind kind)
{
	return ((hosted_device *)base)->busy[kind];
}

static void hosted_free(kvt_device *base)
{
	hosted_device *device = (hosted_device *)base;
	for (unsigned i = 0; i < KVT_STREAMS; i++) {
		g_queue_foreach(&device->streams[i].calls, (GFunc)(void (*)(void))g_free, NULL);
		g_queue_clear(&device->streams[i].calls);
	}
	g_array_unref(device->waiters);
	g_free(device);
}

static const kvt_device_ops hosted_ops = {
	.name = "hosted",
	.submit = hosted_submit,
	.notify = hosted_notify,
	.busy = hosted_busy,
	.free = hosted_free,
};

kvt_device *kvt_hosted_device_new(const kvt_topology *topology, kvt_loop *loop, kvt_work_cost *cost,
	unsigned threads, kvt_timeline *timeline)
{
	static const char *const names[KVT_STREAMS] = {
		[KVT_STREAM_COMPUTE] = "compute", [KVT_STREAM_COMMUNICATION] = "all-reduce"
	};
	hosted_device *device = g_new0(hosted_device, 1);
	g_assert(topology->spec.processors > 0 && threads > 0);
	device->base.ops = &hosted_ops;
	device->topology = topology;
	device->loop = loop;
	device->cost = cost;
	device->threads = threads;
	device->timeline = timeline;
	device->waiters = g_array_new(FALSE, FALSE, sizeof(waiter));
	for (unsigned i = 0; i < KVT_STREAMS; i++) {
		stream *s = &device->streams[i];
		s->device = device;
		g_queue_init(&s->calls);
		if (timeline)
			s->track = kvt_timeline_track(timeline, names[i], 0);
	}
	return &device->base;
}
