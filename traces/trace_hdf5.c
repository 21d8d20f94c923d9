/* trace_hdf5.c: guarded access to untrusted HDF5 files; see trace_hdf5.h. */
#include "traces/trace_hdf5.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim/base/error.h"

enum {
	CHUNK_BYTES_MAX = 64 << 20, /* HDF5 holds a whole chunk in memory to read any part of it */
	DEFLATE_RATIO_MAX = 1032,   /* of the deflate format; more was never written */
	TEXT_BYTES_MAX = 1 << 16,
};

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

/* Opens a child by hard link only: a soft or external link could lead out of the file. */
static bool open_child(const kvt_h5_file *file, hid_t parent, const char *place, const char *name,
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
	return open_child(file, parent, place, name, H5I_GROUP, group, error);
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

hid_t kvt_h5_half_type(void)
{
	hid_t type = H5Tcopy(H5T_IEEE_F32LE);
	if (H5Tset_fields(type, 15, 10, 5, 0, 10) < 0 || H5Tset_size(type, 2) < 0 ||
		H5Tset_ebias(type, 15) < 0) {
		kvt_h5_close(type);
		return -1;
	}
	return type;
}

static const struct {
	const char *expected;
	size_t size;
} type_facts[] = {
	[KVT_H5_UINT8] = { "unsigned 8-bit integers", 1 },
	[KVT_H5_UINT16] = { "unsigned integers of at most 16 bits", 2 },
	[KVT_H5_UINT32] = { "unsigned integers of at most 32 bits", 4 },
	[KVT_H5_UINT64] = { "unsigned integers of at most 64 bits", 8 },
	[KVT_H5_FLOAT] = { "IEEE 32-bit floats", 4 },
	[KVT_H5_HALF] = { "IEEE 16-bit floats, little-endian", 2 },
};

static hid_t memory_type_of(kvt_h5_type type)
{
	switch (type) {
	case KVT_H5_UINT8:
		return H5Tcopy(H5T_NATIVE_UINT8);
	case KVT_H5_UINT16:
		return H5Tcopy(H5T_NATIVE_UINT16);
	case KVT_H5_UINT32:
		return H5Tcopy(H5T_NATIVE_UINT32);
	case KVT_H5_UINT64:
		return H5Tcopy(H5T_NATIVE_UINT64);
	case KVT_H5_FLOAT:
		return H5Tcopy(H5T_NATIVE_FLOAT);
	case KVT_H5_HALF:
		return kvt_h5_half_type();
	}
	g_assert_not_reached();
}

static bool type_matches(hid_t stored, kvt_h5_type type)
{
	switch (type) {
	case KVT_H5_FLOAT:
		return H5Tequal(stored, H5T_IEEE_F32LE) > 0 || H5Tequal(stored, H5T_IEEE_F32BE) > 0;
	case KVT_H5_HALF: {
		g_auto(kvt_h5_id) half = kvt_h5_half_type();
		return H5Tequal(stored, half) > 0;
	}
	default:
		return H5Tget_class(stored) == H5T_INTEGER && H5Tget_sign(stored) == H5T_SGN_NONE &&
		       H5Tget_size(stored) <= type_facts[type].size;
	}
}

/* Only filters that are part of HDF5 itself: others would load code, or could blow up. */
static bool check_filters(
	const kvt_h5_file *file, const char *place, hid_t list, bool *deflated, GError **error)
{
	int n = H5Pget_nfilters(list);
	*deflated = false;
	for (int i = 0; i < n; i++) {
		unsigned flags, config;
		size_t values = 0;
		char name[64] = "";
		H5Z_filter_t filter = H5Pget_filter2(
			list, (unsigned)i, &flags, &values, NULL, sizeof name, name, &config);
		bool again = filter == H5Z_FILTER_DEFLATE && *deflated;
		if ((filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE &&
			    filter != H5Z_FILTER_FLETCHER32) ||
			again)
			return kvt_h5_error(file, place, error,
				"compression filter %d%s, expected at most shuffle, deflate and "
				"fletcher32",
				(int)filter, again ? " twice" : "");
		if (H5Zfilter_avail(filter) <= 0)
			return kvt_h5_error(file, place, error,
				"compression filter %d is missing from this HDF5 library, expected "
				"a library with deflate",
				(int)filter);
		*deflated |= filter == H5Z_FILTER_DEFLATE;
	}
	return true;
}

/* Bytes the dataset claims to hold, against those the file has stored for it. */
static bool check_storage(const kvt_h5_file *file, const kvt_h5_dataset *dataset,
	size_t stored_element, GError **error)
{
	const char *place = dataset->place;
	g_auto(kvt_h5_id) list = H5Dget_create_plist(dataset->id);
	H5D_layout_t layout = list < 0 ? H5D_LAYOUT_ERROR : H5Pget_layout(list);
	if (layout != H5D_COMPACT && layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED)
		return kvt_h5_error(file, place, error,
			"virtual or unknown layout, expected data in this file");
	if (H5Pget_external_count(list) > 0)
		return kvt_h5_error(
			file, place, error, "stored in another file, expected data in this file");
	bool deflated = false;
	if (layout == H5D_CHUNKED) {
		hsize_t chunk[KVT_H5_RANK_MAX] = { 0 };
		H5Pget_chunk(list, (int)dataset->rank, chunk);
		double bytes = (double)MAX(stored_element, dataset->element);
		for (unsigned i = 0; i < dataset->rank; i++)
			bytes *= (double)chunk[i];
		if (bytes > CHUNK_BYTES_MAX)
			return kvt_h5_error(file, place, error,
				"chunks of %.0f bytes, expected at most %d", bytes,
				(int)CHUNK_BYTES_MAX);
		if (!check_filters(file, place, list, &deflated, error))
			return false;
	}
	uint64_t stored = MIN((uint64_t)H5Dget_storage_size(dataset->id), file->size);
	double limit = (double)stored * (deflated ? DEFLATE_RATIO_MAX : 1);
	double declared = (double)stored_element;
	for (unsigned i = 0; i < dataset->rank; i++)
		declared *= (double)dataset->dims[i];
	if (declared > limit)
		return kvt_h5_error(file, place, error,
			"declares %.0f bytes but only %" G_GUINT64_FORMAT
			" are stored, expected all of its data",
			declared, stored);
	return true;
}

static bool check_shape(const kvt_h5_file *file, kvt_h5_dataset *dataset, unsigned rank,
	const char *expected, GError **error)
{
	g_auto(kvt_h5_id) space = H5Dget_space(dataset->id);
	int found = space < 0 || H5Sget_simple_extent_type(space) != H5S_SIMPLE
			    ? 0
			    : H5Sget_simple_extent_ndims(space);
	if (found != (int)rank)
		return kvt_h5_error(file, dataset->place, error, "%d dimensions, expected %u of %s",
			found, rank, expected);
	dataset->rank = rank;
	H5Sget_simple_extent_dims(space, dataset->dims, NULL);
	return true;
}

static bool open_and_check(const kvt_h5_file *file, hid_t parent, const char *name,
	kvt_h5_type type, unsigned rank, kvt_h5_dataset *dataset, GError **error)
{
	const char *place = dataset->place;
	const char *expected = type_facts[type].expected;
	if (!open_child(file, parent, place, name, H5I_DATASET, &dataset->id, error))
		return false;
	dataset->element = type_facts[type].size;
	g_auto(kvt_h5_id) stored = H5Dget_type(dataset->id);
	if (stored < 0 || !type_matches(stored, type))
		return kvt_h5_error(file, place, error, "wrong type, expected %s", expected);
	if (!check_shape(file, dataset, rank, expected, error) ||
		!check_storage(file, dataset, H5Tget_size(stored), error))
		return false;
	dataset->memory_type = memory_type_of(type);
	return true;
}

bool kvt_h5_dataset_open(const kvt_h5_file *file, hid_t parent, const char *place, const char *name,
	kvt_h5_type type, unsigned rank, kvt_h5_dataset *dataset, GError **error)
{
	g_assert(rank >= 1 && rank <= KVT_H5_RANK_MAX);
	*dataset = (kvt_h5_dataset){ .place = g_strdup(place) };
	if (open_and_check(file, parent, name, type, rank, dataset, error))
		return true;
	kvt_h5_dataset_close(dataset);
	return false;
}

void kvt_h5_dataset_close(kvt_h5_dataset *dataset)
{
	kvt_h5_close(dataset->memory_type);
	kvt_h5_close(dataset->id);
	g_free(dataset->place);
	*dataset = (kvt_h5_dataset){ 0 };
}

static char *shape_text(const uint64_t *dims, unsigned rank)
{
	GString *text = g_string_new("[");
	for (unsigned i = 0; i < rank; i++)
		g_string_append_printf(text, "%s%" G_GUINT64_FORMAT, i > 0 ? ", " : "", dims[i]);
	return g_string_free(g_string_append_c(text, ']'), FALSE);
}

bool kvt_h5_dataset_expect(const kvt_h5_file *file, const kvt_h5_dataset *dataset,
	const uint64_t *dims, const char *what, GError **error)
{
	uint64_t found[KVT_H5_RANK_MAX];
	bool same = true;
	for (unsigned i = 0; i < dataset->rank; i++) {
		found[i] = dataset->dims[i];
		same &= found[i] == dims[i];
	}
	if (same)
		return true;
	g_autofree char *found_text = shape_text(found, dataset->rank);
	g_autofree char *expected_text = shape_text(dims, dataset->rank);
	return kvt_h5_error(file, dataset->place, error, "shape %s, expected %s %s", found_text,
		what, expected_text);
}

bool kvt_h5_dataset_read(const kvt_h5_file *file, const kvt_h5_dataset *dataset,
	const uint64_t *start, const uint64_t *count, void *out, GError **error)
{
	hsize_t from[KVT_H5_RANK_MAX], n[KVT_H5_RANK_MAX];
	for (unsigned i = 0; i < dataset->rank; i++) {
		g_assert(count[i] <= dataset->dims[i] && start[i] <= dataset->dims[i] - count[i]);
		if (count[i] == 0)
			return true;
		from[i] = start[i];
		n[i] = count[i];
	}
	g_auto(kvt_h5_id) space = H5Dget_space(dataset->id);
	g_auto(kvt_h5_id) memory = H5Screate_simple((int)dataset->rank, n, NULL);
	if (space < 0 || memory < 0 ||
		H5Sselect_hyperslab(space, H5S_SELECT_SET, from, NULL, n, NULL) < 0 ||
		H5Dread(dataset->id, dataset->memory_type, memory, space, H5P_DEFAULT, out) < 0) {
		g_autofree char *reason = kvt_h5_reason();
		return kvt_h5_error(file, dataset->place, error,
			"damaged data (%s), expected all of it", reason);
	}
	return true;
}
