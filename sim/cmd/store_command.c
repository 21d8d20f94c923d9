/* store_command.c: `kvtier store create|info|check|gc PATH`: page stores made, described, verified
 * and tidied. The work is done in emu/store/store.h. */
#include <inttypes.h>
#include <string.h>

#include "emu/store/store.h"
#include "sim/base/error.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"

static const kvt_command create_action = {
	.name = "store create",
	.summary = "Make a directory or a block device a page store.",
	.arguments = "PATH",
	.help = "A directory is new or empty. A block device, or a file that stands for one, has\n"
		"nothing but zeros in its first and last MiB, where file systems and partition "
		"tables\n"
		"are known by, and nobody has it open; --overwrite does away with what is on "
		"it.\n\n"
		"Its files never take more than the capacity (of a device: all of it); a reserve "
		"that\n"
		"does not fit fails and changes nothing. With --sync data, what was acknowledged\n"
		"survives a power cut; with none, a kill -9, and after a power cut the store is "
		"empty.\n"
		"A drive whose connection may break, as one over a fabric, needs data: nothing "
		"tells\n"
		"the store that writes were lost.\n\n"
		"  kvtier store create /mnt/nvme/pages --capacity 500GB --sync data\n"
		"  kvtier store create /dev/nvme1n1 --sync data",
};

static const kvt_command info_action = {
	.name = "store info",
	.summary = "Say what a page store holds.",
	.arguments = "PATH",
	.help = "Its index is recovered as at any opening, but nothing is written. A store that "
		"a\n"
		"process has open cannot be looked at.",
};

static const kvt_command check_action = {
	.name = "store check",
	.summary = "Read all of a page store and compare it with its checksums.",
	.arguments = "PATH",
	.help = "Nothing is written. What is wrong is said on stderr, a line each, and the exit\n"
		"status is 1. Records that were being written when the store was last left are\n"
		"counted as torn: they are no damage, and are not served.",
};

static const kvt_command gc_action = {
	.name = "store gc",
	.summary = "Make room of what was discarded or overwritten.",
	.arguments = "PATH",
	.help = "What lives in the emptiest segments is moved together and their files are "
		"removed,\n"
		"until moving would free less than a tenth of a segment.",
};

static void print_line(void *arg, const char *line)
{
	fprintf(stderr, "kvtier: %s\n", line);
}

static kvt_store *open_store(const char *path, bool read_only, GError **error)
{
	kvt_store_settings settings = { .read_only = read_only, .notice = print_line };
	return kvt_store_open(path, &settings, error);
}

static gboolean read_bytes(const char *option, const char *text, uint64_t *bytes, GError **error)
{
	double value;
	if (!kvt_command_quantity(option, text, KVT_UNIT_BYTES, &value, error))
		return FALSE;
	if (value > 1e18)
		return kvt_error_usage(error, "%s: %s, expected at most 1000000TB", option, text);
	*bytes = (uint64_t)value;
	return TRUE;
}

static void create_store(const char *path, const char *capacity, const char *segment,
	const char *sync, bool overwrite, GError **error)
{
	const kvt_store_settings settings = { .overwrite = overwrite };
	kvt_store_shape shape = { 0 };
	int which;
	bool device =
		g_file_test(path, G_FILE_TEST_EXISTS) && !g_file_test(path, G_FILE_TEST_IS_DIR);
	if (!capacity && !device) {
		kvt_error_usage(error, "--capacity: is missing, expected %s",
			kvt_unit_expectation(KVT_UNIT_BYTES));
		return;
	}
	if ((capacity && !read_bytes("--capacity", capacity, &shape.capacity, error)) ||
		(segment && !read_bytes("--segment", segment, &shape.segment_bytes, error)) ||
		!kvt_command_choice(
			"--sync", sync ? sync : "none", kvt_store_sync_names, &which, error))
		return;
	shape.sync = (kvt_store_sync)which;
	kvt_store_create(path, &shape, &settings, error);
}

static int run_create(int argc, char **argv, GError **error)
{
	g_autofree char *capacity = NULL, *segment = NULL, *sync = NULL;
	gboolean overwrite = FALSE;
	const GOptionEntry own[] = {
		{ "capacity", 0, 0, G_OPTION_ARG_FILENAME, &capacity,
			"what its files may take together (all of a device)", "SIZE" },
		{ "segment", 0, 0, G_OPTION_ARG_FILENAME, &segment,
			"one file, which is what is evicted at a time (capacity / 256, from 1MiB "
			"to 16GiB)",
			"SIZE" },
		{ "sync", 0, 0, G_OPTION_ARG_FILENAME, &sync,
			"what a write waits for: nothing, or its data being durable (none)",
			"none|data" },
		{ "overwrite", 0, 0, G_OPTION_ARG_NONE, &overwrite, "what is on the device may go",
			NULL },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &create_action, 0, 1, 1, own };
	g_auto(kvt_command_options) options = { 0 };
	if (kvt_command_parse(&syntax, argc, argv, &options, error))
		create_store(options.arguments[0], capacity, segment, sync, overwrite, error);
	return 0;
}

static json_t *integers(const char *const *names, const uint64_t *values, unsigned n)
{
	json_t *object = json_object();
	for (unsigned i = 0; i < n; i++)
		json_object_set_new(object, names[i], json_integer((json_int_t)values[i]));
	return object;
}

#define INTEGERS(names, ...) integers(names, (const uint64_t[]){ __VA_ARGS__ }, G_N_ELEMENTS(names))

static json_t *info_result(const char *path, const kvt_store_info *info)
{
	static const char *const bytes[] = { "capacity", "segment", "used", "free", "pages",
		"dead_pages", "index_in_memory" };
	static const char *const counts[] = { "segments", "sealed_segments", "damaged_segments",
		"layers_of_contexts", "records", "runs", "pages" };
	static const char *const recovery[] = { "segments_by_index", "segments_by_reading",
		"segments_lost", "records", "records_torn", "bytes_read" };
	json_t *result = kvt_json_result("store-info", 1);
	json_object_set_new(result, "path", kvt_json_text(path));
	json_object_set_new(result, "sync", kvt_json_text(kvt_store_sync_names[info->shape.sync]));
	json_object_set_new(result, "bytes",
		INTEGERS(bytes, info->shape.capacity, info->shape.segment_bytes, info->used,
			info->free, info->page_bytes, info->dead_page_bytes, info->memory));
	json_object_set_new(result, "count",
		INTEGERS(counts, info->segments, info->sealed, info->damaged, info->streams,
			info->records, info->runs, info->pages));
	json_object_set_new(result, "recovery",
		INTEGERS(recovery, info->indexed_segments, info->scanned_segments,
			info->lost_segments, info->recovered_records, info->rejected_records,
			info->scanned_bytes));
	return result;
}

static const kvt_column segment_columns[] = {
	{ "number", "segment", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "bytes", "file", KVT_CELL_NUMBER, KVT_UNIT_BYTES, NULL, 0 },
	{ "pages", "pages", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "live_pages", "live pages", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "page_bytes", "of pages", KVT_CELL_NUMBER, KVT_UNIT_BYTES, NULL, 0 },
	{ "live_page_bytes", "of live pages", KVT_CELL_NUMBER, KVT_UNIT_BYTES, NULL, 0 },
	{ "sealed", "sealed", KVT_CELL_BOOL, KVT_UNIT_NONE, NULL, 0 },
	{ "damaged", "damaged", KVT_CELL_BOOL, KVT_UNIT_NONE, NULL, 0 },
	{ 0 },
};

static kvt_table *segment_table(kvt_store *store)
{
	kvt_table *table = kvt_table_new(segment_columns);
	unsigned n = kvt_store_segments(store, NULL, 0);
	g_autofree kvt_store_segment *segments = g_new(kvt_store_segment, n);
	kvt_store_segments(store, segments, n);
	for (unsigned i = 0; i < n; i++) {
		kvt_table_add_row(table);
		kvt_table_add_integer(table, (int64_t)segments[i].number);
		kvt_table_add_number(table, (double)segments[i].bytes);
		kvt_table_add_integer(table, (int64_t)segments[i].pages);
		kvt_table_add_integer(table, (int64_t)segments[i].live_pages);
		kvt_table_add_number(table, (double)segments[i].page_bytes);
		kvt_table_add_number(table, (double)segments[i].live_page_bytes);
		kvt_table_add_bool(table, segments[i].sealed);
		kvt_table_add_bool(table, segments[i].damaged);
	}
	return table;
}

static int run_info(int argc, char **argv, GError **error)
{
	gboolean segments = FALSE;
	const GOptionEntry own[] = {
		{ "segments", 0, 0, G_OPTION_ARG_NONE, &segments, "its files, one a row", NULL },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &info_action, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT, 1, 1,
		own };
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	kvt_store *store = open_store(options.arguments[0], true, error);
	if (!store)
		return 0;
	if (segments) {
		g_autoptr(kvt_table) table = segment_table(store);
		kvt_command_print_table(&options, table, error);
	} else {
		kvt_store_info info;
		kvt_store_info_get(store, &info);
		json_t *result = info_result(options.arguments[0], &info);
		kvt_command_print_json(&options, result, error);
		json_decref(result);
	}
	kvt_store_drop(store);
	return 0;
}

static void check_store(
	kvt_store *store, const char *path, const kvt_command_options *options, GError **error)
{
	static const char *const names[] = { "segments", "records", "pages", "bytes",
		"bad_segments", "bad_records", "bad_pages", "torn_records" };
	kvt_store_report report;
	if (!kvt_store_check(store, &report, print_line, NULL, error))
		return;
	json_t *result = kvt_json_result("store-check", 1);
	json_t *found = INTEGERS(names, report.segments, report.records, report.pages, report.bytes,
		report.bad_segments, report.bad_records, report.bad_pages, report.torn_records);
	json_object_set_new(result, "path", kvt_json_text(path));
	json_object_update(result, found);
	json_decref(found);
	gboolean printed = kvt_command_print_json(options, result, error);
	json_decref(result);
	if (printed && report.bad_segments + report.bad_records + report.bad_pages > 0)
		kvt_error_failed(error,
			"%s: %" PRIu64 " segments, %" PRIu64 " records and %" PRIu64
			" pages are not as they were written",
			path, report.bad_segments, report.bad_records, report.bad_pages);
}

static int run_check(int argc, char **argv, GError **error)
{
	const kvt_command_syntax syntax = { &check_action, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT, 1,
		1, NULL };
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	kvt_store *store = open_store(options.arguments[0], true, error);
	if (store)
		check_store(store, options.arguments[0], &options, error);
	kvt_store_drop(store);
	return 0;
}

static void gather(
	kvt_store *store, const char *path, const kvt_command_options *options, GError **error)
{
	static const char *const names[] = { "freed", "used", "free", "moved_pages" };
	kvt_store_info before, info;
	kvt_store_info_get(store, &before);
	int status = kvt_store_gc(store, 0, NULL);
	if (status == 0)
		status = kvt_store_seal(store);
	kvt_store_info_get(store, &info);
	uint64_t freed = before.used > info.used ? before.used - info.used : 0;
	if (status < 0) {
		kvt_error_failed(error, "%s: gc: %s", path, g_strerror(-status));
		kvt_store_drop(store);
		return;
	}
	if (!kvt_store_close(store, error))
		return;
	json_t *result = kvt_json_result("store-gc", 1);
	json_t *found = INTEGERS(names, freed, info.used, info.free, info.moved_pages);
	json_object_set_new(result, "path", kvt_json_text(path));
	json_object_update(result, found);
	json_decref(found);
	kvt_command_print_json(options, result, error);
	json_decref(result);
}

static int run_gc(int argc, char **argv, GError **error)
{
	const kvt_command_syntax syntax = { &gc_action, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT, 1, 1,
		NULL };
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	kvt_store *store = open_store(options.arguments[0], false, error);
	if (store)
		gather(store, options.arguments[0], &options, error);
	return 0;
}

static int run_store(int argc, char **argv, GError **error)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv, GError **error);
	} actions[] = {
		{ "create", run_create },
		{ "info", run_info },
		{ "check", run_check },
		{ "gc", run_gc },
	};
	const char *names[G_N_ELEMENTS(actions) + 1] = { NULL };
	for (size_t i = 0; i < G_N_ELEMENTS(actions); i++) {
		names[i] = actions[i].name;
		if (argc > 1 && strcmp(argv[1], names[i]) == 0)
			return actions[i].run(argc - 1, argv + 1, error);
	}
	const kvt_command_syntax syntax = { &kvt_command_store, 0, 1, G_MAXUINT, NULL };
	g_auto(kvt_command_options) options = { 0 };
	int which;
	if (kvt_command_parse(&syntax, argc, argv, &options, error))
		kvt_command_choice("store", options.arguments[0], names, &which, error);
	return 0;
}

const kvt_command kvt_command_store = {
	.name = "store",
	.summary = "Create, show, check and tidy page stores on real drives",
	.arguments = "create|info|check|gc PATH",
	.help = "  store create PATH  make a new or empty directory or device one\n"
		"  store info PATH    what it holds, and how it was recovered\n"
		"  store check PATH   read all of it and compare it with its checksums\n"
		"  store gc PATH      make room of what was discarded or overwritten\n\n"
		"\"kvtier store create --help\" and so on say more.",
	.run = run_store,
};
