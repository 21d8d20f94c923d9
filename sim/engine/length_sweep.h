/*
 * length_sweep.h: an experiment over a range of context lengths: TTFT with and without the cache,
 * or, where the file has sections [curve ID], TTFT from stored KV with the settings of each. For
 * the curves; the file says in [sweep] from where to where and in how many points.
 */
#ifndef KVT_LENGTH_SWEEP_H
#define KVT_LENGTH_SWEEP_H

#include "sim/engine/power_fit.h"
#include "sim/engine/turn.h"

typedef struct kvt_length_point {
	uint64_t tokens;
	kvt_turn cold, resume;
} kvt_length_point;

/* The keys of a section [sweep], for help. */
extern const kvt_option kvt_sweep_options[];

/* A [curve ID]: the sweep with the section's settings, "section.key = value" each. */
typedef struct kvt_length_curve {
	char *id, *title; /* the title is the ID where the section gives none */
	GArray *points;   /* of kvt_length_point, without `cold` */
	/* of TTFT from stored KV: from [sweep] fit_from to fit_to, and over the last factor of ten
	 * of the sweep (points 0 where that holds fewer than two) */
	kvt_power_fit fit, last;
} kvt_length_curve;

void kvt_length_curve_free(kvt_length_curve *curve);

/* Whether the experiment file has a [sweep] section. */
bool kvt_length_sweep_present(const char *path);

/* Runs every point of the file's sweep, by rising length, evenly spaced on a logarithmic scale.
 * Appends kvt_length_point to `points` (a GArray). */
bool kvt_length_sweep_run(
	const char *path, const char *const *overrides, GArray *points, GError **error);

/* Whether the file has curves of its own; kvt_length_sweep_run is not meant for it then. */
bool kvt_length_curves_present(const char *path);

/* Runs every curve of the file. Appends kvt_length_curve to `curves`. */
bool kvt_length_curves_run(const char *path, GPtrArray *curves, GError **error);

#endif
