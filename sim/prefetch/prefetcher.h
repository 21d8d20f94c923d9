/*
 * prefetcher.h: which pages to have in HBM before attention asks for them. A prefetcher is fed what
 * has been computed (observe) and asked for a ranked list (plan); it moves nothing, and it never
 * sees the future, except `oracle`, which says so. There is one object a layer.
 *
 * Adding a prefetcher NAME:
 *   1. Write sim/prefetch/prefetch_NAME.c with `const kvt_prefetcher_ops kvt_prefetcher_NAME`
 *      (with '_' for '-' in the name); prefetch_last_step.c is the example. The build finds it.
 *   2. Add X(NAME) to the list in prefetcher_registry.c. That is the one line: `--prefetch NAME`,
 *      its help and the tests of every prefetcher (tests/unit/test_prefetcher.c) follow from it.
 */
#ifndef KVT_PREFETCHER_H
#define KVT_PREFETCHER_H

#include <glib.h>
#include <stdint.h>

typedef struct kvt_prefetcher kvt_prefetcher;

/* The attention of one step, layer and KV head over pages: ids and shares of the mass (the mean
 * over the group's query heads), sorted by page id. What was not attended is not in it. */
typedef struct kvt_page_masses {
	uint32_t n;
	const uint32_t *pages;
	const float *mass;
} kvt_page_masses;

/* What a plan may use: pages 0 .. n_present - 1 exist, and those from first_present on can be
 * attended to (in a layer of local chunks the earlier ones cannot). The caller drops earlier ones
 * from a plan; one that does not exist is a broken invariant. */
typedef struct kvt_plan_request {
	uint32_t step, head;
	uint32_t first_present, n_present;
	uint32_t budget;               /* pages, those always kept included; <= n_present */
	const kvt_page_masses *future; /* this step's true row; NULL unless sees_future */
} kvt_plan_request;

typedef struct kvt_prefetcher_ops {
	const char *name;
	const char *summary;
	gboolean sees_future;
	/* An object that begins with a kvt_prefetcher; kvt_prefetcher_new fills that in. Heads are
	 * below n_heads, page ids below max_pages. */
	kvt_prefetcher *(*create)(uint32_t n_heads, uint32_t max_pages);
	void (*free)(kvt_prefetcher *prefetcher);
	/* What attention found at a step, pages that were attended only. */
	void (*observe)(kvt_prefetcher *prefetcher, uint32_t step, uint32_t head,
		const kvt_page_masses *row);
	/* Writes at most request->budget distinct page ids, best first, to `pages`; returns how
	 * many. The caller adds the pages that are always kept (the first and the last 4). */
	uint32_t (*plan)(
		kvt_prefetcher *prefetcher, const kvt_plan_request *request, uint32_t *pages);
} kvt_prefetcher_ops;

/* A prefetcher begins with its operations; an implementation embeds this first. */
struct kvt_prefetcher {
	const kvt_prefetcher_ops *ops;
};

static inline kvt_prefetcher *kvt_prefetcher_new(
	const kvt_prefetcher_ops *ops, uint32_t n_heads, uint32_t max_pages)
{
	kvt_prefetcher *prefetcher = ops->create(n_heads, max_pages);
	prefetcher->ops = ops;
	return prefetcher;
}

/* Every prefetcher, NULL-terminated. */

const kvt_prefetcher_ops *const *kvt_prefetcher_registry(void);

/* The prefetcher of that name, or an error with a suggestion. */
const kvt_prefetcher_ops *kvt_prefetcher_find(const char *name, GError **error);

#endif
