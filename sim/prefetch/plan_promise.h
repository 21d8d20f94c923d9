/*
 * plan_promise.h: what a prefetcher's last plan thought that its selection holds, and how far such
 * promises have held once the query was known. It scores nothing and selects nothing.
 */
#ifndef KVT_PLAN_PROMISE_H
#define KVT_PLAN_PROMISE_H

#include <glib.h>
#include <stdint.h>

typedef struct kvt_promise {
	uint32_t n, *pages; /* the last plan's selection, [max_pages] */
	float mass;         /* share of the mass that it was thought to hold */
	float trust; /* share of what plans promise that is there a query later, smoothed; 1 at
			first */
} kvt_promise;

void kvt_promise_init(kvt_promise *promise, uint32_t max_pages);
void kvt_promise_clear(kvt_promise *promise);

/* A plan has selected pages[n] and thinks that they hold `mass`. */
void kvt_promise_make(kvt_promise *promise, const uint32_t *pages, uint32_t n, float mass);

/* The sum of share[], by page id, over the last selection. */
uint64_t kvt_promise_sum(const kvt_promise *promise, const uint32_t *share);

/* The last selection holds `there`, now that the query is known. Nothing where none was made. */
void kvt_promise_judge(kvt_promise *promise, float there);

#endif
