/*
 * fuzz_store.c: any bytes in the files of a page store. An input is a list of edits, eight bytes
 * each, to a sound store: bytes changed, blocks copied, files cut, and fields of blocks changed
 * with their checksums made right again, as no accident does. Whatever is opened must hold
 * together, and serve only pages that match their checksums.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "emu/store/store.h"
#include "emu/store/store_format.h"
#include "sim/base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILES = 3, BLOCK = KVT_STORE_BLOCK, KEY = 42, EDITS_MAX = 64 };

/* The key of superblocks. */
static const uint64_t SUPER_KEY = 0x6b76746965720001;

static const char *const files[FILES] = { "kvtier.store", "journal", "0000000000000001.segment" };

typedef struct image {
	char *data[FILES];
	gsize size[FILES];
} image;

static char *folder_new(void)
{
	const char *base = g_access("/dev/shm", W_OK) == 0 ? "/dev/shm" : g_get_tmp_dir();
	char *path = g_build_filename(base, "kvt-fuzz-XXXXXX", NULL);
	g_assert(g_mkdtemp(path) != NULL);
	return path;
}

static void folder_free(char *path)
{
	GDir *dir = g_dir_open(path, 0, NULL);
	for (const char *name; dir && (name = g_dir_read_name(dir)) != NULL;) {
		g_autofree char *file = g_build_filename(path, name, NULL);
		g_unlink(file);
	}
	if (dir)
		g_dir_close(dir);
	g_rmdir(path);
	g_free(path);
}

static kvt_store_run run_of(unsigned i)
{
	return (kvt_store_run){ .model = 7, .tenant = i % 2, .pages = { i, i % 3, i, 1 + i, 700 } };
}

/* The sound store: runs, one of them overwritten, one discarded; closed or not. */
static void make_image(image *to, bool closed)
{
	char *path = folder_new();
	kvt_store_shape shape = { .capacity = 1 << 20,
		.segment_bytes = 64 << 10,
		.sync = KVT_STORE_SYNC_DATA,
		.key = KEY };
	uint8_t pages[8 * 700];
	memset(pages, 3, sizeof(pages));
	g_assert(kvt_store_create(path, &shape, NULL, NULL));
	kvt_store *store = kvt_store_open(path, NULL, NULL);
	g_assert(store != NULL);
	for (unsigned i = 0; i < 5; i++) {
		kvt_store_run run = run_of(i % 4);
		g_assert(kvt_store_put(store, &run, pages) == 0);
	}
	kvt_store_run gone = run_of(2);
	g_assert(kvt_store_discard(store, &gone, 1, NULL) == 0);
	if (closed)
		g_assert(kvt_store_close(store, NULL));
	else
		kvt_store_drop(store);
	for (unsigned i = 0; i < FILES; i++) {
		g_autofree char *file = g_build_filename(path, files[i], NULL);
		g_assert(g_file_get_contents(file, &to->data[i], &to->size[i], NULL));
	}
	folder_free(path);
}

/* Makes a block's own checksum right again: the hash with zeros in its place, as in
 * store_format.c. */
static void mend_block(uint8_t *block, uint64_t key)
{
	if (memcmp(block, "\x01kvt", 4) != 0)
		return;
	memset(block + 16, 0, sizeof(uint64_t));
	uint64_t hash = GUINT64_TO_LE(XXH3_64bits_withSeed(block, BLOCK, key));
	memcpy(block + 16, &hash, sizeof(hash));
}

static void mend(image *to, unsigned file, gsize block)
{
	uint8_t *data = (uint8_t *)to->data[file];
	gsize last = to->size[file] / BLOCK * BLOCK - BLOCK;
	kvt_store_trailer trailer;
	mend_block(data + block, file == 0 && block < 2 * BLOCK ? SUPER_KEY : KEY);
	if (file == 2 && kvt_store_trailer_decode(KEY, data + last, &trailer) &&
		trailer.index_offset <= last &&
		trailer.index_bytes <= last - trailer.index_offset) {
		trailer.index_hash =
			kvt_store_index_hash(KEY, data + trailer.index_offset, trailer.index_bytes);
		kvt_store_trailer_encode(KEY, &trailer, data + last);
	}
}

static void edit(image *to, const uint8_t *e)
{
	unsigned file = e[0] % FILES, kind = e[0] / FILES % 6;
	gsize size = to->size[file];
	gsize at = (gsize)e[1] * BLOCK + ((gsize)e[2] << 4) + e[3] % 16;
	gsize other = (gsize)e[4] * BLOCK;
	if (size == 0)
		return;
	at %= size;
	gsize block = at / BLOCK * BLOCK;
	bool whole = block + BLOCK <= size;
	switch (kind) {
	case 0: /* a byte */
		to->data[file][at] ^= (char)(e[5] | 1);
		break;
	case 1: /* a word of a block that stays sound */
	case 2:
		if (!whole)
			break;
		memcpy(to->data[file] + MIN(at, size - 4), e + 4, kind == 1 ? 1 : 4);
		mend(to, file, block);
		break;
	case 3: /* a block in another's place */
		if (whole && other + BLOCK <= size)
			memmove(to->data[file] + block, to->data[file] + other, BLOCK);
		break;
	case 4: /* cut */
		to->size[file] = at;
		break;
	case 5: /* blank */
		if (whole)
			memset(to->data[file] + block, e[5], BLOCK);
		break;
	}
}

static void check_line(void *arg, const char *line)
{
	g_assert(strpbrk(line, "\n\r") == NULL);
	g_assert(g_utf8_validate(line, -1, NULL));
}

/* A shape that was changed may ask for more than this machine has. */
static int allocate_sparse(void *arg, int fd, uint64_t size)
{
	return size > (64 << 20) ? -ENOSPC : kvt_store_system_io.truncate(arg, fd, size);
}

static void check_error(const GError *error)
{
	g_assert(error != NULL && error->domain == KVT_ERROR);
	check_line(NULL, error->message);
}

/* What the store says of itself is so, and what it serves matches. */
static void check_store(kvt_store *store, bool read_only)
{
	kvt_store_info info;
	kvt_store_report report;
	uint8_t pages[16 * 700];
	uint64_t served = 0;
	for (unsigned i = 0; i < 4; i++) {
		kvt_store_run run = run_of(i);
		uint64_t prefix = kvt_store_prefix(store, &run);
		g_assert(prefix <= kvt_store_count(store, &run));
		int status = kvt_store_get(store, &run, pages);
		g_assert(status <= 0);
		for (uint64_t k = 0; k < run.pages.n_pages * 700 && status == 0; k++)
			g_assert(pages[k] == 3);
		served += status == 0 ? run.pages.n_pages : 0;
	}
	kvt_store_info_get(store, &info);
	g_assert(served <= info.pages && info.readers == 0);
	g_assert(info.page_bytes + info.dead_page_bytes >= info.page_bytes);
	g_assert(kvt_store_check(store, &report, check_line, NULL, NULL));
	kvt_store_run more = run_of(6);
	memset(pages, 3, sizeof(pages));
	int status = kvt_store_put(store, &more, pages);
	g_assert(!read_only || status == -EROFS);
	if (status == 0)
		g_assert(kvt_store_get(store, &more, pages) == 0);
	kvt_store_discard(store, &more, 1, NULL);
	kvt_store_gc(store, 0, NULL);
}

static void open_image(const image *from)
{
	char *path = folder_new();
	for (unsigned i = 0; i < FILES; i++) {
		g_autofree char *file = g_build_filename(path, files[i], NULL);
		g_assert(g_file_set_contents_full(file, from->data[i], (gssize)from->size[i],
			G_FILE_SET_CONTENTS_NONE, 0644, NULL));
	}
	kvt_store_io io = kvt_store_system_io;
	io.allocate = allocate_sparse;
	for (unsigned round = 0; round < 3; round++) {
		g_autoptr(GError) error = NULL;
		kvt_store_settings settings = {
			.read_only = round == 0, .notice = check_line, .io = &io
		};
		kvt_store *store = kvt_store_open(path, &settings, &error);
		if (!store) {
			check_error(error);
			continue;
		}
		check_store(store, round == 0);
		if (!kvt_store_close(store, &error))
			check_error(error);
	}
	folder_free(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static image made[2];
	if (size == 0)
		return 0;
	const image *origin = &made[data[0] % 2];
	if (origin->data[0] == NULL)
		make_image(&made[data[0] % 2], data[0] % 2);
	image sound = *origin;
	for (unsigned i = 0; i < FILES; i++)
		sound.data[i] = g_memdup2(origin->data[i], origin->size[i]);
	for (size_t i = 1; i + 8 <= size && i < 8 * EDITS_MAX; i += 8)
		edit(&sound, data + i);
	open_image(&sound);
	for (unsigned i = 0; i < FILES; i++)
		g_free(sound.data[i]);
	return 0;
}
