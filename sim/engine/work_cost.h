/*
 * work_cost.h: how long the engine's work takes on one rank's GPU: the shapes of the language
 * model, through the GPU's measured kernel tables, roofline where there is none. It remembers what
 * it has computed, because a run asks for few shapes many times.
 */
#ifndef KVT_WORK_COST_H
#define KVT_WORK_COST_H

#include <glib.h>

#include "models/hardware.h"
#include "models/llm.h"
#include "models/model_store.h"
#include "sim/engine/device.h"

/* Which all-reduce serves small messages (decode). Large ones are NCCL's. */
typedef enum kvt_all_reduce {
	KVT_ALL_REDUCE_NCCL,
	KVT_ALL_REDUCE_EAGER, /* vLLM's custom kernel, launched one by one */
	KVT_ALL_REDUCE_GRAPH, /* the same inside a CUDA graph */
} kvt_all_reduce;

extern const char *const kvt_all_reduce_names[];

typedef struct kvt_cost_options {
	unsigned ranks;
	kvt_all_reduce decode_all_reduce;
	/* all-reduce at this algorithm bandwidth, bytes/s, instead of as measured; 0: as measured
	 */
	double all_reduce_rate;
	kvt_time kernel_overhead; /* added to every matrix product and attention call */
	/* after attention and merges: of threads that wake, where the device is a CPU. A modelled
	 * device adds it; a real one takes its time by itself. */
	kvt_time call_overhead;
	/* how many times faster than measured kernels that FLOP/s limit are, and those that memory
	 * does, each by its roofline: what more of either would change; 0: as measured */
	double compute_speed, memory_speed;
	kvt_model_store *models; /* that kernel tables are shared in; NULL: they are its own */
} kvt_cost_options;

typedef struct kvt_work_cost kvt_work_cost;

/* The models must outlive it. NULL with an error when a table the GPU names is missing or bad, or
 * the heads cannot be cut into ranks. */
kvt_work_cost *kvt_work_cost_new(
	const kvt_llm *llm, const kvt_gpu *gpu, const kvt_cost_options *options, GError **error);
void kvt_work_cost_free(kvt_work_cost *cost);

/* Seconds that the work keeps its stream busy. */
kvt_time kvt_work_cost_time(kvt_work_cost *cost, const kvt_work *work);

/* The GPU, whose launch_latency, submit_time, call_gap, append_time and stream_latency are not in
 * kvt_work_cost_time. */
const kvt_gpu *kvt_work_cost_gpu(const kvt_work_cost *cost);

/* What attention and merges take beyond their work; not in kvt_work_cost_time. */
kvt_time kvt_work_cost_call_overhead(const kvt_work_cost *cost);

/* Whether any answer for this kind so far lay outside of what was measured. */
bool kvt_work_cost_extrapolated(const kvt_work_cost *cost, kvt_work_kind kind);

/* What the times of a kind are from, one line. */
const char *kvt_work_cost_source(const kvt_work_cost *cost, kvt_work_kind kind);

#endif
