/* calibrate_load.c: keeps I/Os in flight on a file and counts them. What figures mean is not
 * decided here. */
#include "emu/calibrate/calibrate_load.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "emu/calibrate/calibration.h"
#include "emu/loop/real_loop.h"
#include "sim/base/error.h"
#include "sim/base/rng.h"

enum { BLOCK = 4096, PIECE = 4 << 20 };
/* No load takes longer, s. */
static const double LONGEST = 5;

typedef struct lane {
	kvt_raw_io io;
	struct driver *driver;
	kvt_time submitted;
} lane;

typedef struct driver {
	kvt_load_file *file;
	const kvt_load *load;
	kvt_loop *loop;
	kvt_io_engine *engine;
	kvt_histogram *latencies;
	kvt_rng rng;
	uint64_t at; /* of memory: the next I/O's */
	lane *lanes;
	kvt_meter meter;
	int status;
} driver;

/* A file without a name where the file system can, else one whose name is taken away. */
static int open_nameless(const char *folder, int flags)
{
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);
	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
		return fd;
	g_autofree char *path = g_build_filename(folder, "kvtier-calibrate-XXXXXX", NULL);
	fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC | flags, 0600);
	if (fd >= 0)
		unlink(path);
	return fd;
}

void kvt_load_fill(unsigned char *memory, uint64_t bytes)
{
	kvt_rng rng = kvt_rng_init(7, 7);
	for (uint64_t i = 0; i < bytes; i += 8) {
		uint64_t word = kvt_rng_next(&rng);
		memcpy(memory + i, &word, 8);
	}
}

static gboolean write_through(kvt_load_file *file, GError **error)
{
	for (uint64_t at = 0; at < file->bytes; at += PIECE) {
		ssize_t n =
			pwrite(file->fd, file->memory + at % file->memory_bytes, PIECE, (off_t)at);
		if (n != PIECE)
			return kvt_error_failed(error, "calibrate: cannot write the test file: %s",
				n < 0 ? g_strerror(errno) : "no space left");
	}
	if (fdatasync(file->fd) != 0)
		return kvt_error_failed(
			error, "calibrate: cannot sync the test file: %s", g_strerror(errno));
	return TRUE;
}

gboolean kvt_load_open(kvt_load_file *file, const char *folder, uint64_t bytes, GError **error)
{
	*file = (kvt_load_file){ .fd = -1, .bytes = MAX(bytes / PIECE, 1) * PIECE };
	file->fd = open_nameless(folder, O_DIRECT);
	file->direct = file->fd >= 0;
	if (file->fd < 0 && errno == EINVAL)
		file->fd = open_nameless(folder, 0);
	if (file->fd < 0) {
		g_autofree char *quoted = kvt_error_quote(folder);
		return kvt_error_failed(error,
			"calibrate: %s: cannot make a test file: %s, expected a folder to write to",
			quoted, g_strerror(errno));
	}
	file->path = g_strdup_printf("/proc/%d/fd/%d", (int)getpid(), file->fd);
	file->memory_bytes = KVT_LOAD_MEMORY;
	file->arena = kvt_arena_new(KVT_LOAD_MEMORY, KVT_HUGE_TRANSPARENT, false, -1, error);
	file->memory = file->arena ? kvt_arena_base(file->arena) : NULL;
	if (file->memory)
		kvt_load_fill(file->memory, file->memory_bytes);
	if (file->memory && write_through(file, error))
		return TRUE;
	kvt_load_close(file);
	return FALSE;
}

void kvt_load_close(kvt_load_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	g_free(file->path);
	kvt_arena_free(file->arena);
	*file = (kvt_load_file){ .fd = -1 };
}

static void submit(lane *l)
{
	driver *d = l->driver;
	uint64_t places = d->file->bytes / d->load->size;
	bool write = d->load->writes > 0 && kvt_rng_uniform(&d->rng) < d->load->writes;
	l->io.op = write ? KVT_RAW_WRITE : KVT_RAW_READ;
	l->io.offset = kvt_rng_below(&d->rng, places) * d->load->size;
	/* KV goes where no cache has been: to memory that was least lately used */
	if (d->at + d->load->size > d->file->memory_bytes)
		d->at = 0;
	l->io.memory = d->file->memory + d->at;
	d->at += d->load->size;
	l->submitted = kvt_loop_now(d->loop);
	kvt_io_engine_submit(d->engine, &l->io);
}

static void on_done(kvt_raw_io *io)
{
	lane *l = io->arg;
	driver *d = l->driver;
	if (io->status != 0) {
		d->status = io->status;
		d->meter.stopping = true;
	}
	if (kvt_meter_count(&d->meter, kvt_loop_now(d->loop), l->submitted))
		submit(l);
}

/* As an emulation's loop, which has a processor of its own. */
static const kvt_time SPIN = KVT_SECOND;

static gboolean drive(driver *d, kvt_load_result *result, GError **error)
{
	const kvt_load *load = d->load;
	d->lanes = g_new0(lane, load->depth);
	d->meter = (kvt_meter){ .depth = load->depth,
		.least = KVT_METER_LEAST(load->depth),
		.seconds = load->seconds,
		.longest = LONGEST,
		.latencies = d->latencies };
	kvt_meter_begin(&d->meter, d->loop);
	for (unsigned i = 0; i < load->depth; i++) {
		lane *l = &d->lanes[i];
		l->driver = d;
		l->io = (kvt_raw_io){ .fd = d->file->fd,
			.slot = 0,
			.length = load->size,
			.done = on_done,
			.arg = l };
		submit(l);
	}
	kvt_loop_run(d->loop);
	kvt_meter_end(&d->meter, d->loop, load->size, result);
	g_free(d->lanes);
	if (d->status != 0)
		return kvt_error_failed(error, "calibrate: an I/O of the test file failed: %s",
			g_strerror(-d->status));
	if (d->meter.counted == 0)
		return kvt_error_failed(error,
			"calibrate: too few I/Os of %" G_GUINT64_FORMAT " bytes ended in %g s",
			load->size, LONGEST);
	return TRUE;
}

gboolean kvt_load_run(kvt_load_file *file, const kvt_load *load, kvt_load_result *result,
	kvt_histogram *latencies, GError **error)
{
	kvt_io_settings settings = { .queue_depth = load->depth,
		.max_transfer = MAX(load->size, BLOCK),
		.no_coalescing = true };
	driver d = { .file = file, .load = load, .latencies = latencies };
	d.rng = kvt_rng_init(load->seed, load->size * 64 + load->depth);
	d.loop = kvt_real_loop_new(&(kvt_real_loop_settings){ .spin = SPIN });
	if (!d.loop)
		return kvt_error_failed(error, "calibrate: no loop: %s", g_strerror(errno));
	d.engine = kvt_io_engine_new(d.loop, &settings, error);
	gboolean good = d.engine != NULL;
	if (good) {
		/* refused where memory may not be locked: then as any other */
		kvt_io_engine_register_memory(d.engine, file->memory, file->memory_bytes);
		kvt_io_engine_register_file(d.engine, 0, file->fd);
		file->method = kvt_io_method_names[kvt_io_engine_method(d.engine)];
		good = drive(&d, result, error);
		kvt_io_engine_free(d.engine);
	}
	kvt_loop_free(d.loop);
	return good;
}
