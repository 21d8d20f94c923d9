/*
 * bench_io.c: random reads by fio, by the I/O engine and by the tier of real drives, of one file,
 * at one size, depth and set of flags, in turns within one run. Prints medians and ratios to fio,
 * or without fio to the engine. Wanted: the tier at 95% of fio or more.
 *
 *     bench_io [DIRECTORY [SECONDS [ROUNDS [DEPTH]]]]
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "emu/real_loop.h"
#include "emu/uring_tier.h"
#include "sim/base/rng.h"

enum { MOST_ROUNDS = 15, MOST_DEPTH = 256 };

static const uint64_t DATA_BYTES = (uint64_t)512 << 20;

typedef struct bench {
	char *dir, *files; /* the store's segments, as fio takes them */
	double seconds;
	unsigned rounds, depth;
	bool plain; /* memory in 4 KiB pages */
	uint64_t page_bytes, pages;
	kvt_loop *loop;
	kvt_tier *tier;
	uint8_t *memory; /* depth pages */
	kvt_rng rng;
	kvt_time end;
	uint64_t bytes;
	double processor; /* seconds for a gigabyte, of what was measured last */
	int fd;
	uint64_t file_bytes;
	kvt_io_engine *engine;
} bench;

/* --- fio --- */

static double fio_rate(bench *b)
{
	g_autofree char *file = g_strdup_printf("--filename=%s", b->files);
	g_autofree char *bytes = g_strdup_printf("--size=%" G_GUINT64_FORMAT, DATA_BYTES);
	g_autofree char *size = g_strdup_printf("--bs=%" G_GUINT64_FORMAT, b->page_bytes);
	g_autofree char *depth = g_strdup_printf("--iodepth=%u", b->depth);
	g_autofree char *time = g_strdup_printf("--runtime=%g", b->seconds);
	char *argv[] = { "fio", "--name=read", "--ioengine=io_uring", "--rw=randread",
		"--blockalign=4k", "--direct=1", "--fixedbufs=1", "--registerfiles=1",
		"--norandommap", "--randrepeat=0", "--time_based", "--output-format=json",
		"--readonly", "--invalidate=0", bytes, file, size, depth, time, NULL };
	g_autofree char *output = NULL;
	int status;
	if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL,
		    NULL, &output, NULL, &status, NULL) ||
		status != 0)
		return 0;
	json_t *root = json_loads(strchr(output, '{') ? strchr(output, '{') : "", 0, NULL);
	json_t *job = json_array_get(json_object_get(root, "jobs"), 0);
	const json_t *read = json_object_get(job, "read");
	double rate = json_number_value(json_object_get(read, "bw_bytes"));
	double bytes_read = json_number_value(json_object_get(read, "io_bytes"));
	double busy = json_number_value(json_object_get(job, "usr_cpu")) +
		      json_number_value(json_object_get(job, "sys_cpu"));
	double runtime = json_number_value(json_object_get(job, "job_runtime"));
	b->processor = bytes_read > 0 ? busy / 100 * runtime * 1e-3 / bytes_read * 1e9 : 0;
	json_decref(root);
	return rate;
}

/* --- The engine --- */

static double processor_seconds(void)
{
	struct rusage use;
	getrusage(RUSAGE_SELF, &use);
	return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
	       1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

static void run_loop(bench *b)
{
	double before = processor_seconds();
	kvt_loop_run(b->loop);
	b->processor = (processor_seconds() - before) / (double)b->bytes * 1e9;
}

typedef struct raw_slot {
	kvt_raw_io io;
	bench *bench;
} raw_slot;

static void submit_raw(raw_slot *slot)
{
	bench *b = slot->bench;
	slot->io.offset = kvt_rng_below(&b->rng, (b->file_bytes - b->page_bytes) / 4096) * 4096;
	kvt_io_engine_submit(b->engine, &slot->io);
}

static void raw_done(kvt_raw_io *io)
{
	raw_slot *slot = io->arg;
	bench *b = slot->bench;
	g_assert(io->status == 0);
	b->bytes += io->length;
	if (kvt_loop_now(b->loop) < b->end)
		submit_raw(slot);
}

static double engine_rate(bench *b)
{
	raw_slot slots[MOST_DEPTH];
	b->bytes = 0;
	kvt_time begin = kvt_loop_now(b->loop);
	b->end = begin + kvt_time_from_seconds(b->seconds);
	for (unsigned i = 0; i < b->depth; i++) {
		slots[i] = (raw_slot){ .bench = b };
		slots[i].io = (kvt_raw_io){ .fd = b->fd,
			.slot = 0,
			.length = b->page_bytes,
			.memory = b->memory + i * b->page_bytes,
			.done = raw_done,
			.arg = &slots[i] };
		submit_raw(&slots[i]);
	}
	run_loop(b);
	return (double)b->bytes / kvt_time_to_seconds(kvt_loop_now(b->loop) - begin);
}

/* --- The tier --- */

typedef struct page_slot {
	kvt_io io;
	kvt_extent page;
	void *memory;
	bench *bench;
} page_slot;

static void submit_page(page_slot *slot)
{
	slot->page.first_page = kvt_rng_below(&slot->bench->rng, slot->bench->pages);
	g_assert(kvt_tier_submit(slot->bench->tier, &slot->io) == 0);
}

static void page_done(kvt_io *io)
{
	page_slot *slot = io->arg;
	bench *b = slot->bench;
	g_assert(io->status == 0);
	b->bytes += io->bytes;
	if (kvt_loop_now(b->loop) < b->end)
		submit_page(slot);
}

static double tier_rate(bench *b)
{
	page_slot slots[MOST_DEPTH];
	b->bytes = 0;
	kvt_time begin = kvt_loop_now(b->loop);
	b->end = begin + kvt_time_from_seconds(b->seconds);
	for (unsigned i = 0; i < b->depth; i++) {
		page_slot *s = &slots[i];
		*s = (page_slot){ .bench = b, .memory = b->memory + i * b->page_bytes };
		s->page = (kvt_extent){ 1, 0, 0, 1, b->page_bytes };
		s->io = (kvt_io){ .op = KVT_IO_READ,
			.extents = &s->page,
			.n_extents = 1,
			.memory = &s->memory,
			.done = page_done,
			.arg = s };
		submit_page(s);
	}
	run_loop(b);
	return (double)b->bytes / kvt_time_to_seconds(kvt_loop_now(b->loop) - begin);
}

/* --- Set-up --- */

static kvt_tier *open_tier(bench *b, const char *path)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = g_strdup_printf("[store]\npath = %s\ncapacity = %" G_GUINT64_FORMAT
						"B\nroom = 4GiB\nsegment = 700MiB\n"
						"queue_depth = %u\ncoalesce = no\n%s\n",
		path, DATA_BYTES, b->depth,
		g_getenv("BENCH_IO_OPTIONS") ? g_getenv("BENCH_IO_OPTIONS") : "");
	g_autoptr(kvt_config) config = kvt_config_parse("store", text, &error);
	const kvt_tier_env env = { .loop = b->loop };
	kvt_tier *tier = config ? kvt_tier_open_kind(&kvt_tier_store, &env,
					  kvt_config_section(config, "store"), &error)
				: NULL;
	if (!tier)
		fprintf(stderr, "bench_io: %s\n", error->message);
	else if (kvt_uring_tier_notice(tier))
		fprintf(stderr, "bench_io: %s\n", kvt_uring_tier_notice(tier));
	return tier;
}

static void write_done(kvt_io *io)
{
	g_assert(io->status == 0);
}

static void fill(bench *b)
{
	b->pages = DATA_BYTES / b->page_bytes;
	uint64_t run = (4 << 20) / b->page_bytes;
	void *data = g_aligned_alloc(1, 4 << 20, 4096);
	for (uint64_t i = 0; i < (4 << 20) / 8; i++)
		((uint64_t *)data)[i] = kvt_rng_next(&b->rng);
	for (uint64_t page = 0; page < b->pages; page += run) {
		const kvt_extent extent = { 1, 0, page, run, b->page_bytes };
		void *const memory[] = { data };
		kvt_io io = { .op = KVT_IO_WRITE,
			.extents = &extent,
			.n_extents = 1,
			.memory = memory,
			.done = write_done };
		g_assert(kvt_tier_submit(b->tier, &io) == 0);
		kvt_loop_run(b->loop);
	}
	g_aligned_free(data);
}

/* The store's one file, by the descriptor that it names. */
static void find_file(bench *b)
{
	const kvt_store_run run = { .model = kvt_store_checksum("any", 3),
		.pages = { 1, 0, 0, 1, b->page_bytes } };
	kvt_store_piece piece;
	unsigned n;
	kvt_store *store = kvt_uring_tier_store(b->tier);
	g_assert(kvt_store_find(store, &run, &piece, 1, &n) == 0);
	g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", piece.fd);
	b->files = g_file_read_link(link, NULL);
	kvt_store_release(store, &piece, n);
	b->fd = open(b->files, O_RDONLY | O_DIRECT);
	if (b->fd < 0)
		b->fd = open(b->files, O_RDONLY);
	b->file_bytes = DATA_BYTES;
	const kvt_io_settings settings = { .queue_depth = b->depth, .no_coalescing = true };
	b->engine = kvt_io_engine_new(b->loop, &settings, NULL);
	kvt_io_engine_register_file(b->engine, 0, b->fd);
	kvt_io_engine_register_memory(b->engine, b->memory, b->depth * b->page_bytes);
	kvt_uring_tier_register_memory(b->tier, b->memory, b->depth * b->page_bytes);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *values, unsigned n)
{
	qsort(values, n, sizeof(*values), compare);
	return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

static void run_size(bench *b, uint64_t page_bytes)
{
	double fio[MOST_ROUNDS], engine[MOST_ROUNDS], tier[MOST_ROUNDS], of_fio[MOST_ROUNDS];
	double engine_of_fio[MOST_ROUNDS], processor[3][MOST_ROUNDS];
	g_autofree char *path = g_build_filename(b->dir, "bench-io-XXXXXX", NULL);
	g_assert(g_mkdtemp(path));
	b->page_bytes = page_bytes;
	b->loop = kvt_real_loop_new(NULL);
	uint64_t memory_bytes = (b->depth * page_bytes + (2 << 20) - 1) / (2 << 20) * (2 << 20);
	b->memory = g_aligned_alloc(1, memory_bytes, 2 << 20);
	madvise(b->memory, memory_bytes, b->plain ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	memset(b->memory, 0, memory_bytes);
	b->tier = open_tier(b, path);
	g_assert(b->tier);
	fill(b);
	find_file(b);
	for (unsigned i = 0; i < b->rounds; i++) {
		/* each comes first in turn */
		for (unsigned k = 0; k < 3; k++) {
			unsigned who = (i + k) % 3;
			if (who == 0)
				fio[i] = fio_rate(b);
			else if (who == 1)
				engine[i] = engine_rate(b);
			else
				tier[i] = tier_rate(b);
			processor[who][i] = b->processor;
		}
		double base = fio[i] > 0 ? fio[i] : engine[i];
		engine_of_fio[i] = engine[i] / base;
		of_fio[i] = tier[i] / base;
	}
	double low = of_fio[0], high = of_fio[0];
	for (unsigned i = 1; i < b->rounds; i++) {
		low = MIN(low, of_fio[i]);
		high = MAX(high, of_fio[i]);
	}
	printf("%7" G_GUINT64_FORMAT " KiB  fio %7.0f MB/s  engine %7.0f (%.3f)  tier %7.0f (%.3f, "
	       "%.3f to %.3f)\n",
		page_bytes >> 10, median(fio, b->rounds) / 1e6, median(engine, b->rounds) / 1e6,
		median(engine_of_fio, b->rounds), median(tier, b->rounds) / 1e6,
		median(of_fio, b->rounds), low, high);
	printf("             processor time, ms/GB: fio %.0f, engine %.0f, tier %.0f\n",
		median(processor[0], b->rounds) * 1e3, median(processor[1], b->rounds) * 1e3,
		median(processor[2], b->rounds) * 1e3);
	fflush(stdout);
	kvt_io_engine_free(b->engine);
	kvt_tier_close(b->tier);
	kvt_loop_free(b->loop);
	close(b->fd);
	g_aligned_free(b->memory);
	GDir *dir = g_dir_open(path, 0, NULL);
	for (const char *name; dir && (name = g_dir_read_name(dir));) {
		g_autofree char *file = g_build_filename(path, name, NULL);
		g_unlink(file);
	}
	g_dir_close(dir);
	g_rmdir(path);
	g_free(b->files);
}

static void run_directory(char *dir, int argc, char **argv)
{
	bench b = { .dir = dir, .rng = kvt_rng_init(1, 1) };
	b.seconds = argc > 2 ? strtod(argv[2], NULL) : 1;
	b.rounds = argc > 3 ? (unsigned)CLAMP(strtol(argv[3], NULL, 10), 1, MOST_ROUNDS) : 5;
	b.depth = argc > 4 ? (unsigned)CLAMP(strtol(argv[4], NULL, 10), 1, MOST_DEPTH) : 32;
	b.plain = g_getenv("BENCH_IO_PLAIN") != NULL;
	printf("%s: random reads at depth %u, O_DIRECT, registered, memory in %s pages, medians of "
	       "%u (ratio to fio in turn)\n",
		dir, b.depth, b.plain ? "4 KiB" : "transparent huge", b.rounds);
	const uint64_t sizes[] = { 16 << 10, 128 << 10, 1 << 20 };
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++)
		run_size(&b, sizes[i]);
}

int main(int argc, char **argv)
{
	char *both[] = { "/var/tmp", "/dev/shm" };
	for (unsigned i = 0; i < (argc > 1 ? 1 : G_N_ELEMENTS(both)); i++)
		run_directory(argc > 1 ? argv[1] : both[i], argc, argv);
	return 0;
}
