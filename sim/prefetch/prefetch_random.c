/* prefetch_random.c: any pages at all, others at every step: the control that says how much of a
 * prefetcher's mass is the budget's. */
#include <string.h>

#include "sim/base/rng.h"
#include "sim/prefetch/prefetcher.h"

typedef struct random_prefetcher {
	kvt_prefetcher base;
	uint64_t seed;
	uint8_t *taken; /* [max_pages], all 0 between plans */
} random_prefetcher;

static kvt_prefetcher *random_create(const kvt_prefetcher_spec *spec)
{
	random_prefetcher *prefetcher = g_new0(random_prefetcher, 1);
	prefetcher->seed = spec->seed;
	prefetcher->taken = g_new0(uint8_t, spec->max_pages);
	return &prefetcher->base;
}

static void random_free(kvt_prefetcher *base)
{
	random_prefetcher *prefetcher = (random_prefetcher *)base;
	g_free(prefetcher->taken);
	g_free(prefetcher);
}

static void random_observe(
	kvt_prefetcher *prefetcher, uint32_t step, uint32_t head, const kvt_page_masses *row)
{
}

/* A sample without repetition (Floyd's), every set of pages as likely as any other. */
static void random_plan(kvt_prefetcher *base, const kvt_plan_request *request, kvt_plan *plan)
{
	random_prefetcher *prefetcher = (random_prefetcher *)base;
	uint64_t stream = kvt_rng_stream_id("prefetch.random", request->head);
	kvt_rng rng = kvt_rng_init(prefetcher->seed ^ (uint64_t)request->step << 32, stream);
	uint32_t n = request->n_present - request->first_present;
	for (uint32_t last = n - MIN(request->budget, n); last < n; last++) {
		uint32_t page = request->first_present + (uint32_t)kvt_rng_below(&rng, last + 1);
		if (prefetcher->taken[page])
			page = request->first_present + last;
		prefetcher->taken[page] = 1;
		plan->pages[plan->n++] = page;
	}
	for (uint32_t i = 0; i < plan->n; i++)
		prefetcher->taken[plan->pages[i]] = 0;
}

const kvt_prefetcher_ops kvt_prefetcher_random = {
	.name = "random",
	.summary = "any pages, others at every step: a control",
	.create = random_create,
	.free = random_free,
	.observe = random_observe,
	.plan = random_plan,
};
