/* migration.c: one experiment, run as several turns. */
#include "sim/engine/migration.h"

#include "sim/base/output.h"

const char *const kvt_migration_names[KVT_MIGRATION_TURNS] = {
	[KVT_MIGRATION_STAY] = "stay",
	[KVT_MIGRATION_FETCH] = "fetch",
	[KVT_MIGRATION_SETTLED] = "settled",
	[KVT_MIGRATION_RECOMPUTE] = "recompute",
};

/* A turn's own experiment: a copy, of which the original stays the owner. */
static kvt_experiment experiment_of(const kvt_experiment *experiment, kvt_migration_turn which)
{
	kvt_experiment own = *experiment;
	if (which == KVT_MIGRATION_FETCH)
		return own;
	own.keep_tier = (char *)""; /* nobody writes to it */
	if (which == KVT_MIGRATION_RECOMPUTE) {
		own.resume_policy = KVT_RESUME_RECOMPUTE;
		return own;
	}
	own.tier_name = which == KVT_MIGRATION_STAY ? experiment->home_tier : experiment->keep_tier;
	own.second_share = 0;
	own.resume_policy = KVT_RESUME_LOAD;
	return own;
}

bool kvt_migration_run_by(kvt_migration_runner run, void *arg, const kvt_experiment *experiment,
	kvt_migration *migration, GError **error)
{
	*migration = (kvt_migration){ .settled = *experiment->keep_tier != '\0' };
	for (unsigned i = 0; i < KVT_MIGRATION_TURNS; i++) {
		kvt_experiment own = experiment_of(experiment, i);
		if (i == KVT_MIGRATION_SETTLED && !migration->settled)
			continue;
		if (!run(arg, i, &own, &migration->turns[i], error))
			return false;
	}
	return true;
}

typedef struct modelled {
	const kvt_world *world;
	kvt_timeline *timeline;
} modelled;

static bool run_modelled(void *arg, kvt_migration_turn which, const kvt_experiment *experiment,
	kvt_turn *turn, GError **error)
{
	const modelled *m = arg;
	if (which == KVT_MIGRATION_FETCH)
		return kvt_turn_run_in(
			m->world, experiment, KVT_RUN_RESUME, m->timeline, turn, error);
	return kvt_turn_run(experiment, KVT_RUN_RESUME, NULL, turn, error);
}

bool kvt_migration_run(const kvt_world *world, const kvt_experiment *experiment,
	kvt_timeline *timeline, kvt_migration *migration, GError **error)
{
	modelled m = { world, timeline };
	return kvt_migration_run_by(run_modelled, &m, experiment, migration, error);
}

double kvt_migration_break_even(const kvt_migration *migration)
{
	const kvt_turn *fetch = &migration->turns[KVT_MIGRATION_FETCH];
	uint64_t bytes = 0;
	for (unsigned i = 0; i < KVT_SYSTEM_STORES_MAX; i++)
		bytes += fetch->read_bytes[i];
	return (double)bytes / migration->turns[KVT_MIGRATION_RECOMPUTE].ttft;
}

json_t *kvt_migration_to_json(const kvt_migration *migration)
{
	const kvt_turn *turns = migration->turns;
	json_t *times = json_object();
	for (unsigned i = 0; i < KVT_MIGRATION_TURNS; i++) {
		g_autofree char *key = g_strconcat(kvt_migration_names[i], "_s", NULL);
		if (i != KVT_MIGRATION_SETTLED || migration->settled)
			json_object_set_new(times, key, kvt_json_real(turns[i].ttft));
	}
	json_object_set_new(times, "recompute_over_fetch",
		kvt_json_real(
			turns[KVT_MIGRATION_RECOMPUTE].ttft / turns[KVT_MIGRATION_FETCH].ttft));
	json_object_set_new(times, "break_even_bytes_per_s",
		kvt_json_real(kvt_migration_break_even(migration)));
	return times;
}
