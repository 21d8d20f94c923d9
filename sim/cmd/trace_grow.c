/* trace_grow.c: `kvtier trace grow`: a synthetic trace of a longer context, and how it compares
 * with a recorded one. The model is in traces/trace_growth_model.h. */
#include "sim/cmd/trace_grow.h"

#include <string.h>

#include "sim/base/error.h"
#include "sim/base/progress.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/trace_open.h"
#include "traces/access_statistics.h"
#include "traces/key_statistics.h"
#include "traces/trace_growth.h"

static const kvt_command grow_action = {
	.name = "trace grow",
	.summary = "Write a synthetic attention trace of a longer context.",
	.arguments = "FILE",
	.help = "Layers with recorded queries and keys get both, and rows that follow from them "
		"by\n"
		"softmax. Every recorded page stays, once, in order; between them come recorded\n"
		"pages that no retrieval reads, drawn at random and moved by differences of\n"
		"their neighbours, tokens and whole pages, so that none repeats another. Queries\n"
		"are scaled by how much more the model scales them at the larger length.\n\n"
		"Other layers, or all with --no-keys, get rows alone: the pages between the first\n"
		"and the last 64 are copied until the context is full, and each copy but one "
		"lives\n"
		"through the turn from another step on. Pages that a retrieval reads keep their "
		"mass.\n\n"
		"OUT is flagged synthetic. Fewer steps than recorded are the last ones of each "
		"turn;\n"
		"more are a turn begun anew, with --no-keys.\n\n"
		"--check prints how the grown rows compare with those of a recorded trace, and, "
		"where\n"
		"both have keys and up to 2M tokens, how pages can be scored; far mass is that "
		"beyond\n"
		"the first and the last 64 pages. To grow a recording whose own length is known, "
		"thin\n"
		"it first: trace cut --pages, then grow with --temperature none.\n\n"
		"  kvtier trace grow code-32k.h5 --tokens 10M -o grown.h5\n"
		"  kvtier trace grow code-32k.h5 --tokens 131072 -o grown.h5 --check code-128k.h5",
};

static const kvt_column check_columns[] = {
	{ "layer", "layer", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "statistic", "share of", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "grown", "grown", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "recorded", "recorded", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "difference", "difference", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%+.4f", 0 },
	{ 0 },
};

/* What the options were given as. */
typedef struct grow_options {
	char *tokens, *steps, *temperature, *check;
	gint64 layer, seed;
	gboolean no_keys;
	kvt_growth growth;
	kvt_attention_temperature given;
} grow_options;

static void grow_options_clear(grow_options *options)
{
	g_free(options->tokens);
	g_free(options->steps);
	g_free(options->temperature);
	g_free(options->check);
}

static bool read_temperature(grow_options *options, GError **error)
{
	const char *text = options->temperature;
	g_auto(GStrv) parts = g_strsplit(text, ":", -1);
	char *end = NULL;
	guint64 tokens = 0;
	options->growth.temperature = &options->given;
	if (strcmp(text, "none") == 0)
		return true;
	double rate = g_strv_length(parts) == 2 ? g_ascii_strtod(parts[0], &end) : -1;
	if (rate >= 0 && rate <= 100 && end != parts[0] && *end == '\0' &&
		g_ascii_string_to_unsigned(
			parts[1], 10, 1, KVT_ATTENTION_TOKENS_MAX, &tokens, NULL)) {
		options->given = (kvt_attention_temperature){ .rate = rate, .tokens = tokens };
		return true;
	}
	g_autofree char *quoted = kvt_error_quote(text);
	return kvt_error_usage(
		error, "--temperature: %s, expected RATE:TOKENS such as 0.1:2048, or none", quoted);
}

/* A count within least .. most. */
static bool read_count(const char *option, const char *text, uint64_t least, uint64_t most,
	uint64_t *count, GError **error)
{
	double value;
	if (!kvt_command_quantity(option, text, KVT_UNIT_COUNT, &value, error))
		return false;
	if (!(value >= (double)least && value <= (double)most))
		return kvt_error_usage(error,
			"%s: %s, expected %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, option,
			text, least, most);
	*count = (uint64_t)value;
	return true;
}

static bool read_options(grow_options *options, const char *output, GError **error)
{
	kvt_growth *growth = &options->growth;
	if (options->tokens == NULL)
		return kvt_error_usage(
			error, "--tokens: is missing, expected a length such as --tokens 10M");
	if (output == NULL || strcmp(output, "-") == 0)
		return kvt_error_usage(error, "--output: is missing, expected a file to write");
	if (!read_count("--tokens", options->tokens, 1, KVT_ATTENTION_TOKENS_MAX,
		    &growth->context_tokens, error))
		return false;
	if (options->steps != NULL && !read_count("--steps", options->steps, 1,
					      KVT_ATTENTION_TOKENS_MAX, &growth->steps, error))
		return false;
	if (options->layer < -1 || options->layer >= KVT_ATTENTION_LAYERS_MAX)
		return kvt_error_usage(error,
			"--layer: %" G_GINT64_FORMAT ", expected the number of a layer",
			options->layer);
	if (options->seed < 0)
		return kvt_error_usage(
			error, "--seed: %" G_GINT64_FORMAT ", expected 0 or more", options->seed);
	growth->layer = (int32_t)options->layer;
	growth->seed = (uint64_t)options->seed;
	growth->without_keys = options->no_keys;
	return options->temperature == NULL || read_temperature(options, error);
}

static void add_comparison(
	kvt_table *table, uint32_t layer, const char *what, double grown, double recorded)
{
	kvt_table_add_row(table);
	kvt_table_add_integer(table, layer);
	kvt_table_add_text(table, what);
	kvt_table_add_number(table, grown);
	kvt_table_add_number(table, recorded);
	kvt_table_add_number(table, grown - recorded);
}

static bool can_score(const kvt_attention_layer *layer)
{
	const kvt_attention_header *header =
		kvt_attention_trace_header(kvt_attention_layer_trace(layer));
	return kvt_attention_layer_has_queries(layer) && kvt_attention_layer_has_keys(layer) &&
	       header->total_tokens / header->block_tokens < KVT_KEY_STATISTICS_PAGES_MAX;
}

/* What needs queries and keys, from some of the steps. */
static bool compare_keys(
	kvt_attention_layer *grown, kvt_attention_layer *recorded, kvt_table *table, GError **error)
{
	kvt_key_statistics a, b;
	uint32_t number = kvt_attention_layer_number(grown);
	if (!kvt_key_statistics_measure(grown, &a, error) ||
		!kvt_key_statistics_measure(recorded, &b, error))
		return false;
	add_comparison(table, number, "entropy, of the most there can be", a.entropy, b.entropy);
	add_comparison(table, number, "far mass, oracle at 2% of pages", a.far, b.far);
	add_comparison(table, number, "mass, 2% by page means", a.means, b.means);
	add_comparison(table, number, "mass, 2% by page bounds", a.bounds, b.bounds);
	add_comparison(table, number, "of the oracle's, by page means", a.means / a.oracle,
		b.means / b.oracle);
	add_comparison(table, number, "of the oracle's, by page bounds", a.bounds / a.oracle,
		b.bounds / b.oracle);
	return true;
}

static bool compare_layer(kvt_attention_trace *grown, kvt_attention_trace *recorded,
	uint32_t number, kvt_table *table, GError **error)
{
	kvt_access_statistics a, b;
	g_autoptr(kvt_attention_layer) from = kvt_attention_layer_open(grown, number, 0, error);
	g_autoptr(kvt_attention_layer) to =
		from != NULL ? kvt_attention_layer_open(recorded, number, 0, error) : NULL;
	if (to == NULL || !kvt_access_statistics_measure(from, 0, 0, &a, error) ||
		!kvt_access_statistics_measure(to, 0, 0, &b, error))
		return false;
	for (unsigned i = 0; i < KVT_ACCESS_BUDGETS; i++) {
		g_autofree char *what = g_strdup_printf(
			"mass, oracle at %.0f%% of pages", 100 * kvt_access_budgets[i]);
		add_comparison(table, number, what, a.oracle[i], b.oracle[i]);
	}
	for (unsigned i = 0; i < KVT_ACCESS_BUDGETS; i++) {
		g_autofree char *what = g_strdup_printf(
			"mass, last step's best %.0f%%", 100 * kvt_access_budgets[i]);
		add_comparison(table, number, what, a.last_step[i], b.last_step[i]);
	}
	add_comparison(table, number, "top 2% kept from the last step", a.overlap, b.overlap);
	add_comparison(table, number, "pages touched in all", a.distinct, b.distinct);
	add_comparison(table, number, "mass, last 64 pages", a.recent, b.recent);
	add_comparison(table, number, "mass, first page", a.first, b.first);
	add_comparison(table, number, "mass, in rows", a.covered, b.covered);
	return !can_score(from) || !can_score(to) || compare_keys(from, to, table, error);
}

/* The grown file against the recorded one, in the layers that were grown. */
static bool compare(const kvt_command_options *options, const char *path, GError **error)
{
	g_autoptr(kvt_attention_trace) grown = kvt_command_open_trace(options->output, error);
	g_autoptr(kvt_attention_trace) recorded =
		grown != NULL ? kvt_command_open_trace(path, error) : NULL;
	g_autoptr(kvt_table) table = kvt_table_new(check_columns);
	if (recorded == NULL)
		return false;
	uint32_t count;
	const uint32_t *layers = kvt_attention_trace_layers(grown, &count);
	for (uint32_t i = 0; i < count; i++)
		if (!compare_layer(grown, recorded, layers[i], table, error))
			return false;
	/* --output names the trace; the comparison goes to stdout. */
	kvt_command_options to_stdout = *options;
	to_stdout.output = NULL;
	if (options->format != KVT_FORMAT_JSON)
		return kvt_command_print_table(&to_stdout, table, error);
	json_t *result = kvt_json_result("trace-grow", 1);
	json_object_set_new(result, "file", kvt_json_text(options->output));
	json_object_set_new(result, "recorded", kvt_json_text(path));
	json_object_set_new(
		result, "derived", kvt_json_text(kvt_attention_trace_header(grown)->derived));
	json_object_set_new(result, "statistics", kvt_table_to_json(table));
	bool good = kvt_command_print_json(&to_stdout, result, error);
	json_decref(result);
	return good;
}

static void grow_file(const grow_options *own, const kvt_command_options *options, GError **error)
{
	g_autoptr(kvt_attention_trace) trace = kvt_command_open_trace(options->arguments[0], error);
	if (trace == NULL)
		return;
	g_autoptr(kvt_progress) progress = kvt_progress_new("growing rows", 0);
	if (kvt_attention_trace_grow(trace, options->output, &own->growth, progress, error) &&
		own->check != NULL)
		compare(options, own->check, error);
}

int kvt_trace_grow_run(int argc, char **argv, GError **error)
{
	grow_options given = { .layer = -1, .seed = 1 };
	const GOptionEntry own[] = {
		{ "tokens", 0, 0, G_OPTION_ARG_FILENAME, &given.tokens,
			"tokens of context to grow to, such as 10M", "N" },
		{ "layer", 0, 0, G_OPTION_ARG_INT64, &given.layer,
			"the layer to grow (all that are global)", "N" },
		{ "steps", 0, 0, G_OPTION_ARG_FILENAME, &given.steps,
			"steps to make (as many as recorded; with keys 537M / tokens, if that is "
			"fewer)",
			"N" },
		{ "no-keys", 0, 0, G_OPTION_ARG_NONE, &given.no_keys,
			"rows only, without queries and keys", NULL },
		{ "seed", 0, 0, G_OPTION_ARG_INT64, &given.seed, "of the random numbers (1)", "N" },
		{ "temperature", 0, 0, G_OPTION_ARG_FILENAME, &given.temperature,
			"queries are scaled by 1 + RATE log1p(position / TOKENS), or none (as the "
			"model's description says)",
			"RATE:TOKENS" },
		{ "check", 0, 0, G_OPTION_ARG_FILENAME, &given.check,
			"compare with this recorded trace", "FILE" },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &grow_action, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT, 1, 1,
		own };
	g_auto(kvt_command_options) options = { 0 };
	if (kvt_command_parse(&syntax, argc, argv, &options, error) &&
		read_options(&given, options.output, error))
		grow_file(&given, &options, error);
	grow_options_clear(&given);
	return 0;
}
