/*
 * length_sweep.h: an experiment over a range of context lengths: TTFT with and without the cache.
 * For the curves; the file says in [sweep] from where to where and in how many points.
 */
#ifndef KVT_LENGTH_SWEEP_H
#define KVT_LENGTH_SWEEP_H

#include "sim/engine/turn.h"

typedef struct kvt_length_point {
	uint64_t tokens;
	kvt_turn cold, resume;
} kvt_length_point;

/* The keys of a section [sweep], for help. */
extern const kvt_option kvt_sweep_options[];

/* Whether the experiment file has a [sweep] section. */
bool kvt_length_sweep_present(const char *path);

/* Runs every point of the file's sweep, by rising length, evenly spaced on a logarithmic scale.
 * Appends kvt_length_point to `points` (a GArray). */
bool kvt_length_sweep_run(
	const char *path, const char *const *overrides, GArray *points, GError **error);

#endif
