/*
 * prefetcher.h: which pages to have in HBM before attention asks for them. A prefetcher is one
 * file and one line in the registry (prefetcher_registry.c). It is fed what has been computed
 * (observe) and asked for a ranked list (plan); it never sees the future, except `oracle`, which
 * says so.
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

/* What a plan may use: pages 0..n_present-1 exist. */
typedef struct kvt_plan_request {
	uint32_t step, head;
	uint32_t n_present;
	uint32_t budget;               /* pages, those always kept included */
	const kvt_page_masses *future; /* this step's true row; NULL unless sees_future */
} kvt_plan_request;

typedef struct kvt_prefetcher_ops {
	const char *name;
	const char *summary;
	gboolean sees_future;
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

struct kvt_prefetcher {
	const kvt_prefetcher_ops *ops;
};

const kvt_prefetcher_ops *const *kvt_prefetcher_registry(void);
const kvt_prefetcher_ops *kvt_prefetcher_find(const char *name, GError **error);

#endif
