/* sweep_experiment.c: an experiment of `kvtier run` as a point of a sweep. */
#include "sim/engine/experiment_run.h"
#include "sim/sweep/sweep_kind.h"

static bool accepts(kvt_config *config)
{
	return true;
}

static bool run(void *shared, kvt_config *config, kvt_model_store *models,
	kvt_sweep_metrics *metrics, GError **error)
{
	g_autoptr(kvt_experiment) experiment = kvt_experiment_new_with(config, models, error);
	json_t *result = experiment ? kvt_experiment_run(experiment, NULL, NULL, error) : NULL;
	if (!result)
		return false;
	json_object_del(result, "seed");
	kvt_sweep_metrics_add_json(metrics, result);
	json_decref(result);
	return true;
}

static const char *const shown[] = { "ttft_s", "tpot_s", "tokens_per_s", "speedup",
	"exact.prefill_s", "exact.users", NULL };

const kvt_sweep_kind kvt_sweep_experiment = {
	.name = "experiment",
	.accepts = accepts,
	.option = kvt_experiment_option,
	.run = run,
	.shown = shown,
};
