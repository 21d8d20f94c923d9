/*
 * store_room.c: how the page store gets room back: pages that are discarded, segments that are
 * evicted, and the gathering of what lives in nearly empty segments.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emu/store/store_internal.h"

void kvt_store_sweep(kvt_store *store)
{
	/* from the end, since a segment that settles may go */
	for (guint i = store->segments->len; i-- > 0;) {
		kvt_store_file *file = g_ptr_array_index(store->segments, i);
		kvt_store_segment_settle(store, file);
		i = MIN(i, store->segments->len);
	}
}

/* Adds a floor above what is findable; spans that follow each other become one where no write in
 * flight could be caught by it. */
static void add_floor(GArray *entries, const kvt_store_stream *stream, uint64_t first, uint64_t end,
	uint64_t floor)
{
	kvt_store_entry *last = entries->len > 0
					? &g_array_index(entries, kvt_store_entry, entries->len - 1)
					: NULL;
	if (last && stream->writers == 0 && last->run.model == stream->model &&
		last->run.tenant == stream->tenant && last->run.pages.context == stream->context &&
		last->run.pages.layer == stream->layer &&
		last->run.pages.first_page + last->run.pages.n_pages == first) {
		last->run.pages.n_pages += end - first;
		last->generation = MAX(last->generation, floor);
		return;
	}
	kvt_store_entry entry = kvt_store_floor_entry(stream, first, end, floor);
	g_array_append_val(entries, entry);
}

/* Forgets the run; notes what must be written down, and whose segments it was in. */
static uint64_t forget(
	kvt_store *store, const kvt_store_run *run, GArray *entries, GPtrArray *files)
{
	kvt_store_stream *stream = kvt_store_stream_find(store, run);
	if (!stream || run->pages.n_pages == 0 ||
		run->pages.n_pages > UINT64_MAX - run->pages.first_page)
		return 0;
	uint64_t first = run->pages.first_page, end = first + run->pages.n_pages;
	for (uint64_t page = first; page < end;) {
		const kvt_store_span *span = kvt_store_spans_at(&stream->live, page);
		if (!span || span->first >= end)
			break;
		uint64_t from = MAX(page, span->first);
		page = MIN(end, span->end);
		add_floor(entries, stream, from, page, span->generation + 1);
		kvt_store_file *file = ((kvt_store_record *)span->record)->file;
		if (files->len == 0 || g_ptr_array_index(files, files->len - 1) != file)
			g_ptr_array_add(files, file);
	}
	return kvt_store_index_remove(store, stream, first, end, NULL);
}

int kvt_store_discard_locked(
	kvt_store *store, const kvt_store_run *runs, unsigned n, uint64_t *pages)
{
	g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(kvt_store_entry));
	g_autoptr(GPtrArray) files = g_ptr_array_new();
	uint64_t forgotten = 0;
	for (unsigned i = 0; i < n; i++)
		forgotten += forget(store, &runs[i], entries, files);
	store->count.discarded_pages += forgotten;
	if (pages)
		*pages = forgotten;
	const kvt_store_entry *floors = (const kvt_store_entry *)entries->data;
	kvt_store_index_apply(store, floors, entries->len);
	int status = kvt_store_journal_append(store, floors, entries->len);
	/* rather lose the neighbours than have the pages come back */
	for (guint i = 0; i < files->len && status < 0 && status != -EROFS; i++)
		((kvt_store_file *)g_ptr_array_index(files, i))->condemned = true;
	if (forgotten > 0)
		kvt_store_sweep(store);
	if (status < 0 && status != -ENOSPC)
		kvt_store_make_read_only(store, "what was discarded cannot be noted", status);
	return status;
}

int kvt_store_discard(kvt_store *store, const kvt_store_run *runs, unsigned n, uint64_t *pages)
{
	pthread_mutex_lock(&store->lock);
	int status = kvt_store_discard_locked(store, runs, n, pages);
	pthread_mutex_unlock(&store->lock);
	return status;
}

static kvt_store_file *segment_by_number(kvt_store *store, uint64_t number)
{
	for (guint i = 0; i < store->segments->len; i++) {
		kvt_store_file *file = g_ptr_array_index(store->segments, i);
		if (file->number == number)
			return file;
	}
	return NULL;
}

bool kvt_store_evict(kvt_store *store, uint64_t number)
{
	pthread_mutex_lock(&store->lock);
	kvt_store_file *file = segment_by_number(store, number);
	bool possible = file && !file->draining && file->writers == 0 && !store->read_only;
	if (possible) {
		store->count.evicted_segments++;
		kvt_store_segment_evict(store, file);
	}
	pthread_mutex_unlock(&store->lock);
	return possible;
}

int kvt_store_seal(kvt_store *store)
{
	pthread_mutex_lock(&store->lock);
	int status = store->read_only ? -EROFS : 0;
	if (status == 0 && store->active)
		kvt_store_segment_close(store, store->active);
	kvt_store_ahead_flush(store);
	pthread_mutex_unlock(&store->lock);
	return status;
}

/* What would be copied for each byte of a segment that goes, at most: nine tenths. */
static bool worth_moving(const kvt_store_file *file)
{
	return file->live_page_bytes <= file->bytes - file->bytes / 10;
}

/* The sealed segment, not met before, of which the smallest part lives. */
static kvt_store_file *emptiest(kvt_store *store, uint64_t below)
{
	kvt_store_file *best = NULL;
	for (guint i = 0; i < store->segments->len; i++) {
		kvt_store_file *file = g_ptr_array_index(store->segments, i);
		if (!file->sealed || file->draining || file->readers > 0 || file->writers > 0 ||
			file->number >= below || !worth_moving(file))
			continue;
		if (!best || (double)file->live_page_bytes / (double)file->bytes <
				     (double)best->live_page_bytes / (double)best->bytes)
			best = file;
	}
	return best;
}

/* Copies a piece into the active segment and finds its pages there from then on. The lock is held,
 * but for the time that data moves. */
static int move_piece(kvt_store *store, const kvt_store_run *run, const kvt_store_piece *piece)
{
	kvt_store_ticket ticket;
	int status = kvt_store_reserve_locked(store, run, piece->generation, true, &ticket);
	if (status < 0)
		return status;
	memcpy(ticket.checksums, piece->checksums, piece->n_pages * sizeof(uint64_t));
	pthread_mutex_unlock(&store->lock);
	void *pages = kvt_store_buffer_new(piece->n_pages * piece->page_bytes);
	uint64_t bad = 0;
	status = kvt_store_read_piece(store, piece, pages, &bad);
	int written = status == 0 ? kvt_store_write_record(store, &ticket, pages) : 0;
	if (status == 0 && written == 0 && store->shape.sync == KVT_STORE_SYNC_DATA)
		written = kvt_store_sync_ticket(store, &ticket);
	free(pages);
	if (status == -EBADMSG)
		kvt_store_corrupt(store, piece, bad);
	pthread_mutex_lock(&store->lock);
	if (status < 0 || written < 0) {
		kvt_store_abandon_locked(store, &ticket);
		/* a page that is lost is no reason to stop; its neighbours are tried again */
		return status == -EBADMSG ? 0 : status < 0 ? status : written;
	}
	kvt_store_record *old = piece->record, *moved = ticket.record;
	uint64_t pages_moved = kvt_store_index_remove(
		store, old->stream, moved->first_page, kvt_store_end(moved), old);
	store->count.moved_pages += pages_moved;
	status = kvt_store_publish_locked(store, &ticket);
	return status == -ESTALE ? 0 : status;
}

/* The first pages of the segment that still live, as much as one record holds. */
static bool next_piece(kvt_store_file *file, guint *from, kvt_store_run *run)
{
	for (; *from < file->records->len; (*from)++) {
		const kvt_store_record *record = g_ptr_array_index(file->records, *from);
		if (record->live_pages == 0)
			continue;
		const kvt_store_stream *stream = record->stream;
		const kvt_store_span *span = kvt_store_spans_at(&stream->live, record->first_page);
		while (span->record != record)
			span = kvt_store_spans_at(&stream->live, span->end);
		*run = (kvt_store_run){ .model = stream->model,
			.tenant = stream->tenant,
			.pages = { stream->context, stream->layer, span->first,
				span->end - span->first, record->page_bytes } };
		return true;
	}
	return false;
}

static int move_segment(kvt_store *store, kvt_store_file *file)
{
	int status = 0;
	guint from = 0;
	kvt_store_run run;
	file->readers++; /* it must not go under our hands */
	if (store->resumable == file)
		store->resumable = NULL;
	while (status == 0 && !store->read_only && next_piece(file, &from, &run)) {
		kvt_store_piece piece;
		unsigned n;
		uint64_t left = file->live_pages;
		status = kvt_store_find_locked(store, &run, &piece, 1, &n);
		if (status == 0) {
			status = move_piece(store, &run, &piece);
			kvt_store_release_locked(store, &piece, 1);
		}
		if (status == 0 && file->live_pages >= left)
			status = -EIO; /* neither moved nor forgotten */
	}
	file->readers--;
	kvt_store_segment_settle(store, file);
	return status;
}

static bool has_free(const kvt_store *store, uint64_t wanted)
{
	uint64_t active = store->active ? store->active->bytes - store->active->used : 0;
	return wanted <= MAX(active, kvt_store_segment_room(store));
}

int kvt_store_gc(kvt_store *store, uint64_t wanted, uint64_t *freed)
{
	int status = 0;
	pthread_mutex_lock(&store->lock);
	uint64_t before = store->used, below = store->next_number;
	if (freed)
		*freed = 0;
	if (store->gathering || store->read_only) {
		status = store->gathering ? -EBUSY : -EROFS;
		pthread_mutex_unlock(&store->lock);
		return status;
	}
	store->gathering = true;
	kvt_store_ahead_flush(store);
	if (store->active && store->active->writers == 0 && worth_moving(store->active) &&
		store->active->live_pages < store->active->pages)
		kvt_store_segment_close(store, store->active);
	kvt_store_file *file = NULL;
	while (status == 0 && !store->read_only &&
		!(wanted > 0 && has_free(store, wanted) && !kvt_store_floors_press(store)) &&
		(file = emptiest(store, below)) != NULL)
		status = move_segment(store, file);
	store->gathering = false;
	if (status == 0 && store->read_only)
		status = -EROFS;
	if (status == 0 && wanted > 0 &&
		(!has_free(store, wanted) || kvt_store_floors_press(store)))
		status = -ENOSPC;
	if (freed)
		*freed = before > store->used ? before - store->used : 0;
	pthread_mutex_unlock(&store->lock);
	return status;
}
