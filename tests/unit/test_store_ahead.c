/* test_store_ahead.c: a page store whose thread makes segments before they are needed and seals
 * full ones: what is stored, how much of it, and what is found later are as without. */
#include <errno.h>
#include <string.h>

#include "emu/store/store.h"
#include "tests/unit/store_fixture.h"

enum { MIB = 1 << 20 };

typedef struct fixture {
	char *folder, *path;
} fixture;

static void set_up(fixture *f, gconstpointer device)
{
	f->folder = store_folder_new();
	f->path = device ? store_device_new(f->folder) : g_strdup(f->folder);
}

static void tear_down(fixture *f, gconstpointer device)
{
	g_free(f->path);
	store_folder_free(f->folder);
}

static kvt_store_run run_of(unsigned i)
{
	return store_run(i % 2, i, i % 3, i, 1 + i % 4, 3000);
}

static unsigned fill(kvt_store *store)
{
	unsigned n = 0;
	int status = 0;
	kvt_store_info info;
	while (status == 0) {
		kvt_store_run run = run_of(n);
		status = store_put(store, &run, n + 1);
		n += status == 0;
		kvt_store_info_get(store, &info);
		g_assert_cmpuint(info.used, <=, 2 * MIB);
	}
	g_assert_cmpint(status, ==, -ENOSPC);
	return n;
}

static void expect_all(kvt_store *store, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		kvt_store_run run = run_of(i);
		store_expect(store, &run, i + 1);
	}
}

static unsigned count_files(const char *folder)
{
	unsigned n = 0;
	char *path;
	while ((path = store_segment_path(folder, n))) {
		g_free(path);
		n++;
	}
	return n;
}

/* As much fits as without the thread; closed well or not, it is there later, and no more files. */
static void test_same(fixture *f, gconstpointer device)
{
	static const kvt_store_settings ways[] = { { .ahead = false }, { .ahead = true } };
	unsigned stored[2];
	for (unsigned i = 0; i < 2; i++) {
		tear_down(f, device);
		set_up(f, device);
		kvt_store *store = store_make(f->path, 2 * MIB, KVT_STORE_SYNC_DATA, &ways[i]);
		stored[i] = fill(store);
		expect_all(store, stored[i]);
		kvt_store_info info;
		store_close(store);
		store = store_reopen(f->path, &ways[i]);
		kvt_store_info_get(store, &info);
		g_assert_cmpuint(info.scanned_segments, ==, 0);
		g_assert_cmpuint(info.lost_segments, ==, 0);
		if (!device)
			g_assert_cmpuint(count_files(f->folder), ==, info.segments);
		expect_all(store, stored[i]);
		kvt_store_drop(store);
		store = store_reopen(f->path, &ways[i]);
		expect_all(store, stored[i]);
		store_close(store);
	}
	g_assert_cmpuint(stored[0], >, 80);
	g_assert_cmpuint(stored[0], ==, stored[1]);
}

/* Dropped at any point, as by a kill: what was made ahead is no segment. */
static void test_drop(fixture *f, gconstpointer device)
{
	const kvt_store_settings settings = { .ahead = true };
	kvt_store_drop(store_make(f->path, 2 * MIB, KVT_STORE_SYNC_NONE, &settings));
	unsigned n = 0;
	for (unsigned i = 0; i < (device ? 8 : 12); i++) {
		kvt_store *store = store_reopen(f->path, &settings);
		kvt_store_info info;
		expect_all(store, n);
		for (unsigned k = 0; k < 3 + i; k++, n++) {
			kvt_store_run run = run_of(n);
			g_assert_cmpint(store_put(store, &run, n + 1), ==, 0);
		}
		kvt_store_info_get(store, &info);
		g_assert_cmpuint(info.lost_segments, ==, 0);
		kvt_store_drop(store);
	}
}

/* Segments die while they are being sealed, and give their room back. */
static void test_discards(fixture *f, gconstpointer device)
{
	const kvt_store_settings settings = { .ahead = true };
	kvt_store *store = store_make(f->path, 2 * MIB, KVT_STORE_SYNC_NONE, &settings);
	kvt_store_info info;
	for (unsigned i = 0; i < 1500; i++) {
		kvt_store_run run = run_of(i), gone = run_of(i - 5);
		g_assert_cmpint(store_put(store, &run, i + 1), ==, 0);
		if (i >= 5)
			g_assert_cmpint(kvt_store_discard(store, &gone, 1, NULL), ==, 0);
		kvt_store_info_get(store, &info);
		g_assert_cmpuint(info.used, <=, 2 * MIB);
	}
	g_assert_cmpint(kvt_store_seal(store), ==, 0);
	kvt_store_info_get(store, &info);
	g_assert_cmpuint(info.segments, <=, 3);
	g_assert_cmpuint(info.draining, ==, 0);
	for (unsigned i = 1495; i < 1500; i++) {
		kvt_store_run run = run_of(i);
		store_expect(store, &run, i + 1);
	}
	store_close(store);
}

/* The store evicts what has just been sealed, when it is full. */
static void test_evict(fixture *f, gconstpointer device)
{
	const kvt_store_settings settings = { .ahead = true, .evict = true };
	kvt_store *store = store_make(f->path, MIB, KVT_STORE_SYNC_NONE, &settings);
	for (unsigned i = 0; i < 1000; i++) {
		kvt_store_run run = run_of(i);
		g_assert_cmpint(store_put(store, &run, i + 1), ==, 0);
		store_expect(store, &run, i + 1);
	}
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	g_assert_cmpuint(info.evicted_segments, >, 20);
	g_assert_cmpuint(info.used, <=, MIB);
	store_close(store);
}

/* Calls that fail now and then, of whichever thread. */
typedef struct faults {
	kvt_store_io io;
	volatile gint calls, limit; /* from that one on allocate fails; -1: never */
	bool seals;                 /* truncate fails, too */
} faults;

static int fault_allocate(void *arg, int fd, uint64_t size)
{
	faults *f = arg;
	gint call = g_atomic_int_add(&f->calls, 1), limit = g_atomic_int_get(&f->limit);
	return limit >= 0 && call >= limit ? -ENOSPC : kvt_store_system_io.allocate(NULL, fd, size);
}

static int fault_truncate(void *arg, int fd, uint64_t size)
{
	const faults *f = arg;
	return f->seals ? -EIO : kvt_store_system_io.truncate(NULL, fd, size);
}

static void count_notice(void *arg, const char *line)
{
	(*(unsigned *)arg)++;
}

/* A file system that is full before the store is: an error of the reserve, and not the end. */
static void test_full_disk(fixture *f, gconstpointer device)
{
	faults w = { .io = kvt_store_system_io, .limit = 5 };
	w.io.allocate = fault_allocate;
	w.io.arg = &w;
	const kvt_store_settings settings = { .ahead = true, .io = &w.io };
	kvt_store *store = store_make(f->path, 2 * MIB, KVT_STORE_SYNC_NONE, &settings);
	unsigned n = fill(store);
	expect_all(store, n);
	g_atomic_int_set(&w.limit, -1);
	kvt_store_run run = run_of(n);
	g_assert_cmpint(store_put(store, &run, n + 1), ==, 0);
	expect_all(store, n + 1);
	store_close(store);
}

/* An index that cannot be written is said by those who publish, and costs no page. */
static void test_unsealed(fixture *f, gconstpointer device)
{
	unsigned notices = 0;
	faults w = { .io = kvt_store_system_io, .seals = true };
	w.io.truncate = fault_truncate;
	w.io.arg = &w;
	const kvt_store_settings settings = {
		.ahead = true, .io = &w.io, .notice = count_notice, .arg = &notices
	};
	kvt_store *store = store_make(f->path, 2 * MIB, KVT_STORE_SYNC_NONE, &settings);
	unsigned n = fill(store);
	g_assert_cmpuint(notices, >, 5);
	expect_all(store, n);
	kvt_store_drop(store);
	store = store_reopen(f->path, NULL);
	expect_all(store, n);
	store_close(store);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(fixture *f, gconstpointer device);
		bool files; /* their calls, not a device's, are made to fail */
	} tests[] = {
		{ "same", test_same, false },
		{ "drop", test_drop, false },
		{ "discards", test_discards, false },
		{ "evict", test_evict, false },
		{ "full-disk", test_full_disk, true },
		{ "unsealed", test_unsealed, true },
	};
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
		for (unsigned device = 0; device < (tests[i].files ? 1 : 2); device++) {
			g_autofree char *path = g_strdup_printf("/store_ahead/%s/%s", tests[i].name,
				device ? "device" : "directory");
			g_test_add(path, fixture, GUINT_TO_POINTER(device), set_up, tests[i].run,
				tear_down);
		}
	return g_test_run();
}
