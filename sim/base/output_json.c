/*
 * output_json.c: makes and prints JSON. jansson's own printer has a fixed number of digits for a
 * real, either too few to read back or so many that 0.1 becomes 0.10000000000000001.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/base/output.h"

json_t *kvt_json_result(const char *name, unsigned version)
{
	g_autofree char *schema = g_strdup_printf("kvtier.%s/%u", name, version);
	json_t *object = json_object();
	json_object_set_new(object, "schema", kvt_json_text(schema));
	return object;
}

json_t *kvt_json_real(double number)
{
	return isfinite(number) ? json_real(number) : json_null();
}

json_t *kvt_json_text(const char *text)
{
	if (text == NULL)
		return json_null();
	g_autofree char *valid = g_utf8_make_valid(text, -1);
	return json_string(valid);
}

char *kvt_number_text(double number)
{
	if (!isfinite(number))
		return g_strdup("null");
	char digits[G_ASCII_DTOSTR_BUF_SIZE];
	static const char *const formats[] = { "%.15g", "%.16g", "%.17g" };
	for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
		g_ascii_formatd(digits, sizeof(digits), formats[i], number);
		if (g_ascii_strtod(digits, NULL) == number)
			break;
	}
	return g_strdup(digits);
}

static void append_string(GString *out, const char *text)
{
	json_t *string = json_string_nocheck(text);
	char *quoted = json_dumps(string, JSON_ENCODE_ANY);
	g_string_append(out, quoted);
	json_decref(string);
	free(quoted);
}

static void append_real(GString *out, double number)
{
	g_autofree char *text = kvt_number_text(number);
	g_string_append(out, text);
	/* A real stays one for readers that tell 3 from 3.0. */
	if (strpbrk(text, ".en") == NULL)
		g_string_append(out, ".0");
}

static void append_newline(GString *out, unsigned depth)
{
	g_string_append_c(out, '\n');
	for (unsigned i = 0; i < depth; i++)
		g_string_append(out, "  ");
}

static void append_value(GString *out, const json_t *value, unsigned depth);

static void append_object(GString *out, const json_t *object, unsigned depth)
{
	/* jansson's iterators take no const, and change nothing. */
	json_t *iterated = (json_t *)object, *member;
	const char *key, *separator = "";
	g_string_append_c(out, '{');
	json_object_foreach(iterated, key, member)
	{
		g_string_append(out, separator);
		append_newline(out, depth + 1);
		append_string(out, key);
		g_string_append(out, ": ");
		append_value(out, member, depth + 1);
		separator = ",";
	}
	if (*separator != '\0')
		append_newline(out, depth);
	g_string_append_c(out, '}');
}

static void append_array(GString *out, const json_t *array, unsigned depth)
{
	size_t count = json_array_size(array);
	bool nested = false;
	for (size_t i = 0; i < count; i++) {
		const json_t *member = json_array_get(array, i);
		nested = nested || json_is_object(member) || json_is_array(member) ||
			 json_is_string(member);
	}
	g_string_append_c(out, '[');
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			g_string_append(out, nested ? "," : ", ");
		if (nested)
			append_newline(out, depth + 1);
		append_value(out, json_array_get(array, i), depth + 1);
	}
	if (nested)
		append_newline(out, depth);
	g_string_append_c(out, ']');
}

static void append_value(GString *out, const json_t *value, unsigned depth)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		append_object(out, value, depth);
		return;
	case JSON_ARRAY:
		append_array(out, value, depth);
		return;
	case JSON_STRING:
		append_string(out, json_string_value(value));
		return;
	case JSON_INTEGER:
		g_string_append_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return;
	case JSON_REAL:
		append_real(out, json_real_value(value));
		return;
	case JSON_TRUE:
		g_string_append(out, "true");
		return;
	case JSON_FALSE:
		g_string_append(out, "false");
		return;
	case JSON_NULL:
		g_string_append(out, "null");
		return;
	}
}

char *kvt_json_dump(const json_t *value)
{
	GString *out = g_string_new(NULL);
	append_value(out, value, 0);
	g_string_append_c(out, '\n');
	return g_string_free(out, FALSE);
}

gboolean kvt_json_write(const json_t *value, FILE *stream, GError **error)
{
	g_autofree char *text = kvt_json_dump(value);
	if (fputs(text, stream) < 0)
		return kvt_error_failed(error, "cannot write JSON: %s", g_strerror(errno));
	return TRUE;
}
