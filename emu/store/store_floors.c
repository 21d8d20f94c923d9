/*
 * store_floors.c: keeps the page store's floors few. A floor is needed as long as a record that it
 * voids is on disk; each one takes room in the journal, which is small. Where floors are many,
 * writes find no room until gc, or eviction, has removed the records that need them.
 */
#include <errno.h>

#include "emu/store/store_internal.h"

/* Keeps what the record needs of its layer's floors. */
static void keep_for(const kvt_store_record *record)
{
	kvt_store_stream *stream = record->stream;
	uint64_t end = kvt_store_end(record);
	const kvt_store_span *floor = kvt_store_spans_at(&stream->floors, record->first_page);
	for (; floor && floor->first < end; floor = kvt_store_spans_at(&stream->floors, floor->end))
		if (floor->generation > record->generation)
			kvt_store_spans_raise(&stream->kept, MAX(floor->first, record->first_page),
				MIN(floor->end, end), floor->generation);
}

/* Whether a floor over [first, end) of that generation voids nothing that can be found. */
static bool spares_live(
	const kvt_store_stream *stream, uint64_t first, uint64_t end, uint64_t generation)
{
	const kvt_store_span *live = kvt_store_spans_at(&stream->live, first);
	for (; live && live->first < end; live = kvt_store_spans_at(&stream->live, live->end))
		if (live->generation < generation)
			return false;
	return true;
}

/* Makes one of floors that follow each other, also with a gap, where that voids nothing that is
 * found or is being written. */
static void join(kvt_store_stream *stream)
{
	kvt_store_spans joined = { 0 };
	const kvt_store_span *next = kvt_store_spans_at(&stream->kept, 0);
	while (next) {
		kvt_store_span one = *next;
		while ((next = kvt_store_spans_at(&stream->kept, one.end)) != NULL) {
			uint64_t generation = MAX(one.generation, next->generation);
			bool same = next->first == one.end && next->generation == one.generation;
			if (!same && (stream->writers > 0 || !spares_live(stream, one.first,
								     next->end, generation)))
				break;
			one.end = next->end;
			one.generation = generation;
		}
		kvt_store_spans_set(&joined, one.first, one.end, one.generation, NULL);
	}
	kvt_store_spans_clear(&stream->kept);
	kvt_store_spans_clear(&stream->floors);
	stream->floors = joined;
}

void kvt_store_floors_prune(kvt_store *store)
{
	for (guint i = 0; i < store->segments->len; i++) {
		const kvt_store_file *file = g_ptr_array_index(store->segments, i);
		for (guint k = 0; k < file->records->len; k++)
			keep_for(g_ptr_array_index(file->records, k));
	}
	GHashTableIter iter;
	gpointer key;
	store->floors = 0;
	g_hash_table_iter_init(&iter, store->streams);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		kvt_store_stream *stream = key;
		join(stream);
		store->floors += kvt_store_spans_count(&stream->floors);
	}
	store->records_went = false;
}

/* More than half of what a new journal may have: discards need the other half. */
static bool are_many(const kvt_store *store)
{
	uint64_t room = kvt_store_journal_entries(&store->shape);
	return store->floors > (room - MIN(room, store->segments->len)) / 2;
}

bool kvt_store_floors_press(kvt_store *store)
{
	if (are_many(store) && store->records_went)
		kvt_store_floors_prune(store);
	return are_many(store);
}

int kvt_store_floors_make_room(kvt_store *store)
{
	while (kvt_store_floors_press(store))
		if (!store->settings.evict || !kvt_store_segment_evict_one(store))
			return -ENOSPC;
	return 0;
}
