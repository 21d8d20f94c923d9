/* test_store_faults.c: page stores under which calls to the system fail: each call of a stretch of
 * work once, a full disk, a directory that cannot be written, a second process. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emu/store/store.h"
#include "sim/base/rng.h"
#include "tests/unit/store_fixture.h"

enum { RUNS = 10, STEPS = 30, MIB = 1 << 20 };

/* The system's calls, of which one fails. */
typedef struct faults {
	kvt_store_io io;
	unsigned calls, failing; /* the failing-th fails; UINT_MAX: none */
	int status;
	bool stays; /* all later ones too, but for those that only read */
} faults;

static int fault(void *arg)
{
	faults *f = arg;
	unsigned call = f->calls++;
	return call == f->failing || (f->stays && call > f->failing) ? f->status : 0;
}

static int fault_open(void *arg, int dir, const char *name, int flags, mode_t mode)
{
	int status = (flags & O_ACCMODE) == O_RDONLY ? 0 : fault(arg);
	return status < 0 ? status : kvt_store_system_io.open(NULL, dir, name, flags, mode);
}

static int64_t fault_read(void *arg, int fd, void *data, uint64_t size, uint64_t offset)
{
	faults *f = arg;
	int status = f->stays ? 0 : fault(arg);
	return status < 0 ? -EIO : kvt_store_system_io.read(NULL, fd, data, size, offset);
}

static int64_t fault_write(void *arg, int fd, const void *data, uint64_t size, uint64_t offset)
{
	int status = fault(arg);
	/* a write that fails may have written */
	if (status < 0 && size > 512)
		kvt_store_system_io.write(NULL, fd, data, size / 2, offset);
	return status < 0 ? status : kvt_store_system_io.write(NULL, fd, data, size, offset);
}

static int fault_allocate(void *arg, int fd, uint64_t size)
{
	int status = fault(arg);
	return status < 0 ? status : kvt_store_system_io.allocate(NULL, fd, size);
}

static int fault_truncate(void *arg, int fd, uint64_t size)
{
	int status = fault(arg);
	return status < 0 ? status : kvt_store_system_io.truncate(NULL, fd, size);
}

static int fault_sync(void *arg, int fd)
{
	return fault(arg);
}

static int fault_unlink(void *arg, int dir, const char *name)
{
	int status = fault(arg);
	return status < 0 ? status : kvt_store_system_io.unlink(NULL, dir, name);
}

static int fault_rename(void *arg, int dir, const char *from, const char *to)
{
	int status = fault(arg);
	return status < 0 ? status : kvt_store_system_io.rename(NULL, dir, from, to);
}

static void faults_init(faults *f, unsigned failing, int status)
{
	*f = (faults){ .failing = failing, .status = status, .io = kvt_store_system_io };
	f->io.open = fault_open;
	f->io.read = fault_read;
	f->io.write = fault_write;
	f->io.allocate = fault_allocate;
	f->io.truncate = fault_truncate;
	f->io.sync = fault_sync;
	f->io.sync_dir = fault_sync;
	f->io.unlink = fault_unlink;
	f->io.rename = fault_rename;
	f->io.arg = f;
}

/* What a run may hold: what was acknowledged last, and what was tried in vain since. */
typedef struct allowed {
	uint64_t versions[2 * STEPS + 2];
	unsigned n;
} allowed;

static kvt_store_run run_of(unsigned i)
{
	return store_run(i % 2, i, i % 3, i, 1 + i % 3, 3000 + 1500 * i % 4);
}

static bool is_allowed(const allowed *a, uint64_t version)
{
	bool found = version == 0 && a->n == 0;
	for (unsigned i = 0; i < a->n; i++)
		found |= a->versions[i] == version;
	return found;
}

static void verify_run(kvt_store *store, unsigned i, const allowed *a)
{
	kvt_store_run run = run_of(i);
	g_autofree uint8_t *content = g_malloc(kvt_extent_bytes(&run.pages));
	int status = kvt_store_get(store, &run, content);
	if (status == -EIO || status == -EBADMSG)
		return;
	int64_t version = 0;
	for (uint64_t p = 0; p < run.pages.n_pages && status == 0; p++) {
		version = store_version(
			&run, run.pages.first_page + p, content + p * run.pages.page_bytes);
		g_assert_cmpint(version, >, 0);
	}
	g_assert_true(is_allowed(a, (uint64_t)version));
}

static void try_step(kvt_store *store, allowed *tables, uint64_t version, kvt_rng *rng)
{
	unsigned i = (unsigned)kvt_rng_below(rng, RUNS);
	kvt_store_run run = run_of(i);
	uint64_t kind = kvt_rng_below(rng, 10);
	allowed *a = &tables[i];
	if (kind < 2) {
		kvt_store_gc(store, 0, NULL);
	} else if (kind == 2) {
		kvt_store_seal(store);
	} else {
		uint64_t wanted = kind == 3 ? 0 : version;
		int status = wanted == 0 ? kvt_store_discard(store, &run, 1, NULL)
					 : store_put(store, &run, wanted);
		if (status == 0)
			a->n = 0;
		else if (a->n == 0 || !is_allowed(a, 0))
			a->versions[a->n++] = 0; /* what was to be replaced may be lost */
		a->versions[a->n++] = wanted;
		/* a discard that failed has taken its segments, and neighbours, along */
		for (unsigned k = 0; k < RUNS && status < 0; k++)
			if (wanted == 0 && !is_allowed(&tables[k], 0))
				tables[k].versions[tables[k].n++] = 0;
	}
}

/* One life of a store in which the failing-th call fails. Returns how many calls there were. */
static unsigned live(unsigned failing, int error_status, bool stays)
{
	char *path = store_folder_new();
	allowed tables[RUNS] = { 0 };
	kvt_rng rng = kvt_rng_init(3, 3);
	faults f;
	kvt_store_drop(store_make(path, MIB, KVT_STORE_SYNC_DATA, NULL));
	faults_init(&f, failing, error_status);
	f.stays = stays;
	kvt_store_settings settings = { .io = &f.io };
	g_autoptr(GError) error = NULL;
	kvt_store *store = kvt_store_open(path, &settings, &error);
	for (unsigned i = 0; store && i < STEPS; i++) {
		try_step(store, tables, i + 1, &rng);
		if (i % 5 == 0)
			verify_run(store, i % RUNS, &tables[i % RUNS]);
	}
	for (unsigned i = 0; store && i < RUNS; i++)
		verify_run(store, i, &tables[i]);
	if (!store)
		g_assert_nonnull(error);
	else if (failing % 2)
		kvt_store_close(store, NULL);
	else
		kvt_store_drop(store);
	store = store_reopen(path, NULL);
	for (unsigned i = 0; i < RUNS; i++)
		verify_run(store, i, &tables[i]);
	kvt_store_report report;
	g_assert_true(kvt_store_check(store, &report, NULL, NULL, NULL));
	g_assert_cmpuint(report.bad_pages + report.bad_records, ==, 0);
	store_close(store);
	store_folder_free(path);
	return f.calls;
}

static void test_each_call(gconstpointer status)
{
	unsigned calls = live(UINT_MAX, -EIO, false);
	g_assert_cmpuint(calls, >, 3 * STEPS);
	/* one kind of error for the even calls, the other for the odd ones */
	for (unsigned i = GPOINTER_TO_INT(status) == -EIO; i < calls; i += 2)
		live(i, GPOINTER_TO_INT(status), false);
	for (unsigned i = 0; i < calls; i += 17)
		live(i, GPOINTER_TO_INT(status), true);
}

/* A read that fails is an error of the reader, and passes. */
static void test_read_error(void)
{
	char *path = store_folder_new();
	faults f;
	faults_init(&f, UINT_MAX, -EIO);
	kvt_store_settings settings = { .io = &f.io };
	kvt_store *store = store_make(path, MIB, KVT_STORE_SYNC_NONE, &settings);
	kvt_store_run run = store_run(0, 1, 0, 0, 4, 4096);
	g_assert_cmpint(store_put(store, &run, 1), ==, 0);
	g_autofree uint8_t *pages = g_malloc(4 * 4096);
	f.failing = f.calls;
	g_assert_cmpint(kvt_store_get(store, &run, pages), ==, -EIO);
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	g_assert_cmpuint(info.readers, ==, 0);
	store_expect(store, &run, 1);
	/* a file that has become shorter under us */
	g_autofree char *file = store_segment_path(path, 0);
	g_assert_cmpint(truncate(file, 8192), ==, 0);
	g_assert_cmpint(kvt_store_get(store, &run, pages), ==, -EIO);
	kvt_store_info_get(store, &info);
	g_assert_cmpuint(info.readers, ==, 0);
	kvt_store_drop(store);
	store_folder_free(path);
}

static void keep_line(void *arg, const char *line)
{
	g_string_append_printf(arg, "%s\n", line);
}

static void test_unwritable(void)
{
	char *path = store_folder_new();
	kvt_store *store = store_make(path, MIB, KVT_STORE_SYNC_NONE, NULL);
	kvt_store_run run = store_run(0, 1, 0, 0, 4, 4096), more = store_run(0, 2, 0, 0, 4, 4096);
	g_assert_cmpint(store_put(store, &run, 1), ==, 0);
	store_close(store);
	faults f;
	faults_init(&f, 0, -EROFS);
	g_autoptr(GString) lines = g_string_new(NULL);
	kvt_store_settings settings = { .io = &f.io, .notice = keep_line, .arg = lines };
	store = store_reopen(path, &settings);
	g_assert_nonnull(strstr(lines->str, "the directory cannot be written: Read-only file "
					    "system; the store is read-only from now on\n"));
	store_expect(store, &run, 1);
	g_assert_cmpint(store_put(store, &more, 1), ==, -EROFS);
	g_assert_cmpint(kvt_store_discard(store, &run, 1, NULL), ==, -EROFS);
	g_assert_cmpint(kvt_store_gc(store, 0, NULL), ==, -EROFS);
	store_close(store);
	/* it becomes so while it is open */
	g_string_truncate(lines, 0);
	faults_init(&f, UINT_MAX, -EROFS);
	store = store_reopen(path, &settings);
	kvt_store_seal(store);
	f.failing = f.calls;
	f.stays = true;
	g_assert_cmpint(store_put(store, &more, 1), ==, -EROFS);
	g_assert_cmpint(store_put(store, &more, 1), ==, -EROFS);
	g_assert_nonnull(strstr(lines->str, "the store is read-only from now on\n"));
	g_assert_true(strstr(lines->str, "\n") == lines->str + lines->len - 1);
	store_expect(store, &run, 1);
	kvt_store_drop(store);
	store_folder_free(path);
}

/* Fills a store whose disk is smaller than its capacity; what was written stays, -ENOSPC changes
 * nothing, and room that is given back can be used. */
static void fill_disk(kvt_store *store)
{
	unsigned written = 0;
	int status;
	for (;; written++) {
		kvt_store_run run = store_run(0, written, 0, 0, 3, 4096);
		status = store_put(store, &run, 1);
		if (status < 0)
			break;
	}
	g_assert_cmpint(status, ==, -ENOSPC);
	g_assert_cmpuint(written, >, 3);
	kvt_store_info before, after;
	kvt_store_info_get(store, &before);
	kvt_store_run more = store_run(0, 999, 0, 0, 3, 4096);
	g_assert_cmpint(store_put(store, &more, 1), ==, -ENOSPC);
	kvt_store_info_get(store, &after);
	g_assert_cmpmem(&before, sizeof(before), &after, sizeof(after));
	for (unsigned i = 0; i < written; i++) {
		kvt_store_run run = store_run(0, i, 0, 0, 3, 4096);
		store_expect(store, &run, 1);
	}
	g_assert_false(kvt_store_holds(store, &more));
	kvt_store_segment segment;
	kvt_store_segments(store, &segment, 1);
	g_assert_true(kvt_store_evict(store, segment.number));
	g_assert_cmpint(store_put(store, &more, 1), ==, 0);
	store_expect(store, &more, 1);
}

static void test_full_disk(void)
{
	char *path = store_folder_new();
	if (mount("tmpfs", path, "tmpfs", 0, "size=1m") < 0) {
		g_test_skip("a small tmpfs cannot be mounted here");
		store_folder_free(path);
		return;
	}
	kvt_store *store = store_make(path, 16 * MIB, KVT_STORE_SYNC_DATA, NULL);
	fill_disk(store);
	store_close(store);
	store = store_reopen(path, NULL);
	kvt_store_run more = store_run(0, 999, 0, 0, 3, 4096);
	store_expect(store, &more, 1);
	store_close(store);
	g_assert_cmpint(umount2(path, MNT_DETACH), ==, 0);
	store_folder_free(path);
}

/* The same where files may not grow: the system says it otherwise. */
static void test_file_limit(void)
{
	char *path = store_folder_new();
	kvt_store *store = store_make(path, 16 * MIB, KVT_STORE_SYNC_NONE, NULL);
	struct rlimit old, limit = { .rlim_cur = 40000 };
	g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &old), ==, 0);
	limit.rlim_max = old.rlim_max;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
	g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
	kvt_store_run run = store_run(0, 1, 0, 0, 3, 4096);
	int status = store_put(store, &run, 1);
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &old), ==, 0);
	signal(SIGXFSZ, handler);
	g_assert_cmpint(status, ==, -ENOSPC);
	g_assert_cmpuint(info.segments, ==, 0);
	g_assert_false(info.read_only);
	g_assert_cmpint(store_put(store, &run, 1), ==, 0);
	store_expect(store, &run, 1);
	store_close(store);
	store_folder_free(path);
}

static void expect_in_use(const char *path, bool read_only)
{
	g_autoptr(GError) error = NULL;
	kvt_store_settings settings = { .read_only = read_only };
	g_assert_null(kvt_store_open(path, &settings, &error));
	g_assert_nonnull(strstr(error->message, "another process has it open"));
}

static void test_two_processes(void)
{
	char *path = store_folder_new();
	store_close(store_make(path, MIB, KVT_STORE_SYNC_NONE, NULL));
	int ready[2];
	g_assert_cmpint(pipe(ready), ==, 0);
	pid_t pid = fork();
	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		kvt_store *store = store_reopen(path, NULL);
		g_assert_cmpint(write(ready[1], store ? "y" : "n", 1), ==, 1);
		for (;;)
			pause();
	}
	char answer;
	g_assert_cmpint(read(ready[0], &answer, 1), ==, 1);
	expect_in_use(path, false);
	expect_in_use(path, true);
	g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
	g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
	kvt_store_settings settings = { .read_only = true };
	kvt_store *first = store_reopen(path, &settings), *second = store_reopen(path, &settings);
	expect_in_use(path, false);
	kvt_store_drop(first);
	kvt_store_drop(second);
	store_close(store_reopen(path, NULL));
	close(ready[0]);
	close(ready[1]);
	store_folder_free(path);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/store_faults/eio", GINT_TO_POINTER(-EIO), test_each_call);
	g_test_add_data_func("/store_faults/enospc", GINT_TO_POINTER(-ENOSPC), test_each_call);
	g_test_add_func("/store_faults/read_error", test_read_error);
	g_test_add_func("/store_faults/unwritable", test_unwritable);
	g_test_add_func("/store_faults/full_disk", test_full_disk);
	g_test_add_func("/store_faults/file_limit", test_file_limit);
	g_test_add_func("/store_faults/two_processes", test_two_processes);
	return g_test_run();
}
