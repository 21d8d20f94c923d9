/*
 * migration.h: a session goes on at another node than it began. That node can fetch the context's
 * pages from the first one's pool, which is its storage, or compute them again; both are held
 * against the turn as it would have been at home. A fetch is an ordinary resume: pages that do not
 * arrive are recomputed. What was fetched may go to that node's own pool, for the turns to come.
 */
#ifndef KVT_MIGRATION_H
#define KVT_MIGRATION_H

#include <jansson.h>

#include "sim/engine/turn.h"

typedef enum kvt_migration_turn {
	KVT_MIGRATION_STAY,      /* at the first node, from [migrate] home_tier */
	KVT_MIGRATION_FETCH,     /* at the other node, from [storage] */
	KVT_MIGRATION_SETTLED,   /* there once more, from [migrate] keep_tier, if there is one */
	KVT_MIGRATION_RECOMPUTE, /* there, from nothing */
	KVT_MIGRATION_TURNS,
} kvt_migration_turn;

/* "stay", "fetch", "settled", "recompute", in that order. */
extern const char *const kvt_migration_names[KVT_MIGRATION_TURNS];

typedef struct kvt_migration {
	kvt_turn turns[KVT_MIGRATION_TURNS];
	bool settled; /* whether that was one of them */
} kvt_migration;

/* Runs them, the fetch in `world` and on the timeline, which may be NULL, the others of models.
 * False with an error as kvt_turn_run_in. */
bool kvt_migration_run(const kvt_world *world, const kvt_experiment *experiment,
	kvt_timeline *timeline, kvt_migration *migration, GError **error);

/* The same where `run` runs each, in the order above; it is given the turn's own experiment. */
typedef bool (*kvt_migration_runner)(void *arg, kvt_migration_turn which,
	const kvt_experiment *experiment, kvt_turn *turn, GError **error);
bool kvt_migration_run_by(kvt_migration_runner run, void *arg, const kvt_experiment *experiment,
	kvt_migration *migration, GError **error);

/* Bytes/s of pages at which fetching takes as long as recomputing. */
double kvt_migration_break_even(const kvt_migration *migration);

/* The turns' times to first token, and what they say. A new reference. */
json_t *kvt_migration_to_json(const kvt_migration *migration);

#endif
