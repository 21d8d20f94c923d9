/* test_error.c: error codes, places and suggestions. */
#include <glib.h>

#include "sim/base/error.h"

static void test_place(void)
{
	g_autoptr(GError) error = NULL;
	g_assert_false(kvt_error_at(&error, "a.ini", 3, "[x] y: %s", "bad"));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_cmpstr(error->message, ==, "a.ini:3: [x] y: bad");
}

static void test_suggest(void)
{
	const char *const names[] = { "bandwidth", "capacity", "latency", NULL };
	g_assert_cmpstr(kvt_error_suggest("bandwith", names), ==, "bandwidth");
	g_assert_cmpstr(kvt_error_suggest("latncy", names), ==, "latency");
	g_assert_null(kvt_error_suggest("zebra", names));

	const char *const short_names[] = { "kv", "hbm", NULL };
	g_assert_cmpstr(kvt_error_suggest("hdm", short_names), ==, "hbm");
	g_assert_cmpstr(kvt_error_suggest("kw", short_names), ==, "kv");
	g_assert_null(kvt_error_suggest("x", short_names));
	g_assert_null(kvt_error_suggest("", short_names));
}

static void test_quote(void)
{
	static const char *const cases[][2] = {
		{ "45", "\"45\"" },
		{ "a\nb\tc\x7f", "\"a\\x0ab\\tc\\x7f\"" },
		{ "\xff\xc3", "\"\\xff\\xc3\"" },
		{ "350\u00b5s", "\"350\u00b5s\"" },
		{ "0123456789012345678901234567890123456789012345678901234567890",
			"\"012345678901234567890123456789012345678901234567890123456789...\"" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *quoted = kvt_error_quote(cases[i][0]);
		g_assert_cmpstr(quoted, ==, cases[i][1]);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/error/place", test_place);
	g_test_add_func("/error/suggest", test_suggest);
	g_test_add_func("/error/quote", test_quote);
	return g_test_run();
}
