/* replay_modelled_device.c: a replay's attention, as a time. */
#include "sim/engine/replay.h"

typedef struct modelled_device {
	kvt_replay_device base;
	kvt_loop *loop;
	const kvt_replay_settings *settings;
	uint32_t n_heads;
	kvt_time began, takes;
} modelled_device;

static kvt_time scan_time(kvt_replay_device *base, uint64_t bytes)
{
	return kvt_time_for_bytes(bytes, ((modelled_device *)base)->settings->hbm_rate);
}

static void begin(kvt_replay_device *base, const kvt_replay_call *call)
{
	modelled_device *device = (modelled_device *)base;
	const kvt_replay_settings *settings = device->settings;
	device->began = kvt_loop_now(device->loop);
	if (settings->attention_time)
		device->takes = settings->attention_time(settings->attention_arg,
			call->pages / device->n_heads * settings->block_tokens);
	else
		device->takes =
			kvt_time_for_bytes(call->pages * settings->page_bytes, settings->hbm_rate);
}

static void finish(kvt_replay_device *base, uint64_t last, kvt_callback done, void *arg)
{
	modelled_device *device = (modelled_device *)base;
	kvt_time attended =
		kvt_loop_now(device->loop) + kvt_time_for_bytes(last, device->settings->hbm_rate);
	kvt_loop_at(device->loop, MAX(device->began + device->takes, attended), done, arg);
}

static kvt_time computed(const kvt_replay_device *base)
{
	return ((const modelled_device *)base)->takes;
}

static void free_device(kvt_replay_device *base)
{
	g_free(base);
}

static const kvt_replay_device_ops ops = {
	.scan_time = scan_time,
	.begin = begin,
	.finish = finish,
	.computed = computed,
	.free = free_device,
};

kvt_replay_device *kvt_replay_modelled_device_new(
	kvt_loop *loop, const kvt_replay_settings *settings, uint32_t n_heads)
{
	modelled_device *device = g_new0(modelled_device, 1);
	*device = (modelled_device){
		.base.ops = &ops, .loop = loop, .settings = settings, .n_heads = n_heads
	};
	return &device->base;
}
