/*
 * cuda_gpu_internal.h: what cuda_gpu.c (memory, streams, events, kernels) and cuda_copies.c (copies
 * and checksums, which take lists) share. For these alone, and where there is CUDA.
 */
#ifndef KVT_CUDA_GPU_INTERNAL_H
#define KVT_CUDA_GPU_INTERNAL_H

#include <cuda_runtime_api.h>
#include <glib.h>

#include "emu/gpu/gpu.h"

enum { KVT_CUDA_LISTS = 4 }; /* blocks a stream */

typedef struct cuda_gpu {
	kvt_real_gpu base;
	kvt_gpu_description description;
	uint64_t cap, used, peak;
	GArray *reaches;  /* memory that the device reaches: its own, or pinned */
	guint last_reach; /* that something was found in */
	kvt_time wait_cost;
	int least, greatest; /* priorities of streams */
	bool failed;
	char failure[160];
} cuda_gpu;

/* Lists for kernels, in pinned memory until the stream has passed the event, and where the device
 * reads them fastest; NULL: there is no room. */
typedef struct cuda_lists {
	uint8_t *host, *device;
	cudaEvent_t passed;
	bool recorded;
} cuda_lists;

typedef struct cuda_stream {
	kvt_gpu_stream base;
	cudaStream_t stream;
	cuda_lists lists[KVT_CUDA_LISTS];
	unsigned list, taken; /* the block in use, and bytes of it */
} cuda_stream;

static inline cuda_gpu *kvt_cuda_gpu_of(const kvt_gpu_stream *stream)
{
	return (cuda_gpu *)stream->gpu;
}

/* --- cuda_gpu.c --- */

/* 0, or -EIO from now on. */
int kvt_cuda_gpu_status(cuda_gpu *gpu, cudaError_t error);

/* Of our kernels: what the caller did wrong is no fault of the device. */
int kvt_cuda_kernel_status(cuda_gpu *gpu, int status);

/* Whether all of it is one piece of the device's memory, or of what was pinned. */
bool kvt_cuda_gpu_reaches(cuda_gpu *gpu, const void *memory, uint64_t bytes);

/* --- cuda_copies.c --- */

/* gpu.h's. */
int kvt_cuda_gpu_copy(
	kvt_gpu_stream *stream, const kvt_gpu_copy *copies, unsigned n, kvt_gpu_copy_way way);
int kvt_cuda_gpu_checksum(
	kvt_gpu_stream *stream, const kvt_cuda_page *pages, unsigned n, uint64_t *sums);

/* Frees a stream's lists; it is idle. */
void kvt_cuda_stream_clear(cuda_stream *stream);

#endif
