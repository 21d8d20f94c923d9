/* calibration_fixture.c: to JSON and back. */
#include "tests/unit/calibration_fixture.h"

#include <glib.h>

#include "sim/base/output.h"

char *calibration_text(const kvt_calibration *calibration)
{
	json_t *value = kvt_calibration_to_json(calibration);
	char *text = kvt_json_dump(value);
	json_decref(value);
	return text;
}

kvt_calibration *calibration_read_again(const kvt_calibration *calibration)
{
	g_autofree char *text = calibration_text(calibration);
	json_t *value = json_loads(text, 0, NULL);
	GError *error = NULL;
	kvt_calibration *again = kvt_calibration_from_json("r.json", value, &error);
	g_assert_no_error(error);
	json_decref(value);
	g_autofree char *second = calibration_text(again);
	g_assert_cmpstr(second, ==, text);
	return again;
}
