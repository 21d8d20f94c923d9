/* test_store_kill.c: a process that writes to a page store, in a directory or on a device, is
 * killed at any moment, a hundred times on each. What it had published is there, and nothing else
 * but what it was about to. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "emu/store/store.h"
#include "sim/base/rng.h"
#include "tests/unit/store_fixture.h"

enum { RUNS = 24, KILLS = 100, MIB = 1 << 20 };

/* What the writer tells, in memory that outlives it. Version 0: nothing is there. */
typedef struct ledger {
	volatile uint64_t before[RUNS]; /* what is there while `after` is being written */
	volatile uint64_t after[RUNS];
	volatile uint64_t version, operations;
} ledger;

static kvt_store_run run_of(unsigned i)
{
	static const uint64_t bytes[] = { 300, 4096, 5000, 9000 };
	return store_run(i % 2, i, i % 3, i, 1 + i % 5, bytes[i % 4]);
}

/* The system's write, in small pieces: a kill comes between any two of them. */
static int64_t write_piece(void *arg, int fd, const void *data, uint64_t size, uint64_t offset)
{
	return kvt_store_system_io.write(NULL, fd, data, MIN(size, 4096), offset);
}

static void write_on(kvt_store *store, ledger *l, kvt_rng *rng)
{
	unsigned i = (unsigned)kvt_rng_below(rng, RUNS);
	kvt_store_run run = run_of(i);
	uint64_t kind = kvt_rng_below(rng, 10);
	int status;
	l->operations++;
	if (kind == 0) {
		kvt_store_gc(store, kvt_rng_below(rng, 2) ? 0 : 200000, NULL);
		return;
	}
	l->after[i] = kind < 3 ? 0 : ++l->version;
	if (kind < 3)
		status = kvt_store_discard(store, &run, 1, NULL);
	else
		status = store_put(store, &run, l->after[i]);
	if (status == -ENOSPC) {
		l->after[i] = l->before[i];
		kvt_store_gc(store, 200000, NULL);
		return;
	}
	g_assert_cmpint(status, ==, 0);
	l->before[i] = l->after[i];
}

static void child(const char *path, ledger *l, uint64_t seed, bool ahead)
{
	kvt_store_io io = kvt_store_system_io;
	io.write = write_piece;
	kvt_store_settings settings = { .io = &io, .ahead = ahead };
	kvt_rng rng = kvt_rng_init(seed, 1);
	kvt_store *store = store_reopen(path, &settings);
	for (;;)
		write_on(store, l, &rng);
}

/* Everything that is served is what was published last, or what was being published. */
static uint64_t verify(const char *path, ledger *l)
{
	uint64_t served = 0;
	kvt_store *store = store_reopen(path, NULL);
	for (unsigned i = 0; i < RUNS; i++) {
		kvt_store_run run = run_of(i);
		const kvt_extent *pages = &run.pages;
		g_autofree uint8_t *content = g_malloc(kvt_extent_bytes(pages));
		uint64_t there = kvt_store_count(store, &run), version = 0;
		g_assert_true(there == 0 || there == pages->n_pages);
		if (there > 0)
			g_assert_cmpint(kvt_store_get(store, &run, content), ==, 0);
		for (uint64_t p = 0; p < there; p++) {
			int64_t found = store_version(
				&run, pages->first_page + p, content + p * pages->page_bytes);
			g_assert_true(p == 0 || found == (int64_t)version);
			version = (uint64_t)found;
		}
		g_assert_true(version == l->before[i] || version == l->after[i]);
		l->before[i] = l->after[i] = version;
		served += there;
	}
	kvt_store_report report;
	g_assert_true(kvt_store_check(store, &report, NULL, NULL, NULL));
	g_assert_cmpuint(report.bad_segments + report.bad_records + report.bad_pages, ==, 0);
	kvt_store_drop(store);
	return served;
}

/* Where, and with which promise. */
typedef struct trial {
	const char *name;
	kvt_store_sync sync;
	bool device, ahead;
} trial;

static void test_kills(gconstpointer data)
{
	const trial *t = data;
	char *folder = store_folder_new();
	g_autofree char *path = t->device ? store_device_new(folder) : g_strdup(folder);
	ledger *l =
		mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	g_assert_true(l != MAP_FAILED);
	kvt_rng rng = kvt_rng_init(1, t->sync);
	uint64_t served = 0;
	kvt_store_drop(store_make(path, 2 * MIB, t->sync, NULL));
	for (unsigned i = 0; i < KILLS / 2; i++) {
		uint64_t operations = l->operations;
		pid_t pid = fork();
		g_assert_cmpint(pid, >=, 0);
		if (pid == 0)
			child(path, l, i, t->ahead);
		/* it dies while it opens the store, or after some operations */
		uint64_t some = i % 8 == 0 ? 0 : 1 + kvt_rng_below(&rng, 30);
		while (l->operations < operations + some && waitpid(pid, NULL, WNOHANG) == 0)
			g_thread_yield();
		struct timespec wait = { .tv_nsec = (long)kvt_rng_below(&rng, 2000000) };
		nanosleep(&wait, NULL);
		g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
		int status;
		g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
		g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		served += verify(path, l);
	}
	g_assert_cmpuint(served, >, KILLS * 10);
	munmap(l, sizeof(*l));
	store_folder_free(folder);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	static const trial trials[] = {
		{ "/store_kill/none", KVT_STORE_SYNC_NONE, false, false },
		{ "/store_kill/data", KVT_STORE_SYNC_DATA, false, false },
		{ "/store_kill/device-none", KVT_STORE_SYNC_NONE, true, false },
		{ "/store_kill/device-data", KVT_STORE_SYNC_DATA, true, false },
		{ "/store_kill/ahead-none", KVT_STORE_SYNC_NONE, false, true },
		{ "/store_kill/ahead-data", KVT_STORE_SYNC_DATA, false, true },
		{ "/store_kill/ahead-device-none", KVT_STORE_SYNC_NONE, true, true },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(trials); i++)
		g_test_add_data_func(trials[i].name, &trials[i], test_kills);
	return g_test_run();
}
