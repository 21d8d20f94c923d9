/*
 * cpu_device.h: a device of sim/engine/device.h whose memory is this machine's and whose attention
 * and merges are real: threads run the kernels over the pages where they lie. What else a model
 * computes takes the time that a cost model says, in timed waits; keys, values and queries are a
 * source's, asked for before anything is timed.
 */
#ifndef KVT_CPU_DEVICE_H
#define KVT_CPU_DEVICE_H

#include "emu/loop/cores.h"
#include "emu/device/turn_tokens.h"
#include "sim/core/timeline.h"
#include "sim/engine/device.h"
#include "sim/engine/work_cost.h"

/* All pointers must outlive the device; the loop is a real one (real_loop.h). */
typedef struct kvt_cpu_device_settings {
	kvt_loop *loop;
	kvt_work_cost *cost;
	kvt_timeline *timeline; /* may be NULL */
	const kvt_kv_source *source;
	kvt_isa isa;
	unsigned threads; /* at least 1 */
	uint64_t tokens;  /* of a sequence, at most: what KVT_PLACE_HOME has room for */
	/* tokens [first_new, tokens) are made before anything is timed; passes may be of earlier
	 * ones, too, which take the time of making them */
	uint64_t first_new;
	uint64_t window_tokens; /* of a staging buffer */
	unsigned buffers;
	kvt_attended attended; /* on the loop, when a layer's attention is over; may be NULL */
	void *attended_arg;
} kvt_cpu_device_settings;

/* NULL with an error without memory or threads. Memory is taken as it is used, or by
 * kvt_cpu_device_commit(). */
kvt_device *kvt_cpu_device_new(const kvt_cpu_device_settings *settings, GError **error);

/* Puts the threads where kvt_cores_place_compute() does. */
void kvt_cpu_device_place(kvt_device *device, const kvt_cores *cores);

/*
 * Takes memory, of huge pages where the system has them, for staging buffers and every layer's
 * tokens [0, resident) and `newest` ones, so that nothing waits for it later. Calls `each` with
 * every such region. False with an error when there is not as much.
 */
bool kvt_cpu_device_commit(kvt_device *device, uint64_t resident, uint64_t newest,
	void (*each)(void *arg, void *memory, uint64_t bytes), void *arg, GError **error);

#endif
