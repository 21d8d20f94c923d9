/* requests_convert.c: `kvtier requests convert`: traces as one compact file, changed on the way. */
#include "sim/cmd/requests_convert.h"

#include <string.h>

#include "sim/base/error.h"
#include "sim/cmd/requests_info.h"
#include "traces/request_transform.h"

static const kvt_command convert_action = {
	.name = "requests convert",
	.summary = "Write request traces as one compact file, which opens at once.",
	.arguments = "TRACE... OUT",
	.help = "Several traces become the tenants of one. Changes are made in the order of the "
		"options\n"
		"above; without any, OUT holds what TRACE does.\n\n"
		"A dialogue is a request that waits for none with all that wait for it in turn: a "
		"whole\n"
		"agentic trace. Agentic traces all begin at 0: --starts or --users spread them.\n\n"
		"  kvtier requests convert conversation.jsonl twice.requests --rate 2\n"
		"  kvtier requests convert agents/ agents.requests --users 8 --think 30s\n"
		"  kvtier requests convert chat.jsonl agents/ mix.requests --block-tokens 512 \\\n"
		"      --share 3,1 --total-rate 4/s",
};

/* What was given, as text where it is parsed here. */
typedef struct convert_options {
	char *shares, *tenants, *total_rate, *from, *until, *requests, *close, *rate, *starts,
		*users, *think, *block_tokens;
	int64_t seed;
	double *share;        /* of each trace */
	char **names;         /* of their tenants */
	double requests_rate; /* in all */
	kvt_request_edit edit;
} convert_options;

static void convert_options_clear(convert_options *given)
{
	char **const texts[] = { &given->shares, &given->tenants, &given->total_rate, &given->from,
		&given->until, &given->requests, &given->close, &given->rate, &given->starts,
		&given->users, &given->think, &given->block_tokens };
	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
		g_free(*texts[i]);
	g_free(given->share);
	g_strfreev(given->names);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(convert_options, convert_options_clear)

static bool read_number(const char *option, const char *text, kvt_unit unit, double low,
	double high, double *value, GError **error)
{
	if (text == NULL)
		return true;
	if (!kvt_command_quantity(option, text, unit, value, error))
		return false;
	if (*value >= low && *value <= high)
		return true;
	return kvt_error_usage(error, "%s: %s, expected %g to %g", option, text, low, high);
}

static bool read_time(const char *option, const char *text, kvt_time *value, GError **error)
{
	double seconds = 0;
	if (!read_number(option, text, KVT_UNIT_TIME, 0, kvt_time_to_seconds(KVT_REQUEST_TIME_MAX),
		    &seconds, error))
		return false;
	*value = kvt_time_from_seconds(seconds);
	return true;
}

static bool read_edit(convert_options *given, GError **error)
{
	kvt_request_edit *edit = &given->edit;
	double users = 0, block_tokens = 0;
	uint64_t end = 0;
	if (!read_time("--from", given->from, &edit->from, error) ||
		!read_time("--until", given->until, &edit->until, error) ||
		(given->requests != NULL && !kvt_command_range("--requests", given->requests,
						    &edit->first, &end, error)) ||
		!read_time("--close", given->close, &edit->close_pace, error) ||
		!read_number("--rate", given->rate, KVT_UNIT_NONE, 1e-9, 1e9, &edit->rate, error) ||
		!read_number("--starts", given->starts, KVT_UNIT_FREQUENCY, 1e-9, 1e9,
			&edit->start_rate, error) ||
		!read_number("--users", given->users, KVT_UNIT_COUNT, 1, 1e6, &users, error) ||
		!read_time("--think", given->think, &edit->think, error) ||
		!read_number("--block-tokens", given->block_tokens, KVT_UNIT_COUNT, 1, 1 << 20,
			&block_tokens, error))
		return false;
	if (edit->until > 0 && edit->until <= edit->from)
		return kvt_error_usage(
			error, "--until: %s, expected later than --from", given->until);
	edit->count = end > 0 ? end - edit->first : 0;
	edit->close = given->close != NULL;
	edit->seed = (uint64_t)given->seed;
	edit->users = (uint32_t)users;
	edit->block_tokens = (uint32_t)block_tokens;
	return true;
}

/* As many words as traces, or none. */
static char **split_words(const char *option, const char *text, unsigned count, GError **error)
{
	char **words = g_strsplit(text, ",", -1);
	if (g_strv_length(words) == count)
		return words;
	kvt_error_usage(error, "%s: %s, expected %u, one of each trace", option, text, count);
	g_strfreev(words);
	return NULL;
}

static bool read_parts(convert_options *given, unsigned count, GError **error)
{
	given->share = g_new0(double, count);
	if (given->tenants != NULL) {
		given->names = split_words("--tenants", given->tenants, count, error);
		if (given->names == NULL)
			return false;
	}
	if (given->total_rate != NULL && given->shares == NULL)
		return kvt_error_usage(error, "--total-rate: expected --share with it");
	if (!read_number("--total-rate", given->total_rate, KVT_UNIT_FREQUENCY, 1e-9, 1e9,
		    &given->requests_rate, error))
		return false;
	if (given->shares == NULL)
		return true;
	g_auto(GStrv) words = split_words("--share", given->shares, count, error);
	for (unsigned i = 0; words != NULL && i < count; i++)
		if (!read_number(
			    "--share", words[i], KVT_UNIT_NONE, 1e-9, 1e9, &given->share[i], error))
			return false;
	return words != NULL;
}

/* Opens the traces with blocks of the size that is wanted in the end. */
static bool open_parts(const convert_options *given, char **paths, unsigned count,
	kvt_request_part *parts, GError **error)
{
	const kvt_request_edit blocks = { .block_tokens = given->edit.block_tokens };
	for (unsigned i = 0; i < count; i++) {
		kvt_request_trace *trace = kvt_request_trace_open(paths[i], error);
		if (trace != NULL && count > 1 && blocks.block_tokens > 0) {
			kvt_request_trace *other =
				kvt_request_transform(trace, &blocks, paths[i], error);
			kvt_request_trace_close(trace);
			trace = other;
		}
		if (trace == NULL)
			return false;
		parts[i] = (kvt_request_part){ trace, given->names != NULL ? given->names[i] : NULL,
			given->share[i] };
	}
	return true;
}

static void convert(const convert_options *given, const kvt_command_options *options,
	kvt_request_part *parts, unsigned count, GError **error)
{
	const char *out = options->arguments[count];
	if (!open_parts(given, options->arguments, count, parts, error))
		return;
	bool mixed = count > 1 || given->names != NULL || given->shares != NULL;
	g_autoptr(kvt_request_trace) mix =
		mixed ? kvt_request_mix(parts, count, given->requests_rate, error) : NULL;
	if (mixed && mix == NULL)
		return;
	g_autoptr(kvt_request_trace) trace = kvt_request_transform(mixed ? mix : parts[0].trace,
		&given->edit, count > 1 ? "mix" : options->arguments[0], error);
	if (trace != NULL && kvt_request_trace_write(trace, out, error))
		kvt_requests_print(options, trace, out, error);
}

int kvt_requests_convert_run(int argc, char **argv, GError **error)
{
	g_auto(convert_options) given = { .seed = 1 };
#define TEXT(name, field, help, argument)                                                          \
	{                                                                                          \
		name, 0, 0, G_OPTION_ARG_FILENAME, &given.field, help, argument                    \
	}
	const GOptionEntry own[] = {
		TEXT("share", shares, "share of each trace in the requests", "N,..."),
		TEXT("total-rate", total_rate, "of all of them (as they have together)", "RATE"),
		TEXT("tenants", tenants, "names of the traces' tenants (the files')", "NAME,..."),
		TEXT("from", from, "leave out what arrives before", "TIME"),
		TEXT("until", until, "leave out what arrives then or later", "TIME"),
		TEXT("requests", requests, "of the rest, those that stay (all)", "FIRST:END"),
		TEXT("close", close,
			"a session's requests wait for one another; answers took this a token",
			"TIME"),
		TEXT("rate", rate, "arrivals come this many times as fast", "FACTOR"),
		TEXT("starts", starts, "dialogues begin at random, this often", "RATE"),
		{ "seed", 0, 0, G_OPTION_ARG_INT64, &given.seed, "of --starts (1)", "N" },
		TEXT("users", users, "so many users have one dialogue after the other", "N"),
		TEXT("think", think, "their time between dialogues (0s)", "TIME"),
		TEXT("block-tokens", block_tokens,
			"tokens a block, a multiple or a fraction of the trace's", "N"),
		{ 0 },
	};
#undef TEXT
	const kvt_command_syntax syntax = { &convert_action, KVT_TAKES_FORMAT, 2, 65, own };
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	unsigned count = options.argument_count - 1;
	g_autofree kvt_request_part *parts = g_new0(kvt_request_part, count);
	if (read_edit(&given, error) && read_parts(&given, count, error))
		convert(&given, &options, parts, count, error);
	for (unsigned i = 0; i < count; i++)
		kvt_request_trace_close((kvt_request_trace *)parts[i].trace);
	return 0;
}
