/* llm.c: reads, checks and writes the description of a language model. Sizes are in llm_cost.c. */
#include "models/llm.h"

#include <string.h>

#include "models/model_file.h"
#include "sim/base/error.h"

const char *const kvt_llm_part_names[KVT_PARTS + 1] = { "embedding", "head", "attention", "mlp",
	"experts", "shared_experts", "router", "norm", "extra", NULL };

static const char *const attention_names[] = { "global", "chunked", "sliding", NULL };
static const char *const mlp_names[] = { "dense", "moe", NULL };
static const char *const form_names[] = { "grouped", "latent", NULL };
static const char *const weight_scale_names[] = { "none", "tensor", "channel", "block", "group",
	NULL };
static const char *const kv_scale_names[] = { "none", "token", "head", NULL };

static const char *const sections[] = { "llm", "layers", "attention", "mlp", "experts", "precision",
	"kv", NULL };

/* What [layers] says before it is expanded. */
typedef struct kvt_layers_text {
	int64_t count, window, norms;
	char *attention, *mlp;
} kvt_layers_text;

#define COUNT(T, key, f, fallback, low, high, help)                                                \
	{                                                                                          \
		key, KVT_OPTION_INTEGER, KVT_UNIT_COUNT, offsetof(T, f), fallback, low, high,      \
			NULL, help                                                                 \
	}
#define FLAG(T, key, f, fallback, help)                                                            \
	{                                                                                          \
		key, KVT_OPTION_BOOL, KVT_UNIT_NONE, offsetof(T, f), fallback, 0, 0, NULL, help    \
	}
#define TEXT(T, key, f, fallback, help)                                                            \
	{                                                                                          \
		key, KVT_OPTION_STRING, KVT_UNIT_NONE, offsetof(T, f), fallback, 0, 0, NULL, help  \
	}
#define CHOICE(key, f, fallback, names, help)                                                      \
	{                                                                                          \
		key, KVT_OPTION_CHOICE, KVT_UNIT_NONE, offsetof(kvt_llm, f), fallback, 0, 0,       \
			names, help                                                                \
	}
#define END                                                                                        \
	{                                                                                          \
		0                                                                                  \
	}

/* Bounds far beyond any model keep products of them below 2^63. */
static const kvt_option llm_options[] = {
	TEXT(kvt_llm, "title", title, NULL, "what people call it"),
	COUNT(kvt_llm, "hidden", hidden, NULL, 1, 1 << 20, "width of the residual stream"),
	COUNT(kvt_llm, "vocabulary", vocabulary, NULL, 1, 1 << 24, "rows of the embedding"),
	COUNT(kvt_llm, "context_limit", context_limit, NULL, 1, 1e9, "tokens it is made for"),
	COUNT(kvt_llm, "extra_parameters", extra_parameters, "0", 0, 1e13,
		"loaded beside the decoder"),
	FLAG(kvt_llm, "tied_embeddings", tied_embeddings, NULL, "LM head and embedding are one"),
	END,
};

static const kvt_option layers_options[] = {
	COUNT(kvt_layers_text, "count", count, NULL, 1, KVT_LLM_LAYERS_MAX, "decoder layers"),
	TEXT(kvt_layers_text, "attention", attention, NULL,
		"kinds in order, repeated: global, chunked, sliding"),
	TEXT(kvt_layers_text, "mlp", mlp, NULL, "kinds in order, repeated: dense, moe"),
	COUNT(kvt_layers_text, "window", window, "0", 0, 1e9, "of chunked and sliding layers"),
	COUNT(kvt_layers_text, "norms", norms, "2", 1, 16, "RMS norms a layer"),
	END,
};

static const kvt_option attention_options[] = {
	CHOICE("form", attention.form, NULL, form_names, "what the KV cache holds"),
	COUNT(kvt_llm, "query_heads", attention.query_heads, NULL, 1, 1 << 16, "query heads"),
	COUNT(kvt_llm, "kv_heads", attention.kv_heads, "0", 0, 1 << 16, "KV heads"),
	COUNT(kvt_llm, "head_dim", attention.head_dim, "0", 0, 1 << 16, "width of a head"),
	FLAG(kvt_llm, "qkv_bias", attention.qkv_bias, "no", "q, k and v have a bias"),
	FLAG(kvt_llm, "output_bias", attention.output_bias, "no", "the output has a bias"),
	FLAG(kvt_llm, "qk_norm", attention.qk_norm, "no", "learned norms on q and k"),
	COUNT(kvt_llm, "q_rank", attention.q_rank, "0", 0, 1 << 20,
		"of a compressed q (latent); 0: not compressed"),
	COUNT(kvt_llm, "kv_rank", attention.kv_rank, "0", 0, 1 << 20, "of the latent"),
	COUNT(kvt_llm, "rope_dim", attention.rope_dim, "0", 0, 1 << 16,
		"of the rotated part, beside the latent"),
	COUNT(kvt_llm, "nope_dim", attention.nope_dim, "0", 0, 1 << 16,
		"of a head's part without position (latent)"),
	COUNT(kvt_llm, "value_dim", attention.value_dim, "0", 0, 1 << 16,
		"of a head's values (latent)"),
	END,
};

static const kvt_option mlp_options[] = {
	COUNT(kvt_llm, "width", mlp_width, "0", 0, 1 << 22, "of a dense layer's MLP"),
	FLAG(kvt_llm, "bias", mlp_bias, "no", "its matrices have a bias"),
	END,
};

static const kvt_option experts_options[] = {
	COUNT(kvt_llm, "count", experts.count, "0", 0, 1 << 16, "routed experts a layer"),
	COUNT(kvt_llm, "per_token", experts.per_token, "0", 0, 1 << 16, "of them a token"),
	COUNT(kvt_llm, "width", experts.width, "0", 0, 1 << 22, "of an expert's MLP"),
	COUNT(kvt_llm, "shared", experts.shared, "0", 0, 1 << 10, "shared experts a layer"),
	COUNT(kvt_llm, "shared_width", experts.shared_width, "0", 0, 1 << 22, "of one of them"),
	FLAG(kvt_llm, "shared_gate", experts.shared_gate, "no", "a learned gate on the shared"),
	END,
};

static const kvt_option precision_options[] = {
	CHOICE("embedding", precision.format[KVT_PART_EMBEDDING], "bf16", kvt_dtype_names,
		"weights"),
	CHOICE("head", precision.format[KVT_PART_HEAD], "bf16", kvt_dtype_names, "weights"),
	CHOICE("attention", precision.format[KVT_PART_ATTENTION], "bf16", kvt_dtype_names,
		"weights"),
	CHOICE("mlp", precision.format[KVT_PART_MLP], "bf16", kvt_dtype_names, "weights"),
	CHOICE("experts", precision.format[KVT_PART_EXPERTS], "bf16", kvt_dtype_names, "weights"),
	CHOICE("shared_experts", precision.format[KVT_PART_SHARED_EXPERTS], "bf16", kvt_dtype_names,
		"weights"),
	CHOICE("router", precision.format[KVT_PART_ROUTER], "bf16", kvt_dtype_names, "weights"),
	CHOICE("norm", precision.format[KVT_PART_NORM], "bf16", kvt_dtype_names, "weights"),
	CHOICE("extra", precision.format[KVT_PART_EXTRA], "bf16", kvt_dtype_names, "weights"),
	CHOICE("scale", precision.scale, "none", weight_scale_names,
		"how many scales the weights of 8 bits and fewer have"),
	CHOICE("scale_format", precision.scale_format, "fp32", kvt_dtype_names, "of a scale"),
	COUNT(kvt_llm, "group", precision.group, "128", 1, 1 << 20,
		"weights a scale, of block (each way) and group"),
	END,
};

static const kvt_option kv_options[] = {
	CHOICE("format", kv.format, NULL, kvt_dtype_names, "of keys and values"),
	CHOICE("scale", kv.scale, "none", kv_scale_names,
		"scales a token and layer: none (or one a tensor), token, head"),
	CHOICE("scale_format", kv.scale_format, "fp32", kvt_dtype_names, "of a scale"),
	END,
};

/* Calls word(index of the kind) once for each layer named; false with an error on a bad word. */
static gboolean expand_pattern(const char *pattern, const char *const *names, unsigned n_layers,
	GArray *kinds, GError **error)
{
	g_auto(GStrv) words = g_strsplit_set(pattern, " \t", -1);
	for (char **word = words; *word != NULL; word++) {
		if ((*word)[0] == '\0')
			continue;
		guint64 repeat = 1;
		char *star = strchr(*word, '*');
		if (star != NULL)
			*star = '\0';
		int kind = 0;
		while (names[kind] != NULL && strcmp(names[kind], *word) != 0)
			kind++;
		if (names[kind] == NULL) {
			g_autofree char *all = g_strjoinv(", ", (char **)names);
			g_autofree char *quoted = kvt_error_quote(*word);
			return kvt_error_usage(error,
				"%s is no kind of layer, expected words such as %s*3, of %s",
				quoted, names[0], all);
		}
		g_autofree char *count = star != NULL ? kvt_error_quote(star + 1) : NULL;
		if (star != NULL && !g_ascii_string_to_unsigned(
					    star + 1, 10, 1, KVT_LLM_LAYERS_MAX, &repeat, NULL))
			return kvt_error_usage(error,
				"%s is no count of layers, expected 1 to %d after the *", count,
				KVT_LLM_LAYERS_MAX);
		for (guint64 i = 0; i < repeat; i++)
			g_array_append_val(kinds, kind);
		if (kinds->len > n_layers)
			return kvt_error_usage(error,
				"the pattern names more layers than there are (%u)", n_layers);
	}
	if (kinds->len == 0)
		return kvt_error_usage(
			error, "the pattern is empty, expected words such as %s*3", names[0]);
	return TRUE;
}

gboolean kvt_llm_set_layers(
	kvt_llm *llm, unsigned n_layers, const char *attention, const char *mlp, GError **error)
{
	if (n_layers == 0 || n_layers > KVT_LLM_LAYERS_MAX)
		return kvt_error_usage(
			error, "%u layers, expected 1 to %d", n_layers, KVT_LLM_LAYERS_MAX);
	g_autoptr(GArray) attentions = g_array_new(FALSE, FALSE, sizeof(int));
	g_autoptr(GArray) mlps = g_array_new(FALSE, FALSE, sizeof(int));
	if (!expand_pattern(attention, attention_names, n_layers, attentions, error) ||
		!expand_pattern(mlp, mlp_names, n_layers, mlps, error))
		return FALSE;
	g_free(llm->layers);
	llm->n_layers = n_layers;
	llm->layers = g_new(kvt_layer, n_layers);
	for (unsigned i = 0; i < n_layers; i++) {
		llm->layers[i].attention =
			(kvt_attention_kind)g_array_index(attentions, int, i % attentions->len);
		llm->layers[i].mlp = (kvt_mlp_kind)g_array_index(mlps, int, i % mlps->len);
	}
	return TRUE;
}

/* The shortest pattern that repeats to kinds[0 .. n): its smallest period, runs as word*count. */
static char *shortest_pattern(const int *kinds, unsigned n, const char *const *names)
{
	unsigned period = 1;
	for (unsigned i = 1; i < n; i++) {
		/* A mismatch makes any period up to i too short; a longer one is tried from the
		 * start. */
		if (kinds[i] != kinds[i % period]) {
			period++;
			i = period - 1;
		}
	}
	GString *text = g_string_new(NULL);
	for (unsigned i = 0; i < period;) {
		unsigned run = 1;
		while (i + run < period && kinds[i + run] == kinds[i])
			run++;
		g_string_append_printf(text, "%s%s", text->len > 0 ? " " : "", names[kinds[i]]);
		if (run > 1)
			g_string_append_printf(text, "*%u", run);
		i += run;
	}
	return g_string_free(text, FALSE);
}

char *kvt_llm_attention_pattern(const kvt_llm *llm)
{
	g_autofree int *kinds = g_new(int, llm->n_layers);
	for (unsigned i = 0; i < llm->n_layers; i++)
		kinds[i] = (int)llm->layers[i].attention;
	return shortest_pattern(kinds, llm->n_layers, attention_names);
}

char *kvt_llm_mlp_pattern(const kvt_llm *llm)
{
	g_autofree int *kinds = g_new(int, llm->n_layers);
	for (unsigned i = 0; i < llm->n_layers; i++)
		kinds[i] = (int)llm->layers[i].mlp;
	return shortest_pattern(kinds, llm->n_layers, mlp_names);
}

unsigned kvt_llm_count_attention(const kvt_llm *llm, kvt_attention_kind kind)
{
	unsigned count = 0;
	for (unsigned i = 0; i < llm->n_layers; i++)
		count += llm->layers[i].attention == kind;
	return count;
}

unsigned kvt_llm_count_mlp(const kvt_llm *llm, kvt_mlp_kind kind)
{
	unsigned count = 0;
	for (unsigned i = 0; i < llm->n_layers; i++)
		count += llm->layers[i].mlp == kind;
	return count;
}

static gboolean check_attention(const kvt_llm *llm, GError **error)
{
	if (llm->attention.form == KVT_ATTENTION_LATENT) {
		if (llm->attention.kv_rank < 1 || llm->attention.rope_dim < 1 ||
			llm->attention.nope_dim < 1 || llm->attention.value_dim < 1)
			return kvt_error_usage(error, "latent attention needs kv_rank, rope_dim, "
						      "nope_dim and value_dim above 0");
		return TRUE;
	}
	if (llm->attention.kv_heads < 1 || llm->attention.head_dim < 1)
		return kvt_error_usage(
			error, "grouped attention needs kv_heads and head_dim above 0");
	if (llm->attention.query_heads % llm->attention.kv_heads != 0)
		return kvt_error_usage(error,
			"%" G_GINT64_FORMAT " query heads are no multiple of %" G_GINT64_FORMAT
			" KV heads",
			llm->attention.query_heads, llm->attention.kv_heads);
	return TRUE;
}

/* In floating point, which does not wrap: sizes that the sums of llm_cost.c would wrap at. */
static gboolean check_size(const kvt_llm *llm, GError **error)
{
	double hidden = (double)llm->hidden, heads = (double)llm->attention.query_heads;
	double head = (double)MAX(llm->attention.head_dim,
		llm->attention.rope_dim + llm->attention.nope_dim + llm->attention.value_dim);
	double rank = (double)(llm->attention.q_rank + llm->attention.kv_rank);
	double attention = 4 * heads * head * (hidden + rank) + hidden * rank;
	double experts = 3 * (double)llm->experts.count * (double)llm->experts.width +
			 3 * (double)llm->experts.shared * (double)llm->experts.shared_width;
	double layer = attention + hidden * (3 * (double)llm->mlp_width + experts);
	double all = llm->n_layers * layer + 2 * hidden * (double)llm->vocabulary;
	if (all > 1e15)
		return kvt_error_usage(
			error, "the model has %.0e parameters, expected at most 1e15", all);
	double token = llm->n_layers * MAX(4 * 2 * heads * head, 4 * rank);
	if (token > (1 << 30))
		return kvt_error_usage(
			error, "a token's KV may take %.0e bytes, expected at most a GiB", token);
	return TRUE;
}

gboolean kvt_llm_check(const kvt_llm *llm, GError **error)
{
	if (llm->n_layers == 0)
		return kvt_error_usage(error, "a model needs at least one layer");
	if (!check_attention(llm, error) || !check_size(llm, error))
		return FALSE;
	unsigned windowed = llm->n_layers - kvt_llm_count_attention(llm, KVT_ATTENTION_GLOBAL);
	if (windowed > 0 && llm->window < 1)
		return kvt_error_usage(
			error, "chunked and sliding layers need a window of at least one token");
	if (kvt_llm_count_mlp(llm, KVT_MLP_DENSE) > 0 && llm->mlp_width < 1)
		return kvt_error_usage(error, "dense layers need the width of their MLP");
	if (kvt_llm_count_mlp(llm, KVT_MLP_MOE) == 0)
		return TRUE;
	if (llm->experts.count < 1 || llm->experts.width < 1)
		return kvt_error_usage(error, "MoE layers need the count and width of experts");
	if (llm->experts.per_token < 1 || llm->experts.per_token > llm->experts.count)
		return kvt_error_usage(error,
			"%" G_GINT64_FORMAT " experts a token, expected 1 to %" G_GINT64_FORMAT,
			llm->experts.per_token, llm->experts.count);
	if (llm->experts.shared > 0 && llm->experts.shared_width < 1)
		return kvt_error_usage(error, "shared experts need their width");
	return TRUE;
}

static gboolean read_layers(kvt_llm *llm, kvt_config *config, GError **error)
{
	kvt_layers_text text = { 0 };
	if (!kvt_model_read_section(config, "layers", TRUE, layers_options, &text, error))
		return FALSE;
	llm->window = text.window;
	llm->norms = text.norms;
	g_autoptr(GError) why = NULL;
	gboolean good =
		kvt_llm_set_layers(llm, (unsigned)text.count, text.attention, text.mlp, &why);
	if (!good)
		kvt_section_error(
			kvt_config_section(config, "layers"), NULL, error, "%s", why->message);
	kvt_option_clear(layers_options, &text);
	return good;
}

static kvt_llm *read_config(kvt_config *config, GError **error)
{
	g_autoptr(kvt_llm) llm = g_new0(kvt_llm, 1);
	g_autoptr(GError) why = NULL;
	llm->path = g_strdup(kvt_config_path(config));
	llm->name = kvt_model_name_of(llm->path);
	if (!kvt_model_read_section(config, "llm", TRUE, llm_options, llm, error) ||
		!read_layers(llm, config, error) ||
		!kvt_model_read_section(config, "attention", TRUE, attention_options, llm, error) ||
		!kvt_model_read_section(config, "mlp", FALSE, mlp_options, llm, error) ||
		!kvt_model_read_section(config, "experts", FALSE, experts_options, llm, error) ||
		!kvt_model_read_section(config, "precision", TRUE, precision_options, llm, error) ||
		!kvt_model_read_section(config, "kv", TRUE, kv_options, llm, error) ||
		!kvt_config_check_used(config, sections, error))
		return NULL;
	if (!kvt_llm_check(llm, &why)) {
		kvt_error_at(error, llm->path, 0, "%s", why->message);
		return NULL;
	}
	return g_steal_pointer(&llm);
}

kvt_llm *kvt_llm_load(const char *name_or_path, GError **error)
{
	g_autofree char *path = kvt_model_path(KVT_MODEL_LLM, name_or_path, error);
	if (path == NULL)
		return NULL;
	g_autoptr(kvt_config) config = kvt_config_load(path, error);
	return config != NULL ? read_config(config, error) : NULL;
}

kvt_llm *kvt_llm_parse(const char *path, const char *text, GError **error)
{
	g_autoptr(kvt_config) config = kvt_config_parse(path, text, error);
	return config != NULL ? read_config(config, error) : NULL;
}

void kvt_llm_free(kvt_llm *llm)
{
	if (llm == NULL)
		return;
	g_free(llm->name);
	g_free(llm->title);
	g_free(llm->path);
	g_free(llm->layers);
	g_free(llm);
}

/* Writes every option of the table as the file would say it. */
static void write_options(GString *text, const kvt_option *options, const void *target)
{
	for (const kvt_option *option = options; option->name != NULL; option++) {
		const void *field = (const char *)target + option->offset;
		g_string_append_printf(text, "%s = ", option->name);
		switch (option->type) {
		case KVT_OPTION_STRING:
			g_string_append(text, *(char *const *)field);
			break;
		case KVT_OPTION_BOOL:
			g_string_append(text, *(const bool *)field ? "yes" : "no");
			break;
		case KVT_OPTION_INTEGER:
			g_string_append_printf(text, "%" G_GINT64_FORMAT, *(const int64_t *)field);
			break;
		case KVT_OPTION_CHOICE:
			g_string_append(text, option->choices[*(const int *)field]);
			break;
		default:
			g_assert_not_reached();
		}
		g_string_append_c(text, '\n');
	}
}

static void write_section(GString *text, const char *name, const char *source,
	const kvt_option *options, const void *target)
{
	g_string_append_printf(
		text, "%s[%s]\nsource = %s\n", text->len > 0 ? "\n" : "", name, source);
	write_options(text, options, target);
}

char *kvt_llm_to_ini(const kvt_llm *llm, const char *source)
{
	GString *text = g_string_new(NULL);
	g_autofree char *attention = kvt_llm_attention_pattern(llm);
	g_autofree char *mlp = kvt_llm_mlp_pattern(llm);
	kvt_layers_text layers = { .count = llm->n_layers,
		.window = llm->window,
		.norms = llm->norms,
		.attention = attention,
		.mlp = mlp };
	write_section(text, "llm", source, llm_options, llm);
	write_section(text, "layers", source, layers_options, &layers);
	write_section(text, "attention", source, attention_options, llm);
	if (kvt_llm_count_mlp(llm, KVT_MLP_DENSE) > 0)
		write_section(text, "mlp", source, mlp_options, llm);
	if (kvt_llm_count_mlp(llm, KVT_MLP_MOE) > 0)
		write_section(text, "experts", source, experts_options, llm);
	write_section(text, "precision", source, precision_options, llm);
	write_section(text, "kv", source, kv_options, llm);
	return g_string_free(text, FALSE);
}
