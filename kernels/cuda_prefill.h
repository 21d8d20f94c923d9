/* cuda_prefill.h: kvt_cuda_attention of many rows, for its dispatch alone; cuda_kernels.h says what
 * it does. Any number of query tokens and up to 16 heads are allowed, and the shape has been
 * checked. */
#ifndef KVT_CUDA_PREFILL_H
#define KVT_CUDA_PREFILL_H

#include "kernels/cuda_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* 0 without a device. */
size_t kvt_cuda_prefill_scratch(const kvt_cuda_shape *shape, uint32_t n_queries);
int kvt_cuda_prefill(const kvt_cuda_shape *shape, const kvt_cuda_queries *queries,
	const kvt_cuda_window *window, const kvt_cuda_partial *partial, void *scratch,
	void *stream);

#ifdef __cplusplus
}
#endif

#endif
