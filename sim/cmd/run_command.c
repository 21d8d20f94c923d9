/* run_command.c: `kvtier run FILE.ini`: one experiment in virtual time, its figures and sources. */
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/run_summary.h"
#include "sim/engine/experiment_run.h"
#include "sim/engine/turn_report.h"

static gboolean print_result(const kvt_command_options *options, const kvt_experiment *experiment,
	const json_t *result, GError **error)
{
	if (options->format != KVT_FORMAT_TABLE || experiment->kind == KVT_RUN_PEAK)
		return kvt_command_print_json(options, result, error);
	FILE *stream = kvt_command_open(options, error);
	if (!stream)
		return FALSE;
	kvt_run_summary_write(result, stream);
	return kvt_command_close(options, stream, error);
}

static int run(int argc, char **argv, GError **error)
{
	char *timeline_file = NULL, *follow_file = NULL;
	const GOptionEntry own[] = {
		{ "timeline", 0, 0, G_OPTION_ARG_FILENAME, &timeline_file,
			"Write what happened when, for ui.perfetto.dev", "FILE.json" },
		{ "follow", 0, 0, G_OPTION_ARG_FILENAME, &follow_file,
			"Let I/Os come back in the order of a record (\"kvtier emu --record\") and "
			"require the same decisions",
			"FILE" },
		{ 0 },
	};
	const kvt_command_syntax syntax = {
		.command = &kvt_command_run,
		.takes = KVT_TAKES_ALL,
		.least = 1,
		.most = 1,
		.own = own,
	};
	g_auto(kvt_command_options) options = { 0 };
	gboolean parsed = kvt_command_parse(&syntax, argc, argv, &options, error);
	g_autofree char *path = timeline_file, *follow = follow_file;
	if (!parsed)
		return 0;
	g_autoptr(kvt_experiment) experiment =
		kvt_experiment_load(options.arguments[0], (const char *const *)options.sets, error);
	if (!experiment)
		return 0;
	g_autoptr(kvt_timeline) timeline =
		path ? kvt_timeline_new(KVT_TIMELINE_DEFAULT_LIMIT) : NULL;
	g_autoptr(kvt_decision_log) decisions =
		follow ? kvt_decision_log_load(follow, error) : NULL;
	if (follow && !decisions)
		return 0;
	json_t *result = kvt_experiment_run(experiment, timeline, decisions, error);
	if (!result)
		return 0;
	if (experiment->kind != KVT_RUN_PEAK)
		json_object_set_new(result, "provenance", kvt_turn_provenance(experiment));
	if (print_result(&options, experiment, result, error) && timeline)
		kvt_command_write_timeline(timeline, path, error);
	json_decref(result);
	return 0;
}

const kvt_command kvt_command_run = {
	.name = "run",
	.summary = "run one experiment in virtual time",
	.arguments = "FILE.ini",
	.help = "Prints time to first token, time per output token, what the GPU and the links "
		"were "
		"busy\nwith, bytes by tier, and where every setting is from. \"kvtier help "
		"experiment\" lists the\nkeys of an experiment file; experiments/ has one for "
		"every "
		"published figure.",
	.run = run,
};
