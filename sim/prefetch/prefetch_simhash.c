/* prefetch_simhash.c: pages by the attention that their tokens would get by the sign-full estimate:
 * 128 signs and the norm of each key less the mean of the sample, 18 bytes a token. The directions
 * are counted for each head, though one set would do for all. */
#include "kernels/kernels.h"
#include "sim/prefetch/page_sketch.h"
#include "sim/prefetch/product_codes.h"
#include "sim/prefetch/sign_sketch.h"

/* Of a head: the mean, then the directions. A record is the bits of all tokens, then norms in half
 * precision. */

static size_t simhash_record_bytes(const kvt_prefetcher_spec *spec)
{
	return spec->block_tokens * (KVT_SIGN_BYTES + sizeof(uint16_t));
}

static size_t simhash_shared_bytes(const kvt_prefetcher_spec *spec)
{
	return (size_t)(1 + KVT_SIGN_BITS) * spec->head_dim * sizeof(float);
}

static void simhash_train(
	const kvt_prefetcher_spec *spec, const float *keys, uint32_t n_tokens, void *shared)
{
	float *mean = shared;
	kvt_page_sketch_mean(spec->head_dim, keys, n_tokens, NULL, mean);
	kvt_sign_directions(spec->head_dim, spec->seed, mean + spec->head_dim);
}

static void simhash_build(
	const kvt_prefetcher_spec *spec, const void *shared, const float *keys, void *record)
{
	const float *mean = shared, *directions = mean + spec->head_dim;
	uint8_t *bits = record;
	float centred[KVT_CODE_HEAD_DIM_MAX];
	for (uint32_t t = 0; t < spec->block_tokens; t++) {
		for (uint32_t i = 0; i < spec->head_dim; i++)
			centred[i] = keys[(size_t)t * spec->head_dim + i] - mean[i];
		float norm = kvt_sign_build(
			spec->head_dim, directions, centred, bits + t * KVT_SIGN_BYTES);
		kvt_elements_from_float(KVT_ELEMENT_F16, &norm, 1,
			bits + spec->block_tokens * KVT_SIGN_BYTES + t * sizeof(uint16_t));
	}
}

static void simhash_score(const kvt_prefetcher_spec *spec, const void *shared, const float *queries,
	const void *records, uint32_t n, float *logits, size_t pitch)
{
	const float *directions = (const float *)shared + spec->head_dim;
	size_t bytes = simhash_record_bytes(spec);
	uint32_t tokens = spec->block_tokens;
	g_autofree float *norms = g_new(float, tokens);
	float table[KVT_SIGN_BYTES * KVT_SIGN_WORDS];
	for (uint32_t g = 0; g < spec->group; g++) {
		const float *query = queries + (size_t)g * spec->head_dim;
		kvt_sign_tables(spec->head_dim, directions, query, table);
		for (uint32_t i = 0; i < n; i++) {
			const uint8_t *bits = (const uint8_t *)records + i * bytes;
			float *out = logits + g * pitch + (size_t)i * tokens;
			kvt_product_score(KVT_SIGN_BYTES, table, bits, tokens, out);
			kvt_elements_to_float(
				KVT_ELEMENT_F16, bits + tokens * KVT_SIGN_BYTES, tokens, norms);
			for (uint32_t t = 0; t < tokens; t++)
				out[t] *= norms[t];
		}
	}
}

static kvt_prefetcher *simhash_create(const kvt_prefetcher_spec *spec)
{
	static const kvt_page_sketch_kind kind = {
		.by_token = TRUE,
		.record_bytes = simhash_record_bytes,
		.shared_bytes = simhash_shared_bytes,
		.train = simhash_train,
		.build = simhash_build,
		.score = simhash_score,
	};
	return kvt_page_sketch_new(&kind, spec);
}

const kvt_prefetcher_ops kvt_prefetcher_simhash = {
	KVT_PAGE_SKETCH_OPS,
	.name = "simhash",
	.summary = "pages by the mass of their tokens, from 128 signs and a norm each",
	.estimates = TRUE,
	.create = simhash_create,
};
