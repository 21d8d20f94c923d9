/* trace_info.c: `kvtier trace info`: header, turns and layers of an attention trace. */
#include "sim/cmd/trace_info.h"

#include <math.h>

#include "sim/base/error.h"
#include "sim/base/progress.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/trace_open.h"
#include "traces/attention_mass.h"
#include "traces/attention_trace_summary.h"

static const kvt_command info_action = {
	.name = "trace info",
	.summary = "Show what an attention trace holds.",
	.arguments = "FILE",
	.help = "Oracle: the share of the attention mass that the best choice of pages keeps, "
		"with\n"
		"a budget of 1, 2, 5 and 10% of the pages present (at least 5; the first page and\n"
		"the last 4 always among them), mean over steps and KV heads. It is taken from "
		"the\n"
		"recorded rows, or with --exact from queries and keys. Compulsory: pages touched\n"
		"at all, of those present in the end; any cache must load them once.",
};

static const double shares[] = { 0.01, 0.02, 0.05, 0.1 };

static const kvt_column layer_columns[] = {
	{ "layer", "layer", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "kind", "kind", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "tensors", "tensors", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "rows", "rows", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "accesses", "accesses", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "blocks_mean", "blocks a row", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.1f", 0 },
	{ "blocks_least", NULL, KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "blocks_most", NULL, KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "mass_mean", "mass covered", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "mass_least", "least", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "pages_touched", "compulsory", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "pages_present", "of pages", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "oracle_source", NULL, KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "oracle_1", "oracle 1%", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "oracle_2", "2%", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "oracle_5", "5%", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "oracle_10", "10%", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ 0 },
};

static const char *const kind_names[] = { "chunked", "global" };

/* "queries, keys", or NULL when only rows were recorded. A new string. */
static char *tensor_names(const kvt_attention_layer *layer)
{
	g_autoptr(GString) text = g_string_new(NULL);
	const struct {
		bool there;
		const char *name;
	} tensors[] = {
		{ kvt_attention_layer_has_queries(layer), "queries" },
		{ kvt_attention_layer_has_keys(layer), "keys" },
		{ kvt_attention_layer_has_values(layer), "values" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(tensors); i++)
		if (tensors[i].there)
			g_string_append_printf(
				text, "%s%s", text->len > 0 ? ", " : "", tensors[i].name);
	return text->len > 0 ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

static bool add_layer(kvt_attention_layer *layer, bool exact, uint64_t every,
	kvt_progress *progress, uint64_t *rows_done, kvt_table *table, GError **error)
{
	kvt_attention_layer_summary s;
	double kept[G_N_ELEMENTS(shares)];
	exact = exact && kvt_attention_layer_has_queries(layer) &&
		kvt_attention_layer_has_keys(layer);
	if (!kvt_attention_layer_summarize(layer, &s, progress, rows_done, error) ||
		!kvt_attention_trace_oracle_mass(layer,
			exact ? KVT_ATTENTION_MASS_RECOMPUTED : KVT_ATTENTION_MASS_ROWS, every,
			shares, G_N_ELEMENTS(shares), kept, error))
		return false;
	g_autofree char *tensors = tensor_names(layer);
	kvt_table_add_row(table);
	kvt_table_add_integer(table, kvt_attention_layer_number(layer));
	kvt_table_add_text(table, kind_names[kvt_attention_layer_get_kind(layer)]);
	kvt_table_add_text(table, tensors);
	kvt_table_add_integer(table, (int64_t)s.rows);
	kvt_table_add_integer(table, (int64_t)s.accesses);
	kvt_table_add_number(table, (double)s.accesses / (double)s.rows);
	kvt_table_add_integer(table, s.blocks_least);
	kvt_table_add_integer(table, s.blocks_most);
	kvt_table_add_number(table, s.mass_mean);
	kvt_table_add_number(table, s.mass_least);
	kvt_table_add_integer(table, (int64_t)s.pages_touched);
	kvt_table_add_integer(table, (int64_t)s.pages_present);
	kvt_table_add_text(table, exact ? "queries and keys" : "rows");
	for (size_t i = 0; i < G_N_ELEMENTS(shares); i++)
		kvt_table_add_number(table, kept[i]);
	return true;
}

static bool add_layers(
	kvt_attention_trace *trace, bool exact, uint64_t every, kvt_table *table, GError **error)
{
	uint32_t count;
	const uint32_t *layers = kvt_attention_trace_layers(trace, &count);
	uint64_t steps, rows_done = 0;
	kvt_attention_trace_steps(trace, &steps);
	g_autoptr(kvt_progress) progress = kvt_progress_new(
		"reading rows", steps * count * kvt_attention_trace_header(trace)->kv_heads);
	for (uint32_t i = 0; i < count; i++) {
		g_autoptr(kvt_attention_layer) layer =
			kvt_attention_layer_open(trace, layers[i], 0, error);
		if (layer == NULL ||
			!add_layer(layer, exact, every, progress, &rows_done, table, error))
			return false;
	}
	return true;
}

static const kvt_column turn_columns[] = {
	{ "turn", "turn", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "first_step", "first step", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "steps", "steps", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "prompt", "prompt", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "decode", "decode", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "first_position", "from position", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "last_position", "to", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "nll_mean", "mean nll", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.4f", 0 },
	{ 0 },
};

/* One row for each run of steps of one turn. */
static kvt_table *make_turns(const kvt_attention_trace *trace)
{
	kvt_table *table = kvt_table_new(turn_columns);
	uint64_t count;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	for (uint64_t first = 0, end; first < count; first = end) {
		int64_t prompt = 0;
		double nll = 0;
		for (end = first; end < count && steps[end].turn == steps[first].turn; end++) {
			prompt += steps[end].kind == KVT_TRACE_STEP_PROMPT;
			nll += steps[end].nll;
		}
		int64_t n = (int64_t)(end - first);
		kvt_table_add_row(table);
		kvt_table_add_integer(table, steps[first].turn);
		kvt_table_add_integer(table, (int64_t)first);
		kvt_table_add_integer(table, n);
		kvt_table_add_integer(table, prompt);
		kvt_table_add_integer(table, n - prompt);
		kvt_table_add_integer(table, (int64_t)steps[first].position);
		kvt_table_add_integer(table, (int64_t)steps[end - 1].position);
		kvt_table_add_number(table, nll / (double)n);
	}
	return table;
}

/* The header as an object; texts that the file lacks are null. */
static json_t *make_header(const kvt_attention_trace *trace)
{
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	json_t *kinds = json_array();
	for (uint32_t i = 0; i < header->layers; i++)
		json_array_append_new(kinds, json_string(kind_names[header->layer_kind[i]]));
	json_t *object = kvt_json_result("trace-info", 1);
	json_object_set_new(object, "file", kvt_json_text(kvt_attention_trace_path(trace)));
	json_object_set_new(object, "model", kvt_json_text(header->model));
	json_object_set_new(object, "source", kvt_json_text(header->source));
	json_object_set_new(object, "license", kvt_json_text(header->license));
	json_object_set_new(object, "derived", kvt_json_text(header->derived));
	json_object_set_new(object, "synthetic", json_boolean(header->synthetic));
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{ "n_layers", header->layers },
		{ "n_q_heads", header->query_heads },
		{ "n_kv_heads", header->kv_heads },
		{ "head_dim", header->head_dim },
		{ "block_tokens", header->block_tokens },
		{ "local_chunk_tokens", header->local_chunk_tokens },
		{ "context_tokens", header->context_tokens },
		{ "total_tokens", header->total_tokens },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
		json_object_set_new(
			object, numbers[i].name, json_integer((json_int_t)numbers[i].value));
	json_object_set_new(object, "softmax_scale", kvt_json_real(header->softmax_scale));
	json_object_set_new(object, "layer_kind", kinds);
	uint64_t steps;
	kvt_attention_trace_steps(trace, &steps);
	json_object_set_new(object, "steps", json_integer((json_int_t)steps));
	return object;
}

static json_t *make_rate(const kvt_attention_trace *trace)
{
	kvt_attention_read_stats stats = kvt_attention_trace_read_stats(trace);
	json_t *object = json_object();
	json_object_set_new(object, "bytes", json_integer((json_int_t)stats.bytes));
	json_object_set_new(object, "rows", json_integer((json_int_t)stats.rows));
	json_object_set_new(object, "accesses", json_integer((json_int_t)stats.accesses));
	json_object_set_new(object, "seconds", kvt_json_real(stats.seconds));
	json_object_set_new(
		object, "accesses_per_s", kvt_json_real((double)stats.accesses / stats.seconds));
	return object;
}

/* The header above the tables, for people. */
static void print_header(const kvt_attention_trace *trace, FILE *stream)
{
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	const struct {
		const char *name, *text;
	} texts[] = {
		{ "model", header->model },
		{ "source", header->source },
		{ "license", header->license },
		{ "derived", header->derived },
		{ "synthetic", header->synthetic ? "yes" : NULL },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
		if (texts[i].text != NULL)
			fprintf(stream, "%-10s %s\n", texts[i].name, texts[i].text);
	fprintf(stream, "%-10s %u layers, %u query heads on %u KV heads of %u, scale %g\n", "shape",
		header->layers, header->query_heads, header->kv_heads, header->head_dim,
		header->softmax_scale);
	fprintf(stream,
		"%-10s %" G_GUINT64_FORMAT " of context, %" G_GUINT64_FORMAT
		" in all, %u a page, local chunks of %u\n\n",
		"tokens", header->context_tokens, header->total_tokens, header->block_tokens,
		header->local_chunk_tokens);
}

static void print_tables(const kvt_command_options *options, const kvt_attention_trace *trace,
	const kvt_table *turns, const kvt_table *layers, bool rate, GError **error)
{
	FILE *stream = kvt_command_open(options, error);
	if (stream == NULL)
		return;
	if (options->format == KVT_FORMAT_TABLE) {
		print_header(trace, stream);
		kvt_table_write(turns, options->format, stream, NULL);
		fputc('\n', stream);
	}
	kvt_table_write(layers, options->format, stream, NULL);
	if (rate && options->format == KVT_FORMAT_TABLE) {
		kvt_attention_read_stats stats = kvt_attention_trace_read_stats(trace);
		g_autofree char *bytes = kvt_unit_format((double)stats.bytes, KVT_UNIT_BYTES);
		g_autofree char *per_second =
			kvt_unit_format((double)stats.accesses / stats.seconds, KVT_UNIT_FREQUENCY);
		fprintf(stream,
			"\nread %s, %" G_GUINT64_FORMAT " rows, %" G_GUINT64_FORMAT
			" accesses in %.3f s: %s\n",
			bytes, stats.rows, stats.accesses, stats.seconds, per_second);
	}
	kvt_command_close(options, stream, error);
}

static void print_info(
	const kvt_command_options *options, bool exact, int every, bool rate, GError **error)
{
	g_autoptr(kvt_attention_trace) trace = kvt_command_open_trace(options->arguments[0], error);
	if (trace == NULL)
		return;
	g_autoptr(kvt_table) layers = kvt_table_new(layer_columns);
	if (!add_layers(trace, exact, (uint64_t)every, layers, error))
		return;
	g_autoptr(kvt_table) turns = make_turns(trace);
	if (options->format != KVT_FORMAT_JSON) {
		print_tables(options, trace, turns, layers, rate, error);
		return;
	}
	json_t *object = make_header(trace);
	json_object_set_new(object, "turns", kvt_table_to_json(turns));
	json_object_set_new(object, "oracle_every", json_integer(every));
	json_object_set_new(object, "layers", kvt_table_to_json(layers));
	if (rate)
		json_object_set_new(object, "reader", make_rate(trace));
	kvt_command_print_json(options, object, error);
	json_decref(object);
}

int kvt_trace_info_run(int argc, char **argv, GError **error)
{
	gboolean exact = FALSE, rate = FALSE;
	int every = 1;
	const GOptionEntry own[] = {
		{ "exact", 0, 0, G_OPTION_ARG_NONE, &exact,
			"take the oracle from queries and keys where they are recorded", NULL },
		{ "every", 0, 0, G_OPTION_ARG_INT, &every, "take it at every Nth step (1)", "N" },
		{ "rate", 0, 0, G_OPTION_ARG_NONE, &rate, "show how fast the file was read", NULL },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &info_action, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT, 1, 1,
		own };
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	if (every < 1)
		return kvt_error_usage(error, "--every: %d, expected 1 or more", every);
	print_info(&options, exact, every, rate, error);
	return 0;
}
