/* dtype.c: names and widths of the number formats. */
#include "models/dtype.h"

#include <stddef.h>

const char *const kvt_dtype_names[KVT_DTYPE_COUNT + 1] = {
	[KVT_DTYPE_FP32] = "fp32",
	[KVT_DTYPE_BF16] = "bf16",
	[KVT_DTYPE_FP16] = "fp16",
	[KVT_DTYPE_FP8] = "fp8",
	[KVT_DTYPE_INT8] = "int8",
	[KVT_DTYPE_FP4] = "fp4",
	[KVT_DTYPE_INT4] = "int4",
	[KVT_DTYPE_COUNT] = NULL,
};

unsigned kvt_dtype_bits(kvt_dtype dtype)
{
	static const unsigned bits[KVT_DTYPE_COUNT] = {
		[KVT_DTYPE_FP32] = 32,
		[KVT_DTYPE_BF16] = 16,
		[KVT_DTYPE_FP16] = 16,
		[KVT_DTYPE_FP8] = 8,
		[KVT_DTYPE_INT8] = 8,
		[KVT_DTYPE_FP4] = 4,
		[KVT_DTYPE_INT4] = 4,
	};
	return dtype < KVT_DTYPE_COUNT ? bits[dtype] : 0;
}

uint64_t kvt_dtype_bytes(kvt_dtype dtype, uint64_t elements)
{
	return (elements * kvt_dtype_bits(dtype) + 7) / 8;
}
