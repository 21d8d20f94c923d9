/* fleet_command.c: `kvtier fleet FILE.ini`: a fleet's run over a request trace, its figures. */
#include <errno.h>

#include "sim/base/error.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/fleet_summary.h"
#include "sim/fleet/fleet_report.h"
#include "sim/fleet/fleet_traffic.h"
#include "sim/fleet/telemetry.h"

static gboolean write_telemetry(const kvt_telemetry *telemetry, const char *path, GError **error)
{
	FILE *stream = fopen(path, "w");
	if (!stream)
		return kvt_error_failed(error, "%s: %s", path, g_strerror(errno));
	gboolean written = kvt_telemetry_write(telemetry, stream, error);
	if (fclose(stream) != 0 && written)
		return kvt_error_failed(error, "%s: %s", path, g_strerror(errno));
	return written;
}

/* Where there is a path, the time series goes there, and is no part of the result. */
static json_t *run_fleet(const kvt_fleet_settings *settings, const char *telemetry, GError **error)
{
	g_autoptr(kvt_request_trace) trace = kvt_fleet_traffic_open(settings, error);
	if (!trace)
		return NULL;
	g_autoptr(kvt_fleet) fleet = kvt_fleet_new(settings, trace, error);
	if (!fleet || !kvt_fleet_run(fleet, error))
		return NULL;
	g_autoptr(kvt_fleet_figures) figures = kvt_fleet_figures_new(fleet);
	json_t *result = kvt_fleet_report_json(fleet, figures);
	if (!telemetry)
		return result;
	json_object_del(result, "telemetry");
	if (write_telemetry(fleet->telemetry, telemetry, error))
		return result;
	json_decref(result);
	return NULL;
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
	char *telemetry_file = NULL;
	const GOptionEntry own[] = {
		{ "telemetry", 0, 0, G_OPTION_ARG_FILENAME, &telemetry_file,
			"Write queues, tiers and links over time, every [telemetry] period (1s)",
			"FILE.csv" },
		{ 0 },
	};
	const kvt_command_syntax syntax = {
		.command = &kvt_command_fleet,
		.takes = KVT_TAKES_ALL,
		.least = 1,
		.most = 1,
		.own = own,
	};
	g_auto(kvt_command_options) options = { 0 };
	gboolean parsed = kvt_command_parse(&syntax, argc, argv, &options, error);
	g_autofree char *telemetry = telemetry_file;
	if (!parsed)
		return 0;
	g_autoptr(kvt_fleet_settings) settings = kvt_fleet_settings_load(
		options.arguments[0], (const char *const *)options.sets, error);
	if (!settings)
		return 0;
	if (telemetry && settings->telemetry_period == 0)
		settings->telemetry_period = KVT_SECOND;
	json_t *result = run_fleet(settings, telemetry, error);
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
