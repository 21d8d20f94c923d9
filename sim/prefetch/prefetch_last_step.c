/*
 * prefetch_last_step.c: the pages that had the most mass at the head's last step. Strong where
 * attention moves slowly; under budgeted attention it only knows what it selected itself, so it
 * never finds a page that it had dropped.
 */
#include "sim/prefetch/prefetcher.h"
#include "sim/prefetch/top_pages.h"

typedef struct last_row {
	uint32_t n;
	uint32_t *pages, *mass; /* rising by page */
} last_row;

typedef struct last_step {
	kvt_prefetcher base;
	uint32_t n_heads;
	last_row *rows; /* one a head */
	uint64_t *scratch;
} last_step;

static kvt_prefetcher *last_step_create(const kvt_prefetcher_spec *spec)
{
	last_step *prefetcher = g_new0(last_step, 1);
	prefetcher->n_heads = spec->n_heads;
	prefetcher->rows = g_new0(last_row, spec->n_heads);
	for (uint32_t head = 0; head < spec->n_heads; head++) {
		prefetcher->rows[head].pages = g_new(uint32_t, spec->max_pages);
		prefetcher->rows[head].mass = g_new(uint32_t, spec->max_pages);
	}
	prefetcher->scratch = g_new(uint64_t, 2 * (size_t)spec->max_pages + 1);
	return &prefetcher->base;
}

static void last_step_free(kvt_prefetcher *base)
{
	last_step *prefetcher = (last_step *)base;
	for (uint32_t head = 0; head < prefetcher->n_heads; head++) {
		g_free(prefetcher->rows[head].pages);
		g_free(prefetcher->rows[head].mass);
	}
	g_free(prefetcher->rows);
	g_free(prefetcher->scratch);
	g_free(prefetcher);
}

static void last_step_observe(
	kvt_prefetcher *base, uint32_t step, uint32_t head, const kvt_page_masses *row)
{
	last_row *last = &((last_step *)base)->rows[head];
	last->n = row->n;
	for (uint32_t i = 0; i < row->n; i++) {
		last->pages[i] = row->pages[i];
		last->mass[i] = kvt_mass_quantise(row->mass[i]);
	}
}

static void last_step_plan(kvt_prefetcher *base, const kvt_plan_request *request, kvt_plan *plan)
{
	last_step *prefetcher = (last_step *)base;
	const last_row *last = &prefetcher->rows[request->head];
	plan->n = kvt_top_pages(last->pages, last->mass, last->n, request->budget, plan->pages,
		prefetcher->scratch);
}

const kvt_prefetcher_ops kvt_prefetcher_last_step = {
	.name = "last-step",
	.summary = "the pages of most mass at the head's last step",
	.create = last_step_create,
	.free = last_step_free,
	.observe = last_step_observe,
	.plan = last_step_plan,
};
