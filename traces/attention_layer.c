/* attention_layer.c: streams one layer of an attention trace: access rows, checked as they come
 * in, and the recorded queries, keys and values. The file and its header are attention_trace.c. */
#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "traces/attention_rules.h"
#include "traces/attention_trace.h"
#include "traces/attention_trace_private.h"
#include "traces/half_float.h"

enum {
	DEFAULT_MEMORY = 64 << 20,
	CONVERT_HALVES = 1 << 15, /* halves converted at a time: 64 KiB, in cache */
};

/* A window of consecutive rows, decoded. */
typedef struct row_window {
	uint64_t first, end; /* rows in it */
	uint64_t capacity;   /* pairs */
	uint32_t *block;
	float *mass;
	uint16_t *half;
} row_window;

typedef struct query_window {
	uint64_t first, end, capacity; /* steps */
	uint16_t *half;
} query_window;

struct kvt_attention_layer {
	kvt_attention_trace *trace;
	uint32_t number;
	kvt_attention_layer_kind kind;
	size_t memory;
	kvt_attention_datasets datasets;
	uint64_t *offsets; /* [rows + 1] */
	uint64_t rows;
	row_window window;
	query_window queries;
	kvt_synthetic_keys synthetic; /* read on first use; values NULL until then */
	kvt_attention_row_checker *checker;
};

static bool open_one(const kvt_attention_trace *trace, hid_t group, const char *prefix,
	const char *name, kvt_h5_type type, unsigned rank, kvt_h5_dataset *dataset, GError **error)
{
	g_autofree char *place = g_strdup_printf("%s/%s", prefix, name);
	return kvt_h5_dataset_open(&trace->file, group, place, name, type, rank, dataset, error);
}

static bool open_access(const kvt_attention_trace *trace, hid_t group, const char *prefix,
	kvt_attention_datasets *datasets, GError **error)
{
	g_autofree char *place = g_strdup_printf("%s/access", prefix);
	g_auto(kvt_h5_id) access = -1;
	if (!kvt_h5_group_open(&trace->file, group, place, "access", &access, error) ||
		!open_one(trace, access, place, "offsets", KVT_H5_UINT64, 1, &datasets->offsets,
			error) ||
		!open_one(
			trace, access, place, "block", KVT_H5_UINT32, 1, &datasets->block, error) ||
		!open_one(trace, access, place, "mass", KVT_H5_HALF, 1, &datasets->mass, error))
		return false;
	uint64_t offsets = trace->step_count * trace->header.kv_heads + 1;
	uint64_t pairs = datasets->block.dims[0];
	return kvt_h5_dataset_expect(&trace->file, &datasets->offsets, &offsets,
		       "steps x n_kv_heads + 1 =", error) &&
	       kvt_h5_dataset_expect(
		       &trace->file, &datasets->mass, &pairs, "as many as blocks,", error);
}

static bool open_tensor(const kvt_attention_trace *trace, hid_t group, const char *prefix,
	const char *name, const uint64_t *shape, const char *what, kvt_h5_dataset *dataset,
	GError **error)
{
	if (!kvt_h5_has(group, name))
		return true;
	return open_one(trace, group, prefix, name, KVT_H5_HALF, 3, dataset, error) &&
	       kvt_h5_dataset_expect(&trace->file, dataset, shape, what, error);
}

static bool open_synthetic(const kvt_attention_trace *trace, hid_t group, const char *prefix,
	kvt_attention_datasets *datasets, GError **error)
{
	if (!kvt_synthetic_datasets_open(trace, group, prefix, &datasets->synthetic, error))
		return false;
	if (datasets->synthetic.base.id <= 0 || datasets->keys.id <= 0)
		return true;
	g_autofree char *place = g_strdup_printf("%s/keys", prefix);
	return kvt_h5_error(&trace->file, place, error,
		"recorded and synthetic at once, expected one of the two");
}

static bool open_all(const kvt_attention_trace *trace, hid_t layers, uint32_t layer,
	kvt_attention_datasets *datasets, GError **error)
{
	const kvt_attention_header *header = &trace->header;
	g_autofree char *name = g_strdup_printf("%u", layer);
	g_autofree char *prefix = g_strdup_printf("layers/%u", layer);
	g_auto(kvt_h5_id) group = -1;
	uint64_t queries[] = { trace->step_count, header->query_heads, header->head_dim };
	uint64_t keys[] = { header->kv_heads, header->total_tokens, header->head_dim };
	const char *keys_are = "[n_kv_heads, total_tokens, head_dim] =";
	return kvt_h5_group_open(&trace->file, layers, prefix, name, &group, error) &&
	       open_access(trace, group, prefix, datasets, error) &&
	       open_tensor(trace, group, prefix, "queries", queries,
		       "[steps, n_q_heads, head_dim] =", &datasets->queries, error) &&
	       open_tensor(trace, group, prefix, "keys", keys, keys_are, &datasets->keys, error) &&
	       open_tensor(
		       trace, group, prefix, "values", keys, keys_are, &datasets->values, error) &&
	       open_synthetic(trace, group, prefix, datasets, error);
}

bool kvt_attention_datasets_open(const kvt_attention_trace *trace, uint32_t layer,
	kvt_attention_datasets *datasets, GError **error)
{
	*datasets = (kvt_attention_datasets){ 0 };
	g_auto(kvt_h5_id) layers = -1;
	if (kvt_h5_group_open(&trace->file, trace->file.id, "layers", "layers", &layers, error) &&
		open_all(trace, layers, layer, datasets, error))
		return true;
	kvt_attention_datasets_close(datasets);
	return false;
}

void kvt_attention_datasets_close(kvt_attention_datasets *datasets)
{
	kvt_h5_dataset_close(&datasets->offsets);
	kvt_h5_dataset_close(&datasets->block);
	kvt_h5_dataset_close(&datasets->mass);
	kvt_h5_dataset_close(&datasets->queries);
	kvt_h5_dataset_close(&datasets->keys);
	kvt_h5_dataset_close(&datasets->values);
	kvt_synthetic_datasets_close(&datasets->synthetic);
}

/* Pages present at the step of a row. */
static uint64_t pages_of_row(const kvt_attention_layer *layer, uint64_t row, uint64_t *first)
{
	const kvt_attention_trace *trace = layer->trace;
	return kvt_attention_pages_present(&trace->header, layer->kind,
		trace->steps[row / trace->header.kv_heads].position, first);
}

/* Reads the offsets; *longest becomes the length of the longest row. */
static bool read_offsets(kvt_attention_layer *layer, uint64_t *longest, GError **error)
{
	const kvt_h5_file *file = &layer->trace->file;
	const kvt_h5_dataset *dataset = &layer->datasets.offsets;
	uint64_t start = 0, count = dataset->dims[0], pairs = layer->datasets.block.dims[0];
	uint64_t *offsets = layer->offsets = g_new(uint64_t, count);
	layer->rows = count - 1;
	*longest = 0;
	if (!kvt_h5_dataset_read(file, dataset, &start, &count, offsets, error))
		return false;
	layer->trace->stats.bytes += count * sizeof *offsets;
	if (offsets[0] != 0)
		return kvt_h5_error(file, dataset->place, error,
			"first offset %" G_GUINT64_FORMAT ", expected 0", offsets[0]);
	for (uint64_t row = 0; row < layer->rows; row++) {
		if (offsets[row + 1] < offsets[row])
			return kvt_h5_error(file, dataset->place, error,
				"row %" G_GUINT64_FORMAT ": ends at %" G_GUINT64_FORMAT
				" before its start %" G_GUINT64_FORMAT
				", expected offsets that do not decrease",
				row, offsets[row + 1], offsets[row]);
		uint64_t first, present = pages_of_row(layer, row, &first);
		uint64_t length = offsets[row + 1] - offsets[row];
		if (offsets[row + 1] > pairs || length > present)
			return kvt_h5_error(file, dataset->place, error,
				"row %" G_GUINT64_FORMAT ": ends at %" G_GUINT64_FORMAT
				" with %" G_GUINT64_FORMAT
				" blocks, expected at most %" G_GUINT64_FORMAT
				" pairs and %" G_GUINT64_FORMAT " pages present",
				row, offsets[row + 1], length, pairs, present);
		*longest = MAX(*longest, length);
	}
	if (offsets[layer->rows] != pairs)
		return kvt_h5_error(file, dataset->place, error,
			"last offset %" G_GUINT64_FORMAT ", expected %" G_GUINT64_FORMAT
			", as many as blocks",
			offsets[layer->rows], pairs);
	return true;
}

static void allocate_windows(kvt_attention_layer *layer, uint64_t longest)
{
	const kvt_attention_header *header = &layer->trace->header;
	row_window *window = &layer->window;
	size_t pair = sizeof *window->block + sizeof *window->mass + sizeof *window->half;
	uint64_t capacity = MAX(layer->memory * 3 / 4 / pair, longest);
	window->capacity = MIN(capacity, layer->offsets[layer->rows]);
	window->block = g_new(uint32_t, window->capacity);
	window->mass = g_new(float, window->capacity);
	window->half = g_new(uint16_t, window->capacity);
	uint64_t step = (uint64_t)header->query_heads * header->head_dim * sizeof(uint16_t);
	layer->queries.capacity = CLAMP(layer->memory / 4 / step, 1, layer->trace->step_count);
}

static bool find_layer(const kvt_attention_trace *trace, uint32_t number, GError **error)
{
	g_autoptr(GString) recorded = g_string_new(NULL);
	for (uint32_t i = 0; i < trace->layer_count; i++) {
		if (trace->layers[i] == number)
			return true;
		g_string_append_printf(recorded, "%s%u", i > 0 ? ", " : "", trace->layers[i]);
	}
	return kvt_h5_error(&trace->file, "layers", error,
		"layer %u is not recorded, expected one of %s", number, recorded->str);
}

kvt_attention_layer *kvt_attention_layer_open(
	kvt_attention_trace *trace, uint32_t number, size_t memory, GError **error)
{
	if (!find_layer(trace, number, error))
		return NULL;
	KVT_H5_GUARDED;
	int64_t began = g_get_monotonic_time();
	g_autoptr(kvt_attention_layer) layer = g_new0(kvt_attention_layer, 1);
	layer->trace = trace;
	layer->number = number;
	layer->kind = trace->header.layer_kind[number];
	layer->memory = memory != 0 ? memory : DEFAULT_MEMORY;
	uint64_t longest;
	if (!kvt_attention_datasets_open(trace, number, &layer->datasets, error) ||
		!read_offsets(layer, &longest, error))
		return NULL;
	allocate_windows(layer, longest);
	layer->checker = kvt_attention_row_checker_new(&trace->header, layer->kind);
	trace->stats.seconds += (double)(g_get_monotonic_time() - began) * 1e-6;
	return g_steal_pointer(&layer);
}

void kvt_attention_layer_close(kvt_attention_layer *layer)
{
	if (layer == NULL)
		return;
	KVT_H5_GUARDED;
	kvt_attention_datasets_close(&layer->datasets);
	kvt_synthetic_keys_clear(&layer->synthetic);
	kvt_attention_row_checker_free(layer->checker);
	g_free(layer->offsets);
	g_free(layer->window.block);
	g_free(layer->window.mass);
	g_free(layer->window.half);
	g_free(layer->queries.half);
	g_free(layer);
}

kvt_attention_trace *kvt_attention_layer_trace(const kvt_attention_layer *layer)
{
	return layer->trace;
}

uint32_t kvt_attention_layer_number(const kvt_attention_layer *layer)
{
	return layer->number;
}

kvt_attention_layer_kind kvt_attention_layer_get_kind(const kvt_attention_layer *layer)
{
	return layer->kind;
}

bool kvt_attention_layer_has_queries(const kvt_attention_layer *layer)
{
	return layer->datasets.queries.id > 0;
}

bool kvt_attention_layer_has_keys(const kvt_attention_layer *layer)
{
	return layer->datasets.keys.id > 0 || layer->datasets.synthetic.base.id > 0;
}

bool kvt_attention_layer_has_synthetic_keys(const kvt_attention_layer *layer)
{
	return layer->datasets.synthetic.base.id > 0;
}

bool kvt_attention_layer_has_values(const kvt_attention_layer *layer)
{
	return layer->datasets.values.id > 0;
}

uint64_t kvt_attention_layer_accesses(const kvt_attention_layer *layer)
{
	return layer->offsets[layer->rows];
}

static uint64_t row_number(const kvt_attention_layer *layer, uint64_t step, uint32_t kv_head)
{
	g_assert(step < layer->trace->step_count && kv_head < layer->trace->header.kv_heads);
	return step * layer->trace->header.kv_heads + kv_head;
}

uint32_t kvt_attention_layer_row_count(
	const kvt_attention_layer *layer, uint64_t step, uint32_t kv_head)
{
	uint64_t row = row_number(layer, step, kv_head);
	return (uint32_t)(layer->offsets[row + 1] - layer->offsets[row]);
}

static bool check_window(kvt_attention_layer *layer, uint64_t first, uint64_t end, GError **error)
{
	const kvt_attention_trace *trace = layer->trace;
	const uint64_t *offsets = layer->offsets;
	for (uint64_t row = first; row < end; row++) {
		uint64_t at = offsets[row] - offsets[first];
		kvt_attention_row values = {
			.block = layer->window.block + at,
			.mass = layer->window.mass + at,
			.count = (uint32_t)(offsets[row + 1] - offsets[row]),
		};
		g_autofree char *problem = kvt_attention_row_check(layer->checker,
			trace->steps[row / trace->header.kv_heads].position, &values);
		if (problem != NULL) {
			g_autofree char *place = g_strdup_printf("layers/%u/access", layer->number);
			return kvt_h5_error(&trace->file, place, error,
				"row %" G_GUINT64_FORMAT ": %s", row, problem);
		}
	}
	return true;
}

/* Fills the window with as many rows from `first` as fit, and checks them. */
static bool load_rows(kvt_attention_layer *layer, uint64_t first, GError **error)
{
	KVT_H5_GUARDED;
	int64_t began = g_get_monotonic_time();
	kvt_attention_trace *trace = layer->trace;
	row_window *window = &layer->window;
	const uint64_t *offsets = layer->offsets;
	uint64_t end = first + 1;
	while (end < layer->rows && offsets[end + 1] - offsets[first] <= window->capacity)
		end++;
	uint64_t start = offsets[first], pairs = offsets[end] - start;
	window->first = window->end = 0;
	if (!kvt_h5_dataset_read(
		    &trace->file, &layer->datasets.block, &start, &pairs, window->block, error) ||
		!kvt_h5_dataset_read(
			&trace->file, &layer->datasets.mass, &start, &pairs, window->half, error))
		return false;
	kvt_half_to_float(window->half, window->mass, pairs);
	if (!check_window(layer, first, end, error))
		return false;
	window->first = first;
	window->end = end;
	trace->stats.bytes += pairs * (sizeof *window->block + sizeof *window->half);
	trace->stats.rows += end - first;
	trace->stats.accesses += pairs;
	trace->stats.seconds += (double)(g_get_monotonic_time() - began) * 1e-6;
	return true;
}

bool kvt_attention_layer_row(kvt_attention_layer *layer, uint64_t step, uint32_t kv_head,
	kvt_attention_row *row, GError **error)
{
	uint64_t number = row_number(layer, step, kv_head);
	row_window *window = &layer->window;
	if (number < window->first || number >= window->end) {
		if (!load_rows(layer, number, error))
			return false;
	}
	uint64_t at = layer->offsets[number] - layer->offsets[window->first];
	*row = (kvt_attention_row){
		.block = window->block + at,
		.mass = window->mass + at,
		.count = (uint32_t)(layer->offsets[number + 1] - layer->offsets[number]),
	};
	return true;
}

static bool read_halves(kvt_attention_layer *layer, const char *name, const kvt_h5_dataset *dataset,
	const uint64_t *start, const uint64_t *count, uint16_t *out, GError **error)
{
	kvt_attention_trace *trace = layer->trace;
	if (dataset->id <= 0) {
		g_autofree char *place = g_strdup_printf("layers/%u/%s", layer->number, name);
		return kvt_h5_error(
			&trace->file, place, error, "not recorded, expected a trace with %s", name);
	}
	KVT_H5_GUARDED;
	int64_t began = g_get_monotonic_time();
	if (!kvt_h5_dataset_read(&trace->file, dataset, start, count, out, error))
		return false;
	trace->stats.bytes += count[0] * count[1] * count[2] * sizeof *out;
	trace->stats.seconds += (double)(g_get_monotonic_time() - began) * 1e-6;
	return true;
}

bool kvt_attention_layer_queries_half(kvt_attention_layer *layer, uint64_t first_step,
	uint64_t count, uint16_t *out, GError **error)
{
	const kvt_attention_trace *trace = layer->trace;
	g_assert(count <= trace->step_count && first_step <= trace->step_count - count);
	uint64_t start[] = { first_step, 0, 0 };
	uint64_t size[] = { count, trace->header.query_heads, trace->header.head_dim };
	return read_halves(layer, "queries", &layer->datasets.queries, start, size, out, error);
}

bool kvt_attention_layer_queries(
	kvt_attention_layer *layer, uint64_t step, float *out, GError **error)
{
	const kvt_attention_trace *trace = layer->trace;
	query_window *window = &layer->queries;
	size_t values = (size_t)trace->header.query_heads * trace->header.head_dim;
	g_assert(step < trace->step_count);
	if (step < window->first || step >= window->end) {
		uint64_t count = MIN(window->capacity, trace->step_count - step);
		if (window->half == NULL && kvt_attention_layer_has_queries(layer))
			window->half = g_new(uint16_t, window->capacity * values);
		window->first = window->end = 0;
		if (!kvt_attention_layer_queries_half(layer, step, count, window->half, error))
			return false;
		window->first = step;
		window->end = step + count;
	}
	kvt_half_to_float(window->half + (step - window->first) * values, out, values);
	return true;
}

static bool load_synthetic(kvt_attention_layer *layer, GError **error)
{
	if (layer->synthetic.values != NULL)
		return true;
	KVT_H5_GUARDED;
	kvt_attention_trace *trace = layer->trace;
	int64_t began = g_get_monotonic_time();
	bool good = kvt_synthetic_datasets_read(
		trace, &layer->datasets.synthetic, &layer->synthetic, &trace->stats.bytes, error);
	trace->stats.seconds += (double)(g_get_monotonic_time() - began) * 1e-6;
	return good;
}

static bool expand_keys(kvt_attention_layer *layer, uint32_t kv_head, uint64_t first,
	uint64_t count, uint16_t *out, GError **error)
{
	if (!load_synthetic(layer, error))
		return false;
	int64_t began = g_get_monotonic_time();
	kvt_synthetic_keys_half(&layer->synthetic, kv_head, first, count, out);
	layer->trace->stats.seconds += (double)(g_get_monotonic_time() - began) * 1e-6;
	return true;
}

static bool read_tokens_half(kvt_attention_layer *layer, const char *name,
	const kvt_h5_dataset *dataset, uint32_t kv_head, uint64_t first, uint64_t count,
	uint16_t *out, GError **error)
{
	const kvt_attention_header *header = &layer->trace->header;
	g_assert(kv_head < header->kv_heads && count <= header->total_tokens &&
		 first <= header->total_tokens - count);
	if (dataset == &layer->datasets.keys && layer->datasets.synthetic.base.id > 0)
		return expand_keys(layer, kv_head, first, count, out, error);
	uint64_t start[] = { kv_head, first, 0 };
	uint64_t size[] = { 1, count, header->head_dim };
	return read_halves(layer, name, dataset, start, size, out, error);
}

static bool read_tokens(kvt_attention_layer *layer, const char *name, const kvt_h5_dataset *dataset,
	uint32_t kv_head, uint64_t first, uint64_t count, float *out, GError **error)
{
	/* The halves go into the upper part of `out`: the conversion never overtakes them. */
	size_t values = (size_t)count * layer->trace->header.head_dim;
	uint16_t *half = (uint16_t *)out + values;
	if (!read_tokens_half(layer, name, dataset, kv_head, first, count, half, error))
		return false;
	uint16_t buffer[CONVERT_HALVES];
	for (size_t at = 0; at < values; at += CONVERT_HALVES) {
		size_t n = MIN(values - at, CONVERT_HALVES);
		memcpy(buffer, half + at, n * sizeof *buffer);
		kvt_half_to_float(buffer, out + at, n);
	}
	return true;
}

bool kvt_attention_layer_keys(kvt_attention_layer *layer, uint32_t kv_head, uint64_t first,
	uint64_t count, float *out, GError **error)
{
	return read_tokens(layer, "keys", &layer->datasets.keys, kv_head, first, count, out, error);
}

bool kvt_attention_layer_keys_half(kvt_attention_layer *layer, uint32_t kv_head, uint64_t first,
	uint64_t count, uint16_t *out, GError **error)
{
	return read_tokens_half(
		layer, "keys", &layer->datasets.keys, kv_head, first, count, out, error);
}

bool kvt_attention_layer_values(kvt_attention_layer *layer, uint32_t kv_head, uint64_t first,
	uint64_t count, float *out, GError **error)
{
	return read_tokens(
		layer, "values", &layer->datasets.values, kv_head, first, count, out, error);
}

bool kvt_attention_layer_values_half(kvt_attention_layer *layer, uint32_t kv_head, uint64_t first,
	uint64_t count, uint16_t *out, GError **error)
{
	return read_tokens_half(
		layer, "values", &layer->datasets.values, kv_head, first, count, out, error);
}
