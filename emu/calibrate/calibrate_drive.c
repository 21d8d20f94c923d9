/* calibrate_drive.c: the store's device by size and depth, and beside fio. The fit is in
 * calibrate_fit.c. */
#include <string.h>
#include <sys/statvfs.h>

#include "emu/calibrate/calibrate_load.h"
#include "emu/calibrate/calibration.h"
#include "sim/base/error.h"

static const uint64_t SIZES[] = { 4096, 16384, 65536, 262144, 1 << 20, 4 << 20 };
static const uint64_t QUICK_SIZES[] = { 4096, 65536, 1 << 20 };
static const unsigned DEPTHS[] = { 1, 2, 4, 8, 16, 32, 64 };
static const unsigned QUICK_DEPTHS[] = { 1, 8, 32 };

enum { REPEATS = 5, MIX_SIZE = 128 << 10, MIX_DEPTH = 32 };

typedef struct plan {
	const uint64_t *sizes;
	const unsigned *depths;
	unsigned n_sizes, n_depths;
	double seconds; /* of one repeat */
	const kvt_calibrate_settings *settings;
	kvt_load_file *file;
} plan;

static plan plan_of(const kvt_calibrate_settings *settings)
{
	if (settings->quick)
		return (plan){ QUICK_SIZES, QUICK_DEPTHS, G_N_ELEMENTS(QUICK_SIZES),
			G_N_ELEMENTS(QUICK_DEPTHS), 0.015, settings, NULL };
	return (plan){ SIZES, DEPTHS, G_N_ELEMENTS(SIZES), G_N_ELEMENTS(DEPTHS), 0.1, settings,
		NULL };
}

static gboolean measure_once(void *arg, const kvt_drive_point *point, unsigned round,
	kvt_load_result *result, kvt_histogram *latencies, GError **error)
{
	const plan *p = arg;
	kvt_load load = { .size = point->size,
		.depth = point->depth,
		.writes = point->write,
		.seconds = p->seconds,
		.seed = round + 1 };
	return kvt_load_run(p->file, &load, result, latencies, error);
}

/* Every size at every depth, reads first; without those whose I/Os would share memory. */
static GArray *make_points(const kvt_load_file *file, const plan *p)
{
	GArray *points = g_array_new(FALSE, TRUE, sizeof(kvt_drive_point));
	for (int write = 0; write < 2; write++)
		for (unsigned s = 0; s < p->n_sizes; s++)
			for (unsigned d = 0; d < p->n_depths; d++) {
				kvt_drive_point point = {
					.write = write, .size = p->sizes[s], .depth = p->depths[d]
				};
				if (point.size * point.depth <= file->memory_bytes &&
					point.size <= file->bytes / 2)
					g_array_append_val(points, point);
			}
	return points;
}

static gboolean measure_grid(kvt_calibration *c, kvt_load_file *file, plan *p, GError **error)
{
	g_autoptr(GArray) points = make_points(file, p);
	const kvt_grid grid = { .settings = p->settings,
		.names = { "reads", "writes" },
		.rounds = KVT_GRID_ROUNDS,
		.run = measure_once,
		.arg = p };
	p->file = file;
	return kvt_grid_measure(&grid, points, c->drive, error);
}

/* Rate of half reads, half writes, over that of the one after the other. */
static gboolean measure_mix(kvt_calibration *c, kvt_load_file *file, const plan *p, GError **error)
{
	double ratios[REPEATS];
	g_autofree kvt_histogram *latencies = g_new(kvt_histogram, 1);
	kvt_histogram_init(latencies);
	for (unsigned i = 0; i < REPEATS; i++) {
		double rates[3];
		for (unsigned w = 0; w < 3; w++) {
			kvt_load load = { .size = MIX_SIZE,
				.depth = MIX_DEPTH,
				.writes = 0.5 * w,
				.seconds = p->seconds,
				.seed = i + 1 };
			kvt_load_result result;
			if (!kvt_load_run(file, &load, &result, latencies, error))
				return FALSE;
			rates[w] = result.rate;
		}
		ratios[i] = rates[1] * (0.5 / rates[0] + 0.5 / rates[2]);
	}
	c->mixed = CLAMP(kvt_measured_of(ratios, REPEATS).value, 0.05, 1);
	return TRUE;
}

/* The type and source of the file system that holds a folder, as mountinfo names them. */
static char *filesystem_of(const char *folder)
{
	g_autofree char *text = NULL, *full = g_canonicalize_filename(folder, NULL);
	if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
		return g_strdup("unknown");
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	g_autofree char *best = g_strdup("unknown");
	size_t longest = 0;
	for (char **line = lines; *line; line++) {
		g_auto(GStrv) words = g_strsplit(*line, " ", -1);
		unsigned n = g_strv_length(words), dash = 6;
		while (dash < n && strcmp(words[dash], "-") != 0)
			dash++;
		if (n < 7 || dash + 2 >= n)
			continue;
		size_t length = strcmp(words[4], "/") == 0 ? 0 : strlen(words[4]);
		bool holds = strncmp(full, words[4], length) == 0 &&
			     (full[length] == '/' || full[length] == '\0');
		if (holds && length >= longest) {
			longest = length;
			g_free(best);
			best = g_strdup_printf("%s on %s", words[dash + 1], words[dash + 2]);
		}
	}
	return g_steal_pointer(&best);
}

static uint64_t file_bytes(const kvt_calibrate_settings *settings)
{
	if (settings->file_bytes > 0)
		return settings->file_bytes;
	return (uint64_t)(settings->quick ? 32 : 512) << 20;
}

gboolean kvt_calibrate_drive(
	kvt_calibration *c, const kvt_calibrate_settings *settings, GError **error)
{
	kvt_load_file file;
	plan p = plan_of(settings);
	if (!kvt_load_open(&file, settings->store, file_bytes(settings), error))
		return FALSE;
	/* the file has just been written: it is known whom the drive interrupts */
	kvt_cores_place_engine(settings->place);
	gboolean good = measure_grid(c, &file, &p, error) && measure_mix(c, &file, &p, error);
	kvt_cores_release(settings->place);
	struct statvfs fs;
	g_free(c->store);
	g_free(c->filesystem);
	g_free(c->method);
	c->store = g_canonicalize_filename(settings->store, NULL);
	c->filesystem = filesystem_of(settings->store);
	c->method = g_strdup(file.method ? file.method : "none");
	c->direct = file.direct;
	c->file_bytes = file.bytes;
	if (statvfs(settings->store, &fs) == 0)
		c->capacity = (uint64_t)fs.f_blocks * fs.f_frsize;
	kvt_load_close(&file);
	return good;
}

/* fio's rate on the file, 0 with *why when it says none. */
static double run_fio(
	const kvt_load_file *file, uint64_t size, unsigned depth, double seconds, char **why)
{
	g_autofree char *name = g_strdup_printf("--filename=%s", file->path);
	g_autofree char *bytes = g_strdup_printf("--size=%" G_GUINT64_FORMAT, file->bytes);
	g_autofree char *block = g_strdup_printf("--bs=%" G_GUINT64_FORMAT, size);
	g_autofree char *in_flight = g_strdup_printf("--iodepth=%u", depth);
	g_autofree char *lasting = g_strdup_printf("--runtime=%.0fms", seconds * 1000);
	bool uring = g_strcmp0(file->method, "uring") == 0;
	char *argv[] = { "fio", "--name=kvtier", name, bytes, block, in_flight, lasting,
		"--time_based=1", "--rw=randread", "--norandommap=1", "--output-format=json",
		file->direct ? "--direct=1" : "--direct=0",
		uring ? "--ioengine=io_uring" : "--ioengine=libaio",
		uring ? "--fixedbufs=1" : "--group_reporting", "--thread=1", NULL };
	g_autofree char *out = NULL, *err = NULL;
	g_autoptr(GError) failed = NULL;
	int status = 0;
	if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status,
		    &failed)) {
		bool missing = g_error_matches(failed, G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT);
		*why = missing ? g_strdup("fio is not installed") : g_strdup(failed->message);
		return 0;
	}
	const char *object = out ? strchr(out, '{') : NULL;
	json_t *result = object ? json_loads(object, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
	json_t *job = json_array_get(json_object_get(result, "jobs"), 0);
	double rate = json_number_value(json_object_get(json_object_get(job, "read"), "bw_bytes"));
	json_decref(result);
	if (!(rate > 0)) {
		g_strdelimit(g_strstrip(err), "\n", ' ');
		*why = g_strdup_printf("fio failed: %.200s", *err ? err : "it printed no rate");
	}
	return rate;
}

GArray *kvt_calibrate_against_fio(const kvt_calibrate_settings *settings, char **why)
{
	static const uint64_t sizes[] = { 16 << 10, 128 << 10, 1 << 20 };
	GArray *points = g_array_new(FALSE, FALSE, sizeof(kvt_fio_point));
	double seconds = settings->quick ? 0.1 : 0.5;
	*why = NULL;
	g_autofree char *program = g_find_program_in_path("fio");
	if (!program) {
		*why = g_strdup("fio is not installed");
		return points;
	}
	kvt_load_file file;
	g_autoptr(GError) failed = NULL;
	if (!kvt_load_open(&file, settings->store, file_bytes(settings), &failed)) {
		*why = g_strdup(failed->message);
		return points;
	}
	g_autofree kvt_histogram *latencies = g_new(kvt_histogram, 1);
	kvt_histogram_init(latencies);
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes) && !*why; i++) {
		kvt_fio_point point = { .size = sizes[i], .depth = MIX_DEPTH };
		kvt_load load = {
			.size = sizes[i], .depth = MIX_DEPTH, .seconds = seconds, .seed = 1
		};
		kvt_load_result before, after;
		bool good = kvt_load_run(&file, &load, &before, latencies, &failed);
		point.fio_rate = good ? run_fio(&file, sizes[i], MIX_DEPTH, seconds, why) : 0;
		good = good && point.fio_rate > 0 &&
		       kvt_load_run(&file, &load, &after, latencies, &failed);
		if (!good) {
			if (!*why)
				*why = g_strdup(failed ? failed->message : "fio failed");
			break;
		}
		point.rate = (before.rate + after.rate) / 2;
		g_array_append_val(points, point);
	}
	kvt_load_close(&file);
	return points;
}
