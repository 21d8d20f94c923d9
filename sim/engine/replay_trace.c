/* replay_trace.c: rows of a recorded trace, recomputed where they are too short. */
#include "sim/engine/replay_trace.h"

#include <time.h>

#include "sim/base/error.h"
#include "traces/attention_mass.h"

const char *const kvt_replay_masses_names[] = { "auto", "recorded", "recomputed", NULL };

typedef struct trace_layer {
	kvt_attention_layer *layer;
	kvt_attention_mass_stream *stream; /* made when it is first needed */
} trace_layer;

typedef struct trace_source {
	kvt_replay_source base;
	kvt_attention_trace *trace;
	const kvt_attention_header *header;
	const kvt_attention_step *steps;
	uint64_t first_step;
	int masses;
	trace_layer *layers;
	uint32_t *numbers;
	uint32_t *pages; /* of a recomputed row, [n_pages]; made when it is first needed */
	kvt_replay_trace_stats stats;
} trace_source;

static kvt_replay_present present(const kvt_replay_source *base, uint32_t step, uint32_t layer)
{
	const trace_source *source = (const trace_source *)base;
	const kvt_attention_step *recorded = &source->steps[source->first_step + step];
	uint64_t position = recorded->position, first;
	uint64_t count = kvt_attention_pages_present(source->header,
		kvt_attention_layer_get_kind(source->layers[layer].layer), position, &first);
	return (kvt_replay_present){ .first = (uint32_t)first,
		.end = (uint32_t)(first + count),
		.closed = (position + 1) % source->header->block_tokens == 0,
		.prompt = recorded->kind == KVT_TRACE_STEP_PROMPT };
}

static bool can_recompute(const kvt_attention_layer *layer)
{
	return kvt_attention_layer_has_queries(layer) && kvt_attention_layer_has_keys(layer);
}

static bool recompute(trace_source *source, uint32_t step, uint32_t layer, uint32_t head,
	const kvt_replay_present *exist, kvt_replay_row *row, GError **error)
{
	trace_layer *recorded = &source->layers[layer];
	if (!recorded->stream)
		recorded->stream = kvt_attention_mass_stream_new(recorded->layer, 1, 0);
	row->n = exist->end - exist->first;
	row->mass = kvt_attention_mass_stream_get(
		recorded->stream, source->first_step + step, head, error);
	if (!source->pages)
		source->pages = g_new(uint32_t, source->base.n_pages);
	for (uint32_t i = 0; i < row->n; i++)
		source->pages[i] = exist->first + i;
	row->pages = source->pages;
	source->stats.recomputed++;
	return row->mass != NULL;
}

static bool read_row(trace_source *source, uint32_t step, uint32_t layer, uint32_t head,
	uint32_t wanted, kvt_replay_row *row, GError **error)
{
	kvt_attention_layer *recorded = source->layers[layer].layer;
	kvt_replay_present exist = present(&source->base, step, layer);
	if (source->masses == KVT_REPLAY_MASSES_RECOMPUTED)
		return recompute(source, step, layer, head, &exist, row, error);
	uint32_t count = kvt_attention_layer_row_count(recorded, source->first_step + step, head);
	if (count < MIN(wanted, exist.end - exist.first)) {
		if (source->masses == KVT_REPLAY_MASSES_AUTO && can_recompute(recorded))
			return recompute(source, step, layer, head, &exist, row, error);
		source->stats.too_short++;
	}
	kvt_attention_row found;
	if (!kvt_attention_layer_row(recorded, source->first_step + step, head, &found, error))
		return false;
	*row = (kvt_replay_row){ .n = found.count, .pages = found.block, .mass = found.mass };
	return true;
}

static double processor_seconds(void)
{
	struct timespec time;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static bool row(kvt_replay_source *base, uint32_t step, uint32_t layer, uint32_t head,
	uint32_t wanted, kvt_replay_row *out, GError **error)
{
	trace_source *source = (trace_source *)base;
	gint64 began = g_get_monotonic_time();
	double processor_began = processor_seconds();
	bool read = read_row(source, step, layer, head, wanted, out, error);
	source->stats.seconds += (double)(g_get_monotonic_time() - began) * 1e-6;
	source->stats.processor_seconds += processor_seconds() - processor_began;
	source->stats.rows++;
	return read;
}

static bool has_keys(const kvt_replay_source *base, uint32_t layer)
{
	return can_recompute(((const trace_source *)base)->layers[layer].layer);
}

static bool keys(kvt_replay_source *base, uint32_t layer, uint32_t head, uint32_t first,
	uint32_t n_pages, uint16_t *out, GError **error)
{
	trace_source *source = (trace_source *)base;
	uint64_t tokens = source->header->block_tokens;
	return kvt_attention_layer_keys_half(
		source->layers[layer].layer, head, first * tokens, n_pages * tokens, out, error);
}

static bool queries(
	kvt_replay_source *base, uint32_t step, uint32_t layer, float *out, GError **error)
{
	trace_source *source = (trace_source *)base;
	return kvt_attention_layer_queries(
		source->layers[layer].layer, source->first_step + step, out, error);
}

static gboolean open_layers(trace_source *source, int64_t wanted, GError **error)
{
	uint32_t n;
	const uint32_t *recorded = kvt_attention_trace_layers(source->trace, &n);
	source->layers = g_new0(trace_layer, n);
	source->numbers = g_new0(uint32_t, n);
	for (uint32_t i = 0; i < (wanted >= 0 ? 1 : n); i++) {
		uint32_t number = wanted >= 0 ? (uint32_t)wanted : recorded[i];
		source->layers[i].layer = kvt_attention_layer_open(source->trace, number, 0, error);
		if (!source->layers[i].layer)
			return FALSE;
		source->base.n_layers++;
		source->numbers[i] = number;
		if (source->masses == KVT_REPLAY_MASSES_RECOMPUTED &&
			!can_recompute(source->layers[i].layer))
			return kvt_error_usage(error,
				"%s: layer %u has no queries or keys to recompute masses from, "
				"expected recorded masses",
				kvt_attention_trace_path(source->trace), number);
	}
	return TRUE;
}

kvt_replay_source *kvt_replay_trace_new(
	kvt_attention_trace *trace, const kvt_replay_trace_spec *spec, GError **error)
{
	uint64_t n_steps;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &n_steps);
	uint64_t end = spec->end_step > 0 ? spec->end_step : n_steps;
	if (spec->first_step >= end || end > n_steps) {
		kvt_error_usage(error,
			"%s: steps %" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT
			": out of range, expected a range within 0:%" G_GUINT64_FORMAT,
			kvt_attention_trace_path(trace), spec->first_step, end, n_steps);
		return NULL;
	}
	trace_source *source = g_new0(trace_source, 1);
	source->trace = trace;
	source->header = kvt_attention_trace_header(trace);
	source->steps = steps;
	source->first_step = spec->first_step;
	source->masses = spec->masses;
	source->base.n_steps = (uint32_t)(end - spec->first_step);
	source->base.n_heads = source->header->kv_heads;
	source->base.n_pages =
		(uint32_t)(steps[end - 1].position / source->header->block_tokens) + 1;
	source->base.present = present;
	source->base.row = row;
	source->base.group = source->header->query_heads / source->header->kv_heads;
	source->base.head_dim = source->header->head_dim;
	source->base.block_tokens = source->header->block_tokens;
	source->base.scale = source->header->softmax_scale;
	source->base.has_keys = has_keys;
	source->base.keys = keys;
	source->base.queries = queries;
	if (!open_layers(source, spec->layer, error)) {
		kvt_replay_trace_free(&source->base);
		return NULL;
	}
	source->base.layer_numbers = source->numbers;
	return &source->base;
}

void kvt_replay_trace_free(kvt_replay_source *base)
{
	trace_source *source = (trace_source *)base;
	if (!source)
		return;
	for (uint32_t i = 0; i < base->n_layers; i++) {
		kvt_attention_mass_stream_free(source->layers[i].stream);
		kvt_attention_layer_close(source->layers[i].layer);
	}
	g_free(source->layers);
	g_free(source->numbers);
	g_free(source->pages);
	g_free(source);
}

uint64_t kvt_replay_trace_first_step(const kvt_replay_source *source)
{
	return ((const trace_source *)source)->first_step;
}

kvt_replay_trace_stats kvt_replay_trace_get_stats(const kvt_replay_source *source)
{
	return ((const trace_source *)source)->stats;
}
