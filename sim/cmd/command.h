/*
 * command.h: what a subcommand of kvtier is. To add one:
 *   1. write sim/cmd/<name>_command.c, which defines `const kvt_command kvt_command_<name>`;
 *   2. declare it below, and add a line to the table in sim/cmd/commands.c.
 * Its run begins with kvt_command_parse (command_options.h), which also prints its --help, and ends
 * with kvt_command_print_table or kvt_command_print_json. stdout is for the result alone, stderr
 * for progress and warnings; what went wrong is returned in a GError and printed by main.
 */
#ifndef KVT_COMMAND_H
#define KVT_COMMAND_H

#include <glib.h>

#define KVT_VERSION "0.1.0"

typedef struct kvt_command {
	const char *name;    /* what is typed after kvtier */
	const char *summary; /* one line for the list of commands, no full stop */
	const char
		*arguments;  /* after the options in its usage line, such as "FILE.ini"; or NULL */
	const char *help;    /* paragraphs after the options in its help; or NULL */
	char *(*more)(void); /* what follows those, from tables, say: a new string; or NULL */

	/* Runs it; argv[0] is the name. Returns the exit status; an error counts above it. */
	int (*run)(int argc, char **argv, GError **error);
} kvt_command;

/* A page of `kvtier help`, such as a list that is longer than a command's help should be. */
typedef struct kvt_topic {
	const char *name, *summary;
	const char *arguments; /* what may follow the name, such as "[NAME]"; or NULL */

	/* The text, a new string, from the words after the name; NULL with an error. */
	char *(*text)(int argc, char **argv, GError **error);
} kvt_topic;

/* Every command and topic in the order that help lists them, NULL-terminated (commands.c). */
extern const kvt_command *const kvt_commands[];
extern const kvt_topic *const kvt_topics[];

/* The command of that name; NULL with an error that suggests another. */
const kvt_command *kvt_command_find(const char *name, GError **error);

/* The list of commands and topics. Returns a new string. */
char *kvt_command_overview(void);

extern const kvt_command kvt_command_cache;
extern const kvt_command kvt_command_calibrate;
extern const kvt_command kvt_command_diff;
extern const kvt_command kvt_command_emu;
extern const kvt_command kvt_command_fleet;
extern const kvt_command kvt_command_help;
extern const kvt_command kvt_command_models;
extern const kvt_command kvt_command_node;
extern const kvt_command kvt_command_plan;
extern const kvt_command kvt_command_replay;
extern const kvt_command kvt_command_requests;
extern const kvt_command kvt_command_run;
extern const kvt_command kvt_command_store;
extern const kvt_command kvt_command_sweep;
extern const kvt_command kvt_command_tables;
extern const kvt_command kvt_command_trace;
extern const kvt_command kvt_command_validate;
extern const kvt_topic kvt_topic_config, kvt_topic_units;
extern const kvt_topic kvt_topic_experiment, kvt_topic_fleet_file, kvt_topic_tier;
extern const kvt_topic kvt_topic_plan_file;
extern const kvt_topic kvt_topic_policy, kvt_topic_prefetcher;

#endif
