/*
 * sweep_journal.h: the points of a sweep that have run, in an append-only file of frames
 * (sweep_record.h). What was appended is there after a kill; a frame that was being written is
 * dropped when the journal is opened again. One process writes it, and holds its lock.
 */
#ifndef KVT_SWEEP_JOURNAL_H
#define KVT_SWEEP_JOURNAL_H

#include "sim/sweep/sweep_record.h"

typedef struct kvt_sweep_journal kvt_sweep_journal;

/*
 * Opens the journal of a sweep of `n_points` at `path`, or makes it, or empties it when `anew`;
 * `identity` is a text that says which sweep it is. A NULL path is a file without a name, which
 * goes with the journal. NULL with an error when another process has it, it is of another sweep, or
 * it cannot be written.
 */
kvt_sweep_journal *kvt_sweep_journal_open(
	const char *path, const char *identity, uint64_t n_points, bool anew, GError **error);

/* Closes it and, when `remove`, deletes the file. */
void kvt_sweep_journal_close(kvt_sweep_journal *journal, bool remove);

/* Appends frames of points and names. A point that is there already is left out. */
gboolean kvt_sweep_journal_append(
	kvt_sweep_journal *journal, const void *frames, uint64_t size, GError **error);

/* Waits until what was appended is on the drive. */
gboolean kvt_sweep_journal_sync(kvt_sweep_journal *journal, GError **error);

uint64_t kvt_sweep_journal_points(const kvt_sweep_journal *journal); /* of the sweep */
uint64_t kvt_sweep_journal_done(const kvt_sweep_journal *journal);   /* there, failed ones too */
uint64_t kvt_sweep_journal_failed(const kvt_sweep_journal *journal);
bool kvt_sweep_journal_has(const kvt_sweep_journal *journal, uint64_t point);

/* Lists of names: there are as many, from 0; the text has a newline after each name. */
unsigned kvt_sweep_journal_names_count(const kvt_sweep_journal *journal);
const char *kvt_sweep_journal_names(const kvt_sweep_journal *journal, unsigned index);

/* Makes all that was appended readable by kvt_sweep_journal_read, until kvt_sweep_journal_unmap. */
gboolean kvt_sweep_journal_map(kvt_sweep_journal *journal, GError **error);
void kvt_sweep_journal_unmap(kvt_sweep_journal *journal);

/* The frame of a point that is there; *names is the index of its names (of a point that ran). */
void kvt_sweep_journal_read(
	const kvt_sweep_journal *journal, uint64_t point, kvt_sweep_frame *frame, unsigned *names);

/* Lets go of the memory that reading has taken so far; frames stay readable. */
void kvt_sweep_journal_forget(const kvt_sweep_journal *journal);

#endif
