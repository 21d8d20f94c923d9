/* plan_promise.c: promises of plans, and the trust in them. */
#include "sim/prefetch/plan_promise.h"

#include <string.h>

void kvt_promise_init(kvt_promise *promise, uint32_t max_pages)
{
	*promise = (kvt_promise){ .pages = g_new(uint32_t, max_pages), .trust = 1 };
}

void kvt_promise_clear(kvt_promise *promise)
{
	g_clear_pointer(&promise->pages, g_free);
}

void kvt_promise_make(kvt_promise *promise, const uint32_t *pages, uint32_t n, float mass)
{
	promise->n = n;
	promise->mass = mass;
	memcpy(promise->pages, pages, n * sizeof(*pages));
}

uint64_t kvt_promise_sum(const kvt_promise *promise, const uint32_t *share)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < promise->n; i++)
		sum += share[promise->pages[i]];
	return sum;
}

void kvt_promise_judge(kvt_promise *promise, float there)
{
	if (promise->n == 0)
		return;
	float kept = MIN(there / MAX(promise->mass, 0.01f), 1);
	promise->trust += (kept - promise->trust) / 8;
}
