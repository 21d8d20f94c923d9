/* block_zipf.c: Zipf accesses by the inverse of their distribution. */
#include "traces/block_zipf.h"

#include <math.h>

#include "sim/base/rng.h"
#include "traces/block_trace_internal.h"

/* below[k]: the share of the k most popular blocks. */
static double *distribution(const kvt_zipf *zipf)
{
	double *below = g_new(double, (size_t)zipf->n_blocks + 1), sum = 0;
	for (uint32_t k = 0; k < zipf->n_blocks; k++) {
		below[k] = sum;
		sum += pow(k + 1.0, -zipf->alpha);
	}
	for (uint32_t k = 0; k < zipf->n_blocks; k++)
		below[k] /= sum;
	below[zipf->n_blocks] = 1;
	return below;
}

/* starts[i]: the block whose share i / n_blocks falls into, from where a search goes on. */
static uint32_t *starts_of(const double *below, uint32_t n)
{
	uint32_t *starts = g_new(uint32_t, n), k = 0;
	for (uint32_t i = 0; i < n; i++) {
		while (below[k + 1] <= (double)i / n)
			k++;
		starts[i] = k;
	}
	return starts;
}

kvt_block_trace *kvt_block_zipf(const kvt_zipf *zipf)
{
	g_assert(zipf->n_blocks > 0 && zipf->n_accesses > 0 &&
		 zipf->n_accesses < KVT_BLOCK_ACCESSES_MAX - 1);
	g_autofree double *below = distribution(zipf);
	g_autofree uint32_t *starts = starts_of(below, zipf->n_blocks);
	kvt_rng rng = kvt_rng_init(zipf->seed, kvt_rng_stream_id("block.zipf", 0));
	kvt_block_builder builder;
	kvt_block_builder_init(&builder, zipf->n_accesses);
	for (uint64_t i = 0; i < zipf->n_accesses; i++) {
		double at = kvt_rng_uniform(&rng);
		uint32_t k = starts[(uint32_t)(at * zipf->n_blocks)];
		while (below[k + 1] <= at)
			k++;
		kvt_block_builder_add(&builder, k, 1);
	}
	return kvt_block_builder_finish(&builder, "zipf", false, NULL);
}
