/* store_fixture.c: page stores for tests, and pages that tell who they are. */
#include "tests/unit/store_fixture.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim/base/rng.h"

static void empty_folder(const char *path)
{
	GDir *dir = g_dir_open(path, 0, NULL);
	g_assert_nonnull(dir);
	for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
		g_autofree char *file = g_build_filename(path, name, NULL);
		g_assert_cmpint(g_unlink(file), ==, 0);
	}
	g_dir_close(dir);
}

char *store_folder_new(void)
{
	/* a file system in memory where there is one, since these tests sync often; or $TMPDIR */
	gboolean shm = g_getenv("TMPDIR") == NULL && g_access("/dev/shm", W_OK) == 0;
	const char *base = shm ? "/dev/shm" : g_get_tmp_dir();
	char *path = g_build_filename(base, "kvt-store-XXXXXX", NULL);
	g_assert_nonnull(g_mkdtemp(path));
	return path;
}

void store_folder_free(char *path)
{
	empty_folder(path);
	g_assert_cmpint(g_rmdir(path), ==, 0);
	g_free(path);
}

char *store_device_new(const char *folder)
{
	char *path = g_build_filename(folder, "device", NULL);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(ftruncate(fd, 5 << 20), ==, 0);
	close(fd);
	return path;
}

kvt_store *store_reopen(const char *path, const kvt_store_settings *settings)
{
	g_autoptr(GError) error = NULL;
	kvt_store *store = kvt_store_open(path, settings, &error);
	g_assert_no_error(error);
	g_assert_nonnull(store);
	return store;
}

kvt_store *store_make(const char *path, uint64_t capacity, kvt_store_sync sync,
	const kvt_store_settings *settings)
{
	g_autoptr(GError) error = NULL;
	kvt_store_shape shape = {
		.capacity = capacity, .segment_bytes = 64 << 10, .sync = sync, .key = 42
	};
	kvt_store_create(path, &shape, settings, &error);
	g_assert_no_error(error);
	return store_reopen(path, settings);
}

void store_close(kvt_store *store)
{
	g_autoptr(GError) error = NULL;
	kvt_store_close(store, &error);
	g_assert_no_error(error);
}

kvt_store_run store_run(unsigned tenant, unsigned context, unsigned layer, uint64_t first,
	uint64_t n, uint64_t page_bytes)
{
	return (kvt_store_run){
		.model = 7, .tenant = tenant, .pages = { context, layer, first, n, page_bytes }
	};
}

static void fill_page(const kvt_store_run *run, uint64_t page, uint64_t version, uint8_t *to)
{
	uint64_t who = ((uint64_t)run->tenant << 48) ^ ((uint64_t)run->pages.context << 32) ^
		       ((uint64_t)run->pages.layer << 24) ^ page;
	kvt_rng rng = kvt_rng_init(version, who);
	uint64_t bytes = run->pages.page_bytes;
	g_assert_cmpuint(bytes, >=, sizeof(version));
	memcpy(to, &version, sizeof(version));
	for (uint64_t at = sizeof(version); at < bytes; at += sizeof(uint64_t)) {
		uint64_t word = kvt_rng_next(&rng);
		memcpy(to + at, &word, MIN(sizeof(word), bytes - at));
	}
}

void store_fill(const kvt_store_run *run, uint64_t version, void *pages)
{
	for (uint64_t i = 0; i < run->pages.n_pages; i++)
		fill_page(run, run->pages.first_page + i, version,
			(uint8_t *)pages + i * run->pages.page_bytes);
}

int store_put(kvt_store *store, const kvt_store_run *run, uint64_t version)
{
	g_autofree void *pages = g_malloc(kvt_extent_bytes(&run->pages));
	store_fill(run, version, pages);
	return kvt_store_put(store, run, pages);
}

int64_t store_version(const kvt_store_run *run, uint64_t page, const void *content)
{
	uint64_t version;
	memcpy(&version, content, sizeof(version));
	g_autofree uint8_t *expected = g_malloc(run->pages.page_bytes);
	fill_page(run, page, version, expected);
	return memcmp(expected, content, run->pages.page_bytes) == 0 ? (int64_t)version : -1;
}

void store_expect(kvt_store *store, const kvt_store_run *run, uint64_t version)
{
	g_autofree uint8_t *pages = g_malloc(kvt_extent_bytes(&run->pages));
	g_assert_cmpint(kvt_store_get(store, run, pages), ==, 0);
	for (uint64_t i = 0; i < run->pages.n_pages; i++)
		g_assert_cmpint(store_version(run, run->pages.first_page + i,
					pages + i * run->pages.page_bytes),
			==, (int64_t)version);
}

static int compare_names(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char *store_segment_path(const char *path, unsigned n)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	GDir *dir = g_dir_open(path, 0, NULL);
	g_assert_nonnull(dir);
	for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
		if (g_str_has_suffix(name, ".segment"))
			g_ptr_array_add(names, g_strdup(name));
	g_dir_close(dir);
	g_ptr_array_sort(names, compare_names);
	return n < names->len ? g_build_filename(path, g_ptr_array_index(names, n), NULL) : NULL;
}

void store_flip(const char *path, uint64_t byte, unsigned bit)
{
	int fd = open(path, O_RDWR);
	g_assert_cmpint(fd, >=, 0);
	uint8_t value;
	g_assert_cmpint(pread(fd, &value, 1, (off_t)byte), ==, 1);
	value ^= (uint8_t)(1u << bit);
	g_assert_cmpint(pwrite(fd, &value, 1, (off_t)byte), ==, 1);
	close(fd);
}

uint64_t store_file_size(const char *path)
{
	struct stat st;
	g_assert_cmpint(stat(path, &st), ==, 0);
	return (uint64_t)st.st_size;
}

void store_copy(const char *from, const char *to)
{
	empty_folder(to);
	GDir *dir = g_dir_open(from, 0, NULL);
	g_assert_nonnull(dir);
	for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
		g_autofree char *source = g_build_filename(from, name, NULL);
		g_autofree char *target = g_build_filename(to, name, NULL);
		g_autofree char *data = NULL;
		gsize size;
		g_assert_true(g_file_get_contents(source, &data, &size, NULL));
		g_assert_true(g_file_set_contents_full(
			target, data, (gssize)size, G_FILE_SET_CONTENTS_NONE, 0644, NULL));
	}
	g_dir_close(dir);
}
