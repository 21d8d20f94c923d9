/* replay_setup.c: from an experiment's system to what a replay's pages and layers cost. */
#include "sim/engine/replay_setup.h"

#include "models/llm_cost.h"
#include "models/model_file.h"
#include "sim/base/error.h"
#include "sim/base/output.h"

kvt_time kvt_replay_layer_work(kvt_work_cost *cost, unsigned layer)
{
	static const kvt_work_kind kinds[] = { KVT_WORK_QKV, KVT_WORK_OUTPUT, KVT_WORK_MLP,
		KVT_WORK_ALL_REDUCE, KVT_WORK_ALL_REDUCE };
	kvt_time time = 0;
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
		kvt_work work = { .kind = kinds[i], .layer = layer, .tokens = 1 };
		time += kvt_work_cost_time(cost, &work);
	}
	return time;
}

static void use_model(kvt_replay_setup *setup)
{
	const kvt_experiment *experiment = setup->experiment;
	const kvt_llm *llm = experiment->llm;
	const kvt_replay_shape *shape = &setup->shape;
	kvt_work_cost *cost = setup->system->cost;
	unsigned ranks = (unsigned)experiment->ranks;
	uint64_t token = kvt_llm_kv_token_bytes(llm, ranks) * ranks;
	setup->page_bytes = (token * shape->block_tokens + shape->kv_heads - 1) / shape->kv_heads;

	uint64_t tokens = (uint64_t)shape->pages * shape->block_tokens;
	unsigned global = 0;
	kvt_time other = 0;
	for (unsigned layer = 0; layer < llm->n_layers; layer++) {
		other += kvt_replay_layer_work(cost, layer);
		if (llm->layers[layer].attention == KVT_ATTENTION_GLOBAL) {
			global++;
			continue;
		}
		kvt_work window = { .kind = KVT_WORK_ATTENTION,
			.layer = layer,
			.tokens = 1,
			.kv_tokens = kvt_llm_held_tokens(llm, layer, tokens) };
		other += kvt_work_cost_time(cost, &window);
	}
	setup->copies = MAX((global + shape->layers / 2) / shape->layers, 1);
	setup->layer_time = other / (setup->copies * shape->layers);
	kvt_work head = { .kind = KVT_WORK_HEAD, .tokens = 1 };
	setup->step_time = kvt_work_cost_time(cost, &head) + experiment->step_overhead;
}

/* Names the storage; refuses one that is no storage. */
static gboolean name_storage(kvt_replay_setup *setup, GError **error)
{
	const kvt_experiment *experiment = setup->experiment;
	double second = experiment->second_share;
	const char *names[] = { second < 1 ? experiment->tier_name : NULL,
		second > 0 ? experiment->second_tier_name : NULL };
	for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
		const kvt_tier_ops *kind = names[i] ? kvt_tier_find(names[i], error) : NULL;
		if (names[i] && !kind)
			return FALSE;
		if (kind && kind->flags & KVT_TIER_DEVICE_MEMORY)
			return kvt_error_usage(error,
				"tier %s: pages are replayed between it and storage, expected "
				"another tier",
				names[i]);
	}
	setup->storage_name = g_strdup(names[0] ? names[0] : names[1]);
	if (names[0] && names[1]) {
		g_free(setup->storage_name);
		setup->storage_name = g_strconcat(names[0], "+", names[1], NULL);
	}
	return TRUE;
}

gboolean kvt_replay_setup_init(kvt_replay_setup *setup, kvt_config *config,
	const kvt_replay_shape *shape, kvt_timeline *timeline, GError **error)
{
	*setup = (kvt_replay_setup){ .shape = *shape, .copies = 1 };
	setup->experiment = kvt_experiment_new_hardware(config, error);
	if (!setup->experiment)
		return FALSE;
	if (!name_storage(setup, error))
		return FALSE;
	setup->system = kvt_system_new(setup->experiment, timeline, error);
	if (!setup->system)
		return FALSE;
	setup->page_bytes = UINT64_C(2) * shape->block_tokens * shape->head_dim * 2;
	if (setup->experiment->llm)
		use_model(setup);
	return TRUE;
}

void kvt_replay_setup_clear(kvt_replay_setup *setup)
{
	g_clear_pointer(&setup->storage_name, g_free);
	g_clear_pointer(&setup->system, kvt_system_free);
	g_clear_pointer(&setup->experiment, kvt_experiment_free);
}

static kvt_time attention_time(void *arg, uint64_t tokens)
{
	const kvt_replay_setup *setup = arg;
	kvt_work work = {
		.kind = KVT_WORK_ATTENTION, .tokens = 1, .kv_tokens = tokens, .causal = 1
	};
	return kvt_work_cost_time(setup->system->cost, &work);
}

void kvt_replay_setup_apply(kvt_replay_setup *setup, kvt_replay_settings *settings)
{
	settings->page_bytes = setup->page_bytes;
	settings->copies = setup->copies;
	settings->hbm_rate = setup->system->topology.spec.hbm_rate;
	setup->lead_given = settings->has_lead;
	settings->layer_time = settings->has_lead ? 0 : setup->layer_time;
	settings->step_time = settings->has_lead ? settings->lead : setup->step_time;
	settings->block_tokens = setup->shape.block_tokens;
	settings->attention_time = setup->experiment->llm ? attention_time : NULL;
	settings->attention_arg = setup;
}

gboolean kvt_replay_setup_check(
	const kvt_replay_setup *setup, const kvt_replay_settings *settings, GError **error)
{
	const kvt_experiment *experiment = setup->experiment;
	const kvt_replay_shape *shape = &setup->shape;
	const kvt_llm *llm = experiment->llm;
	if (!llm)
		return TRUE;
	double share = MAX(settings->hbm, settings->budget);
	uint64_t bytes = (uint64_t)kvt_replay_budget_pages(share, shape->pages) * shape->kv_heads *
			 shape->layers * setup->copies * setup->page_bytes;
	unsigned ranks = (unsigned)experiment->ranks;
	uint64_t token = kvt_llm_kv_token_bytes(llm, ranks) * ranks;
	for (unsigned layer = 0; layer < llm->n_layers; layer++)
		if (llm->layers[layer].attention != KVT_ATTENTION_GLOBAL)
			bytes += token * kvt_llm_held_tokens(llm, layer,
						 (uint64_t)shape->pages * shape->block_tokens);
	uint64_t capacity = kvt_system_kv_capacity(setup->system);
	if (bytes <= capacity)
		return TRUE;
	g_autofree char *need = kvt_unit_format((double)bytes, KVT_UNIT_BYTES);
	g_autofree char *have = kvt_unit_format((double)capacity, KVT_UNIT_BYTES);
	return kvt_error_usage(error,
		"%.4g%% of the pages take %s of HBM, and %s of it is left beside the weights of "
		"%s, expected a smaller share or more [gpu] count",
		share * 100, need, have, llm->name);
}

static void add(json_t *array, const char *name, const char *value, const char *source)
{
	json_t *object = json_object();
	json_object_set_new(object, "name", kvt_json_text(name));
	json_object_set_new(object, "value", kvt_json_text(value));
	json_object_set_new(object, "source", kvt_json_text(source));
	json_array_append_new(array, object);
}

typedef struct setting_filter {
	json_t *array;
	const kvt_experiment *experiment;
} setting_filter;

/* Sections that a replay takes nothing from are left out. */
static void add_setting(
	void *arg, const char *section, const char *key, const char *value, const char *source)
{
	setting_filter *filter = arg;
	const kvt_experiment *experiment = filter->experiment;
	bool second =
		experiment->second_share > 0 && g_str_equal(section, experiment->second_tier_name);
	const char *const used[] = { "gpu", "host", "fabric", "storage", experiment->tier_name,
		experiment->llm ? "model" : "gpu", experiment->llm ? "decode" : "gpu",
		second ? section : "gpu", NULL };
	if (!g_strv_contains(used, section))
		return;
	g_autofree char *name = g_strconcat(section, ".", key, NULL);
	add(filter->array, name, value, source ? source : "set by the user");
}

/* Constants of a model's file, with the file's own sources. */
static void add_constants(
	json_t *array, kvt_model_kind kind, const char *model, const char *const *keys)
{
	g_autofree char *path = kvt_model_path(kind, model, NULL);
	g_autoptr(kvt_config) config = path ? kvt_config_load(path, NULL) : NULL;
	GPtrArray *constants = config ? kvt_model_constants(config, NULL) : NULL;
	for (guint i = 0; constants && i < constants->len; i++) {
		const kvt_constant *constant = g_ptr_array_index(constants, i);
		if (!g_strv_contains(keys, constant->key))
			continue;
		g_autofree char *short_name = kvt_model_name_of(path);
		g_autofree char *name = g_strconcat(short_name, ".", constant->key, NULL);
		add(array, name, constant->value, constant->source);
	}
	if (constants)
		g_ptr_array_unref(constants);
}

json_t *kvt_replay_setup_provenance(const kvt_replay_setup *setup)
{
	static const char *const gpu_keys[] = { "memory_bandwidth", "memory_efficiency", NULL };
	static const char *const host_keys[] = { "copy_to_gpu", "copy_setup", "dram_channels",
		"dram_channel_rate", "dram_efficiency", NULL };
	static const char *const nic_keys[] = { "line_rate", "efficiency", "read_latency",
		"read_latency_p99", "message_rate", NULL };
	const kvt_experiment *experiment = setup->experiment;
	json_t *array = json_array();
	setting_filter filter = { array, experiment };
	kvt_experiment_each_setting(experiment, add_setting, &filter);
	add_constants(array, KVT_MODEL_GPU, experiment->gpu_name, gpu_keys);
	add_constants(array, KVT_MODEL_HOST, experiment->host_name, host_keys);
	if (g_str_has_prefix(experiment->tier_name, "remote-"))
		add_constants(array, KVT_MODEL_NIC, experiment->nic_name, nic_keys);
	g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT "B", setup->page_bytes);
	add(array, "page bytes of a recorded KV head", bytes,
		experiment->llm ? "derived: the model's KV a token and layer x tokens a page / "
				  "recorded KV heads"
				: "derived: K and V x tokens a page x head_dim x 2 bytes, as "
				  "recorded");
	add(array, "time of attention",
		experiment->llm ? kvt_work_cost_source(setup->system->cost, KVT_WORK_ATTENTION)
				: "bytes / HBM rate",
		experiment->llm ? "the GPU's kernel tables, see models/gpu" : "derived: roofline");
	if (setup->lead_given) {
		add(array, "time of a step's other work", "--lead", "set by the user");
		return array;
	}
	add(array, "time of a layer's other work",
		experiment->llm ? kvt_work_cost_source(setup->system->cost, KVT_WORK_MLP) : "0s",
		experiment->llm ? "the GPU's kernel tables, see models/gpu"
				: "assumed: only attention was recorded");
	return array;
}
