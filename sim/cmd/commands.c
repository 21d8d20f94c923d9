/* commands.c: the table of subcommands and help topics, one line each, and look-ups in it. */
#include <string.h>

#include "sim/base/error.h"
#include "sim/cmd/command.h"

const kvt_command *const kvt_commands[] = {
	&kvt_command_run,
	&kvt_command_emu,
	&kvt_command_sweep,
	&kvt_command_replay,
	&kvt_command_fleet,
	&kvt_command_plan,
	&kvt_command_tables,
	&kvt_command_models,
	&kvt_command_calibrate,
	&kvt_command_validate,
	&kvt_command_trace,
	&kvt_command_cache,
	&kvt_command_requests,
	&kvt_command_store,
	&kvt_command_node,
	&kvt_command_diff,
	&kvt_command_help,
	NULL,
};

const kvt_topic *const kvt_topics[] = {
	&kvt_topic_config,
	&kvt_topic_experiment,
	&kvt_topic_fleet_file,
	&kvt_topic_plan_file,
	&kvt_topic_tier,
	&kvt_topic_policy,
	&kvt_topic_prefetcher,
	&kvt_topic_units,
	NULL,
};

const kvt_command *kvt_command_find(const char *name, GError **error)
{
	const char *names[G_N_ELEMENTS(kvt_commands)];
	for (size_t i = 0; kvt_commands[i] != NULL; i++) {
		if (strcmp(kvt_commands[i]->name, name) == 0)
			return kvt_commands[i];
		names[i] = kvt_commands[i]->name;
	}
	names[G_N_ELEMENTS(kvt_commands) - 1] = NULL;
	g_autofree char *quoted = kvt_error_quote(name);
	const char *near = kvt_error_suggest(name, names);
	if (near != NULL)
		kvt_error_usage(error, "%s is not a command, did you mean \"%s\"?", quoted, near);
	else
		kvt_error_usage(error, "%s is not a command, see \"kvtier help\"", quoted);
	return NULL;
}

char *kvt_command_overview(void)
{
	GString *text =
		g_string_new("Usage: kvtier COMMAND [OPTION...] [ARGUMENT...]\n\n"
			     "Simulates the KV cache of long-context language models spread "
			     "over HBM, DRAM,\nNVMe and RDMA.\n\nCommands:\n");
	for (size_t i = 0; kvt_commands[i] != NULL; i++)
		g_string_append_printf(
			text, "  %-10s %s\n", kvt_commands[i]->name, kvt_commands[i]->summary);
	g_string_append(text, "\nTopics of \"kvtier help\":\n");
	for (size_t i = 0; kvt_topics[i] != NULL; i++)
		g_string_append_printf(
			text, "  %-11s %s\n", kvt_topics[i]->name, kvt_topics[i]->summary);
	g_string_append(text, "\n\"kvtier COMMAND --help\" says more about a command. Exit status: "
			      "0 done, 1 the run\nfailed, 2 the input was wrong.\n");
	return g_string_free(text, FALSE);
}
