/*
 * store_segment.c: the page store's segment files: made at full length, filled, sealed with an
 * index behind their records, evicted, removed once nothing holds them.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "emu/store/store_internal.h"

char *kvt_store_segment_name(uint64_t number)
{
	return g_strdup_printf("%016" PRIx64 KVT_STORE_SEGMENT_SUFFIX, number);
}

static uint32_t free_slot(const kvt_store *store)
{
	uint32_t slot = 0;
	while (slot < store->n_slots && store->slots[slot])
		slot++;
	return slot;
}

kvt_store_file *kvt_store_segment_new(kvt_store *store, uint64_t number, int fd)
{
	uint32_t slot = free_slot(store);
	g_assert(slot < store->n_slots);
	kvt_store_file *file = g_new0(kvt_store_file, 1);
	file->number = number;
	file->slot = slot;
	file->fd = fd;
	file->base = store->io->base(store->io->arg, fd);
	file->used = KVT_STORE_BLOCK;
	file->records = g_ptr_array_new();
	store->slots[slot] = file;
	g_ptr_array_add(store->segments, file);
	if (store->settings.slot_changed)
		store->settings.slot_changed(store->settings.arg, slot, fd);
	return file;
}

void kvt_store_segment_free(kvt_store *store, kvt_store_file *file)
{
	if (store->settings.slot_changed)
		store->settings.slot_changed(store->settings.arg, file->slot, -1);
	store->io->close(store->io->arg, file->fd);
	store->slots[file->slot] = NULL;
	if (store->active == file)
		store->active = NULL;
	if (store->resumable == file)
		store->resumable = NULL;
	g_ptr_array_remove(store->segments, file);
	for (guint i = 0; i < file->records->len; i++)
		kvt_store_record_free(store, g_ptr_array_index(file->records, i));
	g_ptr_array_free(file->records, TRUE);
	g_free(file);
}

int kvt_store_segment_open_file(kvt_store *store, const char *name, int flags)
{
	const kvt_store_io *io = store->io;
	int fd = io->open(io->arg, store->dir, name, flags | (store->direct ? O_DIRECT : 0), 0600);
	if (fd != -EINVAL || !store->direct)
		return fd;
	store->direct = false;
	/* it may have been made all the same */
	fd = io->open(io->arg, store->dir, name, flags & ~O_EXCL, 0600);
	if (fd >= 0)
		kvt_store_notice(store,
			"%s: the file system has no O_DIRECT, files are read "
			"through the page cache",
			store->path);
	return fd;
}

uint64_t kvt_store_segment_charge(const kvt_store *store, uint64_t bytes)
{
	return store->device ? store->shape.segment_bytes : bytes;
}

/* Where the file ends when it is sealed. */
static uint64_t sealed_bytes(const kvt_store_file *file)
{
	uint64_t blocks = (file->index_bytes + KVT_STORE_BLOCK - 1) / KVT_STORE_BLOCK;
	return file->used + (blocks + 1) * KVT_STORE_BLOCK;
}

bool kvt_store_segment_has_room(
	const kvt_store *store, const kvt_store_file *file, const kvt_store_run *run)
{
	return sealed_bytes(file) + kvt_store_run_cost(run) <= store->shape.segment_bytes;
}

static bool within_capacity(const kvt_store *store, uint64_t more)
{
	uint64_t fixed =
		KVT_STORE_FILE_BLOCKS * KVT_STORE_BLOCK + kvt_store_journal_room(&store->shape);
	return store->used + fixed + more <= store->shape.capacity;
}

uint64_t kvt_store_segment_room(const kvt_store *store)
{
	const kvt_store_shape *shape = &store->shape;
	uint64_t taken = store->used + KVT_STORE_FILE_BLOCKS * KVT_STORE_BLOCK +
			 kvt_store_journal_room(shape) +
			 (store->settings.evict ? 0 : shape->segment_bytes);
	uint64_t left = shape->capacity > taken ? shape->capacity - taken : 0;
	return left - left % shape->segment_bytes + kvt_store_ahead_bytes(store);
}

/* A full disk, however the system says it. */
static int no_space(int status)
{
	return status == -EFBIG || status == -EDQUOT ? -ENOSPC : status;
}

/* The file that was opened, allocated and begun; or it goes again. */
static int prepare_file(const kvt_store *store, int fd, uint64_t number)
{
	const kvt_store_io *io = store->io;
	bool durable = store->shape.sync == KVT_STORE_SYNC_DATA;
	uint8_t *block = kvt_store_buffer_new(KVT_STORE_BLOCK);
	kvt_store_segment_encode(store->shape.key, number, block);
	int status = io->allocate(io->arg, fd, store->shape.segment_bytes);
	if (status == 0)
		status = kvt_store_write_all(io, fd, block, KVT_STORE_BLOCK, 0);
	if (status == 0 && durable)
		status = io->sync(io->arg, fd);
	if (status == 0 && durable)
		status = io->sync_dir(io->arg, store->dir);
	free(block);
	if (status == 0)
		return fd;
	io->close(io->arg, fd);
	kvt_store_segment_remove_file(store, number);
	return no_space(status);
}

int kvt_store_segment_remove_file(const kvt_store *store, uint64_t number)
{
	g_autofree char *name = kvt_store_segment_name(number);
	return store->io->unlink(store->io->arg, store->dir, name);
}

int kvt_store_segment_make_file(const kvt_store *store, uint64_t number, int flags)
{
	g_autofree char *name = kvt_store_segment_name(number);
	int fd = store->io->open(store->io->arg, store->dir, name, flags, 0600);
	return fd < 0 ? fd : prepare_file(store, fd, number);
}

/* A sealed segment with much room left takes records again: short runs of the program would leave
 * ever more small files otherwise. Its old index is overwritten, or no longer at the end. */
static int resume(kvt_store *store, bool spare)
{
	kvt_store_file *file = store->resumable;
	uint64_t more = store->shape.segment_bytes - file->bytes;
	uint64_t reserve = spare || store->settings.evict ? 0 : store->shape.segment_bytes;
	if (!within_capacity(store, more + reserve))
		return -ENOSPC;
	int status =
		no_space(store->io->allocate(store->io->arg, file->fd, store->shape.segment_bytes));
	if (status < 0)
		return status;
	store->used += more;
	file->bytes = store->shape.segment_bytes;
	file->closed = file->sealed = false;
	store->active = file;
	store->resumable = NULL;
	return 0;
}

/* The file of a new segment, counted as used, that the journal does not know yet. */
static int next_file(kvt_store *store, bool spare, uint64_t *number)
{
	/* gc needs somewhere to move pages to */
	uint64_t segments = spare || store->settings.evict ? 1 : 2;
	uint64_t bytes = segments * store->shape.segment_bytes;
	int fd;
	if (kvt_store_ahead_take(store, number, &fd))
		return fd;
	/* what is being sealed becomes shorter */
	if (!within_capacity(store, bytes))
		kvt_store_ahead_flush(store);
	if (!within_capacity(store, bytes))
		return -ENOSPC;
	g_autofree char *name = kvt_store_segment_name(store->next_number);
	fd = kvt_store_segment_open_file(store, name, O_RDWR | O_CREAT | O_EXCL);
	if (fd >= 0)
		fd = prepare_file(store, fd, store->next_number);
	if (fd >= 0) {
		*number = store->next_number++;
		store->used += store->shape.segment_bytes;
	}
	return fd;
}

static int make_file(kvt_store *store, bool spare, uint64_t *number)
{
	int fd = next_file(store, spare, number);
	if (fd < 0)
		return fd;
	kvt_store_entry entry = { .kind = KVT_STORE_ENTRY_ADDED, .number = *number };
	int status = no_space(kvt_store_journal_append(store, &entry, 1));
	if (status == 0)
		return fd;
	store->io->close(store->io->arg, fd);
	kvt_store_segment_remove_file(store, *number);
	store->used -= store->shape.segment_bytes;
	return status;
}

int kvt_store_segment_start(kvt_store *store, const kvt_store_run *run, bool spare)
{
	if (store->read_only)
		return -EROFS;
	if (store->resumable && !store->active &&
		kvt_store_segment_has_room(store, store->resumable, run) &&
		resume(store, spare) == 0)
		return 0;
	if (free_slot(store) == store->n_slots)
		return -ENOSPC;
	uint64_t number;
	int fd = make_file(store, spare, &number);
	if (fd < 0) {
		if (fd != -ENOSPC && fd != -EMFILE && fd != -ENFILE && fd != -ENOMEM)
			kvt_store_make_read_only(store, "a segment cannot be made", fd);
		return fd;
	}
	if (store->active)
		kvt_store_segment_close(store, store->active);
	kvt_store_file *file = kvt_store_segment_new(store, number, fd);
	file->bytes = store->shape.segment_bytes;
	store->active = file;
	return 0;
}

/* The index and the trailer, as they follow the records. */
static uint8_t *encode_index(const kvt_store *store, const kvt_store_file *file, uint64_t size)
{
	uint8_t *blocks = kvt_store_buffer_new0(size);
	uint8_t *at = blocks;
	kvt_store_trailer trailer = { .segment = file->number, .index_offset = file->used };
	for (guint i = 0; i < file->records->len; i++) {
		const kvt_store_record *record = g_ptr_array_index(file->records, i);
		if (!record->published)
			continue;
		kvt_store_header header;
		kvt_store_record_header(record, &header);
		at = kvt_store_index_encode(&header, record->checksums, at);
		trailer.records++;
	}
	trailer.index_bytes = (uint64_t)(at - blocks);
	trailer.index_hash = kvt_store_index_hash(store->shape.key, blocks, trailer.index_bytes);
	kvt_store_trailer_encode(store->shape.key, &trailer, blocks + size - KVT_STORE_BLOCK);
	return blocks;
}

void kvt_store_seal_begin(
	const kvt_store *store, const kvt_store_file *file, kvt_store_seal_work *work)
{
	work->fd = file->fd;
	work->at = file->used;
	work->size = sealed_bytes(file) - file->used;
	work->blocks = encode_index(store, file, work->size);
}

int kvt_store_seal_write(const kvt_store *store, kvt_store_seal_work *work)
{
	const kvt_store_io *io = store->io;
	int status = kvt_store_write_all(io, work->fd, work->blocks, work->size, work->at);
	free(work->blocks);
	if (status == 0)
		status = io->truncate(io->arg, work->fd, work->at + work->size);
	if (status == 0 && store->shape.sync == KVT_STORE_SYNC_DATA)
		status = io->sync(io->arg, work->fd);
	return status;
}

void kvt_store_seal_end(kvt_store *store, kvt_store_file *file, const kvt_store_seal_work *work)
{
	store->used -= file->bytes;
	file->bytes = kvt_store_segment_charge(store, work->at + work->size);
	store->used += file->bytes;
	file->sealed = true;
}

static void seal(kvt_store *store, kvt_store_file *file)
{
	kvt_store_seal_work work;
	kvt_store_seal_begin(store, file, &work);
	int status = kvt_store_seal_write(store, &work);
	if (status == 0) {
		kvt_store_seal_end(store, file, &work);
		return;
	}
	/* it is read whole at the next opening then */
	file->sealed = true;
	kvt_store_notice(store, "%s: the index of segment %" PRIu64 " was not written: %s",
		store->path, file->number, g_strerror(-status));
}

void kvt_store_segment_close(kvt_store *store, kvt_store_file *file)
{
	file->closed = true;
	if (store->active == file)
		store->active = NULL;
	kvt_store_segment_settle(store, file);
}

static void remove_file(kvt_store *store, kvt_store_file *file)
{
	int status = store->read_only ? -EROFS : kvt_store_segment_remove_file(store, file->number);
	if (status == 0 && file->untold)
		status = store->io->sync_dir(store->io->arg, store->dir);
	if (status == 0 || status == -ENOENT)
		store->used -= file->bytes;
	else if (!store->read_only)
		kvt_store_make_read_only(store, "a segment cannot be removed", status);
	kvt_store_segment_free(store, file);
}

void kvt_store_segment_evict(kvt_store *store, kvt_store_file *file)
{
	g_assert(file->writers == 0);
	file->closed = true;
	if (store->active == file)
		store->active = NULL;
	if (store->resumable == file)
		store->resumable = NULL;
	for (guint i = 0; i < file->records->len && file->live_pages > 0; i++) {
		kvt_store_record *record = g_ptr_array_index(file->records, i);
		if (record->live_pages > 0)
			store->count.evicted_pages += kvt_store_index_remove(store, record->stream,
				record->first_page, kvt_store_end(record), record);
	}
	file->draining = true;
	kvt_store_entry entry = { .kind = KVT_STORE_ENTRY_REMOVED, .number = file->number };
	file->untold = kvt_store_journal_append(store, &entry, 1) < 0;
	kvt_store_segment_settle(store, file);
}

void kvt_store_segment_settle(kvt_store *store, kvt_store_file *file)
{
	if (file->writers > 0)
		return;
	if (file->draining) {
		if (file->readers == 0)
			remove_file(store, file);
		return;
	}
	if (store->read_only)
		return;
	if (file->condemned || (file->closed && file->live_pages == 0)) {
		kvt_store_segment_evict(store, file);
		return;
	}
	if (file->closed && !file->sealed && !file->sealing && !kvt_store_ahead_seal(store, file))
		seal(store, file);
}

void kvt_store_segment_describe(const kvt_store_file *file, kvt_store_segment *to)
{
	*to = (kvt_store_segment){ .number = file->number,
		.slot = file->slot,
		.bytes = file->bytes,
		.pages = file->pages,
		.page_bytes = file->page_bytes,
		.live_pages = file->live_pages,
		.live_page_bytes = file->live_page_bytes,
		.newest_use = file->newest_use,
		.readers = file->readers,
		.writers = file->writers,
		.sealed = file->sealed,
		.draining = file->draining,
		.damaged = file->damaged };
}

bool kvt_store_segment_evict_one(kvt_store *store)
{
	kvt_store_ahead_flush(store);
	g_autoptr(GPtrArray) files = g_ptr_array_new();
	g_autoptr(GArray) candidates = g_array_new(FALSE, FALSE, sizeof(kvt_store_segment));
	for (guint i = 0; i < store->segments->len; i++) {
		kvt_store_file *file = g_ptr_array_index(store->segments, i);
		if (!file->closed || file->draining || file->readers > 0 || file->writers > 0)
			continue;
		kvt_store_segment segment;
		kvt_store_segment_describe(file, &segment);
		g_array_append_val(candidates, segment);
		g_ptr_array_add(files, file);
	}
	if (store->read_only || files->len == 0)
		return false;
	unsigned chosen = 0;
	if (store->settings.choose)
		chosen = store->settings.choose(store->settings.arg,
			(const kvt_store_segment *)candidates->data, candidates->len);
	if (chosen >= files->len)
		return false;
	store->count.evicted_segments++;
	kvt_store_segment_evict(store, g_ptr_array_index(files, chosen));
	return true;
}
