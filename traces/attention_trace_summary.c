/* attention_trace_summary.c: one pass over the rows of a layer. */
#include "traces/attention_trace_summary.h"

/* Marks the pages of a row in a bitmap; returns how many were not marked before. */
static uint64_t mark_pages(uint8_t *touched, uint64_t base, const kvt_attention_row *row)
{
	uint64_t fresh = 0;
	for (uint32_t i = 0; i < row->count; i++) {
		uint64_t bit = base + row->block[i];
		uint8_t mask = (uint8_t)(1u << bit % 8);
		fresh += (touched[bit / 8] & mask) == 0;
		touched[bit / 8] |= mask;
	}
	return fresh;
}

bool kvt_attention_layer_summarize(kvt_attention_layer *layer, kvt_attention_layer_summary *summary,
	kvt_progress *progress, uint64_t *rows_done, GError **error)
{
	const kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	uint64_t steps;
	const kvt_attention_step *step = kvt_attention_trace_steps(trace, &steps);
	uint64_t pages = step[steps - 1].position / header->block_tokens + 1, first;
	g_autofree uint8_t *touched = g_malloc0((pages * header->kv_heads + 7) / 8);
	kvt_attention_layer_summary s = { .blocks_least = UINT32_MAX, .mass_least = 1 };
	for (uint64_t i = 0; i < steps; i++) {
		for (uint32_t head = 0; head < header->kv_heads; head++) {
			kvt_attention_row row;
			if (!kvt_attention_layer_row(layer, i, head, &row, error))
				return false;
			double mass = 0;
			for (uint32_t j = 0; j < row.count; j++)
				mass += row.mass[j];
			s.rows++;
			s.accesses += row.count;
			s.blocks_least = MIN(s.blocks_least, row.count);
			s.blocks_most = MAX(s.blocks_most, row.count);
			s.mass_mean += mass;
			s.mass_least = MIN(s.mass_least, mass);
			s.pages_touched += mark_pages(touched, head * pages, &row);
		}
		*rows_done += header->kv_heads;
		if (progress != NULL)
			kvt_progress_update(progress, *rows_done);
	}
	s.mass_mean /= (double)s.rows;
	s.pages_present = header->kv_heads * kvt_attention_pages_present(header,
						     kvt_attention_layer_get_kind(layer),
						     step[steps - 1].position, &first);
	*summary = s;
	return true;
}
