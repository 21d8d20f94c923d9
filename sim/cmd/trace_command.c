/* trace_command.c: `kvtier trace info|heat|cut|grow|check`: what a recorded attention trace holds
 * and where it looks, a smaller one cut from it, a longer one grown from it, and whether it is
 * sound. The work is done in traces/. */
#include <string.h>

#include "sim/base/error.h"
#include "sim/base/progress.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/trace_grow.h"
#include "sim/cmd/trace_heat.h"
#include "sim/cmd/trace_info.h"
#include "sim/cmd/trace_open.h"
#include "traces/attention_trace_check.h"
#include "traces/attention_trace_cut.h"
#include "traces/attention_trace_writer.h"

static const kvt_command check_action = {
	.name = "trace check",
	.summary = "Read all of an attention trace and check it.",
	.arguments = "FILE",
	.help = "Every row and tensor is read and checked, and at some steps the recorded masses\n"
		"are compared with those of the recorded queries and keys. The first thing that "
		"is\n"
		"wrong is an error.",
};

static const kvt_command cut_action = {
	.name = "trace cut",
	.summary = "Write a smaller attention trace.",
	.arguments = "FILE OUT",
	.help = "Rows are copied unless the context is cut: --pages keeps only those pages of the\n"
		"context, numbers what stays anew, and recomputes the masses over it, as if the\n"
		"rest had never been there. OUT says in its attribute \"derived\" what was "
		"done.\n\n"
		"  kvtier trace cut code.h5 out.h5 --steps 368:544 --layers 7 --without "
		"keys,values",
};

static const kvt_column check_columns[] = {
	{ "layer", "layer", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "rows", "rows", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "accesses", "accesses", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "tensor_values", "tensor values", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "masses_recomputed", "masses recomputed", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "worst_relative_error", "worst error", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.3f%%", 100 },
	{ 0 },
};

static bool check_layers(kvt_attention_trace *trace, int samples, kvt_table *table, GError **error)
{
	uint32_t count;
	const uint32_t *layers = kvt_attention_trace_layers(trace, &count);
	uint64_t steps, rows_done = 0;
	kvt_attention_trace_steps(trace, &steps);
	g_autoptr(kvt_progress) progress = kvt_progress_new(
		"checking rows", steps * count * kvt_attention_trace_header(trace)->kv_heads);
	for (uint32_t i = 0; i < count; i++) {
		kvt_attention_layer_check result;
		g_autoptr(kvt_attention_layer) layer =
			kvt_attention_layer_open(trace, layers[i], 0, error);
		if (layer == NULL || !kvt_attention_layer_check_all(layer, (uint64_t)samples,
					     &result, progress, &rows_done, error))
			return false;
		kvt_table_add_row(table);
		kvt_table_add_integer(table, layers[i]);
		kvt_table_add_integer(table, (int64_t)result.rows);
		kvt_table_add_integer(table, (int64_t)result.accesses);
		kvt_table_add_integer(table, (int64_t)result.tensor_values);
		kvt_table_add_integer(table, (int64_t)result.recomputed);
		if (result.recomputed > 0)
			kvt_table_add_number(table, result.worst);
	}
	return true;
}

static int run_check(int argc, char **argv, GError **error)
{
	int samples = 16;
	const GOptionEntry own[] = {
		{ "samples", 0, 0, G_OPTION_ARG_INT, &samples,
			"steps a layer whose masses are recomputed (16)", "N" },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &check_action, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT, 1,
		1, own };
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	if (samples < 0)
		return kvt_error_usage(error, "--samples: %d, expected 0 or more", samples);
	g_autoptr(kvt_attention_trace) trace = kvt_command_open_trace(options.arguments[0], error);
	g_autoptr(kvt_table) table = kvt_table_new(check_columns);
	if (trace == NULL || !kvt_attention_trace_check_tokens(trace, error) ||
		!check_layers(trace, samples, table, error))
		return 0;
	if (options.format != KVT_FORMAT_JSON) {
		kvt_command_print_table(&options, table, error);
		return 0;
	}
	json_t *result = kvt_json_result("trace-check", 1);
	json_object_set_new(result, "file", kvt_json_text(options.arguments[0]));
	json_object_set_new(result, "layers", kvt_table_to_json(table));
	kvt_command_print_json(&options, result, error);
	json_decref(result);
	return 0;
}

/* What cut's own options were given as, and what they say. */
typedef struct cut_options {
	char *steps, *layers, *pages, *without, *source, *license;
	int every;
	GArray *layer_numbers, *ranges;
	kvt_attention_cut cut;
} cut_options;

static void cut_options_clear(cut_options *given)
{
	g_free(given->steps);
	g_free(given->layers);
	g_free(given->pages);
	g_free(given->without);
	g_free(given->source);
	g_free(given->license);
	g_array_free(given->layer_numbers, TRUE);
	g_array_free(given->ranges, TRUE);
}

static bool read_layers(cut_options *given, GError **error)
{
	g_auto(GStrv) words = g_strsplit(given->layers, ",", -1);
	for (char **word = words; *word != NULL; word++) {
		guint64 number;
		if (!g_ascii_string_to_unsigned(
			    *word, 10, 0, KVT_ATTENTION_LAYERS_MAX - 1, &number, NULL)) {
			g_autofree char *quoted = kvt_error_quote(given->layers);
			return kvt_error_usage(
				error, "--layers: %s, expected numbers such as 3,7", quoted);
		}
		uint32_t layer = (uint32_t)number;
		g_array_append_val(given->layer_numbers, layer);
	}
	return true;
}

static bool read_pages(cut_options *given, GError **error)
{
	g_auto(GStrv) words = g_strsplit(given->pages, ",", -1);
	for (char **word = words; *word != NULL; word++) {
		kvt_page_range range;
		if (!kvt_command_range("--pages", *word, &range.first, &range.end, error))
			return false;
		g_array_append_val(given->ranges, range);
	}
	return true;
}

static bool read_without(cut_options *given, GError **error)
{
	static const char *const names[] = { "queries", "keys", "values", NULL };
	g_auto(GStrv) words = g_strsplit(given->without, ",", -1);
	for (char **word = words; *word != NULL; word++) {
		int which;
		if (!kvt_command_choice("--without", *word, names, &which, error))
			return false;
		given->cut.without |= KVT_ATTENTION_QUERIES << which;
	}
	return true;
}

static bool read_cut(cut_options *given, GError **error)
{
	kvt_attention_cut *cut = &given->cut;
	if (given->every < 1)
		return kvt_error_usage(error, "--every: %d, expected 1 or more", given->every);
	if (given->steps != NULL && !kvt_command_range("--steps", given->steps, &cut->first_step,
					    &cut->end_step, error))
		return false;
	if ((given->layers != NULL && !read_layers(given, error)) ||
		(given->pages != NULL && !read_pages(given, error)) ||
		(given->without != NULL && !read_without(given, error)))
		return false;
	cut->step_stride = (uint64_t)given->every;
	cut->layers = (const uint32_t *)given->layer_numbers->data;
	cut->layer_count = given->layer_numbers->len;
	cut->ranges = (const kvt_page_range *)given->ranges->data;
	cut->range_count = given->ranges->len;
	cut->source = given->source;
	cut->license = given->license;
	return true;
}

static void cut_file(const cut_options *given, char **paths, GError **error)
{
	g_autoptr(kvt_attention_trace) trace = kvt_command_open_trace(paths[0], error);
	if (trace == NULL)
		return;
	g_autoptr(kvt_progress) progress = kvt_progress_new("cutting steps", 0);
	kvt_attention_trace_cut(trace, paths[1], &given->cut, progress, error);
}

static int run_cut(int argc, char **argv, GError **error)
{
	cut_options given = {
		.every = 1,
		.layer_numbers = g_array_new(FALSE, FALSE, sizeof(uint32_t)),
		.ranges = g_array_new(FALSE, FALSE, sizeof(kvt_page_range)),
	};
	const GOptionEntry own[] = {
		{ "steps", 0, 0, G_OPTION_ARG_FILENAME, &given.steps, "steps that stay (all)",
			"FIRST:END" },
		{ "every", 0, 0, G_OPTION_ARG_INT, &given.every, "of these, every Nth (1)", "N" },
		{ "layers", 0, 0, G_OPTION_ARG_FILENAME, &given.layers, "layers that stay (all)",
			"N,..." },
		{ "pages", 0, 0, G_OPTION_ARG_FILENAME, &given.pages,
			"pages of the context that stay (all)", "FIRST:END,..." },
		{ "without", 0, 0, G_OPTION_ARG_FILENAME, &given.without,
			"leave out queries, keys or values", "NAME,..." },
		{ "source", 0, 0, G_OPTION_ARG_FILENAME, &given.source,
			"set the attribute that says where the recording is from", "TEXT" },
		{ "license", 0, 0, G_OPTION_ARG_FILENAME, &given.license,
			"set the attribute that names its licence", "SPDX" },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &cut_action, 0, 2, 2, own };
	g_auto(kvt_command_options) options = { 0 };
	if (kvt_command_parse(&syntax, argc, argv, &options, error) && read_cut(&given, error))
		cut_file(&given, options.arguments, error);
	cut_options_clear(&given);
	return 0;
}

static int run_trace(int argc, char **argv, GError **error)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv, GError **error);
	} actions[] = {
		{ "info", kvt_trace_info_run },
		{ "heat", kvt_trace_heat_run },
		{ "cut", run_cut },
		{ "grow", kvt_trace_grow_run },
		{ "check", run_check },
	};
	const char *names[G_N_ELEMENTS(actions) + 1] = { NULL };
	for (size_t i = 0; i < G_N_ELEMENTS(actions); i++) {
		names[i] = actions[i].name;
		if (argc > 1 && strcmp(argv[1], names[i]) == 0)
			return actions[i].run(argc - 1, argv + 1, error);
	}
	const kvt_command_syntax syntax = { &kvt_command_trace, 0, 1, G_MAXUINT, NULL };
	g_auto(kvt_command_options) options = { 0 };
	int which;
	if (kvt_command_parse(&syntax, argc, argv, &options, error))
		kvt_command_choice("trace", options.arguments[0], names, &which, error);
	return 0;
}

const kvt_command kvt_command_trace = {
	.name = "trace",
	.summary = "Show, cut, grow and check recorded attention traces",
	.arguments = "info|heat|cut|grow|check FILE",
	.help = "  trace info FILE      what it holds\n"
		"  trace heat FILE      where in the context each step looks\n"
		"  trace cut FILE OUT   a smaller one: fewer steps, layers, tensors or pages\n"
		"  trace grow FILE      a synthetic one of a longer context\n"
		"  trace check FILE     whether all of it is sound\n\n"
		"\"kvtier trace info --help\" and so on say more. The format is described in\n"
		"traces/FORMAT.md.",
	.run = run_trace,
};
