/* kv_recording.c: a trace's tensors, layer by layer. */
#include "emu/device/kv_recording.h"

#include "sim/base/error.h"
#include "traces/attention_trace.h"

static bool check_layer(const kvt_attention_layer *layer, GError **error)
{
	const char *path = kvt_attention_trace_path(kvt_attention_layer_trace(layer));
	unsigned number = kvt_attention_layer_number(layer);
	if (kvt_attention_layer_get_kind(layer) != KVT_TRACE_LAYER_GLOBAL)
		return kvt_error_usage(error,
			"%s: layer %u attends within chunks, expected global layers only "
			"(\"kvtier trace cut --layers\" makes a trace of some)",
			path, number);
	const char *lacks = !kvt_attention_layer_has_keys(layer)      ? "keys"
			    : !kvt_attention_layer_has_values(layer)  ? "values"
			    : !kvt_attention_layer_has_queries(layer) ? "queries"
								      : NULL;
	return !lacks || kvt_error_usage(error,
				 "%s: layer %u has no %s, expected recorded keys, values and "
				 "queries (\"kvtier trace cut --layers\" makes a trace of the "
				 "layers that have them)",
				 path, number, lacks);
}

static bool read_layer(
	kvt_kv_recording *recording, kvt_attention_trace *trace, uint32_t index, GError **error)
{
	g_autoptr(kvt_attention_layer) layer =
		kvt_attention_layer_open(trace, recording->layers[index], 0, error);
	if (!layer || !check_layer(layer, error))
		return false;
	size_t head = recording->n_tokens * recording->head_dim;
	size_t step = (size_t)recording->kv_heads * recording->heads * recording->head_dim;
	uint16_t *keys = g_new(uint16_t, recording->kv_heads * head);
	uint16_t *values = g_new(uint16_t, recording->kv_heads * head);
	float *queries = g_new(float, recording->n_steps *step);
	recording->keys[index] = keys;
	recording->values[index] = values;
	recording->queries[index] = queries;
	for (uint32_t i = 0; i < recording->kv_heads; i++)
		if (!kvt_attention_layer_keys_half(
			    layer, i, 0, recording->n_tokens, keys + i * head, error) ||
			!kvt_attention_layer_values_half(
				layer, i, 0, recording->n_tokens, values + i * head, error))
			return false;
	for (uint64_t i = 0; i < recording->n_steps; i++)
		if (!kvt_attention_layer_queries(layer, i, queries + i * step, error))
			return false;
	return true;
}

kvt_kv_recording *kvt_kv_recording_open(const char *path, GError **error)
{
	g_autoptr(kvt_attention_trace) trace = kvt_attention_trace_open(path, error);
	if (!trace)
		return NULL;
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	g_autoptr(kvt_kv_recording) recording = g_new0(kvt_kv_recording, 1);
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &recording->n_steps);
	const uint32_t *layers = kvt_attention_trace_layers(trace, &recording->n_layers);
	recording->path = g_strdup(path);
	recording->model = g_strdup(header->model);
	recording->layers = g_memdup2(layers, recording->n_layers * sizeof(*layers));
	recording->kv_heads = header->kv_heads;
	recording->heads = header->query_heads / header->kv_heads;
	recording->head_dim = header->head_dim;
	recording->block_tokens = header->block_tokens;
	recording->scale = header->softmax_scale;
	recording->n_tokens = steps[recording->n_steps - 1].position + 1;
	recording->positions = g_new(uint64_t, recording->n_steps);
	for (uint64_t i = 0; i < recording->n_steps; i++)
		recording->positions[i] = steps[i].position;
	recording->keys = g_new0(uint16_t *, recording->n_layers);
	recording->values = g_new0(uint16_t *, recording->n_layers);
	recording->queries = g_new0(float *, recording->n_layers);
	for (uint32_t i = 0; i < recording->n_layers; i++)
		if (!read_layer(recording, trace, i, error))
			return NULL;
	return g_steal_pointer(&recording);
}

void kvt_kv_recording_free(kvt_kv_recording *recording)
{
	if (!recording)
		return;
	for (uint32_t i = 0; recording->queries && i < recording->n_layers; i++) {
		g_free(recording->keys[i]);
		g_free(recording->values[i]);
		g_free(recording->queries[i]);
	}
	g_free(recording->keys);
	g_free(recording->values);
	g_free(recording->queries);
	g_free(recording->positions);
	g_free(recording->layers);
	g_free(recording->model);
	g_free(recording->path);
	g_free(recording);
}
