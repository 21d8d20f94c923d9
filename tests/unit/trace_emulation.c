/* trace_emulation.c: an experiment in a few lines. */
#include "tests/unit/trace_emulation.h"

#include <string.h>

bool trace_emulate(const char *sets, const kvt_emulation_hooks *hooks, kvt_emulation_result *result,
	GError **error)
{
	static const char text[] =
		"[experiment]\nkind = resume\n[model]\nname = mini-irope-28m-global\n"
		"[gpu]\nname = l40s\n[context]\ntokens = 2128\nprompt_tokens = 6\n"
		"output_tokens = 2\n[storage]\ntier = null\n[prefill]\noverlap = none\n"
		"[decode]\nsamples = 0\n[emulation]\ntrace = " TRACE_SAMPLE
		"\nchecks = 4\nspin = 0s\n";
	kvt_config *config = kvt_config_parse("test.ini", text, error);
	g_assert_nonnull(config);
	g_auto(GStrv) lines = g_strsplit(sets, "\n", -1);
	for (char **line = lines; *line; line++)
		g_assert_true(**line == '\0' || kvt_config_set(config, *line, error));
	g_autoptr(kvt_experiment) experiment = kvt_experiment_new(config, error);
	g_assert_nonnull(experiment);
	return kvt_emulation_run(experiment, hooks, NULL, result, error);
}

void trace_refused(const char *sets, const char *reason)
{
	g_autoptr(GError) error = NULL;
	g_auto(kvt_emulation_result) result = { 0 };
	g_assert_false(trace_emulate(sets, NULL, &result, &error));
	g_test_message("%s", error->message);
	g_assert_nonnull(strstr(error->message, reason));
}

kvt_tier *trace_wrap(void *arg, const kvt_tier_env *env, const char *section, kvt_tier *tier)
{
	return recording_tier_new(tier, arg);
}
