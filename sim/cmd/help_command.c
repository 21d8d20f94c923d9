/* help_command.c: `kvtier help`: the overview, a command's help, or a topic. */
#include <stdio.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"

static const kvt_topic *find_topic(const char *name)
{
	for (size_t i = 0; kvt_topics[i] != NULL; i++)
		if (strcmp(kvt_topics[i]->name, name) == 0)
			return kvt_topics[i];
	return NULL;
}

/* The command or topic nearest to a name that is neither. */
static const char *suggest(const char *name)
{
	GPtrArray *names = g_ptr_array_new();
	for (size_t i = 0; kvt_commands[i] != NULL; i++)
		g_ptr_array_add(names, (gpointer)kvt_commands[i]->name);
	for (size_t i = 0; kvt_topics[i] != NULL; i++)
		g_ptr_array_add(names, (gpointer)kvt_topics[i]->name);
	g_ptr_array_add(names, NULL);
	const char *near = kvt_error_suggest(name, (const char *const *)names->pdata);
	g_ptr_array_free(names, TRUE);
	return near;
}

static int run(int argc, char **argv, GError **error)
{
	g_auto(kvt_command_options) options = { 0 };
	const kvt_command_syntax syntax = { &kvt_command_help, 0, 0, G_MAXUINT, NULL };
	if (strcmp(argv[0], "help") == 0 &&
		!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	if (strcmp(argv[0], "help") != 0 || options.argument_count == 0) {
		g_autofree char *overview = kvt_command_overview();
		fputs(overview, stdout);
		return 0;
	}
	char **words = options.arguments;
	const kvt_topic *topic = find_topic(words[0]);
	if (topic != NULL) {
		g_autofree char *text =
			topic->text((int)options.argument_count - 1, words + 1, error);
		if (text != NULL)
			fputs(text, stdout);
		return 0;
	}
	const kvt_command *command = kvt_command_find(words[0], NULL);
	if (command != NULL)
		return command->run(2, (char *[]){ words[0], "--help", NULL }, error);
	g_autofree char *quoted = kvt_error_quote(words[0]);
	const char *near = suggest(words[0]);
	if (near != NULL)
		kvt_error_usage(
			error, "there is no help on %s, did you mean \"%s\"?", quoted, near);
	else
		kvt_error_usage(error, "there is no help on %s, see \"kvtier help\"", quoted);
	return 0;
}

const kvt_command kvt_command_help = {
	.name = "help",
	.summary = "Show what kvtier can do, or help on a command or topic",
	.arguments = "[COMMAND | TOPIC [WORD...]]",
	.run = run,
};
