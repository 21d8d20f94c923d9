/*
 * llm_tensor.h: the tensors of a layer, as llm_cost.c and llm_work.c share them. For those two
 * only; everyone else asks llm_cost.h.
 */
#ifndef KVT_LLM_TENSOR_H
#define KVT_LLM_TENSOR_H

#include "models/llm.h"

enum { KVT_LLM_TENSORS_MAX = 16 };

/* How a tensor-parallel group cuts a matrix. */
typedef enum kvt_llm_shard {
	KVT_SHARD_NONE, /* every rank has all of it */
	KVT_SHARD_OUTPUTS,
	KVT_SHARD_INPUTS,
	KVT_SHARD_KV_HEADS, /* outputs, by whole KV heads, one a rank at least */
} kvt_llm_shard;

/* `copies` matrices of outputs x inputs, `used` of which a token goes through. */
typedef struct kvt_llm_tensor {
	const char *label;
	kvt_llm_part part;
	uint64_t outputs, inputs, bias; /* whole, before cutting */
	uint64_t copies, used;
	kvt_llm_shard shard;
} kvt_llm_tensor;

/* Every tensor of a layer, in the order of a pass; returns how many. */
unsigned kvt_llm_layer_tensors(
	const kvt_llm *llm, unsigned layer, kvt_llm_tensor tensors[KVT_LLM_TENSORS_MAX]);

/* The LM head, which is the embedding when they are tied. */
kvt_llm_tensor kvt_llm_head_tensor(const kvt_llm *llm);

/* Outputs and inputs of one rank's part. */
void kvt_llm_tensor_shape(const kvt_llm *llm, const kvt_llm_tensor *tensor, unsigned ranks,
	uint64_t *outputs, uint64_t *inputs);

#endif
