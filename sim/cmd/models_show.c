/* models_show.c: `kvtier models show`: the constants of a model file with their sources, and the
 * figures that follow from them. */
#include <string.h>

#include "models/hardware.h"
#include "models/llm_cost.h"
#include "sim/base/error.h"
#include "sim/base/output.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/models_command.h"

static const kvt_command show_action = {
	.name = "models show",
	.summary = "Show every constant of a model with its source, and what follows from them.",
	.arguments = "NAME|FILE.ini",
	.help = "A source says where a constant is from: a datasheet, a published document, a\n"
		"measurement, what it was derived from or fitted to, or why it was assumed. An\n"
		"uncertainty is a share either way.\n\n"
		"  kvtier models show llama-4-scout-17b-16e-fp8 --ranks 4 --tokens 10M",
};

/* A figure that follows from the constants. */
typedef struct kvt_derived {
	const char *name;
	double value;
	kvt_unit unit;
	const char *how;
} kvt_derived;

static void add(GArray *figures, const char *name, double value, kvt_unit unit, const char *how)
{
	kvt_derived figure = { name, value, unit, how };
	g_array_append_val(figures, figure);
}

static gboolean derive_llm(
	const char *name, unsigned ranks, uint64_t tokens, GArray *figures, GError **error)
{
	g_autoptr(kvt_llm) llm = kvt_llm_load(name, error);
	if (llm == NULL || !kvt_llm_check_ranks(llm, ranks, error))
		return FALSE;
	unsigned global = kvt_llm_count_attention(llm, KVT_ATTENTION_GLOBAL);
	uint64_t token = kvt_llm_kv_token_bytes(llm, ranks);
	if (tokens == 0)
		tokens = (uint64_t)llm->context_limit;
	add(figures, "parameters", (double)kvt_llm_parameters(llm), KVT_UNIT_COUNT,
		"elements of all tensors");
	add(figures, "active_parameters", (double)kvt_llm_active_parameters(llm), KVT_UNIT_COUNT,
		"of those, what one token goes through, without a vision encoder");
	add(figures, "weight_bytes", (double)kvt_llm_weight_bytes(llm, ranks), KVT_UNIT_BYTES,
		"with scales, on one of --ranks");
	add(figures, "decode_read_bytes", kvt_llm_read_bytes(llm, 1, ranks), KVT_UNIT_BYTES,
		"weights read for one token, on one of --ranks");
	add(figures, "kv_bytes_per_token", (double)(token * llm->n_layers), KVT_UNIT_BYTES,
		"all layers, on one of --ranks");
	add(figures, "kv_bytes_per_token_global", (double)(token * global), KVT_UNIT_BYTES,
		"the layers that attend to all tokens, on one of --ranks");
	add(figures, "global_layers", global, KVT_UNIT_COUNT, "layers that attend to all tokens");
	add(figures, "tokens", (double)tokens, KVT_UNIT_COUNT,
		"--tokens, or the context that the model is made for");
	add(figures, "kv_bytes", (double)kvt_llm_kv_bytes(llm, tokens, ranks), KVT_UNIT_BYTES,
		"after that many tokens, on one of --ranks");
	return TRUE;
}

static gboolean derive_gpu(const char *name, GArray *figures, GError **error)
{
	g_autoptr(kvt_gpu) gpu = kvt_gpu_load(name, error);
	if (gpu == NULL)
		return FALSE;
	add(figures, "streaming_rate", gpu->memory_bandwidth * gpu->memory_efficiency,
		KVT_UNIT_RATE, "memory_bandwidth x memory_efficiency");
	add(figures, "pcie_rate", kvt_pcie_raw_rate(gpu->pcie_generation, gpu->pcie_lanes),
		KVT_UNIT_RATE, "one direction, after line code");
	add(figures, "flops_per_byte", gpu->flops_bf16 / gpu->memory_bandwidth, KVT_UNIT_NONE,
		"BF16 FLOPs for each byte of memory bandwidth");
	return TRUE;
}

static gboolean derive_drive(const char *name, GArray *figures, GError **error)
{
	g_autoptr(kvt_drive) drive = kvt_drive_load(name, error);
	if (drive == NULL)
		return FALSE;
	add(figures, "pcie_rate", kvt_pcie_raw_rate(drive->pcie_generation, drive->pcie_lanes),
		KVT_UNIT_RATE, "one direction, after line code");
	add(figures, "random_read_rate", drive->read_iops * 4096, KVT_UNIT_RATE,
		"read_iops x 4 KiB");
	add(figures, "writes_per_day", drive->endurance * (double)drive->capacity, KVT_UNIT_BYTES,
		"endurance x capacity");
	return TRUE;
}

static gboolean derive_nic(const char *name, GArray *figures, GError **error)
{
	g_autoptr(kvt_nic) nic = kvt_nic_load(name, error);
	if (nic == NULL)
		return FALSE;
	double lines = nic->line_rate * (double)nic->ports;
	double slot = kvt_pcie_raw_rate(nic->pcie_generation, nic->pcie_lanes);
	add(figures, "payload_rate", lines * nic->efficiency, KVT_UNIT_RATE,
		"ports x line_rate x efficiency");
	add(figures, "pcie_rate", slot, KVT_UNIT_RATE, "one direction, after line code");
	return TRUE;
}

static gboolean derive_host(const char *name, GArray *figures, GError **error)
{
	g_autoptr(kvt_host) host = kvt_host_load(name, error);
	if (host == NULL)
		return FALSE;
	double gpu =
		kvt_host_link_rate(host, host->gpu_lanes, host->pcie_generation, host->gpu_lanes);
	add(figures, "dram_rate", kvt_host_dram_bandwidth(host), KVT_UNIT_RATE,
		"channels x rate x efficiency");
	add(figures, "gpu_link_rate", gpu, KVT_UNIT_RATE,
		"payload to one GPU of the slots' generation");
	add(figures, "copy_16k_rate", 16384 / kvt_host_copy_seconds(host, 16384, gpu),
		KVT_UNIT_RATE, "copies of 16 KiB to one GPU");
	return TRUE;
}

static gboolean derive(kvt_model_kind kind, const char *path, unsigned ranks, uint64_t tokens,
	GArray *figures, GError **error)
{
	switch (kind) {
	case KVT_MODEL_LLM:
		return derive_llm(path, ranks, tokens, figures, error);
	case KVT_MODEL_GPU:
		return derive_gpu(path, figures, error);
	case KVT_MODEL_DRIVE:
		return derive_drive(path, figures, error);
	case KVT_MODEL_NIC:
		return derive_nic(path, figures, error);
	default:
		return derive_host(path, figures, error);
	}
}

/* Path and kind of a model by its name alone, or of a file by the sections it has. */
static char *find_model(const char *name, kvt_model_kind *kind, GError **error)
{
	g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
	gboolean is_path = strchr(name, '/') != NULL || g_str_has_suffix(name, ".ini");
	g_autoptr(kvt_config) config = is_path ? kvt_config_load(name, error) : NULL;
	if (is_path && config == NULL)
		return NULL;
	for (int i = 0; i < KVT_MODEL_KINDS; i++) {
		*kind = (kvt_model_kind)i;
		if (is_path) {
			if (kvt_config_section(config, kvt_model_kind_names[i]) != NULL)
				return g_strdup(name);
			continue;
		}
		g_auto(GStrv) names = kvt_model_names(*kind, error);
		if (names == NULL)
			return NULL;
		char *path = kvt_model_path(*kind, name, NULL);
		if (path != NULL)
			return path;
		for (char **other = names; *other != NULL; other++)
			g_ptr_array_add(all, g_strdup(*other));
	}
	g_autofree char *quoted = kvt_error_quote(name);
	g_autofree char *kinds = g_strjoinv("], [", (char **)kvt_model_kind_names);
	g_ptr_array_add(all, NULL);
	const char *near = kvt_error_suggest(name, (const char *const *)all->pdata);
	if (is_path)
		kvt_error_at(error, name, 0, "is no model, expected a section [%s]", kinds);
	else if (near != NULL)
		kvt_error_usage(error, "%s is no model, did you mean \"%s\"?", quoted, near);
	else
		kvt_error_usage(error, "%s is no model, see \"kvtier models list\"", quoted);
	return NULL;
}

static const kvt_column constant_columns[] = {
	{ "section", "section", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "key", "constant", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "value", "value", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "uncertainty", "+-", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.0f%%", 100 },
	{ "source", "source", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ 0 },
};

static void add_constants(kvt_table *table, const GPtrArray *constants)
{
	for (guint i = 0; i < constants->len; i++) {
		const kvt_constant *constant = g_ptr_array_index(constants, i);
		kvt_table_add_row(table);
		kvt_table_add_text(table, constant->section);
		kvt_table_add_text(table, constant->key);
		kvt_table_add_text(table, constant->value);
		if (constant->uncertainty > 0)
			kvt_table_add_number(table, constant->uncertainty);
		else
			kvt_table_add_none(table);
		kvt_table_add_text(table, constant->source);
	}
}

/* In a table the derived figures follow as a section of their own. */
static void add_derived(kvt_table *table, const GArray *figures)
{
	for (guint i = 0; i < figures->len; i++) {
		const kvt_derived *figure = &g_array_index(figures, kvt_derived, i);
		g_autofree char *value = figure->unit == KVT_UNIT_NONE
						 ? g_strdup_printf("%.3g", figure->value)
						 : kvt_unit_format(figure->value, figure->unit);
		g_autofree char *source = g_strconcat("derived: ", figure->how, NULL);
		kvt_table_add_row(table);
		kvt_table_add_text(table, "derived");
		kvt_table_add_text(table, figure->name);
		kvt_table_add_text(table, value);
		kvt_table_add_none(table);
		kvt_table_add_text(table, source);
	}
}

static void print_json(const kvt_command_options *options, kvt_model_kind kind, const char *path,
	const kvt_table *table, const GArray *figures, GError **error)
{
	json_t *result = kvt_json_result("model", 1), *derived = json_object();
	g_autofree char *name = kvt_model_name_of(path);
	for (guint i = 0; i < figures->len; i++) {
		const kvt_derived *figure = &g_array_index(figures, kvt_derived, i);
		json_object_set_new(derived, figure->name, kvt_json_real(figure->value));
	}
	json_object_set_new(result, "kind", kvt_json_text(kvt_model_kind_names[kind]));
	json_object_set_new(result, "name", kvt_json_text(name));
	json_object_set_new(result, "file", kvt_json_text(path));
	json_object_set_new(result, "derived", derived);
	json_object_set_new(result, "constants", kvt_table_to_json(table));
	kvt_command_print_json(options, result, error);
	json_decref(result);
}

/* Ranks and tokens as they were given; 0 tokens: the model's own limit. */
static gboolean read_sizes(const char *ranks_text, const char *tokens_text, unsigned *ranks,
	uint64_t *tokens, GError **error)
{
	double value;
	if (ranks_text != NULL) {
		if (!kvt_command_quantity("--ranks", ranks_text, KVT_UNIT_COUNT, &value, error))
			return FALSE;
		if (value < 1 || value > 65536)
			return kvt_error_usage(error,
				"--ranks: \"%s\" is out of range, expected 1 to 65536", ranks_text);
		*ranks = (unsigned)value;
	}
	if (tokens_text != NULL) {
		if (!kvt_command_quantity("--tokens", tokens_text, KVT_UNIT_COUNT, &value, error))
			return FALSE;
		if (value < 1 || value > 1e9)
			return kvt_error_usage(error,
				"--tokens: \"%s\" is out of range, expected 1 to 1G", tokens_text);
		*tokens = (uint64_t)value;
	}
	return TRUE;
}

int kvt_models_show_run(int argc, char **argv, GError **error)
{
	char *given_ranks = NULL, *given_tokens = NULL;
	const GOptionEntry own[] = {
		{ "ranks", 0, 0, G_OPTION_ARG_FILENAME, &given_ranks,
			"size of the tensor-parallel group that an LLM's bytes are for (1)", "N" },
		{ "tokens", 0, 0, G_OPTION_ARG_FILENAME, &given_tokens,
			"length of the context that an LLM's KV is for", "T" },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &show_action, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT, 1, 1,
		own };
	g_auto(kvt_command_options) options = { 0 };
	gboolean go_on = kvt_command_parse(&syntax, argc, argv, &options, error);
	g_autofree char *ranks_text = given_ranks;
	g_autofree char *tokens_text = given_tokens;
	unsigned ranks = 1;
	uint64_t tokens = 0;
	kvt_model_kind kind;
	if (!go_on || !read_sizes(ranks_text, tokens_text, &ranks, &tokens, error))
		return 0;
	g_autofree char *path = find_model(options.arguments[0], &kind, error);
	g_autoptr(kvt_config) config = path != NULL ? kvt_config_load(path, error) : NULL;
	g_autoptr(GPtrArray) constants = config != NULL ? kvt_model_constants(config, error) : NULL;
	g_autoptr(GArray) figures = g_array_new(FALSE, FALSE, sizeof(kvt_derived));
	if (constants == NULL || !derive(kind, path, ranks, tokens, figures, error))
		return 0;
	g_autoptr(kvt_table) table = kvt_table_new(constant_columns);
	add_constants(table, constants);
	if (options.format == KVT_FORMAT_JSON) {
		print_json(&options, kind, path, table, figures, error);
	} else {
		add_derived(table, figures);
		kvt_command_print_table(&options, table, error);
	}
	return 0;
}

static char *llm_summary(const char *name, char **title, GError **error)
{
	g_autoptr(kvt_llm) llm = kvt_llm_load(name, error);
	if (llm == NULL)
		return NULL;
	*title = g_strdup(llm->title);
	g_autofree char *token = kvt_unit_format(
		(double)(kvt_llm_kv_token_bytes(llm, 1) * llm->n_layers), KVT_UNIT_BYTES);
	g_autofree char *weights =
		kvt_unit_format((double)kvt_llm_weight_bytes(llm, 1), KVT_UNIT_BYTES);
	return g_strdup_printf("%.1fB parameters, weights %s, KV %s a token",
		(double)kvt_llm_parameters(llm) / 1e9, weights, token);
}

static char *gpu_summary(const char *name, char **title, GError **error)
{
	g_autoptr(kvt_gpu) gpu = kvt_gpu_load(name, error);
	if (gpu == NULL)
		return NULL;
	*title = g_strdup(gpu->title);
	g_autofree char *memory = kvt_unit_format((double)gpu->memory, KVT_UNIT_BYTES);
	g_autofree char *rate = kvt_unit_format(gpu->memory_bandwidth, KVT_UNIT_RATE);
	g_autofree char *flops = kvt_unit_format(gpu->flops_bf16, KVT_UNIT_FLOPS);
	return g_strdup_printf("%s at %s, BF16 %s", memory, rate, flops);
}

static char *drive_summary(const char *name, char **title, GError **error)
{
	g_autoptr(kvt_drive) drive = kvt_drive_load(name, error);
	if (drive == NULL)
		return NULL;
	*title = g_strdup(drive->title);
	g_autofree char *read = kvt_unit_format(drive->read_bandwidth, KVT_UNIT_RATE);
	g_autofree char *write = kvt_unit_format(drive->write_bandwidth, KVT_UNIT_RATE);
	g_autofree char *iops = kvt_unit_format(drive->read_iops, KVT_UNIT_FREQUENCY);
	return g_strdup_printf("reads %s, writes %s, random reads %s", read, write, iops);
}

static char *nic_summary(const char *name, char **title, GError **error)
{
	g_autoptr(kvt_nic) nic = kvt_nic_load(name, error);
	if (nic == NULL)
		return NULL;
	*title = g_strdup(nic->title);
	g_autofree char *rate = kvt_unit_format(nic->line_rate * (double)nic->ports, KVT_UNIT_RATE);
	return g_strdup_printf("%s, PCIe %" G_GINT64_FORMAT ".0 x%" G_GINT64_FORMAT, rate,
		nic->pcie_generation, nic->pcie_lanes);
}

static char *host_summary(const char *name, char **title, GError **error)
{
	g_autoptr(kvt_host) host = kvt_host_load(name, error);
	if (host == NULL)
		return NULL;
	*title = g_strdup(host->title);
	g_autofree char *rate = kvt_unit_format(kvt_host_dram_bandwidth(host), KVT_UNIT_RATE);
	return g_strdup_printf("PCIe %" G_GINT64_FORMAT ".0, DRAM %s, %" G_GINT64_FORMAT " GPUs",
		host->pcie_generation, rate, host->gpu_slots);
}

char *kvt_models_summary(kvt_model_kind kind, const char *name, char **title, GError **error)
{
	switch (kind) {
	case KVT_MODEL_LLM:
		return llm_summary(name, title, error);
	case KVT_MODEL_GPU:
		return gpu_summary(name, title, error);
	case KVT_MODEL_DRIVE:
		return drive_summary(name, title, error);
	case KVT_MODEL_NIC:
		return nic_summary(name, title, error);
	default:
		return host_summary(name, title, error);
	}
}
