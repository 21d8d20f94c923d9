/*
 * selectivity.h: how large a share of a global layer's pages holds a share of its attention mass,
 * by context length: curves measured on recorded attention (experiments/selectivity.sh), read from
 * a CSV file. It says what a choice of pages takes; who makes it, and when, is page_choice.h's.
 *
 * The file's columns, in any order; lines that begin with # are skipped:
 *   chooser    what ranked the pages: a prefetcher
 *   layer      the recorded layer
 *   scope      token: a step's own pages, mean over steps; question: those that any of a question's
 *              tokens chose, together
 *   mass       wanted, of each step, by the chooser's own estimate
 *   kind       recorded, or grown: of a synthetic trace that was grown from a recording
 *   tokens     of the context
 *   share      of the pages present, of one KV head
 *   run_pages  neighbouring pages chosen together, mean
 *   mass_kept  what the choice really held
 *   trace      the recording
 */
#ifndef KVT_SELECTIVITY_H
#define KVT_SELECTIVITY_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum kvt_choice_scope {
	KVT_CHOICE_TOKEN,
	KVT_CHOICE_QUESTION,
} kvt_choice_scope;

/* "token", "question", NULL. */
extern const char *const kvt_choice_scope_names[];

/* Which of the file's curves is meant. */
typedef struct kvt_selectivity_key {
	const char *chooser;
	const char *layers; /* recorded layers, "7" or "3 7": the model's global layers are like
			     * them, in equal parts */
	int scope;          /* kvt_choice_scope */
	double mass;
	bool grown; /* grown traces count where no recording is as long */
} kvt_selectivity_key;

/* A choice at one context length. */
typedef struct kvt_selectivity_point {
	double tokens;
	double share;     /* above 0 to 1 */
	double run_pages; /* at least 1 */
	double mass_kept;
	double recorded_to; /* the longest recording, of the layer that has the shortest one */
	/* No recording is as long, or as short: what grown traces have is taken, or the share of
	 * the nearest is held. */
	bool extrapolated;
} kvt_selectivity_point;

typedef struct kvt_selectivity kvt_selectivity;

/* NULL with a one-line "file:line: column: reason, expected what", or an error that names the
 * curves that are there. Recordings of one length are averaged. */
kvt_selectivity *kvt_selectivity_load(
	const char *path, const kvt_selectivity_key *key, GError **error);

/* The same from memory; `name` stands for the file in messages. */
kvt_selectivity *kvt_selectivity_parse(
	const char *name, const char *text, const kvt_selectivity_key *key, GError **error);

void kvt_selectivity_free(kvt_selectivity *selectivity);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_selectivity, kvt_selectivity_free)

/* At a context of `tokens`: straight lines over the logarithm of the length between what was
 * measured, and the nearest share beyond; the mean over the layers. */
kvt_selectivity_point kvt_selectivity_at(const kvt_selectivity *selectivity, double tokens);

#endif
