/*
 * gpu_device.h: a device of sim/engine/device.h on a GPU of gpu.h: attention and merges are kernels
 * over pages in its memory, on streams of its own; what else a model computes takes the time that a
 * cost model says, in waits of the stream. Times and spans are the GPU's own clock's.
 */
#ifndef KVT_GPU_DEVICE_H
#define KVT_GPU_DEVICE_H

#include "emu/gpu/gpu_attention.h"
#include "sim/core/timeline.h"
#include "sim/engine/work_cost.h"

/* All pointers must outlive the device; the loop is a real one (real_loop.h). */
typedef struct kvt_gpu_device_settings {
	kvt_loop *loop;
	kvt_real_gpu *gpu;
	kvt_work_cost *cost;
	kvt_timeline *timeline; /* may be NULL */
	kvt_gpu_attention_settings attention;
	uint64_t window_tokens; /* of a staging buffer */
	unsigned buffers;
	/* set to a negative errno when something fails, which ends all calls at once; results are
	 * worth nothing then */
	int *status;
} kvt_gpu_device_settings;

/* NULL with an error without streams. Nothing may be submitted before kvt_gpu_device_commit. */
kvt_device *kvt_gpu_device_new(const kvt_gpu_device_settings *settings, GError **error);

/* Takes device memory for staging buffers and every layer's tokens [0, resident) and `newest`
 * ones, and calls `each` with every such region; puts queries and new tokens onto the device.
 * False with an error when there is not as much memory. */
bool kvt_gpu_device_commit(kvt_device *device, uint64_t resident, uint64_t newest,
	void (*each)(void *arg, void *memory, uint64_t bytes), void *arg, GError **error);

/* What a status of the device means, in a few words. */
const char *kvt_gpu_device_reason(int status);

#endif
