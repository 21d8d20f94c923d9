/* result_load.c: results of kvtier from files, and whether two are of one kind. */
#include <errno.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/cmd/result_diff.h"

/* The line that "schema" is in; 1 where it is nowhere. */
static unsigned schema_line(const char *path)
{
	g_autofree char *text = NULL;
	if (!g_file_get_contents(path, &text, NULL, NULL))
		return 1;
	unsigned line = 1;
	const char *at = strstr(text, "\"schema\"");
	for (const char *c = text; at && c < at; c++)
		line += *c == '\n';
	return line;
}

static const char *schema_of(const json_t *result)
{
	return json_string_value(json_object_get(result, "schema"));
}

static gboolean check_result(const char *path, const json_t *result, GError **error)
{
	if (json_is_array(result)) {
		for (size_t i = 0; i < json_array_size(result); i++)
			if (!json_is_object(json_array_get(result, i)))
				return kvt_error_at(error, path, 1,
					"a list of something else than rows, expected a result of "
					"kvtier (--format json)");
		return TRUE;
	}
	const char *schema = schema_of(result);
	if (!schema)
		return kvt_error_at(error, path, 1,
			"there is no \"schema\", expected a result of kvtier (--format json)");
	if (g_str_has_prefix(schema, "kvtier."))
		return TRUE;
	g_autofree char *quoted = kvt_error_quote(schema);
	return kvt_error_at(error, path, schema_line(path),
		"schema %s, expected a result of kvtier, such as \"kvtier.run/1\"", quoted);
}

json_t *result_load(const char *path, GError **error)
{
	g_autofree char *text = NULL;
	size_t length = 0;
	errno = 0;
	if (!g_file_get_contents(path, &text, &length, NULL)) {
		kvt_error_at(error, path, 0, "cannot read the file: %s",
			g_file_test(path, G_FILE_TEST_IS_DIR) ? "it is a folder"
							      : g_strerror(errno));
		return NULL;
	}
	json_error_t where;
	json_t *result = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
	if (!result) {
		/* what it says may quote bytes of the file */
		for (char *c = where.text; *c; c++)
			*c = g_ascii_isprint(*c) ? *c : '?';
		kvt_error_at(error, path, (unsigned)MAX(where.line, 1), "not JSON: %s", where.text);
		return NULL;
	}
	if (check_result(path, result, error))
		return result;
	json_decref(result);
	return NULL;
}

/* Whether rows of two lists have a column in common; lists without rows have all. */
static bool share_columns(const json_t *a, const json_t *b)
{
	const json_t *row = json_array_get(a, 0), *other = json_array_get(b, 0);
	const char *key;
	json_t *value;
	if (!row || !other)
		return true;
	json_object_foreach((json_t *)row, key, value)
	{
		if (json_object_get(other, key))
			return true;
	}
	return false;
}

gboolean result_check_alike(
	const char *path_a, const json_t *a, const char *path_b, const json_t *b, GError **error)
{
	const char *left = schema_of(a), *right = schema_of(b);
	if (left && right && g_str_equal(left, right))
		return TRUE;
	if (json_is_array(a) && json_is_array(b)) {
		return share_columns(a, b) ||
		       kvt_error_at(error, path_b, 1, "its rows have no column of %s's", path_a);
	}
	return kvt_error_at(error, path_b, schema_line(path_b), "%s%s%s, expected %s%s%s as %s has",
		right ? "schema \"" : "a list of rows", right ? right : "", right ? "\"" : "",
		left ? "schema \"" : "a list of rows", left ? left : "", left ? "\"" : "", path_a);
}
