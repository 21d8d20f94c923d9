/* attention_trace_check.c: checks a trace as a whole; what one row must obey is in
 * attention_rules.c, and the reader applies it to every row that it hands out. */
#include "traces/attention_trace_check.h"

#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "traces/attention_mass.h"
#include "traces/attention_trace_summary.h"

enum { TOKENS_A_READ = 4096, STEPS_A_READ = 64 };

/* Masses below what a half resolves are not compared. */
static const double RESOLVED = 0x1p-24;

static const char *path_of(const kvt_attention_layer *layer)
{
	return kvt_attention_trace_path(kvt_attention_layer_trace(layer));
}

bool kvt_attention_trace_check_tokens(kvt_attention_trace *trace, GError **error)
{
	const uint32_t *tokens;
	if (!kvt_attention_trace_tokens(trace, &tokens, error))
		return false;
	uint64_t count;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	for (uint64_t i = 0; i < count && tokens != NULL; i++)
		if (steps[i].token != UINT32_MAX && steps[i].token != tokens[steps[i].position])
			return kvt_error_at(error, kvt_attention_trace_path(trace), 0,
				"steps/token: step %" G_GUINT64_FORMAT
				": %u, expected %u as in tokens at position %" G_GUINT64_FORMAT,
				i, steps[i].token, tokens[steps[i].position], steps[i].position);
	return true;
}

/* The index of the first half that is NaN or infinite, or n. */
static size_t find_not_finite(const uint16_t *halves, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((halves[i] & 0x7c00) == 0x7c00)
			return i;
	return n;
}

static bool check_queries(
	kvt_attention_layer *layer, kvt_attention_layer_check *result, GError **error)
{
	const kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	size_t values = (size_t)header->query_heads * header->head_dim;
	g_autofree uint16_t *halves = g_new(uint16_t, STEPS_A_READ * values);
	uint64_t steps;
	kvt_attention_trace_steps(trace, &steps);
	for (uint64_t at = 0; at < steps; at += STEPS_A_READ) {
		uint64_t n = MIN(STEPS_A_READ, steps - at);
		if (!kvt_attention_layer_queries_half(layer, at, n, halves, error))
			return false;
		size_t bad = find_not_finite(halves, n * values);
		if (bad < n * values)
			return kvt_error_at(error, path_of(layer), 0,
				"layers/%u/queries: step %" G_GUINT64_FORMAT
				": NaN or infinity, expected finite numbers",
				kvt_attention_layer_number(layer), at + bad / values);
		result->tensor_values += n * values;
	}
	return true;
}

typedef bool (*read_tensor)(kvt_attention_layer *layer, uint32_t kv_head, uint64_t first,
	uint64_t count, uint16_t *out, GError **error);

static bool check_cache(kvt_attention_layer *layer, const char *name, read_tensor read,
	kvt_attention_layer_check *result, GError **error)
{
	const kvt_attention_header *header =
		kvt_attention_trace_header(kvt_attention_layer_trace(layer));
	size_t values = header->head_dim;
	g_autofree uint16_t *halves = g_new(uint16_t, TOKENS_A_READ * values);
	for (uint32_t head = 0; head < header->kv_heads; head++) {
		for (uint64_t at = 0; at < header->total_tokens; at += TOKENS_A_READ) {
			uint64_t n = MIN(TOKENS_A_READ, header->total_tokens - at);
			if (!read(layer, head, at, n, halves, error))
				return false;
			size_t bad = find_not_finite(halves, n * values);
			if (bad < n * values)
				return kvt_error_at(error, path_of(layer), 0,
					"layers/%u/%s: KV head %u, token %" G_GUINT64_FORMAT
					": NaN or infinity, expected finite numbers",
					kvt_attention_layer_number(layer), name, head,
					at + bad / values);
			result->tensor_values += n * values;
		}
	}
	return true;
}

static bool refuse_mass(const kvt_attention_layer *layer, uint64_t step, uint32_t head,
	uint64_t block, double recorded, double expected, GError **error)
{
	return kvt_error_at(error, path_of(layer), 0,
		"layers/%u/access: step %" G_GUINT64_FORMAT ", KV head %u, block %" G_GUINT64_FORMAT
		": recorded mass %s%g, expected %g within %g%% from queries and keys",
		kvt_attention_layer_number(layer), step, head, block,
		recorded < 0 ? "none, so at most " : "", fabs(recorded), expected,
		100 * KVT_ATTENTION_CHECK_TOLERANCE);
}

/* One row against the masses of all pages present; `named` marks the pages that it holds. */
static bool compare_row(kvt_attention_layer *layer, uint64_t step, uint32_t head, const float *mass,
	uint8_t *named, kvt_attention_layer_check *result, GError **error)
{
	const kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	uint64_t count, first;
	uint64_t pages = kvt_attention_pages_present(kvt_attention_trace_header(trace),
		kvt_attention_layer_get_kind(layer),
		kvt_attention_trace_steps(trace, &count)[step].position, &first);
	kvt_attention_row row;
	if (!kvt_attention_layer_row(layer, step, head, &row, error))
		return false;
	memset(named, 0, pages);
	double tolerance = KVT_ATTENTION_CHECK_TOLERANCE;
	for (uint32_t i = 0; i < row.count; i++) {
		double recorded = row.mass[i], expected = mass[row.block[i] - first];
		double difference = fabs(recorded - expected);
		named[row.block[i] - first] = 1;
		if (difference > tolerance * expected + RESOLVED)
			return refuse_mass(
				layer, step, head, row.block[i], recorded, expected, error);
		if (expected > RESOLVED / tolerance)
			result->worst = MAX(result->worst, difference / expected);
	}
	result->recomputed += row.count;
	/* A page that the row leaves out weighs no more than the last one that it holds. */
	double most = row.count > 0 ? row.mass[row.count - 1] : 0;
	for (uint64_t i = 0; i < pages && row.count > 0; i++)
		if (!named[i] && mass[i] * (1 - tolerance) > most + RESOLVED)
			return refuse_mass(layer, step, head, first + i, -most, mass[i], error);
	return true;
}

static bool check_masses(kvt_attention_layer *layer, uint64_t samples,
	kvt_attention_layer_check *result, GError **error)
{
	const kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	uint64_t steps;
	const kvt_attention_step *step = kvt_attention_trace_steps(trace, &steps);
	if (samples == 0 || !kvt_attention_layer_has_queries(layer) ||
		!kvt_attention_layer_has_keys(layer))
		return true;
	uint64_t stride = (steps + samples - 1) / samples;
	g_autoptr(kvt_attention_mass_stream) stream =
		kvt_attention_mass_stream_new(layer, stride, 0);
	uint64_t pages = step[steps - 1].position / header->block_tokens + 1;
	g_autofree uint8_t *named = g_new(uint8_t, pages);
	for (uint64_t i = 0; i < steps; i += stride) {
		for (uint32_t head = 0; head < header->kv_heads; head++) {
			const float *mass = kvt_attention_mass_stream_get(stream, i, head, error);
			if (mass == NULL ||
				!compare_row(layer, i, head, mass, named, result, error))
				return false;
		}
	}
	return true;
}

bool kvt_attention_layer_check_all(kvt_attention_layer *layer, uint64_t samples,
	kvt_attention_layer_check *result, kvt_progress *progress, uint64_t *rows_done,
	GError **error)
{
	kvt_attention_layer_summary summary;
	*result = (kvt_attention_layer_check){ 0 };
	if (!kvt_attention_layer_summarize(layer, &summary, progress, rows_done, error))
		return false;
	result->rows = summary.rows;
	result->accesses = summary.accesses;
	if (kvt_attention_layer_has_queries(layer) && !check_queries(layer, result, error))
		return false;
	if (kvt_attention_layer_has_keys(layer) &&
		!check_cache(layer, "keys", kvt_attention_layer_keys_half, result, error))
		return false;
	if (kvt_attention_layer_has_values(layer) &&
		!check_cache(layer, "values", kvt_attention_layer_values_half, result, error))
		return false;
	return check_masses(layer, samples, result, error);
}
