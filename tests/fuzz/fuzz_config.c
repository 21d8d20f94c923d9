/*
 * fuzz_config.c: any text as a configuration. An input is the file, and after a NUL byte the --set
 * overrides, each ended by a NUL. What is refused must have one line of UTF-8 for a message; what
 * is read must read back the same when written out again.
 */
#include <glib.h>
#include <stdbool.h>
#include <string.h>

#include "sim/base/config.h"
#include "sim/base/error.h"
#include "sim/base/sim_time.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct target {
	char *text;
	double rate;
	kvt_time latency;
	uint64_t page;
	int64_t count;
	bool enabled;
	int kind;
} target;

static const char *const kinds[] = { "rdma", "tcp", NULL };

static const kvt_option options[] = {
	{ "source", KVT_OPTION_STRING, 0, offsetof(target, text), "", 0, 0, NULL, "a text" },
	{ "rate", KVT_OPTION_QUANTITY, KVT_UNIT_RATE, offsetof(target, rate), "1GB/s", 0, 0, NULL,
		"a rate" },
	{ "latency", KVT_OPTION_TIME, 0, offsetof(target, latency), "2us", 0, 0, NULL, "a time" },
	{ "page", KVT_OPTION_BYTES, 0, offsetof(target, page), "64KiB", 1, 1e18, NULL, "a size" },
	{ "count", KVT_OPTION_INTEGER, 0, offsetof(target, count), "4", -100, 1e19, NULL,
		"a number" },
	{ "enabled", KVT_OPTION_BOOL, 0, offsetof(target, enabled), "yes", 0, 0, NULL, "a switch" },
	{ "kind", KVT_OPTION_CHOICE, 0, offsetof(target, kind), "tcp", 0, 0, kinds, "a choice" },
	{ 0 },
};

static void check_error(const GError *error)
{
	g_assert(error != NULL && error->domain == KVT_ERROR);
	g_assert(strpbrk(error->message, "\n\r") == NULL);
	g_assert(g_utf8_validate(error->message, -1, NULL));
	g_assert(strlen(error->message) < 1000);
}

/* The configuration as a file. */
static char *written(kvt_config *config)
{
	GString *text = g_string_new(NULL);
	g_autofree const char **names = kvt_config_section_names(config, "");
	for (const char **name = names; *name != NULL; name++) {
		kvt_section *section = kvt_config_section(config, *name);
		g_string_append_printf(text, "[%s]\n", *name);
		g_autofree const char **keys = kvt_section_keys(section);
		for (const char **key = keys; *key != NULL; key++)
			g_string_append_printf(
				text, "%s=%s\n", *key, kvt_section_text(section, *key));
	}
	return g_string_free(text, FALSE);
}

/* Writing, reading and writing again changes nothing. */
static void check_round_trip(const char *text)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_config) first = kvt_config_parse("first", text, &error);
	if (first == NULL) {
		check_error(error);
		return;
	}
	g_assert(error == NULL);
	g_autofree char *once = written(first);
	g_autoptr(kvt_config) second = kvt_config_parse("second", once, &error);
	if (second == NULL)
		g_error("%s", error->message);
	g_autofree char *twice = written(second);
	g_assert(strcmp(once, twice) == 0);
	g_assert(kvt_config_check_used(first, NULL, &error));
}

static void read_sections(kvt_config *config)
{
	static const char *const known[] = { "fabric", "drive", "run", NULL };
	g_autofree const char **names = kvt_config_section_names(config, "fabric");
	for (const char **name = names; *name != NULL; name++) {
		g_autoptr(GError) error = NULL;
		target values;
		kvt_section *section = kvt_config_section(config, *name);
		gboolean strict = (name - names) % 2 == 0;
		if (kvt_section_read(section, options, &values, strict, &error)) {
			g_assert(error == NULL && values.text != NULL);
			g_assert(values.rate >= 0 && values.latency >= 0 && values.page >= 1);
			g_assert(values.count >= -100 && (unsigned)values.kind < 2);
			kvt_option_clear(options, &values);
		} else {
			check_error(error);
			g_assert(values.text == NULL);
		}
	}
	g_autoptr(GError) error = NULL;
	if (!kvt_config_check_used(config, known, &error))
		check_error(error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *text = g_malloc(size + 1);
	memcpy(text, data, size);
	text[size] = '\0';
	check_round_trip(text);

	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_config) config = kvt_config_parse("input.ini", text, &error);
	if (config == NULL)
		return 0;
	for (const char *set = text + strlen(text); set < text + size; set += strlen(set)) {
		g_autoptr(GError) refused = NULL;
		if (!kvt_config_set(config, ++set, &refused))
			check_error(refused);
	}
	read_sections(config);
	return 0;
}
