/*
 * store_journal.c: the page store's journal: which segments there are, and from which generation on
 * pages are good (what was discarded or overwritten must not come back, whatever becomes of the
 * record that replaced it). Blocks are written in pairs, so that one bad sector loses nothing; a
 * pair that is lost before the last one means that revocations are lost, and the store is emptied.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "emu/store/store_internal.h"

#define NEW_JOURNAL KVT_STORE_JOURNAL KVT_STORE_NEW

/* A new journal goes on from a multiple of it: on a device it comes to lie where an older one was,
 * whose pairs must not be taken for its own. */
#define JOURNAL_STEP (UINT64_C(1) << 32)

enum { PAIR = 2 * KVT_STORE_BLOCK };

uint64_t kvt_store_journal_room(const kvt_store_shape *shape)
{
	uint64_t room = CLAMP(shape->capacity / 128, 128u << 10, 256u << 20);
	return room / (2 * PAIR) * (2 * PAIR);
}

uint64_t kvt_store_journal_entries(const kvt_store_shape *shape)
{
	/* to begin anew each time would cost more than it is worth */
	uint64_t half = kvt_store_journal_room(shape) / 2;
	return (half - half / 4) / PAIR * KVT_STORE_JOURNAL_ENTRIES;
}

/* Pairs of blocks with the entries; at least one. Returns their bytes. */
static uint64_t encode(const kvt_store *store, uint64_t sequence, const kvt_store_entry *entries,
	unsigned n, uint8_t **blocks)
{
	unsigned pairs = MAX(1, (n + KVT_STORE_JOURNAL_ENTRIES - 1) / KVT_STORE_JOURNAL_ENTRIES);
	kvt_store_journal_block block = { .next_generation = store->generation,
		.next_number = store->next_number };
	*blocks = kvt_store_buffer_new((uint64_t)pairs * PAIR);
	for (unsigned i = 0; i < pairs; i++) {
		block.sequence = sequence + i;
		block.n = MIN(n, KVT_STORE_JOURNAL_ENTRIES);
		if (block.n > 0)
			memcpy(block.entries, entries, block.n * sizeof(*entries));
		entries += block.n;
		n -= block.n;
		uint8_t *at = *blocks + (uint64_t)i * PAIR;
		kvt_store_journal_encode(store->shape.key, &block, at);
		memcpy(at + KVT_STORE_BLOCK, at, KVT_STORE_BLOCK);
	}
	return (uint64_t)pairs * PAIR;
}

/* Everything that must be known: segments, and floors of layers that have records. */
static GArray *entries_needed(kvt_store *store)
{
	kvt_store_floors_prune(store);
	GArray *entries = g_array_new(FALSE, FALSE, sizeof(kvt_store_entry));
	for (guint i = 0; i < store->segments->len; i++) {
		const kvt_store_file *file = g_ptr_array_index(store->segments, i);
		kvt_store_entry entry = { .kind = KVT_STORE_ENTRY_ADDED, .number = file->number };
		if (!file->draining)
			g_array_append_val(entries, entry);
	}
	GHashTableIter iter;
	gpointer key;
	g_hash_table_iter_init(&iter, store->streams);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		const kvt_store_stream *stream = key;
		const kvt_store_span *span = kvt_store_spans_at(&stream->floors, 0);
		for (; span; span = kvt_store_spans_at(&stream->floors, span->end)) {
			kvt_store_entry entry = kvt_store_floor_entry(
				stream, span->first, span->end, span->generation);
			g_array_append_val(entries, entry);
		}
	}
	return entries;
}

static int put_in_place(kvt_store *store, int fd, const uint8_t *blocks, uint64_t bytes)
{
	const kvt_store_io *io = store->io;
	int status = kvt_store_write_all(io, fd, blocks, bytes, 0);
	if (status == 0)
		status = io->sync(io->arg, fd);
	if (status == 0)
		status = io->rename(io->arg, store->dir, NEW_JOURNAL, KVT_STORE_JOURNAL);
	if (status < 0)
		io->unlink(io->arg, store->dir, NEW_JOURNAL);
	return status;
}

/* Where a new journal's sequence begins. One that follows no other may lie where any older one of
 * the device was: there is no telling which multiples are free, and many. */
static int next_sequence(const kvt_store *store, uint64_t *sequence)
{
	uint64_t step = store->journal.sequence / JOURNAL_STEP;
	uint32_t any = 0;
	if (step == 0 && store->device && getrandom(&any, sizeof(any), 0) < 0)
		return -errno;
	*sequence = (step + any / 2 + 1) * JOURNAL_STEP;
	return 0;
}

int kvt_store_journal_renew(kvt_store *store)
{
	const kvt_store_io *io = store->io;
	uint64_t sequence = 0;
	int status = next_sequence(store, &sequence);
	if (status < 0)
		return status;
	g_autoptr(GArray) entries = entries_needed(store);
	uint8_t *blocks;
	uint64_t bytes = encode(
		store, sequence, (const kvt_store_entry *)entries->data, entries->len, &blocks);
	int fd = -ENOSPC;
	if (bytes <= kvt_store_journal_room(&store->shape) / 2)
		fd = io->open(io->arg, store->dir, NEW_JOURNAL, O_RDWR | O_CREAT | O_TRUNC, 0600);
	status = fd < 0 ? fd : put_in_place(store, fd, blocks, bytes);
	free(blocks);
	if (status < 0) {
		if (fd >= 0)
			io->close(io->arg, fd);
		return status;
	}
	if (store->journal.fd >= 0)
		io->close(io->arg, store->journal.fd);
	store->journal = (kvt_store_journal_file){ fd, bytes, sequence + bytes / PAIR };
	return io->sync_dir(io->arg, store->dir);
}

int kvt_store_journal_append(kvt_store *store, const kvt_store_entry *entries, unsigned n)
{
	const kvt_store_io *io = store->io;
	kvt_store_journal_file *journal = &store->journal;
	uint64_t half = kvt_store_journal_room(&store->shape) / 2;
	uint64_t pairs = (n + KVT_STORE_JOURNAL_ENTRIES - 1) / KVT_STORE_JOURNAL_ENTRIES;
	if (store->read_only)
		return -EROFS;
	if (n == 0)
		return 0;
	if (journal->bytes + pairs * PAIR > half) {
		int status = kvt_store_journal_renew(store);
		if (status < 0)
			return status;
		uint64_t most = kvt_store_journal_entries(&store->shape);
		if (journal->bytes / PAIR + pairs > most / KVT_STORE_JOURNAL_ENTRIES)
			return -ENOSPC;
	}
	uint8_t *blocks;
	uint64_t bytes = encode(store, journal->sequence, entries, n, &blocks);
	int status = kvt_store_write_all(io, journal->fd, blocks, bytes, journal->bytes);
	free(blocks);
	if (status == 0 && store->shape.sync == KVT_STORE_SYNC_DATA)
		status = io->sync(io->arg, journal->fd);
	if (status < 0)
		return status;
	journal->bytes += bytes;
	journal->sequence += bytes / PAIR;
	return 0;
}

/* The pair at `pair`: from whichever of its blocks is good. The first one says where the sequence
 * of all begins. */
static bool decode_pair(const kvt_store *store, const uint8_t *data, uint64_t pair, uint64_t begin,
	kvt_store_journal_block *block)
{
	for (unsigned copy = 0; copy < 2; copy++) {
		const uint8_t *at = data + pair * PAIR + copy * KVT_STORE_BLOCK;
		if (kvt_store_journal_decode(store->shape.key, at, block) &&
			(block->sequence == begin + pair ||
				(pair == 0 && block->sequence % JOURNAL_STEP == 0)))
			return true;
	}
	return false;
}

static int read_entries(kvt_store *store, const uint8_t *data, uint64_t pairs,
	void (*entry)(void *arg, const kvt_store_entry *entry), void *arg)
{
	kvt_store_journal_block block;
	if (pairs == 0 || !decode_pair(store, data, 0, 0, &block))
		return -EBADMSG;
	uint64_t begin = block.sequence;
	while (!decode_pair(store, data, pairs - 1, begin, &block))
		pairs--; /* the end of it was being written, or is an older journal's */
	for (uint64_t i = 0; i < pairs; i++) {
		if (!decode_pair(store, data, i, begin, &block))
			return -EBADMSG;
		store->next_number = MAX(store->next_number, block.next_number);
		store->generation = MAX(store->generation, block.next_generation);
		for (unsigned k = 0; k < block.n; k++)
			entry(arg, &block.entries[k]);
	}
	store->journal.sequence = begin + pairs;
	store->journal.bytes = pairs * PAIR;
	return 0;
}

int kvt_store_journal_read(
	kvt_store *store, void (*entry)(void *arg, const kvt_store_entry *entry), void *arg)
{
	const kvt_store_io *io = store->io;
	int fd = io->open(
		io->arg, store->dir, KVT_STORE_JOURNAL, store->read_only ? O_RDONLY : O_RDWR, 0);
	if (fd < 0)
		return fd == -ENOENT ? -EBADMSG : fd;
	store->journal.fd = fd;
	int64_t there = io->size(io->arg, fd);
	if (there < 0)
		return (int)there;
	/* what is longer was not written here */
	uint64_t room = kvt_store_journal_room(&store->shape);
	uint64_t size = MIN((uint64_t)there, room) / PAIR * PAIR;
	if (size == 0)
		return -EBADMSG;
	uint8_t *data = kvt_store_buffer_new(size);
	int status = kvt_store_read_all(io, fd, data, size, 0);
	if (status == 0)
		status = read_entries(store, data, size / PAIR, entry, arg);
	free(data);
	return status;
}
