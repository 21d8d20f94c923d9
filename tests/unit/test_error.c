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
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/error/place", test_place);
	g_test_add_func("/error/suggest", test_suggest);
	return g_test_run();
}
