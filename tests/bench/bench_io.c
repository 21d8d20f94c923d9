/*
 * bench_io.c: fio, the I/O engine (no checksums) and the tier of real drives (every page verified,
 * or summed before it is written) on one file system, at one size, depth and set of flags, in turns
 * within one run; random reads of one file, and writes to new ones. All of them move bytes to and
 * from the very same pages of memory, since what a drive takes depends on how these lie. fio
 * verifies nothing. Prints medians and ratios to fio, or without fio to the engine. Wanted: the
 * tier at 95% of fio or more.
 *
 *     bench_io [DIRECTORY [SECONDS [ROUNDS [DEPTH]]]]
 *
 * BENCH_IO_PLAIN: memory in 4 KiB pages alone; otherwise also in huge ones where that is permitted.
 * BENCH_IO_OPTIONS: lines for the tier's section.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "emu/loop/real_loop.h"
#include "emu/tier/uring_tier.h"
#include "sim/base/rng.h"
#include "tests/bench/median.h"

enum { MOST_ROUNDS = 99, MOST_DEPTH = 256, WAYS = 3 };

static const uint64_t DATA_BYTES = (uint64_t)512 << 20;

static const char *const way_names[WAYS] = { "fio", "engine", "tier" };

typedef struct bench {
	char *dir, *path, *files; /* a folder in dir; the store's segment there, as fio takes it */
	double seconds;
	unsigned rounds, depth;
	bool writes;
	uint64_t page_bytes, pages;
	kvt_loop *loop;
	kvt_tier *tier;
	uint8_t *memory;         /* depth pages */
	const char *memory_file; /* what it is mapped from */
	uint64_t memory_bytes;
	kvt_rng rng;
	kvt_time end;
	uint64_t bytes, next; /* moved; of writes, the next place or page */
	double processor;     /* seconds for a gigabyte, of what was measured last */
	int fd;
	kvt_io_engine *engine;
} bench;

/* --- Memory --- */

/* A file in memory of 4 KiB pages, or of huge ones: these in a file system of our own, which is
 * seen by nobody else and goes with this process. NULL: that is not permitted. */
static const char *memory_file(bool huge)
{
	static char path[] = "/tmp/bench-io-memory-XXXXXX";
	const char *name = "/dev/shm/bench-io-memory";
	if (huge) {
		if (unshare(CLONE_NEWNS) < 0 ||
			mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || !g_mkdtemp(path))
			return NULL;
		int failed = mount("bench_io", path, "tmpfs", 0, "huge=always,size=600m");
		name = failed ? NULL : g_build_filename(path, "memory", NULL);
	}
	return name;
}

static void map_memory(bench *b)
{
	b->memory_bytes = (b->depth * b->page_bytes + (2 << 20) - 1) / (2 << 20) * (2 << 20);
	int fd = open(b->memory_file, O_RDWR | O_CREAT, 0600);
	g_assert(fd >= 0 && ftruncate(fd, (off_t)b->memory_bytes + (2 << 20)) == 0);
	b->memory = mmap(NULL, b->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	g_assert(b->memory != MAP_FAILED);
	close(fd);
	for (uint64_t i = 0; i < b->memory_bytes / 8; i++)
		((uint64_t *)b->memory)[i] = kvt_rng_next(&b->rng);
}

static void unmap_memory(bench *b)
{
	munmap(b->memory, b->memory_bytes);
	g_unlink(b->memory_file);
}

/* --- fio --- */

static json_t *run_fio(bench *b)
{
	g_autofree char *file = g_strdup_printf(
		"--filename=%s%s", b->writes ? b->path : b->files, b->writes ? "/fio" : "");
	g_autofree char *bytes = g_strdup_printf("--size=%" G_GUINT64_FORMAT, DATA_BYTES);
	g_autofree char *size = g_strdup_printf("--bs=%" G_GUINT64_FORMAT, b->page_bytes);
	g_autofree char *depth = g_strdup_printf("--iodepth=%u", b->depth);
	g_autofree char *time = g_strdup_printf("--runtime=%g", b->seconds);
	g_autofree char *memory = g_strdup_printf("--iomem=mmapshared:%s", b->memory_file);
	char *argv[32] = { "fio", "--name=bench", "--ioengine=io_uring", "--direct=1",
		"--fixedbufs=1", "--registerfiles=1", "--gtod_reduce=1", "--output-format=json",
		"--invalidate=0", memory, bytes, file, size, depth };
	char *reads[] = { "--rw=randread", "--blockalign=4k", "--norandommap", "--randrepeat=0",
		"--time_based", "--readonly", time };
	char *writes[] = { "--rw=write", "--fallocate=native", "--unlink=1", "--zero_buffers=0",
		"--refill_buffers=0" };
	if (b->writes)
		memcpy(argv + 14, writes, sizeof(writes));
	else
		memcpy(argv + 14, reads, sizeof(reads));
	g_autofree char *output = NULL;
	int status;
	if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL,
		    NULL, &output, NULL, &status, NULL) ||
		status != 0)
		return NULL;
	return json_loads(strchr(output, '{') ? strchr(output, '{') : "", 0, NULL);
}

static double fio_rate(bench *b)
{
	json_t *root = run_fio(b);
	json_t *job = json_array_get(json_object_get(root, "jobs"), 0);
	const json_t *moved = json_object_get(job, b->writes ? "write" : "read");
	double rate = json_number_value(json_object_get(moved, "bw_bytes"));
	double bytes = json_number_value(json_object_get(moved, "io_bytes"));
	double busy = json_number_value(json_object_get(job, "usr_cpu")) +
		      json_number_value(json_object_get(job, "sys_cpu"));
	double runtime = json_number_value(json_object_get(job, "job_runtime"));
	b->processor = bytes > 0 ? busy / 100 * runtime * 1e-3 / bytes * 1e9 : 0;
	json_decref(root);
	return rate;
}

/* --- What both of ours share --- */

static double processor_seconds(void)
{
	struct rusage use;
	getrusage(RUSAGE_SELF, &use);
	return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
	       1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

/* Whether there is more to submit. */
static bool goes_on(const bench *b)
{
	return b->writes ? b->next < b->pages : kvt_loop_now(b->loop) < b->end;
}

static double run_loop(bench *b, kvt_time begin)
{
	double before = processor_seconds();
	kvt_loop_run(b->loop);
	b->processor = (processor_seconds() - before) / (double)b->bytes * 1e9;
	return (double)b->bytes / kvt_time_to_seconds(kvt_loop_now(b->loop) - begin);
}

static kvt_time begin_round(bench *b)
{
	kvt_time begin = kvt_loop_now(b->loop);
	b->bytes = b->next = 0;
	b->end = begin + kvt_time_from_seconds(b->seconds);
	return begin;
}

/* --- The engine --- */

typedef struct raw_slot {
	kvt_raw_io io;
	bench *bench;
} raw_slot;

static void submit_raw(raw_slot *slot)
{
	bench *b = slot->bench;
	slot->io.offset =
		b->writes ? b->next++ * b->page_bytes
			  : kvt_rng_below(&b->rng, (DATA_BYTES - b->page_bytes) / 4096) * 4096;
	kvt_io_engine_submit(b->engine, &slot->io);
}

static void raw_done(kvt_raw_io *io)
{
	raw_slot *slot = io->arg;
	bench *b = slot->bench;
	g_assert(io->status == 0);
	b->bytes += io->length;
	if (goes_on(b))
		submit_raw(slot);
}

static double engine_rate(bench *b)
{
	raw_slot slots[MOST_DEPTH];
	g_autofree char *path = g_build_filename(b->path, "engine", NULL);
	int fd = b->fd;
	if (b->writes) {
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
		g_assert(fd >= 0 && posix_fallocate(fd, 0, (off_t)DATA_BYTES) == 0);
		kvt_io_engine_register_file(b->engine, 0, fd);
	}
	kvt_time begin = begin_round(b);
	for (unsigned i = 0; i < b->depth; i++) {
		slots[i] = (raw_slot){ .bench = b };
		slots[i].io = (kvt_raw_io){ .op = b->writes ? KVT_RAW_WRITE : KVT_RAW_READ,
			.fd = fd,
			.slot = 0,
			.length = b->page_bytes,
			.memory = b->memory + i * b->page_bytes,
			.done = raw_done,
			.arg = &slots[i] };
		submit_raw(&slots[i]);
	}
	double rate = run_loop(b, begin);
	if (b->writes) {
		kvt_io_engine_register_file(b->engine, 0, -1);
		close(fd);
		g_unlink(path);
	}
	return rate;
}

/* --- The tier --- */

static kvt_tier *open_tier(bench *b, const char *path)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = g_strdup_printf("[store]\npath = %s\ncapacity = %" G_GUINT64_FORMAT
						"B\nroom = 4GiB\nsegment = %s\n"
						"queue_depth = %u\ncoalesce = %s\n%s\n",
		path, DATA_BYTES, b->writes ? "64MiB" : "700MiB", b->depth,
		b->writes ? "yes" : "no",
		g_getenv("BENCH_IO_OPTIONS") ? g_getenv("BENCH_IO_OPTIONS") : "");
	g_autoptr(kvt_config) config = kvt_config_parse("store", text, &error);
	const kvt_tier_env env = { .loop = b->loop };
	kvt_tier *tier = config ? kvt_tier_open_kind(&kvt_tier_store, &env,
					  kvt_config_section(config, "store"), &error)
				: NULL;
	if (!tier)
		fprintf(stderr, "bench_io: %s\n", error->message);
	else if (tier->ops->notice(tier))
		fprintf(stderr, "bench_io: %s\n", tier->ops->notice(tier));
	g_assert(tier);
	tier->ops->register_memory(tier, b->memory, b->memory_bytes);
	return tier;
}

static void remove_folder(const char *path)
{
	GDir *dir = g_dir_open(path, 0, NULL);
	for (const char *name; dir && (name = g_dir_read_name(dir));) {
		g_autofree char *file = g_build_filename(path, name, NULL);
		g_unlink(file);
	}
	g_dir_close(dir);
	g_rmdir(path);
}

typedef struct page_slot {
	kvt_io io;
	kvt_extent page;
	void *memory;
	bench *bench;
} page_slot;

static void submit_page(page_slot *slot)
{
	bench *b = slot->bench;
	slot->page.first_page = b->writes ? b->next++ : kvt_rng_below(&b->rng, b->pages);
	g_assert(kvt_tier_submit(b->tier, &slot->io) == 0);
}

static void page_done(kvt_io *io)
{
	page_slot *slot = io->arg;
	bench *b = slot->bench;
	g_assert(io->status == 0);
	b->bytes += io->bytes;
	if (goes_on(b))
		submit_page(slot);
}

static double tier_rate(bench *b)
{
	page_slot slots[MOST_DEPTH];
	g_autofree char *path = g_build_filename(b->path, "written", NULL);
	if (b->writes)
		b->tier = open_tier(b, path);
	kvt_time begin = begin_round(b);
	for (unsigned i = 0; i < b->depth; i++) {
		page_slot *s = &slots[i];
		*s = (page_slot){ .bench = b, .memory = b->memory + i * b->page_bytes };
		s->page = (kvt_extent){ 1, 0, 0, 1, b->page_bytes };
		s->io = (kvt_io){ .op = b->writes ? KVT_IO_WRITE : KVT_IO_READ,
			.extents = &s->page,
			.n_extents = 1,
			.memory = &s->memory,
			.done = page_done,
			.arg = s };
		submit_page(s);
	}
	double rate = run_loop(b, begin);
	if (b->writes) {
		kvt_tier_close(b->tier);
		remove_folder(path);
	}
	return rate;
}

/* --- Set-up --- */

static void write_done(kvt_io *io)
{
	g_assert(io->status == 0);
}

static void fill(bench *b)
{
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
	kvt_io_engine_register_file(b->engine, 0, b->fd);
}

static void measure(bench *b)
{
	static double (*const ways[WAYS])(bench *) = { fio_rate, engine_rate, tier_rate };
	double rate[WAYS][MOST_ROUNDS], ratio[WAYS][MOST_ROUNDS], processor[WAYS][MOST_ROUNDS];
	for (unsigned i = 0; i < b->rounds; i++) {
		/* each comes first in turn */
		for (unsigned k = 0; k < WAYS; k++) {
			unsigned who = (i + k) % WAYS;
			rate[who][i] = ways[who](b);
			processor[who][i] = b->processor;
		}
		for (unsigned who = 0; who < WAYS; who++)
			ratio[who][i] = rate[who][i] / (rate[0][i] > 0 ? rate[0][i] : rate[1][i]);
	}
	printf("%7" G_GUINT64_FORMAT " KiB ", b->page_bytes >> 10);
	for (unsigned who = 0; who < WAYS; who++) {
		double middle = bench_median(ratio[who], b->rounds);
		printf(" %s %5.0f MB/s", way_names[who], bench_median(rate[who], b->rounds) / 1e6);
		if (who > 0)
			printf(" = %.3f (%.2f to %.2f)", middle, ratio[who][0],
				ratio[who][b->rounds - 1]);
	}
	printf("; processor, ms/GB:");
	for (unsigned who = 0; who < WAYS; who++)
		printf(" %.0f", bench_median(processor[who], b->rounds) * 1e3);
	printf("\n");
	fflush(stdout);
}

static void run_size(bench *b, uint64_t page_bytes)
{
	b->path = g_build_filename(b->dir, "bench-io-XXXXXX", NULL);
	g_assert(g_mkdtemp(b->path));
	b->page_bytes = page_bytes;
	b->pages = DATA_BYTES / page_bytes;
	map_memory(b);
	b->loop = kvt_real_loop_new(NULL);
	const kvt_io_settings settings = { .queue_depth = b->depth, .no_coalescing = true };
	b->engine = kvt_io_engine_new(b->loop, &settings, NULL);
	kvt_io_engine_register_memory(b->engine, b->memory, b->memory_bytes);
	g_autofree char *path = g_build_filename(b->path, "store", NULL);
	if (!b->writes) {
		b->tier = open_tier(b, path);
		fill(b);
		find_file(b);
	}
	measure(b);
	kvt_io_engine_free(b->engine);
	if (!b->writes) {
		kvt_tier_close(b->tier);
		close(b->fd);
		g_free(b->files);
		remove_folder(path);
	}
	kvt_loop_free(b->loop);
	unmap_memory(b);
	g_rmdir(b->path);
	g_free(b->path);
}

static void run_directory(char *dir, int argc, char **argv)
{
	const uint64_t sizes[] = { 16 << 10, 128 << 10, 1 << 20 };
	bench b = { .dir = dir, .rng = kvt_rng_init(1, 1) };
	b.seconds = argc > 2 ? strtod(argv[2], NULL) : 1;
	b.rounds = argc > 3 ? (unsigned)CLAMP(strtol(argv[3], NULL, 10), 1, MOST_ROUNDS) : 5;
	b.depth = argc > 4 ? (unsigned)CLAMP(strtol(argv[4], NULL, 10), 1, MOST_DEPTH) : 32;
	unsigned kinds = g_getenv("BENCH_IO_PLAIN") ? 1 : 2;
	for (unsigned huge = 0; huge < kinds; huge++) {
		b.memory_file = memory_file(huge);
		if (!b.memory_file) {
			printf("%s: no memory in huge pages: that takes root\n", dir);
			break;
		}
		for (unsigned k = 0; k < (getenv("NOWRITES") ? 1 : 2); k++) {
			b.writes = k;
			printf("%s: %s at depth %u, O_DIRECT, registered, memory in %s pages, "
			       "medians of %u\n",
				dir, k ? "writes to new files" : "random reads", b.depth,
				huge ? "huge" : "4 KiB", b.rounds);
			for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++)
				run_size(&b, sizes[i]);
		}
	}
}

int main(int argc, char **argv)
{
	char *both[] = { "/var/tmp", "/dev/shm" };
	for (unsigned i = 0; i < (argc > 1 ? 1 : G_N_ELEMENTS(both)); i++)
		run_directory(argc > 1 ? argv[1] : both[i], argc, argv);
	return 0;
}
