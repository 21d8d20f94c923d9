/* prefetch_centroid.c: pages by the logit of their mean key, held in half precision: 2 x head_dim
 * bytes a page. Keys are taken less the mean of the sample, which all pages share: softmax does not
 * see it, and the halves are of smaller numbers. */
#include "kernels/kernels.h"
#include "sim/prefetch/page_sketch.h"

typedef float lanes __attribute__((vector_size(16), aligned(4), may_alias));

static size_t centroid_record_bytes(const kvt_prefetcher_spec *spec)
{
	return spec->head_dim * sizeof(uint16_t);
}

static size_t centroid_shared_bytes(const kvt_prefetcher_spec *spec)
{
	return spec->head_dim * sizeof(float);
}

static void centroid_train(
	const kvt_prefetcher_spec *spec, const float *keys, uint32_t n_tokens, void *shared)
{
	kvt_page_sketch_mean(spec->head_dim, keys, n_tokens, NULL, shared);
}

static void centroid_build(
	const kvt_prefetcher_spec *spec, const void *shared, const float *keys, void *record)
{
	float centroid[KVT_CODE_HEAD_DIM_MAX];
	kvt_page_sketch_mean(spec->head_dim, keys, spec->block_tokens, shared, centroid);
	kvt_elements_from_float(KVT_ELEMENT_F16, centroid, spec->head_dim, record);
}

static void centroid_score(const kvt_prefetcher_spec *spec, const void *shared,
	const float *queries, const void *records, uint32_t n, float *logits, size_t pitch)
{
	float centroid[KVT_CODE_HEAD_DIM_MAX];
	for (uint32_t i = 0; i < n; i++) {
		const uint16_t *record = (const uint16_t *)records + (size_t)i * spec->head_dim;
		kvt_elements_to_float(KVT_ELEMENT_F16, record, spec->head_dim, centroid);
		for (uint32_t g = 0; g < spec->group; g++) {
			const float *query = queries + (size_t)g * spec->head_dim;
			lanes sum = { 0 };
			for (uint32_t c = 0; c < spec->head_dim; c += 4)
				sum += *(const lanes *)(query + c) * *(const lanes *)(centroid + c);
			logits[g * pitch + i] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
		}
	}
}

static kvt_prefetcher *centroid_create(const kvt_prefetcher_spec *spec)
{
	static const kvt_page_sketch_kind kind = {
		.record_bytes = centroid_record_bytes,
		.shared_bytes = centroid_shared_bytes,
		.train = centroid_train,
		.build = centroid_build,
		.score = centroid_score,
	};
	return kvt_page_sketch_new(&kind, spec);
}

const kvt_prefetcher_ops kvt_prefetcher_centroid = {
	KVT_PAGE_SKETCH_OPS,
	.name = "centroid",
	.summary = "pages by the logit of their mean key",
	.unfit = kvt_page_sketch_unfit,
	.create = centroid_create,
};
