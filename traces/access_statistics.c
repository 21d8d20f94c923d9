/* access_statistics.c: oracle, persistence, recency and spread of recorded or grown access rows. It
 * recomputes no masses. */
#include "traces/access_statistics.h"

#include <string.h>

#include "sim/base/error.h"
#include "traces/attention_mass.h"

enum { RECENT_PAGES = 64 };

const double kvt_access_budgets[KVT_ACCESS_BUDGETS] = { 0.01, 0.02, 0.05, 0.1 };

/* The second of the budgets is the one whose pages' overlap is measured. */
enum { OVERLAP_BUDGET = 1 };

/* The row of one KV head, a step earlier. */
typedef struct previous_row {
	uint32_t *block;
	uint32_t count, room;
} previous_row;

typedef struct measurement {
	uint64_t pages;         /* present at the step */
	float *mass;            /* [all pages], of the row at hand, else 0 */
	uint32_t *rank;         /* [all pages], 1 for the row's first page; 0: not in it */
	uint8_t *touched;       /* [all pages] */
	previous_row *previous; /* [kv_heads] */
	kvt_access_statistics sum;
} measurement;

/* Whether every budget keeps the page. */
static bool is_kept(const measurement *m, uint32_t page)
{
	return page == 0 || page + (uint64_t)KVT_ATTENTION_BUDGET_LAST >= m->pages;
}

/* Adds the mass of the kept pages and of the first others in `block`, to each budget's sum. */
static void add_budgets(const measurement *m, const uint32_t *block, uint32_t count, double sums[])
{
	double kept = (double)m->mass[0];
	for (uint64_t page =
			MAX(m->pages, KVT_ATTENTION_BUDGET_LAST + 1) - KVT_ATTENTION_BUDGET_LAST;
		page < m->pages; page++)
		kept += (double)m->mass[page];
	uint64_t taken = KVT_ATTENTION_BUDGET_FIRST + KVT_ATTENTION_BUDGET_LAST;
	uint32_t next = 0;
	for (unsigned i = 0; i < KVT_ACCESS_BUDGETS; i++) {
		uint64_t budget = kvt_attention_budget_pages(kvt_access_budgets[i], m->pages);
		for (; next < count && taken < budget; next++)
			if (!is_kept(m, block[next])) {
				kept += (double)m->mass[block[next]];
				taken++;
			}
		sums[i] += kept;
	}
}

/* Share of the first `top` pages of the row at hand that were among the first `top` before. */
static double overlap(const measurement *m, const kvt_attention_row *row, const previous_row *last)
{
	uint64_t top = kvt_attention_budget_pages(kvt_access_budgets[OVERLAP_BUDGET], m->pages);
	uint64_t both = 0;
	top = MIN(top, row->count);
	for (uint64_t i = 0; i < MIN(top, last->count); i++)
		both += m->rank[last->block[i]] > 0 && m->rank[last->block[i]] <= top;
	return top > 0 ? (double)both / (double)top : 0;
}

static void add_row(measurement *m, const kvt_attention_row *row, previous_row *last, bool follows)
{
	for (uint32_t i = 0; i < row->count; i++) {
		uint32_t page = row->block[i];
		m->mass[page] = row->mass[i];
		m->rank[page] = i + 1;
		m->touched[page] = 1;
		m->sum.covered += (double)row->mass[i];
		if (page + (uint64_t)RECENT_PAGES >= m->pages)
			m->sum.recent += (double)row->mass[i];
	}
	m->sum.first += (double)m->mass[0];
	add_budgets(m, row->block, row->count, m->sum.oracle);
	if (follows) {
		add_budgets(m, last->block, last->count, m->sum.last_step);
		m->sum.overlap += overlap(m, row, last);
	}
	for (uint32_t i = 0; i < row->count; i++) {
		m->mass[row->block[i]] = 0;
		m->rank[row->block[i]] = 0;
	}
	if (row->count > last->room) {
		last->room = row->count;
		last->block = g_renew(uint32_t, last->block, last->room);
	}
	if (row->count > 0)
		memcpy(last->block, row->block, row->count * sizeof(uint32_t));
	last->count = row->count;
}

static bool add_rows(measurement *m, kvt_attention_layer *layer, uint64_t first_step,
	uint64_t end_step, GError **error)
{
	kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &(uint64_t){ 0 });
	for (uint64_t s = first_step; s < end_step; s++) {
		m->pages = steps[s].position / header->block_tokens + 1;
		for (uint32_t head = 0; head < header->kv_heads; head++) {
			kvt_attention_row row;
			if (!kvt_attention_layer_row(layer, s, head, &row, error))
				return false;
			add_row(m, &row, &m->previous[head], s > first_step);
		}
	}
	return true;
}

static void finish(measurement *m, double rows, double following, kvt_access_statistics *result)
{
	uint64_t touched = 0;
	for (uint64_t page = 0; page < m->pages; page++)
		touched += m->touched[page];
	*result = m->sum;
	for (unsigned i = 0; i < KVT_ACCESS_BUDGETS; i++) {
		result->oracle[i] /= rows;
		result->last_step[i] /= following;
	}
	result->overlap /= following;
	result->recent /= rows;
	result->first /= rows;
	result->covered /= rows;
	result->distinct = (double)touched / (double)m->pages;
}

bool kvt_access_statistics_measure(kvt_attention_layer *layer, uint64_t first_step,
	uint64_t end_step, kvt_access_statistics *statistics, GError **error)
{
	kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	uint64_t steps;
	const kvt_attention_step *last = kvt_attention_trace_steps(trace, &steps);
	end_step = end_step == 0 ? steps : end_step;
	if (end_step > steps || end_step < first_step + 2)
		return kvt_error_usage(error,
			"%s: steps %" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT
			", expected at least two within 0:%" G_GUINT64_FORMAT,
			kvt_attention_trace_path(trace), first_step, end_step, steps);
	uint64_t pages = last[end_step - 1].position / header->block_tokens + 1;
	measurement m = {
		.mass = g_new0(float, pages),
		.rank = g_new0(uint32_t, pages),
		.touched = g_new0(uint8_t, pages),
		.previous = g_new0(previous_row, header->kv_heads),
	};
	bool good = add_rows(&m, layer, first_step, end_step, error);
	uint64_t steps_done = end_step - first_step;
	if (good)
		finish(&m, (double)(steps_done * header->kv_heads),
			(double)((steps_done - 1) * header->kv_heads), statistics);
	for (uint32_t head = 0; head < header->kv_heads; head++)
		g_free(m.previous[head].block);
	g_free(m.previous);
	g_free(m.touched);
	g_free(m.rank);
	g_free(m.mass);
	return good;
}
