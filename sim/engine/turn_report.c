/* turn_report.c: turns and their provenance to JSON. */
#include "sim/engine/turn_report.h"

#include "models/model_file.h"
#include "sim/base/output.h"

static const char *store_name(const kvt_experiment *e, unsigned i)
{
	return i == 0 && e->second_share < 1 ? e->tier_name : e->second_tier_name;
}

static json_t *store_bytes(const kvt_experiment *e, const uint64_t *bytes)
{
	json_t *object = json_object();
	unsigned stores = e->second_share > 0 && e->second_share < 1 ? 2 : 1;
	for (unsigned i = 0; i < stores; i++)
		json_object_set_new(object, store_name(e, i), json_integer((json_int_t)bytes[i]));
	return object;
}

static void set_real(json_t *object, const char *key, double value)
{
	json_object_set_new(object, key, kvt_json_real(value));
}

static json_t *stages(const kvt_turn *turn)
{
	json_t *object = json_object();
	set_real(object, "first_window_s", turn->first_window);
	set_real(object, "loading_s", turn->loading);
	set_real(object, "after_loading_s", turn->after_loading);
	set_real(object, "waiting_s", turn->waiting);
	for (unsigned kind = 0; kind < KVT_WORK_KINDS; kind++) {
		g_autofree char *key = g_strconcat(kvt_work_names[kind], "_s", NULL);
		set_real(object, key, turn->work[kind]);
	}
	set_real(object, "written_out_s", turn->written_out);
	json_t *step = json_object();
	set_real(step, "waiting_s", turn->step_waiting);
	for (unsigned kind = 0; kind < KVT_WORK_KINDS; kind++) {
		g_autofree char *key = g_strconcat(kvt_work_names[kind], "_s", NULL);
		set_real(step, key, turn->step_work[kind]);
	}
	json_object_set_new(object, "decode_step", step);
	return object;
}

/* What of global layers is loaded. */
static json_t *choice(const kvt_selectivity_point *point)
{
	json_t *object = json_object();
	set_real(object, "share", point->share);
	set_real(object, "run_pages", point->run_pages);
	set_real(object, "mass_kept", point->mass_kept);
	json_object_set_new(object, "extrapolated", json_boolean(point->extrapolated));
	set_real(object, "recorded_to_tokens", point->recorded_to);
	return object;
}

/* What went to a tier once the first token was there. */
static json_t *writes(const kvt_page_writes *written)
{
	json_t *object = json_object();
	json_object_set_new(object, "bytes", json_integer((json_int_t)written->bytes));
	json_object_set_new(
		object, "failed_bytes", json_integer((json_int_t)written->failed_bytes));
	set_real(object, "seconds", written->seconds);
	return object;
}

/* What storage did not deliver; NULL: nothing. */
static json_t *lost_pages(const kvt_turn *turn)
{
	const kvt_lost_counts *lost = &turn->lost;
	json_t *object = json_object(), *pages = json_object();
	uint64_t n = lost->rereads;
	for (unsigned i = 0; i < KVT_LOSSES; i++) {
		n += lost->pages[i];
		json_object_set_new(
			pages, kvt_loss_names[i], json_integer((json_int_t)lost->pages[i]));
	}
	json_object_set_new(object, "pages", pages);
	json_object_set_new(object, "reread_ios", json_integer((json_int_t)lost->rereads));
	json_object_set_new(object, "recomputed_tokens", json_integer((json_int_t)lost->tokens));
	json_object_set_new(
		object, "recomputed_token_layers", json_integer((json_int_t)lost->token_layers));
	set_real(object, "recompute_s", kvt_time_to_seconds(lost->time));
	set_real(object, "given_up_s", turn->given_up);
	json_object_set_new(object, "stored_again", writes(&turn->stored_again));
	if (n > 0)
		return object;
	json_decref(object);
	return NULL;
}

json_t *kvt_turn_to_json(const kvt_experiment *e, const kvt_turn *turn)
{
	json_t *object = json_object();
	set_real(object, "ttft_s", turn->ttft);
	set_real(object, "tpot_s", turn->tpot);
	set_real(object, "tpot_median_s", turn->tpot_median);
	set_real(object, "tpot_p99_s", turn->tpot_p99);
	set_real(object, "tokens_per_s", turn->tokens_per_s);
	json_object_set_new(object, "bytes", store_bytes(e, turn->read_bytes));
	json_object_set_new(object, "written_bytes", store_bytes(e, turn->written_bytes));
	json_object_set_new(object, "stages", stages(turn));
	json_object_set_new(object, "peak_hbm_bytes", json_integer((json_int_t)turn->hbm_peak));
	json_object_set_new(object, "loaded_tokens", json_integer((json_int_t)turn->loaded_tokens));
	json_object_set_new(
		object, "computed_tokens", json_integer((json_int_t)turn->computed_tokens));
	json_object_set_new(object, "loads", json_integer((json_int_t)turn->loads));
	json_object_set_new(object, "streamed", json_boolean(turn->streamed));
	json_object_set_new(
		object, "resident_tokens", json_integer((json_int_t)turn->resident_tokens));
	json_object_set_new(object, "recomputed", json_boolean(turn->recomputed));
	if (turn->chooses)
		json_object_set_new(object, "choice", choice(&turn->selectivity));
	json_t *lost = lost_pages(turn);
	if (lost)
		json_object_set_new(object, "lost", lost);
	if (turn->kept.bytes + turn->kept.failed_bytes > 0)
		json_object_set_new(object, "kept", writes(&turn->kept));
	json_t *policy = json_object();
	set_real(policy, "load_estimate_s", turn->load_estimate);
	set_real(policy, "compute_estimate_s", turn->compute_estimate);
	set_real(policy, "break_even_bytes_per_s", turn->break_even_rate);
	json_object_set_new(object, "policy", policy);
	json_object_set_new(object, "chunks", json_integer(turn->chunks));
	json_object_set_new(object, "chunks_simulated", json_integer(turn->chunks_simulated));
	return object;
}

static void add_source(json_t *array, const char *name, const char *value, const char *source)
{
	json_t *object = json_object();
	json_object_set_new(object, "name", kvt_json_text(name));
	json_object_set_new(object, "value", kvt_json_text(value));
	json_object_set_new(object, "source", kvt_json_text(source));
	json_array_append_new(array, object);
}

static void add_setting(
	void *arg, const char *section, const char *key, const char *value, const char *source)
{
	g_autofree char *name = g_strconcat(section, ".", key, NULL);
	add_source(
		arg, name, value, source ? source : "the experiment file, which gives no source");
}

/* Where a GPU's file says that a table is from; a new string. */
static char *table_source(const char *gpu, const char *key)
{
	g_autofree char *path = kvt_model_path(KVT_MODEL_GPU, gpu, NULL);
	g_autoptr(kvt_config) config = path ? kvt_config_load(path, NULL) : NULL;
	g_autoptr(GPtrArray) constants = config ? kvt_model_constants(config, NULL) : NULL;
	for (guint i = 0; constants && i < constants->len; i++) {
		const kvt_constant *constant = g_ptr_array_index(constants, i);
		if (g_str_equal(constant->key, key))
			return g_strdup_printf("%s; roofline beyond it", constant->source);
	}
	return g_strdup("the GPU's file");
}

json_t *kvt_turn_provenance(const kvt_experiment *experiment)
{
	json_t *array = json_array();
	kvt_experiment_each_setting(experiment, add_setting, array);
	add_source(
		array, "language model", experiment->llm->name, "models/llm, a source a constant");
	add_source(array, "GPU", experiment->gpu->name, "models/gpu, a source a constant");
	add_source(array, "host", experiment->host->name, "models/host, a source a constant");
	add_source(array, "NIC", experiment->nic->name, "models/nic, a source a constant");
	const struct {
		const char *name, *key, *table;
	} tables[] = { { "attention times", "attention_table", experiment->gpu->attention_table },
		{ "matrix product times", "gemm_table", experiment->gpu->gemm_table },
		{ "all-reduce times", "collective_table", experiment->gpu->collective_table } };
	for (unsigned i = 0; i < G_N_ELEMENTS(tables); i++) {
		g_autofree char *name =
			tables[i].table ? g_path_get_basename(tables[i].table) : NULL;
		g_autofree char *source =
			name ? table_source(experiment->gpu_name, tables[i].key)
			     : g_strdup("derived: roofline of the datasheet, 75% of peak FLOP/s");
		add_source(array, tables[i].name, name, source);
	}
	return array;
}
