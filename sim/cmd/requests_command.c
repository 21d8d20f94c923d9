/* requests_command.c: `kvtier requests info|convert|fit|generate`: traces of what users asked of a
 * service. The work is done in traces/. */
#include <string.h>

#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/requests_convert.h"
#include "sim/cmd/requests_generate.h"
#include "sim/cmd/requests_info.h"

static int run_requests(int argc, char **argv, GError **error)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv, GError **error);
	} actions[] = {
		{ "info", kvt_requests_info_run },
		{ "convert", kvt_requests_convert_run },
		{ "fit", kvt_requests_fit_run },
		{ "generate", kvt_requests_generate_run },
	};
	const char *names[G_N_ELEMENTS(actions) + 1] = { NULL };
	for (size_t i = 0; i < G_N_ELEMENTS(actions); i++) {
		names[i] = actions[i].name;
		if (argc > 1 && strcmp(argv[1], names[i]) == 0)
			return actions[i].run(argc - 1, argv + 1, error);
	}
	const kvt_command_syntax syntax = { &kvt_command_requests, 0, 1, G_MAXUINT, NULL };
	g_auto(kvt_command_options) options = { 0 };
	int which;
	if (kvt_command_parse(&syntax, argc, argv, &options, error))
		kvt_command_choice("requests", options.arguments[0], names, &which, error);
	return 0;
}

const kvt_command kvt_command_requests = {
	.name = "requests",
	.summary = "Show, convert, fit and generate traces of users' requests",
	.arguments = "info|convert|fit|generate TRACE",
	.help = "  requests info TRACE            what it holds\n"
		"  requests convert TRACE... OUT  as a compact file: a part, at another rate, "
		"mixed\n"
		"  requests fit TRACE             a statistical model of it\n"
		"  requests generate OUT          a trace drawn from a model\n\n"
		"A TRACE is Mooncake JSONL, agentic coding JSON (a file or a folder of them), "
		"Azure or\n"
		"BurstGPT CSV, or the compact form, which traces/request_trace.h describes.\n"
		"\"kvtier requests info --help\" and so on say more.",
	.run = run_requests,
};
