/* experiment_run.c: runs an experiment by its kind, and puts its turns' figures together. */
#include "sim/engine/experiment_run.h"

#include "sim/base/output.h"
#include "sim/engine/migration.h"
#include "sim/engine/peak_analysis.h"
#include "sim/engine/turn_report.h"

static bool run_turn(const kvt_experiment *experiment, kvt_run_kind kind, kvt_timeline *timeline,
	kvt_decision_log *decisions, json_t **out, kvt_turn *turn, GError **error)
{
	const kvt_world models = { .decisions = decisions };
	if (!kvt_turn_run_in(&models, experiment, kind, timeline, turn, error) ||
		(decisions && !kvt_decision_log_end(decisions, error)))
		return false;
	*out = kvt_turn_to_json(experiment, turn);
	return true;
}

/* Break-even: the rate at which loading the context takes as long as computing it. */
static void add_break_even(json_t *result, const kvt_turn *cold, const kvt_turn *resume)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < KVT_SYSTEM_STORES_MAX; i++)
		bytes += resume->read_bytes[i];
	json_object_set_new(result, "speedup", kvt_json_real(cold->ttft / resume->ttft));
	json_object_set_new(
		result, "break_even_bytes_per_s", kvt_json_real((double)bytes / cold->ttft));
}

static json_t *run_peak(const kvt_experiment *experiment)
{
	json_t *result = kvt_json_result("peak", 1);
	const char *names[] = { "source_units", "exact" };
	for (unsigned i = 0; i < 2; i++) {
		kvt_peak peak = kvt_peak_analyse(experiment, i == 1);
		json_t *object = json_object();
		json_object_set_new(object, "kv_bytes", kvt_json_real(peak.kv_bytes));
		json_object_set_new(object, "prefill_s", kvt_json_real(peak.prefill));
		json_object_set_new(object, "decode_s", kvt_json_real(peak.decode));
		json_object_set_new(object, "context_switch_s", kvt_json_real(peak.context_switch));
		json_object_set_new(object, "users", kvt_json_real(peak.users));
		json_object_set_new(result, names[i], object);
	}
	return result;
}

/* The result's own figures are those of the fetch. */
static json_t *run_migration(const kvt_experiment *experiment, kvt_timeline *timeline,
	kvt_decision_log *decisions, GError **error)
{
	const kvt_world models = { .decisions = decisions };
	kvt_migration migration;
	if (!kvt_migration_run(&models, experiment, timeline, &migration, error) ||
		(decisions && !kvt_decision_log_end(decisions, error)))
		return NULL;
	json_t *result = kvt_turn_to_json(experiment, &migration.turns[KVT_MIGRATION_FETCH]);
	json_object_set_new(result, "migration", kvt_migration_to_json(&migration));
	return result;
}

/* One turn, or a cold one and a resume of it. */
static json_t *run_turns(const kvt_experiment *experiment, kvt_timeline *timeline,
	kvt_decision_log *decisions, GError **error)
{
	kvt_turn resume, cold;
	json_t *result = NULL, *cold_json = NULL;
	bool both = experiment->kind == KVT_RUN_BOTH;
	if (both && !run_turn(experiment, KVT_RUN_COLD, NULL, NULL, &cold_json, &cold, error))
		return NULL;
	kvt_run_kind kind = both ? KVT_RUN_RESUME : (kvt_run_kind)experiment->kind;
	if (!run_turn(experiment, kind, timeline, decisions, &result, &resume, error)) {
		json_decref(cold_json);
		return NULL;
	}
	if (both) {
		add_break_even(result, &cold, &resume);
		json_object_set_new(result, "cold", cold_json);
	}
	return result;
}

json_t *kvt_experiment_run(const kvt_experiment *experiment, kvt_timeline *timeline,
	kvt_decision_log *decisions, GError **error)
{
	if (experiment->kind == KVT_RUN_PEAK)
		return run_peak(experiment);
	json_t *main_turn = experiment->kind == KVT_RUN_MIGRATE
				    ? run_migration(experiment, timeline, decisions, error)
				    : run_turns(experiment, timeline, decisions, error);
	if (!main_turn)
		return NULL;
	json_t *result = kvt_json_result("run", 1);
	json_object_set_new(result, "title", kvt_json_text(experiment->title));
	json_object_update(result, main_turn);
	json_decref(main_turn);
	json_object_set_new(result, "seed", json_integer(experiment->seed));
	return result;
}
