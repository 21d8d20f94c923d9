/* result_rows.c: looks for members that are different in every row. */
#include "sim/cmd/result_rows.h"

#include <glib.h>
#include <stdbool.h>

static char *text_of(const json_t *value)
{
	if (json_is_string(value))
		return g_strdup(json_string_value(value));
	return g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
}

char *result_row_name(const result_row_key *key, const json_t *row, size_t place)
{
	if (!key->first)
		return g_strdup_printf("%zu", place);
	g_autofree char *first = text_of(json_object_get(row, key->first));
	if (!key->second)
		return g_steal_pointer(&first);
	g_autofree char *second = text_of(json_object_get(row, key->second));
	return g_strconcat(first, " ", second, NULL);
}

/* Whether every row of a list is an object and has a name that no other has. */
static bool names_all(const result_row_key *key, const json_t *list)
{
	g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *row = json_array_get(list, i);
		const char *keys[] = { key->first, key->second };
		for (unsigned k = 0; k < 2 && keys[k]; k++) {
			const json_t *value = json_object_get(row, keys[k]);
			if (!json_is_string(value) && !json_is_integer(value))
				return false;
		}
		if (!g_hash_table_add(seen, result_row_name(key, row, i)))
			return false;
	}
	return true;
}

result_row_key result_row_key_of(const json_t *a, const json_t *b)
{
	const json_t *row = json_array_get(json_array_size(a) > 0 ? a : b, 0);
	const char *key, *other;
	json_t *value, *ignored;
	json_object_foreach((json_t *)row, key, value)
	{
		result_row_key found = { key, NULL };
		if (json_is_string(value) && names_all(&found, a) && names_all(&found, b))
			return found;
	}
	json_object_foreach((json_t *)row, key, value)
	{
		json_object_foreach((json_t *)row, other, ignored)
		{
			result_row_key found = { key, other };
			if (json_is_string(value) && key != other && names_all(&found, a) &&
				names_all(&found, b))
				return found;
		}
	}
	json_object_foreach((json_t *)row, key, value)
	{
		result_row_key found = { key, NULL };
		if (json_is_integer(value) && names_all(&found, a) && names_all(&found, b))
			return found;
	}
	return (result_row_key){ 0 };
}
