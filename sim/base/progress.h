/*
 * progress.h: one line on a terminal that says how far a long piece of work is. Nothing shows in
 * the first second, when stderr is no terminal, or under CI; the line is overwritten in place and
 * gone at the end. The clock is read for display only: no result depends on it.
 */
#ifndef KVT_PROGRESS_H
#define KVT_PROGRESS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct kvt_progress kvt_progress;

/* Work of `total` steps on stderr; 0 when nobody knows how many. The label is copied. */
kvt_progress *kvt_progress_new(const char *label, uint64_t total);

/* `done` steps are behind. Cheap, about the cost of reading the clock; one thread at a time. */
void kvt_progress_update(kvt_progress *progress, uint64_t done);

/* Clears the line. NULL is nothing. */
void kvt_progress_free(kvt_progress *progress);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_progress, kvt_progress_free)

/* Whether progress belongs on stderr: it is a terminal that can overwrite, and CI is not set. */
bool kvt_progress_wanted(void);

/* The same on any stream, with a clock in microseconds; `shown` false shows nothing. */
kvt_progress *kvt_progress_new_on(
	FILE *stream, bool shown, int64_t (*clock)(void), const char *label, uint64_t total);

#endif
