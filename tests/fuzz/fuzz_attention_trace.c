/*
 * fuzz_attention_trace.c: any bytes as an attention trace. What is refused must have one line of
 * UTF-8 for a message; what is opened must keep the promises of attention_trace.h.
 */
#include <glib.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "sim/base/error.h"
#include "traces/attention_mass.h"
#include "traces/attention_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What one input may take to read; larger traces are right but slow. */
enum { VALUES_MAX = 1 << 20 };

static void check_error(const GError *error)
{
	g_assert(error != NULL && error->domain == KVT_ERROR);
	g_assert(strpbrk(error->message, "\n\r") == NULL);
	g_assert(g_utf8_validate(error->message, -1, NULL));
	g_assert(strlen(error->message) < 1000);
}

static void check_steps(const kvt_attention_trace *trace)
{
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	uint64_t count;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	g_assert(count > 0 && header->kv_heads > 0 && header->model != NULL);
	g_assert(header->query_heads % header->kv_heads == 0);
	for (uint64_t i = 0; i < count; i++) {
		g_assert(steps[i].position < header->total_tokens);
		g_assert(i == 0 || steps[i].position > steps[i - 1].position);
		g_assert(steps[i].kind <= KVT_ATTENTION_DECODE);
	}
}

static void check_row(
	kvt_attention_layer *layer, const kvt_attention_step *step, const kvt_attention_row *row)
{
	uint64_t first;
	uint64_t pages = kvt_attention_pages_present(
		kvt_attention_trace_header(kvt_attention_layer_trace(layer)),
		kvt_attention_layer_get_kind(layer), step->position, &first);
	double sum = 0;
	g_assert(row->count <= pages);
	for (uint32_t i = 0; i < row->count; i++) {
		g_assert(row->block[i] >= first && row->block[i] - first < pages);
		g_assert(row->mass[i] >= 0 && row->mass[i] <= 1);
		g_assert(i == 0 || row->mass[i] <= row->mass[i - 1]);
		sum += row->mass[i];
	}
	g_assert(sum < 1.01);
}

/* All rows in small windows, or until one is refused. */
static bool check_rows(kvt_attention_layer *layer, GError **error)
{
	kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	uint64_t count;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	for (uint64_t i = 0; i < count; i++) {
		for (uint32_t h = 0; h < kvt_attention_trace_header(trace)->kv_heads; h++) {
			kvt_attention_row row;
			if (!kvt_attention_layer_row(layer, i, h, &row, error))
				return false;
			check_row(layer, &steps[i], &row);
		}
	}
	return true;
}

static void check_masses(kvt_attention_layer *layer)
{
	kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	uint64_t count;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	if (header->total_tokens * header->head_dim * count > VALUES_MAX)
		return;
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_mass_stream) stream = kvt_attention_mass_stream_new(layer, 1, 4096);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t first;
		uint64_t pages = kvt_attention_pages_present(
			header, kvt_attention_layer_get_kind(layer), steps[i].position, &first);
		const float *mass = kvt_attention_mass_stream_get(stream, i, 0, &error);
		if (mass == NULL) {
			check_error(error);
			return;
		}
		double sum = 0;
		for (uint64_t p = 0; p < pages; p++)
			sum += mass[p];
		g_assert(fabs(sum - 1) < 1e-4);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_trace) trace =
		kvt_attention_trace_open_memory("input", data, size, &error);
	if (trace == NULL) {
		check_error(error);
		return 0;
	}
	check_steps(trace);
	const uint32_t *tokens;
	if (!kvt_attention_trace_tokens(trace, &tokens, &error)) {
		check_error(error);
		g_clear_error(&error);
	}
	uint32_t count;
	const uint32_t *numbers = kvt_attention_trace_layers(trace, &count);
	for (uint32_t i = 0; i < count; i++) {
		g_autoptr(GError) refused = NULL;
		g_autoptr(kvt_attention_layer) layer =
			kvt_attention_layer_open(trace, numbers[i], 100, &refused);
		if (layer == NULL || !check_rows(layer, &refused))
			check_error(refused);
		else
			check_masses(layer);
	}
	return 0;
}
