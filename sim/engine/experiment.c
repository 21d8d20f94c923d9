/* experiment.c: reads experiment files by option tables and loads the models they name. */
#include "sim/engine/experiment.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "models/llm_cost.h"
#include "sim/base/datadir.h"
#include "sim/base/error.h"
#include "sim/tier/ring_places.h"
#include "sim/tier/tier.h"

#define FIELD(name) offsetof(kvt_experiment, name)

static const char *const kind_names[] = { "resume", "cold", "both", "peak", "migrate", NULL };
static const char *const overlap_names[] = { "none", "two-batch", "full", NULL };
static const char *const policy_names[] = { "load", "recompute", "auto", NULL };
static const char *const stream_names[] = { "auto", "always", "never", NULL };
static const char *const lost_names[] = { "recompute", "fail", NULL };
static const char *const kv_format_names[] = { "model", "bf16", "fp8", NULL };

static const kvt_option experiment_options[] = {
	{ "title", KVT_OPTION_STRING, 0, FIELD(title), "", 0, 0, NULL,
		"what the experiment shows" },
	{ "kind", KVT_OPTION_CHOICE, 0, FIELD(kind), "resume", 0, 0, kind_names,
		"resume: Turn 2 from stored KV; cold: no cache; both: Turn 1, then Turn 2; peak: "
		"closed-form peak analysis; migrate: Turn 2 on another node, whose [storage] is "
		"the "
		"first one's pool" },
	{ "seed", KVT_OPTION_INTEGER, 0, FIELD(seed), "1", 0, 9.2e18, NULL,
		"of all random streams" },
	{ 0 },
};

static const kvt_option model_options[] = {
	{ "name", KVT_OPTION_STRING, 0, FIELD(model_name), NULL, 0, 0, NULL,
		"language model: a name under models/llm or a path" },
	{ "kv_format", KVT_OPTION_CHOICE, 0, FIELD(kv_format), "model", 0, 0, kv_format_names,
		"number format of the KV cache; model: what its file says" },
	{ "page_tokens", KVT_OPTION_INTEGER, 0, FIELD(page_tokens), "16", 1, 1e6, NULL,
		"tokens a KV page" },
	{ 0 },
};

static const kvt_option gpu_options[] = {
	{ "name", KVT_OPTION_STRING, 0, FIELD(gpu_name), NULL, 0, 0, NULL,
		"GPU: a name under models/gpu or a path" },
	{ "count", KVT_OPTION_INTEGER, 0, FIELD(ranks), "1", 1, 1024, NULL,
		"GPUs of the tensor-parallel group" },
	{ "memory_share", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(memory_share), "90%", 0.01, 1,
		NULL, "of each GPU's memory that the engine may use" },
	{ "activations", KVT_OPTION_BYTES, 0, FIELD(activation_bytes), "2GB", 0, 1e15, NULL,
		"memory a GPU kept for activations and the runtime" },
	{ 0 },
};

static const kvt_option host_options[] = {
	{ "name", KVT_OPTION_STRING, 0, FIELD(host_name), "l40s-testbed", 0, 0, NULL,
		"host: a name under models/host or a path" },
	{ "io_rate", KVT_OPTION_QUANTITY, KVT_UNIT_FREQUENCY, FIELD(io_rate), "0/s", 0, 1e12, NULL,
		"I/Os to drives and targets that the client's software can submit; 0/s: what the "
		"host's file says, if anything" },
	{ "gpu_direct", KVT_OPTION_BOOL, 0, FIELD(gpu_direct), "yes", 0, 0, NULL,
		"whether NICs and drives write to the GPU without crossing DRAM" },
	{ "checksum_rate", KVT_OPTION_QUANTITY, KVT_UNIT_RATE, FIELD(checksum_rate), "0B/s", 0, 0,
		NULL,
		"bytes/s at which arriving pages are verified; 0B/s: what the host's file says, if "
		"anything" },
	{ 0 },
};

static const kvt_option fabric_options[] = {
	{ "nic", KVT_OPTION_STRING, 0, FIELD(nic_name), "connectx-7-400g", 0, 0, NULL,
		"NIC: a name under models/nic or a path" },
	{ "nics", KVT_OPTION_INTEGER, 0, FIELD(nics), "1", 0, 1024, NULL, "NICs of the client" },
	{ "targets", KVT_OPTION_INTEGER, 0, FIELD(targets), "2", 0, 1e6, NULL, "storage targets" },
	{ "target", KVT_OPTION_STRING, 0, FIELD(target_name), "testbed-target", 0, 0, NULL,
		"host model of a target" },
	{ "target_nics", KVT_OPTION_INTEGER, 0, FIELD(target_nics), "1", 0, 1024, NULL,
		"NICs of each target" },
	{ "efficiency", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(fabric_efficiency), "0%", 0, 1,
		NULL, "share of the line rate that payload reaches; 0%: the NIC's own" },
	{ 0 },
};

static const kvt_option context_options[] = {
	{ "tokens", KVT_OPTION_INTEGER, 0, FIELD(context_tokens), NULL, 0, 1e12, NULL,
		"tokens of the conversation so far" },
	{ "prompt_tokens", KVT_OPTION_INTEGER, 0, FIELD(prompt_tokens), "64", 1, 1e9, NULL,
		"tokens of Turn 2's new prompt" },
	{ "output_tokens", KVT_OPTION_INTEGER, 0, FIELD(output_tokens), "128", 1, 1e9, NULL,
		"tokens that are generated" },
	{ "stored", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(stored), "100%", 0, 1, NULL,
		"share of the context whose KV is found in storage, from its beginning" },
	{ 0 },
};

static const kvt_option storage_options[] = {
	{ "tier", KVT_OPTION_STRING, 0, FIELD(tier_name), "remote-nvme", 0, 0, NULL,
		"where KV pages are stored; its options are in the section of that name" },
	{ "second_tier", KVT_OPTION_STRING, 0, FIELD(second_tier_name), "nvme", 0, 0, NULL,
		"a second tier that holds part of the pages" },
	{ "second_share", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(second_share), "0%", 0, 1,
		NULL, "share of the pages that the second tier holds" },
	{ "nodes", KVT_OPTION_INTEGER, 0, FIELD(nodes), "1", 1, KVT_RING_PARTS_MAX, NULL,
		"tiers of that kind, each as its section says, that share the pages by consistent "
		"hashing; links of the fabric are theirs together" },
	{ "replicas", KVT_OPTION_INTEGER, 0, FIELD(replicas), "1", 1, KVT_RING_PARTS_MAX, NULL,
		"nodes that have each page" },
	{ "dead_nodes", KVT_OPTION_INTEGER, 0, FIELD(dead_nodes), "0", 0, KVT_RING_PARTS_MAX, NULL,
		"of the nodes, that fail whatever they are asked in Turn 2" },
	{ "lost", KVT_OPTION_CHOICE, 0, FIELD(lost_pages), "recompute", 0, 0, lost_names,
		"pages that a tier does not deliver (missing, failed, of a wrong checksum; see "
		"[fault]) are recomputed, or the turn fails" },
	{ 0 },
};

static const kvt_option prefill_options[] = {
	{ "chunk_tokens", KVT_OPTION_INTEGER, 0, FIELD(chunk_tokens), "8192", 1, 1e9, NULL,
		"tokens that are computed in one pass" },
	{ "overlap", KVT_OPTION_CHOICE, 0, FIELD(overlap), "two-batch", 0, 0, overlap_names,
		"how all-reduces hide: none, two-batch (one half computes while the other "
		"reduces), "
		"full" },
	{ "all_reduce_rate", KVT_OPTION_QUANTITY, KVT_UNIT_RATE, FIELD(all_reduce_rate), "0B/s", 0,
		0, NULL, "algorithm bandwidth of large all-reduces; 0B/s: as measured" },
	{ "write_out", KVT_OPTION_BOOL, 0, FIELD(write_out), "no", 0, 0, NULL,
		"whether a cold prefill stores its pages" },
	{ "samples", KVT_OPTION_INTEGER, 0, FIELD(prefill_samples), "12", 0, 1e9, NULL,
		"chunks that are simulated, the others interpolated; 0: all" },
	{ 0 },
};

static const kvt_option resume_options[] = {
	{ "policy", KVT_OPTION_CHOICE, 0, FIELD(resume_policy), "load", 0, 0, policy_names,
		"load what is stored, recompute it, or whichever is estimated faster" },
	{ "depth", KVT_OPTION_INTEGER, 0, FIELD(reload_depth), "2", 1, 4096, NULL,
		"layers that are loaded at once" },
	{ "lookup", KVT_OPTION_TIME, 0, FIELD(lookup), "0s", 0, 3600, NULL,
		"to find out which of the context's pages are stored" },
	{ 0 },
};

static const kvt_option migrate_options[] = {
	{ "home_tier", KVT_OPTION_STRING, 0, FIELD(home_tier), "dram", 0, 0, NULL,
		"where the same pages are for the node that the session leaves" },
	{ "keep_tier", KVT_OPTION_STRING, 0, FIELD(keep_tier), "", 0, 0, NULL,
		"the other node's own pool, where what it fetched is kept once the first token is "
		"there; \"\": it is not" },
	{ 0 },
};

static const kvt_option select_options[] = {
	{ "curve", KVT_OPTION_STRING, 0, FIELD(select_curve), "", 0, 0, NULL,
		"CSV file of the share of pages chosen, by context length, beside the experiment "
		"file; none: all pages are loaded" },
	{ "chooser", KVT_OPTION_STRING, 0, FIELD(select_chooser), "slap", 0, 0, NULL,
		"whose curve, of the file's" },
	{ "layers", KVT_OPTION_STRING, 0, FIELD(select_layers), "7", 0, 0, NULL,
		"recorded layers that the global layers are like, in equal parts" },
	{ "mass", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(select_mass), "99%", 0, 1, NULL,
		"share of the attention mass that the pages shall hold" },
	{ "scope", KVT_OPTION_CHOICE, 0, FIELD(select_scope), "token", 0, 0, kvt_choice_scope_names,
		"token: what one token attends to; question: what any token of a question does" },
	{ "grown", KVT_OPTION_BOOL, 0, FIELD(select_grown), "no", 0, 0, NULL,
		"whether, beyond recordings, the shares of grown traces are taken; otherwise the "
		"longest recording's is held" },
	{ "ahead", KVT_OPTION_BOOL, 0, FIELD(select_ahead), "no", 0, 0, NULL,
		"whether all pages are known before the turn begins; otherwise a layer's are when "
		"its queries are" },
	{ "sketch_bytes", KVT_OPTION_BYTES, 0, FIELD(sketch_bytes), "0B", 0, 4096, NULL,
		"of sketch a token and KV head, loaded before a layer's pages are chosen" },
	{ 0 },
};

static const kvt_option stream_options[] = {
	{ "mode", KVT_OPTION_CHOICE, 0, FIELD(stream_mode), "auto", 0, 0, stream_names,
		"auto: global layers' KV streams through HBM as far as it does not fit; always: "
		"all of "
		"it streams; never: what does not fit is an error" },
	{ "window_tokens", KVT_OPTION_INTEGER, 0, FIELD(window_tokens), "8192", 1, 1e9, NULL,
		"tokens of a layer that are loaded and attended to at once" },
	{ "buffers", KVT_OPTION_INTEGER, 0, FIELD(buffers), "2", 1, 4096, NULL,
		"staging buffers; one is attended to while the others load" },
	{ "turnaround", KVT_OPTION_TIME, 0, FIELD(turnaround), "0s", 0, 60, NULL,
		"software time a window, from a buffer's becoming free to its next load" },
	{ 0 },
};

static const kvt_option decode_options[] = {
	{ "all_reduce", KVT_OPTION_CHOICE, 0, FIELD(decode_all_reduce), "eager", 0, 0,
		kvt_all_reduce_names, "kernel of small all-reduces" },
	{ "samples", KVT_OPTION_INTEGER, 0, FIELD(decode_samples), "8", 0, 1e9, NULL,
		"steps that are simulated, spread over the output; 0: all" },
	{ "step_overhead", KVT_OPTION_TIME, 0, FIELD(step_overhead), "0s", 0, 60, NULL,
		"time of the scheduler between two tokens" },
	{ "kernel_overhead", KVT_OPTION_TIME, 0, FIELD(kernel_overhead), "0s", 0, 60, NULL,
		"added to every kernel call" },
	{ 0 },
};

static const kvt_option peak_options[] = {
	{ "parameters", KVT_OPTION_INTEGER, 0, FIELD(peak.parameters), "34G", 1, 1e15, NULL,
		"parameters of the model, as the analysis rounds them" },
	{ "flops", KVT_OPTION_QUANTITY, KVT_UNIT_FLOPS, FIELD(peak.flops), "312TFLOP/s", 1, 1e21,
		NULL, "peak FLOP/s" },
	{ "memory_rate", KVT_OPTION_QUANTITY, KVT_UNIT_RATE, FIELD(peak.memory_rate), "2TB/s", 1,
		1e18, NULL, "HBM bandwidth" },
	{ "link_rate", KVT_OPTION_QUANTITY, KVT_UNIT_RATE, FIELD(peak.link_rate), "20GB/s", 1, 1e18,
		NULL, "GPU to host, as a context switch reaches it" },
	{ "memory", KVT_OPTION_QUANTITY, KVT_UNIT_BYTES, FIELD(peak.memory), "80GB", 1, 1e18, NULL,
		"HBM" },
	{ "output_tokens", KVT_OPTION_INTEGER, 0, FIELD(peak.output_tokens), "250", 1, 1e9, NULL,
		"tokens of one answer" },
	{ "binary_kv", KVT_OPTION_BOOL, 0, FIELD(peak.binary_kv), "no", 0, 0, NULL,
		"whether whole GiB of KV are counted as GB" },
	{ 0 },
};

static const kvt_experiment_section sections[] = {
	{ "experiment", "what is run", experiment_options, 0 },
	{ "model", "the language model", model_options, 0 },
	{ "gpu", "the GPUs of one tensor-parallel group", gpu_options, 0 },
	{ "host", "the machine they are in", host_options, 0 },
	{ "fabric", "NICs and storage targets", fabric_options, 0 },
	{ "context", "the conversation", context_options, 0 },
	{ "storage", "where its KV is kept", storage_options, 0 },
	{ "fault", "how the storage tiers fail; with all rates 0% they do not", kvt_fault_options,
		FIELD(faults) },
	{ "prefill", "how a cold context is computed", prefill_options, 0 },
	{ "resume", "how Turn 2 brings KV back", resume_options, 0 },
	{ "migrate", "where a session that goes to another node comes from", migrate_options, 0 },
	{ "select", "which pages Turn 2 brings back, where not all", select_options, 0 },
	{ "stream", "how KV that does not fit goes through HBM", stream_options, 0 },
	{ "decode", "how tokens are generated", decode_options, 0 },
	{ "peak", "closed-form peak analysis", peak_options, 0 },
	{ NULL, NULL, NULL, 0 },
};

const kvt_experiment_section *kvt_experiment_sections(void)
{
	return sections;
}

static const kvt_option *find_option(const kvt_option *options, const char *key)
{
	for (const kvt_option *option = options; option->name; option++)
		if (g_str_equal(option->name, key))
			return option;
	return NULL;
}

const kvt_option *kvt_experiment_option(const char *section, const char *key)
{
	bool any = g_str_equal(section, "global");
	const kvt_option *found = NULL;
	for (const kvt_experiment_section *s = sections; s->name && !found; s++)
		if (any || g_str_equal(s->name, section))
			found = find_option(s->options, key);
	for (const kvt_tier_ops *const *tier = kvt_tier_registry(); *tier && !found; tier++)
		if (any || g_str_equal((*tier)->name, section))
			found = find_option((*tier)->options, key);
	return found;
}

static gboolean load_llm(kvt_experiment *experiment, GError **error)
{
	const kvt_dtype kv = experiment->kv_format == 1 ? KVT_DTYPE_BF16 : KVT_DTYPE_FP8;
	experiment->llm = kvt_model_store_llm(experiment->models, experiment->model_name,
		experiment->kv_format > 0 ? &kv : NULL, error);
	return experiment->llm != NULL;
}

static gboolean load_models(kvt_experiment *experiment, GError **error)
{
	/* an empty name passes where the model may be left out */
	if (*experiment->model_name != '\0' && !load_llm(experiment, error))
		return FALSE;
	kvt_model_store *models = experiment->models;
	experiment->gpu = kvt_model_store_gpu(models, experiment->gpu_name, error);
	if (!experiment->gpu)
		return FALSE;
	experiment->host = kvt_model_store_host(models, experiment->host_name, error);
	if (!experiment->host)
		return FALSE;
	experiment->target = kvt_model_store_host(models, experiment->target_name, error);
	if (!experiment->target)
		return FALSE;
	experiment->nic = kvt_model_store_nic(models, experiment->nic_name, error);
	return experiment->nic != NULL;
}

char *kvt_experiment_find_file(
	const kvt_experiment *experiment, const char *name, const char *folder)
{
	g_autofree char *here = g_path_get_dirname(kvt_config_path(experiment->config));
	g_autofree char *beside = g_build_filename(here, name, NULL);
	if (g_path_is_absolute(name))
		return g_strdup(name);
	if (g_file_test(beside, G_FILE_TEST_EXISTS))
		return g_steal_pointer(&beside);
	g_autofree char *relative = g_build_filename(folder, name, NULL);
	char *found = kvt_datadir_find(relative, NULL);
	return found ? found : g_steal_pointer(&beside);
}

static gboolean load_selectivity(kvt_experiment *experiment, GError **error)
{
	if (*experiment->select_curve == '\0')
		return TRUE;
	kvt_selectivity_key key = { .chooser = experiment->select_chooser,
		.layers = experiment->select_layers,
		.scope = experiment->select_scope,
		.mass = experiment->select_mass,
		.grown = experiment->select_grown };
	g_autofree char *path =
		kvt_experiment_find_file(experiment, experiment->select_curve, "experiments");
	experiment->selectivity = kvt_selectivity_load(path, &key, error);
	return experiment->selectivity != NULL;
}

static gboolean check(const kvt_experiment *experiment, GError **error)
{
	kvt_section *context = kvt_config_section(experiment->config, "context");
	if (experiment->context_tokens + experiment->prompt_tokens < 1)
		return kvt_section_error(context, "tokens", error,
			"the context and the prompt are both empty, expected at least one token");
	kvt_section *storage = kvt_config_section(experiment->config, "storage");
	if (experiment->replicas > experiment->nodes)
		return kvt_section_error(storage, "replicas", error,
			"there are %" G_GINT64_FORMAT " nodes, expected no more replicas",
			experiment->nodes);
	if (experiment->dead_nodes > experiment->nodes)
		return kvt_section_error(storage, "dead_nodes", error,
			"there are %" G_GINT64_FORMAT " nodes, expected no more dead ones",
			experiment->nodes);
	kvt_section *stream = kvt_config_section(experiment->config, "stream");
	if (experiment->window_tokens % experiment->page_tokens != 0)
		return kvt_section_error(stream, "window_tokens", error,
			"%" G_GINT64_FORMAT " is not a whole number of pages, expected a multiple "
			"of [model] page_tokens (%" G_GINT64_FORMAT ")",
			experiment->window_tokens, experiment->page_tokens);
	if (*experiment->keep_tier != '\0' && experiment->selectivity)
		return kvt_section_error(kvt_config_section(experiment->config, "migrate"),
			"keep_tier", error,
			"not all pages are fetched ([select] curve), expected one of both");
	return !experiment->llm ||
	       kvt_llm_check_ranks(experiment->llm, (unsigned)experiment->ranks, error);
}

/* Sections that others read (claims.c, length_sweep.c, provenance, the emulation): nothing in them
 * is unknown here. */
static void mark_foreign(kvt_config *config)
{
	g_autofree const char **names = kvt_config_section_names(config, "");
	for (unsigned i = 0; names[i]; i++) {
		if (!g_str_equal(names[i], "sources") && !g_str_equal(names[i], "uncertainty") &&
			!g_str_equal(names[i], "sweep") && !g_str_has_prefix(names[i], "sweep ") &&
			!g_str_has_prefix(names[i], "claim ") &&
			!g_str_has_prefix(names[i], "curve ") &&
			!g_str_equal(names[i], "emulation") && !g_str_equal(names[i], "validate") &&
			!g_str_has_prefix(names[i], "emulation "))
			continue;
		kvt_section *section = kvt_config_section(config, names[i]);
		g_autofree const char **keys = kvt_section_keys(section);
		for (unsigned k = 0; keys[k]; k++)
			kvt_section_text(section, keys[k]);
	}
}

/* Refuses whatever nothing reads: a misspelt section or key, or options of no tier. */
static gboolean check_used(kvt_config *config, GError **error)
{
	g_autoptr(GPtrArray) known = g_ptr_array_new();
	for (const kvt_experiment_section *s = sections; s->name; s++)
		g_ptr_array_add(known, (gpointer)s->name);
	for (const kvt_tier_ops *const *tier = kvt_tier_registry(); *tier; tier++) {
		g_ptr_array_add(known, (gpointer)(*tier)->name);
		kvt_section *section = kvt_config_section(config, (*tier)->name);
		if (section && !kvt_tier_check((*tier)->name, section, error))
			return FALSE;
	}
	const char *const foreign[] = { "sources", "uncertainty", "sweep", "sweep SECTION",
		"claim ID", "curve ID", "emulation", "emulation TIER", "validate", NULL };
	for (unsigned i = 0; i < G_N_ELEMENTS(foreign); i++)
		g_ptr_array_add(known, (gpointer)foreign[i]);
	mark_foreign(config);
	return kvt_config_check_used(config, (const char *const *)known->pdata, error);
}

static gboolean read_sections(kvt_experiment *experiment, bool needs_model, GError **error)
{
	kvt_option optional[G_N_ELEMENTS(model_options)];
	memcpy(optional, model_options, sizeof(model_options));
	for (kvt_option *option = optional; option->name; option++)
		if (!option->fallback)
			option->fallback = "";
	for (const kvt_experiment_section *s = sections; s->name; s++) {
		kvt_section *section = kvt_config_section_or_empty(experiment->config, s->name);
		const kvt_option *options = s->options;
		if (options == model_options && !needs_model)
			options = optional;
		void *target = (char *)experiment + s->offset;
		if (!kvt_section_read(section, options, target, TRUE, error))
			return FALSE;
	}
	if (needs_model && *experiment->model_name == '\0')
		return kvt_section_error(kvt_config_section(experiment->config, "model"), "name",
			error, "the name is empty, expected one under models/llm or a path");
	return TRUE;
}

kvt_experiment *kvt_experiment_new_parts(
	kvt_config *config, const char *const *names, kvt_model_store *models, GError **error)
{
	kvt_experiment *experiment = g_new0(kvt_experiment, 1);
	experiment->config = config;
	experiment->models = models ? kvt_model_store_ref(models) : kvt_model_store_new();
	gboolean ok = TRUE;
	for (const kvt_experiment_section *s = sections; ok && s->name; s++)
		if (g_strv_contains(names, s->name))
			ok = kvt_section_read(kvt_config_section_or_empty(config, s->name),
				s->options, (char *)experiment + s->offset, TRUE, error);
	if (!ok || !load_models(experiment, error)) {
		kvt_experiment_free(experiment);
		return NULL;
	}
	return experiment;
}

/* Takes over the config and the reference to the models. */
static kvt_experiment *new_experiment(
	kvt_config *config, kvt_model_store *models, bool needs_model, GError **error)
{
	kvt_experiment *experiment = g_new0(kvt_experiment, 1);
	experiment->config = config;
	experiment->models = models;
	if (!read_sections(experiment, needs_model, error) || !check_used(config, error) ||
		!load_models(experiment, error) || !load_selectivity(experiment, error) ||
		!check(experiment, error)) {
		kvt_experiment_free(experiment);
		return NULL;
	}
	return experiment;
}

kvt_experiment *kvt_experiment_new(kvt_config *config, GError **error)
{
	return new_experiment(config, kvt_model_store_new(), true, error);
}

kvt_experiment *kvt_experiment_new_with(kvt_config *config, kvt_model_store *models, GError **error)
{
	return new_experiment(config, kvt_model_store_ref(models), true, error);
}

kvt_experiment *kvt_experiment_new_hardware(kvt_config *config, GError **error)
{
	return new_experiment(config, kvt_model_store_new(), false, error);
}

kvt_experiment *kvt_experiment_load(const char *path, const char *const *overrides, GError **error)
{
	kvt_config *config = kvt_config_load(path, error);
	if (!config)
		return NULL;
	for (unsigned i = 0; overrides && overrides[i]; i++) {
		if (!kvt_config_set(config, overrides[i], error)) {
			kvt_config_free(config);
			return NULL;
		}
	}
	return kvt_experiment_new(config, error);
}

gboolean kvt_experiment_kv_room(const kvt_experiment *e, uint64_t *bytes, GError **error)
{
	uint64_t weights = kvt_llm_weight_bytes(e->llm, (unsigned)e->ranks);
	uint64_t usable = (uint64_t)((double)e->gpu->memory * e->memory_share);
	if (weights + e->activation_bytes >= usable) {
		g_autofree char *need = kvt_unit_format((double)weights, KVT_UNIT_BYTES);
		g_autofree char *have = kvt_unit_format((double)usable, KVT_UNIT_BYTES);
		return kvt_error_usage(error,
			"%s does not fit: its weights take %s a GPU and %s has %s to use, expected "
			"a larger [gpu] count or another GPU",
			e->llm->name, need, e->gpu->name, have);
	}
	*bytes = usable - weights - e->activation_bytes;
	return TRUE;
}

void kvt_experiment_free(kvt_experiment *experiment)
{
	if (!experiment)
		return;
	for (const kvt_experiment_section *s = sections; s->name; s++)
		kvt_option_clear(s->options, (char *)experiment + s->offset);
	kvt_model_store_unref(experiment->models);
	kvt_selectivity_free(experiment->selectivity);
	kvt_config_free(experiment->config);
	g_free(experiment);
}

const char *kvt_experiment_source(
	const kvt_experiment *experiment, const char *section, const char *key)
{
	kvt_section *sources = kvt_config_section(experiment->config, "sources");
	if (!sources)
		return NULL;
	g_autofree char *full = g_strconcat(section, ".", key, NULL);
	const char *source = kvt_section_text(sources, full);
	if (source)
		return source;
	/* of [emulation TIER] it is emulation's: a key has no spaces */
	g_auto(GStrv) words = g_strsplit(section, " ", 2);
	return kvt_section_text(sources, words[0]);
}

void kvt_experiment_each_setting(
	const kvt_experiment *experiment, kvt_setting_callback each, void *arg)
{
	g_autofree const char **names = kvt_config_section_names(experiment->config, "");
	for (unsigned i = 0; names[i]; i++) {
		if (g_str_equal(names[i], "sources") || g_str_equal(names[i], "uncertainty") ||
			g_str_equal(names[i], "experiment") ||
			g_str_has_prefix(names[i], "claim ") ||
			g_str_has_prefix(names[i], "curve "))
			continue;
		kvt_section *section = kvt_config_section(experiment->config, names[i]);
		g_autofree const char **keys = kvt_section_keys(section);
		for (unsigned k = 0; keys[k]; k++) {
			const char *source =
				kvt_section_overridden(section, keys[k])
					? "set on the command line"
					: kvt_experiment_source(experiment, names[i], keys[k]);
			each(arg, names[i], keys[k], kvt_section_text(section, keys[k]), source);
		}
	}
}
