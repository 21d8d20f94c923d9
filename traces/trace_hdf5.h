/*
 * trace_hdf5.h: guarded access to untrusted HDF5 files for the trace readers and writers. Only
 * hard links are followed, only known filters run, types and shapes are compared with what the
 * format says, and no size is believed that the stored bytes cannot hold. Not a general wrapper.
 *
 * Everything here but kvt_h5_enter must be called while a guard is held. Errors are one line,
 * `file: place: reason, expected what` (KVT_ERROR_USAGE).
 */
#ifndef KVT_TRACE_HDF5_H
#define KVT_TRACE_HDF5_H

#include <glib.h>
#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The guard: serialises the HDF5 library (Debian's is not thread-safe) and keeps it from printing
 * its error stack, restoring what was set before. A function holds it by KVT_H5_GUARDED; among its
 * declarations.
 */
typedef struct kvt_h5_guard {
	H5E_auto2_t function;
	void *data;
} kvt_h5_guard;

kvt_h5_guard kvt_h5_enter(void);
void kvt_h5_leave(kvt_h5_guard *guard);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_h5_guard, kvt_h5_leave)
#define KVT_H5_GUARDED g_auto(kvt_h5_guard) held_guard G_GNUC_UNUSED = kvt_h5_enter()

/* Any HDF5 identifier, closed when g_auto(kvt_h5_id) leaves its scope; negative is none. */
typedef hid_t kvt_h5_id;
void kvt_h5_close(kvt_h5_id id);
G_DEFINE_AUTO_CLEANUP_FREE_FUNC(kvt_h5_id, kvt_h5_close, -1)

/* An open file and what messages and size checks need to know of it. */
typedef struct kvt_h5_file {
	hid_t id;
	char *name;
	uint64_t size;
} kvt_h5_file;

/* Opens `path` for reading, or `bytes` (copied) when not NULL, with `path` as its name. */
bool kvt_h5_file_open(
	const char *path, const void *bytes, size_t size, kvt_h5_file *file, GError **error);
void kvt_h5_file_close(kvt_h5_file *file);

/* Sets "file: place: message" and returns false. */
bool kvt_h5_error(const kvt_h5_file *file, const char *place, GError **error, const char *format,
	...) G_GNUC_PRINTF(4, 5);

/* What the HDF5 library said about its last failure, one line, for a message. New string. */
char *kvt_h5_reason(void);

/* True when `parent` has a child of that name, whatever it is. */
bool kvt_h5_has(hid_t parent, const char *name);

/* Opens the child `name` of `parent`, which must be a H5I_GROUP or H5I_DATASET of this file: it is
 * reached by hard link only, as a soft or external one could lead out of it. `place` is its path in
 * messages. */
bool kvt_h5_object_open(const kvt_h5_file *file, hid_t parent, const char *place, const char *name,
	H5I_type_t type, hid_t *child, GError **error);

/* The same for a group. */
bool kvt_h5_group_open(const kvt_h5_file *file, hid_t parent, const char *place, const char *name,
	hid_t *group, GError **error);

/* Scalar root attributes. Integers must lie in low..high. A text that is absent is an error when
 * `required` and NULL otherwise; a present one is a new string. */
bool kvt_h5_attribute_integer(const kvt_h5_file *file, const char *name, uint64_t low,
	uint64_t high, uint64_t *value, GError **error);
bool kvt_h5_attribute_real(
	const kvt_h5_file *file, const char *name, double *value, GError **error);
bool kvt_h5_attribute_text(
	const kvt_h5_file *file, const char *name, bool required, char **value, GError **error);
bool kvt_h5_attribute_exists(const kvt_h5_file *file, const char *name);

/* What a dataset's elements are in memory; files may hold narrower unsigned integers. */
typedef enum kvt_h5_type {
	KVT_H5_UINT8,
	KVT_H5_UINT16,
	KVT_H5_UINT32,
	KVT_H5_UINT64,
	KVT_H5_FLOAT,
	KVT_H5_HALF, /* raw bits of an IEEE half, uint16_t */
} kvt_h5_type;

enum { KVT_H5_RANK_MAX = 3 };

/* An open dataset. A zeroed one with id 0 is absent. */
typedef struct kvt_h5_dataset {
	hid_t id, memory_type;
	char *place;
	unsigned rank;
	hsize_t dims[KVT_H5_RANK_MAX];
	size_t element; /* bytes in memory */
} kvt_h5_dataset;

/* The IEEE little-endian half type, a new identifier. */
hid_t kvt_h5_half_type(void);

/* Opens and checks a dataset: a hard link, simple, of `rank` dimensions, of that type, stored
 * whole in this file behind no filter but shuffle, deflate and fletcher32. */
bool kvt_h5_dataset_open(const kvt_h5_file *file, hid_t parent, const char *place, const char *name,
	kvt_h5_type type, unsigned rank, kvt_h5_dataset *dataset, GError **error);
void kvt_h5_dataset_close(kvt_h5_dataset *dataset);

/* Errors unless the dimensions are these. */
bool kvt_h5_dataset_expect(const kvt_h5_file *file, const kvt_h5_dataset *dataset,
	const uint64_t *dims, const char *what, GError **error);

/* Reads the box start[rank], count[rank] (inside dims) into out. */
bool kvt_h5_dataset_read(const kvt_h5_file *file, const kvt_h5_dataset *dataset,
	const uint64_t *start, const uint64_t *count, void *out, GError **error);

#endif
