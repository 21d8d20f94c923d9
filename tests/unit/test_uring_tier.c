/*
 * test_uring_tier.c: the conformance suite over the tier of real drives, by io_uring and by
 * threads, with helper threads and with sync, in directories and on a device; and what is real
 * about it: bytes come back as they went, also from a store that was opened again, and nothing
 * wrong is ever served.
 *
 * Stores lie in $TMPDIR, in memory, and on the device $KVT_TEST_DEVICE, whose content goes, or a
 * file that stands for one.
 */
#include "emu/tier/uring_tier.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "emu/loop/real_loop.h"
#include "sim/base/rng.h"
#include "sim/tier/fault_tier.h"
#include "tests/unit/tier_conformance.h"
#include "tests/unit/tier_test_io.h"

/* Where a store is to lie: where temporary files go, in memory where there is a place for that, or
 * on a device; and what it is opened with. */
typedef struct store_way {
	const char *name;
	enum { DISK, MEMORY, DEVICE } where;
	const char *more;
} store_way;

/* A directory or a device that holds one store. */
typedef struct place {
	char *path, *folder; /* the folder goes */
	const store_way *way;
} place;

static const uint64_t DEVICE_BYTES = (uint64_t)2 << 30;

static void remove_all(const char *path)
{
	GDir *dir = g_dir_open(path, 0, NULL);
	const char *name;
	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *file = g_build_filename(path, name, NULL);
		g_unlink(file);
	}
	if (dir)
		g_dir_close(dir);
	g_rmdir(path);
}

static kvt_tier *open_at(kvt_loop *loop, const place *p, uint64_t capacity)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text =
		g_strdup_printf("[store]\npath = %s\ncapacity = %" G_GUINT64_FORMAT "B\n%s\n",
			p->path, capacity, p->way->more);
	g_autoptr(kvt_config) config = kvt_config_parse("store", text, &error);
	g_assert_no_error(error);
	const kvt_tier_env env = { .loop = loop };
	kvt_tier *tier = kvt_tier_open_kind(
		&kvt_tier_store, &env, kvt_config_section(config, "store"), &error);
	g_assert_no_error(error);
	return tier;
}

/* Of a device whatever it is known by. */
static void wipe(const char *path)
{
	g_autofree char *zeros = g_malloc0(1 << 20);
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	g_assert_cmpint(fd, >=, 0);
	if (lseek(fd, 0, SEEK_END) == 0)
		g_assert_cmpint(ftruncate(fd, (off_t)DEVICE_BYTES), ==, 0);
	off_t last = lseek(fd, 0, SEEK_END) - (1 << 20);
	g_assert_cmpint(last, >=, 1 << 20);
	g_assert_cmpint(pwrite(fd, zeros, 1 << 20, 0), ==, 1 << 20);
	g_assert_cmpint(pwrite(fd, zeros, 1 << 20, last), ==, 1 << 20);
	close(fd);
}

static place *place_new(const store_way *way)
{
	bool memory = way->where != DISK && access("/dev/shm", W_OK) == 0;
	const char *device = g_getenv("KVT_TEST_DEVICE");
	place *p = g_new0(place, 1);
	p->folder = g_build_filename(
		memory ? "/dev/shm" : g_get_tmp_dir(), "kvtier-store-XXXXXX", NULL);
	g_assert_nonnull(g_mkdtemp(p->folder));
	p->way = way;
	if (way->where == DEVICE) {
		p->path = device ? g_strdup(device) : g_build_filename(p->folder, "device", NULL);
		wipe(p->path);
	} else {
		p->path = g_strdup(p->folder);
	}
	return p;
}

static void place_free(place *p)
{
	remove_all(p->folder);
	g_free(p->folder);
	g_free(p->path);
	g_free(p);
}

static void make(tier_under_test *t, uint64_t capacity, const store_way *way)
{
	t->loop = kvt_real_loop_new(NULL);
	t->more = place_new(way);
	t->tier = open_at(t->loop, t->more, capacity);
}

static void free_kind(tier_under_test *t)
{
	kvt_tier_close(t->tier);
	kvt_loop_free(t->loop);
	place_free(t->more);
}

static void make_uring(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	static const store_way uring = { "uring", DISK, "method = auto" };
	make(t, capacity, &uring);
}

static void make_threads(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	static const store_way threads = { "threads", MEMORY, "method = threads" };
	make(t, capacity, &threads);
}

static void make_helpers(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	static const store_way helpers = { "helpers", MEMORY,
		"helpers = 2\nqueue_depth = 8\nmax_transfer = 128KiB" };
	make(t, capacity, &helpers);
}

static void make_sync(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	static const store_way sync = { "sync", MEMORY, "sync = data" };
	make(t, capacity, &sync);
}

static void make_device(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	static const store_way device = { "device", DEVICE, "segment = 2MiB\nroom = 1900MiB" };
	make(t, capacity, &device);
}

static const tier_kind kinds[] = {
	{ "store-uring", make_uring, free_kind },
	{ "store-threads", make_threads, free_kind },
	{ "store-helpers", make_helpers, free_kind },
	{ "store-sync", make_sync, free_kind },
	{ "store-device", make_device, free_kind },
};

/* --- Bytes --- */

enum { RUNS = 40 };

/* What was written: runs of pages of their own layers, and their bytes. */
typedef struct shelf {
	kvt_loop *loop;
	place *place;
	kvt_tier *tier;
	kvt_extent runs[RUNS];
	uint8_t *bytes[RUNS];
	kvt_rng rng;
} shelf;

static const uint64_t SHELF_CAPACITY = (uint64_t)64 << 20;

static void open_shelf(shelf *s)
{
	s->loop = kvt_real_loop_new(NULL);
	s->tier = open_at(s->loop, s->place, SHELF_CAPACITY);
}

static void close_shelf(shelf *s)
{
	kvt_tier_close(s->tier);
	kvt_loop_free(s->loop);
}

static void scramble(kvt_rng *rng, uint8_t *bytes, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)(kvt_rng_next(rng) >> 32);
}

/* One I/O with memory; returns its status. */
static int move(shelf *s, kvt_io_op op, const kvt_extent *run, void *memory)
{
	test_io io;
	void *const where[] = { memory };
	test_io_init(&io, op, *run);
	io.io.memory = where;
	io.io.priority = (unsigned)kvt_rng_below(&s->rng, KVT_PRIORITY_CLASSES);
	test_io_submit(s->tier, &io);
	kvt_loop_run(s->loop);
	g_assert_cmpuint(io.done, ==, 1);
	return io.io.status;
}

/* Pages of many sizes, from memory that is aligned or not. */
static void fill_shelf(shelf *s)
{
	const uint64_t sizes[] = { 4096, 5000, 16384, 65536, 100, 300000 };
	s->rng = kvt_rng_init(9, 9);
	for (unsigned i = 0; i < RUNS; i++) {
		uint64_t size = sizes[i % G_N_ELEMENTS(sizes)];
		uint64_t pages = 1 + kvt_rng_below(&s->rng, MIN(3000000 / size, 100));
		s->runs[i] = (kvt_extent){ i % 3, i, kvt_rng_below(&s->rng, 1000), pages, size };
		uint64_t bytes = kvt_extent_bytes(&s->runs[i]);
		s->bytes[i] = g_aligned_alloc(1, bytes + 1, 4096);
		scramble(&s->rng, s->bytes[i], bytes + 1);
		/* one of three begins at an odd address */
		uint8_t *from = s->bytes[i] + (i % 3 == 0);
		g_assert_cmpint(move(s, KVT_IO_WRITE, &s->runs[i], from), ==, 0);
		if (i % 3 == 0)
			memmove(s->bytes[i], from, bytes);
	}
}

static void empty_shelf(shelf *s)
{
	for (unsigned i = 0; i < RUNS; i++)
		g_aligned_free(s->bytes[i]);
	place_free(s->place);
}

/* Any part of any run comes back as it went, to aligned and other memory, alone and together. */
static void check_shelf(shelf *s, unsigned rounds)
{
	enum { TOGETHER = 6 };
	for (unsigned i = 0; i < rounds; i++) {
		kvt_extent parts[TOGETHER];
		void *memory[TOGETHER], *blocks[TOGETHER];
		const uint8_t *wanted[TOGETHER];
		unsigned n = 1 + (unsigned)kvt_rng_below(&s->rng, TOGETHER);
		for (unsigned k = 0; k < n; k++) {
			unsigned which = (unsigned)kvt_rng_below(&s->rng, RUNS);
			const kvt_extent *run = &s->runs[which];
			uint64_t first = kvt_rng_below(&s->rng, run->n_pages);
			parts[k] = *run;
			parts[k].first_page += first;
			parts[k].n_pages = 1 + kvt_rng_below(&s->rng, run->n_pages - first);
			wanted[k] = s->bytes[which] + first * run->page_bytes;
			blocks[k] = g_aligned_alloc(1, kvt_extent_bytes(&parts[k]) + 7, 4096);
			memory[k] = (uint8_t *)blocks[k] + kvt_rng_below(&s->rng, 2) * 7;
		}
		test_io io;
		test_io_init_many(&io, KVT_IO_READ, parts, n);
		io.io.memory = memory;
		test_io_submit(s->tier, &io);
		kvt_loop_run(s->loop);
		g_assert_cmpint(io.io.status, ==, 0);
		for (unsigned k = 0; k < n; k++) {
			g_assert_true(
				memcmp(memory[k], wanted[k], kvt_extent_bytes(&parts[k])) == 0);
			g_aligned_free(blocks[k]);
		}
	}
}

static void test_bytes(gconstpointer way)
{
	shelf s = { .place = place_new(way) };
	open_shelf(&s);
	fill_shelf(&s);
	check_shelf(&s, 60);
	/* written again, and again after a part was discarded */
	for (unsigned i = 0; i < RUNS; i += 2) {
		scramble(&s.rng, s.bytes[i], kvt_extent_bytes(&s.runs[i]));
		if (i % 4 == 0) {
			kvt_extent half = s.runs[i];
			half.n_pages = half.n_pages / 2 + 1;
			s.tier->ops->discard(s.tier, 0, &half);
		}
		g_assert_cmpint(move(&s, KVT_IO_WRITE, &s.runs[i], s.bytes[i]), ==, 0);
	}
	check_shelf(&s, 60);
	kvt_uring_counts counts = kvt_uring_tier_counts(s.tier);
	g_assert_cmpuint(counts.verified_pages, >, 0);
	g_assert_cmpuint(counts.bad_pages + counts.lost_pages, ==, 0);
	g_assert_cmpuint(counts.direct_bytes, >, 0);
	g_assert_cmpuint(counts.copied_bytes, >, 0);
	kvt_tier_stats before, after;
	s.tier->ops->stats(s.tier, &before);
	close_shelf(&s);
	/* all of it is there when the store is opened again */
	open_shelf(&s);
	s.tier->ops->stats(s.tier, &after);
	g_assert_cmpuint(after.used, ==, before.used);
	check_shelf(&s, 60);
	for (unsigned i = 0; i < RUNS; i++)
		g_assert_true(s.tier->ops->holds(s.tier, 0, &s.runs[i]));
	close_shelf(&s);
	empty_shelf(&s);
}

/* The file and place of a run's first page, for tests that damage it. */
static int open_page(shelf *s, const kvt_extent *page, uint64_t *offset)
{
	kvt_store_run run = { .model = kvt_store_checksum("any", 3), .pages = *page };
	run.pages.n_pages = 1;
	kvt_store *store = kvt_uring_tier_store(s->tier);
	kvt_store_piece piece;
	unsigned n;
	g_assert_cmpint(kvt_store_find(store, &run, &piece, 1, &n), ==, 0);
	g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", piece.fd);
	int fd = open(link, O_RDWR);
	g_assert_cmpint(fd, >=, 0);
	*offset = piece.offset;
	kvt_store_release(store, &piece, 1);
	return fd;
}

/* A flipped bit is an error and then a miss; its neighbours are read as ever. */
static void test_bit_flip(gconstpointer way)
{
	shelf s = { .place = place_new(way) };
	open_shelf(&s);
	fill_shelf(&s);
	g_autofree uint8_t *memory = g_malloc0(4 << 20);
	for (unsigned i = 0; i < 6; i++) {
		kvt_extent page = s.runs[i];
		page.first_page += page.n_pages / 2;
		page.n_pages = 1;
		uint64_t offset, at = kvt_rng_below(&s.rng, page.page_bytes);
		int fd = open_page(&s, &page, &offset);
		uint8_t byte;
		g_assert_cmpint(pread(fd, &byte, 1, (off_t)(offset + at)), ==, 1);
		byte ^= (uint8_t)(1u << kvt_rng_below(&s.rng, 8));
		g_assert_cmpint(pwrite(fd, &byte, 1, (off_t)(offset + at)), ==, 1);
		g_assert_cmpint(fdatasync(fd), ==, 0);
		close(fd);
		g_assert_cmpint(move(&s, KVT_IO_READ, &s.runs[i], memory), ==, -EBADMSG);
		g_assert_false(s.tier->ops->holds(s.tier, 0, &page));
		g_assert_cmpint(move(&s, KVT_IO_READ, &s.runs[i], memory), ==, -ENOENT);
		kvt_extent before = s.runs[i];
		before.n_pages = page.first_page - before.first_page;
		if (before.n_pages > 0) {
			g_assert_cmpint(move(&s, KVT_IO_READ, &before, memory), ==, 0);
			g_assert_true(memcmp(memory, s.bytes[i], kvt_extent_bytes(&before)) == 0);
		}
	}
	g_assert_cmpuint(kvt_uring_tier_counts(s.tier).bad_pages, ==, 6);
	/* it is not back after a restart, and can be written anew */
	close_shelf(&s);
	open_shelf(&s);
	for (unsigned i = 0; i < 6; i++) {
		g_assert_cmpint(move(&s, KVT_IO_READ, &s.runs[i], memory), ==, -ENOENT);
		g_assert_cmpint(move(&s, KVT_IO_WRITE, &s.runs[i], s.bytes[i]), ==, 0);
	}
	check_shelf(&s, 30);
	close_shelf(&s);
	empty_shelf(&s);
}

static int all_fail(void *arg, kvt_raw_op op, uint64_t offset, uint64_t length, int result)
{
	return -EIO;
}

static int halve(void *arg, kvt_raw_op op, uint64_t offset, uint64_t length, int result)
{
	return op != KVT_RAW_SYNC && result > 8192 ? result / 2 : result;
}

static void test_device_faults(gconstpointer way)
{
	shelf s = { .place = place_new(way) };
	open_shelf(&s);
	fill_shelf(&s);
	kvt_io_engine *engine = kvt_uring_tier_engine(s.tier);
	g_autofree uint8_t *memory = g_malloc0(4 << 20);
	kvt_extent fresh = { 77, 1, 0, 30, 65536 };
	kvt_io_engine_set_fault(engine, all_fail, NULL);
	for (unsigned i = 0; i < RUNS; i++)
		g_assert_cmpint(move(&s, KVT_IO_READ, &s.runs[i], memory), ==, -EIO);
	kvt_tier_stats stats;
	s.tier->ops->stats(s.tier, &stats);
	uint64_t used = stats.used;
	g_assert_cmpint(move(&s, KVT_IO_WRITE, &fresh, memory), ==, -EIO);
	g_assert_false(s.tier->ops->holds(s.tier, 0, &fresh));
	s.tier->ops->stats(s.tier, &stats);
	g_assert_cmpuint(stats.used, ==, used);
	/* short transfers are no faults */
	kvt_io_engine_set_fault(engine, halve, NULL);
	check_shelf(&s, 20);
	g_assert_cmpint(move(&s, KVT_IO_WRITE, &fresh, memory), ==, 0);
	g_assert_cmpuint(kvt_io_engine_stats(engine).resumed, >, 0);
	kvt_io_engine_set_fault(engine, NULL, NULL);
	check_shelf(&s, 20);
	g_assert_cmpint(move(&s, KVT_IO_READ, &fresh, memory), ==, 0);
	close_shelf(&s);
	empty_shelf(&s);
}

/* A file that has become shorter, and one that is gone: errors and misses, nothing else. */
static void test_lost_files(gconstpointer way)
{
	shelf s = { .place = place_new(way) };
	open_shelf(&s);
	fill_shelf(&s);
	g_autofree uint8_t *memory = g_malloc0(4 << 20);
	uint64_t offset;
	int fd = open_page(&s, &s.runs[3], &offset);
	g_assert_cmpint(ftruncate(fd, (off_t)(offset + 100) / 4096 * 4096), ==, 0);
	close(fd);
	g_assert_cmpint(move(&s, KVT_IO_READ, &s.runs[3], memory), ==, -EIO);
	/* an unlinked file is there as long as it is open */
	fd = open_page(&s, &s.runs[30], &offset);
	g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
	g_autofree char *name = g_file_read_link(link, NULL);
	g_assert_cmpint(g_unlink(name), ==, 0);
	close(fd);
	g_assert_cmpint(move(&s, KVT_IO_READ, &s.runs[30], memory), ==, 0);
	g_assert_true(memcmp(memory, s.bytes[30], kvt_extent_bytes(&s.runs[30])) == 0);
	close_shelf(&s);
	open_shelf(&s);
	unsigned there = 0;
	for (unsigned i = 0; i < RUNS; i++) {
		int status = move(&s, KVT_IO_READ, &s.runs[i], memory);
		g_assert_true(
			status == 0 || status == -ENOENT || status == -EIO || status == -EBADMSG);
		there += status == 0;
		if (status == 0)
			g_assert_true(
				memcmp(memory, s.bytes[i], kvt_extent_bytes(&s.runs[i])) == 0);
	}
	g_assert_cmpuint(there, <, RUNS);
	close_shelf(&s);
	empty_shelf(&s);
}

/* Closed with I/Os on their way: no done, and what was there is there. */
static void test_close_early(gconstpointer way)
{
	shelf s = { .place = place_new(way) };
	open_shelf(&s);
	fill_shelf(&s);
	test_io ios[RUNS];
	kvt_extent fresh = { 50, 0, 0, 100, 65536 };
	for (unsigned i = 0; i < RUNS; i++) {
		test_io_init(
			&ios[i], i % 2 ? KVT_IO_READ : KVT_IO_WRITE, i % 2 ? s.runs[i] : fresh);
		ios[i].io.extents = &ios[i].extent;
		ios[i].extent.layer += i % 2 ? 0 : i;
		if (i < 8)
			test_io_submit(s.tier, &ios[i]);
	}
	close_shelf(&s);
	for (unsigned i = 0; i < 8; i++)
		g_assert_cmpuint(ios[i].done, ==, 0);
	open_shelf(&s);
	check_shelf(&s, 30);
	g_assert_false(s.tier->ops->holds(s.tier, 0, &fresh));
	close_shelf(&s);
	empty_shelf(&s);
}

/* The fault-injecting tier around it: everything ends, and what succeeds is right. */
static void test_fault_tier(gconstpointer way)
{
	shelf s = { .place = place_new(way) };
	open_shelf(&s);
	fill_shelf(&s);
	const kvt_tier_env env = { .loop = s.loop, .seed = 3 };
	const kvt_fault_settings rates = { .busy_rate = 0.1,
		.delay_rate = 0.1,
		.delay = 100 * KVT_MICROSECOND,
		.read_error_rate = 0.2,
		.write_error_rate = 0.1 };
	kvt_tier *inner = s.tier;
	s.tier = kvt_fault_tier_new(&env, inner, &rates);
	g_autofree uint8_t *memory = g_malloc0(4 << 20);
	unsigned good = 0;
	for (unsigned i = 0; i < 200; i++) {
		unsigned which = i % RUNS;
		int status = move(&s, KVT_IO_READ, &s.runs[which], memory);
		g_assert_true(status == 0 || status == -EIO);
		good += status == 0;
		if (status == 0)
			g_assert_true(memcmp(memory, s.bytes[which],
					      kvt_extent_bytes(&s.runs[which])) == 0);
	}
	g_assert_cmpuint(good, >, 100);
	g_assert_cmpuint(kvt_fault_tier_counts(s.tier).read_errors, >, 0);
	close_shelf(&s);
	empty_shelf(&s);
}

static void test_bad_settings(void)
{
	static const char *const bad[] = { "path = /proc/no/such",
		"capacity = 1B\npath = /dev/null",
		"path = /tmp\ncapacity = 64MiB\nsegment = 1KiB" };
	kvt_loop *loop = kvt_real_loop_new(NULL);
	const kvt_tier_env env = { .loop = loop };
	for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;
		g_autofree char *text = g_strdup_printf("[store]\n%s\n%s", bad[i],
			strstr(bad[i], "capacity") ? "" : "capacity = 64MiB\n");
		g_autoptr(kvt_config) config = kvt_config_parse("store", text, NULL);
		g_assert_null(kvt_tier_open_kind(
			&kvt_tier_store, &env, kvt_config_section(config, "store"), &error));
		g_assert_nonnull(error);
	}
	kvt_loop_free(loop);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(gconstpointer way);
	} tests[] = {
		{ "bytes", test_bytes },
		{ "bit-flip", test_bit_flip },
		{ "device-faults", test_device_faults },
		{ "lost-files", test_lost_files },
		{ "close-early", test_close_early },
		{ "fault-tier", test_fault_tier },
	};
	static const store_way ways[] = {
		{ "uring", MEMORY, "segment = 2MiB" },
		{ "disk", DISK, "segment = 2MiB" },
		{ "device", DEVICE, "segment = 2MiB\nsync = data" },
		{ "threads", MEMORY, "method = threads\nsegment = 16MiB" },
		{ "helpers", MEMORY,
			"helpers = 2\nsync = data\nqueue_depth = 4\nmax_transfer = 16KiB\n" },
	};
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
		for (unsigned k = 0; k < G_N_ELEMENTS(ways); k++) {
			g_autofree char *path =
				g_strdup_printf("/uring-tier/%s/%s", tests[i].name, ways[k].name);
			/* a device has no files to lose */
			if (ways[k].where != DEVICE || tests[i].run != test_lost_files)
				g_test_add_data_func(path, &ways[k], tests[i].run);
		}
	g_test_add_func("/uring-tier/bad-settings", test_bad_settings);
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
		tier_conformance_add(&kinds[i]);
	return g_test_run();
}
