/*
 * cuda_internal.h: between the CUDA sources of kernels/: the forms that kvt_cuda_attention chooses
 * from, and how parts of a result become one. Nobody else's.
 */
#ifndef KVT_CUDA_INTERNAL_H
#define KVT_CUDA_INTERNAL_H

#include <cuda_runtime.h>
#include <errno.h>

#include "kernels/cuda_kernels.h"

/* What a launch returned, as an errno. */
static inline int kvt_cuda_status(cudaError_t error)
{
	if (error == cudaErrorNoKernelImageForDevice)
		return -ENODEV;
	return error == cudaSuccess ? 0 : -EIO;
}

/* How many multiprocessors the current device has; 0: there is none. */
int kvt_cuda_processors(void);

/* Whether kernels may be launched while the one before ends (programmatic dependent launch): those
 * that begin with griddepcontrol.wait. */
int kvt_cuda_launches_early(void);

/*
 * The form for few rows: a row is a query head of a query token, KVT_CUDA_DECODE_ROWS at most for
 * each KV head. It reads every key and value once.
 */
enum { KVT_CUDA_DECODE_ROWS = 16 };
size_t kvt_cuda_decode_scratch(const kvt_cuda_shape *shape, uint32_t n_queries);
int kvt_cuda_decode(const kvt_cuda_shape *shape, const kvt_cuda_queries *queries,
	const kvt_cuda_window *window, const kvt_cuda_partial *partial, void *scratch,
	void *stream);

/*
 * Parts of a result over different tokens: of KV head h, part p and row r, output
 * [(h n_parts + p) n_slots + r][head_dim] is relative to 2^stat.x and stat.y the sum of weights.
 * Of a part that saw nothing: -FLT_MAX and 0, and the output is 0.
 */
enum { KVT_CUDA_PARTS_MAX = 512 };
typedef struct kvt_cuda_parts {
	const float *output;
	const float2 *stat;
	uint32_t kv_heads, n_parts, n_rows, n_slots; /* n_slots >= n_rows */
	uint32_t head_dim;
	float value_scale;
} kvt_cuda_parts;

/* Joins them into partial: [kv_heads][n_rows]. Waits for what comes before it in the stream. */
int kvt_cuda_join(const kvt_cuda_parts *parts, const kvt_cuda_partial *partial, void *stream);

#endif
