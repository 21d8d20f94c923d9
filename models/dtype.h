/*
 * dtype.h: number formats of weights, activations and KV, and their sizes. Scales and zero points
 * are not part of a format: whoever stores the tensor counts them.
 */
#ifndef KVT_DTYPE_H
#define KVT_DTYPE_H

#include <stdint.h>

typedef enum kvt_dtype {
	KVT_DTYPE_FP32,
	KVT_DTYPE_BF16,
	KVT_DTYPE_FP16,
	KVT_DTYPE_FP8,
	KVT_DTYPE_INT8,
	KVT_DTYPE_FP4,
	KVT_DTYPE_INT4,
	KVT_DTYPE_COUNT,
} kvt_dtype;

/* "fp32", "bf16", ... in the order of kvt_dtype, NULL-terminated: the choices of an option. */
extern const char *const kvt_dtype_names[KVT_DTYPE_COUNT + 1];

/* Bits of one element: 32, 16, 8 or 4. */
unsigned kvt_dtype_bits(kvt_dtype dtype);

/* Bytes of `elements` packed elements, rounded up to a byte. */
uint64_t kvt_dtype_bytes(kvt_dtype dtype, uint64_t elements);

#endif
