/* command_options.c: reads the options of a subcommand and prints its help and its result. */
#include "sim/cmd/command_options.h"

#include <errno.h>
#include <string.h>

#include "sim/base/error.h"

/* What GOption fills before it is checked. */
typedef struct kvt_given {
	gboolean help;
	char *format;
} kvt_given;

void kvt_command_options_clear(kvt_command_options *options)
{
	g_clear_pointer(&options->output, g_free);
	g_clear_pointer(&options->sets, g_strfreev);
	g_clear_pointer(&options->arguments, g_strfreev);
}

/* All entries of a command, its own first. The caller frees the array. */
static GArray *all_entries(
	const kvt_command_syntax *syntax, kvt_given *given, kvt_command_options *options)
{
	const struct {
		unsigned flag; /* 0: every command has it */
		GOptionEntry entry;
	} shared[] = {
		{ KVT_TAKES_SET, { "set", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options->sets,
					 "override a key of the configuration; repeatable",
					 "SECTION.KEY=VALUE" } },
		{ KVT_TAKES_FORMAT, { "format", 0, 0, G_OPTION_ARG_FILENAME, &given->format,
					    "table (the default), json or csv", "FORMAT" } },
		{ KVT_TAKES_OUTPUT,
			{ "output", 'o', 0, G_OPTION_ARG_FILENAME, &options->output,
				"write the result to a file instead of standard output", "FILE" } },
		{ 0, { "help", 'h', 0, G_OPTION_ARG_NONE, &given->help, "show this help", NULL } },
		{ 0, { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options->arguments,
			     NULL, NULL } },
	};
	GArray *entries = g_array_new(TRUE, TRUE, sizeof(GOptionEntry));
	for (const GOptionEntry *own = syntax->own; own != NULL && own->long_name != NULL; own++)
		g_array_append_val(entries, *own);
	for (size_t i = 0; i < G_N_ELEMENTS(shared); i++)
		if (shared[i].flag == 0 || (syntax->takes & shared[i].flag) != 0)
			g_array_append_val(entries, shared[i].entry);
	return entries;
}

/* GOption's messages are about one option; an unknown one gets a suggestion. */
static gboolean refuse_option(const kvt_command_syntax *syntax, const GArray *entries,
	const GError *reason, GError **error)
{
	const char *name = syntax->command->name;
	const char *dashes = strstr(reason->message, "--");
	if (!g_error_matches(reason, G_OPTION_ERROR, G_OPTION_ERROR_UNKNOWN_OPTION) ||
		dashes == NULL)
		return kvt_error_usage(
			error, "%s, see \"kvtier %s --help\"", reason->message, name);
	g_autofree char *word = g_strndup(dashes + 2, strcspn(dashes + 2, "="));
	g_autofree const char **names = g_new0(const char *, entries->len + 1);
	for (guint i = 0; i < entries->len; i++)
		names[i] = g_array_index(entries, GOptionEntry, i).long_name;
	const char *near = kvt_error_suggest(word, names);
	g_autofree char *option = g_strconcat("--", word, NULL);
	g_autofree char *quoted = kvt_error_quote(option);
	if (near != NULL && *near != '\0')
		return kvt_error_usage(
			error, "%s is not an option, did you mean \"--%s\"?", quoted, near);
	return kvt_error_usage(
		error, "%s is not an option, see \"kvtier %s --help\"", quoted, name);
}

static gboolean check_arguments(
	const kvt_command_syntax *syntax, kvt_command_options *options, GError **error)
{
	const kvt_command *command = syntax->command;
	if (options->arguments == NULL)
		options->arguments = g_new0(char *, 1);
	if (options->sets == NULL)
		options->sets = g_new0(char *, 1);
	options->argument_count = g_strv_length(options->arguments);
	if (options->argument_count > syntax->most) {
		g_autofree char *quoted = kvt_error_quote(options->arguments[syntax->most]);
		return kvt_error_usage(error,
			"%s is one argument too many, see \"kvtier %s --help\"", quoted,
			command->name);
	}
	if (options->argument_count < syntax->least)
		return kvt_error_usage(error, "%s: expected %s, see \"kvtier %s --help\"",
			command->name, command->arguments, command->name);
	return TRUE;
}

gboolean kvt_command_parse(const kvt_command_syntax *syntax, int argc, char **argv,
	kvt_command_options *options, GError **error)
{
	const kvt_command *command = syntax->command;
	kvt_given given = { 0 };
	memset(options, 0, sizeof(*options));
	GArray *entries = all_entries(syntax, &given, options);
	g_autofree char *program = g_strconcat("kvtier ", command->name, NULL);
	g_set_prgname(program);
	g_autoptr(GOptionContext) context = g_option_context_new(command->arguments);
	g_option_context_set_help_enabled(context, FALSE);
	g_option_context_set_summary(context, command->summary);
	g_option_context_set_description(context, command->help);
	g_option_context_add_main_entries(context, (GOptionEntry *)entries->data, NULL);

	/* GOption takes what it has read out of the list, so it gets its own. */
	char **words = g_new0(char *, (size_t)argc + 1);
	for (int i = 0; i < argc; i++)
		words[i] = g_strdup(argv[i]);
	g_autoptr(GError) reason = NULL;
	gboolean good = g_option_context_parse_strv(context, &words, &reason);
	int format = KVT_FORMAT_TABLE;
	if (!good) {
		refuse_option(syntax, entries, reason, error);
	} else if (given.help) {
		g_autofree char *help = g_option_context_get_help(context, TRUE, NULL);
		g_autofree char *more =
			syntax->command->more ? syntax->command->more() : g_strdup("");
		printf("%s%s", help, more);
		good = FALSE;
	} else {
		good = check_arguments(syntax, options, error) &&
		       (given.format == NULL || kvt_command_choice("--format", given.format,
							kvt_format_names, &format, error));
	}
	options->format = (kvt_format)format;
	g_strfreev(words);
	g_free(given.format);
	g_array_free(entries, TRUE);
	return good;
}

gboolean kvt_command_quantity(
	const char *option, const char *text, kvt_unit unit, double *value, GError **error)
{
	if (kvt_unit_parse(text, unit, value, error))
		return TRUE;
	g_prefix_error(error, "%s: ", option);
	return FALSE;
}

gboolean kvt_command_choice(
	const char *option, const char *text, const char *const *names, int *value, GError **error)
{
	for (int i = 0; names[i] != NULL; i++)
		if (strcmp(names[i], text) == 0) {
			*value = i;
			return TRUE;
		}
	g_autofree char *quoted = kvt_error_quote(text);
	g_autofree char *list = g_strjoinv(", ", (char **)names);
	const char *near = kvt_error_suggest(text, names);
	if (near != NULL)
		return kvt_error_usage(error,
			"%s: %s is not known, did you mean \"%s\"? (one of %s)", option, quoted,
			near, list);
	return kvt_error_usage(
		error, "%s: %s is not known, expected one of %s", option, quoted, list);
}

gboolean kvt_command_range(
	const char *option, const char *text, uint64_t *first, uint64_t *end, GError **error)
{
	g_auto(GStrv) parts = g_strsplit(text, ":", -1);
	guint64 low = 0, high = 0;
	if (g_strv_length(parts) == 2 &&
		(*parts[0] == '\0' ||
			g_ascii_string_to_unsigned(parts[0], 10, 0, INT64_MAX, &low, NULL)) &&
		(*parts[1] == '\0' ||
			g_ascii_string_to_unsigned(parts[1], 10, 1, INT64_MAX, &high, NULL))) {
		*first = low;
		*end = high;
		return TRUE;
	}
	g_autofree char *quoted = kvt_error_quote(text);
	return kvt_error_usage(
		error, "%s: %s, expected a range FIRST:END such as 0:64", option, quoted);
}

gboolean kvt_command_write_timeline(const kvt_timeline *timeline, const char *path, GError **error)
{
	uint64_t dropped = kvt_timeline_dropped(timeline);
	if (dropped > 0)
		g_printerr("kvtier: the timeline is full, %" G_GUINT64_FORMAT
			   " later spans are not in it\n",
			dropped);
	return kvt_timeline_write(timeline, path, error);
}

static gboolean to_stdout(const kvt_command_options *options)
{
	return options->output == NULL || strcmp(options->output, "-") == 0;
}

FILE *kvt_command_open(const kvt_command_options *options, GError **error)
{
	if (to_stdout(options))
		return stdout;
	FILE *stream = fopen(options->output, "we");
	if (stream == NULL)
		kvt_error_failed(
			error, "%s: cannot write the file: %s", options->output, g_strerror(errno));
	return stream;
}

gboolean kvt_command_close(const kvt_command_options *options, FILE *stream, GError **error)
{
	/* main closes stdout, and reports what it could not write. */
	if (to_stdout(options))
		return TRUE;
	gboolean failed = ferror(stream);
	errno = 0;
	if (fclose(stream) != 0 || failed)
		return kvt_error_failed(error, "%s: cannot write the file: %s", options->output,
			errno != 0 ? g_strerror(errno) : "a write failed");
	return TRUE;
}

gboolean kvt_command_print_table(
	const kvt_command_options *options, const kvt_table *table, GError **error)
{
	FILE *stream = kvt_command_open(options, error);
	if (stream == NULL)
		return FALSE;
	/* A failed write shows again, with the file's name, when the stream is closed. */
	kvt_table_write(table, options->format, stream, NULL);
	return kvt_command_close(options, stream, error);
}

gboolean kvt_command_print_json(
	const kvt_command_options *options, const json_t *value, GError **error)
{
	if (options->format != KVT_FORMAT_JSON) {
		g_autoptr(kvt_table) table = kvt_table_from_json(value);
		return kvt_command_print_table(options, table, error);
	}
	FILE *stream = kvt_command_open(options, error);
	if (stream == NULL)
		return FALSE;
	kvt_json_write(value, stream, NULL);
	return kvt_command_close(options, stream, error);
}
