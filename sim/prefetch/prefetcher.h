/*
 * prefetcher.h: which pages to have in HBM before attention asks for them. A prefetcher is fed what
 * has been computed (observe, and the keys and queries where it reads them) and asked for a ranked
 * list (plan); it moves nothing, and it never sees the future, except `oracle`, which says so.
 * There is one object a layer.
 *
 * Adding a prefetcher NAME:
 *   1. Write sim/prefetch/prefetch_NAME.c with `const kvt_prefetcher_ops kvt_prefetcher_NAME`
 *      (with '_' for '-' in the name); prefetch_last_step.c is the example, prefetch_quest.c one
 *      that reads keys and queries. The build finds it.
 *   2. Add X(NAME) to the list in prefetcher_registry.c. That is the one line: `--prefetch NAME`,
 *      its help and the tests of every prefetcher (tests/unit/test_prefetcher.c) follow from it.
 */
#ifndef KVT_PREFETCHER_H
#define KVT_PREFETCHER_H

#include <glib.h>
#include <stdint.h>

typedef struct kvt_prefetcher kvt_prefetcher;

/* The layer that a prefetcher is for. Shapes from `group` on are 0 where the recording has no keys
 * or queries; a prefetcher that reads them is not made then. */
typedef struct kvt_prefetcher_spec {
	uint32_t n_heads, max_pages; /* KV heads; page ids are below max_pages */
	uint64_t seed;               /* of random numbers; the layer's own */
	uint32_t group;              /* query heads that share a KV head */
	uint32_t head_dim, block_tokens;
	float scale; /* a logit is scale x (query . key) */
} kvt_prefetcher_spec;

/* The attention of one step, layer and KV head over pages: ids and shares of the mass (the mean
 * over the group's query heads), sorted by page id. What was not attended is not in it. */
typedef struct kvt_page_masses {
	uint32_t n;
	const uint32_t *pages;
	const float *mass;
} kvt_page_masses;

/* Keys of n_pages pages of one KV head, IEEE half precision, as they lie in the cache:
 * keys[n_pages][block_tokens][head_dim]. They are all complete. */
typedef struct kvt_page_keys {
	uint32_t n_pages;
	uint32_t first;        /* ids are first, first + 1 ..., where `pages` is NULL */
	const uint32_t *pages; /* ids, rising */
	const uint16_t *keys;
} kvt_page_keys;

/* What a plan may use: pages 0 .. n_present - 1 exist, and those from first_present on can be
 * attended to (in a layer of local chunks the earlier ones cannot). The caller drops earlier ones
 * from a plan; one that does not exist is a broken invariant. */
typedef struct kvt_plan_request {
	uint32_t step, head;
	uint32_t first_present, n_present;
	uint32_t budget; /* pages to select, those always kept included; <= n_present */
	uint32_t room;   /* pages that HBM may hold, >= budget; <= n_present */
	/* Share of the mass wanted, 0 to 1; 0: what the budget gives. A plan then ends as soon as
	 * its estimate reaches it. */
	float target;
	const kvt_page_masses *future; /* this step's true row; NULL unless sees_future */
} kvt_plan_request;

/* What a prefetcher makes of a request. */
typedef struct kvt_plan {
	uint32_t *pages; /* [request->room], the caller's: distinct page ids, best first */
	uint32_t n;      /* pages ranked, <= room */
	/* Of them, how many are worth attending to: as many as the budget allows are. The others
	 * are only to be in HBM. UINT32_MAX, as it comes: all, and what does not fit is dropped. */
	uint32_t select;
	/* Share of the step's mass that the selection is thought to hold, with the pages that are
	 * always kept; NaN, as it comes, where nothing is known. */
	float mass;
} kvt_plan;

/* What scoring took so far; the sketch is what it holds of keys. */
typedef struct kvt_prefetcher_stats {
	uint64_t sketch_bytes;  /* of pages, codebooks, norms and centres; all heads */
	uint64_t sketch_tokens; /* that it describes: tokens x KV heads */
	uint64_t scanned_bytes; /* of sketches and indexes, read to score pages */
	uint64_t scored_pages;  /* pages, and entries of an index, that were scored */
	uint64_t queries;       /* scorings, one a KV head */
} kvt_prefetcher_stats;

typedef struct kvt_prefetcher_ops {
	const char *name;
	const char *summary;
	gboolean sees_future;
	/* It reads keys and queries: train, write and query are called, and not NULL. */
	gboolean reads_keys;
	gboolean estimates; /* its plans say how much mass they hold */
	/* What it expects of a layer, where one is not like that ("pages of 16 tokens"); else NULL.
	 * May be NULL: it takes any. */
	const char *(*unfit)(const kvt_prefetcher_spec *spec);
	/* An object that begins with a kvt_prefetcher; kvt_prefetcher_new fills that in. */
	kvt_prefetcher *(*create)(const kvt_prefetcher_spec *spec);
	void (*free)(kvt_prefetcher *prefetcher);
	/* Some of the pages that exist before the first step, spread evenly, before any is written:
	 * to take a mean from, or a codebook. Once a head; at least one page. */
	void (*train)(kvt_prefetcher *prefetcher, uint32_t head, const kvt_page_keys *sample);
	/* Pages that are complete now, each page once, ids rising from call to call: those of the
	 * context before the first plan, then one by one. */
	void (*write)(kvt_prefetcher *prefetcher, uint32_t head, const kvt_page_keys *keys);
	/* The newest query that is known, queries[group][head_dim], of the step that is planned
	 * next or of the one before it. */
	void (*query)(
		kvt_prefetcher *prefetcher, uint32_t step, uint32_t head, const float *queries);
	/* What attention found at a step, pages that were attended only. */
	void (*observe)(kvt_prefetcher *prefetcher, uint32_t step, uint32_t head,
		const kvt_page_masses *row);
	/* Ranks pages. The caller adds those that are always kept (the first and the last 4). */
	void (*plan)(kvt_prefetcher *prefetcher, const kvt_plan_request *request, kvt_plan *plan);
} kvt_prefetcher_ops;

/* A prefetcher begins with its operations; an implementation embeds this first, and counts. */
struct kvt_prefetcher {
	const kvt_prefetcher_ops *ops;
	kvt_prefetcher_stats stats;
};

/* The spec says what ops need: with reads_keys, all shapes. */
static inline kvt_prefetcher *kvt_prefetcher_new(
	const kvt_prefetcher_ops *ops, const kvt_prefetcher_spec *spec)
{
	g_assert(!ops->reads_keys || (spec->group > 0 && spec->head_dim > 0));
	kvt_prefetcher *prefetcher = ops->create(spec);
	prefetcher->ops = ops;
	return prefetcher;
}

/* The id of the i-th page of `keys`. */
static inline uint32_t kvt_page_keys_id(const kvt_page_keys *keys, uint32_t i)
{
	return keys->pages ? keys->pages[i] : keys->first + i;
}

/* Every prefetcher, NULL-terminated. */
const kvt_prefetcher_ops *const *kvt_prefetcher_registry(void);

/* The prefetcher of that name, or an error with a suggestion. */
const kvt_prefetcher_ops *kvt_prefetcher_find(const char *name, GError **error);

#endif
