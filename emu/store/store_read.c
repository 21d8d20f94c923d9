/*
 * store_read.c: the page store's way out: where pages lie, holds on their segments, and a plain
 * reader that verifies what it reads.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emu/store/store_internal.h"

enum { BOUNCE_BYTES = 1 << 20 };

static kvt_store_piece make_piece(const kvt_store_span *span, uint64_t first, uint64_t end)
{
	kvt_store_record *record = span->record;
	uint64_t skipped = first - record->first_page;
	return (kvt_store_piece){ .fd = record->file->fd,
		.slot = record->file->slot,
		.offset = record->file->base + record->offset + record->header_bytes +
			  skipped * record->page_bytes,
		.first_page = first,
		.n_pages = end - first,
		.page_bytes = record->page_bytes,
		.generation = record->generation,
		.checksums = record->checksums + skipped,
		.record = record };
}

/* Pages that are there from the run's first on; fills and counts pieces, of which *n may be more
 * than max. */
static uint64_t walk(kvt_store *store, const kvt_store_run *run, kvt_store_piece *pieces,
	unsigned max, unsigned *n)
{
	*n = 0;
	if (!kvt_extent_valid(&run->pages))
		return 0;
	const kvt_store_stream *stream = kvt_store_stream_find(store, run);
	uint64_t page = run->pages.first_page, end = page + run->pages.n_pages;
	while (stream && page < end) {
		const kvt_store_span *span = kvt_store_spans_at(&stream->live, page);
		const kvt_store_record *record = span ? span->record : NULL;
		if (!record || span->first > page || record->page_bytes != run->pages.page_bytes)
			break;
		uint64_t stop = MIN(end, span->end);
		if (*n < max)
			pieces[*n] = make_piece(span, page, stop);
		(*n)++;
		page = stop;
	}
	return page - run->pages.first_page;
}

int kvt_store_find_locked(kvt_store *store, const kvt_store_run *run, kvt_store_piece *pieces,
	unsigned max, unsigned *n)
{
	uint64_t there = walk(store, run, pieces, max, n);
	store->finds++;
	if (there < run->pages.n_pages || there == 0) {
		store->count.missed_finds++;
		*n = 0;
		return -ENOENT;
	}
	if (*n > max) {
		*n = 0;
		return -E2BIG;
	}
	for (unsigned i = 0; i < *n; i++) {
		kvt_store_file *file = ((kvt_store_record *)pieces[i].record)->file;
		file->readers++;
		file->newest_use = store->finds;
	}
	store->count.readers += *n;
	store->count.found_pages += there;
	return 0;
}

int kvt_store_find(kvt_store *store, const kvt_store_run *run, kvt_store_piece *pieces,
	unsigned max, unsigned *n)
{
	pthread_mutex_lock(&store->lock);
	int status = kvt_store_find_locked(store, run, pieces, max, n);
	pthread_mutex_unlock(&store->lock);
	return status;
}

void kvt_store_release_locked(kvt_store *store, const kvt_store_piece *pieces, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		kvt_store_file *file = ((kvt_store_record *)pieces[i].record)->file;
		g_assert(file->readers > 0);
		store->count.readers--;
		if (--file->readers == 0 && file->draining)
			kvt_store_segment_settle(store, file);
	}
}

void kvt_store_release(kvt_store *store, const kvt_store_piece *pieces, unsigned n)
{
	pthread_mutex_lock(&store->lock);
	kvt_store_release_locked(store, pieces, n);
	pthread_mutex_unlock(&store->lock);
}

static bool piece_current(const kvt_store_piece *piece)
{
	const kvt_store_record *record = piece->record;
	uint64_t end = piece->first_page + piece->n_pages;
	for (uint64_t page = piece->first_page; page < end;) {
		const kvt_store_span *span = kvt_store_spans_at(&record->stream->live, page);
		if (!span || span->first > page || span->record != record)
			return false;
		page = span->end;
	}
	return true;
}

bool kvt_store_current(kvt_store *store, const kvt_store_piece *pieces, unsigned n)
{
	bool current = true;
	pthread_mutex_lock(&store->lock);
	for (unsigned i = 0; i < n && current; i++)
		current = piece_current(&pieces[i]);
	pthread_mutex_unlock(&store->lock);
	return current;
}

uint64_t kvt_store_prefix(kvt_store *store, const kvt_store_run *run)
{
	unsigned n;
	pthread_mutex_lock(&store->lock);
	uint64_t there = walk(store, run, NULL, 0, &n);
	pthread_mutex_unlock(&store->lock);
	return there;
}

bool kvt_store_holds(kvt_store *store, const kvt_store_run *run)
{
	return run->pages.n_pages > 0 && kvt_store_prefix(store, run) == run->pages.n_pages;
}

uint64_t kvt_store_count(kvt_store *store, const kvt_store_run *run)
{
	uint64_t count = 0;
	if (!kvt_extent_valid(&run->pages))
		return 0;
	pthread_mutex_lock(&store->lock);
	const kvt_store_stream *stream = kvt_store_stream_find(store, run);
	uint64_t page = run->pages.first_page, end = page + run->pages.n_pages;
	while (stream && page < end) {
		const kvt_store_span *span = kvt_store_spans_at(&stream->live, page);
		if (!span || span->first >= end)
			break;
		const kvt_store_record *record = span->record;
		if (record->page_bytes == run->pages.page_bytes)
			count += MIN(end, span->end) - MAX(page, span->first);
		page = span->end;
	}
	pthread_mutex_unlock(&store->lock);
	return count;
}

int kvt_store_corrupt(kvt_store *store, const kvt_store_piece *piece, uint64_t page)
{
	const kvt_store_record *record = piece->record;
	g_assert(page >= piece->first_page && page - piece->first_page < piece->n_pages);
	pthread_mutex_lock(&store->lock);
	store->count.corrupt_pages++;
	kvt_store_run run = { .model = record->stream->model,
		.tenant = record->stream->tenant,
		.pages = { record->stream->context, record->stream->layer, page, 1,
			record->page_bytes } };
	const kvt_store_span *span = kvt_store_spans_at(&record->stream->live, page);
	if (span && span->first <= page && span->record == record)
		kvt_store_discard_locked(store, &run, 1, NULL);
	pthread_mutex_unlock(&store->lock);
	return -EBADMSG;
}

/* Reads through a buffer of whole blocks: O_DIRECT takes nothing else, and pages may begin
 * anywhere. */
static int read_bytes(
	kvt_store *store, int fd, uint64_t offset, uint8_t *to, uint64_t size, uint8_t *bounce)
{
	for (uint64_t done = 0; done < size;) {
		uint64_t at = offset + done;
		uint64_t base = at / KVT_STORE_BLOCK * KVT_STORE_BLOCK;
		uint64_t end = MIN(offset + size, base + BOUNCE_BYTES);
		uint64_t span =
			(end - base + KVT_STORE_BLOCK - 1) / KVT_STORE_BLOCK * KVT_STORE_BLOCK;
		int status = kvt_store_read_all(store->io, fd, bounce, span, base);
		if (status < 0)
			return status;
		memcpy(to + done, bounce + (at - base), end - at);
		done = end - offset;
	}
	return 0;
}

int kvt_store_read_piece(kvt_store *store, const kvt_store_piece *piece, void *pages, uint64_t *bad)
{
	uint64_t bytes = piece->n_pages * piece->page_bytes;
	uint64_t offset = piece->offset - ((const kvt_store_record *)piece->record)->file->base;
	int status;
	if (store->direct) {
		uint8_t *bounce =
			kvt_store_buffer_new(MIN(bytes + 2 * KVT_STORE_BLOCK, BOUNCE_BYTES));
		status = read_bytes(store, piece->fd, offset, pages, bytes, bounce);
		free(bounce);
	} else {
		status = kvt_store_read_all(store->io, piece->fd, pages, bytes, offset);
	}
	for (uint64_t i = 0; i < piece->n_pages && status == 0; i++) {
		const char *page = (const char *)pages + i * piece->page_bytes;
		if (kvt_store_checksum(page, piece->page_bytes) != piece->checksums[i]) {
			*bad = piece->first_page + i;
			status = -EBADMSG;
		}
	}
	return status;
}

int kvt_store_get(kvt_store *store, const kvt_store_run *run, void *pages)
{
	kvt_store_piece few[8], *pieces = few, *many = NULL;
	unsigned n, most = G_N_ELEMENTS(few);
	int status = kvt_store_find(store, run, pieces, most, &n);
	while (status == -E2BIG) {
		most *= 4;
		pieces = many = g_renew(kvt_store_piece, many, most);
		status = kvt_store_find(store, run, pieces, most, &n);
	}
	uint64_t bad;
	for (unsigned i = 0; i < n && status == 0; i++) {
		uint64_t skipped = pieces[i].first_page - run->pages.first_page;
		status = kvt_store_read_piece(
			store, &pieces[i], (char *)pages + skipped * run->pages.page_bytes, &bad);
		if (status == -EBADMSG)
			kvt_store_corrupt(store, &pieces[i], bad);
		else if (status == -ENODATA)
			status = -EIO; /* the file has become shorter */
	}
	kvt_store_release(store, pieces, n);
	g_free(many);
	return status;
}
