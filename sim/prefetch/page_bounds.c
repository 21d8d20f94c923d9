/* page_bounds.c: cuboids around keys. Four lanes add up channels 4 i, 4 i + 1 ..., then each other:
 * compilers make vectors of them, and the result is the same without. */
#include "sim/prefetch/page_bounds.h"

#include <glib.h>
#include <math.h>

#include "kernels/kernels.h"

typedef float lanes __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t masks __attribute__((vector_size(16)));

void kvt_page_bounds_extremes(
	uint32_t head_dim, const float *keys, uint32_t n_tokens, uint16_t *record)
{
	float bounds[2 * KVT_CODE_HEAD_DIM_MAX];
	for (uint32_t i = 0; i < head_dim; i++) {
		float low = keys[i], high = keys[i];
		for (uint32_t t = 1; t < n_tokens; t++) {
			float key = keys[(size_t)t * head_dim + i];
			low = key < low ? key : low;
			high = key > high ? key : high;
		}
		bounds[i] = low;
		bounds[head_dim + i] = high;
	}
	kvt_elements_from_float(KVT_ELEMENT_F16, bounds, 2 * (size_t)head_dim, record);
}

void kvt_page_bounds_deviations(
	uint32_t head_dim, const float *keys, uint32_t n_tokens, uint16_t *record)
{
	float bounds[2 * KVT_CODE_HEAD_DIM_MAX];
	for (uint32_t i = 0; i < head_dim; i++) {
		float mean = 0, deviation = 0;
		for (uint32_t t = 0; t < n_tokens; t++)
			mean += keys[(size_t)t * head_dim + i];
		mean /= (float)n_tokens;
		for (uint32_t t = 0; t < n_tokens; t++)
			deviation += fabsf(keys[(size_t)t * head_dim + i] - mean);
		deviation /= (float)n_tokens;
		bounds[i] = mean - deviation;
		bounds[head_dim + i] = mean + deviation;
	}
	kvt_elements_from_float(KVT_ELEMENT_F16, bounds, 2 * (size_t)head_dim, record);
}

/* Of one cuboid, low and high; head_dim numbers each. */
static float bound(uint32_t head_dim, const float *low, const float *high, const float *query)
{
	lanes sum = { 0 };
	for (uint32_t i = 0; i < head_dim; i += 4) {
		lanes q = *(const lanes *)(query + i);
		lanes a = q * *(const lanes *)(low + i), b = q * *(const lanes *)(high + i);
		masks larger = a > b;
		sum += (lanes)(((masks)a & larger) | ((masks)b & ~larger));
	}
	return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

void kvt_page_bounds_score(uint32_t head_dim, const uint16_t *records, uint32_t n,
	const float *queries, uint32_t group, float *bounds, size_t pitch)
{
	float cuboid[2 * KVT_CODE_HEAD_DIM_MAX];
	for (uint32_t i = 0; i < n; i++) {
		const uint16_t *record = records + (size_t)i * 2 * head_dim;
		kvt_elements_to_float(KVT_ELEMENT_F16, record, 2 * (size_t)head_dim, cuboid);
		for (uint32_t g = 0; g < group; g++)
			bounds[g * pitch + i] = bound(head_dim, cuboid, cuboid + head_dim,
				queries + (size_t)g * head_dim);
	}
}
