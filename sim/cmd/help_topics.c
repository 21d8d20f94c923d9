/* help_topics.c: the pages of `kvtier help` that belong to no command: config and units. */
#include "sim/base/error.h"
#include "sim/base/units.h"
#include "sim/cmd/command.h"

static gboolean refuse_words(const kvt_topic *topic, int argc, char **argv, GError **error)
{
	if (argc == 0)
		return TRUE;
	g_autofree char *quoted = kvt_error_quote(argv[0]);
	return kvt_error_usage(
		error, "%s: expected nothing after \"kvtier help %s\"", quoted, topic->name);
}

static char *config_text(int argc, char **argv, GError **error)
{
	if (!refuse_words(&kvt_topic_config, argc, argv, error))
		return NULL;
	return g_strdup(
		"A configuration is an INI file:\n"
		"\n"
		"  include = base.ini     # before the first section: read that file first\n"
		"\n"
		"  [global]               # defaults for every section that knows the key\n"
		"  seed = 1\n"
		"\n"
		"  [section]              # or [kind name], such as [drive csd5000]\n"
		"  key = value            # comments begin with # or ; after white space\n"
		"\n"
		"Keys are lower-case. A file may override what it includes; within one file a\n"
		"section or key that is there twice is an error, as is one that nothing reads.\n"
		"Paths of included files are relative to the file that includes them.\n"
		"\n"
		"--set section.key=value overrides one key; the last one given counts. Switches\n"
		"are yes or no. Quantities carry their units, see \"kvtier help units\".\n");
}

static char *units_text(int argc, char **argv, GError **error)
{
	if (!refuse_words(&kvt_topic_units, argc, argv, error))
		return NULL;
	GString *text = g_string_new("A quantity is a number and its unit, with at most one space "
				     "between them:\n\n");
	for (kvt_unit unit = KVT_UNIT_NONE; unit <= KVT_UNIT_MONEY; unit++)
		g_string_append_printf(text, "  %s\n", kvt_unit_expectation(unit));
	g_string_append(text,
		"\nkB, MB, GB, TB and PB are powers of 1000; KiB, MiB, GiB, TiB and PiB are "
		"powers\n"
		"of 1024; KB is refused, since it is used for both. b is a bit, B a byte: 400Gb/s\n"
		"is 50GB/s. K, M, G and T of a count are powers of 1000. Times are in ps, ns, us,\n"
		"ms, s, min and h. A bare number where a unit is due is an error.\n");
	return g_string_free(text, FALSE);
}

const kvt_topic kvt_topic_config = {
	.name = "config",
	.summary = "How configuration files are written, and --set",
	.text = config_text,
};

const kvt_topic kvt_topic_units = {
	.name = "units",
	.summary = "How quantities are written",
	.text = units_text,
};
