/* test_datadir.c: where data is looked for, and what is said when it is not there. */
#include <glib.h>
#include <glib/gstdio.h>

#include "sim/base/datadir.h"
#include "sim/base/error.h"

static void test_beside_program(void)
{
	g_autoptr(GError) error = NULL;
	g_unsetenv("KVTIER_DATADIR");
	g_autofree char *path = kvt_datadir_find("models", &error);
	g_assert_no_error(error);
	g_assert_true(g_file_test(path, G_FILE_TEST_IS_DIR));
}

static void test_chosen(void)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *folder = g_dir_make_tmp("kvtier-data-XXXXXX", NULL);
	g_autofree char *models = g_build_filename(folder, "models", NULL);
	g_setenv("KVTIER_DATADIR", folder, TRUE);
	g_assert_null(kvt_datadir(&error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_true(g_str_has_prefix(error->message, "KVTIER_DATADIR is \"/"));
	g_clear_error(&error);

	static const char *const names[] = { "l40s.ini", "a100.ini", "H200.ini", "readme.txt",
		".hidden.ini" };
	g_assert_cmpint(g_mkdir(models, 0700), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *path = g_build_filename(models, names[i], NULL);
		g_assert_true(g_file_set_contents(path, "", 0, NULL));
	}
	g_auto(GStrv) listed = kvt_datadir_list("models", ".ini", &error);
	g_assert_no_error(error);
	g_assert_cmpstrv(listed, ((const char *[]){ "H200", "a100", "l40s", NULL }));

	g_autofree char *found = kvt_datadir_find("models/l40s.ini", &error);
	g_assert_no_error(error);
	g_assert_true(g_str_has_prefix(found, folder));

	g_assert_null(kvt_datadir_find("models/l4s.ini", &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_true(g_str_has_prefix(error->message, "there is no \"models/l4s.ini\" in /"));
	g_assert_true(g_str_has_suffix(error->message, ", did you mean \"l40s.ini\"?"));
	g_clear_error(&error);

	static const char *const outside[] = { "/etc/passwd", "models/../../x", "..", "" };
	for (size_t i = 0; i < G_N_ELEMENTS(outside); i++) {
		g_assert_null(kvt_datadir_find(outside[i], &error));
		g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
		g_assert_true(g_str_has_suffix(
			error->message, "is not a path inside kvtier's data folder"));
		g_clear_error(&error);
	}
	g_assert_null(kvt_datadir_list("plots", "", &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *path = g_build_filename(models, names[i], NULL);
		g_remove(path);
	}
	g_rmdir(models);
	g_rmdir(folder);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/datadir/beside-program", test_beside_program);
	g_test_add_func("/datadir/chosen", test_chosen);
	return g_test_run();
}
