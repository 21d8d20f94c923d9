/* trace_hdf5_dataset.c: datasets of untrusted HDF5 files: types, shapes, filters, and whether what
 * is declared can be what is stored. */
#include "traces/trace_hdf5.h"

enum {
	CHUNK_BYTES_MAX = 64 << 20, /* HDF5 holds a whole chunk in memory to read any part of it */
	DEFLATE_RATIO_MAX = 1032,   /* of the deflate format; more was never written */
};

typedef struct chunk_layout {
	hsize_t dims[KVT_H5_RANK_MAX];
	uint64_t bytes; /* of a chunk before it is filtered */
	bool deflated;
} chunk_layout;

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

#if H5_VERSION_GE(1, 10, 5)
/* One stored chunk: filtered as the dataset says, inside the file, and of the right size where its
 * filters do not change it. HDF5 believes all three, and reads past its buffers where they lie. */
static bool check_chunk(const kvt_h5_file *file, const kvt_h5_dataset *dataset,
	const chunk_layout *layout, const hsize_t *at, GError **error)
{
	unsigned skipped = 0;
	haddr_t address = HADDR_UNDEF;
	hsize_t size = 0;
	if (H5Dget_chunk_info_by_coord(dataset->id, at, &skipped, &address, &size) < 0 ||
		address == HADDR_UNDEF || size > file->size || address > file->size - size ||
		skipped != 0 || (!layout->deflated && size < layout->bytes) ||
		layout->bytes > (uint64_t)size * DEFLATE_RATIO_MAX)
		return kvt_h5_error(file, dataset->place, error,
			"the chunk at [%" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT
			", %" G_GUINT64_FORMAT "] is missing or damaged, expected all of its data",
			(uint64_t)at[0], (uint64_t)at[1], (uint64_t)at[2]);
	return true;
}

static bool check_chunks(const kvt_h5_file *file, const kvt_h5_dataset *dataset,
	const chunk_layout *layout, GError **error)
{
	hsize_t at[KVT_H5_RANK_MAX] = { 0 };
	for (unsigned i = 0; i < dataset->rank; i++)
		if (dataset->dims[i] == 0)
			return true;
	for (;;) {
		if (!check_chunk(file, dataset, layout, at, error))
			return false;
		unsigned i = dataset->rank;
		while (i > 0 && (at[i - 1] += layout->dims[i - 1]) >= dataset->dims[i - 1])
			at[--i] = 0;
		if (i == 0)
			return true;
	}
}
#else
static bool check_chunks(const kvt_h5_file *file, const kvt_h5_dataset *dataset,
	const chunk_layout *layout, GError **error)
{
	return true;
}
#endif

static bool read_chunk_layout(const kvt_h5_file *file, const kvt_h5_dataset *dataset, hid_t list,
	size_t stored_element, chunk_layout *layout, GError **error)
{
	double bytes = (double)MAX(stored_element, dataset->element);
	layout->bytes = stored_element;
	H5Pget_chunk(list, (int)dataset->rank, layout->dims);
	for (unsigned i = 0; i < dataset->rank; i++) {
		bytes *= (double)layout->dims[i];
		layout->bytes *= layout->dims[i];
	}
	if (bytes > CHUNK_BYTES_MAX || bytes < 1)
		return kvt_h5_error(file, dataset->place, error,
			"chunks of %.0f bytes, expected from 1 to %d", bytes, (int)CHUNK_BYTES_MAX);
	return check_filters(file, dataset->place, list, &layout->deflated, error);
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
	chunk_layout chunk = { 0 };
	if (layout == H5D_CHUNKED &&
		!read_chunk_layout(file, dataset, list, stored_element, &chunk, error))
		return false;
	uint64_t stored = MIN((uint64_t)H5Dget_storage_size(dataset->id), file->size);
	double limit = (double)stored * (chunk.deflated ? DEFLATE_RATIO_MAX : 1);
	double declared = (double)stored_element;
	for (unsigned i = 0; i < dataset->rank; i++)
		declared *= (double)dataset->dims[i];
	if (declared > limit)
		return kvt_h5_error(file, place, error,
			"declares %.0f bytes but only %" G_GUINT64_FORMAT
			" are stored, expected all of its data",
			declared, stored);
	/* As many chunks as that are worth looking at one by one. */
	return layout != H5D_CHUNKED || check_chunks(file, dataset, &chunk, error);
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
	if (!kvt_h5_object_open(file, parent, place, name, H5I_DATASET, &dataset->id, error))
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
