/* trace_heat.c: `kvtier trace heat`: a layer's attention mass by step and place, for a picture. */
#include "sim/cmd/trace_heat.h"

#include "sim/base/error.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/trace_open.h"
#include "traces/attention_heat.h"

static const kvt_command heat_action = {
	.name = "trace heat",
	.summary = "Show where in the context each step of an attention trace looks.",
	.arguments = "FILE",
	.help = "For each step, and for each of the runs that the pages are cut into: the mass "
		"that\n"
		"the step's row gives them, of one KV head or the mean over all. Pages that the "
		"row\n"
		"leaves out count as 0. plots/retrieval.gp makes a picture of the CSV.\n\n"
		"  kvtier trace heat traces/samples/code-128k-retrieval.h5 --format csv -o "
		"heat.csv",
};

static const kvt_column columns[] = {
	{ "step", "step", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "turn", "turn", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "kind", "kind", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "position", "position", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "bin", NULL, KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "first_page", "first page", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "pages", "pages", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "mass", "mass", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.5f", 0 },
	{ 0 },
};

/* What the options were given as. */
typedef struct heat_options {
	char *steps, *pages;
	int layer, head, bins;
	kvt_attention_view view;
} heat_options;

static bool read_options(heat_options *given, GError **error)
{
	if (given->layer < -1)
		return kvt_error_usage(
			error, "--layer: %d, expected the number of a layer", given->layer);
	if (given->head < -1)
		return kvt_error_usage(
			error, "--head: %d, expected the number of a KV head", given->head);
	if (given->bins < 1)
		return kvt_error_usage(error, "--bins: %d, expected 1 or more", given->bins);
	kvt_attention_view *view = &given->view;
	view->kv_head = given->head >= 0 ? (uint32_t)given->head : KVT_ATTENTION_HEAT_MEAN;
	return (!given->steps || kvt_command_range("--steps", given->steps, &view->first_step,
					 &view->end_step, error)) &&
	       (!given->pages || kvt_command_range("--pages", given->pages, &view->first_page,
					 &view->end_page, error));
}

static void add_step(kvt_table *table, const kvt_attention_heat *heat,
	const kvt_attention_step *step, uint64_t number)
{
	const double *mass = &heat->mass[(number - heat->first_step) * heat->bins];
	for (uint32_t bin = 0; bin < heat->bins; bin++) {
		uint64_t first = kvt_attention_heat_first_page(heat, bin);
		uint64_t end = kvt_attention_heat_first_page(heat, bin + 1);
		kvt_table_add_row(table);
		kvt_table_add_integer(table, (int64_t)number);
		kvt_table_add_integer(table, step->turn);
		kvt_table_add_text(
			table, step->kind == KVT_TRACE_STEP_PROMPT ? "prompt" : "decode");
		kvt_table_add_integer(table, (int64_t)step->position);
		kvt_table_add_integer(table, bin);
		kvt_table_add_integer(table, (int64_t)first);
		kvt_table_add_integer(table, (int64_t)(end - first));
		kvt_table_add_number(table, mass[bin]);
	}
}

static bool print_heat(const kvt_command_options *options, const kvt_attention_trace *trace,
	uint32_t layer, const kvt_attention_heat *heat, GError **error)
{
	uint64_t count;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	g_autoptr(kvt_table) table = kvt_table_new(columns);
	for (uint64_t i = heat->first_step; i < heat->first_step + heat->steps; i++)
		add_step(table, heat, &steps[i], i);
	if (options->format != KVT_FORMAT_JSON)
		return kvt_command_print_table(options, table, error);
	json_t *result = kvt_json_result("trace-heat", 1);
	json_object_set_new(result, "file", kvt_json_text(options->arguments[0]));
	json_object_set_new(result, "layer", json_integer(layer));
	json_object_set_new(result, "bins", json_integer(heat->bins));
	json_object_set_new(result, "cells", kvt_table_to_json(table));
	bool printed = kvt_command_print_json(options, result, error);
	json_decref(result);
	return printed;
}

static bool heat_file(const kvt_command_options *options, const heat_options *given, GError **error)
{
	g_autoptr(kvt_attention_trace) trace = kvt_command_open_trace(options->arguments[0], error);
	if (trace == NULL)
		return false;
	uint32_t count;
	const uint32_t *layers = kvt_attention_trace_layers(trace, &count);
	/* of several layers the deepest: global attention there is the most selective */
	uint32_t number = given->layer >= 0 ? (uint32_t)given->layer : layers[count - 1];
	g_auto(kvt_attention_heat) heat = { 0 };
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, number, 0, error);
	return layer != NULL &&
	       kvt_attention_heat_measure(
		       layer, &given->view, (uint32_t)given->bins, &heat, error) &&
	       print_heat(options, trace, number, &heat, error);
}

int kvt_trace_heat_run(int argc, char **argv, GError **error)
{
	heat_options given = { .layer = -1, .head = -1, .bins = 256 };
	const GOptionEntry own[] = {
		{ "layer", 0, 0, G_OPTION_ARG_INT, &given.layer,
			"the layer (the last that was recorded)", "N" },
		{ "head", 0, 0, G_OPTION_ARG_INT, &given.head,
			"one KV head (the mean over all of them)", "N" },
		{ "steps", 0, 0, G_OPTION_ARG_FILENAME, &given.steps, "only these steps (all)",
			"FIRST:END" },
		{ "pages", 0, 0, G_OPTION_ARG_FILENAME, &given.pages, "only these pages (all)",
			"FIRST:END" },
		{ "bins", 0, 0, G_OPTION_ARG_INT, &given.bins,
			"runs that the pages are cut into, at most (256)", "N" },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &heat_action, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT, 1, 1,
		own };
	g_auto(kvt_command_options) options = { 0 };
	if (kvt_command_parse(&syntax, argc, argv, &options, error) && read_options(&given, error))
		heat_file(&options, &given, error);
	g_free(given.steps);
	g_free(given.pages);
	return 0;
}
