/* migration.c: one experiment, run as three turns. */
#include "sim/engine/migration.h"

bool kvt_migration_run(const kvt_world *world, const kvt_experiment *experiment,
	kvt_timeline *timeline, kvt_migration *migration, GError **error)
{
	kvt_experiment again = *experiment, home = *experiment;
	again.resume_policy = KVT_RESUME_RECOMPUTE;
	home.tier_name = experiment->home_tier;
	home.second_share = 0;
	home.resume_policy = KVT_RESUME_LOAD;
	return kvt_turn_run_in(
		       world, experiment, KVT_RUN_RESUME, timeline, &migration->fetch, error) &&
	       kvt_turn_run(&again, KVT_RUN_RESUME, NULL, &migration->recompute, error) &&
	       kvt_turn_run(&home, KVT_RUN_RESUME, NULL, &migration->stay, error);
}

double kvt_migration_break_even(const kvt_migration *migration)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < KVT_SYSTEM_STORES_MAX; i++)
		bytes += migration->fetch.read_bytes[i];
	return (double)bytes / migration->recompute.ttft;
}
