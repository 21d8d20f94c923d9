/* store_check.c: reads all that a page store holds and compares it with what it says of itself. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "emu/store/store_internal.h"

typedef struct check {
	kvt_store *store;
	kvt_store_report *report;
	void (*problem)(void *arg, const char *line);
	void *arg;
} check;

static void say(const check *c, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void say(const check *c, const char *format, ...)
{
	if (!c->problem)
		return;
	va_list args;
	va_start(args, format);
	g_autofree char *line = g_strdup_vprintf(format, args);
	va_end(args);
	c->problem(c->arg, line);
}

/* Who the record is, for people. */
static char *record_name(const kvt_store_record *record)
{
	const kvt_store_stream *stream = record->stream;
	return g_strdup_printf("segment %" PRIu64 ", record at %" PRIu64
			       " (tenant %u, context %u, layer %u, pages %" PRIu64 "-%" PRIu64 ")",
		record->file->number, record->offset, stream->tenant, stream->context,
		stream->layer, record->first_page, kvt_store_end(record) - 1);
}

/* Whether the header on disk is the one that the index says. */
static bool header_matches(const check *c, const kvt_store_record *record)
{
	kvt_store *store = c->store;
	kvt_store_header expected;
	kvt_store_record_header(record, &expected);
	uint8_t *wanted = kvt_store_buffer_new(record->header_bytes);
	uint8_t *found = kvt_store_buffer_new(record->header_bytes);
	kvt_store_header_encode(store->shape.key, &expected, record->checksums, wanted);
	bool same = kvt_store_read_all(store->io, record->file->fd, found, record->header_bytes,
			    record->offset) == 0 &&
		    memcmp(wanted, found, record->header_bytes) == 0;
	free(wanted);
	free(found);
	return same;
}

static uint64_t count_bad_pages(const check *c, const kvt_store_record *record)
{
	g_autofree uint64_t *hashes = g_new0(uint64_t, record->n_pages);
	uint64_t payload = record->offset + record->header_bytes, bad = 0;
	int status = kvt_store_hash_pages(
		c->store, record->file->fd, payload, record->page_bytes, record->n_pages, hashes);
	for (uint64_t i = 0; i < record->n_pages; i++) {
		/* what could not be read at once is tried page by page */
		int one = status == 0 ? 0
				      : kvt_store_hash_pages(c->store, record->file->fd,
						payload + i * record->page_bytes,
						record->page_bytes, 1, &hashes[i]);
		bad += one < 0 || hashes[i] != record->checksums[i];
	}
	return bad;
}

static void check_record(const check *c, const kvt_store_record *record)
{
	g_autofree char *name = record_name(record);
	c->report->records++;
	c->report->pages += record->n_pages;
	c->report->bytes += record->n_pages * record->page_bytes;
	if (!header_matches(c, record)) {
		c->report->bad_records++;
		say(c, "%s: its header is wrong", name);
	}
	uint64_t bad = count_bad_pages(c, record);
	c->report->bad_pages += bad;
	if (bad > 0)
		say(c, "%s: %" PRIu64 " of %" PRIu64 " pages are wrong", name, bad,
			record->n_pages);
}

/* The published records of a segment, which stay as long as it is held. */
static GPtrArray *hold_segment(kvt_store *store, kvt_store_file *file)
{
	GPtrArray *records = g_ptr_array_new();
	file->readers++;
	for (guint i = 0; i < file->records->len; i++) {
		kvt_store_record *record = g_ptr_array_index(file->records, i);
		if (record->published)
			g_ptr_array_add(records, record);
	}
	return records;
}

static kvt_store_file *segment_after(const kvt_store *store, uint64_t number)
{
	for (guint i = 0; i < store->segments->len; i++) {
		kvt_store_file *file = g_ptr_array_index(store->segments, i);
		if (file->number > number && !file->draining)
			return file;
	}
	return NULL;
}

gboolean kvt_store_check(kvt_store *store, kvt_store_report *report,
	void (*problem)(void *arg, const char *line), void *arg, GError **error)
{
	check c = { store, report, problem, arg };
	*report = (kvt_store_report){ 0 };
	pthread_mutex_lock(&store->lock);
	report->bad_segments = store->count.lost_segments;
	report->torn_records = store->count.rejected_records;
	kvt_store_file *file = segment_after(store, 0);
	while (file) {
		uint64_t number = file->number;
		report->segments++;
		report->bad_segments += file->damaged;
		if (file->damaged)
			say(&c, "segment %" PRIu64 ": its first block or its index is wrong",
				number);
		g_autoptr(GPtrArray) records = hold_segment(store, file);
		pthread_mutex_unlock(&store->lock);
		for (guint i = 0; i < records->len; i++)
			check_record(&c, g_ptr_array_index(records, i));
		pthread_mutex_lock(&store->lock);
		file->readers--;
		kvt_store_segment_settle(store, file);
		file = segment_after(store, number);
	}
	pthread_mutex_unlock(&store->lock);
	return TRUE;
}
