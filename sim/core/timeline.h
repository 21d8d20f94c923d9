/*
 * timeline.h: what a run did when, as spans and counters on named tracks, written as a trace-event
 * JSON file that Perfetto (ui.perfetto.dev) and chrome://tracing open. A record for people to look
 * at; results come from elsewhere.
 *
 * A NULL timeline is a timeline that is off: every function takes it, records nothing, and costs a
 * test of a pointer. Format: "Trace Event Format", the Chromium project.
 */
#ifndef KVT_TIMELINE_H
#define KVT_TIMELINE_H

#include <glib.h>
#include <stdint.h>

#include "sim/base/sim_time.h"

typedef struct kvt_timeline kvt_timeline;
typedef uint32_t kvt_track; /* 0 is none, and what an off timeline hands out */

/* Enough for any table's run, and 42 MB. */
#define KVT_TIMELINE_DEFAULT_LIMIT 1000000

/* Keeps at most `limit` spans and counter values (40 bytes each, and each distinct name once); what
 * comes after is counted and dropped. */
kvt_timeline *kvt_timeline_new(uint64_t limit);
void kvt_timeline_free(kvt_timeline *timeline);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_timeline, kvt_timeline_free)

/*
 * A track; the name is copied and need not be unique. Without a parent (0) it is a process of the
 * viewer, such as a node; below one it is a thread of that process, such as a GPU's copy engine;
 * further down it is shown as "parent / name". Spans of a track may overlap: those that do not nest
 * are shown in lanes, "name #2" and so on.
 */
kvt_track kvt_timeline_track(kvt_timeline *timeline, const char *name, kvt_track parent);

/* Calls `each` with every span, in the order they were added; `track` is the name of its track. */
void kvt_timeline_each_span(const kvt_timeline *timeline,
	void (*each)(void *arg, const char *track, const char *name, kvt_time start, kvt_time end),
	void *arg);

/* Spans and values that did not fit. */
uint64_t kvt_timeline_dropped(const kvt_timeline *timeline);

/*
 * Writes the file. The same records give the same bytes: tracks in the order they were made, spans
 * of a track by start, the longer first. False with an error when the file cannot be written in
 * whole (the disk is full, say). The timeline may be added to and written again. TRUE and no file
 * for NULL.
 */
gboolean kvt_timeline_write(const kvt_timeline *timeline, const char *path, GError **error);

enum { KVT_TIMELINE_NO_BYTES = -1 };

/* What the inline functions below call when the timeline is on. */
void kvt_timeline_add_span(kvt_timeline *timeline, kvt_track track, const char *name,
	kvt_time start, kvt_time end, int64_t bytes);
void kvt_timeline_add_value(
	kvt_timeline *timeline, kvt_track track, const char *name, kvt_time time, double value);

/* Something that went on from `start` to `end` (>= start); the name is copied. */
static inline void kvt_timeline_span(
	kvt_timeline *timeline, kvt_track track, const char *name, kvt_time start, kvt_time end)
{
	if (timeline != NULL)
		kvt_timeline_add_span(timeline, track, name, start, end, KVT_TIMELINE_NO_BYTES);
}

/* The same, with the bytes that it moved. */
static inline void kvt_timeline_span_bytes(kvt_timeline *timeline, kvt_track track,
	const char *name, kvt_time start, kvt_time end, uint64_t bytes)
{
	if (timeline != NULL)
		kvt_timeline_add_span(timeline, track, name, start, end, (int64_t)bytes);
}

/* The counter `name` has this value from `time` on. A value that is not finite is not recorded. */
static inline void kvt_timeline_counter(
	kvt_timeline *timeline, kvt_track track, const char *name, kvt_time time, double value)
{
	if (timeline != NULL)
		kvt_timeline_add_value(timeline, track, name, time, value);
}

#endif
