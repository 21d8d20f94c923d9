/* prefetch_simhash.c: pages by the attention that their tokens would get by what hashing alone
 * says: 128 signs of random projections of each key, less the mean of the sample, and its norm: 18
 * bytes a token. The projection is counted for each head, though one would do for all. */
#include <stdlib.h>

#include "kernels/kernels.h"
#include "sim/prefetch/page_sketch.h"

enum { BITS = 128, ALIGNMENT = 64 };

/* Of a head: the mean, then the projection. */

static const char *simhash_unfit(const kvt_prefetcher_spec *spec)
{
	if (spec->block_tokens != KVT_CODE_TOKENS)
		return "pages of 16 tokens";
	return kvt_page_sketch_unfit(spec);
}

static size_t simhash_record_bytes(const kvt_prefetcher_spec *spec)
{
	return kvt_simhash_page_bytes(BITS);
}

static size_t simhash_shared_bytes(const kvt_prefetcher_spec *spec)
{
	return spec->head_dim * sizeof(float) + kvt_simhash_bytes(spec->head_dim, BITS);
}

static void simhash_train(
	const kvt_prefetcher_spec *spec, const float *keys, uint32_t n_tokens, void *shared)
{
	float *mean = shared;
	kvt_simhash hash;
	kvt_page_sketch_mean(spec->head_dim, keys, n_tokens, NULL, mean);
	kvt_simhash_init(&hash, spec->head_dim, BITS, spec->seed, mean + spec->head_dim);
	kvt_simhash_orthogonalise(&hash);
}

static kvt_simhash projection_of(const kvt_prefetcher_spec *spec, const void *shared)
{
	return (kvt_simhash){ .head_dim = spec->head_dim,
		.n_bits = BITS,
		.projection = (float *)shared + spec->head_dim };
}

static void simhash_build(
	const kvt_prefetcher_spec *spec, const void *shared, const float *keys, void *record)
{
	kvt_simhash hash = projection_of(spec, shared);
	kvt_simhash_build(
		&hash, KVT_ELEMENT_F32, keys, spec->head_dim * sizeof(float), shared, record);
}

static void simhash_sums(const kvt_prefetcher_spec *spec, const void *shared, const float *queries,
	const void *records, uint32_t n, float *sums, size_t pitch)
{
	kvt_simhash hash = projection_of(spec, shared);
	kvt_simhash_query query;
	kvt_page_list pages = { .n = n };
	size_t bytes = kvt_simhash_query_bytes(BITS, spec->group);
	void *memory = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
	g_assert(memory != NULL);
	kvt_simhash_query_init(&query, BITS, spec->group, memory);
	kvt_simhash_query_set(&query, &hash, queries, spec->scale);
	kvt_simhash_score(kvt_isa_best(), records, &query, &pages, sums, pitch);
	free(memory);
}

static kvt_prefetcher *simhash_create(const kvt_prefetcher_spec *spec)
{
	static const kvt_page_sketch_kind kind = {
		.record_bytes = simhash_record_bytes,
		.shared_bytes = simhash_shared_bytes,
		.train = simhash_train,
		.build = simhash_build,
		.sums = simhash_sums,
	};
	return kvt_page_sketch_new(&kind, spec);
}

const kvt_prefetcher_ops kvt_prefetcher_simhash = {
	KVT_PAGE_SKETCH_OPS,
	.name = "simhash",
	.summary = "pages by the mass of their tokens, from 128 signs and a norm each",
	.estimates = TRUE,
	.unfit = simhash_unfit,
	.create = simhash_create,
};
