/* work_cost.c: shapes of the model's work, looked up in the GPU's kernel tables and remembered. */
#include "sim/engine/work_cost.h"

#include <string.h>

#include "models/attention_model.h"
#include "models/collective_model.h"
#include "models/gemm_model.h"
#include "models/llm_cost.h"
#include "models/model_file.h"
#include "sim/base/error.h"

const char *const kvt_all_reduce_names[] = { "nccl", "eager", "graph", NULL };

/* Where no kernel was measured: the share of peak FLOP/s that a large product or attention call
 * reaches, what the measured GPUs have in common (0.70 to 0.82). */
static const double ROOFLINE_SHARE = 0.75;

enum { CACHE_SLOTS = 1 << 13, MOE_DECODE_TOKENS = 256 };

typedef struct cached_time {
	kvt_work work; /* tokens 0: an empty slot */
	kvt_time time;
} cached_time;

struct kvt_work_cost {
	const kvt_llm *llm;
	const kvt_gpu *gpu;
	kvt_cost_options options;
	double memory_rate;                   /* bytes/s that a streaming kernel reaches */
	kvt_model_store *models;              /* a reference; these are its */
	const kvt_attention_model *attention; /* NULL: roofline */
	const kvt_gemm_model *gemm;
	const kvt_collective_model *collective;
	bool extrapolated[KVT_WORK_KINDS];
	cached_time cache[CACHE_SLOTS];
};

kvt_work_cost *kvt_work_cost_new(
	const kvt_llm *llm, const kvt_gpu *gpu, const kvt_cost_options *options, GError **error)
{
	kvt_work_cost *cost = g_new0(kvt_work_cost, 1);
	cost->llm = llm;
	cost->gpu = gpu;
	cost->options = *options;
	cost->memory_rate = gpu->memory_bandwidth * gpu->memory_efficiency;
	cost->models =
		options->models ? kvt_model_store_ref(options->models) : kvt_model_store_new();
	gboolean ok = TRUE;
	if (ok && gpu->attention_table)
		ok = (cost->attention = kvt_model_store_attention(
			      cost->models, gpu->attention_table, error)) != NULL;
	if (ok && gpu->gemm_table)
		ok = (cost->gemm = kvt_model_store_gemm(cost->models, gpu->gemm_table, error)) !=
		     NULL;
	if (ok && gpu->collective_table)
		ok = (cost->collective = kvt_model_store_collective(
			      cost->models, gpu->collective_table, error)) != NULL;
	if (ok)
		ok = kvt_llm_check_ranks(llm, options->ranks, error);
	if (!ok) {
		kvt_work_cost_free(cost);
		return NULL;
	}
	return cost;
}

void kvt_work_cost_free(kvt_work_cost *cost)
{
	if (!cost)
		return;
	kvt_model_store_unref(cost->models);
	g_free(cost);
}

/* The name that the measured tables give a format; NULL where none was measured. */
static const char *gemm_dtype(const kvt_llm_gemm *gemm)
{
	switch (gemm->dtype) {
	case KVT_DTYPE_BF16:
	case KVT_DTYPE_FP16:
		return "bfloat16";
	case KVT_DTYPE_FP8:
		return gemm->scale == KVT_SCALE_BLOCK ? "fp8_block" : "fp8";
	default:
		return NULL;
	}
}

/* A bound on the time of a kernel, and how many times faster it is to be than it would be. */
typedef struct roof {
	double seconds, speed;
} roof;

static roof roofline(const kvt_work_cost *cost, double flops, double bytes, kvt_dtype dtype)
{
	double compute = flops / (ROOFLINE_SHARE * kvt_gpu_flops(cost->gpu, dtype));
	double memory = bytes / cost->memory_rate;
	double speed = compute > memory ? cost->options.compute_speed : cost->options.memory_speed;
	return (roof){ MAX(compute, memory), speed > 0 ? speed : 1 };
}

static double gemm_seconds(kvt_work_cost *cost, kvt_work_kind kind, const kvt_llm_gemm *gemm)
{
	double weights =
		(double)kvt_dtype_bytes(gemm->dtype, gemm->n * gemm->k) * (double)gemm->groups;
	const roof bound = roofline(cost, kvt_llm_gemm_flops(gemm), weights, gemm->dtype);
	const char *dtype = gemm_dtype(gemm);
	if (!cost->gemm || !dtype || !kvt_gemm_model_has(cost->gemm, dtype)) {
		cost->extrapolated[kind] = true;
		return bound.seconds / bound.speed;
	}
	/* grouped products fill the GPU together, but read every group's weights */
	kvt_gemm_query query = { .dtype = dtype,
		.m = (int64_t)(gemm->m * gemm->groups),
		.n = (int64_t)gemm->n,
		.k = (int64_t)gemm->k };
	kvt_gemm_time time;
	if (kvt_gemm_predict(cost->gemm, &query, &time) != 0) {
		cost->extrapolated[kind] = true;
		return bound.seconds / bound.speed;
	}
	cost->extrapolated[kind] |= time.extrapolated;
	double memory = gemm->groups > 1 ? weights / cost->memory_rate : 0;
	return MAX(time.seconds, memory) / bound.speed;
}

static bool gemm_belongs(const char *label, kvt_work_kind kind)
{
	if (g_str_has_prefix(label, "qkv") || g_str_has_prefix(label, "q_") ||
		g_str_has_prefix(label, "kv_") || g_str_equal(label, "q"))
		return kind == KVT_WORK_QKV;
	if (g_str_equal(label, "o") || g_str_has_prefix(label, "o_"))
		return kind == KVT_WORK_OUTPUT;
	return kind == KVT_WORK_MLP;
}

static double dense_seconds(kvt_work_cost *cost, const kvt_work *work)
{
	kvt_llm_gemm gemms[KVT_LLM_GEMMS_MAX];
	unsigned count = kvt_llm_layer_gemms(cost->llm, work->layer, work->tokens,
		cost->options.ranks, work->tokens == 1, gemms);
	double seconds = 0;
	for (unsigned i = 0; i < count; i++)
		if (gemm_belongs(gemms[i].label, work->kind))
			seconds += gemm_seconds(cost, work->kind, &gemms[i]) +
				   kvt_time_to_seconds(cost->options.kernel_overhead);
	return seconds;
}

static double attention_query(kvt_work_cost *cost, const kvt_llm_attention *shape,
	kvt_attention_phase phase, uint64_t batch, uint64_t tokens, uint64_t prefix)
{
	/* (query, key) pairs, for the roofline and its FLOPs */
	double pairs = phase == KVT_ATTENTION_DECODE
			       ? (double)tokens
			       : (double)tokens * (double)prefix +
					 0.5 * (double)tokens * (double)(tokens + 1);
	double width = (double)(shape->head_dim + shape->value_dim);
	double flops = 2 * width * pairs * (double)shape->query_heads * (double)batch;
	double kv_tokens = (double)(tokens + prefix) * (double)batch;
	double bytes =
		kv_tokens * width * (double)shape->kv_heads * kvt_dtype_bits(shape->kv_format) / 8;
	const roof bound = roofline(cost, flops, bytes, KVT_DTYPE_BF16);
	if (!cost->attention) {
		cost->extrapolated[KVT_WORK_ATTENTION] = true;
		return bound.seconds / bound.speed;
	}
	kvt_attention_query query = { .phase = phase,
		.dtype = "bfloat16",
		.kv_dtype = shape->kv_format == KVT_DTYPE_FP8 ? "fp8" : "bfloat16",
		.batch = (int64_t)batch,
		.heads = (int64_t)shape->query_heads,
		.kv_heads = (int64_t)shape->kv_heads,
		.head_dim = (int64_t)shape->head_dim,
		.tokens = (int64_t)tokens,
		.prefix = (int64_t)prefix,
		.cold = true };
	kvt_attention_time time;
	if (kvt_attention_predict(cost->attention, &query, &time) != 0) {
		cost->extrapolated[KVT_WORK_ATTENTION] = true;
		return bound.seconds / bound.speed;
	}
	cost->extrapolated[KVT_WORK_ATTENTION] |= time.extrapolated;
	return time.seconds / bound.speed;
}

static double attention_seconds(kvt_work_cost *cost, const kvt_work *work)
{
	bool decode = work->tokens == 1;
	kvt_llm_attention shape = kvt_llm_attention_shape(cost->llm, cost->options.ranks, decode);
	uint64_t batch = MAX(work->batch, 1);
	double overhead = kvt_time_to_seconds(cost->options.kernel_overhead);
	if (decode)
		return overhead + attention_query(cost, &shape, KVT_ATTENTION_DECODE, batch,
					  work->kv_tokens + (work->causal ? 1 : 0), 0);
	double whole = attention_query(
		cost, &shape, KVT_ATTENTION_PREFILL, batch, work->tokens, work->kv_tokens);
	if (work->causal)
		return overhead + whole;
	/* a window of earlier tokens alone: what it adds to the new tokens' own triangle, and what
	 * a call takes, which the difference has lost */
	double own = attention_query(cost, &shape, KVT_ATTENTION_PREFILL, batch, work->tokens, 0);
	double call = kvt_time_to_seconds(cost->gpu->call_latency);
	return overhead + MIN(call + MAX(whole - own, 0), whole);
}

/* Partial outputs in FP32 with their log-sum-exp: two are read, one is written. */
static double merge_seconds(const kvt_work_cost *cost, const kvt_work *work)
{
	kvt_llm_attention shape =
		kvt_llm_attention_shape(cost->llm, cost->options.ranks, work->tokens == 1);
	double elements =
		(double)work->tokens * (double)shape.query_heads * (double)(shape.value_dim + 1);
	double rate =
		cost->gpu->merge_bandwidth > 0 ? cost->gpu->merge_bandwidth : cost->memory_rate;
	return kvt_time_to_seconds(cost->gpu->call_latency) + 3 * 4 * elements / rate;
}

static double all_reduce_seconds(kvt_work_cost *cost, const kvt_work *work)
{
	if (cost->options.ranks < 2)
		return 0;
	double bytes = (double)kvt_llm_allreduce_bytes(cost->llm, work->tokens);
	bool small = work->tokens <= MOE_DECODE_TOKENS;
	if (cost->options.all_reduce_rate > 0 && !small)
		return bytes / cost->options.all_reduce_rate;
	if (!cost->collective) {
		/* a ring over NVLink or PCIe: each rank sends and receives 2 (n-1)/n of it */
		double ranks = cost->options.ranks;
		double link = cost->gpu->nvlink > 0 ? cost->gpu->nvlink / 2
						    : kvt_pcie_raw_rate(cost->gpu->pcie_generation,
							      cost->gpu->pcie_lanes);
		cost->extrapolated[KVT_WORK_ALL_REDUCE] = true;
		return 2 * (ranks - 1) / ranks * bytes / (ROOFLINE_SHARE * link);
	}
	kvt_collective_query query = { .op = "all_reduce",
		.gpus = (int64_t)cost->options.ranks,
		.bytes = bytes,
		.flavour = small ? (kvt_collective_flavour)cost->options.decode_all_reduce
				 : KVT_COLLECTIVE_NCCL };
	kvt_collective_time time;
	if (kvt_collective_predict(cost->collective, &query, &time) != 0) {
		query.flavour = KVT_COLLECTIVE_NCCL;
		if (kvt_collective_predict(cost->collective, &query, &time) != 0)
			g_assert_not_reached();
	}
	cost->extrapolated[KVT_WORK_ALL_REDUCE] |= time.extrapolated;
	return time.seconds;
}

static double work_seconds(kvt_work_cost *cost, const kvt_work *work)
{
	switch (work->kind) {
	case KVT_WORK_QKV:
	case KVT_WORK_OUTPUT:
	case KVT_WORK_MLP:
		return dense_seconds(cost, work);
	case KVT_WORK_ATTENTION:
		return attention_seconds(cost, work);
	case KVT_WORK_MERGE:
		return merge_seconds(cost, work);
	case KVT_WORK_ALL_REDUCE:
		return all_reduce_seconds(cost, work);
	case KVT_WORK_HEAD: {
		kvt_llm_gemm head = kvt_llm_head_gemm(cost->llm, work->tokens, cost->options.ranks);
		return gemm_seconds(cost, work->kind, &head);
	}
	default:
		g_assert_not_reached();
	}
}

static bool same_work(const kvt_work *a, const kvt_work *b)
{
	return a->kind == b->kind && a->layer == b->layer && a->tokens == b->tokens &&
	       a->kv_tokens == b->kv_tokens && a->causal == b->causal && a->batch == b->batch;
}

kvt_time kvt_work_cost_time(kvt_work_cost *cost, const kvt_work *work)
{
	kvt_work key = *work;
	/* only the MLP differs between layers: dense or experts */
	key.layer = work->kind == KVT_WORK_MLP ? cost->llm->layers[work->layer].mlp : 0;
	uint64_t hash = (key.tokens * 31 + key.kv_tokens) * 0x9e3779b97f4a7c15u;
	hash ^= ((uint64_t)key.kind << 3 | key.layer << 1 | (key.causal != 0)) *
		0xbf58476d1ce4e5b9u;
	hash ^= key.batch * 0x94d049bb133111ebu;
	cached_time *slot = &cost->cache[hash >> 51];
	if (slot->work.tokens > 0 && same_work(&slot->work, &key))
		return slot->time;
	kvt_time time = kvt_time_from_seconds(work_seconds(cost, work));
	*slot = (cached_time){ key, time };
	return time;
}

const kvt_gpu *kvt_work_cost_gpu(const kvt_work_cost *cost)
{
	return cost->gpu;
}

kvt_time kvt_work_cost_call_overhead(const kvt_work_cost *cost)
{
	return cost->options.call_overhead;
}

bool kvt_work_cost_extrapolated(const kvt_work_cost *cost, kvt_work_kind kind)
{
	return cost->extrapolated[kind];
}

const char *kvt_work_cost_source(const kvt_work_cost *cost, kvt_work_kind kind)
{
	bool table = kind == KVT_WORK_ATTENTION || kind == KVT_WORK_MERGE ? cost->attention != NULL
		     : kind == KVT_WORK_ALL_REDUCE                        ? cost->collective != NULL
									  : cost->gemm != NULL;
	if (!table)
		return "roofline of the datasheet";
	return cost->extrapolated[kind] ? "measured kernel tables, extrapolated beyond them"
					: "measured kernel tables";
}
