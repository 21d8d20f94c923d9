/* prefetch_pq.c: pages by the attention that the product codes of their tokens would get: the
 * strong control that hashes nothing. 16 bytes a token at head_dim 64, and 32 KiB of codewords a
 * head, learnt from the context before the first step and kept. */
#include "sim/prefetch/page_sketch.h"
#include "sim/prefetch/product_codes.h"

static size_t pq_record_bytes(const kvt_prefetcher_spec *spec)
{
	return spec->block_tokens * kvt_product_code_bytes(spec->head_dim);
}

static size_t pq_shared_bytes(const kvt_prefetcher_spec *spec)
{
	return kvt_product_book_bytes(spec->head_dim);
}

static void pq_train(
	const kvt_prefetcher_spec *spec, const float *keys, uint32_t n_tokens, void *shared)
{
	kvt_product_train(spec->head_dim, keys, n_tokens, KVT_PRODUCT_WORDS, spec->seed, shared);
}

static void *pq_prepare(const kvt_prefetcher_spec *spec, const void *shared)
{
	return kvt_product_coder_new(spec->head_dim, shared);
}

static void pq_build(
	const kvt_prefetcher_spec *spec, const void *coder, const float *keys, void *record)
{
	kvt_product_encode(coder, keys, spec->block_tokens, record);
}

static void pq_score(const kvt_prefetcher_spec *spec, const void *shared, const float *queries,
	const void *records, uint32_t n, float *logits, size_t pitch)
{
	uint32_t n_parts = (uint32_t)kvt_product_code_bytes(spec->head_dim);
	g_autofree float *table = g_new(float, (size_t)n_parts *KVT_PRODUCT_WORDS);
	for (uint32_t g = 0; g < spec->group; g++) {
		kvt_product_tables(
			spec->head_dim, shared, queries + (size_t)g * spec->head_dim, table);
		kvt_product_score(
			n_parts, table, records, n * spec->block_tokens, logits + g * pitch);
	}
}

static kvt_prefetcher *pq_create(const kvt_prefetcher_spec *spec)
{
	static const kvt_page_sketch_kind kind = {
		.by_token = TRUE,
		.record_bytes = pq_record_bytes,
		.shared_bytes = pq_shared_bytes,
		.train = pq_train,
		.prepare = pq_prepare,
		.build = pq_build,
		.score = pq_score,
	};
	return kvt_page_sketch_new(&kind, spec);
}

const kvt_prefetcher_ops kvt_prefetcher_pq = {
	KVT_PAGE_SKETCH_OPS,
	.name = "pq",
	.summary = "pages by the mass of their tokens, from product codes: 8 bits for 4 channels",
	.estimates = TRUE,
	.unfit = kvt_page_sketch_unfit,
	.create = pq_create,
};
