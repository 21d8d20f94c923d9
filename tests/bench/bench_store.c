/*
 * bench_store.c: what the page store itself costs: runs reserved and published, found, written and
 * read with checksums, recovered; each as a ratio to the same bytes or look-ups without a store, in
 * the same run. Files are in the page cache of $TMPDIR: the drive is no part of it.
 */
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "emu/store/store.h"
#include "sim/base/rng.h"

enum { PAGE = 16384, RUN = 8, RUNS = 2048, MIB = 1 << 20 };

static double seconds(void)
{
	return (double)g_get_monotonic_time() * 1e-6;
}

static kvt_store_run run_of(unsigned i)
{
	return (kvt_store_run){ .model = 1,
		.pages = { i / 512, i % 8, i % 512 / 8 * RUN, RUN, PAGE } };
}

static void fail(const char *what, int status)
{
	fprintf(stderr, "bench_store: %s: %s\n", what, g_strerror(-status));
	exit(1);
}

static kvt_store *open_store(const char *path)
{
	GError *error = NULL;
	kvt_store *store = kvt_store_open(path, NULL, &error);
	if (!store) {
		fprintf(stderr, "bench_store: %s\n", error->message);
		exit(1);
	}
	return store;
}

/* GB/s of plain writes, then reads, of the same bytes to one file. */
static void measure_plain(const char *path, void *pages, double *write, double *read)
{
	g_autofree char *file = g_build_filename(path, "plain", NULL);
	const kvt_store_io *io = &kvt_store_system_io;
	int fd = open(file, O_RDWR | O_CREAT, 0644);
	double begin = seconds();
	for (unsigned i = 0; i < RUNS; i++)
		kvt_store_write_all(io, fd, pages, PAGE * RUN, (uint64_t)i * PAGE * RUN);
	*write = 1e-9 * PAGE * RUN * RUNS / (seconds() - begin);
	begin = seconds();
	for (unsigned i = 0; i < RUNS; i++)
		kvt_store_read_all(io, fd, pages, PAGE * RUN, (uint64_t)i * PAGE * RUN);
	*read = 1e-9 * PAGE * RUN * RUNS / (seconds() - begin);
	close(fd);
	g_unlink(file);
}

static void measure_data(kvt_store *store, const char *path, void *pages)
{
	double write, read;
	measure_plain(path, pages, &write, &read);
	double begin = seconds();
	for (unsigned i = 0; i < RUNS; i++) {
		kvt_store_run run = run_of(i);
		int status = kvt_store_put(store, &run, pages);
		if (status < 0)
			fail("put", status);
	}
	double rate = 1e-9 * PAGE * RUN * RUNS / (seconds() - begin);
	printf("put, runs of %u pages of %u KiB     %8.2f GB/s %6.2f of plain writes\n", RUN,
		PAGE / 1024, rate, rate / write);
	begin = seconds();
	for (unsigned i = 0; i < RUNS; i++) {
		kvt_store_run run = run_of(i);
		int status = kvt_store_get(store, &run, pages);
		if (status < 0)
			fail("get", status);
	}
	rate = 1e-9 * PAGE * RUN * RUNS / (seconds() - begin);
	printf("get and verify                    %8.2f GB/s %6.2f of plain reads\n", rate,
		rate / read);
}

/* Look-ups a second of a hash table of as many runs. */
static double hash_rate(unsigned total)
{
	GHashTable *table = g_hash_table_new(g_int64_hash, g_int64_equal);
	g_autofree gint64 *keys = g_new(gint64, RUNS);
	kvt_rng rng = kvt_rng_init(1, 1);
	uint64_t found = 0;
	for (unsigned i = 0; i < RUNS; i++) {
		keys[i] = (gint64)i * 977;
		g_hash_table_add(table, &keys[i]);
	}
	double begin = seconds();
	for (unsigned i = 0; i < total; i++)
		found += g_hash_table_contains(table, &keys[kvt_rng_below(&rng, RUNS)]);
	double rate = total / (seconds() - begin);
	if (found != total)
		fail("look-up", -ENOENT);
	g_hash_table_destroy(table);
	return rate;
}

static void measure_index(kvt_store *store)
{
	enum { FINDS = 1000000, PUBLISHES = 30000 };
	kvt_rng rng = kvt_rng_init(1, 2);
	double look_ups = hash_rate(FINDS), begin = seconds();
	for (unsigned i = 0; i < FINDS; i++) {
		kvt_store_run run = run_of((unsigned)kvt_rng_below(&rng, RUNS));
		kvt_store_piece piece;
		unsigned n;
		if (kvt_store_find(store, &run, &piece, 1, &n) < 0)
			fail("find", -ENOENT);
		kvt_store_release(store, &piece, n);
	}
	double rate = FINDS / (seconds() - begin);
	printf("find and release                  %8.2f M/s  %6.2f of hash look-ups\n", rate * 1e-6,
		rate / look_ups);
	begin = seconds();
	for (unsigned i = 0; i < PUBLISHES; i++) {
		kvt_store_run run = run_of(i);
		kvt_store_ticket ticket;
		run.tenant = 1;
		run.pages.page_bytes = 64;
		int status = kvt_store_reserve(store, &run, &ticket);
		if (status < 0)
			fail("reserve", status);
		for (unsigned k = 0; k < RUN; k++)
			ticket.checksums[k] = k;
		kvt_store_publish(store, &ticket);
	}
	rate = PUBLISHES / (seconds() - begin);
	printf("reserve and publish, no data      %8.2f M/s  %6.2f of hash look-ups\n", rate * 1e-6,
		rate / look_ups);
}

static void measure_recovery(const char *path, const char *how, void *pages)
{
	double write, read;
	measure_plain(path, pages, &write, &read);
	sync(); /* what was written to fill it is not to be paid for here */
	double begin = seconds();
	kvt_store *store = open_store(path);
	double took = seconds() - begin;
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	double gigabytes = 1e-9 * (double)info.page_bytes;
	printf("recovery, %-24s%8.2f ms/GB %5.2f of reading it all\n", how, took * 1e3 / gigabytes,
		took / (gigabytes / read));
	printf("  %" G_GUINT64_FORMAT " segments by index, %" G_GUINT64_FORMAT
	       " by reading, %.0f B of memory a record of %u pages\n",
		info.indexed_segments, info.scanned_segments,
		(double)info.memory / (double)info.records, RUN);
	kvt_store_drop(store);
}

static void fill(const char *path, uint64_t segment_bytes, void *pages, gboolean close_it)
{
	kvt_store_shape shape = { .capacity = 2048 * (uint64_t)MIB,
		.segment_bytes = segment_bytes };
	GError *error = NULL;
	if (!kvt_store_create(path, &shape, NULL, &error))
		fail(error->message, 0);
	kvt_store *store = open_store(path);
	for (unsigned i = 0; i < RUNS; i++) {
		kvt_store_run run = run_of(i);
		kvt_store_put(store, &run, pages);
	}
	if (close_it)
		kvt_store_close(store, NULL);
	else
		kvt_store_drop(store);
}

static void empty(const char *path)
{
	GDir *dir = g_dir_open(path, 0, NULL);
	for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
		g_autofree char *file = g_build_filename(path, name, NULL);
		g_unlink(file);
	}
	g_dir_close(dir);
}

int main(void)
{
	g_autofree char *path = g_build_filename(g_get_tmp_dir(), "kvt-bench-XXXXXX", NULL);
	uint8_t *pages = g_malloc0(PAGE * RUN);
	GError *error = NULL;
	kvt_store_shape shape = { .capacity = 1024 * (uint64_t)MIB, .segment_bytes = 32 * MIB };
	if (!g_mkdtemp(path))
		fail("mkdtemp", -errno);
	for (unsigned i = 0; i < PAGE * RUN; i++)
		pages[i] = (uint8_t)(i * 31);
	if (!kvt_store_create(path, &shape, NULL, &error))
		fail(error->message, 0);
	kvt_store *store = open_store(path);
	measure_data(store, path, pages);
	measure_index(store);
	kvt_store_drop(store);
	empty(path);
	fill(path, 32 * MIB, pages, TRUE);
	measure_recovery(path, "sealed", pages);
	empty(path);
	fill(path, 400 * MIB, pages, FALSE);
	measure_recovery(path, "killed while writing", pages);
	empty(path);
	g_rmdir(path);
	g_free(pages);
	return 0;
}
