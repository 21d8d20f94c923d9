/* requests_generate.c: `kvtier requests fit` and `generate`: models of request traces, and traces
 * drawn from them. */
#include "sim/cmd/requests_generate.h"

#include "sim/base/error.h"
#include "sim/cmd/requests_info.h"
#include "traces/request_model.h"

static const kvt_command fit_action = {
	.name = "requests fit",
	.summary = "Print the model of a request trace.",
	.arguments = "TRACE",
	.help = "Means and coefficients of variation of what sessions do, as an INI file that\n"
		"\"kvtier requests generate --model\" reads. Sub-agents are left out.",
};

static const kvt_command generate_action = {
	.name = "requests generate",
	.summary = "Write a request trace that is drawn from a model.",
	.arguments = "OUT",
	.help = "The model is an INI file with the section [requests], or fitted to a trace, and "
		"--set\n"
		"changes it. The same seed gives the same trace.\n\n"
		"  kvtier requests fit conversation.jsonl -o chat.ini\n"
		"  kvtier requests generate chat.requests --model chat.ini --duration 1h\n"
		"  kvtier requests generate busy.requests --like conversation.jsonl \\\n"
		"      --set requests.arrivals=bursts --set requests.session_rate=5/s",
	.more = kvt_requests_model_help,
};

char *kvt_requests_model_help(void)
{
	g_autofree char *keys = kvt_option_help(kvt_request_model_options);
	return g_strconcat("Keys of [requests]:\n", keys, NULL);
}

/* The model as an object, in base units. */
static json_t *model_object(const kvt_request_model *model, const char *file, const char *source)
{
	json_t *object = kvt_json_result("requests-fit", 1);
	json_object_set_new(object, "file", kvt_json_text(file));
	json_object_set_new(object, "source", kvt_json_text(source));
	for (const kvt_option *option = kvt_request_model_options; option->name != NULL; option++) {
		const char *field = (const char *)model + option->offset;
		json_t *value;
		if (option->type == KVT_OPTION_CHOICE)
			value = json_string(option->choices[*(const int *)field]);
		else if (option->type == KVT_OPTION_INTEGER)
			value = json_integer(*(const int64_t *)field);
		else
			value = kvt_json_real(*(const double *)field);
		json_object_set_new(object, option->name, value);
	}
	return object;
}

int kvt_requests_fit_run(int argc, char **argv, GError **error)
{
	const kvt_command_syntax syntax = { &fit_action, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT, 1, 1,
		NULL };
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	g_autoptr(kvt_request_trace) trace = kvt_request_trace_open(options.arguments[0], error);
	if (trace == NULL)
		return 0;
	kvt_request_model model = kvt_request_model_fit(trace);
	if (options.format != KVT_FORMAT_TABLE) {
		json_t *object = model_object(&model, options.arguments[0], trace->source);
		kvt_command_print_json(&options, object, error);
		json_decref(object);
		return 0;
	}
	g_autofree char *text = kvt_request_model_text(&model, trace->source);
	FILE *stream = kvt_command_open(&options, error);
	if (stream != NULL) {
		fputs(text, stream);
		kvt_command_close(&options, stream, error);
	}
	return 0;
}

/* What generate's own options were given as. */
typedef struct generate_options {
	char *model, *like, *sessions, *duration;
	int64_t seed;
} generate_options;

static void generate_options_clear(generate_options *given)
{
	g_free(given->model);
	g_free(given->like);
	g_free(given->sessions);
	g_free(given->duration);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(generate_options, generate_options_clear)

/* The model from a file, or fitted to a trace, with --set's. */
static bool read_model(
	const generate_options *given, char *const *sets, kvt_request_model *model, GError **error)
{
	if (given->like == NULL)
		return kvt_request_model_load(given->model, sets, model, error);
	g_autoptr(kvt_request_trace) trace = kvt_request_trace_open(given->like, error);
	if (trace == NULL)
		return false;
	*model = kvt_request_model_fit(trace);
	g_autofree char *text = kvt_request_model_text(model, NULL);
	return kvt_request_model_parse(given->like, text, sets, model, error);
}

static bool read_extent(
	const generate_options *given, uint64_t *sessions, kvt_time *duration, GError **error)
{
	double count = given->duration == NULL ? 1000 : 0, seconds = 0;
	if ((given->sessions != NULL && !kvt_command_quantity("--sessions", given->sessions,
						KVT_UNIT_COUNT, &count, error)) ||
		(given->duration != NULL && !kvt_command_quantity("--duration", given->duration,
						    KVT_UNIT_TIME, &seconds, error)))
		return false;
	if (given->sessions != NULL && given->duration != NULL)
		return kvt_error_usage(
			error, "--sessions, --duration: are both given, expected one of them");
	if (given->duration == NULL ? count < 1 || count > 1e8 : !(seconds > 0 && seconds < 8.6e6))
		return kvt_error_usage(
			error, given->duration == NULL
				       ? "--sessions: expected 1 to 100M"
				       : "--duration: expected more than 0, less than 100 days");
	*sessions = (uint64_t)count;
	*duration = kvt_time_from_seconds(seconds);
	return true;
}

static void generate(
	const generate_options *given, const kvt_command_options *options, GError **error)
{
	kvt_request_model model = { 0 };
	uint64_t sessions = 0;
	kvt_time duration = 0;
	if (!read_extent(given, &sessions, &duration, error) ||
		!read_model(given, options->sets, &model, error))
		return;
	g_autoptr(kvt_request_trace) trace =
		kvt_request_generate(&model, sessions, duration, (uint64_t)given->seed, error);
	const char *out = options->arguments[0];
	if (trace != NULL && kvt_request_trace_write(trace, out, error))
		kvt_requests_print(options, trace, out, error);
}

int kvt_requests_generate_run(int argc, char **argv, GError **error)
{
	g_auto(generate_options) given = { .seed = 1 };
	const GOptionEntry own[] = {
		{ "model", 0, 0, G_OPTION_ARG_FILENAME, &given.model, "the model (all defaults)",
			"FILE.ini" },
		{ "like", 0, 0, G_OPTION_ARG_FILENAME, &given.like, "fit it to that trace instead",
			"TRACE" },
		{ "sessions", 0, 0, G_OPTION_ARG_FILENAME, &given.sessions,
			"sessions to generate (1000)", "N" },
		{ "duration", 0, 0, G_OPTION_ARG_FILENAME, &given.duration,
			"or those that begin within", "TIME" },
		{ "seed", 0, 0, G_OPTION_ARG_INT64, &given.seed, "of all draws (1)", "N" },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &generate_action, KVT_TAKES_FORMAT | KVT_TAKES_SET, 1,
		1, own };
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	if (given.model != NULL && given.like != NULL)
		return kvt_error_usage(
			error, "--model, --like: are both given, expected one of them");
	generate(&given, &options, error);
	return 0;
}
