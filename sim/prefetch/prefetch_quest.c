/* prefetch_quest.c: pages by the largest logit that a token in them could have: the extremes of
 * keys, channel by channel (Quest, arXiv 2406.10774). A bound, and no estimate of mass: pages whose
 * keys differ much score high. The example of a prefetcher that reads keys and queries. */
#include "sim/prefetch/page_bounds.h"
#include "sim/prefetch/page_sketch.h"

static size_t quest_record_bytes(const kvt_prefetcher_spec *spec)
{
	return kvt_page_bounds_bytes(spec->head_dim);
}

static void quest_build(
	const kvt_prefetcher_spec *spec, const void *shared, const float *keys, void *record)
{
	kvt_page_bounds_extremes(spec->head_dim, keys, spec->block_tokens, record);
}

static void quest_score(const kvt_prefetcher_spec *spec, const void *shared, const float *queries,
	const void *records, uint32_t n, float *logits, size_t pitch)
{
	kvt_page_bounds_score(spec->head_dim, records, n, queries, spec->group, logits, pitch);
}

static kvt_prefetcher *quest_create(const kvt_prefetcher_spec *spec)
{
	static const kvt_page_sketch_kind kind = {
		.record_bytes = quest_record_bytes,
		.build = quest_build,
		.score = quest_score,
	};
	return kvt_page_sketch_new(&kind, spec);
}

const kvt_prefetcher_ops kvt_prefetcher_quest = {
	KVT_PAGE_SKETCH_OPS,
	.name = "quest",
	.summary = "pages by a bound of their logits: the extremes of keys a channel",
	.unfit = kvt_page_sketch_unfit,
	.create = quest_create,
};
