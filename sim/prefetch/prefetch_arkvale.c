/* prefetch_arkvale.c: pages by the largest logit within mean -+ mean absolute deviation of their
 * keys, channel by channel (the cuboid of ArkVale, NeurIPS 2024). What of ArkVale evicts and
 * recalls is not here. */
#include "sim/prefetch/page_bounds.h"
#include "sim/prefetch/page_sketch.h"

static size_t arkvale_record_bytes(const kvt_prefetcher_spec *spec)
{
	return kvt_page_bounds_bytes(spec->head_dim);
}

static void arkvale_build(
	const kvt_prefetcher_spec *spec, const void *shared, const float *keys, void *record)
{
	kvt_page_bounds_deviations(spec->head_dim, keys, spec->block_tokens, record);
}

static void arkvale_score(const kvt_prefetcher_spec *spec, const void *shared, const float *queries,
	const void *records, uint32_t n, float *logits, size_t pitch)
{
	kvt_page_bounds_score(spec->head_dim, records, n, queries, spec->group, logits, pitch);
}

static kvt_prefetcher *arkvale_create(const kvt_prefetcher_spec *spec)
{
	static const kvt_page_sketch_kind kind = {
		.record_bytes = arkvale_record_bytes,
		.build = arkvale_build,
		.score = arkvale_score,
	};
	return kvt_page_sketch_new(&kind, spec);
}

const kvt_prefetcher_ops kvt_prefetcher_arkvale = {
	KVT_PAGE_SKETCH_OPS,
	.name = "arkvale",
	.summary = "pages by the largest logit near their mean key: mean -+ mean deviation",
	.unfit = kvt_page_sketch_unfit,
	.create = arkvale_create,
};
