/*
 * replay_feed.h: a replay's prefetchers, one a layer, and what they are told of keys and queries:
 * what has been computed by the time they plan, and nothing else.
 */
#ifndef KVT_REPLAY_FEED_H
#define KVT_REPLAY_FEED_H

#include "sim/engine/replay_source.h"
#include "sim/prefetch/prefetcher.h"

/* The newest query that a plan may use. */
typedef enum kvt_replay_query {
	KVT_REPLAY_QUERY_CURRENT,  /* the step's own: plans are made when attention is due */
	KVT_REPLAY_QUERY_PREVIOUS, /* the step's before: plans are made when that is over */
} kvt_replay_query;

/* "current", "previous", NULL. */
extern const char *const kvt_replay_query_names[];

typedef struct kvt_feed kvt_feed;

/* Whether the prefetcher can do with every layer of the source. */
gboolean kvt_feed_check(
	const kvt_replay_source *source, const kvt_prefetcher_ops *ops, GError **error);

/* The source must outlive it and have passed kvt_feed_check. */
kvt_feed *kvt_feed_new(
	kvt_replay_source *source, const kvt_prefetcher_ops *ops, int query, uint64_t seed);
void kvt_feed_free(kvt_feed *feed);

kvt_prefetcher *kvt_feed_prefetcher(const kvt_feed *feed, uint32_t layer);

/*
 * Before the plan of a step: the pages that are complete by then, all but the last one present, and
 * the query. Steps rise. Nothing for a prefetcher that reads no keys. False with an error when the
 * source cannot be read.
 */
bool kvt_feed_step(kvt_feed *feed, uint32_t step, uint32_t layer, uint32_t head, GError **error);

/* The sum over all layers. */
kvt_prefetcher_stats kvt_feed_stats(const kvt_feed *feed);

#endif
