/*
 * migration.h: a session goes on at another node than it began. That node can fetch the context's
 * pages from the first one's pool, which is its storage, or compute them again; both are held
 * against the turn as it would have been at home. A fetch is an ordinary resume: pages that do not
 * arrive are recomputed.
 */
#ifndef KVT_MIGRATION_H
#define KVT_MIGRATION_H

#include "sim/engine/turn.h"

typedef struct kvt_migration {
	kvt_turn fetch;     /* at the other node, from [storage] */
	kvt_turn recompute; /* there, from nothing */
	kvt_turn stay;      /* at the first node, from [migrate] home_tier */
} kvt_migration;

/* Runs all three, the fetch in `world` and on the timeline, which may be NULL. False with an error
 * as kvt_turn_run_in. */
bool kvt_migration_run(const kvt_world *world, const kvt_experiment *experiment,
	kvt_timeline *timeline, kvt_migration *migration, GError **error);

/* Bytes/s of pages at which fetching takes as long as recomputing. */
double kvt_migration_break_even(const kvt_migration *migration);

#endif
