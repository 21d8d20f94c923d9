/* models_command.c: `kvtier models`: finds the action, and carries out list and import. show is in
 * models_show.c, check and fit in models_check.c; the work is done in models/. */
#include "sim/cmd/models_command.h"

#include <string.h>

#include "models/llm_cost.h"
#include "models/llm_import.h"
#include "models/model_file.h"
#include "sim/base/error.h"
#include "sim/base/output.h"
#include "sim/cmd/command_options.h"

static const kvt_command list_action = {
	.name = "models list",
	.summary = "List the language models, GPUs, drives, NICs and hosts there are.",
	.arguments = "[llm|gpu|drive|nic|host]",
};

static const kvt_column list_columns[] = {
	{ "kind", "kind", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "name", "name", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "title", "title", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "summary", "summary", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ 0 },
};

static gboolean list_kind(kvt_table *table, kvt_model_kind kind, GError **error)
{
	g_auto(GStrv) names = kvt_model_names(kind, error);
	for (char **name = names; name != NULL && *name != NULL; name++) {
		g_autofree char *title = NULL;
		g_autofree char *summary = kvt_models_summary(kind, *name, &title, error);
		if (summary == NULL)
			return FALSE;
		kvt_table_add_row(table);
		kvt_table_add_text(table, kvt_model_kind_names[kind]);
		kvt_table_add_text(table, *name);
		kvt_table_add_text(table, title);
		kvt_table_add_text(table, summary);
	}
	return names != NULL;
}

static int run_list(int argc, char **argv, GError **error)
{
	const kvt_command_syntax syntax = { &list_action, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT, 0, 1,
		NULL };
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	int only = KVT_MODEL_KINDS;
	if (options.argument_count > 0 && !kvt_command_choice("models list", options.arguments[0],
						  kvt_model_kind_names, &only, error))
		return 0;
	g_autoptr(kvt_table) table = kvt_table_new(list_columns);
	for (int kind = 0; kind < KVT_MODEL_KINDS; kind++) {
		if ((only == KVT_MODEL_KINDS || only == kind) &&
			!list_kind(table, (kvt_model_kind)kind, error))
			return 0;
	}
	kvt_command_print_table(&options, table, error);
	return 0;
}

static const kvt_command import_action = {
	.name = "models import",
	.summary = "Write the file of a language model from its Hugging Face config.json.",
	.arguments = "CONFIG.json",
	.help = "Understands the decoders of Llama 1 to 4, Qwen 2 and 3, Mistral, Mixtral, Gemma 1 "
		"to\n3 and DeepSeek V2 and V3, plain or quantised (fp8, compressed-tensors, gptq, "
		"awq).\nWhat it does not understand and may change the model's size it refuses.\n\n"
		"  kvtier models import config.json -o my-model.ini --name \"My model 7B\"\n"
		"  kvtier models show ./my-model.ini",
};

static int run_import(int argc, char **argv, GError **error)
{
	char *given_name = NULL;
	const GOptionEntry own[] = {
		{ "name", 0, 0, G_OPTION_ARG_FILENAME, &given_name,
			"what the model is called (what the file says, or its name)", "NAME" },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &import_action, KVT_TAKES_OUTPUT, 1, 1, own };
	g_auto(kvt_command_options) options = { 0 };
	gboolean go_on = kvt_command_parse(&syntax, argc, argv, &options, error);
	g_autofree char *name = given_name;
	if (!go_on)
		return 0;
	const char *path = options.arguments[0];
	g_autofree char *source = NULL;
	g_autoptr(kvt_llm) llm = kvt_llm_import(path, name, &source, error);
	if (llm == NULL)
		return 0;
	g_autofree char *text = kvt_llm_to_ini(llm, source);
	/* Nothing is written that could not be read back. */
	g_autoptr(kvt_llm) again = kvt_llm_parse(path, text, error);
	FILE *stream = again != NULL ? kvt_command_open(&options, error) : NULL;
	if (stream == NULL)
		return 0;
	fputs(text, stream);
	kvt_command_close(&options, stream, error);
	return 0;
}

static int run_models(int argc, char **argv, GError **error)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv, GError **error);
	} actions[] = {
		{ "list", run_list },
		{ "show", kvt_models_show_run },
		{ "check", kvt_models_check_run },
		{ "fit", kvt_models_fit_run },
		{ "import", run_import },
	};
	const char *names[G_N_ELEMENTS(actions) + 1] = { NULL };
	for (size_t i = 0; i < G_N_ELEMENTS(actions); i++) {
		names[i] = actions[i].name;
		if (argc > 1 && strcmp(argv[1], names[i]) == 0)
			return actions[i].run(argc - 1, argv + 1, error);
	}
	const kvt_command_syntax syntax = { &kvt_command_models, 0, 1, G_MAXUINT, NULL };
	g_auto(kvt_command_options) options = { 0 };
	int which;
	if (kvt_command_parse(&syntax, argc, argv, &options, error))
		kvt_command_choice("models", options.arguments[0], names, &which, error);
	return 0;
}

const kvt_command kvt_command_models = {
	.name = "models",
	.summary = "List, show, check and import models of LLMs and hardware",
	.arguments = "list|show|check|fit|import ...",
	.help = "  models list [KIND]           what there is\n"
		"  models show NAME             every constant with its source, and what follows\n"
		"  models check --gpu NAME ...  predicted kernel times against measured ones\n"
		"  models fit --gpu NAME ...    kernel tables from measured times\n"
		"  models import CONFIG.json    a language model's file from Hugging Face's\n\n"
		"\"kvtier models list --help\" and so on say more.",
	.run = run_models,
};
