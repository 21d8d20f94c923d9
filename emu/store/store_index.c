/*
 * store_index.c: the page store's index: layers of contexts, the records that are on disk, and
 * which record each page is found in. The newest version of a page wins, whatever the order of
 * adding.
 */
#include <string.h>
#include <xxhash.h>

#include "emu/store/store_internal.h"

static guint stream_hash(gconstpointer stream)
{
	return (guint)XXH3_64bits(stream, KVT_STORE_STREAM_KEY);
}

static gboolean stream_equal(gconstpointer a, gconstpointer b)
{
	return memcmp(a, b, KVT_STORE_STREAM_KEY) == 0;
}

static void stream_free(gpointer data)
{
	kvt_store_stream *stream = data;
	kvt_store_spans_clear(&stream->live);
	kvt_store_spans_clear(&stream->floors);
	kvt_store_spans_clear(&stream->kept);
	g_free(stream);
}

GHashTable *kvt_store_streams_new(void)
{
	return g_hash_table_new_full(stream_hash, stream_equal, stream_free, NULL);
}

static kvt_store_stream stream_key(const kvt_store_run *run)
{
	return (kvt_store_stream){ .model = run->model,
		.tenant = run->tenant,
		.context = run->pages.context,
		.layer = run->pages.layer };
}

kvt_store_stream *kvt_store_stream_find(kvt_store *store, const kvt_store_run *run)
{
	kvt_store_stream key = stream_key(run);
	return g_hash_table_lookup(store->streams, &key);
}

kvt_store_stream *kvt_store_stream_get(kvt_store *store, const kvt_store_run *run)
{
	kvt_store_stream *stream = kvt_store_stream_find(store, run);
	if (!stream) {
		stream = g_new(kvt_store_stream, 1);
		*stream = stream_key(run);
		g_hash_table_add(store->streams, stream);
	}
	return stream;
}

kvt_store_record *kvt_store_record_new(kvt_store *store, kvt_store_file *file,
	const kvt_store_run *run, uint64_t offset, uint64_t generation)
{
	kvt_store_record *record =
		g_malloc(sizeof(*record) + run->pages.n_pages * sizeof(uint64_t));
	*record = (kvt_store_record){ .stream = kvt_store_stream_get(store, run),
		.file = file,
		.offset = offset,
		.header_bytes = kvt_store_header_bytes(run),
		.first_page = run->pages.first_page,
		.n_pages = run->pages.n_pages,
		.page_bytes = run->pages.page_bytes,
		.generation = generation };
	record->stream->records++;
	g_ptr_array_add(file->records, record);
	file->index_bytes += kvt_store_index_bytes(record->n_pages);
	return record;
}

void kvt_store_record_free(kvt_store *store, kvt_store_record *record)
{
	kvt_store_stream *stream = record->stream;
	g_assert(record->live_pages == 0);
	store->records_went = true;
	if (--stream->records == 0) {
		store->floors -= kvt_store_spans_count(&stream->floors);
		g_hash_table_remove(store->streams, stream);
	}
	g_free(record);
}

/* A part of a record's pages about which the same is known. */
typedef struct part {
	uint64_t end;
	uint64_t other; /* generation of what is findable there, 0: nothing */
	uint64_t floor;
} part;

static void narrow(const kvt_store_span *span, uint64_t page, uint64_t *generation, uint64_t *end)
{
	if (!span)
		return;
	if (span->first <= page) {
		*generation = span->generation;
		*end = MIN(*end, span->end);
	} else {
		*end = MIN(*end, span->first);
	}
}

static part part_at(const kvt_store_record *record, uint64_t page)
{
	part p = { .end = kvt_store_end(record) };
	narrow(kvt_store_spans_at(&record->stream->live, page), page, &p.other, &p.end);
	narrow(kvt_store_spans_at(&record->stream->floors, page), page, &p.floor, &p.end);
	return p;
}

static bool part_wins(const part *p, const kvt_store_record *record)
{
	return p->other < record->generation && p->floor <= record->generation;
}

kvt_store_entry kvt_store_floor_entry(
	const kvt_store_stream *stream, uint64_t first, uint64_t end, uint64_t generation)
{
	return (kvt_store_entry){ .kind = KVT_STORE_ENTRY_FLOOR,
		.generation = generation,
		.run = { .model = stream->model,
			.tenant = stream->tenant,
			.pages = { .context = stream->context,
				.layer = stream->layer,
				.first_page = first,
				.n_pages = end - first } } };
}

uint64_t kvt_store_index_floors(const kvt_store_record *record, GArray *entries)
{
	uint64_t winning = 0;
	for (uint64_t page = record->first_page; page < kvt_store_end(record);) {
		part p = part_at(record, page);
		/* the older of two versions must not come back when the newer is gone */
		uint64_t older = MIN(p.other, record->generation);
		if (p.other > 0 && p.other != record->generation && p.floor <= older) {
			kvt_store_entry entry =
				kvt_store_floor_entry(record->stream, page, p.end, older + 1);
			g_array_append_val(entries, entry);
		}
		if (part_wins(&p, record))
			winning += p.end - page;
		page = p.end;
	}
	return winning;
}

static void count_live(kvt_store_record *record, uint64_t pages, bool more)
{
	uint64_t sign = more ? 1 : UINT64_MAX;
	record->live_pages += sign * pages;
	record->stream->live_pages += sign * pages;
	record->file->live_pages += sign * pages;
	record->file->live_page_bytes += sign * pages * record->page_bytes;
}

void kvt_store_index_add(kvt_store *store, kvt_store_record *record)
{
	kvt_store_stream *stream = record->stream;
	record->published = true;
	record->file->pages += record->n_pages;
	record->file->page_bytes += record->n_pages * record->page_bytes;
	uint64_t first = record->first_page;
	for (uint64_t page = first; page < kvt_store_end(record);) {
		part p = part_at(record, page);
		bool wins = part_wins(&p, record);
		if (wins && p.other > 0)
			kvt_store_index_remove(store, stream, page, p.end, NULL);
		if (!wins) {
			if (page > first)
				kvt_store_spans_set(
					&stream->live, first, page, record->generation, record);
			first = p.end;
		} else {
			count_live(record, p.end - page, true);
		}
		page = p.end;
	}
	if (first < kvt_store_end(record))
		kvt_store_spans_set(
			&stream->live, first, kvt_store_end(record), record->generation, record);
	if (record->live_pages > 0)
		stream->page_bytes = record->page_bytes;
}

uint64_t kvt_store_index_remove(kvt_store *store, kvt_store_stream *stream, uint64_t first,
	uint64_t end, const kvt_store_record *only)
{
	uint64_t removed = 0;
	const kvt_store_span *span;
	while (first < end && (span = kvt_store_spans_at(&stream->live, first)) &&
		span->first < end) {
		uint64_t from = MAX(first, span->first), to = MIN(end, span->end);
		kvt_store_record *record = span->record;
		if (!only || record == only) {
			count_live(record, to - from, false);
			removed += to - from;
			kvt_store_spans_cut(&stream->live, from, to);
		}
		first = to;
	}
	return removed;
}

void kvt_store_index_apply(kvt_store *store, const kvt_store_entry *entries, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const kvt_extent *pages = &entries[i].run.pages;
		kvt_store_stream *stream = kvt_store_stream_find(store, &entries[i].run);
		if (entries[i].kind != KVT_STORE_ENTRY_FLOOR || !stream)
			continue;
		store->floors -= kvt_store_spans_count(&stream->floors);
		kvt_store_spans_raise(&stream->floors, pages->first_page,
			pages->first_page + pages->n_pages, entries[i].generation);
		store->floors += kvt_store_spans_count(&stream->floors);
	}
}

void kvt_store_record_header(const kvt_store_record *record, kvt_store_header *header)
{
	const kvt_store_stream *stream = record->stream;
	*header = (kvt_store_header){ .generation = record->generation,
		.segment = record->file->number,
		.offset = record->offset,
		.run = { .model = stream->model,
			.tenant = stream->tenant,
			.pages = { .context = stream->context,
				.layer = stream->layer,
				.first_page = record->first_page,
				.n_pages = record->n_pages,
				.page_bytes = record->page_bytes } } };
}

uint64_t kvt_store_index_memory(const kvt_store *store)
{
	/* of a span: itself and its node of the tree, in GLib's slices */
	const uint64_t span_bytes = sizeof(kvt_store_span) + 48;
	uint64_t bytes = 0;
	GHashTableIter iter;
	gpointer key;
	g_hash_table_iter_init(&iter, store->streams);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		const kvt_store_stream *stream = key;
		bytes += sizeof(*stream) + 2 * sizeof(gpointer) +
			 span_bytes * (kvt_store_spans_count(&stream->live) +
					      kvt_store_spans_count(&stream->floors));
	}
	for (guint i = 0; i < store->segments->len; i++) {
		const kvt_store_file *file = g_ptr_array_index(store->segments, i);
		bytes += sizeof(*file) + file->index_bytes +
			 file->records->len * (sizeof(kvt_store_record) + sizeof(gpointer));
	}
	return bytes;
}
