/*
 * gpu.h: what the emulation asks of a GPU: memory of its own, pinned memory of the host, streams
 * that copy, sum, attend, merge and wait, and events that say how far a stream has come. CUDA's is
 * cuda_gpu.h; one in this machine's memory, for tests, is tests/unit/memory_gpu.h. Both obey this
 * contract. It knows no engine, tier or loop; gpu_watch.h tells the loop of events.
 *
 * - Calls on streams return at once; work runs in the order of calls of one stream, and streams run
 *   beside each other. What a call names (memory, lists in host memory aside) must stay until the
 *   stream has passed it.
 * - An event is where its stream was when it was recorded. It is the recorder's until it is freed.
 * - Errors of work that was queued show up in the query of the next event behind it, as -EIO, and
 * in every one after: a GPU that failed stays so.
 * - Calls return 0 or a negative errno: -EINVAL, -ENOMEM (the cap, too), -ENOTSUP, -EIO.
 * - One thread calls everything here.
 */
#ifndef KVT_GPU_H
#define KVT_GPU_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/cuda_kernels.h"
#include "sim/base/sim_time.h"

typedef struct kvt_real_gpu kvt_real_gpu;
typedef struct kvt_gpu_stream kvt_gpu_stream;
typedef struct kvt_gpu_event kvt_gpu_event;

/* What reports say of it. */
typedef struct kvt_gpu_description {
	char name[128];      /* "NVIDIA H200" */
	char bus[32];        /* where on PCIe, "0000:3b:00.0"; "": nowhere */
	char versions[96];   /* of its driver, and of what the kernels were built with */
	uint64_t memory;     /* bytes that the card has, whatever the cap */
	unsigned processors; /* streaming multiprocessors */
} kvt_gpu_description;

/* Bytes from one place to another: either may be the device's memory, pinned memory, or, slowly,
 * other memory of the host: a call waits for copies into that, and what is copied from it may
 * change after the call. */
typedef struct kvt_gpu_copy {
	void *to;
	const void *from;
	uint64_t bytes;
} kvt_gpu_copy;

/* How copies are made: by the copy engines, one descriptor a run, or by a kernel that reads pinned
 * memory itself. Automatic: by the mean size of the runs, small ones by the kernel where it can. */
typedef enum kvt_gpu_copy_way {
	KVT_GPU_COPY_AUTOMATIC,
	KVT_GPU_COPY_ENGINE,
	KVT_GPU_COPY_KERNEL, /* addresses and bytes are multiples of 16 */
} kvt_gpu_copy_way;

typedef struct kvt_gpu_ops {
	const char *name; /* "cuda" */
	void (*describe)(const kvt_real_gpu *gpu, kvt_gpu_description *description);
	/* What failed first, in a few words; NULL: nothing has. */
	const char *(*failure)(const kvt_real_gpu *gpu);
	/* Device memory, at a multiple of 4096 (the system's, so that it may be registered), its
	 * content undefined. NULL when the cap or the card does not allow it. */
	void *(*alloc)(kvt_real_gpu *gpu, uint64_t bytes);
	void (*release)(
		kvt_real_gpu *gpu, void *memory); /* waits for the device; NULL is allowed */
	/* Pins memory of the host that is there, so that copies run at full speed and kernels may
	 * read it; until unpin. */
	int (*pin)(kvt_real_gpu *gpu, void *memory, uint64_t bytes);
	void (*unpin)(kvt_real_gpu *gpu, void *memory);
	/* Bytes of device memory taken now and at most. */
	void (*memory_used)(const kvt_real_gpu *gpu, uint64_t *now, uint64_t *peak);

	/* `urgent`: goes before streams that are not. NULL without memory. */
	kvt_gpu_stream *(*stream_new)(kvt_real_gpu *gpu, bool urgent);
	void (*stream_free)(kvt_gpu_stream *stream); /* waits for it; NULL is allowed */

	kvt_gpu_event *(*event_new)(kvt_real_gpu *gpu);
	void (*event_free)(kvt_gpu_event *event);
	int (*record)(kvt_gpu_stream *stream, kvt_gpu_event *event);
	/* The stream goes on when the event, recorded before, is over. */
	int (*wait_event)(kvt_gpu_stream *stream, kvt_gpu_event *event);
	/* 0: over; -EBUSY: not yet; -EIO: something failed. */
	int (*query)(kvt_gpu_event *event);
	/* From one event that is over to another, as the device saw it. */
	kvt_time (*elapsed)(kvt_gpu_event *from, kvt_gpu_event *to);

	/* The stream does nothing for so long, exactly to about a microsecond: work that is timed
	 * and not done. */
	int (*wait_time)(kvt_gpu_stream *stream, kvt_time duration);
	/* `copies` is read before the call returns. */
	int (*copy)(kvt_gpu_stream *stream, const kvt_gpu_copy *copies, unsigned n,
		kvt_gpu_copy_way way);
	/* kvt_cuda_page_checksums on a stream; `pages` is read before the call returns, and what
	 * they and `sums` name is device or pinned memory. -EINVAL: of a page that has none. NULL:
	 * the GPU does not do it. */
	int (*checksum)(
		kvt_gpu_stream *stream, const kvt_cuda_page *pages, unsigned n, uint64_t *sums);
	/* cuda_kernels.h, on a stream; windows' lists of pages lie in device or pinned memory. */
	int (*attend)(kvt_gpu_stream *stream, const kvt_cuda_shape *shape,
		const kvt_cuda_queries *queries, const kvt_cuda_window *window,
		const kvt_cuda_partial *partial, void *scratch);
	int (*merge)(kvt_gpu_stream *stream, const kvt_cuda_partial *into,
		const kvt_cuda_partial *from, uint64_t n_rows, uint32_t head_dim);
	/* Bytes of scratch that attend takes. */
	uint64_t (*scratch_bytes)(
		kvt_real_gpu *gpu, const kvt_cuda_shape *shape, uint32_t n_queries);
	void (*free)(kvt_real_gpu *gpu); /* after everything that was made of it */
} kvt_gpu_ops;

/* A GPU, a stream and an event begin with their operations or their GPU; implementations embed
 * these first. */
struct kvt_real_gpu {
	const kvt_gpu_ops *ops;
};
struct kvt_gpu_stream {
	kvt_real_gpu *gpu;
};
struct kvt_gpu_event {
	kvt_real_gpu *gpu;
};

#endif
