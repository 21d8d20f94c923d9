/*
 * llm_import_precision.c: number formats of weights and KV from torch_dtype and
 * quantization_config. Which parts a quantiser left alone is told by the names of their modules; a
 * part of which only some layers were left alone has no place in our model files and is refused.
 */
#include <string.h>

#include "models/llm_import_internal.h"
#include "sim/base/error.h"

/* Linear layers that a quantiser takes unless told otherwise. */
static const kvt_llm_part quantisable[] = { KVT_PART_ATTENTION, KVT_PART_MLP, KVT_PART_EXPERTS,
	KVT_PART_SHARED_EXPERTS };

/* How a quantiser names modules: the first word that a name contains tells its part. */
static const struct {
	const char *word;
	kvt_llm_part part;
} module_words[] = {
	{ "lm_head", KVT_PART_HEAD },
	{ "vision", KVT_PART_EXTRA },
	{ "multi_modal_projector", KVT_PART_EXTRA },
	{ "embed_tokens", KVT_PART_EMBEDDING },
	{ "self_attn", KVT_PART_ATTENTION },
	{ "router", KVT_PART_ROUTER },
	{ "shared_expert_gate", KVT_PART_ROUTER },
	{ "gate$", KVT_PART_ROUTER },
	{ "shared_expert", KVT_PART_SHARED_EXPERTS },
	{ "experts", KVT_PART_EXPERTS },
	{ "norm", KVT_PART_NORM },
	{ "mlp", KVT_PART_MLP },
	{ "feed_forward", KVT_PART_MLP },
};

/* The matrices of a part, by the names of their modules. */
enum { ATTENTION_LEAVES = 0x0f, MLP_LEAVES = 0x70, ALL_LEAVES = 0x7f };
static const struct {
	const char *word;
	unsigned leaves;
} leaf_words[] = {
	{ "qkv_proj", 0x07 },
	{ "q_proj", 0x01 },
	{ "k_proj", 0x02 },
	{ "v_proj", 0x04 },
	{ "o_proj", 0x08 },
	{ "gate_up_proj", 0x30 },
	{ "gate_proj", 0x10 },
	{ "up_proj", 0x20 },
	{ "down_proj", 0x40 },
};

static gboolean read_plain(kvt_hf *root, kvt_hf *decoder, kvt_llm *llm, GError **error)
{
	const char *word = NULL;
	/* Newer files say dtype; nested ones say it at either level. */
	kvt_hf *places[] = { root, decoder };
	static const char *const keys[] = { "torch_dtype", "dtype" };
	for (unsigned i = 0; i < 4; i++) {
		const char *found = NULL;
		if (!kvt_hf_text(places[i / 2], keys[i % 2], &found, error))
			return FALSE;
		if (word == NULL)
			word = found;
	}
	kvt_dtype dtype;
	if (word == NULL)
		return kvt_hf_error(root, "torch_dtype", error,
			"is missing, expected bfloat16, float16 or float32");
	if (strcmp(word, "bfloat16") == 0)
		dtype = KVT_DTYPE_BF16;
	else if (strcmp(word, "float16") == 0)
		dtype = KVT_DTYPE_FP16;
	else if (strcmp(word, "float32") == 0)
		dtype = KVT_DTYPE_FP32;
	else {
		g_autofree char *quoted = kvt_error_quote(word);
		return kvt_hf_error(root, "torch_dtype", error,
			"%s is not known, expected bfloat16, float16 or float32", quoted);
	}
	for (unsigned part = 0; part < KVT_PARTS; part++)
		llm->precision.format[part] = (int)dtype;
	llm->precision.scale_format = KVT_DTYPE_FP32;
	llm->precision.group = 128;
	llm->kv.format = (int)dtype;
	llm->kv.scale_format = KVT_DTYPE_FP32;
	return TRUE;
}

static bool word_in(const char *name, const char *word)
{
	size_t length = strlen(word);
	if (length > 0 && word[length - 1] == '$') {
		g_autofree char *end = g_strndup(word, length - 1);
		return g_str_has_suffix(name, end);
	}
	return strstr(name, word) != NULL;
}

/* The number after "layers." in a module's name, or -1. */
static int layer_of(const char *name)
{
	const char *at = strstr(name, "layers.");
	if (at == NULL || !g_ascii_isdigit(at[7]))
		return -1;
	gint64 layer = g_ascii_strtoll(at + 7, NULL, 10);
	return layer < KVT_LLM_LAYERS_MAX ? (int)layer : KVT_LLM_LAYERS_MAX;
}

static bool layer_has(const kvt_llm *llm, unsigned layer, kvt_llm_part part)
{
	switch (part) {
	case KVT_PART_MLP:
		return llm->layers[layer].mlp == KVT_MLP_DENSE;
	case KVT_PART_EXPERTS:
	case KVT_PART_SHARED_EXPERTS:
	case KVT_PART_ROUTER:
		return llm->layers[layer].mlp == KVT_MLP_MOE;
	default:
		return true;
	}
}

/* The matrices that a module's name means: all of its part where it names none; 0 for one that is
 * not understood. */
static unsigned leaves_of(const char *name)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(leaf_words); i++) {
		if (strstr(name, leaf_words[i].word) != NULL)
			return leaf_words[i].leaves;
	}
	return strstr(name, "_proj") != NULL && strstr(name, "projector") == NULL ? 0 : ALL_LEAVES;
}

/* A name in dotted form: the `\.` and `.*` of a pattern are only dots and gaps to us. */
static char *plain_name(const char *name)
{
	const char *from = g_str_has_prefix(name, "re:") ? name + 3 : name;
	GString *plain = g_string_new(from);
	g_string_replace(plain, "\\.", ".", 0);
	if (g_str_has_suffix(plain->str, "$"))
		g_string_truncate(plain, plain->len - 1);
	return g_string_free(plain, FALSE);
}

/* Which matrices of which parts and layers a quantiser left alone. */
typedef struct kvt_left_alone {
	unsigned leaves[KVT_PARTS]; /* in all layers */
	unsigned char *layers;      /* the same a part and layer */
	bool named[KVT_PARTS];
} kvt_left_alone;

static gboolean add_module(kvt_hf *quant, const char *key, size_t index, const char *name,
	const kvt_llm *llm, kvt_left_alone *left, GError **error)
{
	g_autofree char *plain = plain_name(name);
	unsigned word = 0, leaves = leaves_of(plain);
	while (word < G_N_ELEMENTS(module_words) && !word_in(plain, module_words[word].word))
		word++;
	if (word == G_N_ELEMENTS(module_words) || leaves == 0) {
		g_autofree char *quoted = kvt_error_quote(name);
		return kvt_hf_error(quant, key, error,
			"entry %zu, %s, names no part that is understood", index, quoted);
	}
	kvt_llm_part part = module_words[word].part;
	int layer = layer_of(plain);
	if (layer < 0)
		left->leaves[part] |= leaves;
	else if (layer < (int)llm->n_layers)
		left->layers[(unsigned)part * llm->n_layers + (unsigned)layer] |= leaves;
	left->named[part] = true;
	return TRUE;
}

/* Sets whole[part] for the parts whose modules `list` names; all matrices in all layers must be. */
static gboolean read_left_alone(
	kvt_hf *quant, const char *key, const kvt_llm *llm, bool whole[KVT_PARTS], GError **error)
{
	const json_t *list;
	if (!kvt_hf_array(quant, key, &list, error))
		return FALSE;
	g_autofree unsigned char *layers = g_new0(unsigned char, (gsize)KVT_PARTS * llm->n_layers);
	kvt_left_alone left = { .layers = layers };
	for (size_t i = 0; list != NULL && i < json_array_size(list); i++) {
		const char *name = json_string_value(json_array_get(list, i));
		if (name == NULL)
			return kvt_hf_error(
				quant, key, error, "entry %zu is no string, expected one", i);
		if (!add_module(quant, key, i, name, llm, &left, error))
			return FALSE;
	}
	for (unsigned part = 0; part < KVT_PARTS; part++)
		whole[part] |= left.named[part];
	for (unsigned i = 0; i < G_N_ELEMENTS(quantisable); i++) {
		kvt_llm_part part = quantisable[i];
		unsigned need = part == KVT_PART_ATTENTION ? ATTENTION_LEAVES : MLP_LEAVES;
		for (unsigned layer = 0; left.named[part] && layer < llm->n_layers; layer++) {
			unsigned has = left.leaves[part] | layers[part * llm->n_layers + layer];
			if (layer_has(llm, layer, part) && (has & need) != need)
				return kvt_hf_error(quant, key, error,
					"leaves some of %s alone but not all of layer %u, "
					"expected all or none",
					kvt_llm_part_names[part], layer);
		}
	}
	return TRUE;
}

static void quantise(kvt_llm *llm, kvt_dtype format, const bool left[KVT_PARTS])
{
	for (unsigned i = 0; i < G_N_ELEMENTS(quantisable); i++) {
		if (!left[quantisable[i]])
			llm->precision.format[quantisable[i]] = (int)format;
	}
}

/* transformers' own FP8: blocks of weights with a scale each, or one a tensor. */
static gboolean read_fp8(kvt_hf *quant, kvt_llm *llm, GError **error)
{
	bool left[KVT_PARTS] = { false };
	const json_t *block;
	const char *format = NULL, *activations = NULL;
	if (!kvt_hf_text(quant, "fmt", &format, error) ||
		!kvt_hf_text(quant, "activation_scheme", &activations, error) ||
		!kvt_hf_array(quant, "weight_block_size", &block, error) ||
		!read_left_alone(quant, "modules_to_not_convert", llm, left, error) ||
		!read_left_alone(quant, "ignored_layers", llm, left, error))
		return FALSE;
	if (format != NULL && strcmp(format, "e4m3") != 0)
		return kvt_hf_error(quant, "fmt", error, "is not e4m3, expected that");
	llm->precision.scale = KVT_SCALE_TENSOR;
	if (block != NULL) {
		json_int_t rows = json_integer_value(json_array_get(block, 0));
		json_int_t columns = json_integer_value(json_array_get(block, 1));
		if (json_array_size(block) != 2 || rows < 1 || rows > 1 << 20 || columns != rows)
			return kvt_hf_error(quant, "weight_block_size", error,
				"is no square block, expected such as [128, 128]");
		llm->precision.scale = KVT_SCALE_BLOCK;
		llm->precision.group = rows;
	}
	quantise(llm, KVT_DTYPE_FP8, left);
	return TRUE;
}

/* One scheme of compressed-tensors: bits, type and strategy. */
static gboolean read_scheme(
	kvt_hf *scheme, int64_t *bits, const char **type, const char **strategy, GError **error)
{
	*type = *strategy = NULL;
	if (!kvt_hf_integer(scheme, "num_bits", 1, 32, bits, error) ||
		!kvt_hf_text(scheme, "type", type, error) ||
		!kvt_hf_text(scheme, "strategy", strategy, error))
		return FALSE;
	if (*type == NULL || *strategy == NULL)
		return kvt_hf_error(scheme, *type == NULL ? "type" : "strategy", error,
			"is missing, expected a string");
	return TRUE;
}

static gboolean read_compressed_weights(
	kvt_hf *weights, kvt_llm *llm, kvt_dtype *format, GError **error)
{
	static const struct {
		const char *word;
		kvt_weight_scale scale;
	} strategies[] = { { "tensor", KVT_SCALE_TENSOR }, { "channel", KVT_SCALE_CHANNEL },
		{ "group", KVT_SCALE_GROUP }, { "block", KVT_SCALE_BLOCK } };
	int64_t bits;
	const char *type, *strategy;
	if (!read_scheme(weights, &bits, &type, &strategy, error))
		return FALSE;
	bool integer = strcmp(type, "int") == 0;
	if (bits == 8 && strcmp(type, "float") == 0)
		*format = KVT_DTYPE_FP8;
	else if (bits == 8 && integer)
		*format = KVT_DTYPE_INT8;
	else if (bits == 4 && integer)
		*format = KVT_DTYPE_INT4;
	else
		return kvt_hf_error(weights, "num_bits", error,
			"with type \"%s\" is not understood, expected 8-bit float or int, or "
			"4-bit int",
			type);
	unsigned i = 0;
	while (i < G_N_ELEMENTS(strategies) && strcmp(strategies[i].word, strategy) != 0)
		i++;
	if (i == G_N_ELEMENTS(strategies))
		return kvt_hf_error(weights, "strategy", error,
			"\"%s\" is not known, expected tensor, channel, group or block", strategy);
	llm->precision.scale = (int)strategies[i].scale;
	/* It keeps scales in the format that the model had. */
	llm->precision.scale_format = llm->precision.format[KVT_PART_NORM];
	if (strategies[i].scale == KVT_SCALE_GROUP)
		return kvt_hf_integer(
			weights, "group_size", 1, 1 << 20, &llm->precision.group, error);
	return TRUE;
}

/* The one group of compressed-tensors' config_groups. */
static gboolean read_groups(kvt_hf *quant, kvt_llm *llm, kvt_dtype *format, GError **error)
{
	const json_t *groups;
	if (!kvt_hf_object(quant, "config_groups", &groups, error))
		return FALSE;
	if (groups == NULL || json_object_size(groups) != 1)
		return kvt_hf_error(quant, "config_groups", error, "has %zu groups, expected one",
			groups != NULL ? json_object_size(groups) : 0);
	const json_t *group = json_object_iter_value(json_object_iter((json_t *)groups));
	const json_t *targets = json_object_get(group, "targets");
	const char *target = json_string_value(json_array_get(targets, 0));
	if (json_array_size(targets) != 1 || target == NULL || strcmp(target, "Linear") != 0)
		return kvt_hf_error(
			quant, "config_groups", error, "has other targets, expected [\"Linear\"]");
	const json_t *object = json_object_get(group, "weights");
	if (!json_is_object(object))
		return kvt_hf_error(quant, "config_groups", error,
			"has no weights, expected an object with num_bits, type and strategy");
	kvt_hf weights;
	kvt_hf_init(&weights, quant->file, "quantization_config.config_groups.weights.", object);
	gboolean good = read_compressed_weights(&weights, llm, format, error);
	kvt_hf_clear(&weights);
	return good;
}

/* kv_cache_scheme: FP8 with a scale a tensor is what serving engines can run. */
static gboolean read_kv_scheme(kvt_hf *quant, kvt_llm *llm, GError **error)
{
	const json_t *object;
	if (!kvt_hf_object(quant, "kv_cache_scheme", &object, error))
		return FALSE;
	if (object == NULL)
		return TRUE;
	kvt_hf scheme;
	kvt_hf_init(&scheme, quant->file, "quantization_config.kv_cache_scheme.", object);
	int64_t bits;
	const char *type, *strategy;
	gboolean good = read_scheme(&scheme, &bits, &type, &strategy, error);
	if (good && (bits != 8 || strcmp(type, "float") != 0 || strcmp(strategy, "tensor") != 0))
		good = kvt_hf_error(&scheme, "num_bits", error,
			"with its type and strategy is not understood, expected 8-bit float a "
			"tensor");
	kvt_hf_clear(&scheme);
	if (good)
		llm->kv.format = KVT_DTYPE_FP8;
	return good;
}

static gboolean read_compressed(kvt_hf *quant, kvt_llm *llm, GError **error)
{
	bool left[KVT_PARTS] = { false };
	kvt_dtype format = KVT_DTYPE_FP8;
	if (!read_groups(quant, llm, &format, error) ||
		!read_left_alone(quant, "ignore", llm, left, error) ||
		!read_kv_scheme(quant, llm, error))
		return FALSE;
	quantise(llm, format, left);
	if (!left[KVT_PART_HEAD] && !llm->tied_embeddings)
		llm->precision.format[KVT_PART_HEAD] = (int)format;
	if (!left[KVT_PART_ROUTER])
		llm->precision.format[KVT_PART_ROUTER] = (int)format;
	if (!left[KVT_PART_EXTRA])
		llm->precision.format[KVT_PART_EXTRA] = (int)format;
	return TRUE;
}

/* GPTQ and AWQ: integers with an FP16 scale a group (or a channel). Their zero points, half a byte
 * a group, are not counted. */
static gboolean read_integer(kvt_hf *quant, kvt_llm *llm, GError **error)
{
	bool left[KVT_PARTS] = { false };
	int64_t bits, group;
	if (!kvt_hf_integer(quant, "bits", 1, 16, &bits, error) ||
		!kvt_hf_integer(quant, "group_size", -1, 1 << 20, &group, error) ||
		!read_left_alone(quant, "modules_to_not_convert", llm, left, error))
		return FALSE;
	if (bits != 4 && bits != 8)
		return kvt_hf_error(
			quant, "bits", error, "is %" G_GINT64_FORMAT ", expected 4 or 8", bits);
	if (group == 0)
		return kvt_hf_error(quant, "group_size", error, "is 0, expected -1 or more than 0");
	llm->precision.scale = group < 0 ? KVT_SCALE_CHANNEL : KVT_SCALE_GROUP;
	llm->precision.scale_format = KVT_DTYPE_FP16;
	if (group > 0)
		llm->precision.group = group;
	quantise(llm, bits == 4 ? KVT_DTYPE_INT4 : KVT_DTYPE_INT8, left);
	return TRUE;
}

gboolean kvt_hf_precision(kvt_hf *root, kvt_hf *decoder, kvt_llm *llm, GError **error)
{
	const json_t *object, *nested;
	if (!read_plain(root, decoder, llm, error) ||
		!kvt_hf_object(decoder, "quantization_config", &nested, error) ||
		!kvt_hf_object(root, "quantization_config", &object, error))
		return FALSE;
	if (object == NULL)
		object = nested;
	if (object == NULL)
		return TRUE;
	kvt_hf quant;
	kvt_hf_init(&quant, root->file, "quantization_config.", object);
	const char *method = NULL;
	gboolean good = kvt_hf_text(&quant, "quant_method", &method, error);
	if (good && method != NULL && strcmp(method, "fp8") == 0) {
		good = read_fp8(&quant, llm, error);
	} else if (good && method != NULL && strcmp(method, "compressed-tensors") == 0) {
		good = read_compressed(&quant, llm, error);
	} else if (good && method != NULL &&
		   (strcmp(method, "gptq") == 0 || strcmp(method, "awq") == 0)) {
		good = read_integer(&quant, llm, error);
	} else if (good) {
		g_autofree char *quoted = kvt_error_quote(method != NULL ? method : "");
		good = kvt_hf_error(&quant, "quant_method", error,
			"%s is not known, expected fp8, compressed-tensors, gptq or awq", quoted);
	}
	kvt_hf_clear(&quant);
	return good;
}
