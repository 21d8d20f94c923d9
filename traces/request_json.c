/* request_json.c: fields of JSON request traces, with what is wrong with them in one line. */
#include "traces/request_internal.h"

#include <math.h>

#include "sim/base/error.h"

static const char *type_name(const json_t *value)
{
	static const char *const names[] = { "an object", "an array", "a text", "a number",
		"a number", "true", "false", "null" };
	return names[json_typeof(value)];
}

/* The value of that key; NULL with an error when it is missing. */
static json_t *find(json_t *object, const char *path, unsigned line, const char *place,
	const char *key, const char *what, GError **error)
{
	json_t *value = json_object_get(object, key);
	if (value == NULL)
		kvt_error_at(error, path, line, "%s%s: is missing, expected %s", place, key, what);
	return value;
}

bool kvt_request_json_count(json_t *object, const char *path, unsigned line, const char *place,
	const char *key, uint64_t most, const char *what, uint64_t *value, GError **error)
{
	json_t *found = find(object, path, line, place, key, what, error);
	if (found == NULL)
		return false;
	/* Some writers print whole numbers as 12.0. */
	double real = json_number_value(found);
	if (!json_is_number(found))
		return kvt_error_at(error, path, line, "%s%s: is %s, expected %s", place, key,
			type_name(found), what);
	if (real < 0 || real > (double)most || real != floor(real))
		return kvt_error_at(error, path, line,
			"%s%s: %g, expected %s of 0 to %" G_GUINT64_FORMAT, place, key, real, what,
			most);
	*value = json_is_integer(found) ? (uint64_t)json_integer_value(found) : (uint64_t)real;
	return true;
}

bool kvt_request_json_time(json_t *object, const char *path, unsigned line, const char *place,
	const char *key, double factor, const char *what, int64_t *value, GError **error)
{
	json_t *found = find(object, path, line, place, key, what, error);
	if (found == NULL)
		return false;
	if (!json_is_number(found))
		return kvt_error_at(error, path, line, "%s%s: is %s, expected %s", place, key,
			type_name(found), what);
	double picoseconds = json_number_value(found) * factor;
	if (!(picoseconds >= 0 && picoseconds <= (double)KVT_REQUEST_TIME_MAX))
		return kvt_error_at(error, path, line, "%s%s: %g, expected %s of 0 to 100 days",
			place, key, json_number_value(found), what);
	*value = (int64_t)llrint(picoseconds);
	return true;
}

json_t *kvt_request_json_array(json_t *object, const char *path, unsigned line, const char *place,
	const char *key, const char *what, GError **error)
{
	json_t *found = find(object, path, line, place, key, what, error);
	if (found == NULL || json_is_array(found))
		return found;
	kvt_error_at(
		error, path, line, "%s%s: is %s, expected %s", place, key, type_name(found), what);
	return NULL;
}
