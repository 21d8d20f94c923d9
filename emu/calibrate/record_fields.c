/* record_fields.c: fields of a calibration's record, out and in. */
#include "emu/calibrate/record_fields.h"

#include <string.h>

#include "sim/base/error.h"
#include "sim/base/output.h"

void kvt_record_measured(json_t *object, const kvt_measured *m)
{
	json_object_set_new(object, "value", kvt_json_real(m->value));
	json_object_set_new(object, "low", kvt_json_real(m->low));
	json_object_set_new(object, "high", kvt_json_real(m->high));
}

void kvt_record_integer(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

void kvt_taker_refuse(kvt_taker *t, const char *key, const char *expected)
{
	if (!t->error)
		kvt_error_usage(&t->error, "%s: %s%s: missing or impossible, expected %s", t->file,
			t->where->str, key, expected);
}

char *kvt_take_text(kvt_taker *t, const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	if (!text || strpbrk(text, "\n\r"))
		kvt_taker_refuse(t, key, "a text of one line");
	return g_strdup(text ? text : "");
}

uint64_t kvt_take_count(kvt_taker *t, const json_t *object, const char *key, int64_t high)
{
	const json_t *value = json_object_get(object, key);
	json_int_t count = json_integer_value(value);
	if (!json_is_integer(value) || count < 1 || count > high) {
		kvt_taker_refuse(t, key, "a whole number above 0");
		return 1;
	}
	return (uint64_t)count;
}

double kvt_take_number(kvt_taker *t, const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	double number = json_number_value(value);
	if (!json_is_number(value) || !(number > 0) || number > 1e18) {
		kvt_taker_refuse(t, key, "a number above 0");
		return 1;
	}
	return number;
}

kvt_measured kvt_take_measured(kvt_taker *t, const json_t *object)
{
	kvt_measured m = { kvt_take_number(t, object, "value"), kvt_take_number(t, object, "low"),
		kvt_take_number(t, object, "high") };
	if (m.low > m.value || m.high < m.value)
		kvt_taker_refuse(t, "value", "a number between low and high");
	return m;
}

bool kvt_take_choice(
	kvt_taker *t, const json_t *object, const char *key, const char *no, const char *yes)
{
	const char *text = json_string_value(json_object_get(object, key));
	bool is_yes = g_strcmp0(text, yes) == 0;
	if (!is_yes && g_strcmp0(text, no) != 0) {
		g_autofree char *expected = g_strdup_printf("%s or %s", no, yes);
		kvt_taker_refuse(t, key, expected);
	}
	return is_yes;
}
