/* table_text.c: lines and fields of the fitted kernel tables. Knows no keyword but the first. */
#include "models/table_text.h"

#include <math.h>
#include <string.h>

#include "sim/base/error.h"

enum { MAX_BYTES = 64 << 20 };

gboolean kvt_table_text_error(const kvt_table_text *table, GError **error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	g_autofree char *message = g_strdup_vprintf(format, args);
	va_end(args);
	return kvt_error_at(error, table->path, table->line, "%s", message);
}

const char *kvt_table_text_next(kvt_table_text *table)
{
	g_ptr_array_set_size(table->fields, 0);
	while (table->next != NULL && table->fields->len == 0) {
		char *line = table->next, *end = strchr(line, '\n');
		table->next = end != NULL ? end + 1 : NULL;
		if (end != NULL)
			*end = '\0';
		if (end == NULL && *line == '\0')
			break;
		table->line++;
		if (*line == '#')
			continue;
		char *save = NULL;
		for (char *field = strtok_r(line, " \t\r", &save); field != NULL;
			field = strtok_r(NULL, " \t\r", &save))
			g_ptr_array_add(table->fields, field);
	}
	return kvt_table_text_field(table, 0);
}

gboolean kvt_table_text_next_is(kvt_table_text *table, const char *keyword, GError **error)
{
	const char *found = kvt_table_text_next(table);
	if (g_strcmp0(found, keyword) == 0)
		return TRUE;
	return kvt_table_text_error(table, error, "'%.40s', expected '%s'",
		found != NULL ? found : "end of file", keyword);
}

const char *kvt_table_text_field(const kvt_table_text *table, unsigned i)
{
	return i < table->fields->len ? table->fields->pdata[i] : NULL;
}

static gboolean read_first_line(
	kvt_table_text *table, const char *kind, int version, GError **error)
{
	const char *keyword = kvt_table_text_next(table);
	const char *found = kvt_table_text_field(table, 1);
	int64_t number = 0;
	if (g_strcmp0(keyword, "kvtier-table") != 0 || g_strcmp0(found, kind) != 0)
		return kvt_table_text_error(table, error,
			"not a %s table, expected 'kvtier-table %s %d'", kind, kind, version);
	if (!kvt_table_text_expect(table, 2, error) ||
		!kvt_table_text_integer(table, 2, "version", 0, INT32_MAX, &number, error))
		return FALSE;
	if (number != version)
		return kvt_table_text_error(table, error,
			"version %" G_GINT64_FORMAT " of the %s table, expected %d", number, kind,
			version);
	return TRUE;
}

kvt_table_text *kvt_table_text_parse(const char *name, const char *contents, size_t length,
	const char *kind, int version, GError **error)
{
	if (length > MAX_BYTES || memchr(contents, '\0', length) != NULL) {
		kvt_error_at(error, name, 0, "%s, expected a kernel table in text",
			length > MAX_BYTES ? "over 64 MiB" : "holds NUL bytes");
		return NULL;
	}
	g_autoptr(kvt_table_text) table = g_new0(kvt_table_text, 1);
	table->path = g_strdup(name);
	table->text = g_strndup(contents, length);
	table->next = table->text;
	table->fields = g_ptr_array_new();
	if (!read_first_line(table, kind, version, error))
		return NULL;
	return g_steal_pointer(&table);
}

kvt_table_text *kvt_table_text_load(const char *path, const char *kind, int version, GError **error)
{
	g_autofree char *contents = NULL;
	gsize length = 0;
	g_autoptr(GError) why = NULL;
	if (!g_file_get_contents(path, &contents, &length, &why)) {
		kvt_error_failed(error, "%s", why->message);
		return NULL;
	}
	return kvt_table_text_parse(path, contents, length, kind, version, error);
}

void kvt_table_text_free(kvt_table_text *table)
{
	if (table == NULL)
		return;
	g_free(table->path);
	g_free(table->text);
	if (table->fields != NULL)
		g_ptr_array_unref(table->fields);
	g_free(table);
}

gboolean kvt_table_text_expect(const kvt_table_text *table, unsigned count, GError **error)
{
	if (table->fields->len == count + 1)
		return TRUE;
	return kvt_table_text_error(table, error, "%s: %u fields, expected %u",
		kvt_table_text_field(table, 0), table->fields->len - 1, count);
}

gboolean kvt_table_text_number(const kvt_table_text *table, unsigned i, const char *what,
	double low, double high, double *value, GError **error)
{
	const char *field = kvt_table_text_field(table, i);
	if (field == NULL)
		return kvt_table_text_error(table, error, "%s: missing, expected a number", what);
	char *end = NULL;
	double number = g_ascii_strtod(field, &end);
	if (end == field || *end != '\0' || !isfinite(number) || number < low || number > high)
		return kvt_table_text_error(table, error,
			"%s: '%.40s', expected a number from %g to %g", what, field, low, high);
	*value = number;
	return TRUE;
}

gboolean kvt_table_text_integer(const kvt_table_text *table, unsigned i, const char *what,
	int64_t low, int64_t high, int64_t *value, GError **error)
{
	const char *field = kvt_table_text_field(table, i);
	if (field == NULL)
		return kvt_table_text_error(
			table, error, "%s: missing, expected a whole number", what);
	gint64 number = 0;
	if (!g_ascii_string_to_signed(field, 10, low, high, &number, NULL))
		return kvt_table_text_error(table, error,
			"%s: '%.40s', expected a whole number from %" G_GINT64_FORMAT
			" to %" G_GINT64_FORMAT,
			what, field, low, high);
	*value = number;
	return TRUE;
}
