/* trace_growth.c: plans how far a trace grows, checks that it can, and writes what the model of
 * each layer gives. The statistics are in trace_growth_model.c. */
#include "traces/trace_growth.h"

#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "traces/attention_trace_writer.h"
#include "traces/trace_growth_model.h"

/* Pages before a step that count as local, and the least that a pattern must have. */
enum { LOCAL_PAGES = 64, PATTERN_PAGES_LEAST = 16 };

/* What one run may make and read, so that a wrong number ends with a line and not with the memory:
 * steps of the grown trace, and (block, mass) pairs of a recorded layer. */
#define STEPS_MAX UINT64_C(65536)
#define ACCESSES_MAX (UINT64_C(1) << 25)

kvt_attention_temperature kvt_attention_temperature_of(const char *model)
{
	kvt_attention_temperature found = { 0 };
	g_autoptr(GRegex) formula =
		g_regex_new("1\\+([0-9.]+)\\*log1p\\(floor\\(\\(position\\+1\\)/([0-9]{1,9})\\)\\)",
			0, 0, NULL);
	g_autoptr(GMatchInfo) match = NULL;
	if (model == NULL || !g_utf8_validate(model, -1, NULL) ||
		!g_regex_match(formula, model, 0, &match))
		return found;
	g_autofree char *rate = g_match_info_fetch(match, 1);
	g_autofree char *tokens = g_match_info_fetch(match, 2);
	found.rate = g_ascii_strtod(rate, NULL);
	found.tokens = g_ascii_strtoull(tokens, NULL, 10);
	return found.tokens > 0 && isfinite(found.rate) ? found : (kvt_attention_temperature){ 0 };
}

static double query_factor(const kvt_attention_temperature *temperature, uint64_t position)
{
	if (temperature->tokens == 0)
		return 1;
	return 1 + temperature->rate * log1p((double)((position + 1) / temperature->tokens));
}

/* One run: what is read, what will be written. */
typedef struct growth_run {
	kvt_attention_trace *trace;
	const kvt_attention_header *from;
	const kvt_attention_step *recorded;
	uint64_t recorded_count;
	kvt_growth_plan plan;
	kvt_attention_temperature temperature;
	kvt_attention_header header;
	char *derived;
	kvt_attention_step *steps; /* [plan.steps] */
	GArray *layers;            /* uint32_t */
} growth_run;

static void growth_run_clear(growth_run *run)
{
	g_free(run->derived);
	g_free(run->steps);
	if (run->layers != NULL)
		g_array_free(run->layers, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(growth_run, growth_run_clear)

static bool choose_layers(growth_run *run, int32_t wanted, GError **error)
{
	const char *path = kvt_attention_trace_path(run->trace);
	uint32_t count;
	const uint32_t *layers = kvt_attention_trace_layers(run->trace, &count);
	run->layers = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	if (wanted >= 0) {
		uint32_t layer = (uint32_t)wanted;
		g_autoptr(kvt_attention_layer) opened =
			kvt_attention_layer_open(run->trace, layer, 0, error);
		if (opened == NULL)
			return false;
		if (kvt_attention_layer_get_kind(opened) != KVT_TRACE_LAYER_GLOBAL)
			return kvt_error_usage(error,
				"%s: layers/%u: is chunked and does not grow, expected a global "
				"layer",
				path, layer);
		g_array_append_val(run->layers, layer);
	}
	for (uint32_t i = 0; wanted < 0 && i < count; i++)
		if (run->from->layer_kind[layers[i]] == KVT_TRACE_LAYER_GLOBAL)
			g_array_append_val(run->layers, layers[i]);
	if (run->layers->len == 0)
		return kvt_error_usage(error,
			"%s: layers: all are chunked and do not grow, expected a global layer",
			path);
	return true;
}

static bool plan_pages(growth_run *run, const kvt_growth *growth, GError **error)
{
	const char *path = kvt_attention_trace_path(run->trace);
	kvt_growth_plan *plan = &run->plan;
	uint64_t block_tokens = run->from->block_tokens;
	uint64_t context = run->recorded[0].position;
	uint64_t end = run->recorded[run->recorded_count - 1].position + 1;
	plan->context_tokens = context;
	plan->context_pages = context / block_tokens;
	plan->local_pages = MIN(LOCAL_PAGES, plan->context_pages / 2);
	plan->pattern_pages = plan->context_pages - plan->local_pages - 1;
	if (plan->context_pages < 2 * PATTERN_PAGES_LEAST + 2)
		return kvt_error_usage(error,
			"%s: steps/position: %" G_GUINT64_FORMAT
			" pages before the first step, expected at least %d to fit a model",
			path, plan->context_pages, 2 * PATTERN_PAGES_LEAST + 2);
	if (growth->context_tokens < context + block_tokens)
		return kvt_error_usage(error,
			"%s: grown to %" G_GUINT64_FORMAT " tokens of context, expected at least "
			"%" G_GUINT64_FORMAT ": one page more than it has",
			path, growth->context_tokens, context + block_tokens);
	if (growth->context_tokens > KVT_ATTENTION_TOKENS_MAX)
		return kvt_error_usage(error,
			"%s: grown to %" G_GUINT64_FORMAT " tokens of context, expected at most "
			"%" G_GUINT64_FORMAT ", the limit of the format",
			path, growth->context_tokens, KVT_ATTENTION_TOKENS_MAX);
	plan->added_pages = (growth->context_tokens - context) / block_tokens;
	plan->cycle_pages = (end - context + block_tokens - 1) / block_tokens;
	return true;
}

static bool plan_steps(growth_run *run, const kvt_growth *growth, GError **error)
{
	const char *path = kvt_attention_trace_path(run->trace);
	const uint64_t most = STEPS_MAX;
	uint64_t count = run->recorded_count, block_tokens = run->from->block_tokens;
	run->plan.steps = growth->steps == 0 ? count : growth->steps;
	if (run->plan.steps > most)
		return kvt_error_usage(error,
			"%s: grown to %" G_GUINT64_FORMAT
			" steps, expected at most %" G_GUINT64_FORMAT,
			path, run->plan.steps, most);
	run->steps = g_new(kvt_attention_step, run->plan.steps);
	uint64_t turns = (uint64_t)run->recorded[count - 1].turn - run->recorded[0].turn + 1;
	for (uint64_t i = 0; i < run->plan.steps; i++) {
		const kvt_attention_step *from = &run->recorded[i % count];
		uint64_t cycle = i / count, turn = from->turn + cycle * turns;
		uint64_t pages = run->plan.added_pages + cycle * run->plan.cycle_pages;
		run->steps[i] = (kvt_attention_step){
			.position = from->position + pages * block_tokens,
			.token = UINT32_MAX,
			.turn = (uint16_t)turn,
			.kind = from->kind,
			.nll = NAN,
		};
		if (turn > UINT16_MAX || run->steps[i].position >= KVT_ATTENTION_TOKENS_MAX)
			return kvt_error_usage(error,
				"%s: step %" G_GUINT64_FORMAT
				" of the grown trace would be in turn %" G_GUINT64_FORMAT
				" at position %" G_GUINT64_FORMAT
				", expected at most %u and less than %" G_GUINT64_FORMAT,
				path, i, turn, run->steps[i].position, UINT16_MAX,
				KVT_ATTENTION_TOKENS_MAX);
	}
	return true;
}

static void describe(growth_run *run)
{
	const kvt_growth_plan *plan = &run->plan;
	uint64_t context = plan->context_tokens + plan->added_pages * run->from->block_tokens;
	const char *before = run->from->derived;
	run->derived = g_strdup_printf(
		"%s%sgrown from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
		" tokens of context by resampling the recorded pages and steps: %" G_GUINT64_FORMAT
		" steps, masses sharpened by %.4f, seed %" G_GUINT64_FORMAT,
		before != NULL ? before : "", before != NULL ? "; then " : "", plan->context_tokens,
		context, plan->steps, plan->sharpening, plan->seed);
	run->header = *run->from;
	run->header.derived = run->derived;
	run->header.synthetic = true;
	run->header.context_tokens = context;
	run->header.total_tokens = run->steps[plan->steps - 1].position + 1;
}

static bool plan_run(growth_run *run, const kvt_growth *growth, GError **error)
{
	if (run->from->synthetic)
		return kvt_error_usage(error, "%s: is synthetic itself, expected a recorded trace",
			kvt_attention_trace_path(run->trace));
	if (!choose_layers(run, growth->layer, error) || !plan_pages(run, growth, error) ||
		!plan_steps(run, growth, error))
		return false;
	run->temperature = growth->temperature != NULL
				   ? *growth->temperature
				   : kvt_attention_temperature_of(run->from->model);
	uint64_t context = run->plan.context_tokens;
	uint64_t grown = run->steps[0].position;
	run->plan.sharpening =
		query_factor(&run->temperature, grown) / query_factor(&run->temperature, context);
	run->plan.seed = growth->seed;
	describe(run);
	return true;
}

static bool write_layer(growth_run *run, uint32_t number, kvt_attention_writer *writer,
	kvt_progress *progress, uint64_t *done, GError **error)
{
	g_autoptr(kvt_attention_layer) layer =
		kvt_attention_layer_open(run->trace, number, 0, error);
	if (layer == NULL)
		return false;
	if (kvt_attention_layer_accesses(layer) > ACCESSES_MAX)
		return kvt_error_usage(error,
			"%s: layers/%u: %" G_GUINT64_FORMAT
			" accesses, expected at most %" G_GUINT64_FORMAT " to fit a model",
			kvt_attention_trace_path(run->trace), number,
			kvt_attention_layer_accesses(layer), ACCESSES_MAX);
	g_autoptr(kvt_growth_model) model = kvt_growth_model_fit(layer, &run->plan, error);
	if (model == NULL || !kvt_attention_writer_layer(writer, number, 0, error))
		return false;
	for (uint64_t step = 0; step < run->plan.steps; step++)
		for (uint32_t head = 0; head < run->from->kv_heads; head++) {
			kvt_attention_row row = kvt_growth_model_row(model, step, head);
			if (!kvt_attention_writer_row(writer, &row, error))
				return false;
			if (progress != NULL)
				kvt_progress_update(progress, ++*done);
		}
	return true;
}

static bool same_file(const char *a, const char *b)
{
	GStatBuf x, y;
	return g_stat(a, &x) == 0 && g_stat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

bool kvt_attention_trace_grow(kvt_attention_trace *trace, const char *path,
	const kvt_growth *growth, kvt_progress *progress, GError **error)
{
	g_auto(growth_run) run = {
		.trace = trace,
		.from = kvt_attention_trace_header(trace),
	};
	run.recorded = kvt_attention_trace_steps(trace, &run.recorded_count);
	if (same_file(kvt_attention_trace_path(trace), path))
		return kvt_error_usage(
			error, "%s: is the trace itself, expected another file to write", path);
	if (!plan_run(&run, growth, error))
		return false;
	g_autoptr(kvt_attention_writer) writer =
		kvt_attention_writer_new(path, &run.header, run.steps, run.plan.steps, error);
	uint64_t done = 0;
	if (writer == NULL)
		return false;
	for (unsigned i = 0; i < run.layers->len; i++)
		if (!write_layer(&run, g_array_index(run.layers, uint32_t, i), writer, progress,
			    &done, error))
			return false;
	return kvt_attention_writer_finish(writer, error);
}
