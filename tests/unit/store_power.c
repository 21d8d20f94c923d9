/*
 * store_power.c: a log of a store's calls and what of them a power cut leaves. A file is an inode
 * with writes; a folder is names of inodes. Names change in order, as on file systems with a
 * journal, but how many of the changes since the last sync have arrived is open; and no sync of a
 * file brings names with it.
 */
#include "tests/unit/store_power.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum { SECTOR = 512, FILES = 1024 };

typedef enum op_kind {
	OP_NAME,
	OP_UNLINK,
	OP_RENAME,
	OP_SYNC_DIR,
	OP_WRITE,
	OP_SIZE,
	OP_SYNC
} op_kind;

typedef struct op {
	op_kind kind;
	unsigned inode;
	char *name, *to; /* of names */
	uint8_t *data;   /* of a write */
	uint64_t size, offset;
	bool grows_only; /* of OP_SIZE: allocation */
} op;

struct store_power {
	kvt_store_io io;
	GArray *ops;          /* op */
	GHashTable *names;    /* of the folder now: name -> inode */
	unsigned inodes;      /* given out; the first is 1 */
	unsigned open[FILES]; /* file descriptor -> inode */
};

static void log_op(store_power *power, op o)
{
	g_array_append_val(power->ops, o);
}

/* A file that stands for a device: it was there, zeros, at its full length, before the log. */
static int open_device(store_power *power, int fd, const char *path)
{
	g_autofree char *name = g_path_get_basename(path);
	if (power->inodes == 0) {
		uint64_t size = (uint64_t)kvt_store_system_io.size(NULL, fd);
		log_op(power, (op){ .kind = OP_NAME, .inode = 1, .name = g_strdup(name) });
		log_op(power, (op){ .kind = OP_SIZE, .inode = 1, .size = size });
		log_op(power, (op){ .kind = OP_SYNC, .inode = 1 });
		log_op(power, (op){ .kind = OP_SYNC_DIR });
		power->inodes = 1;
	}
	power->open[fd] = 1;
	return fd;
}

static int power_open(void *arg, int dir, const char *name, int flags, mode_t mode)
{
	store_power *power = arg;
	int fd = kvt_store_system_io.open(NULL, dir, name, flags, mode);
	if (fd < 0)
		return fd;
	g_assert_cmpint(fd, <, FILES);
	if (g_path_is_absolute(name))
		return open_device(power, fd, name);
	unsigned inode = GPOINTER_TO_UINT(g_hash_table_lookup(power->names, name));
	if (inode == 0) {
		inode = ++power->inodes;
		g_hash_table_insert(power->names, g_strdup(name), GUINT_TO_POINTER(inode));
		log_op(power, (op){ .kind = OP_NAME, .inode = inode, .name = g_strdup(name) });
	} else if (flags & O_TRUNC) {
		log_op(power, (op){ .kind = OP_SIZE, .inode = inode });
	}
	power->open[fd] = inode;
	return fd;
}

static int64_t power_write(void *arg, int fd, const void *data, uint64_t size, uint64_t offset)
{
	store_power *power = arg;
	int64_t put = kvt_store_system_io.write(NULL, fd, data, size, offset);
	g_assert_cmpint(put, >, 0);
	log_op(power, (op){ .kind = OP_WRITE,
			      .inode = power->open[fd],
			      .data = g_memdup2(data, (gsize)put),
			      .size = (uint64_t)put,
			      .offset = offset });
	return put;
}

static int power_allocate(void *arg, int fd, uint64_t size)
{
	store_power *power = arg;
	log_op(power, (op){ .kind = OP_SIZE,
			      .inode = power->open[fd],
			      .size = size,
			      .grows_only = true });
	return kvt_store_system_io.allocate(NULL, fd, size);
}

static int power_truncate(void *arg, int fd, uint64_t size)
{
	store_power *power = arg;
	log_op(power, (op){ .kind = OP_SIZE, .inode = power->open[fd], .size = size });
	return kvt_store_system_io.truncate(NULL, fd, size);
}

static int power_sync(void *arg, int fd)
{
	store_power *power = arg;
	log_op(power, (op){ .kind = OP_SYNC, .inode = power->open[fd] });
	return 0;
}

static int power_sync_dir(void *arg, int dir)
{
	log_op(arg, (op){ .kind = OP_SYNC_DIR });
	return 0;
}

static int power_unlink(void *arg, int dir, const char *name)
{
	store_power *power = arg;
	int status = kvt_store_system_io.unlink(NULL, dir, name);
	if (status == 0) {
		g_hash_table_remove(power->names, name);
		log_op(power, (op){ .kind = OP_UNLINK, .name = g_strdup(name) });
	}
	return status;
}

static int power_rename(void *arg, int dir, const char *from, const char *to)
{
	store_power *power = arg;
	int status = kvt_store_system_io.rename(NULL, dir, from, to);
	g_assert_cmpint(status, ==, 0);
	gpointer inode = g_hash_table_lookup(power->names, from);
	g_hash_table_insert(power->names, g_strdup(to), inode);
	g_hash_table_remove(power->names, from);
	log_op(power, (op){ .kind = OP_RENAME, .name = g_strdup(from), .to = g_strdup(to) });
	return 0;
}

static void clear_op(gpointer data)
{
	op *o = data;
	g_free(o->name);
	g_free(o->to);
	g_free(o->data);
}

store_power *store_power_new(void)
{
	store_power *power = g_new0(store_power, 1);
	power->io = kvt_store_system_io;
	power->io.open = power_open;
	power->io.write = power_write;
	power->io.allocate = power_allocate;
	power->io.truncate = power_truncate;
	power->io.sync = power_sync;
	power->io.sync_dir = power_sync_dir;
	power->io.unlink = power_unlink;
	power->io.rename = power_rename;
	power->io.arg = power;
	power->ops = g_array_new(FALSE, FALSE, sizeof(op));
	g_array_set_clear_func(power->ops, clear_op);
	power->names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	return power;
}

void store_power_free(store_power *power)
{
	g_array_free(power->ops, TRUE);
	g_hash_table_destroy(power->names);
	g_free(power);
}

const kvt_store_io *store_power_io(store_power *power)
{
	return &power->io;
}

unsigned store_power_length(const store_power *power)
{
	return power->ops->len;
}

/* The names that are found: those of the last sync, and some of the changes since. */
static GHashTable *names_after(const store_power *power, unsigned n, kvt_rng *rng)
{
	GHashTable *names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	unsigned synced = 0, arrived;
	for (unsigned i = 0; i < n; i++)
		if (g_array_index(power->ops, op, i).kind == OP_SYNC_DIR)
			synced = i;
	arrived = synced + (unsigned)kvt_rng_below(rng, n - synced + 1);
	for (unsigned i = 0; i < arrived; i++) {
		const op *o = &g_array_index(power->ops, op, i);
		if (o->kind == OP_NAME) {
			g_hash_table_insert(names, g_strdup(o->name), GUINT_TO_POINTER(o->inode));
		} else if (o->kind == OP_UNLINK) {
			g_hash_table_remove(names, o->name);
		} else if (o->kind == OP_RENAME) {
			gpointer inode = g_hash_table_lookup(names, o->name);
			g_hash_table_insert(names, g_strdup(o->to), inode);
			g_hash_table_remove(names, o->name);
		}
	}
	return names;
}

/* A write that had not been synced: none of it, all of it, or some of its sectors. */
static void write_some(GByteArray *file, const op *o, unsigned mode, kvt_rng *rng)
{
	for (uint64_t at = 0; at < o->size; at += SECTOR) {
		uint64_t piece = MIN(SECTOR, o->size - at), end = o->offset + at + piece;
		if (mode == 0 || (mode == 1 && kvt_rng_below(rng, 2) == 0))
			continue;
		if (file->len < end) {
			guint old = file->len;
			g_byte_array_set_size(file, (guint)end);
			memset(file->data + old, 0, (guint)end - old);
		}
		memcpy(file->data + o->offset + at, o->data + at, piece);
	}
}

static void resize(GByteArray *file, const op *o)
{
	guint old = file->len;
	if (o->grows_only && o->size <= old)
		return;
	g_byte_array_set_size(file, (guint)o->size);
	if (o->size > old)
		memset(file->data + old, 0, (guint)o->size - old);
}

static void make_file(const store_power *power, unsigned n, kvt_rng *rng, unsigned inode,
	unsigned whole, const char *path)
{
	GByteArray *file = g_byte_array_new();
	unsigned synced = 0;
	for (unsigned i = 0; i < n; i++) {
		const op *o = &g_array_index(power->ops, op, i);
		if (o->kind == OP_SYNC && o->inode == inode)
			synced = i;
	}
	for (unsigned i = 0; i < n; i++) {
		const op *o = &g_array_index(power->ops, op, i);
		/* unsynced writes each fare on their own: that is also any order of them */
		unsigned mode = i < synced  ? 2
				: whole < 3 ? whole
					    : (unsigned)kvt_rng_below(rng, 3);
		if (o->inode != inode)
			continue;
		if (o->kind == OP_WRITE)
			write_some(file, o, mode, rng);
		else if (o->kind == OP_SIZE && mode > 0)
			resize(file, o);
	}
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(
		kvt_store_write_all(&kvt_store_system_io, fd, file->data, file->len, 0), ==, 0);
	close(fd);
	g_byte_array_free(file, TRUE);
}

void store_power_cut(const store_power *power, unsigned n, kvt_rng *rng, const char *path)
{
	g_autoptr(GHashTable) names = names_after(power, n, rng);
	/* at times all or nothing of what was not synced, else each write as it comes */
	unsigned whole = (unsigned)kvt_rng_below(rng, 6);
	g_autoptr(GList) sorted = g_list_sort(g_hash_table_get_keys(names), (GCompareFunc)strcmp);
	for (GList *name = sorted; name; name = name->next) {
		unsigned inode = GPOINTER_TO_UINT(g_hash_table_lookup(names, name->data));
		g_autofree char *file = g_build_filename(path, name->data, NULL);
		make_file(power, n, rng, inode, whole, file);
	}
}
