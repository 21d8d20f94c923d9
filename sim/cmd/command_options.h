/*
 * command_options.h: the options that subcommands share, and how a subcommand reads its own. It
 * wraps GLib's GOption: an option that is not known is refused with the nearest one that is.
 */
#ifndef KVT_COMMAND_OPTIONS_H
#define KVT_COMMAND_OPTIONS_H

#include <glib.h>

#include "sim/base/output.h"
#include "sim/base/units.h"
#include "sim/cmd/command.h"
#include "sim/core/timeline.h"

/* Which of the shared options a command takes. */
enum {
	KVT_TAKES_FORMAT = 1 << 0, /* --format table|json|csv */
	KVT_TAKES_OUTPUT = 1 << 1, /* -o, --output FILE; "-" is stdout */
	KVT_TAKES_SET = 1 << 2,    /* --set section.key=value, repeated */
	KVT_TAKES_ALL = 7,
};

/* What was given. */
typedef struct kvt_command_options {
	kvt_format format;
	char *output;     /* NULL: stdout */
	char **sets;      /* NULL-terminated */
	char **arguments; /* what is not an option, NULL-terminated */
	unsigned argument_count;
} kvt_command_options;

void kvt_command_options_clear(kvt_command_options *options);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_command_options, kvt_command_options_clear)

/* How a command is called. */
typedef struct kvt_command_syntax {
	const kvt_command *command;
	unsigned takes;          /* KVT_TAKES_... */
	unsigned least, most;    /* number of arguments */
	const GOptionEntry *own; /* its own options, NULL-terminated; or NULL. Texts are best read
				    as G_OPTION_ARG_FILENAME, which takes any bytes. */
} kvt_command_syntax;

/*
 * Reads argv into *options, which the command clears by declaring it
 * `g_auto(kvt_command_options) options = { 0 };`. True when the command is to go on. False with an
 * error when something is wrong, and false without one when --help was asked for and has been
 * printed; either way the command returns 0, since an error counts above that. The texts that own
 * options received are the caller's to g_free in every case.
 */
gboolean kvt_command_parse(const kvt_command_syntax *syntax, int argc, char **argv,
	kvt_command_options *options, GError **error);

/* The value of an option that is a quantity, such as "2%" for "--budget". */
gboolean kvt_command_quantity(
	const char *option, const char *text, kvt_unit unit, double *value, GError **error);

/* The index in `names` (NULL-terminated) of the value of an option. */
gboolean kvt_command_choice(
	const char *option, const char *text, const char *const *names, int *value, GError **error);

/* The value of an option that is a range: "3:7", ":7" or "3:"; an end left out is 0. */
gboolean kvt_command_range(
	const char *option, const char *text, uint64_t *first, uint64_t *end, GError **error);

/* Prints a result to where -o says in the format that --format says. An object becomes a table of
 * names and values when it is not printed as JSON. */
gboolean kvt_command_print_table(
	const kvt_command_options *options, const kvt_table *table, GError **error);
gboolean kvt_command_print_json(
	const kvt_command_options *options, const json_t *value, GError **error);

/* The stream that -o names, for a command that prints in several steps, and its end, which is an
 * error when not all could be written. */
FILE *kvt_command_open(const kvt_command_options *options, GError **error);
gboolean kvt_command_close(const kvt_command_options *options, FILE *stream, GError **error);

/* kvt_timeline_write, and a warning when it was full. */
gboolean kvt_command_write_timeline(const kvt_timeline *timeline, const char *path, GError **error);

#endif
