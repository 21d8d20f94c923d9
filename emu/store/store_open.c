/* store_open.c: page stores made, opened, closed and described. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "emu/store/store_internal.h"
#include "sim/base/error.h"

#define NEW_FILE KVT_STORE_FILE KVT_STORE_NEW

const char *const kvt_store_sync_names[] = { "none", "data", NULL };

void *kvt_store_buffer_new(uint64_t size)
{
	uint64_t whole = (size + KVT_STORE_BLOCK - 1) / KVT_STORE_BLOCK * KVT_STORE_BLOCK;
	void *buffer = aligned_alloc(KVT_STORE_BLOCK, whole);
	if (!buffer)
		g_error("no memory for %" G_GUINT64_FORMAT " bytes", whole);
	return buffer;
}

void *kvt_store_buffer_new0(uint64_t size)
{
	uint64_t whole = (size + KVT_STORE_BLOCK - 1) / KVT_STORE_BLOCK * KVT_STORE_BLOCK;
	return memset(kvt_store_buffer_new(size), 0, whole);
}

void kvt_store_notice(const kvt_store *store, const char *format, ...)
{
	if (!store->settings.notice)
		return;
	va_list args;
	va_start(args, format);
	g_autofree char *line = g_strdup_vprintf(format, args);
	va_end(args);
	store->settings.notice(store->settings.arg, line);
}

void kvt_store_make_read_only(kvt_store *store, const char *what, int status)
{
	if (!store->read_only)
		kvt_store_notice(store, "%s: %s: %s; the store is read-only from now on",
			store->path, what, g_strerror(-status));
	store->read_only = true;
}

/* --- Making one --- */

static gboolean complete_shape(const char *path, kvt_store_shape *shape, GError **error)
{
	if (shape->segment_bytes == 0)
		shape->segment_bytes =
			CLAMP(shape->capacity / 256, UINT64_C(1) << 20, UINT64_C(16) << 30);
	shape->segment_bytes -= shape->segment_bytes % KVT_STORE_BLOCK;
	if (shape->segment_bytes < 16 * KVT_STORE_BLOCK)
		return kvt_error_usage(error,
			"%s: segments of %" G_GUINT64_FORMAT " bytes, expected at least 64KiB",
			path, shape->segment_bytes);
	uint64_t fixed = KVT_STORE_FILE_BLOCKS * KVT_STORE_BLOCK + kvt_store_journal_room(shape);
	if (shape->capacity < fixed || (shape->capacity - fixed) / shape->segment_bytes < 4)
		return kvt_error_usage(error,
			"%s: a capacity of %" G_GUINT64_FORMAT
			" bytes, expected room for four segments of %" G_GUINT64_FORMAT
			" and %" G_GUINT64_FORMAT " beside them",
			path, shape->capacity, shape->segment_bytes, fixed);
	while (shape->key == 0)
		if (getrandom(&shape->key, sizeof(shape->key), 0) < 0)
			return kvt_error_failed(
				error, "%s: no random key: %s", path, g_strerror(errno));
	return TRUE;
}

/* A directory with nothing in it but what an interrupted create has left. */
static gboolean prepare_directory(const char *path, GError **error)
{
	if (mkdir(path, 0700) == 0) /* what people asked a model is nobody else's to read */
		return TRUE;
	if (errno != EEXIST)
		return kvt_error_failed(error, "%s: cannot be made: %s", path, g_strerror(errno));
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	if (!dir)
		return kvt_error_usage(error,
			"%s: not a directory that can be read, expected a "
			"new or an empty one",
			path);
	for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
		if (strcmp(name, KVT_STORE_FILE) == 0)
			return kvt_error_usage(error, "%s: is a page store already", path);
		if (strcmp(name, KVT_STORE_JOURNAL) != 0 && strcmp(name, NEW_FILE) != 0 &&
			strcmp(name, KVT_STORE_JOURNAL KVT_STORE_NEW) != 0)
			return kvt_error_usage(error,
				"%s: is not empty, expected a new or an empty directory", path);
	}
	return TRUE;
}

static int write_super(kvt_store *store)
{
	const kvt_store_io *io = store->io;
	uint64_t size = KVT_STORE_FILE_BLOCKS * KVT_STORE_BLOCK;
	uint8_t *blocks = kvt_store_buffer_new(size);
	for (unsigned i = 0; i < KVT_STORE_SUPER_BLOCKS; i++)
		kvt_store_super_encode(&store->shape, blocks + i * KVT_STORE_BLOCK);
	kvt_store_mark_encode(
		store->shape.key, "", blocks + KVT_STORE_SUPER_BLOCKS * KVT_STORE_BLOCK);
	int fd = io->open(io->arg, store->dir, NEW_FILE, O_RDWR | O_CREAT | O_TRUNC, 0600);
	int status = fd < 0 ? fd : kvt_store_write_all(io, fd, blocks, size, 0);
	if (status == 0)
		status = io->sync(io->arg, fd);
	if (fd >= 0)
		io->close(io->arg, fd);
	if (status == 0)
		status = io->rename(io->arg, store->dir, NEW_FILE, KVT_STORE_FILE);
	if (status == 0)
		status = io->sync_dir(io->arg, store->dir);
	free(blocks);
	return status;
}

static kvt_store *store_new(const char *path, const kvt_store_settings *settings)
{
	kvt_store *store = g_new0(kvt_store, 1);
	pthread_mutex_init(&store->lock, NULL);
	store->path = g_strdup(path);
	store->dir = store->file = store->journal.fd = -1;
	if (settings)
		store->settings = *settings;
	store->io = store->settings.io ? store->settings.io : &kvt_store_system_io;
	store->read_only = store->settings.read_only;
	store->direct = store->settings.direct;
	store->streams = kvt_store_streams_new();
	store->segments = g_ptr_array_new();
	store->next_number = store->generation = 1;
	g_autofree char *boot = NULL;
	if (!store->settings.boot)
		g_file_get_contents("/proc/sys/kernel/random/boot_id", &boot, NULL, NULL);
	g_strlcpy(store->boot,
		settings && settings->boot ? settings->boot
		: boot                     ? boot
					   : "?",
		sizeof(store->boot));
	g_strchomp(store->boot);
	return store;
}

static void close_fd(const kvt_store *store, int fd)
{
	if (fd >= 0)
		store->io->close(store->io->arg, fd);
}

void kvt_store_drop(kvt_store *store)
{
	if (!store)
		return;
	kvt_store_ahead_stop(store, false);
	store->read_only = true;
	while (store->segments->len > 0) {
		kvt_store_file *file = g_ptr_array_index(store->segments, store->segments->len - 1);
		for (guint i = 0; i < file->records->len; i++) {
			kvt_store_record *record = g_ptr_array_index(file->records, i);
			if (record->live_pages > 0)
				kvt_store_index_remove(store, record->stream, record->first_page,
					kvt_store_end(record), record);
		}
		kvt_store_segment_free(store, file);
	}
	close_fd(store, store->journal.fd);
	close_fd(store, store->file);
	if (store->dir >= 0)
		close(store->dir);
	kvt_store_device_free(store->device);
	g_hash_table_destroy(store->streams);
	g_ptr_array_free(store->segments, TRUE);
	g_free(store->slots);
	g_free(store->path);
	pthread_mutex_destroy(&store->lock);
	g_free(store);
}

/* A block device, or a file that stands for one. */
static bool is_device(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && (S_ISBLK(st.st_mode) || S_ISREG(st.st_mode));
}

/* Whether a superblock of a page store, of any version, can be read. */
static bool has_super(const kvt_store *store)
{
	const kvt_store_io *io = store->io;
	kvt_store_shape shape;
	uint8_t *block = kvt_store_buffer_new(KVT_STORE_BLOCK);
	int fd = io->open(io->arg, store->dir, KVT_STORE_FILE, O_RDONLY, 0);
	bool found = false;
	for (unsigned i = 0; i < KVT_STORE_SUPER_BLOCKS && fd >= 0 && !found; i++)
		found = kvt_store_read_all(io, fd, block, KVT_STORE_BLOCK,
				(uint64_t)i * KVT_STORE_BLOCK) == 0 &&
			kvt_store_super_decode(block, &shape) != -EBADMSG;
	close_fd(store, fd);
	free(block);
	return found;
}

/* Keeps other processes out, of which many may read or one write. */
static gboolean lock_file(const kvt_store *store, GError **error)
{
	int kind = store->read_only ? LOCK_SH : LOCK_EX;
	if (flock(store->file, kind | LOCK_NB) == 0)
		return TRUE;
	if (errno == EWOULDBLOCK)
		return kvt_error_failed(error,
			"%s: another process has it open, expected one at a time", store->path);
	return kvt_error_failed(error, "%s: cannot be locked: %s", store->path, g_strerror(errno));
}

/* All of the device where no capacity is given. */
static gboolean fit_device(kvt_store *store, GError **error)
{
	kvt_store_shape *shape = &store->shape;
	uint64_t bytes = kvt_store_device_bytes(store->device);
	bool all = shape->capacity == 0;
	if (all)
		shape->capacity = bytes;
	if (!complete_shape(store->path, shape, error))
		return FALSE;
	while (all && kvt_store_device_needs(shape) > bytes &&
		shape->capacity > shape->segment_bytes)
		shape->capacity -= shape->segment_bytes;
	if (!complete_shape(store->path, shape, error))
		return FALSE;
	if (shape->capacity / shape->segment_bytes > KVT_STORE_PLACES)
		return kvt_error_usage(error,
			"%s: a capacity of %" G_GUINT64_FORMAT " segments, expected at most %u of "
			"a device: larger ones",
			store->path, shape->capacity / shape->segment_bytes, KVT_STORE_PLACES);
	if (kvt_store_device_needs(shape) > bytes)
		return kvt_error_usage(error,
			"%s: has %" G_GUINT64_FORMAT " bytes, expected %" G_GUINT64_FORMAT
			" for a capacity of %" G_GUINT64_FORMAT,
			store->path, bytes, kvt_store_device_needs(shape), shape->capacity);
	return TRUE;
}

static gboolean open_device(kvt_store *store, GError **error)
{
	int status =
		kvt_store_device_open(store->path, store->io, store->read_only, &store->device);
	if (!store->read_only && (status == -EROFS || status == -EACCES || status == -EPERM)) {
		kvt_store_make_read_only(store, "the device cannot be written", status);
		status = kvt_store_device_open(store->path, store->io, true, &store->device);
	}
	if (status == -EBUSY)
		return kvt_error_failed(error,
			"%s: is mounted or another program has it open, expected a device of its "
			"own",
			store->path);
	if (status < 0)
		return kvt_error_failed(
			error, "%s: cannot be opened: %s", store->path, g_strerror(-status));
	store->io = kvt_store_device_io(store->device);
	return TRUE;
}

/* Whatever is on the device stays there unless the caller knows of it. */
static gboolean prepare_device(kvt_store *store, GError **error)
{
	if (!open_device(store, error) || !fit_device(store, error))
		return FALSE;
	store->file = store->io->open(store->io->arg, -1, KVT_STORE_FILE, O_RDWR, 0);
	if (store->file >= 0 && !lock_file(store, error))
		return FALSE;
	int blank = store->settings.overwrite ? 1 : kvt_store_device_blank(store->device);
	if (blank == 0 && has_super(store))
		return kvt_error_usage(error, "%s: is a page store already", store->path);
	if (blank == 0)
		return kvt_error_usage(error,
			"%s: holds something: its first and last MiB are not all zeros, expected "
			"an empty device, or to be told to overwrite it",
			store->path);
	int status = MIN(MIN(store->file, blank), 0);
	if (status == 0)
		status = kvt_store_device_format(store->device, &store->shape);
	return status == 0 || kvt_error_failed(error, "%s: cannot be made a page store: %s",
				      store->path, g_strerror(-status));
}

static gboolean prepare_folder(kvt_store *store, GError **error)
{
	if (store->settings.overwrite)
		return kvt_error_usage(error,
			"%s: only devices are overwritten, expected a new or an empty directory",
			store->path);
	if (!complete_shape(store->path, &store->shape, error) ||
		!prepare_directory(store->path, error))
		return FALSE;
	store->dir = open(store->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return store->dir >= 0 ||
	       kvt_error_failed(error, "%s: cannot be opened: %s", store->path, g_strerror(errno));
}

gboolean kvt_store_create(const char *path, const kvt_store_shape *shape,
	const kvt_store_settings *settings, GError **error)
{
	kvt_store *store = store_new(path, settings);
	store->shape = *shape;
	bool device = is_device(path);
	if (!(device ? prepare_device : prepare_folder)(store, error)) {
		kvt_store_drop(store);
		return FALSE;
	}
	int status = kvt_store_journal_renew(store);
	if (status == 0)
		status = write_super(store);
	kvt_store_drop(store);
	return status == 0 || kvt_error_failed(error, "%s: cannot be made a page store: %s", path,
				      g_strerror(-status));
}

bool kvt_store_exists(const char *path)
{
	kvt_store_settings settings = { .read_only = true };
	kvt_store *store = store_new(path, &settings);
	bool there = false;
	if (is_device(path)) {
		there = open_device(store, NULL) && has_super(store);
	} else {
		store->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		there = store->dir >= 0 && faccessat(store->dir, KVT_STORE_FILE, F_OK, 0) == 0;
	}
	kvt_store_drop(store);
	return there;
}

/* --- Opening --- */

static gboolean open_folder(kvt_store *store, GError **error)
{
	store->dir = open(store->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store->dir < 0)
		return (errno == ENOENT || errno == ENOTDIR ? kvt_error_usage : kvt_error_failed)(
			error, "%s: cannot be opened: %s", store->path, g_strerror(errno));
	if (!store->read_only && faccessat(store->dir, ".", W_OK | X_OK, 0) < 0)
		kvt_store_make_read_only(store, "the directory cannot be written", -errno);
	return TRUE;
}

/* Whether it can be written; where not, the store is opened read-only. */
static gboolean open_file(kvt_store *store, GError **error)
{
	if (!(is_device(store->path) ? open_device : open_folder)(store, error))
		return FALSE;
	const kvt_store_io *io = store->io;
	int fd = -EROFS;
	if (!store->read_only) {
		fd = io->open(io->arg, store->dir, KVT_STORE_FILE, O_RDWR, 0);
		if (fd == -EROFS || fd == -EACCES || fd == -EPERM)
			kvt_store_make_read_only(store, "the directory cannot be written", fd);
	}
	if (store->read_only)
		fd = io->open(io->arg, store->dir, KVT_STORE_FILE, O_RDONLY, 0);
	if (fd == -ENOENT)
		return kvt_error_usage(error,
			"%s: is not a page store, expected a directory "
			"made by `kvtier store create`",
			store->path);
	if (fd < 0)
		return kvt_error_failed(
			error, "%s: " KVT_STORE_FILE ": %s", store->path, g_strerror(-fd));
	store->file = fd;
	return lock_file(store, error);
}

/* A copy that is not like the good one is written again. */
static void mend_super(kvt_store *store, unsigned copy)
{
	uint64_t at = (uint64_t)copy * KVT_STORE_BLOCK;
	uint8_t *block = kvt_store_buffer_new(KVT_STORE_BLOCK);
	kvt_store_notice(store, "%s: copy %u of the superblock is damaged%s", store->path, copy + 1,
		store->read_only ? "" : ", and is written again");
	kvt_store_super_encode(&store->shape, block);
	if (!store->read_only &&
		kvt_store_write_all(store->io, store->file, block, KVT_STORE_BLOCK, at) == 0)
		store->io->sync(store->io->arg, store->file);
	free(block);
}

/* The superblock, from whichever copy is good. */
static int read_copies(kvt_store *store)
{
	uint8_t *block = kvt_store_buffer_new(KVT_STORE_BLOCK);
	int status[KVT_STORE_SUPER_BLOCKS];
	for (unsigned i = 0; i < KVT_STORE_SUPER_BLOCKS; i++) {
		kvt_store_shape shape;
		status[i] = kvt_store_read_all(store->io, store->file, block, KVT_STORE_BLOCK,
			(uint64_t)i * KVT_STORE_BLOCK);
		if (status[i] == 0)
			status[i] = kvt_store_super_decode(block, &shape);
		if (status[i] == -ENODATA)
			status[i] = -EBADMSG;
		if (status[i] == 0)
			store->shape = shape;
	}
	free(block);
	for (unsigned i = 0; i < KVT_STORE_SUPER_BLOCKS; i++)
		if (status[i] == -EBADMSG && status[1 - i] == 0)
			mend_super(store, i);
	return status[0] == 0 || status[1] == 0 ? 0 : status[0];
}

static gboolean read_super(kvt_store *store, GError **error)
{
	int status = read_copies(store);
	if (status == -EPROTONOSUPPORT)
		return kvt_error_failed(error, "%s: is of another version, expected version %u",
			store->path, KVT_STORE_VERSION);
	if (status == -EBADMSG && store->device)
		return kvt_error_usage(error,
			"%s: holds no page store, or its superblock is damaged, expected a device "
			"made one by `kvtier store create`",
			store->path);
	if (status < 0)
		return kvt_error_failed(error, "%s: " KVT_STORE_FILE " %s%s", store->path,
			status == -EBADMSG ? "is damaged" : "cannot be read: ",
			status == -EBADMSG ? "" : g_strerror(-status));
	/* whoever wrote it held to this; what is not so would overflow below */
	kvt_store_shape shape = store->shape;
	if (!complete_shape(store->path, &shape, error))
		return FALSE;
	store->n_slots = (uint32_t)MIN(2 * (shape.capacity / shape.segment_bytes) + 64, 1u << 20);
	store->slots = g_new0(kvt_store_file *, store->n_slots);
	return TRUE;
}

int kvt_store_write_mark(kvt_store *store, const char *boot)
{
	if (store->shape.sync != KVT_STORE_SYNC_NONE)
		return 0;
	uint8_t *block = kvt_store_buffer_new(KVT_STORE_BLOCK);
	kvt_store_mark_encode(store->shape.key, boot, block);
	int status = kvt_store_write_all(store->io, store->file, block, KVT_STORE_BLOCK,
		KVT_STORE_SUPER_BLOCKS * KVT_STORE_BLOCK);
	free(block);
	return status == 0 ? store->io->sync(store->io->arg, store->file) : status;
}

static gboolean attach_device(kvt_store *store, GError **error)
{
	int status = store->device ? kvt_store_device_attach(store->device, &store->shape) : 0;
	if (status == -ENOSPC)
		return kvt_error_failed(error,
			"%s: has %" G_GUINT64_FORMAT " bytes, expected %" G_GUINT64_FORMAT
			": it is not all of the device that was made a page store",
			store->path, kvt_store_device_bytes(store->device),
			kvt_store_device_needs(&store->shape));
	if (status == -EBADMSG)
		kvt_store_notice(store, "%s: the table of its segments is damaged", store->path);
	return TRUE;
}

kvt_store *kvt_store_open(const char *path, const kvt_store_settings *settings, GError **error)
{
	kvt_store *store = store_new(path, settings);
	if (open_file(store, error) && read_super(store, error) && attach_device(store, error) &&
		kvt_store_recover(store, error)) {
		if (store->settings.ahead && !store->read_only)
			kvt_store_ahead_start(store);
		return store;
	}
	kvt_store_drop(store);
	return NULL;
}

static int sync_all(kvt_store *store)
{
	const kvt_store_io *io = store->io;
	int status = 0;
	/* a device is synced whole */
	for (guint i = 0; i < store->segments->len && status == 0 && !store->device; i++) {
		const kvt_store_file *file = g_ptr_array_index(store->segments, i);
		status = io->sync(io->arg, file->fd);
	}
	if (status == 0)
		status = io->sync(io->arg, store->journal.fd);
	if (status == 0)
		status = io->sync_dir(io->arg, store->dir);
	return status;
}

gboolean kvt_store_close(kvt_store *store, GError **error)
{
	int status = 0;
	g_assert(store->count.readers == 0 && store->count.writers == 0);
	kvt_store_ahead_stop(store, true);
	kvt_store_tidy(store);
	if (!store->read_only) {
		if (store->active)
			kvt_store_segment_close(store, store->active);
		if (store->shape.sync == KVT_STORE_SYNC_NONE)
			status = sync_all(store);
		if (status == 0)
			status = kvt_store_write_mark(store, "");
	}
	if (status < 0)
		kvt_error_failed(error, "%s: not everything could be made durable: %s", store->path,
			g_strerror(-status));
	kvt_store_drop(store);
	return status == 0;
}

/* --- What it is --- */

void kvt_store_info_get(kvt_store *store, kvt_store_info *info)
{
	pthread_mutex_lock(&store->lock);
	*info = store->count;
	info->shape = store->shape;
	info->read_only = store->read_only;
	info->direct = store->direct;
	info->used = store->used + KVT_STORE_FILE_BLOCKS * KVT_STORE_BLOCK +
		     kvt_store_journal_room(&store->shape);
	info->free = kvt_store_segment_room(store);
	if (store->active)
		info->free += store->active->bytes - store->active->used;
	info->segments = store->segments->len;
	for (guint i = 0; i < store->segments->len; i++) {
		const kvt_store_file *file = g_ptr_array_index(store->segments, i);
		info->sealed += file->sealed;
		info->draining += file->draining;
		info->damaged += file->damaged;
		info->records += file->records->len;
		info->pages += file->live_pages;
		info->page_bytes += file->live_page_bytes;
		info->dead_page_bytes += file->page_bytes - file->live_page_bytes;
	}
	GHashTableIter iter;
	gpointer stream;
	g_hash_table_iter_init(&iter, store->streams);
	while (g_hash_table_iter_next(&iter, &stream, NULL))
		info->runs += kvt_store_spans_count(&((kvt_store_stream *)stream)->live);
	info->streams = g_hash_table_size(store->streams);
	info->generation = store->generation;
	info->memory = kvt_store_index_memory(store);
	pthread_mutex_unlock(&store->lock);
}

unsigned kvt_store_segments(kvt_store *store, kvt_store_segment *segments, unsigned max)
{
	pthread_mutex_lock(&store->lock);
	unsigned n = store->segments->len;
	for (unsigned i = 0; i < MIN(n, max); i++)
		kvt_store_segment_describe(g_ptr_array_index(store->segments, i), &segments[i]);
	pthread_mutex_unlock(&store->lock);
	return n;
}

uint32_t kvt_store_slots(const kvt_store *store)
{
	return store->n_slots;
}
