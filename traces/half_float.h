/*
 * half_float.h: IEEE 754 half precision to float and back, in arrays. Portable bit code that
 * compilers vectorise; HDF5's own conversion of 16-bit floats is more than ten times slower.
 */
#ifndef KVT_HALF_FLOAT_H
#define KVT_HALF_FLOAT_H

#include <stddef.h>
#include <stdint.h>

/* out[i] = half[i], exactly; NaN stays NaN with its payload. */
void kvt_half_to_float(const uint16_t *half, float *out, size_t n);

/* out[i] = value[i] rounded to the nearest half, ties to even; overflow becomes infinity. */
void kvt_half_from_float(const float *value, uint16_t *out, size_t n);

#endif
