/* sweep_file.c: writes the columns of a sweep, some rows of all of them at a time. */
#include "sim/sweep/sweep_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "sim/base/error.h"
#include "sim/sweep/sweep_columns.h"
#include "traces/trace_hdf5.h"

/* Rows of a chunk: enough to compress well, few enough that a chunk of every column is in memory.
 */
enum { ROWS = 16384, SMALL = 1024 };

/* One column while it is written. */
typedef struct column {
	hid_t dataset, memory_type;
	size_t element;
	uint8_t *rows; /* ROWS elements */
} column;

typedef struct file_writer {
	const kvt_sweep_plan *plan;
	kvt_sweep_journal *journal;
	const kvt_sweep_about *about;
	kvt_sweep_columns *figures;
	hid_t file;
	column *parameters, status, error, seconds, worker;
	column *metrics;
	double *figure_rows; /* of all metrics */
} file_writer;

static bool put_attribute(hid_t object, const char *name, hid_t type, const void *value)
{
	g_auto(kvt_h5_id) space = H5Screate(H5S_SCALAR);
	g_auto(kvt_h5_id) id = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
	return id > 0 && H5Awrite(id, type, value) >= 0;
}

static bool put_text(hid_t object, const char *name, const char *text)
{
	g_auto(kvt_h5_id) type = H5Tcopy(H5T_C_S1);
	H5Tset_size(type, H5T_VARIABLE);
	H5Tset_cset(type, H5T_CSET_UTF8);
	return put_attribute(object, name, type, &text);
}

static bool put_count(hid_t object, const char *name, uint64_t value)
{
	return put_attribute(object, name, H5T_STD_U64LE, &value);
}

static hid_t text_type(size_t bytes)
{
	hid_t type = H5Tcopy(H5T_C_S1);
	H5Tset_size(type, bytes);
	H5Tset_cset(type, H5T_CSET_UTF8);
	H5Tset_strpad(type, H5T_STR_NULLPAD);
	return type;
}

/* Takes over the type. */
static bool create_column(
	file_writer *w, hid_t parent, const char *name, hid_t type, const char *units, column *out)
{
	const hsize_t rows = w->plan->n_points;
	out->memory_type = type;
	out->element = H5Tget_size(type);
	out->rows = g_malloc0(out->element * MIN(rows, ROWS));
	g_auto(kvt_h5_id) space = H5Screate_simple(1, &rows, NULL);
	g_auto(kvt_h5_id) list = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_obj_track_times(list, false);
	if (rows >= SMALL) {
		/* HDF5's cache of chunks is 1 MiB: a chunk is written once, whole */
		hsize_t chunk = MIN(rows, ROWS);
		H5Pset_chunk(list, 1, &chunk);
		H5Pset_shuffle(list);
		H5Pset_deflate(list, 1);
	}
	out->dataset = H5Dcreate2(parent, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
	return out->dataset > 0 && (!units || put_text(out->dataset, "units", units));
}

static void free_column(column *c)
{
	kvt_h5_close(c->dataset);
	kvt_h5_close(c->memory_type);
	g_free(c->rows);
}

static bool write_column(const column *c, hsize_t first, hsize_t count)
{
	g_auto(kvt_h5_id) space = H5Dget_space(c->dataset);
	g_auto(kvt_h5_id) memory = H5Screate_simple(1, &count, NULL);
	return H5Sselect_hyperslab(space, H5S_SELECT_SET, &first, NULL, &count, NULL) >= 0 &&
	       H5Dwrite(c->dataset, c->memory_type, memory, space, H5P_DEFAULT, c->rows) >= 0;
}

static hid_t create_group(hid_t parent, const char *name)
{
	g_auto(kvt_h5_id) list = H5Pcreate(H5P_GROUP_CREATE);
	H5Pset_obj_track_times(list, false);
	H5Pset_link_creation_order(list, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
	return H5Gcreate2(parent, name, H5P_DEFAULT, list, H5P_DEFAULT);
}

/* Bytes of the longest text of an axis. Only lists have texts. */
static size_t longest(const kvt_sweep_axis *axis)
{
	size_t bytes = 1;
	for (uint64_t i = 0; i < axis->levels; i++)
		bytes = MAX(bytes, strlen(axis->list[i]));
	return bytes;
}

static bool create_parameters(file_writer *w)
{
	g_auto(kvt_h5_id) group = create_group(w->file, "parameters");
	const GPtrArray *axes = w->plan->axes;
	w->parameters = g_new0(column, axes->len);
	bool good = group > 0;
	for (unsigned i = 0; i < axes->len && good; i++) {
		const kvt_sweep_axis *axis = g_ptr_array_index(axes, i);
		bool numeric = kvt_sweep_axis_numeric(axis);
		hid_t type = numeric ? H5Tcopy(H5T_IEEE_F64LE) : text_type(longest(axis));
		good = create_column(w, group, axis->name, type,
			numeric ? kvt_sweep_axis_units(axis) : NULL, &w->parameters[i]);
	}
	return good;
}

static bool create_metrics(file_writer *w)
{
	g_auto(kvt_h5_id) group = create_group(w->file, "metrics");
	const GPtrArray *names = w->figures->names;
	const size_t rows = MIN(w->plan->n_points, ROWS);
	w->metrics = g_new0(column, names->len);
	w->figure_rows = g_new(double, names->len *rows + 1);
	bool good = group > 0;
	for (unsigned i = 0; i < names->len && good; i++) {
		const char *name = g_ptr_array_index(names, i);
		good = create_column(w, group, name, H5Tcopy(H5T_IEEE_F64LE),
			kvt_sweep_metric_units(name), &w->metrics[i]);
	}
	return good;
}

static bool create_rest(file_writer *w)
{
	bool good = create_column(w, w->file, "status", H5Tcopy(H5T_STD_U8LE), NULL, &w->status) &&
		    put_text(w->status.dataset, "meaning", "0 done, 1 failed, 2 not run yet") &&
		    create_column(w, w->file, "error", text_type(w->figures->error_bytes), NULL,
			    &w->error);
	if (!good || !w->about->timings)
		return good;
	g_auto(kvt_h5_id) group = create_group(w->file, "timing");
	return group > 0 &&
	       create_column(w, group, "seconds", H5Tcopy(H5T_IEEE_F64LE), "s", &w->seconds) &&
	       create_column(w, group, "worker", H5Tcopy(H5T_STD_U32LE), "", &w->worker);
}

static bool put_about(file_writer *w)
{
	const kvt_sweep_about *about = w->about;
	const kvt_sweep_journal *journal = w->journal;
	return put_text(w->file, "schema", KVT_SWEEP_SCHEMA) &&
	       put_text(w->file, "version", about->version) &&
	       put_text(w->file, "command", about->command) &&
	       put_text(w->file, "experiment", about->experiment) &&
	       put_text(w->file, "identity", about->identity) &&
	       put_count(w->file, "points", w->plan->n_points) &&
	       put_count(w->file, "done", kvt_sweep_journal_done(journal)) &&
	       put_count(w->file, "failed", kvt_sweep_journal_failed(journal));
}

static void fill_parameters(file_writer *w, uint64_t point, uint64_t row)
{
	for (unsigned i = 0; i < w->plan->axes->len; i++) {
		const kvt_sweep_axis *axis = g_ptr_array_index(w->plan->axes, i);
		column *c = &w->parameters[i];
		g_autofree char *text = kvt_sweep_plan_value(w->plan, point, i);
		uint8_t *cell = c->rows + row * c->element;
		if (kvt_sweep_axis_numeric(axis)) {
			double number = kvt_sweep_axis_number(axis, text);
			memcpy(cell, &number, sizeof number);
		} else {
			memset(cell, 0, c->element);
			memcpy(cell, text, strlen(text));
		}
	}
}

static void fill_result(file_writer *w, uint64_t point, uint64_t row, size_t stride)
{
	kvt_sweep_frame frame = { 0 };
	unsigned names = 0;
	bool there = kvt_sweep_journal_has(w->journal, point);
	if (there)
		kvt_sweep_journal_read(w->journal, point, &frame, &names);
	bool failed = frame.kind == KVT_SWEEP_FRAME_FAILED;
	kvt_sweep_columns_row(w->figures, failed ? &(kvt_sweep_frame){ 0 } : &frame, names,
		w->figure_rows + row, stride);
	w->status.rows[row] = !there   ? KVT_SWEEP_PENDING
			      : failed ? KVT_SWEEP_FAILED
				       : KVT_SWEEP_DONE;
	uint8_t *text = w->error.rows + row * w->error.element;
	memset(text, 0, w->error.element);
	if (failed)
		memcpy(text, frame.text, frame.text_bytes);
	if (w->about->timings) {
		((double *)w->seconds.rows)[row] = there ? frame.seconds : NAN;
		((uint32_t *)w->worker.rows)[row] = frame.worker;
	}
}

static bool write_rows(file_writer *w, uint64_t first, uint64_t count)
{
	for (uint64_t row = 0; row < count; row++) {
		fill_parameters(w, first + row, row);
		fill_result(w, first + row, row, count);
	}
	bool good = write_column(&w->status, first, count) && write_column(&w->error, first, count);
	for (unsigned i = 0; i < w->plan->axes->len && good; i++)
		good = write_column(&w->parameters[i], first, count);
	for (unsigned i = 0; i < w->figures->names->len && good; i++) {
		memcpy(w->metrics[i].rows, w->figure_rows + i * count, count * sizeof(double));
		good = write_column(&w->metrics[i], first, count);
	}
	if (good && w->about->timings)
		good = write_column(&w->seconds, first, count) &&
		       write_column(&w->worker, first, count);
	kvt_sweep_journal_forget(w->journal);
	return good;
}

static void close_writer(file_writer *w)
{
	for (unsigned i = 0; w->parameters && i < w->plan->axes->len; i++)
		free_column(&w->parameters[i]);
	for (unsigned i = 0; w->metrics && i < w->figures->names->len; i++)
		free_column(&w->metrics[i]);
	free_column(&w->status);
	free_column(&w->error);
	free_column(&w->seconds);
	free_column(&w->worker);
	g_free(w->parameters);
	g_free(w->metrics);
	g_free(w->figure_rows);
	kvt_sweep_columns_free(w->figures);
}

static bool write_file(file_writer *w, const char *path)
{
	g_auto(kvt_h5_id) creation = H5Pcreate(H5P_FILE_CREATE);
	g_auto(kvt_h5_id) access = H5Pcreate(H5P_FILE_ACCESS);
	H5Pset_obj_track_times(creation, false);
	H5Pset_link_creation_order(creation, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
	/* attributes of more than 64 KiB: an experiment's text may be */
	H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_LATEST);
	w->file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
	bool good = w->file > 0 && put_about(w) && create_parameters(w) && create_metrics(w) &&
		    create_rest(w);
	for (uint64_t first = 0; first < w->plan->n_points && good; first += ROWS)
		good = write_rows(w, first, MIN(ROWS, w->plan->n_points - first));
	close_writer(w);
	return w->file > 0 && H5Fclose(w->file) >= 0 && good;
}

static bool sync_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool good = fd >= 0 && fsync(fd) == 0;
	if (fd >= 0)
		close(fd);
	return good;
}

gboolean kvt_sweep_file_write(const char *path, const kvt_sweep_plan *plan,
	kvt_sweep_journal *journal, const kvt_sweep_about *about, GError **error)
{
	if (!kvt_sweep_journal_map(journal, error))
		return FALSE;
	g_autofree char *temporary = g_strconcat(path, ".new", NULL);
	file_writer w = { .plan = plan, .journal = journal, .about = about };
	w.figures = kvt_sweep_columns_new(journal);
	KVT_H5_GUARDED;
	errno = 0;
	bool good = write_file(&w, temporary);
	g_autofree char *reason = good ? NULL : kvt_h5_reason();
	kvt_sweep_journal_unmap(journal);
	if (!good) {
		unlink(temporary);
		return kvt_error_failed(error, "%s: cannot write the results: %s", path, reason);
	}
	if (sync_file(temporary) && rename(temporary, path) == 0)
		return TRUE;
	kvt_error_failed(error, "%s: cannot write the results: %s", path, g_strerror(errno));
	unlink(temporary);
	return FALSE;
}

gboolean kvt_sweep_file_look(
	const char *path, const char *identity, kvt_sweep_found *found, GError **error)
{
	*found = (kvt_sweep_found){ 0 };
	if (!g_file_test(path, G_FILE_TEST_EXISTS))
		return TRUE;
	KVT_H5_GUARDED;
	g_autoptr(GError) reason = NULL;
	kvt_h5_file file = { 0 };
	g_autofree char *schema = NULL, *theirs = NULL;
	bool good =
		kvt_h5_file_open(path, NULL, 0, &file, &reason) &&
		kvt_h5_attribute_text(&file, "schema", true, &schema, &reason) &&
		kvt_h5_attribute_text(&file, "identity", true, &theirs, &reason) &&
		kvt_h5_attribute_integer(&file, "points", 0, UINT64_MAX, &found->points, &reason) &&
		kvt_h5_attribute_integer(&file, "done", 0, UINT64_MAX, &found->done, &reason) &&
		kvt_h5_attribute_integer(&file, "failed", 0, UINT64_MAX, &found->failed, &reason);
	kvt_h5_file_close(&file);
	if (!good || !g_str_equal(schema, KVT_SWEEP_SCHEMA))
		return kvt_error_usage(error,
			"%s is there and holds no sweep, expected --overwrite or another --out",
			path);
	found->exists = true;
	found->same = g_str_equal(theirs, identity);
	return TRUE;
}
