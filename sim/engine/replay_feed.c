/* replay_feed.c: keys and queries from a source to prefetchers. */
#include "sim/engine/replay_feed.h"

#include "sim/base/error.h"
#include "sim/base/rng.h"

/* Pages that are read at once, and that a sample for training has at most. */
enum { CHUNK_PAGES = 256, SAMPLE_PAGES = 4096 };

const char *const kvt_replay_query_names[] = { "current", "previous", NULL };

typedef struct feed_head {
	uint32_t written; /* pages below it are, where they are present */
	bool trained;
} feed_head;

struct kvt_feed {
	kvt_replay_source *source;
	int query;
	kvt_prefetcher **prefetchers; /* one a layer */
	feed_head *heads;             /* [layer x n_heads + head] */
	uint16_t *keys;               /* [CHUNK_PAGES][block_tokens][head_dim] */
	float *queries; /* [n_heads][group][head_dim], of query_step and query_layer */
	uint32_t query_step, query_layer;
};

static kvt_prefetcher_spec layer_spec(
	const kvt_replay_source *source, uint32_t layer, uint64_t seed)
{
	kvt_rng rng =
		kvt_rng_init(seed, kvt_rng_stream_id("prefetcher", source->layer_numbers[layer]));
	kvt_prefetcher_spec spec = {
		.n_heads = source->n_heads, .max_pages = source->n_pages, .seed = kvt_rng_next(&rng)
	};
	if (kvt_replay_source_has_keys(source, layer)) {
		spec.group = source->group;
		spec.head_dim = source->head_dim;
		spec.block_tokens = source->block_tokens;
		spec.scale = source->scale;
	}
	return spec;
}

gboolean kvt_feed_check(
	const kvt_replay_source *source, const kvt_prefetcher_ops *ops, GError **error)
{
	for (uint32_t layer = 0; layer < source->n_layers; layer++) {
		if (ops->reads_keys && !kvt_replay_source_has_keys(source, layer))
			return kvt_error_usage(error,
				"prefetcher %s: layer %u has no keys or queries to score pages "
				"with, expected a layer that has",
				ops->name, source->layer_numbers[layer]);
		kvt_prefetcher_spec spec = layer_spec(source, layer, 0);
		const char *expected = ops->unfit ? ops->unfit(&spec) : NULL;
		if (expected)
			return kvt_error_usage(error, "prefetcher %s: layer %u, expected %s",
				ops->name, source->layer_numbers[layer], expected);
	}
	return TRUE;
}

kvt_feed *kvt_feed_new(
	kvt_replay_source *source, const kvt_prefetcher_ops *ops, int query, uint64_t seed)
{
	kvt_feed *feed = g_new0(kvt_feed, 1);
	feed->source = source;
	feed->query = query;
	feed->prefetchers = g_new(kvt_prefetcher *, source->n_layers);
	for (uint32_t layer = 0; layer < source->n_layers; layer++) {
		kvt_prefetcher_spec spec = layer_spec(source, layer, seed);
		feed->prefetchers[layer] = kvt_prefetcher_new(ops, &spec);
	}
	feed->heads = g_new0(feed_head, (size_t)source->n_layers * source->n_heads);
	if (ops->reads_keys) {
		size_t page = (size_t)source->block_tokens * source->head_dim;
		feed->keys = g_new(uint16_t, CHUNK_PAGES * page);
		feed->queries =
			g_new(float, (size_t)source->n_heads * source->group * source->head_dim);
	}
	feed->query_step = feed->query_layer = UINT32_MAX;
	return feed;
}

void kvt_feed_free(kvt_feed *feed)
{
	if (!feed)
		return;
	for (uint32_t layer = 0; layer < feed->source->n_layers; layer++)
		feed->prefetchers[layer]->ops->free(feed->prefetchers[layer]);
	g_free(feed->prefetchers);
	g_free(feed->heads);
	g_free(feed->keys);
	g_free(feed->queries);
	g_free(feed);
}

kvt_prefetcher *kvt_feed_prefetcher(const kvt_feed *feed, uint32_t layer)
{
	return feed->prefetchers[layer];
}

/* Pages first + i x stride, of first .. end - 1, as a sample. */
static bool train(
	kvt_feed *feed, uint32_t layer, uint32_t head, uint32_t first, uint32_t end, GError **error)
{
	kvt_replay_source *source = feed->source;
	uint32_t stride = (end - first + SAMPLE_PAGES - 1) / SAMPLE_PAGES, n = 0;
	uint32_t most = (end - first + stride - 1) / stride;
	size_t page = (size_t)source->block_tokens * source->head_dim;
	g_autofree uint16_t *keys = g_new(uint16_t, most * page);
	g_autofree uint32_t *pages = g_new(uint32_t, most);
	bool read = true;
	if (stride == 1) {
		read = source->keys(source, layer, head, first, most, keys, error);
		for (; n < most; n++)
			pages[n] = first + n;
	}
	for (; read && n < most; n++) {
		pages[n] = first + n * stride;
		read = source->keys(source, layer, head, pages[n], 1, keys + n * page, error);
	}
	if (!read)
		return false;
	kvt_page_keys sample = { .n_pages = n, .pages = pages, .keys = keys };
	kvt_prefetcher *prefetcher = feed->prefetchers[layer];
	prefetcher->ops->train(prefetcher, head, &sample);
	return true;
}

/* Tells of pages first .. end - 1. */
static bool write_pages(
	kvt_feed *feed, uint32_t layer, uint32_t head, uint32_t first, uint32_t end, GError **error)
{
	kvt_replay_source *source = feed->source;
	kvt_prefetcher *prefetcher = feed->prefetchers[layer];
	for (uint32_t page = first; page < end; page += CHUNK_PAGES) {
		uint32_t n = MIN((uint32_t)CHUNK_PAGES, end - page);
		if (!source->keys(source, layer, head, page, n, feed->keys, error))
			return false;
		kvt_page_keys keys = { .n_pages = n, .first = page, .keys = feed->keys };
		prefetcher->ops->write(prefetcher, head, &keys);
	}
	return true;
}

static bool tell_query(kvt_feed *feed, uint32_t step, uint32_t layer, uint32_t head, GError **error)
{
	kvt_replay_source *source = feed->source;
	kvt_prefetcher *prefetcher = feed->prefetchers[layer];
	if (feed->query == KVT_REPLAY_QUERY_PREVIOUS) {
		if (step == 0)
			return true;
		step--;
	}
	if (step != feed->query_step || layer != feed->query_layer) {
		if (!source->queries(source, step, layer, feed->queries, error))
			return false;
		feed->query_step = step;
		feed->query_layer = layer;
	}
	const float *queries = feed->queries + (size_t)head * source->group * source->head_dim;
	prefetcher->ops->query(prefetcher, step, head, queries);
	return true;
}

bool kvt_feed_step(kvt_feed *feed, uint32_t step, uint32_t layer, uint32_t head, GError **error)
{
	kvt_replay_source *source = feed->source;
	if (!feed->prefetchers[layer]->ops->reads_keys)
		return true;
	feed_head *state = &feed->heads[layer * source->n_heads + head];
	kvt_replay_present present = source->present(source, step, layer);
	/* the last page gets the step's own token, whose key does not exist yet */
	uint32_t end = present.end - 1, first = MAX(state->written, present.first);
	if (first < end && !state->trained) {
		if (!train(feed, layer, head, first, end, error))
			return false;
		state->trained = true;
	}
	if (first < end) {
		if (!write_pages(feed, layer, head, first, end, error))
			return false;
		state->written = end;
	}
	return !state->trained || tell_query(feed, step, layer, head, error);
}

kvt_prefetcher_stats kvt_feed_stats(const kvt_feed *feed)
{
	kvt_prefetcher_stats sum = { 0 };
	for (uint32_t layer = 0; layer < feed->source->n_layers; layer++) {
		const kvt_prefetcher_stats *stats = &feed->prefetchers[layer]->stats;
		sum.sketch_bytes += stats->sketch_bytes;
		sum.sketch_tokens += stats->sketch_tokens;
		sum.scanned_bytes += stats->scanned_bytes;
		sum.scored_pages += stats->scored_pages;
		sum.queries += stats->queries;
	}
	return sum;
}
