/* plan_command.c: `kvtier plan FILE.ini`: the cheapest fleet that does what is asked for. */
#include <sched.h>

#include "sim/base/error.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/plan_summary.h"
#include "sim/plan/plan_report.h"

enum { THREADS_MAX = 1024 };

static gboolean read_threads(const char *text, unsigned *threads, GError **error)
{
	cpu_set_t set;
	double number = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
	if (text && !kvt_command_quantity("--threads", text, KVT_UNIT_COUNT, &number, error))
		return FALSE;
	if (number < 1 || number > THREADS_MAX)
		return kvt_error_usage(
			error, "--threads: %s, expected from 1 to %d", text, THREADS_MAX);
	*threads = (unsigned)number;
	return TRUE;
}

static gboolean print_plan(const kvt_command_options *options, const kvt_plan *plan, GError **error)
{
	if (options->format == KVT_FORMAT_JSON) {
		json_t *result = kvt_plan_report_json(plan);
		gboolean good = kvt_command_print_json(options, result, error);
		json_decref(result);
		return good;
	}
	if (options->format == KVT_FORMAT_CSV) {
		g_autoptr(kvt_table) rows = kvt_plan_summary_rows(plan);
		return kvt_command_print_table(options, rows, error);
	}
	FILE *stream = kvt_command_open(options, error);
	if (!stream)
		return FALSE;
	kvt_plan_summary_write(plan, stream);
	return kvt_command_close(options, stream, error);
}

static void run_plan(const kvt_command_options *options, const char *text, GError **error)
{
	unsigned threads = 1;
	if (!read_threads(text, &threads, error))
		return;
	g_autoptr(kvt_plan_settings) settings = kvt_plan_settings_load(
		options->arguments[0], (const char *const *)options->sets, error);
	g_autoptr(kvt_plan) plan = settings ? kvt_plan_new(settings, threads, error) : NULL;
	if (!plan || !print_plan(options, plan, error) || plan->met)
		return;
	const kvt_plan_choice *nearest = &plan->choices[plan->answer];
	g_autofree char *ttft = kvt_unit_format(nearest->figures.p95_ttft, KVT_UNIT_TIME);
	kvt_error_failed(error, "%s; the nearest, %s, has a p95 TTFT of %s",
		plan->complete ? "no fleet does what is asked for"
			       : "no fleet was found that does what is asked for before [plan] "
				 "budget ended",
		nearest->config, ttft);
}

static int run(int argc, char **argv, GError **error)
{
	g_autofree char *threads = NULL;
	const GOptionEntry own[] = {
		{ "threads", 0, 0, G_OPTION_ARG_FILENAME, &threads, "Threads (all processors)",
			"N" },
		{ 0 },
	};
	const kvt_command_syntax syntax = {
		.command = &kvt_command_plan,
		.takes = KVT_TAKES_ALL,
		.least = 1,
		.most = 1,
		.own = own,
	};
	g_auto(kvt_command_options) options = { 0 };
	if (kvt_command_parse(&syntax, argc, argv, &options, error))
		run_plan(&options, threads, error);
	return 0;
}

const kvt_command kvt_command_plan = {
	.name = "plan",
	.summary = "the cheapest fleet that serves a request trace as fast as asked",
	.arguments = "FILE.ini",
	.help = "FILE.ini is a fleet file with a section [plan]: what may be bought, at which "
		"prices, "
		"and the\np95 TTFT that is asked for. Prints the fleets that are the fastest for "
		"their "
		"money, what\nbinds each, and of the cheapest that does: how sure its figures are, "
		"what "
		"wears its drives,\nand from which length on loading KV beats computing it. JSON "
		"is an "
		"array that ends with it.\nWhere none does, the exit status is 1 and the nearest "
		"is "
		"shown. \"kvtier help plan-file\"\nlists the keys; experiments/plan-mooncake.ini "
		"is an "
		"example.",
	.run = run,
};
