/* datadir.c: where the data files are, and what is in their folders. It reads none of them. */
#include "sim/base/datadir.h"

#include <stdlib.h>
#include <string.h>

#include "sim/base/error.h"

#ifndef KVT_PREFIX
#error "the Makefile defines KVT_PREFIX, the folder that kvtier is installed under"
#endif

static gboolean has_data(const char *folder)
{
	g_autofree char *models = g_build_filename(folder, "models", NULL);
	return g_file_test(models, G_FILE_TEST_IS_DIR);
}

/* The folder without "..", so that messages can be followed; NULL when it has no data. */
static char *accept(const char *base, const char *relative)
{
	g_autofree char *folder = g_build_filename(base, relative, NULL);
	return has_data(folder) ? g_canonicalize_filename(folder, NULL) : NULL;
}

char *kvt_datadir(GError **error)
{
	const char *chosen = g_getenv("KVTIER_DATADIR");
	if (chosen != NULL && *chosen != '\0') {
		if (has_data(chosen))
			return g_strdup(chosen);
		g_autofree char *quoted = kvt_error_quote(chosen);
		kvt_error_usage(error,
			"KVTIER_DATADIR is %s, which has no models/, expected kvtier's data folder",
			quoted);
		return NULL;
	}
	/* build/kvtier, then build/tests/x, then bin/kvtier with its share/kvtier. */
	static const char *const beside[] = { "..", "../..", "../share/kvtier" };
	g_autofree char *program = g_file_read_link("/proc/self/exe", NULL);
	g_autofree char *bin = program != NULL ? g_path_get_dirname(program) : NULL;
	for (size_t i = 0; bin != NULL && i < G_N_ELEMENTS(beside); i++) {
		char *folder = accept(bin, beside[i]);
		if (folder != NULL)
			return folder;
	}
	char *installed = accept(KVT_PREFIX, "share/kvtier");
	if (installed == NULL)
		kvt_error_failed(error,
			"kvtier's data is neither beside the program in %s nor in %s, expected "
			"KVTIER_DATADIR to name its folder",
			bin != NULL ? bin : "(unknown)", KVT_PREFIX "/share/kvtier");
	return installed;
}

/* A path below the data folder: not absolute, and without a ".." that could lead out of it. */
static gboolean check_relative(const char *relative, GError **error)
{
	g_auto(GStrv) parts = g_strsplit(relative, "/", -1);
	if (*relative != '\0' && *relative != '/' &&
		!g_strv_contains((const char *const *)parts, ".."))
		return TRUE;
	g_autofree char *quoted = kvt_error_quote(relative);
	return kvt_error_usage(error, "%s is not a path inside kvtier's data folder", quoted);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Entries of a folder, sorted; NULL when it cannot be read. */
static char **list_folder(const char *path, const char *suffix)
{
	GDir *dir = g_dir_open(path, 0, NULL);
	if (dir == NULL)
		return NULL;
	GPtrArray *names = g_ptr_array_new();
	for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
		if (*name != '.' && g_str_has_suffix(name, suffix))
			g_ptr_array_add(names, g_strndup(name, strlen(name) - strlen(suffix)));
	g_dir_close(dir);
	qsort(names->pdata, names->len, sizeof(*names->pdata), compare_names);
	g_ptr_array_add(names, NULL);
	return (char **)g_ptr_array_free(names, FALSE);
}

char *kvt_datadir_find(const char *relative, GError **error)
{
	if (!check_relative(relative, error))
		return NULL;
	g_autofree char *base = kvt_datadir(error);
	if (base == NULL)
		return NULL;
	g_autofree char *path = g_build_filename(base, relative, NULL);
	if (g_file_test(path, G_FILE_TEST_EXISTS))
		return g_steal_pointer(&path);

	g_autofree char *folder = g_path_get_dirname(path);
	g_autofree char *name = g_path_get_basename(path);
	g_autofree char *quoted = kvt_error_quote(relative);
	g_auto(GStrv) names = list_folder(folder, "");
	const char *near =
		names != NULL ? kvt_error_suggest(name, (const char *const *)names) : NULL;
	if (near != NULL)
		kvt_error_usage(
			error, "there is no %s in %s, did you mean \"%s\"?", quoted, base, near);
	else
		kvt_error_usage(error, "there is no %s in %s", quoted, base);
	return NULL;
}

char **kvt_datadir_list(const char *folder, const char *suffix, GError **error)
{
	g_autofree char *path = kvt_datadir_find(folder, error);
	if (path == NULL)
		return NULL;
	char **names = list_folder(path, suffix);
	if (names == NULL)
		kvt_error_failed(error, "%s: cannot read the folder", path);
	return names;
}
