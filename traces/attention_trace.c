/* attention_trace.c: opens an attention trace, checks its header, steps and layout. Rows and
 * tensors are in attention_layer.c. */
#include "traces/attention_trace.h"

#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "traces/attention_rules.h"
#include "traces/attention_trace_private.h"

enum { FORMAT_VERSION = 1 };

static bool read_format(kvt_attention_trace *trace, GError **error)
{
	const kvt_h5_file *file = &trace->file;
	g_autofree char *format = NULL;
	uint64_t version;
	if (!kvt_h5_attribute_text(file, "format", true, &format, error))
		return false;
	if (strcmp(format, "attention-trace") != 0) {
		g_autofree char *shown = kvt_error_quote(format);
		return kvt_h5_error(
			file, "attribute format", error, "%s, expected \"attention-trace\"", shown);
	}
	if (!kvt_h5_attribute_integer(
		    file, "version", FORMAT_VERSION, FORMAT_VERSION, &version, error))
		return false;
	return true;
}

static bool read_number(kvt_attention_trace *trace, const char *name, uint64_t high,
	uint32_t *value, GError **error)
{
	uint64_t found;
	if (!kvt_h5_attribute_integer(&trace->file, name, 1, high, &found, error))
		return false;
	*value = (uint32_t)found;
	return true;
}

static bool read_texts(kvt_attention_trace *trace, GError **error)
{
	kvt_attention_header *header = &trace->header;
	const struct {
		const char *name;
		const char **value;
	} texts[] = {
		{ "model", &header->model },
		{ "source", &header->source },
		{ "license", &header->license },
		{ "derived", &header->derived },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
		char *text;
		if (!kvt_h5_attribute_text(&trace->file, texts[i].name, i == 0, &text, error))
			return false;
		*texts[i].value = text;
	}
	return true;
}

static bool read_token_counts(kvt_attention_trace *trace, GError **error)
{
	kvt_attention_header *header = &trace->header;
	uint64_t chunk;
	if (!kvt_h5_attribute_integer(&trace->file, "total_tokens", 1, KVT_ATTENTION_TOKENS_MAX,
		    &header->total_tokens, error) ||
		!kvt_h5_attribute_integer(&trace->file, "context_tokens", 0, header->total_tokens,
			&header->context_tokens, error) ||
		!kvt_h5_attribute_integer(
			&trace->file, "local_chunk_tokens", 0, UINT32_MAX, &chunk, error))
		return false;
	header->local_chunk_tokens = (uint32_t)chunk;
	return true;
}

static bool read_header(kvt_attention_trace *trace, GError **error)
{
	const kvt_h5_file *file = &trace->file;
	kvt_attention_header *header = &trace->header;
	double scale;
	if (!read_format(trace, error) || !read_texts(trace, error) ||
		!read_number(trace, "n_layers", KVT_ATTENTION_LAYERS_MAX, &header->layers, error) ||
		!read_number(
			trace, "n_q_heads", KVT_ATTENTION_HEADS_MAX, &header->query_heads, error) ||
		!read_number(
			trace, "n_kv_heads", KVT_ATTENTION_HEADS_MAX, &header->kv_heads, error) ||
		!read_number(
			trace, "head_dim", KVT_ATTENTION_HEAD_DIM_MAX, &header->head_dim, error) ||
		!read_number(trace, "block_tokens", KVT_ATTENTION_BLOCK_TOKENS_MAX,
			&header->block_tokens, error) ||
		!read_token_counts(trace, error) ||
		!kvt_h5_attribute_real(file, "softmax_scale", &scale, error))
		return false;
	header->softmax_scale = (float)scale;
	if (kvt_h5_attribute_exists(file, "synthetic")) {
		uint64_t synthetic;
		if (!kvt_h5_attribute_integer(file, "synthetic", 0, 1, &synthetic, error))
			return false;
		header->synthetic = synthetic == 1;
	}
	return true;
}

static bool read_layer_kinds(kvt_attention_trace *trace, GError **error)
{
	kvt_attention_header *header = &trace->header;
	kvt_h5_dataset dataset;
	if (!kvt_h5_dataset_open(&trace->file, trace->file.id, "layer_kind", "layer_kind",
		    KVT_H5_UINT8, 1, &dataset, error))
		return false;
	uint64_t start = 0, count = header->layers;
	trace->layer_kind = g_new(uint8_t, count);
	header->layer_kind = trace->layer_kind;
	bool ok = kvt_h5_dataset_expect(&trace->file, &dataset, &count, "[n_layers] =", error) &&
		  kvt_h5_dataset_read(
			  &trace->file, &dataset, &start, &count, trace->layer_kind, error);
	kvt_h5_dataset_close(&dataset);
	return ok;
}

/* Reads one column of steps/ whole into a new array; the first one decides how many there are. */
static bool read_column(kvt_attention_trace *trace, hid_t group, const char *name, kvt_h5_type type,
	void **column, GError **error)
{
	g_autofree char *place = g_strdup_printf("steps/%s", name);
	kvt_h5_dataset dataset;
	if (!kvt_h5_dataset_open(&trace->file, group, place, name, type, 1, &dataset, error))
		return false;
	uint64_t start = 0, count = dataset.dims[0];
	bool ok = true;
	if (count == 0)
		ok = kvt_h5_error(&trace->file, place, error, "no steps, expected at least one");
	else if (trace->step_count != 0)
		ok = kvt_h5_dataset_expect(
			&trace->file, &dataset, &trace->step_count, "as many as positions,", error);
	else if (count > trace->header.total_tokens)
		ok = kvt_h5_error(&trace->file, place, error,
			"%" G_GUINT64_FORMAT
			" steps, expected at most total_tokens (%" G_GUINT64_FORMAT ")",
			count, trace->header.total_tokens);
	if (ok) {
		trace->step_count = count;
		*column = g_malloc_n(count, dataset.element);
		ok = kvt_h5_dataset_read(&trace->file, &dataset, &start, &count, *column, error);
	}
	kvt_h5_dataset_close(&dataset);
	return ok;
}

/* False with an error when `problem`, which it frees, is one. */
static bool refuse(const kvt_attention_trace *trace, char *problem, GError **error)
{
	if (problem == NULL)
		return true;
	kvt_h5_error(&trace->file, NULL, error, "%s", problem);
	g_free(problem);
	return false;
}

static bool read_steps(kvt_attention_trace *trace, GError **error)
{
	g_auto(kvt_h5_id) group = -1;
	if (!kvt_h5_group_open(&trace->file, trace->file.id, "steps", "steps", &group, error))
		return false;
	g_autofree uint64_t *position = NULL;
	g_autofree uint16_t *turn = NULL;
	g_autofree uint8_t *kind = NULL;
	g_autofree uint32_t *token = NULL;
	g_autofree float *nll = NULL;
	if (!read_column(trace, group, "position", KVT_H5_UINT64, (void **)&position, error) ||
		!read_column(trace, group, "turn", KVT_H5_UINT16, (void **)&turn, error) ||
		!read_column(trace, group, "kind", KVT_H5_UINT8, (void **)&kind, error))
		return false;
	if (kvt_h5_has(group, "token") &&
		!read_column(trace, group, "token", KVT_H5_UINT32, (void **)&token, error))
		return false;
	if (kvt_h5_has(group, "nll") &&
		!read_column(trace, group, "nll", KVT_H5_FLOAT, (void **)&nll, error))
		return false;
	trace->steps = g_new(kvt_attention_step, trace->step_count);
	for (uint64_t i = 0; i < trace->step_count; i++)
		trace->steps[i] = (kvt_attention_step){
			.position = position[i],
			.turn = turn[i],
			.kind = kind[i],
			.token = token != NULL ? token[i] : UINT32_MAX,
			.nll = nll != NULL ? nll[i] : NAN,
		};
	return refuse(trace,
		kvt_attention_steps_check(&trace->header, trace->steps, trace->step_count), error);
}

typedef struct layer_list {
	const kvt_attention_trace *trace;
	GArray *numbers;
	GError **error;
} layer_list;

static herr_t add_layer(hid_t group, const char *name, const H5L_info_t *info, void *arg)
{
	layer_list *list = arg;
	const kvt_attention_trace *trace = list->trace;
	guint64 number;
	/* "07" and "+7" would name layer 7 a second time. */
	bool plain = g_ascii_isdigit(name[0]) && (name[0] != '0' || name[1] == '\0');
	if (!plain ||
		!g_ascii_string_to_unsigned(name, 10, 0, trace->header.layers - 1, &number, NULL)) {
		g_autofree char *shown = kvt_error_quote(name);
		kvt_h5_error(&trace->file, "layers", list->error,
			"%s, expected layer numbers from 0 to %u", shown, trace->header.layers - 1);
		return -1;
	}
	uint32_t layer = (uint32_t)number;
	g_array_append_val(list->numbers, layer);
	return 0;
}

static int compare_layers(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static bool read_layers(kvt_attention_trace *trace, GError **error)
{
	g_auto(kvt_h5_id) group = -1;
	if (!kvt_h5_group_open(&trace->file, trace->file.id, "layers", "layers", &group, error))
		return false;
	g_autoptr(GArray) numbers = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	g_autoptr(GError) reason = NULL;
	layer_list list = { trace, numbers, &reason };
	if (H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, add_layer, &list) < 0) {
		if (reason != NULL)
			g_propagate_error(error, g_steal_pointer(&reason));
		else
			kvt_h5_error(&trace->file, "layers", error,
				"damaged group, expected recorded layers");
		return false;
	}
	if (numbers->len == 0)
		return kvt_h5_error(
			&trace->file, "layers", error, "empty, expected at least one layer");
	g_array_sort(numbers, compare_layers);
	trace->layer_count = numbers->len;
	trace->layers = g_memdup2(numbers->data, numbers->len * sizeof(uint32_t));
	for (uint32_t i = 0; i < trace->layer_count; i++) {
		kvt_attention_datasets datasets;
		if (!kvt_attention_datasets_open(trace, trace->layers[i], &datasets, error))
			return false;
		kvt_attention_datasets_close(&datasets);
	}
	return true;
}

static kvt_attention_trace *open_trace(
	const char *path, const void *bytes, size_t size, GError **error)
{
	KVT_H5_GUARDED;
	g_autoptr(kvt_attention_trace) trace = g_new0(kvt_attention_trace, 1);
	int64_t began = g_get_monotonic_time();
	if (!kvt_h5_file_open(path, bytes, size, &trace->file, error) ||
		!read_header(trace, error) || !read_layer_kinds(trace, error) ||
		!refuse(trace, kvt_attention_header_check(&trace->header), error) ||
		!read_steps(trace, error) || !read_layers(trace, error))
		return NULL;
	trace->stats.seconds = (double)(g_get_monotonic_time() - began) * 1e-6;
	trace->stats.bytes = trace->step_count * 17 + trace->header.layers;
	return g_steal_pointer(&trace);
}

kvt_attention_trace *kvt_attention_trace_open(const char *path, GError **error)
{
	return open_trace(path, NULL, 0, error);
}

kvt_attention_trace *kvt_attention_trace_open_memory(
	const char *name, const void *bytes, size_t size, GError **error)
{
	return open_trace(name, bytes, size, error);
}

void kvt_attention_trace_close(kvt_attention_trace *trace)
{
	if (trace == NULL)
		return;
	KVT_H5_GUARDED;
	kvt_h5_file_close(&trace->file);
	g_free((char *)trace->header.model);
	g_free((char *)trace->header.source);
	g_free((char *)trace->header.license);
	g_free((char *)trace->header.derived);
	g_free(trace->layer_kind);
	g_free(trace->steps);
	g_free(trace->layers);
	g_free(trace->tokens);
	g_free(trace);
}

const char *kvt_attention_trace_path(const kvt_attention_trace *trace)
{
	return trace->file.name;
}

const kvt_attention_header *kvt_attention_trace_header(const kvt_attention_trace *trace)
{
	return &trace->header;
}

const kvt_attention_step *kvt_attention_trace_steps(
	const kvt_attention_trace *trace, uint64_t *count)
{
	*count = trace->step_count;
	return trace->steps;
}

bool kvt_attention_trace_tokens(kvt_attention_trace *trace, const uint32_t **tokens, GError **error)
{
	*tokens = NULL;
	KVT_H5_GUARDED;
	if (trace->tokens == NULL && kvt_h5_has(trace->file.id, "tokens")) {
		kvt_h5_dataset dataset;
		if (!kvt_h5_dataset_open(&trace->file, trace->file.id, "tokens", "tokens",
			    KVT_H5_UINT32, 1, &dataset, error))
			return false;
		uint64_t start = 0, count = trace->header.total_tokens;
		bool ok = kvt_h5_dataset_expect(
			&trace->file, &dataset, &count, "[total_tokens] =", error);
		if (ok) {
			trace->tokens = g_new(uint32_t, count);
			ok = kvt_h5_dataset_read(
				&trace->file, &dataset, &start, &count, trace->tokens, error);
		}
		kvt_h5_dataset_close(&dataset);
		if (!ok) {
			g_clear_pointer(&trace->tokens, g_free);
			return false;
		}
	}
	*tokens = trace->tokens;
	return true;
}

const uint32_t *kvt_attention_trace_layers(const kvt_attention_trace *trace, uint32_t *count)
{
	*count = trace->layer_count;
	return trace->layers;
}

kvt_attention_read_stats kvt_attention_trace_read_stats(const kvt_attention_trace *trace)
{
	return trace->stats;
}

uint64_t kvt_attention_pages_present(const kvt_attention_header *header,
	kvt_attention_layer_kind kind, uint64_t position, uint64_t *first)
{
	uint64_t last = position / header->block_tokens;
	*first = kind == KVT_TRACE_LAYER_GLOBAL
			 ? 0
			 : position / header->local_chunk_tokens * header->local_chunk_tokens /
				   header->block_tokens;
	return last - *first + 1;
}
