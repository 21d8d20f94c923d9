/* emulation_report.c: an emulated turn to JSON: the engine's figures, and which of them are real.
 */
#include "emu/device/turn_tokens.h"
#include "emu/turn/emulation.h"
#include "sim/base/output.h"
#include "sim/engine/replay_feed.h"
#include "sim/engine/replay_report.h"
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
		json_array_append_new(stages, stage(name, work[kind], kvt_turn_work_is_real(kind)));
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
	if (errors->bound > 0)
		json_object_set_new(
			object, "allowed_rms_error", kvt_json_real(errors->bound * errors->output));
	json_object_set_new(object, "exact", json_boolean(kvt_attention_errors_pass(errors)));
	return object;
}

static json_t *data_of(const kvt_emulation_data *data)
{
	json_t *object = json_object();
	json_object_set_new(object, "kind", json_string(data->recorded ? "recorded" : "random"));
	if (!data->recorded)
		return object;
	json_t *layers = json_array();
	for (uint32_t i = 0; i < data->n_layers; i++)
		json_array_append_new(layers, json_integer(data->layers[i]));
	json_object_set_new(object, "trace", kvt_json_text(data->trace));
	json_object_set_new(object, "model", kvt_json_text(data->model));
	json_object_set_new(object, "layers", layers);
	json_object_set_new(object, "rounded", json_boolean(data->rounded));
	json_object_set_new(object, "stored_tokens", json_integer((json_int_t)data->stored_tokens));
	json_object_set_new(object, "query_tokens", json_integer((json_int_t)data->query_tokens));
	json_object_set_new(
		object, "first_position", json_integer((json_int_t)data->first_position));
	json_object_set_new(object, "last_position", json_integer((json_int_t)data->last_position));
	json_object_set_new(object, "left_out_tokens", json_integer((json_int_t)data->left_out));
	return object;
}

char *kvt_emulation_data_text(const kvt_emulation_data *data)
{
	if (!data->recorded)
		return g_strdup("keys, values and queries: random numbers");
	GString *text = g_string_new("keys, values and queries: recorded, layer ");
	for (uint32_t i = 0; i < data->n_layers; i++)
		g_string_append_printf(text, "%s%u", i > 0 ? ", " : "", data->layers[i]);
	g_string_append_printf(text,
		" of %s%s;\n%" G_GUINT64_FORMAT " tokens stored, queries of %" G_GUINT64_FORMAT
		" tokens, positions %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
		data->trace, data->rounded ? ", KV rounded" : "", data->stored_tokens,
		data->query_tokens, data->first_position, data->last_position);
	if (data->left_out > 0)
		g_string_append_printf(text,
			"; %" G_GUINT64_FORMAT
			" tokens between them have no recorded queries and are left out",
			data->left_out);
	return g_string_free(text, FALSE);
}

static json_t *step_stages(const kvt_emulated_step *step)
{
	json_t *stages = json_array();
	json_array_append_new(stages, stage("planning", step->planning, true));
	json_array_append_new(stages, stage("attention", step->attention, true));
	json_array_append_new(stages, stage("waiting", step->waiting, true));
	json_array_append_new(stages, stage("bookkeeping", step->bookkeeping, true));
	json_array_append_new(stages, stage("dense", step->modelled, false));
	return stages;
}

static json_t *decode_of(const kvt_emulated_decode *decode, const char *tier)
{
	const kvt_replay_settings *settings = &decode->settings;
	kvt_emulated_step step = kvt_emulated_decode_step(decode);
	json_t *object = kvt_replay_to_json(settings, &decode->replay, tier);
	json_object_set_new(object, "prefetch", kvt_json_text(settings->prefetcher->name));
	json_object_set_new(object, "policy", kvt_json_text(settings->policy->name));
	json_object_set_new(object, "attention_form",
		kvt_json_text(kvt_replay_attention_names[settings->attention]));
	json_object_set_new(
		object, "query", kvt_json_text(kvt_replay_query_names[settings->query]));
	json_object_set_new(object, "budget", kvt_json_real(settings->budget));
	json_object_set_new(
		object, "first_position", json_integer((json_int_t)decode->first_position));
	json_object_set_new(
		object, "last_position", json_integer((json_int_t)decode->last_position));
	json_object_set_new(object, "stored_bytes", json_integer((json_int_t)decode->stored_bytes));
	json_object_set_new(object, "step_s", kvt_json_real(step.all));
	json_object_set_new(object, "marked_stages", step_stages(&step));
	json_object_set_new(object, "mass_attended", kvt_json_real(decode->mass));
	json_object_set_new(object, "attention", check_of(&decode->errors));
	return object;
}

static json_t *migration_of(const kvt_emulated_migration *moved)
{
	json_t *object = kvt_migration_to_json(&moved->migration), *checks = json_object();
	for (unsigned i = 0; i < KVT_MIGRATION_TURNS; i++)
		if (i != KVT_MIGRATION_SETTLED || moved->migration.settled)
			json_object_set_new(
				checks, kvt_migration_names[i], check_of(&moved->errors[i]));
	json_object_set_new(object, "attention", checks);
	return object;
}

static json_t *gpu_of(const kvt_emulation_result *result)
{
	const kvt_gpu_description *d = &result->gpu;
	json_t *object = json_object();
	json_object_set_new(object, "name", kvt_json_text(d->name));
	json_object_set_new(object, "bus", kvt_json_text(d->bus));
	json_object_set_new(object, "versions", kvt_json_text(d->versions));
	json_object_set_new(object, "memory_bytes", json_integer((json_int_t)d->memory));
	json_object_set_new(object, "cap_bytes",
		result->gpu_cap > 0 ? json_integer((json_int_t)result->gpu_cap) : json_null());
	json_object_set_new(object, "peak_bytes", json_integer((json_int_t)result->gpu_peak));
	return object;
}

static void add_device(json_t *object, const kvt_emulation_result *result)
{
	bool gpu = result->device == KVT_EMULATED_CUDA;
	json_object_set_new(object, "device", json_string(gpu ? "cuda" : "cpu"));
	json_object_set_new(object, "one_rank", json_boolean(result->one_rank));
	if (gpu) {
		json_object_set_new(object, "gpu", gpu_of(result));
		return;
	}
	json_object_set_new(object, "attention_isa", kvt_json_text(result->isa));
	json_object_set_new(object, "attention_threads", json_integer(result->threads));
}

char *kvt_emulation_device_text(const kvt_emulation_result *result)
{
	const kvt_gpu_description *d = &result->gpu;
	if (result->device == KVT_EMULATED_CPU)
		return g_strdup_printf(
			"attention on %u threads with %s", result->threads, result->isa);
	g_autofree char *peak = kvt_unit_format((double)result->gpu_peak, KVT_UNIT_BYTES);
	g_autofree char *cap = kvt_unit_format((double)result->gpu_cap, KVT_UNIT_BYTES);
	return g_strdup_printf("attention on %s%s%s (%s); %s of its memory%s%s", d->name,
		*d->bus ? " at " : "", d->bus, d->versions, peak,
		result->gpu_cap > 0 ? ", cap " : "", result->gpu_cap > 0 ? cap : "");
}

json_t *kvt_emulation_to_json(const kvt_experiment *experiment, const kvt_emulation_result *result)
{
	json_t *object = kvt_json_result("emulation", 1);
	json_object_set_new(object, "title", kvt_json_text(experiment->title));
	json_object_set_new(object, "tier", kvt_json_text(result->tier));
	json_object_set_new(object, "data", data_of(&result->data));
	add_device(object, result);
	json_object_set_new(object, "stored_bytes", json_integer((json_int_t)result->stored_bytes));
	json_object_set_new(object, "stored_s", kvt_json_real(result->stored));
	json_t *turn = kvt_turn_to_json(experiment, &result->turn);
	json_object_update(object, turn);
	json_decref(turn);
	json_object_set_new(object, "marked_stages", stages_of(result));
	json_object_set_new(object, "attention", check_of(&result->errors));
	if (result->migration.ran)
		json_object_set_new(object, "migration", migration_of(&result->migration));
	if (result->decode.ran)
		json_object_set_new(object, "decode", decode_of(&result->decode, result->tier));
	json_object_set_new(object, "seed", json_integer(experiment->seed));
	return object;
}
