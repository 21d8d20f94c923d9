/* trace_growth.c: plans how far a trace grows, checks that it can, and writes what the model of
 * each layer gives. The statistics are in trace_growth_model.c. */
#include "traces/trace_growth.h"

#include <glib/gstdio.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "sim/base/error.h"
#include "traces/attention_mass.h"
#include "traces/attention_trace_writer.h"
#include "traces/half_float.h"
#include "traces/trace_growth_keys.h"
#include "traces/trace_growth_model.h"

/* Pages before a step that count as local, and the least that a pattern must have. */
enum { LOCAL_PAGES = 64, PATTERN_PAGES_LEAST = 16 };

/* What one run may make and read, so that a wrong number ends with a line and not with the memory:
 * steps of the grown trace, and (block, mass) pairs of a recorded layer. */
#define STEPS_MAX UINT64_C(65536)
#define ACCESSES_MAX (UINT64_C(1) << 25)

/* Steps times tokens that one run takes a minute or two for, and the fewest steps all the same. */
#define TOKEN_STEPS_USUAL (UINT64_C(1) << 29)
#define STEPS_USUAL_LEAST UINT64_C(8)

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
	uint64_t *source;          /* [plan.steps], recorded steps, and on beyond them */
	GArray *layers;            /* growth_layer */
	uint8_t *retrieved;        /* [plan.context_pages], in any layer with keys */
	const char *path;
	kvt_progress *progress; /* or NULL */
	uint64_t rows_done;
} growth_run;

typedef struct growth_layer {
	uint32_t number;
	bool keys; /* it has queries and keys, and gets some */
} growth_layer;

static void growth_run_clear(growth_run *run)
{
	g_free(run->derived);
	g_free(run->steps);
	g_free(run->source);
	g_free(run->retrieved);
	if (run->layers != NULL)
		g_array_free(run->layers, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(growth_run, growth_run_clear)

static bool add_layer(growth_run *run, uint32_t number, bool without_keys, GError **error)
{
	g_autoptr(kvt_attention_layer) layer =
		kvt_attention_layer_open(run->trace, number, 0, error);
	if (layer == NULL)
		return false;
	if (kvt_attention_layer_get_kind(layer) != KVT_TRACE_LAYER_GLOBAL)
		return kvt_error_usage(error,
			"%s: layers/%u: is chunked and does not grow, expected a global layer",
			kvt_attention_trace_path(run->trace), number);
	const growth_layer found = {
		.number = number,
		.keys = !without_keys && kvt_attention_layer_has_queries(layer) &&
			kvt_attention_layer_has_keys(layer),
	};
	g_array_append_val(run->layers, found);
	return true;
}

static bool choose_layers(growth_run *run, const kvt_growth *growth, GError **error)
{
	uint32_t count;
	const uint32_t *layers = kvt_attention_trace_layers(run->trace, &count);
	run->layers = g_array_new(FALSE, FALSE, sizeof(growth_layer));
	if (growth->layer >= 0)
		return add_layer(run, (uint32_t)growth->layer, growth->without_keys, error);
	for (uint32_t i = 0; i < count; i++)
		if (run->from->layer_kind[layers[i]] == KVT_TRACE_LAYER_GLOBAL &&
			!add_layer(run, layers[i], growth->without_keys, error))
			return false;
	if (run->layers->len == 0)
		return kvt_error_usage(error,
			"%s: layers: all are chunked and do not grow, expected a global layer",
			kvt_attention_trace_path(run->trace));
	return true;
}

static bool has_keys(const growth_run *run)
{
	for (unsigned i = 0; i < run->layers->len; i++)
		if (g_array_index(run->layers, growth_layer, i).keys)
			return true;
	return false;
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

/* As many as recorded, but softmax over all keys takes its time. */
static uint64_t usual_steps(const growth_run *run, const kvt_growth *growth)
{
	if (!has_keys(run))
		return run->recorded_count;
	uint64_t fit = TOKEN_STEPS_USUAL / growth->context_tokens;
	return MIN(run->recorded_count, MAX(fit, STEPS_USUAL_LEAST));
}

/* Steps that are fewer than recorded are the last ones of each turn, in proportion. */
static void choose_steps(growth_run *run)
{
	uint64_t count = run->recorded_count, n = 0, turn_begin = 0;
	run->source = g_new(uint64_t, run->plan.steps);
	for (uint64_t i = 0; run->plan.steps >= count && i < run->plan.steps; i++)
		run->source[i] = i;
	for (uint64_t end = 1; run->plan.steps < count && end <= count; end++) {
		if (end < count && run->recorded[end].turn == run->recorded[end - 1].turn)
			continue;
		uint64_t share =
			run->plan.steps * end / count - run->plan.steps * turn_begin / count;
		for (uint64_t i = end - share; i < end; i++)
			run->source[n++] = i;
		turn_begin = end;
	}
}

static bool plan_steps(growth_run *run, const kvt_growth *growth, GError **error)
{
	const char *path = kvt_attention_trace_path(run->trace);
	const uint64_t most = STEPS_MAX;
	uint64_t count = run->recorded_count, block_tokens = run->from->block_tokens;
	run->plan.steps = growth->steps == 0 ? usual_steps(run, growth) : growth->steps;
	if (run->plan.steps > most)
		return kvt_error_usage(error,
			"%s: grown to %" G_GUINT64_FORMAT
			" steps, expected at most %" G_GUINT64_FORMAT,
			path, run->plan.steps, most);
	if (run->plan.steps > count && has_keys(run))
		return kvt_error_usage(error,
			"%s: grown to %" G_GUINT64_FORMAT
			" steps, expected at most %" G_GUINT64_FORMAT
			", as many as recorded, or a trace without keys",
			path, run->plan.steps, count);
	choose_steps(run);
	run->steps = g_new(kvt_attention_step, run->plan.steps);
	uint64_t turns = (uint64_t)run->recorded[count - 1].turn - run->recorded[0].turn + 1;
	for (uint64_t i = 0; i < run->plan.steps; i++) {
		const kvt_attention_step *from = &run->recorded[run->source[i] % count];
		uint64_t cycle = run->source[i] / count, turn = from->turn + cycle * turns;
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
	if (!choose_layers(run, growth, error) || !plan_pages(run, growth, error) ||
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

static void count_row(growth_run *run)
{
	if (run->progress != NULL)
		kvt_progress_update(run->progress, ++run->rows_done);
}

static kvt_growth_model *fit_model(growth_run *run, uint32_t number, GError **error)
{
	g_autoptr(kvt_attention_layer) layer =
		kvt_attention_layer_open(run->trace, number, 0, error);
	if (layer == NULL)
		return NULL;
	if (kvt_attention_layer_accesses(layer) > ACCESSES_MAX) {
		kvt_error_usage(error,
			"%s: layers/%u: %" G_GUINT64_FORMAT
			" accesses, expected at most %" G_GUINT64_FORMAT " to fit a model",
			kvt_attention_trace_path(run->trace), number,
			kvt_attention_layer_accesses(layer), ACCESSES_MAX);
		return NULL;
	}
	/* The model counts steps as they were recorded, those that are left out too. */
	kvt_growth_plan plan = run->plan;
	plan.steps = MAX(plan.steps, run->recorded_count);
	return kvt_growth_model_fit(layer, &plan, error);
}

/* What a retrieval reads in one layer is drawn in none, as all layers have the same pages. */
static bool find_retrieved(growth_run *run, GError **error)
{
	run->retrieved = g_new0(uint8_t, run->plan.context_pages);
	for (unsigned i = 0; i < run->layers->len; i++) {
		const growth_layer *layer = &g_array_index(run->layers, growth_layer, i);
		if (!layer->keys)
			continue;
		g_autoptr(kvt_growth_model) model = fit_model(run, layer->number, error);
		if (model == NULL)
			return false;
		kvt_growth_model_mark_retrieved(model, run->retrieved);
	}
	return true;
}

static bool write_modelled_rows(
	growth_run *run, uint32_t number, kvt_attention_writer *writer, GError **error)
{
	g_autoptr(kvt_growth_model) model = fit_model(run, number, error);
	if (model == NULL || !kvt_attention_writer_layer(writer, number, 0, error))
		return false;
	for (uint64_t step = 0; step < run->plan.steps; step++)
		for (uint32_t head = 0; head < run->from->kv_heads; head++) {
			kvt_attention_row row =
				kvt_growth_model_row(model, run->source[step], head);
			if (!kvt_attention_writer_row(writer, &row, error))
				return false;
			count_row(run);
		}
	return true;
}

/* The recorded queries, with the temperature of where they are now. */
static bool write_queries(
	growth_run *run, kvt_attention_layer *layer, kvt_attention_writer *writer, GError **error)
{
	size_t values = (size_t)run->from->query_heads * run->from->head_dim;
	g_autofree float *query = g_new(float, values);
	g_autofree uint16_t *halves = g_new(uint16_t, values);
	for (uint64_t i = 0; i < run->plan.steps; i++) {
		uint64_t source = run->source[i];
		float factor =
			(float)(query_factor(&run->temperature, run->steps[i].position) /
				query_factor(&run->temperature, run->recorded[source].position));
		if (!kvt_attention_layer_queries(layer, source, query, error))
			return false;
		for (size_t v = 0; v < values; v++)
			query[v] *= factor;
		kvt_half_from_float(query, halves, values);
		if (!kvt_attention_writer_queries(writer, halves, 1, error))
			return false;
	}
	return true;
}

/* Rows by softmax over the staged layer, or empty ones without it. */
static bool write_softmax_rows(
	growth_run *run, kvt_attention_layer *staged, kvt_attention_writer *writer, GError **error)
{
	g_autoptr(kvt_attention_mass_stream) stream =
		staged != NULL ? kvt_attention_mass_stream_new(staged, 1, 0) : NULL;
	const kvt_attention_row empty = { 0 };
	for (uint64_t step = 0; step < run->plan.steps; step++)
		for (uint32_t head = 0; head < run->from->kv_heads; head++) {
			uint64_t pages = run->steps[step].position / run->from->block_tokens + 1;
			const float *mass = NULL;
			if (staged == NULL) {
				if (!kvt_attention_writer_row(writer, &empty, error))
					return false;
				continue;
			}
			mass = kvt_attention_mass_stream_get(stream, step, head, error);
			if (mass == NULL ||
				!kvt_attention_writer_row_of_masses(writer, mass, 0, pages, error))
				return false;
			count_row(run);
		}
	return true;
}

static bool write_tensors(growth_run *run, kvt_attention_layer *layer,
	const kvt_synthetic_keys *keys, kvt_attention_layer *staged, kvt_attention_writer *writer,
	GError **error)
{
	return kvt_attention_writer_layer(
		       writer, kvt_attention_layer_number(layer), KVT_ATTENTION_QUERIES, error) &&
	       write_softmax_rows(run, staged, writer, error) &&
	       write_queries(run, layer, writer, error) &&
	       kvt_attention_writer_synthetic_keys(writer, keys, error);
}

/* The rows follow from what is written, halves and all: so it is written to a file without rows
 * first, which is read as any trace. */
static bool write_staged(growth_run *run, kvt_attention_layer *layer,
	const kvt_synthetic_keys *keys, const char *stage, kvt_attention_writer *writer,
	GError **error)
{
	{
		g_autoptr(kvt_attention_writer) first = kvt_attention_writer_new(
			stage, &run->header, run->steps, run->plan.steps, error);
		if (first == NULL || !write_tensors(run, layer, keys, NULL, first, error) ||
			!kvt_attention_writer_finish(first, error))
			return false;
	}
	g_autoptr(kvt_attention_trace) trace = kvt_attention_trace_open(stage, error);
	if (trace == NULL)
		return false;
	g_autoptr(kvt_attention_layer) staged =
		kvt_attention_layer_open(trace, kvt_attention_layer_number(layer), 0, error);
	return staged != NULL && write_tensors(run, layer, keys, staged, writer, error);
}

static bool write_layer_with_keys(
	growth_run *run, uint32_t number, kvt_attention_writer *writer, GError **error)
{
	g_autoptr(kvt_attention_layer) layer =
		kvt_attention_layer_open(run->trace, number, 0, error);
	g_autofree char *stage = g_strdup_printf("%s.stage-XXXXXX", run->path);
	kvt_synthetic_keys keys;
	if (layer == NULL || !kvt_growth_keys_make(layer, &run->plan, run->retrieved,
				     run->header.total_tokens, &keys, error))
		return false;
	int fd = g_mkstemp(stage);
	bool good = fd >= 0;
	if (good) {
		close(fd);
		good = write_staged(run, layer, &keys, stage, writer, error);
		g_unlink(stage);
	} else {
		kvt_error_failed(
			error, "%s: cannot be created, expected a writable folder", run->path);
	}
	kvt_synthetic_keys_clear(&keys);
	return good;
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
		.path = path,
		.progress = progress,
	};
	run.recorded = kvt_attention_trace_steps(trace, &run.recorded_count);
	if (same_file(kvt_attention_trace_path(trace), path))
		return kvt_error_usage(
			error, "%s: is the trace itself, expected another file to write", path);
	if (!plan_run(&run, growth, error) || !find_retrieved(&run, error))
		return false;
	g_autoptr(kvt_attention_writer) writer =
		kvt_attention_writer_new(path, &run.header, run.steps, run.plan.steps, error);
	if (writer == NULL)
		return false;
	for (unsigned i = 0; i < run.layers->len; i++) {
		const growth_layer *layer = &g_array_index(run.layers, growth_layer, i);
		if (!(layer->keys ? write_layer_with_keys(&run, layer->number, writer, error)
				  : write_modelled_rows(&run, layer->number, writer, error)))
			return false;
	}
	return kvt_attention_writer_finish(writer, error);
}
