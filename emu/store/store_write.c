/*
 * store_write.c: the page store's way in: room for a record, its header, and the moment from which
 * its pages can be found.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emu/store/page_checksum.h"
#include "emu/store/store_internal.h"

/* Bytes that are copied at a time on the way to an aligned write. */
enum { BOUNCE_BYTES = 1 << 20 };

uint64_t kvt_store_checksum(const void *page, uint64_t page_bytes)
{
	return kvt_page_checksum(page, page_bytes);
}

void kvt_store_checksums(const void *pages, uint64_t page_bytes, uint64_t n, uint64_t *checksums)
{
	for (uint64_t i = 0; i < n; i++)
		checksums[i] = kvt_page_checksum((const char *)pages + i * page_bytes, page_bytes);
}

uint64_t kvt_store_run_cost(const kvt_store_run *run)
{
	return kvt_store_header_bytes(run) + kvt_store_payload_bytes(run) +
	       kvt_store_index_bytes(run->pages.n_pages);
}

/* Of a segment: its own block, the trailer, and the index rounded up. */
static bool fits_empty(const kvt_store *store, const kvt_store_run *run)
{
	return kvt_store_run_possible(run) &&
	       kvt_store_run_cost(run) + 3 * KVT_STORE_BLOCK <= store->shape.segment_bytes;
}

uint64_t kvt_store_run_limit(const kvt_store *store, uint64_t page_bytes)
{
	uint64_t low = 0, high = KVT_STORE_RUN_PAGES;
	while (low < high) {
		uint64_t middle = low + (high - low + 1) / 2;
		kvt_store_run run = { .pages = { .n_pages = middle, .page_bytes = page_bytes } };
		if (fits_empty(store, &run))
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* A segment that holds nothing findable and that nobody holds gives its file back before another
 * is asked for. */
static void drop_dead_active(kvt_store *store)
{
	kvt_store_file *file = store->active;
	if (file && file->live_pages == 0 && file->readers == 0 && file->writers == 0 &&
		file->records->len > 0)
		kvt_store_segment_evict(store, file);
}

static int make_room(kvt_store *store, const kvt_store_run *run, bool spare)
{
	if (store->active && kvt_store_segment_has_room(store, store->active, run))
		return 0;
	drop_dead_active(store);
	int status;
	do
		status = kvt_store_segment_start(store, run, spare);
	while (status == -ENOSPC && store->settings.evict && kvt_store_segment_evict_one(store));
	return status;
}

int kvt_store_reserve_locked(kvt_store *store, const kvt_store_run *run, uint64_t generation,
	bool spare, kvt_store_ticket *ticket)
{
	if (!kvt_extent_valid(&run->pages))
		return -EINVAL;
	if (!fits_empty(store, run))
		return -E2BIG;
	if (store->read_only)
		return -EROFS;
	kvt_store_tidy(store);
	const kvt_store_stream *there = kvt_store_stream_find(store, run);
	if (there && (there->live_pages > 0 || there->writers > 0) &&
		there->page_bytes != run->pages.page_bytes)
		return -EINVAL;
	int status = spare ? 0 : kvt_store_floors_make_room(store);
	if (status == 0)
		status = make_room(store, run, spare);
	if (status < 0)
		return status;
	kvt_store_file *file = store->active;
	kvt_store_record *record = kvt_store_record_new(
		store, file, run, file->used, generation > 0 ? generation : store->generation++);
	record->stream->page_bytes = run->pages.page_bytes;
	record->stream->writers++;
	file->writers++;
	store->count.writers++;
	*ticket = (kvt_store_ticket){ .fd = file->fd,
		.slot = file->slot,
		.offset = file->base + record->offset,
		.header_bytes = record->header_bytes,
		.payload_bytes = kvt_store_payload_bytes(run),
		.generation = record->generation,
		.checksums = record->checksums,
		.record = record };
	file->used += ticket->header_bytes + ticket->payload_bytes;
	kvt_store_ahead_want(store);
	return 0;
}

int kvt_store_reserve(kvt_store *store, const kvt_store_run *run, kvt_store_ticket *ticket)
{
	pthread_mutex_lock(&store->lock);
	int status = kvt_store_reserve_locked(store, run, 0, false, ticket);
	pthread_mutex_unlock(&store->lock);
	return status;
}

/* Needs no lock: what it reads of a record does not change until the ticket ends. */
void kvt_store_ticket_header(const kvt_store *store, const kvt_store_ticket *ticket, void *header)
{
	kvt_store_header fields;
	kvt_store_record_header(ticket->record, &fields);
	kvt_store_header_encode(store->shape.key, &fields, ticket->checksums, header);
}

/* The segment may go with this. */
static void end_ticket(kvt_store *store, kvt_store_ticket *ticket)
{
	kvt_store_record *record = ticket->record;
	kvt_store_file *file = record->file;
	record->stream->writers--;
	file->writers--;
	store->count.writers--;
	*ticket = (kvt_store_ticket){ .fd = -1 };
	kvt_store_segment_settle(store, file);
}

/* Older versions are revoked on disk before the new one is there, so that none of them can come
 * back when it is lost. */
static int revoke_older(kvt_store *store, const kvt_store_record *record, bool *any, bool *wins)
{
	g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(kvt_store_entry));
	*wins = kvt_store_index_floors(record, entries) > 0;
	*any = entries->len > 0;
	int status = kvt_store_journal_append(
		store, (const kvt_store_entry *)entries->data, entries->len);
	if (status == 0)
		kvt_store_index_apply(store, (const kvt_store_entry *)entries->data, entries->len);
	return status;
}

int kvt_store_publish_locked(kvt_store *store, kvt_store_ticket *ticket)
{
	kvt_store_record *record = ticket->record;
	bool overwrites, wins;
	int status = revoke_older(store, record, &overwrites, &wins);
	if (status < 0) {
		kvt_store_abandon_locked(store, ticket);
		return status;
	}
	kvt_store_index_add(store, record);
	store->count.published_pages += record->n_pages;
	store->count.published_bytes += record->n_pages * record->page_bytes;
	end_ticket(store, ticket);
	if (overwrites)
		kvt_store_sweep(store);
	return wins ? 0 : -ESTALE;
}

int kvt_store_publish(kvt_store *store, kvt_store_ticket *ticket)
{
	pthread_mutex_lock(&store->lock);
	int status = kvt_store_publish_locked(store, ticket);
	pthread_mutex_unlock(&store->lock);
	return status;
}

void kvt_store_abandon_locked(kvt_store *store, kvt_store_ticket *ticket)
{
	/* a record that was written whole all the same must not be found by a later recovery;
	 * where not even this can be written, its checksums have to tell */
	if (!store->read_only) {
		const kvt_store_record *record = ticket->record;
		uint8_t *zeros = kvt_store_buffer_new0(KVT_STORE_BLOCK);
		kvt_store_write_all(store->io, ticket->fd, zeros, KVT_STORE_BLOCK, record->offset);
		free(zeros);
	}
	store->count.abandoned++;
	end_ticket(store, ticket);
}

void kvt_store_abandon(kvt_store *store, kvt_store_ticket *ticket)
{
	pthread_mutex_lock(&store->lock);
	kvt_store_abandon_locked(store, ticket);
	pthread_mutex_unlock(&store->lock);
}

int kvt_store_sync_ticket(kvt_store *store, const kvt_store_ticket *ticket)
{
	return store->io->sync(store->io->arg, ticket->fd);
}

/* The pages through a buffer of whole blocks, as O_DIRECT wants them. */
static int write_aligned(kvt_store *store, const kvt_store_ticket *ticket, const char *pages,
	uint64_t bytes, uint64_t at)
{
	uint8_t *bounce = kvt_store_buffer_new(MIN(ticket->payload_bytes, BOUNCE_BYTES));
	int status = 0;
	for (uint64_t done = 0; done < ticket->payload_bytes && status == 0;) {
		uint64_t piece = MIN(ticket->payload_bytes - done, BOUNCE_BYTES);
		uint64_t real = MIN(bytes - done, piece);
		memcpy(bounce, pages + done, real);
		memset(bounce + real, 0, piece - real);
		status = kvt_store_write_all(store->io, ticket->fd, bounce, piece, at + done);
		done += piece;
	}
	free(bounce);
	return status;
}

int kvt_store_write_record(kvt_store *store, const kvt_store_ticket *ticket, const void *pages)
{
	const kvt_store_record *record = ticket->record;
	uint64_t bytes = record->n_pages * record->page_bytes;
	uint8_t *header = kvt_store_buffer_new(ticket->header_bytes);
	kvt_store_ticket_header(store, ticket, header);
	int status = kvt_store_write_all(
		store->io, ticket->fd, header, ticket->header_bytes, record->offset);
	free(header);
	uint64_t at = record->offset + ticket->header_bytes;
	if (status < 0)
		return status;
	if (store->direct)
		return write_aligned(store, ticket, pages, bytes, at);
	/* the rest of the last block stays as the file was made: zeros, or what nobody reads */
	return kvt_store_write_all(store->io, ticket->fd, pages, bytes, at);
}

int kvt_store_put(kvt_store *store, const kvt_store_run *run, const void *pages)
{
	kvt_store_ticket ticket;
	int status = kvt_store_reserve(store, run, &ticket);
	if (status < 0)
		return status;
	kvt_store_checksums(pages, run->pages.page_bytes, run->pages.n_pages, ticket.checksums);
	status = kvt_store_write_record(store, &ticket, pages);
	if (status == 0 && store->shape.sync == KVT_STORE_SYNC_DATA)
		status = kvt_store_sync_ticket(store, &ticket);
	if (status == 0)
		return kvt_store_publish(store, &ticket);
	kvt_store_abandon(store, &ticket);
	return status;
}
