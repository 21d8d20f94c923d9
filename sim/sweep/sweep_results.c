/* sweep_results.c: reads columns of results. */
#include "sim/sweep/sweep_results.h"

#include <string.h>

#include "sim/base/error.h"
#include "traces/trace_hdf5.h"

static gboolean damaged(const char *path, const char *what, GError **error)
{
	return kvt_error_at(error, path, 0, "%s: not as kvtier writes it", what);
}

static void column_free(void *data)
{
	kvt_sweep_column *column = data;
	g_free(column->name);
	g_free(column->units);
	g_free(column);
}

/* A text attribute of a column; "" where it has none. */
static char *read_units(hid_t dataset)
{
	if (H5Aexists(dataset, "units") <= 0)
		return g_strdup("");
	g_auto(kvt_h5_id) attribute = H5Aopen(dataset, "units", H5P_DEFAULT);
	g_auto(kvt_h5_id) type = H5Aget_type(attribute);
	char *stored = NULL;
	if (H5Tis_variable_str(type) <= 0 || H5Aread(attribute, type, &stored) < 0 || !stored)
		return g_strdup("");
	char *units = g_strdup(stored);
	H5free_memory(stored);
	return units;
}

typedef struct group_walk {
	kvt_sweep_results *results;
	bool parameters, good;
} group_walk;

static herr_t add_column(hid_t group, const char *name, const H5L_info_t *info, void *arg)
{
	group_walk *walk = arg;
	g_auto(kvt_h5_id) dataset =
		info->type == H5L_TYPE_HARD ? H5Dopen2(group, name, H5P_DEFAULT) : -1;
	g_auto(kvt_h5_id) space = dataset < 0 ? -1 : H5Dget_space(dataset);
	g_auto(kvt_h5_id) type = dataset < 0 ? -1 : H5Dget_type(dataset);
	if (type < 0 || H5Sget_simple_extent_npoints(space) != (hssize_t)walk->results->n_points) {
		walk->good = false;
		return -1;
	}
	kvt_sweep_column *column = g_new0(kvt_sweep_column, 1);
	column->name = g_strdup(name);
	column->units = read_units(dataset);
	column->parameter = walk->parameters;
	column->text = H5Tget_class(type) == H5T_STRING;
	g_ptr_array_add(walk->results->columns, column);
	return 0;
}

static gboolean read_group(kvt_sweep_results *results, hid_t file, const char *name, GError **error)
{
	group_walk walk = { results, g_str_equal(name, "parameters"), true };
	g_auto(kvt_h5_id) group = H5Gopen2(file, name, H5P_DEFAULT);
	if (group < 0 ||
		H5Literate(group, H5_INDEX_CRT_ORDER, H5_ITER_INC, NULL, add_column, &walk) < 0 ||
		!walk.good)
		return damaged(results->path, name, error);
	return TRUE;
}

/* Reads all of a dataset as the type into `out`, whose elements are `results->n_points`. */
static gboolean read_dataset(const kvt_sweep_results *results, hid_t file, const char *name,
	hid_t type, void *out, GError **error)
{
	g_auto(kvt_h5_id) dataset = H5Dopen2(file, name, H5P_DEFAULT);
	g_auto(kvt_h5_id) space = dataset < 0 ? -1 : H5Dget_space(dataset);
	if (space < 0 || H5Sget_simple_extent_npoints(space) != (hssize_t)results->n_points ||
		H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0)
		return damaged(results->path, name, error);
	return TRUE;
}

static gboolean read_file(kvt_sweep_results *results, GError **error)
{
	KVT_H5_GUARDED;
	kvt_h5_file file;
	if (!kvt_h5_file_open(results->path, NULL, 0, &file, error))
		return FALSE;
	g_autofree char *schema = NULL;
	gboolean good = kvt_h5_attribute_text(&file, "schema", true, &schema, error) &&
			kvt_h5_attribute_integer(&file, "points", 1, KVT_SWEEP_POINTS_MAX,
				&results->n_points, error) &&
			kvt_h5_attribute_integer(
				&file, "done", 0, results->n_points, &results->done, error) &&
			kvt_h5_attribute_integer(
				&file, "failed", 0, results->done, &results->failed, error);
	if (good && !g_str_equal(schema, KVT_SWEEP_SCHEMA))
		good = kvt_error_at(error, results->path, 0, "schema \"%s\", expected \"%s\"",
			schema, KVT_SWEEP_SCHEMA);
	if (good) {
		results->status = g_malloc(results->n_points);
		good = read_group(results, file.id, "parameters", error) &&
		       read_group(results, file.id, "metrics", error) &&
		       read_dataset(results, file.id, "status", H5T_NATIVE_UINT8, results->status,
			       error);
	}
	kvt_h5_file_close(&file);
	return good;
}

kvt_sweep_results *kvt_sweep_results_open(const char *path, GError **error)
{
	g_autoptr(kvt_sweep_results) results = g_new0(kvt_sweep_results, 1);
	results->path = g_strdup(path);
	results->columns = g_ptr_array_new_with_free_func(column_free);
	return read_file(results, error) ? g_steal_pointer(&results) : NULL;
}

void kvt_sweep_results_free(kvt_sweep_results *results)
{
	if (!results)
		return;
	g_ptr_array_unref(results->columns);
	g_free(results->status);
	g_free(results->path);
	g_free(results);
}

static char *place(const kvt_sweep_column *column)
{
	return column ? g_strconcat(
				column->parameter ? "parameters/" : "metrics/", column->name, NULL)
		      : g_strdup("error");
}

double *kvt_sweep_results_numbers(
	const kvt_sweep_results *results, const kvt_sweep_column *column, GError **error)
{
	KVT_H5_GUARDED;
	kvt_h5_file file;
	if (!kvt_h5_file_open(results->path, NULL, 0, &file, error))
		return NULL;
	g_autofree char *name = place(column);
	double *numbers = g_new(double, results->n_points);
	if (!read_dataset(results, file.id, name, H5T_NATIVE_DOUBLE, numbers, error))
		g_clear_pointer(&numbers, g_free);
	kvt_h5_file_close(&file);
	return numbers;
}

static char **read_texts(
	const kvt_sweep_results *results, hid_t file, const char *name, GError **error)
{
	g_auto(kvt_h5_id) dataset = H5Dopen2(file, name, H5P_DEFAULT);
	g_auto(kvt_h5_id) type = dataset < 0 ? -1 : H5Dget_type(dataset);
	size_t bytes = type < 0 || H5Tis_variable_str(type) > 0 ? 0 : H5Tget_size(type);
	if (bytes == 0 || bytes > (1 << 20)) {
		damaged(results->path, name, error);
		return NULL;
	}
	g_autofree char *all = g_malloc(bytes * results->n_points);
	if (!read_dataset(results, file, name, type, all, error))
		return NULL;
	char **texts = g_new0(char *, results->n_points + 1);
	for (uint64_t i = 0; i < results->n_points; i++)
		texts[i] = g_strndup(all + i * bytes, bytes);
	return texts;
}

char **kvt_sweep_results_texts(
	const kvt_sweep_results *results, const kvt_sweep_column *column, GError **error)
{
	KVT_H5_GUARDED;
	kvt_h5_file file;
	if (!kvt_h5_file_open(results->path, NULL, 0, &file, error))
		return NULL;
	g_autofree char *name = place(column);
	char **texts = read_texts(results, file.id, name, error);
	kvt_h5_file_close(&file);
	return texts;
}
