/*
 * llm_cost.h: how many bytes and how much work a model is: KV, weights, matrix products, attention
 * and all-reduce. Counts only; what they take on a GPU is for gemm_model, attention_model and
 * collective_model. Bytes are for one rank of a tensor-parallel group of `ranks` (1: the whole
 * model); query heads, widths and vocabulary are cut into equal parts, rounded up; KV heads too,
 * but never below one a rank, so that above kv_heads ranks the KV is replicated; a latent (MLA) is
 * not cut.
 */
#ifndef KVT_LLM_COST_H
#define KVT_LLM_COST_H

#include "models/llm.h"

/* Refuses a group size that the heads cannot be cut into. */
gboolean kvt_llm_check_ranks(const kvt_llm *llm, unsigned ranks, GError **error);

/* KV */

/* Tokens whose KV a layer holds after a context of `tokens`: all of them in a global layer, at most
 * `window` in the others. (A chunked layer really restarts at each chunk; its fullest is counted,
 * as a cache has to hold it.) */
uint64_t kvt_llm_held_tokens(const kvt_llm *llm, unsigned layer, uint64_t tokens);

/* Bytes of one token's K and V with their scales in one layer on one rank. The same for all layers:
 * 2 x kv_heads x head_dim x format, or (kv_rank + rope_dim) x format. */
uint64_t kvt_llm_kv_token_bytes(const kvt_llm *llm, unsigned ranks);

/* Bytes that all layers hold on one rank after `tokens` (at most 1e9 of them). */
uint64_t kvt_llm_kv_bytes(const kvt_llm *llm, uint64_t tokens, unsigned ranks);

/* Weights */

/* Elements of all tensors, the extra ones included (a tied LM head once). */
uint64_t kvt_llm_parameters(const kvt_llm *llm);

/* The same but only the experts one token is routed to, and without the extra ones: what model
 * cards call active or activated parameters. */
uint64_t kvt_llm_active_parameters(const kvt_llm *llm);

/* Bytes of one layer's weights with their scales, and of the whole model, resident on one rank. */
uint64_t kvt_llm_layer_weight_bytes(const kvt_llm *llm, unsigned layer, unsigned ranks);
uint64_t kvt_llm_weight_bytes(const kvt_llm *llm, unsigned ranks);

/* Expected number of different experts that `tokens` tokens are routed to in a layer, each to
 * per_token of count, uniformly: count x (1 - (1 - per_token / count) ^ tokens). */
double kvt_llm_distinct_experts(const kvt_llm *llm, uint64_t tokens);

/* Bytes of weights that one pass over `tokens` tokens reads on one rank: in one layer (all but the
 * experts that nothing is routed to), and in the whole model with the LM head (one pass over it)
 * and the tokens' embedding rows. */
double kvt_llm_layer_read_bytes(
	const kvt_llm *llm, unsigned layer, uint64_t tokens, unsigned ranks);
double kvt_llm_read_bytes(const kvt_llm *llm, uint64_t tokens, unsigned ranks);

/* Work */

enum { KVT_LLM_GEMMS_MAX = 12 };

/* `groups` products (m x k) x (k x n) of equal shape in one launch: 1, or the experts of a layer.
 */
typedef struct kvt_llm_gemm {
	const char *label; /* qkv, o, gate_up, down, router, expert_gate_up, ..., head */
	uint64_t m, n, k;
	uint64_t groups;
	kvt_dtype dtype;        /* of the weights */
	kvt_weight_scale scale; /* of the weights; NONE above 8 bits */
} kvt_llm_gemm;

/*
 * The products of one layer over `tokens` tokens on one rank, in order; returns how many. Attention
 * itself is not among them. Experts get equal shares: groups = round(distinct experts), m =
 * ceil(tokens x per_token / groups). The latent form is counted as it is run: `absorbed` for decode
 * (q is mapped into the latent and the output out of it, a group a head), else K and V are expanded
 * from the latent for these tokens.
 */
unsigned kvt_llm_layer_gemms(const kvt_llm *llm, unsigned layer, uint64_t tokens, unsigned ranks,
	bool absorbed, kvt_llm_gemm gemms[KVT_LLM_GEMMS_MAX]);

/* The LM head over `rows` tokens: 1 a sequence, the last one, at prefill. */
kvt_llm_gemm kvt_llm_head_gemm(const kvt_llm *llm, uint64_t rows, unsigned ranks);

/* What gemm_model calls the kernel's inputs: "fp8", "fp8_block" (a scale a block of 128 x 128), or
 * "bfloat16", in which weights of other formats are computed too. */
const char *kvt_llm_gemm_inputs(const kvt_llm_gemm *gemm);

/* 2 m n k, times groups. */
double kvt_llm_gemm_flops(const kvt_llm_gemm *gemm);

/* What an attention kernel of one rank is asked for. A latent is one KV head of kv_rank + rope_dim
 * when `absorbed`, and query_heads heads of nope_dim + rope_dim otherwise. */
typedef struct kvt_llm_attention {
	uint64_t query_heads, kv_heads;
	uint64_t head_dim, value_dim; /* of q and k; of v and the output */
	kvt_dtype kv_format;
} kvt_llm_attention;

kvt_llm_attention kvt_llm_attention_shape(const kvt_llm *llm, unsigned ranks, bool absorbed);

/* (query, key) pairs that tokens start .. start + count - 1 attend to in a layer, each itself
 * included: for a global layer count x start + count (count + 1) / 2. */
double kvt_llm_attention_pairs(const kvt_llm *llm, unsigned layer, uint64_t start, uint64_t count);

/* FLOPs of attention over those pairs on one rank: 2 x (head_dim + value_dim) a pair and query head
 * (scores and weighted sum; softmax is not counted). */
double kvt_llm_attention_flops(const kvt_llm *llm, unsigned layer, uint64_t start, uint64_t count,
	unsigned ranks, bool absorbed);

/* Bytes one all-reduce over `tokens` tokens sums up: tokens x hidden in 16 bits. */
uint64_t kvt_llm_allreduce_bytes(const kvt_llm *llm, uint64_t tokens);

/* All-reduces in one pass: 2 a layer (after attention and after the MLP) and 1 after the embedding;
 * none for one rank. */
unsigned kvt_llm_allreduces(const kvt_llm *llm, unsigned ranks);

#endif
