/* config_option.c: reads a section through an option table, and prints the table as help. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "sim/base/config_internal.h"
#include "sim/base/error.h"
#include "sim/base/sim_time.h"

/* kvt_time_from_seconds saturates from here on. */
#define LONGEST_SECONDS 9.0e6

/* Doubles below this are converted to 64-bit integers without overflow. */
#define LARGEST_INTEGER 9.2e18

static const char *const true_words[] = { "yes", "true", "on", "1", NULL };
static const char *const false_words[] = { "no", "false", "off", "0", NULL };

kvt_unit kvt_option_unit(const kvt_option *option)
{
	switch (option->type) {
	case KVT_OPTION_QUANTITY:
		return option->unit;
	case KVT_OPTION_BYTES:
		return KVT_UNIT_BYTES;
	case KVT_OPTION_TIME:
		return KVT_UNIT_TIME;
	case KVT_OPTION_INTEGER:
		return KVT_UNIT_COUNT;
	default:
		return KVT_UNIT_NONE;
	}
}

/* What to write for this option, without its range. Returns a new string. */
static char *expectation(const kvt_option *option)
{
	switch (option->type) {
	case KVT_OPTION_STRING:
		return g_strdup("text");
	case KVT_OPTION_BOOL:
		return g_strdup("yes or no");
	case KVT_OPTION_CHOICE: {
		g_autofree char *list = g_strjoinv(", ", (char **)option->choices);
		return g_strdup_printf("one of %s", list);
	}
	default:
		return g_strdup(kvt_unit_expectation(kvt_option_unit(option)));
	}
}

/* A bound as it could be written in the file. */
static char *bound_text(const kvt_option *option, double bound)
{
	char digits[G_ASCII_DTOSTR_BUF_SIZE];
	if (option->type == KVT_OPTION_INTEGER || kvt_option_unit(option) == KVT_UNIT_COUNT)
		return g_strdup(g_ascii_formatd(digits, sizeof(digits), "%.15g", bound));
	return kvt_unit_format(bound, kvt_option_unit(option));
}

static bool has_range(const kvt_option *option)
{
	return option->low != 0.0 || option->high != 0.0;
}

/* "at least 1 B/s", "between 1 and 64"; NULL when none is stated. Returns a new string. */
static char *range_text(const kvt_option *option)
{
	if (!has_range(option) || (isinf(option->low) && isinf(option->high)))
		return NULL;
	g_autofree char *low = bound_text(option, option->low);
	g_autofree char *high = bound_text(option, option->high);
	if (isinf(option->high))
		return g_strdup_printf("at least %s", low);
	if (isinf(option->low))
		return g_strdup_printf("at most %s", high);
	return g_strdup_printf("between %s and %s", low, high);
}

static gboolean check_range(
	const kvt_option *option, double value, const char *text, GError **error)
{
	if (!has_range(option))
		return TRUE;
	g_assert(option->low <= option->high);
	if (value >= option->low && value <= option->high)
		return TRUE;
	g_autofree char *quoted = kvt_error_quote(text);
	g_autofree char *range = range_text(option);
	return kvt_error_usage(error, "%s is out of range, expected %s", quoted, range);
}

static gboolean convert_bool(const char *text, bool *value, GError **error)
{
	if (g_strv_contains(true_words, text) || g_strv_contains(false_words, text)) {
		*value = g_strv_contains(true_words, text);
		return TRUE;
	}
	g_autofree char *quoted = kvt_error_quote(text);
	return kvt_error_usage(error, "%s is neither, expected yes or no", quoted);
}

static gboolean convert_choice(
	const kvt_option *option, const char *text, int *value, GError **error)
{
	for (int i = 0; option->choices[i] != NULL; i++)
		if (strcmp(option->choices[i], text) == 0) {
			*value = i;
			return TRUE;
		}
	g_autofree char *quoted = kvt_error_quote(text);
	g_autofree char *expected = expectation(option);
	const char *near = kvt_error_suggest(text, option->choices);
	if (near != NULL)
		return kvt_error_usage(error, "%s is not known, did you mean \"%s\"? (%s)", quoted,
			near, expected);
	return kvt_error_usage(error, "%s is not known, expected %s", quoted, expected);
}

static gboolean convert_integer(
	const kvt_option *option, const char *text, int64_t *value, GError **error)
{
	bool negative = *text == '-' && option->low < 0.0;
	const char *magnitude = negative ? text + 1 : text;
	double number;
	if (!kvt_unit_parse(magnitude, KVT_UNIT_COUNT, &number, error))
		return FALSE;
	if (number > LARGEST_INTEGER) {
		g_autofree char *quoted = kvt_error_quote(text);
		return kvt_error_usage(error, "%s is too large, expected at most 9.2e18", quoted);
	}
	/* Digits alone are read exactly: a seed may have more of them than a double holds. */
	int64_t exact = (int64_t)number;
	if (magnitude[strspn(magnitude, "0123456789")] == '\0')
		exact = g_ascii_strtoll(magnitude, NULL, 10);
	*value = negative ? -exact : exact;
	return check_range(option, (double)*value, text, error);
}

/* QUANTITY, BYTES and TIME. */
static gboolean convert_quantity(
	const kvt_option *option, const char *text, void *field, GError **error)
{
	double number;
	if (!kvt_unit_parse(text, kvt_option_unit(option), &number, error) ||
		!check_range(option, number, text, error))
		return FALSE;
	g_autofree char *quoted = kvt_error_quote(text);
	if (option->type == KVT_OPTION_BYTES) {
		if (number > LARGEST_INTEGER)
			return kvt_error_usage(
				error, "%s is too large, expected at most 9.2e18B", quoted);
		*(uint64_t *)field = (uint64_t)rint(number);
	} else if (option->type == KVT_OPTION_TIME) {
		if (number >= LONGEST_SECONDS)
			return kvt_error_usage(
				error, "%s is too long, expected less than 2500h", quoted);
		*(kvt_time *)field = kvt_time_from_seconds(number);
	} else {
		*(double *)field = number;
	}
	return TRUE;
}

static gboolean convert(const kvt_option *option, const char *text, void *target, GError **error)
{
	void *field = (char *)target + option->offset;
	switch (option->type) {
	case KVT_OPTION_STRING:
		*(char **)field = g_strdup(text);
		return TRUE;
	case KVT_OPTION_BOOL:
		return convert_bool(text, field, error);
	case KVT_OPTION_INTEGER:
		return convert_integer(option, text, field, error);
	case KVT_OPTION_CHOICE:
		return convert_choice(option, text, field, error);
	case KVT_OPTION_QUANTITY:
	case KVT_OPTION_BYTES:
	case KVT_OPTION_TIME:
		return convert_quantity(option, text, field, error);
	}
	g_assert_not_reached();
}

gboolean kvt_option_value(const kvt_option *option, const char *text, double *value, GError **error)
{
	union {
		int64_t integer; /* a TIME's too */
		uint64_t bytes;
		double quantity;
		char *string;
		bool yes;
		int choice;
	} field = { 0 };
	kvt_option here = *option;
	here.offset = 0;
	if (!convert(&here, text, &field, error))
		return FALSE;
	switch (option->type) {
	case KVT_OPTION_STRING:
		g_free(field.string);
		*value = NAN;
		break;
	case KVT_OPTION_BOOL:
		*value = field.yes;
		break;
	case KVT_OPTION_CHOICE:
		*value = field.choice;
		break;
	case KVT_OPTION_INTEGER:
		*value = (double)field.integer;
		break;
	case KVT_OPTION_TIME:
		*value = kvt_time_to_seconds(field.integer);
		break;
	case KVT_OPTION_BYTES:
		*value = (double)field.bytes;
		break;
	case KVT_OPTION_QUANTITY:
		*value = field.quantity;
		break;
	}
	return TRUE;
}

static gboolean read_option(
	kvt_section *section, const kvt_option *option, void *target, GError **error)
{
	g_autoptr(GError) reason = NULL;
	const kvt_entry *entry = kvt_section_use(section, option->name);
	if (entry != NULL) {
		if (convert(option, entry->text, target, &reason))
			return TRUE;
		return kvt_section_error(section, option->name, error, "%s", reason->message);
	}
	if (option->fallback != NULL) {
		if (!convert(option, option->fallback, target, &reason))
			g_error("option table: %s: default %s", option->name, reason->message);
		return TRUE;
	}
	g_autofree char *expected = expectation(option);
	if (section == NULL)
		return kvt_error_usage(
			error, "%s: the key is missing, expected %s", option->name, expected);
	return kvt_section_error(
		section, option->name, error, "the key is missing, expected %s", expected);
}

static gboolean refuse_unknown_keys(kvt_section *section, const kvt_option *options, GError **error)
{
	GPtrArray *names = g_ptr_array_new();
	for (const kvt_option *option = options; option->name != NULL; option++)
		g_ptr_array_add(names, (gpointer)option->name);
	g_ptr_array_add(names, NULL);
	const char *const *known = (const char *const *)names->pdata;
	gboolean good = TRUE;
	for (guint i = 0; i < section->entries->len && good; i++) {
		const kvt_entry *entry = g_ptr_array_index(section->entries, i);
		if (g_strv_contains(known, entry->key))
			continue;
		const char *near = kvt_error_suggest(entry->key, known);
		g_autofree char *all = g_strjoinv(", ", (char **)known);
		if (near != NULL)
			good = kvt_section_error(section, entry->key, error,
				"unknown key, did you mean \"%s\"?", near);
		else
			good = kvt_section_error(
				section, entry->key, error, "unknown key, expected one of %s", all);
	}
	g_ptr_array_free(names, TRUE);
	return good;
}

gboolean kvt_section_read(kvt_section *section, const kvt_option *options, void *target,
	gboolean refuse_unknown, GError **error)
{
	for (const kvt_option *option = options; option->name != NULL; option++)
		if (option->type == KVT_OPTION_STRING)
			*(char **)((char *)target + option->offset) = NULL;

	/* Before anything is missed: a misspelt required key is a misspelt one, not a missing one.
	 */
	if (section != NULL && refuse_unknown && section != section->config->global &&
		!refuse_unknown_keys(section, options, error))
		return FALSE;
	for (const kvt_option *option = options; option->name != NULL; option++)
		if (!read_option(section, option, target, error)) {
			kvt_option_clear(options, target);
			return FALSE;
		}
	return TRUE;
}

void kvt_option_clear(const kvt_option *options, void *target)
{
	for (const kvt_option *option = options; option->name != NULL; option++)
		if (option->type == KVT_OPTION_STRING)
			g_clear_pointer((char **)((char *)target + option->offset), g_free);
}

char *kvt_option_help(const kvt_option *options)
{
	int width = 0;
	for (const kvt_option *option = options; option->name != NULL; option++)
		width = MAX(width, (int)strlen(option->name));
	GString *help = g_string_new(NULL);
	for (const kvt_option *option = options; option->name != NULL; option++) {
		g_autofree char *expected = expectation(option);
		g_autofree char *range = range_text(option);
		g_string_append_printf(help, "  %-*s  %s\n", width, option->name, option->help);
		g_string_append_printf(help, "  %-*s  (%s", width, "", expected);
		if (range != NULL)
			g_string_append_printf(help, "; %s", range);
		if (option->fallback == NULL)
			g_string_append(help, "; required)\n");
		else if (*option->fallback == '\0')
			g_string_append(help, "; empty by default)\n");
		else
			g_string_append_printf(help, "; default %s)\n", option->fallback);
	}
	return g_string_free(help, FALSE);
}
