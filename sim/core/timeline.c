/*
 * timeline.c: keeps spans and counter values in memory, and writes them as trace-event JSON, number
 * by number: a tree of JSON objects would take ten times the memory, and doubles would lose the
 * picoseconds.
 */
#include "sim/core/timeline.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "sim/base/error.h"

typedef struct record {
	const char *name;
	kvt_time start, end; /* of a counter: both the time of the value */
	union {
		int64_t bytes;
		double value;
	};
	kvt_track track;
	bool is_value;
} record;

typedef struct track {
	const char *name;
	kvt_track parent, root; /* root: itself when it has no parent */
} track;

struct kvt_timeline {
	GArray *tracks; /* of track; track t is at t - 1 */
	GArray *records;
	GStringChunk *names;
	uint64_t limit, dropped;
};

/* One row of the viewer: spans that nest in one another. */
typedef struct lane {
	GArray *open; /* ends of the spans that hold the current one, innermost last */
	unsigned thread;
} lane;

typedef struct writer {
	const kvt_timeline *timeline;
	FILE *file;
	int error; /* errno of the first write that failed */
	bool first;
	unsigned threads;
	GString *scratch;
} writer;

kvt_timeline *kvt_timeline_new(uint64_t limit)
{
	kvt_timeline *t = g_new0(kvt_timeline, 1);
	t->limit = MIN(limit, G_MAXUINT / sizeof(record));
	t->tracks = g_array_new(FALSE, FALSE, sizeof(track));
	t->records = g_array_new(FALSE, FALSE, sizeof(record));
	t->names = g_string_chunk_new(4096);
	return t;
}

void kvt_timeline_free(kvt_timeline *t)
{
	if (t == NULL)
		return;
	g_array_free(t->tracks, TRUE);
	g_array_free(t->records, TRUE);
	g_string_chunk_free(t->names);
	g_free(t);
}

static const track *get_track(const kvt_timeline *t, kvt_track id)
{
	g_assert(id > 0 && id <= t->tracks->len);
	return &g_array_index(t->tracks, track, id - 1);
}

kvt_track kvt_timeline_track(kvt_timeline *t, const char *name, kvt_track parent)
{
	if (t == NULL)
		return 0;
	track new = { .name = g_string_chunk_insert_const(t->names, name), .parent = parent };
	new.root = parent != 0 ? get_track(t, parent)->root : t->tracks->len + 1;
	g_array_append_val(t->tracks, new);
	return t->tracks->len;
}

void kvt_timeline_each_span(const kvt_timeline *t,
	void (*each)(void *arg, const char *track, const char *name, kvt_time start, kvt_time end),
	void *arg)
{
	for (guint i = 0; t != NULL && i < t->records->len; i++) {
		const record *r = &g_array_index(t->records, record, i);
		if (!r->is_value)
			each(arg, get_track(t, r->track)->name, r->name, r->start, r->end);
	}
}

uint64_t kvt_timeline_dropped(const kvt_timeline *t)
{
	return t != NULL ? t->dropped : 0;
}

static void add_record(kvt_timeline *t, const char *name, record new)
{
	g_assert(new.track > 0 && new.track <= t->tracks->len);
	if (t->records->len >= t->limit) {
		t->dropped++;
		return;
	}
	new.name = g_string_chunk_insert_const(t->names, name);
	g_array_append_val(t->records, new);
}

void kvt_timeline_add_span(kvt_timeline *t, kvt_track on, const char *name, kvt_time start,
	kvt_time end, int64_t bytes)
{
	g_assert(end >= start);
	add_record(t, name, (record){ .start = start, .end = end, .bytes = bytes, .track = on });
}

void kvt_timeline_add_value(
	kvt_timeline *t, kvt_track on, const char *name, kvt_time time, double value)
{
	if (!isfinite(value))
		return;
	add_record(t, name,
		(record){ .start = time,
			.end = time,
			.value = value,
			.track = on,
			.is_value = true });
}

static int compare_records(gconstpointer a, gconstpointer b)
{
	const record *x = *(const record *const *)a, *y = *(const record *const *)b;
	if (x->track != y->track)
		return x->track < y->track ? -1 : 1;
	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	if (x->end != y->end)
		return x->end > y->end ? -1 : 1;
	return x < y ? -1 : x > y;
}

static void append_json_string(GString *out, const char *text)
{
	g_autofree char *valid = g_utf8_make_valid(text, -1);
	g_string_append_c(out, '"');
	for (const char *c = valid; *c != '\0'; c++) {
		if (*c == '"' || *c == '\\')
			g_string_append_c(out, '\\');
		if ((unsigned char)*c < ' ')
			g_string_append_printf(out, "\\u%04x", *c);
		else
			g_string_append_c(out, *c);
	}
	g_string_append_c(out, '"');
}

/* "child / grandchild": what a track is called below its root. */
static void append_path(const kvt_timeline *t, GString *out, kvt_track id)
{
	const track *k = get_track(t, id);
	if (k->parent != 0 && k->parent != k->root) {
		append_path(t, out, k->parent);
		g_string_append(out, " / ");
	}
	g_string_append(out, k->name);
}

static void begin_event(writer *w, const char *type, kvt_track root)
{
	g_string_assign(w->scratch, w->first ? "" : ",\n");
	g_string_append_printf(w->scratch, "{\"ph\":\"%s\",\"pid\":%u", type, root);
	w->first = false;
}

static void write_text(writer *w, const char *text, size_t length)
{
	if (w->error == 0 && fwrite(text, 1, length, w->file) != length)
		w->error = errno;
}

static void end_event(writer *w)
{
	g_string_append_c(w->scratch, '}');
	write_text(w, w->scratch->str, w->scratch->len);
}

/* Microseconds with all their picoseconds. */
static void append_time(GString *out, const char *key, kvt_time time)
{
	uint64_t ps = time < 0 ? -(uint64_t)time : (uint64_t)time;
	g_string_append_printf(out, ",\"%s\":%s%" PRIu64 ".%06" PRIu64, key, time < 0 ? "-" : "",
		ps / 1000000, ps % 1000000);
}

static void write_name(
	writer *w, const char *what, kvt_track root, unsigned thread, const char *name)
{
	begin_event(w, "M", root);
	g_string_append_printf(
		w->scratch, ",\"tid\":%u,\"name\":\"%s_name\",\"args\":{\"name\":", thread, what);
	append_json_string(w->scratch, name);
	g_string_append_c(w->scratch, '}');
	end_event(w);
	begin_event(w, "M", root);
	g_string_append_printf(w->scratch,
		",\"tid\":%u,\"name\":\"%s_sort_index\",\"args\":{\"sort_index\":%u}", thread, what,
		thread != 0 ? thread : root);
	end_event(w);
}

static void write_value(writer *w, const record *r)
{
	const track *k = get_track(w->timeline, r->track);
	char number[G_ASCII_DTOSTR_BUF_SIZE];
	begin_event(w, "C", k->root);
	g_string_append(w->scratch, ",\"name\":");
	/* The viewer knows counters of a process only; the track goes into the name. */
	g_autoptr(GString) name = g_string_new(NULL);
	if (k->parent != 0) {
		append_path(w->timeline, name, r->track);
		g_string_append(name, " / ");
	}
	g_string_append(name, r->name);
	append_json_string(w->scratch, name->str);
	append_time(w->scratch, "ts", r->start);
	g_string_append_printf(w->scratch, ",\"args\":{\"value\":%s}",
		g_ascii_dtostr(number, sizeof(number), r->value));
	end_event(w);
}

static void write_span(writer *w, const record *r, unsigned thread)
{
	begin_event(w, "X", get_track(w->timeline, r->track)->root);
	g_string_append_printf(w->scratch, ",\"tid\":%u,\"name\":", thread);
	append_json_string(w->scratch, r->name);
	append_time(w->scratch, "ts", r->start);
	append_time(w->scratch, "dur", r->end - r->start);
	if (r->bytes != KVT_TIMELINE_NO_BYTES)
		g_string_append_printf(
			w->scratch, ",\"args\":{\"bytes\":%" PRIu64 "}", (uint64_t)r->bytes);
	end_event(w);
}

/* The first lane where the span lies within what is open, or beside it. */
static lane *find_lane(writer *w, GArray *lanes, const record *r)
{
	for (unsigned i = 0; i < lanes->len; i++) {
		lane *l = &g_array_index(lanes, lane, i);
		while (l->open->len > 0 &&
			g_array_index(l->open, kvt_time, l->open->len - 1) <= r->start)
			g_array_set_size(l->open, l->open->len - 1);
		if (l->open->len == 0 ||
			g_array_index(l->open, kvt_time, l->open->len - 1) >= r->end)
			return l;
	}
	lane new = { .open = g_array_new(FALSE, FALSE, sizeof(kvt_time)), .thread = ++w->threads };
	g_array_append_val(lanes, new);
	g_autoptr(GString) name = g_string_new(NULL);
	append_path(w->timeline, name, r->track);
	if (lanes->len > 1)
		g_string_append_printf(name, " #%u", lanes->len);
	write_name(w, "thread", get_track(w->timeline, r->track)->root, new.thread, name->str);
	return &g_array_index(lanes, lane, lanes->len - 1);
}

/* Writes the records of one track, which are in order. */
static void write_track(writer *w, record **records, size_t count)
{
	g_autoptr(GArray) lanes = g_array_new(FALSE, FALSE, sizeof(lane));
	for (size_t i = 0; i < count; i++) {
		const record *r = records[i];
		if (r->is_value) {
			write_value(w, r);
			continue;
		}
		lane *l = find_lane(w, lanes, r);
		g_array_append_val(l->open, r->end);
		write_span(w, r, l->thread);
	}
	for (unsigned i = 0; i < lanes->len; i++)
		g_array_free(g_array_index(lanes, lane, i).open, TRUE);
}

static void write_all(writer *w)
{
	const kvt_timeline *t = w->timeline;
	size_t count = t->records->len;
	g_autofree record **sorted = g_new(record *, count);
	for (size_t i = 0; i < count; i++)
		sorted[i] = &g_array_index(t->records, record, i);
	if (count > 0)
		qsort(sorted, count, sizeof(*sorted), compare_records);

	g_string_printf(w->scratch,
		"{\"displayTimeUnit\":\"ns\",\n\"otherData\":{\"producer\":\"kvtier\","
		"\"limit\":%" PRIu64 ",\"dropped\":%" PRIu64 "},\n\"traceEvents\":[\n",
		t->limit, t->dropped);
	write_text(w, w->scratch->str, w->scratch->len);
	for (kvt_track id = 1; id <= t->tracks->len; id++)
		if (get_track(t, id)->parent == 0)
			write_name(w, "process", id, 0, get_track(t, id)->name);
	for (size_t begin = 0, end; begin < count; begin = end) {
		for (end = begin + 1; end < count; end++)
			if (sorted[end]->track != sorted[begin]->track)
				break;
		write_track(w, sorted + begin, end - begin);
	}
	write_text(w, "\n]}\n", 4);
}

gboolean kvt_timeline_write(const kvt_timeline *t, const char *path, GError **error)
{
	if (t == NULL)
		return TRUE;
	writer w = { .timeline = t, .file = fopen(path, "w"), .first = true };
	if (w.file == NULL)
		return kvt_error_failed(error, "%s: cannot be opened to write the timeline: %s",
			path, g_strerror(errno));
	w.scratch = g_string_new(NULL);
	write_all(&w);
	g_string_free(w.scratch, TRUE);
	if (fflush(w.file) != 0 && w.error == 0)
		w.error = errno;
	if (fclose(w.file) != 0 && w.error == 0)
		w.error = errno;
	if (w.error != 0)
		return kvt_error_failed(error, "%s: the timeline is not written in whole: %s", path,
			g_strerror(w.error));
	return TRUE;
}
