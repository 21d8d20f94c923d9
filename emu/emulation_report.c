/* emulation_report.c: an emulated turn to JSON: the engine's figures, and which of them are real.
 */
#include "emu/cpu_device.h"
#include "emu/emulation.h"
#include "sim/base/output.h"
#include "sim/engine/turn_report.h"

static json_t *stage(const char *name, double seconds, bool real)
{
	json_t *object = json_object();
	json_object_set_new(object, "stage", kvt_json_text(name));
	json_object_set_new(object, "seconds", kvt_json_real(seconds));
	json_object_set_new(object, "kind", json_string(real ? "REAL" : "MODELLED"));
	return object;
}

static void add_work(json_t *stages, const char *prefix, const double *work)
{
	for (unsigned kind = 0; kind < KVT_WORK_KINDS; kind++) {
		if (work[kind] <= 0)
			continue;
		g_autofree char *name = g_strconcat(prefix, kvt_work_names[kind], NULL);
		json_array_append_new(
			stages, stage(name, work[kind], kvt_cpu_device_is_real(kind)));
	}
}

/* Loading is real, and so is waiting: of what the clock says, it is what nothing modelled took. */
static json_t *stages_of(const kvt_emulation_result *result)
{
	const kvt_turn *turn = &result->turn;
	json_t *stages = json_array();
	json_array_append_new(stages, stage("store", result->written, true));
	json_array_append_new(stages, stage("first_window", turn->first_window, true));
	json_array_append_new(stages, stage("loading", turn->loading, true));
	json_array_append_new(stages, stage("waiting", turn->waiting, true));
	add_work(stages, "", turn->work);
	json_array_append_new(stages, stage("step.waiting", turn->step_waiting, true));
	add_work(stages, "step.", turn->step_work);
	return stages;
}

static json_t *check_of(const kvt_attention_errors *errors)
{
	json_t *object = json_object();
	json_object_set_new(object, "outputs", json_integer((json_int_t)errors->outputs));
	json_object_set_new(object, "compared", json_integer((json_int_t)errors->compared));
	json_object_set_new(object, "rms_error", kvt_json_real(errors->rms));
	json_object_set_new(object, "largest_error", kvt_json_real(errors->most));
	json_object_set_new(object, "resident_fp32_rms_error", kvt_json_real(errors->resident));
	json_object_set_new(object, "exact", json_boolean(kvt_attention_errors_pass(errors)));
	return object;
}

json_t *kvt_emulation_to_json(const kvt_experiment *experiment, const kvt_emulation_result *result)
{
	json_t *object = kvt_json_result("emulation", 1);
	json_object_set_new(object, "title", kvt_json_text(experiment->title));
	json_object_set_new(object, "tier", kvt_json_text(result->tier));
	json_object_set_new(object, "attention_isa", kvt_json_text(result->isa));
	json_object_set_new(object, "attention_threads", json_integer(result->threads));
	json_object_set_new(object, "stored_bytes", json_integer((json_int_t)result->stored_bytes));
	json_object_set_new(object, "stored_s", kvt_json_real(result->stored));
	json_t *turn = kvt_turn_to_json(experiment, &result->turn);
	json_object_update(object, turn);
	json_decref(turn);
	json_object_set_new(object, "marked_stages", stages_of(result));
	json_object_set_new(object, "attention", check_of(&result->errors));
	json_object_set_new(object, "seed", json_integer(experiment->seed));
	return object;
}
