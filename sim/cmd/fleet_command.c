/* fleet_command.c: `kvtier fleet FILE.ini`: a fleet's run over a request trace, its figures. */
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/fleet_summary.h"
#include "sim/fleet/fleet_report.h"

static json_t *run_fleet(const kvt_fleet_settings *settings, GError **error)
{
	g_autofree char *path = kvt_fleet_settings_trace_path(settings);
	g_autoptr(kvt_request_trace) trace = kvt_request_trace_open(path, error);
	if (!trace)
		return NULL;
	g_autoptr(kvt_fleet) fleet = kvt_fleet_new(settings, trace, error);
	if (!fleet || !kvt_fleet_run(fleet, error))
		return NULL;
	g_autoptr(kvt_fleet_figures) figures = kvt_fleet_figures_new(fleet);
	return kvt_fleet_report_json(fleet, figures);
}

static gboolean print_result(
	const kvt_command_options *options, const json_t *result, GError **error)
{
	if (options->format != KVT_FORMAT_TABLE)
		return kvt_command_print_json(options, result, error);
	FILE *stream = kvt_command_open(options, error);
	if (!stream)
		return FALSE;
	kvt_fleet_summary_write(result, stream);
	return kvt_command_close(options, stream, error);
}

static int run(int argc, char **argv, GError **error)
{
	const kvt_command_syntax syntax = {
		.command = &kvt_command_fleet,
		.takes = KVT_TAKES_ALL,
		.least = 1,
		.most = 1,
	};
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	g_autoptr(kvt_fleet_settings) settings = kvt_fleet_settings_load(
		options.arguments[0], (const char *const *)options.sets, error);
	if (!settings)
		return 0;
	json_t *result = run_fleet(settings, error);
	if (result)
		print_result(&options, result, error);
	json_decref(result);
	return 0;
}

const kvt_command kvt_command_fleet = {
	.name = "fleet",
	.summary = "serve a request trace on a fleet of replicas",
	.arguments = "FILE.ini",
	.help = "Prints time to first token and per output token with their tails, goodput, hit "
		"rates by\ntier, what links and replicas were busy with, and what it costs. "
		"\"kvtier "
		"help fleet-file\"\nlists the keys of a fleet file; experiments/fleet-*.ini are "
		"examples.",
	.run = run,
};
