/* request_model.c: the model's section of an INI file. */
#include "traces/request_model.h"

#include "sim/base/error.h"
#include "sim/base/output.h"

#define FIELD(name) offsetof(kvt_request_model, name)

static const char *const arrival_names[] = { "poisson", "gamma", "bursts", NULL };

const kvt_option kvt_request_model_options[] = {
	{ "arrivals", KVT_OPTION_CHOICE, 0, FIELD(arrivals), "poisson", 0, 0, arrival_names,
		"how sessions begin: poisson; gamma: intervals of that arrival_cv; bursts: two "
		"Poisson rates in turn" },
	{ "session_rate", KVT_OPTION_QUANTITY, KVT_UNIT_FREQUENCY, FIELD(session_rate), "1/s", 1e-9,
		1e9, NULL, "sessions that begin a second" },
	{ "arrival_cv", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(arrival_cv), "1", 0.01, 100, NULL,
		"of gamma: standard deviation of intervals / their mean" },
	{ "burst_factor", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(burst_factor), "10", 1, 1e6,
		NULL, "of bursts: their rate / the rate between them" },
	{ "burst_time", KVT_OPTION_QUANTITY, KVT_UNIT_TIME, FIELD(burst_time), "10s", 1e-6, 1e7,
		NULL, "mean length of a burst" },
	{ "calm_time", KVT_OPTION_QUANTITY, KVT_UNIT_TIME, FIELD(calm_time), "90s", 1e-6, 1e7, NULL,
		"mean time between bursts" },
	{ "turns", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(turns), "1", 1, 1e6, NULL,
		"mean requests a session" },
	{ "turns_cv", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(turns_cv), "0", 0, 100, NULL,
		"their standard deviation / mean" },
	{ "interval", KVT_OPTION_QUANTITY, KVT_UNIT_TIME, FIELD(interval), "60s", 0, 1e7, NULL,
		"mean time from a request to the next of its session" },
	{ "interval_cv", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(interval_cv), "1", 0, 100, NULL,
		"its standard deviation / mean" },
	{ "pace", KVT_OPTION_QUANTITY, KVT_UNIT_TIME, FIELD(pace), "0s", 0, 1e3, NULL,
		"of the interval, what an answer took a token; the rest is think time" },
	{ "first", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(first), "1000", 1, 1e8, NULL,
		"mean tokens of a first prompt, without a shared prefix" },
	{ "first_cv", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(first_cv), "1", 0, 100, NULL,
		"their standard deviation / mean" },
	{ "growth", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(growth), "500", 1, 1e8, NULL,
		"mean tokens that a prompt has more than the one before" },
	{ "growth_cv", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(growth_cv), "1", 0, 100, NULL,
		"their standard deviation / mean" },
	{ "output", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(output), "300", 0, 1e8, NULL,
		"mean tokens of an answer" },
	{ "output_cv", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(output_cv), "1", 0, 100, NULL,
		"their standard deviation / mean" },
	{ "restart", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(restart), "0%", 0, 1, NULL,
		"of later prompts, those that are cut back, as by compaction" },
	{ "kept", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(kept), "0%", 0, 1, NULL,
		"of the prompt before, what one that is cut back keeps of its beginning" },
	{ "fresh", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(fresh), "1000", 1, 1e8, NULL,
		"mean tokens that follow what was kept" },
	{ "fresh_cv", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(fresh_cv), "1", 0, 100, NULL,
		"their standard deviation / mean" },
	{ "context", KVT_OPTION_INTEGER, 0, FIELD(context), "1M", 1, 1e9, NULL,
		"tokens of the longest prompt; one that would be longer begins anew" },
	{ "shared", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(shared), "0%", 0, 1, NULL,
		"of sessions, those that begin with a shared prefix" },
	{ "prefixes", KVT_OPTION_INTEGER, 0, FIELD(prefixes), "1", 1, 1e6, NULL,
		"shared prefixes there are" },
	{ "prefix", KVT_OPTION_INTEGER, 0, FIELD(prefix), "0", 0, 1e9, NULL,
		"tokens of a shared prefix" },
	{ "block_tokens", KVT_OPTION_INTEGER, 0, FIELD(block_tokens), "64", 0, 1 << 20, NULL,
		"tokens a block; 0: none" },
	{ 0 },
};

static bool read_config(
	kvt_config *config, char *const *sets, kvt_request_model *model, GError **error)
{
	static const char *const known[] = { "requests", NULL };
	for (char *const *set = sets; set != NULL && *set != NULL; set++)
		if (!kvt_config_set(config, *set, error))
			return false;
	kvt_section *section = kvt_config_section_or_empty(config, "requests");
	return kvt_section_read(section, kvt_request_model_options, model, TRUE, error) &&
	       kvt_config_check_used(config, known, error);
}

bool kvt_request_model_load(
	const char *path, char *const *sets, kvt_request_model *model, GError **error)
{
	if (path == NULL)
		return kvt_request_model_parse("requests", "", sets, model, error);
	g_autoptr(kvt_config) config = kvt_config_load(path, error);
	return config != NULL && read_config(config, sets, model, error);
}

bool kvt_request_model_parse(const char *name, const char *text, char *const *sets,
	kvt_request_model *model, GError **error)
{
	g_autoptr(kvt_config) config = kvt_config_parse(name, text, error);
	return config != NULL && read_config(config, sets, model, error);
}

/* A number as an option of that type and unit reads it. A new string. */
static char *option_text(const kvt_option *option, const kvt_request_model *model)
{
	const char *field = (const char *)model + option->offset;
	if (option->type == KVT_OPTION_CHOICE)
		return g_strdup(option->choices[*(const int *)field]);
	if (option->type == KVT_OPTION_INTEGER)
		return g_strdup_printf("%" G_GINT64_FORMAT, *(const int64_t *)field);
	g_autofree char *number = kvt_number_text(*(const double *)field);
	const char *unit = option->unit == KVT_UNIT_FREQUENCY ? "/s"
			   : option->unit == KVT_UNIT_TIME    ? "s"
							      : "";
	return g_strconcat(number, unit, NULL);
}

char *kvt_request_model_text(const kvt_request_model *model, const char *source)
{
	GString *text = g_string_new(NULL);
	if (source != NULL) {
		g_autofree char *quoted = kvt_error_quote(source);
		g_string_append_printf(text, "# fitted to %s\n", quoted);
	}
	g_string_append(text, "[requests]\n");
	for (const kvt_option *option = kvt_request_model_options; option->name != NULL; option++) {
		g_autofree char *value = option_text(option, model);
		g_string_append_printf(text, "%s = %s\n", option->name, value);
	}
	return g_string_free(text, FALSE);
}
