/*
 * gpu_watch.h: what streams of a GPU have come past, told on the real loop: events that are polled
 * while any is under way, without a sleep of the loop meanwhile. It knows nothing of what the
 * streams do.
 */
#ifndef KVT_GPU_WATCH_H
#define KVT_GPU_WATCH_H

#include "emu/gpu/gpu.h"
#include "sim/core/loop.h"

typedef struct kvt_gpu_watch kvt_gpu_watch;

/* `status`: 0, or -EIO when the GPU failed. */
typedef void (*kvt_gpu_passed)(void *arg, int status);

/* Both must outlive it; the loop is a real one (real_loop.h). */
kvt_gpu_watch *kvt_gpu_watch_new(kvt_loop *loop, kvt_real_gpu *gpu);

/* Nobody is told of what is still under way. NULL is allowed. */
void kvt_gpu_watch_free(kvt_gpu_watch *watch);

/*
 * Records the event where the stream is now; when the stream has come past it, passed(arg, status)
 * is called on the loop, once, never inline, in the order of calls for the same stream. The event
 * must stay until then. The loop runs on meanwhile. A GPU that refuses tells so in the same way.
 */
void kvt_gpu_watch_record(kvt_gpu_watch *watch, kvt_gpu_stream *stream, kvt_gpu_event *event,
	kvt_gpu_passed passed, void *arg);

#endif
