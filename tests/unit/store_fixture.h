/*
 * store_fixture.h: page stores in folders of their own, and pages whose content follows from who
 * they are, so that any page that is served can be verified. Not a test itself.
 */
#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

#include <glib.h>

#include "emu/store/store.h"

/* A new folder, and its end with all that is in it. */
char *store_folder_new(void);
void store_folder_free(char *path);

/* A file in such a folder that stands for a block device, of 5 MiB of zeros; free it and then the
 * folder. */
char *store_device_new(const char *folder);

/* A store of `capacity` bytes in segments of 64 KiB, opened. `settings` may be NULL. */
kvt_store *store_make(const char *path, uint64_t capacity, kvt_store_sync sync,
	const kvt_store_settings *settings);
kvt_store *store_reopen(const char *path, const kvt_store_settings *settings);
void store_close(kvt_store *store);

kvt_store_run store_run(unsigned tenant, unsigned context, unsigned layer, uint64_t first,
	uint64_t n, uint64_t page_bytes);

/* What the run's pages hold in their `version`th version, page after page. */
void store_fill(const kvt_store_run *run, uint64_t version, void *pages);

/* kvt_store_put of that. */
int store_put(kvt_store *store, const kvt_store_run *run, uint64_t version);

/* The version that a page has, which store_fill wrote into it; the page must be whole: all of it is
 * compared. -1: it is none. */
int64_t store_version(const kvt_store_run *run, uint64_t page, const void *content);

/* Reads the run and asserts that every page is of that version. */
void store_expect(kvt_store *store, const kvt_store_run *run, uint64_t version);

/* The path of the n-th segment file in order of numbers, a new string; NULL: there is none. */
char *store_segment_path(const char *path, unsigned n);

/* Changes a bit of a file. */
void store_flip(const char *path, uint64_t byte, unsigned bit);

uint64_t store_file_size(const char *path);

/* A copy of a store's folder in another one, which is emptied first. */
void store_copy(const char *from, const char *to);

#endif
