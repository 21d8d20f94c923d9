/* attention_heat.c: sums of recorded mass in a grid of steps and pages. */
#include "traces/attention_heat.h"

#include "sim/base/error.h"

enum { CELLS_MAX = 1 << 26 };

void kvt_attention_heat_clear(kvt_attention_heat *heat)
{
	g_clear_pointer(&heat->mass, g_free);
}

/* Pages and bins are below 2^32: the products fit. */
uint64_t kvt_attention_heat_first_page(const kvt_attention_heat *heat, uint32_t bin)
{
	return heat->first_page + (bin * heat->pages + heat->bins - 1) / heat->bins;
}

static uint32_t bin_of(const kvt_attention_heat *heat, uint64_t page)
{
	return (uint32_t)((page - heat->first_page) * heat->bins / heat->pages);
}

static bool check_range(kvt_attention_layer *layer, const char *what, uint64_t first, uint64_t end,
	uint64_t count, GError **error)
{
	if (first < end && end <= count)
		return true;
	return kvt_error_at(error, kvt_attention_trace_path(kvt_attention_layer_trace(layer)), 0,
		"no %s %" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT
		", expected some of 0:%" G_GUINT64_FORMAT,
		what, first, end, count);
}

/* Puts ends where the view leaves them out, and refuses what was not recorded. */
static bool resolve(kvt_attention_layer *layer, kvt_attention_view *view, GError **error)
{
	kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	uint64_t recorded, first;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &recorded);
	view->end_step = view->end_step > 0 ? view->end_step : recorded;
	if (!check_range(layer, "steps", view->first_step, view->end_step, recorded, error))
		return false;
	uint64_t pages = kvt_attention_pages_present(header, kvt_attention_layer_get_kind(layer),
		steps[view->end_step - 1].position, &first);
	view->end_page = view->end_page > 0 ? view->end_page : first + pages;
	if (!check_range(layer, "pages", view->first_page, view->end_page, first + pages, error))
		return false;
	return view->kv_head == KVT_ATTENTION_HEAT_MEAN ||
	       check_range(layer, "KV heads", view->kv_head, (uint64_t)view->kv_head + 1,
		       header->kv_heads, error);
}

static bool add_step(kvt_attention_layer *layer, uint64_t step, uint32_t kv_head,
	kvt_attention_heat *heat, GError **error)
{
	const kvt_attention_header *header =
		kvt_attention_trace_header(kvt_attention_layer_trace(layer));
	bool mean = kv_head == KVT_ATTENTION_HEAT_MEAN;
	uint32_t first = mean ? 0 : kv_head, end = mean ? header->kv_heads : kv_head + 1;
	double *cells = &heat->mass[(step - heat->first_step) * heat->bins];
	for (uint32_t head = first; head < end; head++) {
		kvt_attention_row row;
		if (!kvt_attention_layer_row(layer, step, head, &row, error))
			return false;
		for (uint32_t i = 0; i < row.count; i++)
			if (row.block[i] >= heat->first_page &&
				row.block[i] - heat->first_page < heat->pages)
				cells[bin_of(heat, row.block[i])] +=
					(double)row.mass[i] / (end - first);
	}
	return true;
}

bool kvt_attention_heat_measure(kvt_attention_layer *layer, const kvt_attention_view *given,
	uint32_t bins, kvt_attention_heat *heat, GError **error)
{
	kvt_attention_view view = *given;
	if (!resolve(layer, &view, error))
		return false;
	*heat = (kvt_attention_heat){ .first_step = view.first_step,
		.steps = view.end_step - view.first_step,
		.first_page = view.first_page,
		.pages = view.end_page - view.first_page };
	heat->bins = (uint32_t)MIN(MAX(bins, 1), heat->pages);
	if (heat->steps > CELLS_MAX / heat->bins)
		return kvt_error_usage(error,
			"%" G_GUINT64_FORMAT " steps by %u bins are too many cells, expected at "
			"most %d",
			heat->steps, heat->bins, CELLS_MAX);
	heat->mass = g_new0(double, heat->steps * heat->bins);
	for (uint64_t step = view.first_step; step < view.end_step; step++)
		if (!add_step(layer, step, view.kv_head, heat, error)) {
			kvt_attention_heat_clear(heat);
			return false;
		}
	return true;
}
