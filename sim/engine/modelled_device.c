/* modelled_device.c: streams in virtual time. A call's end is known when it is submitted, so a
 * token is that time (times streams, plus the stream), and work costs an event only when somebody
 * waits for it. */
#include "sim/engine/modelled_device.h"

#include <glib.h>

const char *const kvt_work_names[KVT_WORK_KINDS] = {
	[KVT_WORK_QKV] = "qkv",
	[KVT_WORK_ATTENTION] = "attention",
	[KVT_WORK_MERGE] = "merge",
	[KVT_WORK_OUTPUT] = "output",
	[KVT_WORK_MLP] = "mlp",
	[KVT_WORK_ALL_REDUCE] = "all_reduce",
	[KVT_WORK_HEAD] = "head",
};

typedef struct modelled_device {
	kvt_device base;
	kvt_loop *loop;
	kvt_work_cost *cost;
	kvt_timeline *timeline;
	unsigned tracks[KVT_STREAMS];
	kvt_time free_at[KVT_STREAMS];
	kvt_time submitting; /* until when the host's thread submits what it was told to */
	kvt_time busy[KVT_WORK_KINDS];
} modelled_device;

static bool is_attention(kvt_work_kind kind)
{
	return kind == KVT_WORK_ATTENTION || kind == KVT_WORK_MERGE;
}

static kvt_time end_of(kvt_token token)
{
	return (kvt_time)(token / KVT_STREAMS);
}

/* When a call of the stream can begin that is submitted now. */
static kvt_time start_of(
	modelled_device *device, kvt_stream stream, const kvt_token *after, unsigned n_after)
{
	const kvt_gpu *gpu = kvt_work_cost_gpu(device->cost);
	device->submitting = MAX(kvt_loop_now(device->loop), device->submitting) + gpu->submit_time;
	kvt_time start = MAX(device->submitting + gpu->launch_latency, device->free_at[stream]);
	for (unsigned i = 0; i < n_after; i++) {
		bool other = after[i] > 0 && after[i] % KVT_STREAMS != (kvt_token)stream;
		start = MAX(start, end_of(after[i]) + (other ? gpu->stream_latency : 0));
	}
	return start;
}

static kvt_token modelled_submit(kvt_device *base, kvt_stream stream, const kvt_work *work,
	const kvt_token *after, unsigned n_after)
{
	modelled_device *device = (modelled_device *)base;
	kvt_time start = start_of(device, stream, after, n_after);
	kvt_time duration = kvt_work_cost_time(device->cost, work);
	kvt_time end = start + duration;
	const kvt_gpu *gpu = kvt_work_cost_gpu(device->cost);
	if (duration > 0)
		end += is_attention(work->kind) ? kvt_work_cost_call_overhead(device->cost)
						: gpu->call_gap;
	if (work->kind == KVT_WORK_QKV)
		end += gpu->append_time;
	device->free_at[stream] = end;
	device->busy[work->kind] += duration;
	if (device->timeline && duration > 0)
		kvt_timeline_span(device->timeline, device->tracks[stream],
			kvt_work_names[work->kind], start, start + duration);
	return (kvt_token)end * KVT_STREAMS + stream;
}

static void modelled_notify(kvt_device *base, kvt_token token, kvt_callback callback, void *arg)
{
	modelled_device *device = (modelled_device *)base;
	/* a thread that submits hears of nothing */
	kvt_time now = MAX(kvt_loop_now(device->loop), device->submitting);
	kvt_loop_at(device->loop, MAX(end_of(token), now), callback, arg);
}

static kvt_time modelled_busy(kvt_device *base, kvt_work_kind kind)
{
	return ((modelled_device *)base)->busy[kind];
}

static void modelled_free(kvt_device *base)
{
	g_free(base);
}

static const kvt_device_ops modelled_ops = {
	.name = "modelled",
	.submit = modelled_submit,
	.notify = modelled_notify,
	.busy = modelled_busy,
	.free = modelled_free,
};

kvt_device *kvt_modelled_device_new(kvt_loop *loop, kvt_work_cost *cost, kvt_timeline *timeline)
{
	modelled_device *device = g_new0(modelled_device, 1);
	device->base.ops = &modelled_ops;
	device->loop = loop;
	device->cost = cost;
	device->timeline = timeline;
	if (timeline) {
		device->tracks[KVT_STREAM_COMPUTE] = kvt_timeline_track(timeline, "compute", 0);
		device->tracks[KVT_STREAM_COMMUNICATION] =
			kvt_timeline_track(timeline, "all-reduce", 0);
	}
	return &device->base;
}
