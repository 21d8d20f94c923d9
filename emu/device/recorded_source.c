/* recorded_source.c: rows copied from the trace, keys and queries from the recording. */
#include "emu/device/recorded_source.h"

#include <string.h>

#include "sim/engine/replay_selection.h"
#include "sim/engine/replay_trace.h"

typedef struct recorded_source {
	kvt_replay_source base;
	const kvt_kv_recording *recording;
	kvt_attention_trace *trace;
	kvt_replay_source *of_trace;
	uint64_t first_step;
	kvt_replay_row *rows; /* [step][layer][head]; their arrays are owned */
} recorded_source;

static size_t row_index(
	const kvt_replay_source *source, uint32_t step, uint32_t layer, uint32_t head)
{
	return ((size_t)step * source->n_layers + layer) * source->n_heads + head;
}

static kvt_replay_present present(const kvt_replay_source *base, uint32_t step, uint32_t layer)
{
	const recorded_source *source = (const recorded_source *)base;
	return source->of_trace->present(source->of_trace, step, layer);
}

static bool row(kvt_replay_source *base, uint32_t step, uint32_t layer, uint32_t head,
	uint32_t wanted, kvt_replay_row *out, GError **error)
{
	*out = ((recorded_source *)base)->rows[row_index(base, step, layer, head)];
	return true;
}

static bool has_keys(const kvt_replay_source *base, uint32_t layer)
{
	return true;
}

static bool keys(kvt_replay_source *base, uint32_t layer, uint32_t head, uint32_t first,
	uint32_t n_pages, uint16_t *out, GError **error)
{
	const kvt_kv_recording *r = ((recorded_source *)base)->recording;
	uint64_t token = head * r->n_tokens + (uint64_t)first * r->block_tokens;
	memcpy(out, r->keys[layer] + token * r->head_dim,
		(size_t)n_pages * r->block_tokens * r->head_dim * sizeof(*out));
	return true;
}

static bool queries(
	kvt_replay_source *base, uint32_t step, uint32_t layer, float *out, GError **error)
{
	const recorded_source *source = (const recorded_source *)base;
	const kvt_kv_recording *r = source->recording;
	size_t n = (size_t)r->kv_heads * r->heads * r->head_dim;
	memcpy(out, r->queries[layer] + (source->first_step + step) * n, n * sizeof(*out));
	return true;
}

static bool copy_rows(recorded_source *source, double budget, GError **error)
{
	kvt_replay_source *base = &source->base, *from = source->of_trace;
	source->rows = g_new0(kvt_replay_row, row_index(base, base->n_steps, 0, 0));
	for (uint32_t step = 0; step < base->n_steps; step++)
		for (uint32_t i = 0; i < base->n_layers * base->n_heads; i++) {
			uint32_t layer = i / base->n_heads, head = i % base->n_heads;
			kvt_replay_present exist = from->present(from, step, layer);
			uint32_t wanted = kvt_replay_budget_pages(budget, exist.end - exist.first);
			kvt_replay_row read;
			if (!from->row(from, step, layer, head, wanted, &read, error))
				return false;
			source->rows[row_index(base, step, layer, head)] = (kvt_replay_row){
				.n = read.n,
				.pages = g_memdup2(read.pages, read.n * sizeof(*read.pages)),
				.mass = g_memdup2(read.mass, read.n * sizeof(*read.mass)),
			};
		}
	return true;
}

kvt_replay_source *kvt_recorded_source_new(const kvt_kv_recording *recording, uint64_t first,
	uint64_t end, double budget, GError **error)
{
	recorded_source *source = g_new0(recorded_source, 1);
	kvt_replay_trace_spec spec = {
		.layer = -1, .first_step = first, .end_step = end, .masses = KVT_REPLAY_MASSES_AUTO
	};
	source->recording = recording;
	source->first_step = first;
	source->trace = kvt_attention_trace_open(recording->path, error);
	if (source->trace)
		source->of_trace = kvt_replay_trace_new(source->trace, &spec, error);
	if (!source->of_trace) {
		kvt_recorded_source_free(&source->base);
		return NULL;
	}
	source->base = *source->of_trace;
	source->base.present = present;
	source->base.row = row;
	source->base.has_keys = has_keys;
	source->base.keys = keys;
	source->base.queries = queries;
	if (!copy_rows(source, budget, error)) {
		kvt_recorded_source_free(&source->base);
		return NULL;
	}
	return &source->base;
}

void kvt_recorded_source_free(kvt_replay_source *base)
{
	recorded_source *source = (recorded_source *)base;
	if (!source)
		return;
	size_t n = source->rows ? row_index(base, base->n_steps, 0, 0) : 0;
	for (size_t i = 0; i < n; i++) {
		g_free((gpointer)source->rows[i].pages);
		g_free((gpointer)source->rows[i].mass);
	}
	g_free(source->rows);
	kvt_replay_trace_free(source->of_trace);
	kvt_attention_trace_close(source->trace);
	g_free(source);
}
