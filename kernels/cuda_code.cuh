/*
 * cuda_code.cuh: what the device's makers and scorers of page codes share: sizes and steps, as
 * kernels.h has them.
 */
#ifndef KVT_CUDA_CODE_H
#define KVT_CUDA_CODE_H

#include <errno.h>
#include <stdint.h>

#include "kernels/cuda_internal.h"

enum {
	CODE_TOKENS = KVT_CODE_TOKENS,
	CODE_CLASSES = KVT_CODE_CLASSES,
	CODE_BLOCK = KVT_CODE_BLOCK,
};

static inline bool code_allowed(uint32_t head_dim)
{
	return head_dim > 0 && head_dim % 16 == 0 && head_dim <= KVT_CODE_HEAD_DIM_MAX;
}

// Of the means of 16 pages.
static __device__ __forceinline__ size_t code_block_bytes(uint32_t head_dim)
{
	return (size_t)CODE_BLOCK * (head_dim / 2 + 8);
}

// Of a row: 0; 1; 2-3; 4-7; 8-15.
static __device__ __forceinline__ uint32_t code_class(uint32_t row)
{
	return row < 2 ? row : 32 - (uint32_t)__clz((int)row);
}

// The step that a byte stands for: 2^((e - 128) / 8), 0 for 0.
static __device__ __forceinline__ float code_step(uint32_t e)
{
	const uint32_t i = e & 7;
	const uint32_t eighth = i == 0   ? 0x3f800000
				: i == 1 ? 0x3f8b95c2
				: i == 2 ? 0x3f9837f0
				: i == 3 ? 0x3fa5fed7
				: i == 4 ? 0x3fb504f3
				: i == 5 ? 0x3fc5672a
				: i == 6 ? 0x3fd744fd
					 : 0x3feac0c7;
	return e ? __uint_as_float(eighth + (e >> 3 << 23) - (16u << 23)) : 0.0f;
}

#endif
