/* trace_hdf5.c: guarded access to untrusted HDF5 files: the file, links and attributes. Datasets
 * are in trace_hdf5_dataset.c. */
#include "traces/trace_hdf5.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim/base/error.h"

enum { TEXT_BYTES_MAX = 1 << 16 };

/* HDF5 keeps global state of its own; this lock belongs to it. */
static GRecMutex library_lock;

kvt_h5_guard kvt_h5_enter(void)
{
	kvt_h5_guard guard = { 0 };
	g_rec_mutex_lock(&library_lock);
	H5Eget_auto2(H5E_DEFAULT, &guard.function, &guard.data);
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	return guard;
}

void kvt_h5_leave(kvt_h5_guard *guard)
{
	H5Eclear2(H5E_DEFAULT);
	H5Eset_auto2(H5E_DEFAULT, guard->function, guard->data);
	g_rec_mutex_unlock(&library_lock);
}

void kvt_h5_close(kvt_h5_id id)
{
	if (id > 0)
		H5Idec_ref(id);
}

bool kvt_h5_error(
	const kvt_h5_file *file, const char *place, GError **error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	g_autofree char *text = g_strdup_vprintf(format, args);
	va_end(args);
	if (place == NULL || *place == '\0')
		return kvt_error_at(error, file->name, 0, "%s", text);
	return kvt_error_at(error, file->name, 0, "%s: %s", place, text);
}

static herr_t keep_innermost(unsigned n, const H5E_error2_t *entry, void *arg)
{
	char **text = arg;
	if (*text == NULL && entry->desc != NULL && *entry->desc != '\0')
		*text = g_strdup(entry->desc);
	return 0;
}

char *kvt_h5_reason(void)
{
	char *text = NULL;
	H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &text);
	if (text == NULL)
		return g_strdup("no reason given");
	for (char *p = text; *p != '\0'; p++)
		if (!g_ascii_isprint(*p))
			*p = ' ';
	return g_strchomp(text);
}

static bool check_regular_file(kvt_h5_file *file, GError **error)
{
	struct stat st;
	if (stat(file->name, &st) != 0)
		return kvt_error_at(error, file->name, 0, "%s, expected an attention trace (HDF5)",
			g_strerror(errno));
	if (!S_ISREG(st.st_mode))
		return kvt_error_at(error, file->name, 0,
			"not a regular file, expected an attention trace (HDF5)");
	if (access(file->name, R_OK) != 0)
		return kvt_error_at(
			error, file->name, 0, "%s, expected a readable file", g_strerror(errno));
	file->size = (uint64_t)st.st_size;
	return true;
}

bool kvt_h5_file_open(
	const char *path, const void *bytes, size_t size, kvt_h5_file *file, GError **error)
{
	*file = (kvt_h5_file){ .id = -1, .name = g_strdup(path), .size = size };
	g_auto(kvt_h5_id) access_list = H5Pcreate(H5P_FILE_ACCESS);
	H5Pset_fclose_degree(access_list, H5F_CLOSE_STRONG);
	if (bytes != NULL) {
		/* HDF5 takes the image as writable but copies it. */
		H5Pset_fapl_core(access_list, 1 << 16, 0);
		if (size == 0 || H5Pset_file_image(access_list, (void *)bytes, size) < 0) {
			kvt_error_at(error, path, 0, "empty, expected an attention trace (HDF5)");
			goto fail;
		}
	} else if (!check_regular_file(file, error)) {
		goto fail;
	} else if (H5Fis_hdf5(path) <= 0) {
		kvt_error_at(error, path, 0, "not an HDF5 file, expected an attention trace");
		goto fail;
	}
	file->id = H5Fopen(path, H5F_ACC_RDONLY, access_list);
	if (file->id < 0) {
		g_autofree char *reason = kvt_h5_reason();
		kvt_error_at(error, path, 0, "damaged HDF5 file (%s), expected an attention trace",
			reason);
		goto fail;
	}
	return true;
fail:
	kvt_h5_file_close(file);
	return false;
}

void kvt_h5_file_close(kvt_h5_file *file)
{
	if (file->id > 0)
		H5Fclose(file->id);
	g_free(file->name);
	*file = (kvt_h5_file){ .id = -1 };
}

bool kvt_h5_has(hid_t parent, const char *name)
{
	return H5Lexists(parent, name, H5P_DEFAULT) > 0;
}

bool kvt_h5_object_open(const kvt_h5_file *file, hid_t parent, const char *place, const char *name,
	H5I_type_t type, hid_t *child, GError **error)
{
	const char *expected = type == H5I_GROUP ? "a group" : "a dataset";
	H5L_info_t link;
	if (!kvt_h5_has(parent, name))
		return kvt_h5_error(file, place, error, "missing, expected %s", expected);
	if (H5Lget_info(parent, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
		return kvt_h5_error(file, place, error, "%s, expected %s in this file",
			link.type == H5L_TYPE_EXTERNAL ? "a link to another file" : "a soft link",
			expected);
	hid_t id = H5Oopen(parent, name, H5P_DEFAULT);
	if (id < 0) {
		g_autofree char *reason = kvt_h5_reason();
		return kvt_h5_error(
			file, place, error, "cannot be opened (%s), expected %s", reason, expected);
	}
	if (H5Iget_type(id) != type) {
		kvt_h5_close(id);
		return kvt_h5_error(
			file, place, error, "another kind of object, expected %s", expected);
	}
	*child = id;
	return true;
}

bool kvt_h5_group_open(const kvt_h5_file *file, hid_t parent, const char *place, const char *name,
	hid_t *group, GError **error)
{
	return kvt_h5_object_open(file, parent, place, name, H5I_GROUP, group, error);
}

bool kvt_h5_attribute_exists(const kvt_h5_file *file, const char *name)
{
	return H5Aexists(file->id, name) > 0;
}

/* Opens a root attribute and its type; errors when it is absent or not a scalar of that class. */
static bool open_attribute(const kvt_h5_file *file, const char *name, H5T_class_t type_class,
	const char *expected, hid_t *attribute, hid_t *type, GError **error)
{
	g_autofree char *place = g_strdup_printf("attribute %s", name);
	if (!kvt_h5_attribute_exists(file, name))
		return kvt_h5_error(file, place, error, "missing, expected %s", expected);
	g_auto(kvt_h5_id) id = H5Aopen(file->id, name, H5P_DEFAULT);
	g_auto(kvt_h5_id) space = id < 0 ? -1 : H5Aget_space(id);
	g_auto(kvt_h5_id) found = id < 0 ? -1 : H5Aget_type(id);
	if (space < 0 || found < 0) {
		g_autofree char *reason = kvt_h5_reason();
		return kvt_h5_error(
			file, place, error, "cannot be opened (%s), expected %s", reason, expected);
	}
	if (H5Sget_simple_extent_type(space) != H5S_SCALAR)
		return kvt_h5_error(
			file, place, error, "an array or empty, expected one scalar, %s", expected);
	if (H5Tget_class(found) != type_class)
		return kvt_h5_error(file, place, error, "wrong type, expected %s", expected);
	H5Iinc_ref(id);
	H5Iinc_ref(found);
	*attribute = id;
	*type = found;
	return true;
}

bool kvt_h5_attribute_integer(const kvt_h5_file *file, const char *name, uint64_t low,
	uint64_t high, uint64_t *value, GError **error)
{
	g_autofree char *expected = low == high
					    ? g_strdup_printf("%" G_GUINT64_FORMAT, low)
					    : g_strdup_printf("an integer from %" G_GUINT64_FORMAT
							      " to %" G_GUINT64_FORMAT,
						      low, high);
	g_auto(kvt_h5_id) attribute = -1;
	g_auto(kvt_h5_id) type = -1;
	if (!open_attribute(file, name, H5T_INTEGER, expected, &attribute, &type, error))
		return false;
	g_autofree char *place = g_strdup_printf("attribute %s", name);
	/* HDF5 clips what does not fit, so signed numbers are read as such. */
	bool is_signed = H5Tget_sign(type) != H5T_SGN_NONE;
	uint64_t found = 0;
	if (H5Tget_size(type) > sizeof found ||
		H5Aread(attribute, is_signed ? H5T_NATIVE_INT64 : H5T_NATIVE_UINT64, &found) < 0)
		return kvt_h5_error(file, place, error, "unreadable, expected %s", expected);
	if (is_signed && (int64_t)found < 0)
		return kvt_h5_error(file, place, error, "%" G_GINT64_FORMAT ", expected %s",
			(int64_t)found, expected);
	if (found < low || found > high)
		return kvt_h5_error(
			file, place, error, "%" G_GUINT64_FORMAT ", expected %s", found, expected);
	*value = found;
	return true;
}

bool kvt_h5_attribute_real(const kvt_h5_file *file, const char *name, double *value, GError **error)
{
	g_auto(kvt_h5_id) attribute = -1;
	g_auto(kvt_h5_id) type = -1;
	if (!open_attribute(file, name, H5T_FLOAT, "a number", &attribute, &type, error))
		return false;
	if (H5Aread(attribute, H5T_NATIVE_DOUBLE, value) < 0) {
		g_autofree char *place = g_strdup_printf("attribute %s", name);
		return kvt_h5_error(file, place, error, "unreadable, expected a number");
	}
	return true;
}

/* Reads a string attribute, variable or fixed length; NULL when it holds none or HDF5 fails. */
static char *read_text(hid_t attribute, hid_t type)
{
	if (H5Tis_variable_str(type) > 0) {
		g_auto(kvt_h5_id) memory = H5Tcopy(type);
		char *stored = NULL;
		if (H5Aread(attribute, memory, &stored) < 0 || stored == NULL)
			return NULL;
		char *text = g_strndup(stored, TEXT_BYTES_MAX);
		H5free_memory(stored);
		return text;
	}
	size_t size = H5Tget_size(type);
	if (size == 0 || size > TEXT_BYTES_MAX)
		return NULL;
	char *text = g_malloc0(size + 1);
	if (H5Aread(attribute, type, text) < 0)
		g_clear_pointer(&text, g_free);
	return text;
}

bool kvt_h5_attribute_text(
	const kvt_h5_file *file, const char *name, bool required, char **value, GError **error)
{
	*value = NULL;
	if (!required && !kvt_h5_attribute_exists(file, name))
		return true;
	g_auto(kvt_h5_id) attribute = -1;
	g_auto(kvt_h5_id) type = -1;
	if (!open_attribute(file, name, H5T_STRING, "a text", &attribute, &type, error))
		return false;
	g_autofree char *text = read_text(attribute, type);
	if (text == NULL || !g_utf8_validate(text, -1, NULL)) {
		g_autofree char *place = g_strdup_printf("attribute %s", name);
		return kvt_h5_error(file, place, error, "no text in it, expected a UTF-8 text");
	}
	*value = g_steal_pointer(&text);
	return true;
}
