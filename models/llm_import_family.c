/*
 * llm_import_family.c: what the keys of a decoder's config.json mean in each family of models, as
 * the configuration and modelling code of Hugging Face transformers reads them (defaults included).
 */
#include <string.h>

#include "models/llm_import_internal.h"
#include "sim/base/error.h"

/* Far beyond any model, and small enough that products of them stay below 2^63. */
enum { WIDEST = 1 << 20, MOST_HEADS = 1 << 14, MOST_EXPERTS = 1 << 14 };
static const int64_t longest = 1000000000;

/* Keys that every family has; `vocabulary` is the family's default, 0 for none. */
static gboolean read_common(kvt_hf *hf, kvt_llm *llm, int64_t vocabulary, bool tied, GError **error)
{
	int64_t layers;
	if (!kvt_hf_integer(hf, "num_hidden_layers", 1, KVT_LLM_LAYERS_MAX, &layers, error) ||
		!kvt_hf_integer(hf, "hidden_size", 1, WIDEST, &llm->hidden, error) ||
		!kvt_hf_bool(hf, "tie_word_embeddings", tied, &llm->tied_embeddings, error))
		return FALSE;
	llm->n_layers = (unsigned)layers;
	if (vocabulary == 0)
		return kvt_hf_integer(hf, "vocab_size", 1, 1 << 24, &llm->vocabulary, error) &&
		       kvt_hf_integer(hf, "max_position_embeddings", 1, longest,
			       &llm->context_limit, error);
	return kvt_hf_integer_or(
		       hf, "vocab_size", 1, 1 << 24, vocabulary, &llm->vocabulary, error) &&
	       kvt_hf_integer_or(hf, "max_position_embeddings", 1, longest, 131072,
		       &llm->context_limit, error);
}

/* Query and KV heads and their width; a head_dim of 0 stands for hidden_size / query heads. */
static gboolean read_heads(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	int64_t *query = &llm->attention.query_heads, *kv = &llm->attention.kv_heads;
	int64_t *dim = &llm->attention.head_dim;
	llm->attention.form = KVT_ATTENTION_GROUPED;
	if (!kvt_hf_integer(hf, "num_attention_heads", 1, MOST_HEADS, query, error) ||
		!kvt_hf_integer(hf, "num_key_value_heads", 1, MOST_HEADS, kv, error))
		return FALSE;
	if (*query % *kv != 0)
		return kvt_hf_error(hf, "num_key_value_heads", error,
			"is %" G_GINT64_FORMAT
			", expected a divisor of num_attention_heads (%" G_GINT64_FORMAT ")",
			*kv, *query);
	if (kvt_hf_get(hf, "head_dim") != NULL)
		return kvt_hf_integer(hf, "head_dim", 1, 1 << 16, dim, error);
	if (llm->hidden % *query != 0)
		return kvt_hf_error(hf, "hidden_size", error,
			"is %" G_GINT64_FORMAT
			", expected a multiple of num_attention_heads (%" G_GINT64_FORMAT
			") where head_dim is not given",
			llm->hidden, *query);
	*dim = llm->hidden / *query;
	return TRUE;
}

static gboolean read_width(kvt_hf *hf, const char *key, int64_t *width, GError **error)
{
	return kvt_hf_integer(hf, key, 1, 1 << 22, width, error);
}

/* attention_bias of Llama, Qwen3 and Gemma: on q, k, v and the output. */
static gboolean read_attention_bias(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	bool bias;
	if (!kvt_hf_bool(hf, "attention_bias", false, &bias, error))
		return FALSE;
	llm->attention.qkv_bias = llm->attention.output_bias = bias;
	return TRUE;
}

/* kinds[layer] from the list that newer files have instead of a rule; `handled` says if there was
 * one. */
static gboolean read_layer_types(
	kvt_hf *hf, const kvt_llm *llm, kvt_attention_kind *kinds, bool *handled, GError **error)
{
	static const char *const words[] = { [KVT_ATTENTION_GLOBAL] = "full_attention",
		[KVT_ATTENTION_CHUNKED] = "chunked_attention",
		[KVT_ATTENTION_SLIDING] = "sliding_attention" };
	const json_t *list;
	if (!kvt_hf_array(hf, "layer_types", &list, error))
		return FALSE;
	*handled = list != NULL;
	if (list == NULL)
		return TRUE;
	if (json_array_size(list) != llm->n_layers)
		return kvt_hf_error(hf, "layer_types", error,
			"has %zu entries, expected one for each of the %u layers",
			json_array_size(list), llm->n_layers);
	for (unsigned i = 0; i < llm->n_layers; i++) {
		const char *word = json_string_value(json_array_get(list, i));
		unsigned kind = 0;
		while (kind < G_N_ELEMENTS(words) &&
			(word == NULL || strcmp(words[kind], word) != 0))
			kind++;
		if (kind == G_N_ELEMENTS(words)) {
			g_autofree char *quoted = kvt_error_quote(word != NULL ? word : "?");
			return kvt_hf_error(hf, "layer_types", error,
				"entry %u is %s, expected full_attention, sliding_attention or "
				"chunked_attention",
				i, quoted);
		}
		kinds[i] = (kvt_attention_kind)kind;
	}
	return TRUE;
}

/* Puts kinds into the model, with the window under `window_key` when a layer needs one. */
static gboolean set_attention(kvt_hf *hf, kvt_llm *llm, const kvt_attention_kind *kinds,
	const char *window_key, GError **error)
{
	bool windowed = false, chunked = false, sliding = false;
	llm->layers = g_new0(kvt_layer, llm->n_layers);
	for (unsigned i = 0; i < llm->n_layers; i++) {
		llm->layers[i].attention = kinds[i];
		chunked |= kinds[i] == KVT_ATTENTION_CHUNKED;
		sliding |= kinds[i] == KVT_ATTENTION_SLIDING;
	}
	windowed = chunked || sliding;
	if (chunked && sliding)
		return kvt_hf_error(hf, "layer_types", error,
			"has chunked and sliding layers, expected one of the two");
	return !windowed || kvt_hf_integer(hf, window_key, 1, longest, &llm->window, error);
}

/* Layers of one kind, unless layer_types says otherwise. */
static gboolean read_attention(kvt_hf *hf, kvt_llm *llm, const kvt_attention_kind *rule,
	const char *window_key, GError **error)
{
	bool handled;
	g_autofree kvt_attention_kind *kinds = g_new(kvt_attention_kind, llm->n_layers);
	memcpy(kinds, rule, llm->n_layers * sizeof(*kinds));
	return read_layer_types(hf, llm, kinds, &handled, error) &&
	       set_attention(hf, llm, kinds, window_key, error);
}

static gboolean read_global(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	g_autofree kvt_attention_kind *rule = g_new0(kvt_attention_kind, llm->n_layers);
	return read_attention(hf, llm, rule, "sliding_window", error);
}

/* Mistral: a sliding_window that is not null is every layer's. */
static gboolean read_mistral_window(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	bool sliding = kvt_hf_get(hf, "sliding_window") != NULL;
	g_autofree kvt_attention_kind *rule = g_new0(kvt_attention_kind, llm->n_layers);
	for (unsigned i = 0; sliding && i < llm->n_layers; i++)
		rule[i] = KVT_ATTENTION_SLIDING;
	return read_attention(hf, llm, rule, "sliding_window", error);
}

/* Qwen: with use_sliding_window, layers from max_window_layers on slide. */
static gboolean read_qwen_window(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	bool use;
	int64_t first;
	if (!kvt_hf_bool(hf, "use_sliding_window", false, &use, error))
		return FALSE;
	bool sliding = kvt_hf_get(hf, "sliding_window") != NULL && use;
	if (kvt_hf_get(hf, "max_window_layers") == NULL)
		first = llm->n_layers;
	else if (!kvt_hf_integer(hf, "max_window_layers", 0, longest, &first, error))
		return FALSE;
	if (sliding && kvt_hf_get(hf, "max_window_layers") == NULL)
		return kvt_hf_error(hf, "max_window_layers", error,
			"is missing, expected the first layer that slides");
	g_autofree kvt_attention_kind *rule = g_new0(kvt_attention_kind, llm->n_layers);
	for (unsigned i = 0; sliding && i < llm->n_layers; i++) {
		if (i >= first)
			rule[i] = KVT_ATTENTION_SLIDING;
	}
	return read_attention(hf, llm, rule, "sliding_window", error);
}

static gboolean read_experts(
	kvt_hf *hf, kvt_llm *llm, const char *count, const char *width, GError **error)
{
	return kvt_hf_integer(hf, count, 1, MOST_EXPERTS, &llm->experts.count, error) &&
	       kvt_hf_integer(hf, "num_experts_per_tok", 1, MOST_EXPERTS, &llm->experts.per_token,
		       error) &&
	       read_width(hf, width, &llm->experts.width, error);
}

static void set_all_moe(kvt_llm *llm)
{
	for (unsigned i = 0; i < llm->n_layers; i++)
		llm->layers[i].mlp = KVT_MLP_MOE;
}

static gboolean read_llama(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	/* Llama 1 has no num_key_value_heads: as many as query heads. */
	if (!read_common(hf, llm, 0, false, error))
		return FALSE;
	if (kvt_hf_get(hf, "num_key_value_heads") == NULL) {
		int64_t heads;
		if (!kvt_hf_integer(hf, "num_attention_heads", 1, MOST_HEADS, &heads, error) ||
			!kvt_hf_integer_or(hf, "num_key_value_heads", 1, MOST_HEADS, heads,
				&llm->attention.kv_heads, error))
			return FALSE;
		llm->attention.query_heads = llm->attention.kv_heads = heads;
		if (kvt_hf_get(hf, "head_dim") != NULL || llm->hidden % heads != 0)
			return kvt_hf_error(hf, "hidden_size", error,
				"expected a multiple of num_attention_heads and no head_dim where "
				"num_key_value_heads is missing");
		llm->attention.head_dim = llm->hidden / heads;
	} else if (!read_heads(hf, llm, error)) {
		return FALSE;
	}
	return read_attention_bias(hf, llm, error) &&
	       kvt_hf_bool(hf, "mlp_bias", false, &llm->mlp_bias, error) &&
	       read_width(hf, "intermediate_size", &llm->mlp_width, error) &&
	       read_global(hf, llm, error);
}

static gboolean read_mistral(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	return read_common(hf, llm, 0, false, error) && read_heads(hf, llm, error) &&
	       read_width(hf, "intermediate_size", &llm->mlp_width, error) &&
	       read_mistral_window(hf, llm, error);
}

static gboolean read_mixtral(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	if (!read_common(hf, llm, 0, false, error) || !read_heads(hf, llm, error) ||
		!read_experts(hf, llm, "num_local_experts", "intermediate_size", error) ||
		!read_mistral_window(hf, llm, error))
		return FALSE;
	set_all_moe(llm);
	return TRUE;
}

static gboolean read_qwen2(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	llm->attention.qkv_bias = true;
	return read_common(hf, llm, 0, false, error) && read_heads(hf, llm, error) &&
	       read_width(hf, "intermediate_size", &llm->mlp_width, error) &&
	       read_qwen_window(hf, llm, error);
}

static gboolean read_qwen3(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	llm->attention.qk_norm = true;
	return read_common(hf, llm, 0, false, error) && read_heads(hf, llm, error) &&
	       read_attention_bias(hf, llm, error) &&
	       read_width(hf, "intermediate_size", &llm->mlp_width, error) &&
	       read_qwen_window(hf, llm, error);
}

/* A list of layer numbers, marked in `set` (n_layers of them). */
static gboolean read_layer_list(
	kvt_hf *hf, const char *key, const kvt_llm *llm, bool *set, bool *given, GError **error)
{
	const json_t *list;
	if (!kvt_hf_array(hf, key, &list, error))
		return FALSE;
	*given = list != NULL && json_array_size(list) > 0;
	for (size_t i = 0; *given && i < json_array_size(list); i++) {
		const json_t *entry = json_array_get(list, i);
		json_int_t layer = json_integer_value(entry);
		if (!json_is_integer(entry) || layer < 0 || layer >= (json_int_t)llm->n_layers)
			return kvt_hf_error(hf, key, error,
				"entry %zu is no layer, expected 0 to %u", i, llm->n_layers - 1);
		set[layer] = true;
	}
	return TRUE;
}

/* Qwen MoE: every decoder_sparse_step-th layer, but for mlp_only_layers. */
static gboolean read_qwen_experts(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	int64_t step;
	bool given;
	g_autofree bool *dense = g_new0(bool, llm->n_layers);
	if (!kvt_hf_integer_or(hf, "decoder_sparse_step", 1, longest, 1, &step, error) ||
		!read_layer_list(hf, "mlp_only_layers", llm, dense, &given, error) ||
		!read_experts(hf, llm, "num_experts", "moe_intermediate_size", error) ||
		!read_width(hf, "intermediate_size", &llm->mlp_width, error))
		return FALSE;
	for (unsigned i = 0; i < llm->n_layers; i++) {
		if (!dense[i] && (i + 1) % step == 0)
			llm->layers[i].mlp = KVT_MLP_MOE;
	}
	return TRUE;
}

static gboolean read_qwen2_moe(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	llm->experts.shared = 1;
	llm->experts.shared_gate = true;
	return read_common(hf, llm, 0, false, error) && read_heads(hf, llm, error) &&
	       kvt_hf_bool(hf, "qkv_bias", true, &llm->attention.qkv_bias, error) &&
	       read_width(
		       hf, "shared_expert_intermediate_size", &llm->experts.shared_width, error) &&
	       read_qwen_window(hf, llm, error) && read_qwen_experts(hf, llm, error);
}

static gboolean read_qwen3_moe(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	llm->attention.qk_norm = true;
	return read_common(hf, llm, 0, false, error) && read_heads(hf, llm, error) &&
	       read_attention_bias(hf, llm, error) && read_qwen_window(hf, llm, error) &&
	       read_qwen_experts(hf, llm, error);
}

static gboolean read_gemma(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	return read_common(hf, llm, 0, true, error) && read_heads(hf, llm, error) &&
	       read_attention_bias(hf, llm, error) &&
	       read_width(hf, "intermediate_size", &llm->mlp_width, error) &&
	       read_global(hf, llm, error);
}

/* Gemma 2 and 3: every `period`-th layer is global, the others slide. */
static gboolean read_gemma_window(kvt_hf *hf, kvt_llm *llm, int64_t period, GError **error)
{
	g_autofree kvt_attention_kind *rule = g_new0(kvt_attention_kind, llm->n_layers);
	for (unsigned i = 0; i < llm->n_layers; i++) {
		if ((i + 1) % period != 0)
			rule[i] = KVT_ATTENTION_SLIDING;
	}
	return read_attention(hf, llm, rule, "sliding_window", error);
}

static gboolean read_gemma2(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	llm->norms = 4;
	/* Its published files repeat sliding_window under a name of their own. */
	kvt_hf_get(hf, "sliding_window_size");
	return read_common(hf, llm, 0, true, error) && read_heads(hf, llm, error) &&
	       read_attention_bias(hf, llm, error) &&
	       read_width(hf, "intermediate_size", &llm->mlp_width, error) &&
	       read_gemma_window(hf, llm, 2, error);
}

/* Gemma 3's files leave out what equals the library's defaults. */
static gboolean read_gemma3(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	int64_t period;
	llm->norms = 4;
	llm->attention.qk_norm = true;
	llm->attention.form = KVT_ATTENTION_GROUPED;
	const char *key = kvt_hf_get(hf, "_sliding_window_pattern") != NULL
				  ? "_sliding_window_pattern"
				  : "sliding_window_pattern";
	return read_common(hf, llm, 262208, true, error) &&
	       kvt_hf_integer_or(hf, "num_attention_heads", 1, MOST_HEADS, 8,
		       &llm->attention.query_heads, error) &&
	       kvt_hf_integer_or(hf, "num_key_value_heads", 1, MOST_HEADS, 4,
		       &llm->attention.kv_heads, error) &&
	       kvt_hf_integer_or(
		       hf, "head_dim", 1, 1 << 16, 256, &llm->attention.head_dim, error) &&
	       kvt_hf_integer_or(hf, key, 1, longest, 6, &period, error) &&
	       read_attention_bias(hf, llm, error) &&
	       read_width(hf, "intermediate_size", &llm->mlp_width, error) &&
	       read_gemma_window(hf, llm, period, error);
}

/* Llama 4: RoPE layers see their chunk, the others (every 4th, NoPE) everything. no_rope_layers has
 * 1 for a layer with RoPE. */
static gboolean read_llama4_attention(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	const json_t *rope;
	int64_t interval = 4;
	if (!kvt_hf_array(hf, "no_rope_layers", &rope, error))
		return FALSE;
	size_t given = rope != NULL ? json_array_size(rope) : 0;
	if (given == 0 &&
		!kvt_hf_integer_or(hf, "no_rope_layer_interval", 1, longest, 4, &interval, error))
		return FALSE;
	if (given != 0 && given != llm->n_layers)
		return kvt_hf_error(hf, "no_rope_layers", error,
			"has %zu entries, expected one for each of the %u layers", given,
			llm->n_layers);
	bool chunks = kvt_hf_get(hf, "attention_chunk_size") != NULL;
	g_autofree kvt_attention_kind *rule = g_new0(kvt_attention_kind, llm->n_layers);
	for (unsigned i = 0; i < llm->n_layers; i++) {
		json_int_t has_rope = (i + 1) % interval != 0;
		if (given != 0) {
			const json_t *entry = json_array_get(rope, i);
			has_rope = json_integer_value(entry);
			if (!json_is_integer(entry) || has_rope < 0 || has_rope > 1)
				return kvt_hf_error(hf, "no_rope_layers", error,
					"entry %u is neither, expected 1 (RoPE) or 0", i);
		}
		rule[i] = has_rope && chunks ? KVT_ATTENTION_CHUNKED : KVT_ATTENTION_GLOBAL;
	}
	return read_attention(hf, llm, rule, "attention_chunk_size", error);
}

static gboolean read_llama4(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	int64_t step;
	bool given, bias, qk_norm;
	if (!read_common(hf, llm, 0, false, error) || !read_heads(hf, llm, error) ||
		!read_attention_bias(hf, llm, error) ||
		/* Its norms on q and k have no weights. */
		!kvt_hf_bool(hf, "use_qk_norm", true, &qk_norm, error) ||
		!kvt_hf_bool(hf, "mlp_bias", false, &bias, error) ||
		!read_experts(hf, llm, "num_local_experts", "intermediate_size", error) ||
		!read_width(hf, "intermediate_size_mlp", &llm->mlp_width, error) ||
		!kvt_hf_integer_or(hf, "interleave_moe_layer_step", 1, longest, 1, &step, error) ||
		!read_llama4_attention(hf, llm, error))
		return FALSE;
	g_autofree bool *moe = g_new0(bool, llm->n_layers);
	if (!read_layer_list(hf, "moe_layers", llm, moe, &given, error))
		return FALSE;
	for (unsigned i = 0; i < llm->n_layers; i++) {
		if (given ? moe[i] : (i + 1) % step == 0)
			llm->layers[i].mlp = KVT_MLP_MOE;
	}
	llm->experts.shared = 1;
	llm->experts.shared_width = llm->experts.width;
	return TRUE;
}

/* DeepSeek: latent attention; MoE from first_k_dense_replace on. */
static gboolean read_deepseek(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	int64_t dense, frequency;
	llm->attention.form = KVT_ATTENTION_LATENT;
	if (!read_common(hf, llm, 0, false, error) ||
		!kvt_hf_integer(hf, "num_attention_heads", 1, MOST_HEADS,
			&llm->attention.query_heads, error) ||
		!kvt_hf_integer(hf, "kv_lora_rank", 1, WIDEST, &llm->attention.kv_rank, error) ||
		!kvt_hf_integer(
			hf, "qk_rope_head_dim", 1, 1 << 16, &llm->attention.rope_dim, error) ||
		!kvt_hf_integer(
			hf, "qk_nope_head_dim", 1, 1 << 16, &llm->attention.nope_dim, error) ||
		!kvt_hf_integer(hf, "v_head_dim", 1, 1 << 16, &llm->attention.value_dim, error) ||
		!kvt_hf_bool(hf, "attention_bias", false, &llm->attention.output_bias, error) ||
		!read_width(hf, "intermediate_size", &llm->mlp_width, error) ||
		!read_global(hf, llm, error))
		return FALSE;
	if (kvt_hf_get(hf, "q_lora_rank") != NULL &&
		!kvt_hf_integer(hf, "q_lora_rank", 1, WIDEST, &llm->attention.q_rank, error))
		return FALSE;
	if (llm->attention.output_bias)
		return kvt_hf_error(hf, "attention_bias", error,
			"is true, expected false for latent attention");
	/* Written for the library's sake; a latent has no KV heads of its own. */
	kvt_hf_get(hf, "num_key_value_heads");
	kvt_hf_get(hf, "head_dim");
	kvt_hf_get(hf, "qk_head_dim");
	if (kvt_hf_get(hf, "n_routed_experts") == NULL)
		return TRUE;
	if (!read_experts(hf, llm, "n_routed_experts", "moe_intermediate_size", error) ||
		!kvt_hf_integer_or(hf, "first_k_dense_replace", 0, longest, 0, &dense, error) ||
		!kvt_hf_integer_or(hf, "moe_layer_freq", 1, longest, 1, &frequency, error))
		return FALSE;
	for (unsigned i = 0; i < llm->n_layers; i++) {
		if (i >= dense && i % frequency == 0)
			llm->layers[i].mlp = KVT_MLP_MOE;
	}
	llm->experts.shared_width = llm->experts.width;
	return kvt_hf_get(hf, "n_shared_experts") == NULL ||
	       kvt_hf_integer(hf, "n_shared_experts", 0, 1024, &llm->experts.shared, error);
}

const kvt_hf_family kvt_hf_families[] = {
	{ "llama", "LlamaForCausalLM", false, read_llama },
	{ "mistral", "MistralForCausalLM", false, read_mistral },
	{ "mixtral", "MixtralForCausalLM", false, read_mixtral },
	{ "qwen2", "Qwen2ForCausalLM", false, read_qwen2 },
	{ "qwen2_moe", "Qwen2MoeForCausalLM", false, read_qwen2_moe },
	{ "qwen3", "Qwen3ForCausalLM", false, read_qwen3 },
	{ "qwen3_moe", "Qwen3MoeForCausalLM", false, read_qwen3_moe },
	{ "gemma", "GemmaForCausalLM", false, read_gemma },
	{ "gemma2", "Gemma2ForCausalLM", false, read_gemma2 },
	{ "gemma3", "Gemma3ForConditionalGeneration", true, read_gemma3 },
	{ "gemma3_text", "Gemma3ForCausalLM", false, read_gemma3 },
	{ "llama4", "Llama4ForConditionalGeneration", true, read_llama4 },
	{ "llama4_text", "Llama4ForCausalLM", false, read_llama4 },
	{ "deepseek_v2", "DeepseekV2ForCausalLM", false, read_deepseek },
	{ "deepseek_v3", "DeepseekV3ForCausalLM", false, read_deepseek },
	{ NULL, NULL, false, NULL },
};
