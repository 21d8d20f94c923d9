/*
 * llm_cost.c: bytes of KV and weights. Every tensor of a layer is listed once, in layer_tensors,
 * and parameters, bytes and what a pass reads are sums over that list. Matrix products and
 * attention are in llm_work.c.
 */
#include "models/llm_cost.h"

#include <math.h>

#include "models/llm_tensor.h"
#include "sim/base/error.h"

static uint64_t divide_up(uint64_t n, uint64_t d)
{
	return (n + d - 1) / d;
}

gboolean kvt_llm_check_ranks(const kvt_llm *llm, unsigned ranks, GError **error)
{
	if (ranks == 0 || llm->attention.query_heads % ranks != 0)
		return kvt_error_usage(error,
			"%s has %" G_GINT64_FORMAT
			" query heads, expected ranks that divide them, not %u",
			llm->name, llm->attention.query_heads, ranks);
	uint64_t kv_heads = (uint64_t)llm->attention.kv_heads;
	if (llm->attention.form == KVT_ATTENTION_GROUPED && kv_heads % ranks != 0 &&
		ranks % kv_heads != 0)
		return kvt_error_usage(error,
			"%s has %" G_GUINT64_FORMAT
			" KV heads, expected ranks that divide them or are a multiple, not %u",
			llm->name, kv_heads, ranks);
	return TRUE;
}

/* KV */

uint64_t kvt_llm_held_tokens(const kvt_llm *llm, unsigned layer, uint64_t tokens)
{
	if (llm->layers[layer].attention == KVT_ATTENTION_GLOBAL)
		return tokens;
	return MIN(tokens, (uint64_t)llm->window);
}

uint64_t kvt_llm_kv_token_bytes(const kvt_llm *llm, unsigned ranks)
{
	kvt_dtype format = (kvt_dtype)llm->kv.format;
	uint64_t vectors, heads, elements;
	if (llm->attention.form == KVT_ATTENTION_LATENT) {
		heads = vectors = 1;
		elements = (uint64_t)(llm->attention.kv_rank + llm->attention.rope_dim);
	} else {
		vectors = 2;
		heads = divide_up((uint64_t)llm->attention.kv_heads, ranks);
		elements = 2 * heads * (uint64_t)llm->attention.head_dim;
	}
	uint64_t scales = 0;
	if (llm->kv.scale == KVT_KV_SCALE_TOKEN)
		scales = vectors;
	else if (llm->kv.scale == KVT_KV_SCALE_HEAD)
		scales = vectors * heads;
	return kvt_dtype_bytes(format, elements) +
	       kvt_dtype_bytes((kvt_dtype)llm->kv.scale_format, scales);
}

uint64_t kvt_llm_kv_bytes(const kvt_llm *llm, uint64_t tokens, unsigned ranks)
{
	uint64_t held = 0;
	for (unsigned layer = 0; layer < llm->n_layers; layer++)
		held += kvt_llm_held_tokens(llm, layer, tokens);
	return held * kvt_llm_kv_token_bytes(llm, ranks);
}

/* Weights */

static void add(kvt_llm_tensor *tensors, unsigned *n, const kvt_llm_tensor *tensor)
{
	g_assert(*n < KVT_LLM_TENSORS_MAX);
	tensors[(*n)++] = *tensor;
}

static void add_grouped(const kvt_llm *llm, kvt_llm_tensor *tensors, unsigned *n)
{
	uint64_t hidden = (uint64_t)llm->hidden;
	uint64_t head = (uint64_t)llm->attention.head_dim;
	uint64_t q = (uint64_t)llm->attention.query_heads * head;
	uint64_t kv = (uint64_t)llm->attention.kv_heads * head;
	bool bias = llm->attention.qkv_bias;
	kvt_llm_tensor tensor = { .part = KVT_PART_ATTENTION, .copies = 1, .used = 1 };

	tensor.label = "q";
	tensor.outputs = q;
	tensor.inputs = hidden;
	tensor.bias = bias ? q : 0;
	tensor.shard = KVT_SHARD_OUTPUTS;
	add(tensors, n, &tensor);
	tensor.label = "kv";
	tensor.outputs = 2 * kv;
	tensor.bias = bias ? 2 * kv : 0;
	tensor.shard = KVT_SHARD_KV_HEADS;
	add(tensors, n, &tensor);
	tensor.label = "o";
	tensor.outputs = hidden;
	tensor.inputs = q;
	tensor.bias = llm->attention.output_bias ? hidden : 0;
	tensor.shard = KVT_SHARD_INPUTS;
	add(tensors, n, &tensor);
}

static void add_latent(const kvt_llm *llm, kvt_llm_tensor *tensors, unsigned *n)
{
	uint64_t hidden = (uint64_t)llm->hidden, heads = (uint64_t)llm->attention.query_heads;
	uint64_t q_rank = (uint64_t)llm->attention.q_rank;
	uint64_t kv_rank = (uint64_t)llm->attention.kv_rank;
	uint64_t rope = (uint64_t)llm->attention.rope_dim;
	uint64_t nope = (uint64_t)llm->attention.nope_dim;
	uint64_t value = (uint64_t)llm->attention.value_dim;
	kvt_llm_tensor tensor = { .part = KVT_PART_ATTENTION, .copies = 1, .used = 1 };

	if (q_rank > 0) {
		tensor.label = "q_down";
		tensor.outputs = q_rank;
		tensor.inputs = hidden;
		add(tensors, n, &tensor);
	}
	tensor.label = "kv_down";
	tensor.outputs = kv_rank + rope;
	tensor.inputs = hidden;
	add(tensors, n, &tensor);
	tensor.label = "q";
	tensor.outputs = heads * (nope + rope);
	tensor.inputs = q_rank > 0 ? q_rank : hidden;
	tensor.shard = KVT_SHARD_OUTPUTS;
	add(tensors, n, &tensor);
	tensor.label = "kv_up";
	tensor.outputs = heads * (nope + value);
	tensor.inputs = kv_rank;
	add(tensors, n, &tensor);
	tensor.label = "o";
	tensor.outputs = hidden;
	tensor.inputs = heads * value;
	tensor.bias = llm->attention.output_bias ? hidden : 0;
	tensor.shard = KVT_SHARD_INPUTS;
	add(tensors, n, &tensor);
}

/* A gated MLP: gate and up in one matrix of 2 x width, and down. */
static void add_mlp(const kvt_llm *llm, kvt_llm_part part, const char *up, const char *down,
	uint64_t width, uint64_t copies, uint64_t used, kvt_llm_tensor *tensors, unsigned *n)
{
	bool bias = llm->mlp_bias && part == KVT_PART_MLP;
	kvt_llm_tensor tensor = { .part = part, .copies = copies, .used = used };
	tensor.label = up;
	tensor.outputs = 2 * width;
	tensor.inputs = (uint64_t)llm->hidden;
	tensor.bias = bias ? 2 * width : 0;
	tensor.shard = KVT_SHARD_OUTPUTS;
	add(tensors, n, &tensor);
	tensor.label = down;
	tensor.outputs = (uint64_t)llm->hidden;
	tensor.inputs = width;
	tensor.bias = bias ? (uint64_t)llm->hidden : 0;
	tensor.shard = KVT_SHARD_INPUTS;
	add(tensors, n, &tensor);
}

unsigned kvt_llm_layer_tensors(
	const kvt_llm *llm, unsigned layer, kvt_llm_tensor tensors[KVT_LLM_TENSORS_MAX])
{
	unsigned n = 0;
	bool latent = llm->attention.form == KVT_ATTENTION_LATENT;
	if (latent)
		add_latent(llm, tensors, &n);
	else
		add_grouped(llm, tensors, &n);
	if (llm->layers[layer].mlp == KVT_MLP_DENSE) {
		add_mlp(llm, KVT_PART_MLP, "gate_up", "down", (uint64_t)llm->mlp_width, 1, 1,
			tensors, &n);
	} else {
		uint64_t count = (uint64_t)llm->experts.count;
		kvt_llm_tensor router = { .label = "router",
			.part = KVT_PART_ROUTER,
			.outputs = count,
			.inputs = (uint64_t)llm->hidden,
			.copies = 1,
			.used = 1 };
		add(tensors, &n, &router);
		add_mlp(llm, KVT_PART_EXPERTS, "expert_gate_up", "expert_down",
			(uint64_t)llm->experts.width, count, (uint64_t)llm->experts.per_token,
			tensors, &n);
		if (llm->experts.shared > 0)
			add_mlp(llm, KVT_PART_SHARED_EXPERTS, "shared_gate_up", "shared_down",
				(uint64_t)(llm->experts.shared * llm->experts.shared_width), 1, 1,
				tensors, &n);
		if (llm->experts.shared > 0 && llm->experts.shared_gate) {
			kvt_llm_tensor gate = { .label = "shared_gate",
				.part = KVT_PART_ROUTER,
				.outputs = 1,
				.inputs = (uint64_t)llm->hidden,
				.copies = 1,
				.used = 1 };
			add(tensors, &n, &gate);
		}
	}
	uint64_t norm = (uint64_t)(llm->norms * llm->hidden);
	if (latent)
		norm += (uint64_t)(llm->attention.q_rank + llm->attention.kv_rank);
	else if (llm->attention.qk_norm)
		norm += 2 * (uint64_t)llm->attention.head_dim;
	kvt_llm_tensor norms = { .label = "norm",
		.part = KVT_PART_NORM,
		.outputs = 1,
		.inputs = norm,
		.copies = 1,
		.used = 1 };
	add(tensors, &n, &norms);
	return n;
}

static kvt_llm_tensor vocabulary_tensor(const kvt_llm *llm, kvt_llm_part part)
{
	return (kvt_llm_tensor){ .label = kvt_llm_part_names[part],
		.part = part,
		.outputs = (uint64_t)llm->vocabulary,
		.inputs = (uint64_t)llm->hidden,
		.copies = 1,
		.used = 1,
		.shard = KVT_SHARD_OUTPUTS };
}

kvt_llm_tensor kvt_llm_head_tensor(const kvt_llm *llm)
{
	return vocabulary_tensor(llm, llm->tied_embeddings ? KVT_PART_EMBEDDING : KVT_PART_HEAD);
}

void kvt_llm_tensor_shape(const kvt_llm *llm, const kvt_llm_tensor *tensor, unsigned ranks,
	uint64_t *outputs, uint64_t *inputs)
{
	*outputs = tensor->outputs;
	*inputs = tensor->inputs;
	switch (tensor->shard) {
	case KVT_SHARD_NONE:
		break;
	case KVT_SHARD_OUTPUTS:
		*outputs = divide_up(*outputs, ranks);
		break;
	case KVT_SHARD_INPUTS:
		*inputs = divide_up(*inputs, ranks);
		break;
	case KVT_SHARD_KV_HEADS:
		*outputs = *outputs / (uint64_t)llm->attention.kv_heads *
			   divide_up((uint64_t)llm->attention.kv_heads, ranks);
		break;
	}
}

/* Bytes of one copy on one rank, with scales and bias. */
static uint64_t tensor_bytes(const kvt_llm *llm, const kvt_llm_tensor *tensor, unsigned ranks)
{
	uint64_t n, k, scales = 0;
	kvt_llm_tensor_shape(llm, tensor, ranks, &n, &k);
	kvt_dtype format = (kvt_dtype)llm->precision.format[tensor->part];
	uint64_t group = (uint64_t)llm->precision.group;
	if (kvt_dtype_bits(format) <= 8 && tensor->part != KVT_PART_NORM) {
		switch ((kvt_weight_scale)llm->precision.scale) {
		case KVT_SCALE_NONE:
			break;
		case KVT_SCALE_TENSOR:
			scales = 1;
			break;
		case KVT_SCALE_CHANNEL:
			scales = n;
			break;
		case KVT_SCALE_BLOCK:
			scales = divide_up(n, group) * divide_up(k, group);
			break;
		case KVT_SCALE_GROUP:
			scales = n * divide_up(k, group);
			break;
		}
	}
	/* A bias is not quantised; an input-sharded matrix adds it on every rank's copy. */
	uint64_t bias =
		tensor->shard == KVT_SHARD_INPUTS ? tensor->bias : (tensor->bias > 0 ? n : 0);
	return kvt_dtype_bytes(format, n * k) +
	       kvt_dtype_bytes((kvt_dtype)llm->precision.scale_format, scales) + 2 * bias;
}

static uint64_t tensor_elements(const kvt_llm_tensor *tensor)
{
	return tensor->outputs * tensor->inputs + tensor->bias;
}

/* The embedding, the LM head when it is its own, the last norm. */
static uint64_t outer_parameters(const kvt_llm *llm)
{
	uint64_t table = (uint64_t)llm->vocabulary * (uint64_t)llm->hidden;
	return table * (llm->tied_embeddings ? 1 : 2) + (uint64_t)llm->hidden;
}

uint64_t kvt_llm_parameters(const kvt_llm *llm)
{
	uint64_t sum = outer_parameters(llm) + (uint64_t)llm->extra_parameters;
	for (unsigned layer = 0; layer < llm->n_layers; layer++) {
		kvt_llm_tensor tensors[KVT_LLM_TENSORS_MAX];
		unsigned n = kvt_llm_layer_tensors(llm, layer, tensors);
		for (unsigned i = 0; i < n; i++)
			sum += tensors[i].copies * tensor_elements(&tensors[i]);
	}
	return sum;
}

uint64_t kvt_llm_active_parameters(const kvt_llm *llm)
{
	uint64_t sum = outer_parameters(llm);
	for (unsigned layer = 0; layer < llm->n_layers; layer++) {
		kvt_llm_tensor tensors[KVT_LLM_TENSORS_MAX];
		unsigned n = kvt_llm_layer_tensors(llm, layer, tensors);
		for (unsigned i = 0; i < n; i++)
			sum += tensors[i].used * tensor_elements(&tensors[i]);
	}
	return sum;
}

uint64_t kvt_llm_layer_weight_bytes(const kvt_llm *llm, unsigned layer, unsigned ranks)
{
	kvt_llm_tensor tensors[KVT_LLM_TENSORS_MAX];
	unsigned n = kvt_llm_layer_tensors(llm, layer, tensors);
	uint64_t sum = 0;
	for (unsigned i = 0; i < n; i++)
		sum += tensors[i].copies * tensor_bytes(llm, &tensors[i], ranks);
	return sum;
}

uint64_t kvt_llm_weight_bytes(const kvt_llm *llm, unsigned ranks)
{
	kvt_llm_tensor embedding = vocabulary_tensor(llm, KVT_PART_EMBEDDING);
	kvt_llm_tensor head = vocabulary_tensor(llm, KVT_PART_HEAD);
	uint64_t sum = tensor_bytes(llm, &embedding, ranks) +
		       (llm->tied_embeddings ? 0 : tensor_bytes(llm, &head, ranks));
	sum += kvt_dtype_bytes(
		(kvt_dtype)llm->precision.format[KVT_PART_NORM], (uint64_t)llm->hidden);
	sum += kvt_dtype_bytes((kvt_dtype)llm->precision.format[KVT_PART_EXTRA],
		divide_up((uint64_t)llm->extra_parameters, ranks));
	for (unsigned layer = 0; layer < llm->n_layers; layer++)
		sum += kvt_llm_layer_weight_bytes(llm, layer, ranks);
	return sum;
}

double kvt_llm_distinct_experts(const kvt_llm *llm, uint64_t tokens)
{
	double count = (double)llm->experts.count;
	if (count < 1)
		return 0;
	double missed = 1 - (double)llm->experts.per_token / count;
	return count * (1 - pow(missed, (double)tokens));
}

double kvt_llm_layer_read_bytes(const kvt_llm *llm, unsigned layer, uint64_t tokens, unsigned ranks)
{
	if (tokens == 0)
		return 0;
	kvt_llm_tensor tensors[KVT_LLM_TENSORS_MAX];
	unsigned n = kvt_llm_layer_tensors(llm, layer, tensors);
	double sum = 0;
	for (unsigned i = 0; i < n; i++) {
		double copies = tensors[i].part == KVT_PART_EXPERTS
					? kvt_llm_distinct_experts(llm, tokens)
					: (double)tensors[i].copies;
		sum += copies * (double)tensor_bytes(llm, &tensors[i], ranks);
	}
	return sum;
}

double kvt_llm_read_bytes(const kvt_llm *llm, uint64_t tokens, unsigned ranks)
{
	if (tokens == 0)
		return 0;
	kvt_llm_tensor head = kvt_llm_head_tensor(llm);
	kvt_dtype format = (kvt_dtype)llm->precision.format[KVT_PART_EMBEDDING];
	/* A rank looks up the rows of its part of the vocabulary. */
	double rows = (double)divide_up(tokens, ranks);
	double sum = (double)tensor_bytes(llm, &head, ranks) +
		     rows * (double)kvt_dtype_bytes(format, (uint64_t)llm->hidden);
	for (unsigned layer = 0; layer < llm->n_layers; layer++)
		sum += kvt_llm_layer_read_bytes(llm, layer, tokens, ranks);
	return sum;
}
