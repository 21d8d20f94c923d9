/*
 * sweep_run.h: runs a sweep: threads here, ranks elsewhere, one journal, one file of results. What
 * is run is a sweep_kind.h's, where results go sweep_journal.h's and sweep_file.h's.
 *
 * The journal may be beside the file of results, PATH, and is gone once that is whole.
 * While the sweep runs, PATH has what was there at most some seconds, or a fiftieth of the time so
 * far, ago. After a kill the same sweep goes on from the journal.
 */
#ifndef KVT_SWEEP_RUN_H
#define KVT_SWEEP_RUN_H

#include "sim/sweep/sweep_file.h"
#include "sim/sweep/sweep_pool.h"
#include "sim/sweep/sweep_ranks.h"

typedef struct kvt_sweep {
	kvt_sweep_work work;
	kvt_config *config;
	kvt_sweep_plan *plan;
	kvt_model_store *models;
	char *experiment, *command; /* its text; the options that make the sweep what it is */
	char *identity;             /* of all that results depend on */
} kvt_sweep;

/* Reads an experiment and its sweep; `sets` as for kvt_experiment_load. `version` is kvtier's. NULL
 * with an error. */
kvt_sweep *kvt_sweep_new(const char *path, const char *const *sets,
	const kvt_sweep_request *request, const char *version, GError **error);
void kvt_sweep_free(kvt_sweep *sweep);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_sweep, kvt_sweep_free)

typedef struct kvt_sweep_options {
	const char *out;     /* file of results */
	const char *journal; /* NULL: without a name; nothing is gone on with then */
	const char *version;
	unsigned threads;                 /* of this rank */
	bool overwrite;                   /* what is at `out`, whatever it is */
	void (*say)(const char *message); /* what people should know while it runs; one line */
	bool timings; /* are columns of the file, which differs from run to run then */
} kvt_sweep_options;

/*
 * Runs all points that are not there yet, as rank 0 of `ranks` or alone (NULL), and writes the file
 * of results. Points that fail are in it as such. False with an error when results cannot be
 * written, or a signal (INT, TERM) stopped it.
 */
gboolean kvt_sweep_run(
	kvt_sweep *sweep, kvt_sweep_ranks *ranks, const kvt_sweep_options *options, GError **error);

/* Runs points that rank 0 deals, until there are none. */
gboolean kvt_sweep_serve(
	kvt_sweep *sweep, kvt_sweep_ranks *ranks, unsigned threads, GError **error);

/* Tells rank 0, or rank 0 the others, that this rank will run nothing, and why. */
void kvt_sweep_refuse(kvt_sweep_ranks *ranks, const char *reason);

#endif
