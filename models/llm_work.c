/* llm_work.c: the matrix products, attention and all-reduces of a pass over a model. */
#include <math.h>

#include "models/llm_cost.h"
#include "models/llm_tensor.h"

static uint64_t divide_up(uint64_t n, uint64_t d)
{
	return (n + d - 1) / d;
}

static kvt_llm_gemm gemm_of(
	const kvt_llm *llm, const kvt_llm_tensor *tensor, uint64_t rows, unsigned ranks)
{
	kvt_llm_gemm gemm = { .label = tensor->label, .m = rows, .groups = 1 };
	kvt_llm_tensor_shape(llm, tensor, ranks, &gemm.n, &gemm.k);
	gemm.dtype = (kvt_dtype)llm->precision.format[tensor->part];
	if (kvt_dtype_bits(gemm.dtype) <= 8)
		gemm.scale = (kvt_weight_scale)llm->precision.scale;
	if (tensor->part == KVT_PART_EXPERTS) {
		/* Experts that nothing is routed to are not run; rounding keeps m x groups close to
		 * the rows there are. */
		double distinct = rint(kvt_llm_distinct_experts(llm, rows));
		gemm.groups = (uint64_t)fmax(distinct, (double)llm->experts.per_token);
		gemm.m = divide_up(rows * (uint64_t)llm->experts.per_token, gemm.groups);
	}
	return gemm;
}

/* In decode, q is mapped into the latent and the output out of it, head by head, by the halves of
 * kv_up, instead of expanding K and V of the whole context. */
static unsigned absorbed_gemms(const kvt_llm *llm, const kvt_llm_gemm *kv_up, uint64_t rows,
	unsigned ranks, kvt_llm_gemm *gemms)
{
	uint64_t heads = divide_up((uint64_t)llm->attention.query_heads, ranks);
	gemms[0] = *kv_up;
	gemms[0].label = "q_absorb";
	gemms[0].m = rows;
	gemms[0].k = (uint64_t)llm->attention.nope_dim;
	gemms[0].n = (uint64_t)llm->attention.kv_rank;
	gemms[0].groups = heads;
	gemms[1] = gemms[0];
	gemms[1].label = "v_absorb";
	gemms[1].k = (uint64_t)llm->attention.kv_rank;
	gemms[1].n = (uint64_t)llm->attention.value_dim;
	return 2;
}

unsigned kvt_llm_layer_gemms(const kvt_llm *llm, unsigned layer, uint64_t tokens, unsigned ranks,
	bool absorbed, kvt_llm_gemm gemms[KVT_LLM_GEMMS_MAX])
{
	if (tokens == 0)
		return 0;
	kvt_llm_tensor tensors[KVT_LLM_TENSORS_MAX];
	unsigned n_tensors = kvt_llm_layer_tensors(llm, layer, tensors), n = 0;
	bool latent = llm->attention.form == KVT_ATTENTION_LATENT;
	for (unsigned i = 0; i < n_tensors; i++) {
		const char *label = tensors[i].label;
		if (tensors[i].part == KVT_PART_NORM)
			continue;
		g_assert(n + 2 <= KVT_LLM_GEMMS_MAX);
		kvt_llm_gemm gemm = gemm_of(llm, &tensors[i], tokens, ranks);
		if (!latent && g_str_equal(label, "kv")) {
			/* q, k and v are one product. */
			gemms[n - 1].label = "qkv";
			gemms[n - 1].n += gemm.n;
		} else if (latent && absorbed && g_str_equal(label, "kv_up")) {
			n += absorbed_gemms(llm, &gemm, tokens, ranks, &gemms[n]);
		} else {
			gemms[n++] = gemm;
		}
	}
	return n;
}

kvt_llm_gemm kvt_llm_head_gemm(const kvt_llm *llm, uint64_t rows, unsigned ranks)
{
	kvt_llm_tensor head = kvt_llm_head_tensor(llm);
	kvt_llm_gemm gemm = gemm_of(llm, &head, rows, ranks);
	gemm.label = "head";
	return gemm;
}

const char *kvt_llm_gemm_inputs(const kvt_llm_gemm *gemm)
{
	if (gemm->dtype != KVT_DTYPE_FP8)
		return "bfloat16";
	return gemm->scale == KVT_SCALE_BLOCK ? "fp8_block" : "fp8";
}

double kvt_llm_gemm_flops(const kvt_llm_gemm *gemm)
{
	return 2.0 * (double)gemm->m * (double)gemm->n * (double)gemm->k * (double)gemm->groups;
}

kvt_llm_attention kvt_llm_attention_shape(const kvt_llm *llm, unsigned ranks, bool absorbed)
{
	uint64_t heads = divide_up((uint64_t)llm->attention.query_heads, ranks);
	kvt_llm_attention shape = { .query_heads = heads, .kv_format = (kvt_dtype)llm->kv.format };
	if (llm->attention.form == KVT_ATTENTION_GROUPED) {
		shape.kv_heads = divide_up((uint64_t)llm->attention.kv_heads, ranks);
		shape.head_dim = shape.value_dim = (uint64_t)llm->attention.head_dim;
	} else if (absorbed) {
		shape.kv_heads = 1;
		shape.head_dim = (uint64_t)(llm->attention.kv_rank + llm->attention.rope_dim);
		shape.value_dim = (uint64_t)llm->attention.kv_rank;
	} else {
		shape.kv_heads = heads;
		shape.head_dim = (uint64_t)(llm->attention.nope_dim + llm->attention.rope_dim);
		shape.value_dim = (uint64_t)llm->attention.value_dim;
	}
	return shape;
}

/* Sum of min(t + 1, window) over t < n. */
static double sliding_pairs(double n, double window)
{
	if (n <= window)
		return n * (n + 1) / 2;
	return window * (window + 1) / 2 + (n - window) * window;
}

/* Sum of t mod window + 1 over t < n. */
static double chunked_pairs(uint64_t n, uint64_t window)
{
	double whole = (double)(n / window), rest = (double)(n % window), size = (double)window;
	return whole * size * (size + 1) / 2 + rest * (rest + 1) / 2;
}

double kvt_llm_attention_pairs(const kvt_llm *llm, unsigned layer, uint64_t start, uint64_t count)
{
	double first = (double)start, n = (double)count;
	uint64_t window = (uint64_t)llm->window;
	switch (llm->layers[layer].attention) {
	case KVT_ATTENTION_GLOBAL:
		return n * first + n * (n + 1) / 2;
	case KVT_ATTENTION_CHUNKED:
		return chunked_pairs(start + count, window) - chunked_pairs(start, window);
	case KVT_ATTENTION_SLIDING:
		return sliding_pairs(first + n, (double)window) -
		       sliding_pairs(first, (double)window);
	}
	g_assert_not_reached();
}

double kvt_llm_attention_flops(const kvt_llm *llm, unsigned layer, uint64_t start, uint64_t count,
	unsigned ranks, bool absorbed)
{
	kvt_llm_attention shape = kvt_llm_attention_shape(llm, ranks, absorbed);
	return 2.0 * (double)(shape.head_dim + shape.value_dim) * (double)shape.query_heads *
	       kvt_llm_attention_pairs(llm, layer, start, count);
}

uint64_t kvt_llm_allreduce_bytes(const kvt_llm *llm, uint64_t tokens)
{
	return tokens * (uint64_t)llm->hidden * 2;
}

unsigned kvt_llm_allreduces(const kvt_llm *llm, unsigned ranks)
{
	return ranks > 1 ? 2 * llm->n_layers + 1 : 0;
}
