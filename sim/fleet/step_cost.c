/* step_cost.c: iterations priced by kernel tables, peak rates or a line, and remembered. */
#include "sim/fleet/step_cost.h"

#include <math.h>
#include <stddef.h>

#include "models/llm_cost.h"
#include "sim/engine/work_cost.h"

/* Contexts that decode attention is priced at: 16 to an octave, from 64 tokens on. */
enum {
	GRID_FIRST = 64,
	GRID_SUB_BITS = 4,
	GRID_SUB = 1 << GRID_SUB_BITS,
	GRID_OCTAVES = 32,
	GRID_POINTS = GRID_OCTAVES * GRID_SUB + 1,
	DENSE_MAX = 1 << 17,
	BATCH_MAX = 1 << 13,
};

static const char *const model_names[] = { "tables", "peak", "linear", NULL };

#define FIELD(name) offsetof(kvt_step_settings, name)

const kvt_option kvt_step_options[] = {
	{ "model", KVT_OPTION_CHOICE, 0, FIELD(model), "tables", 0, 0, model_names,
		"tables: the GPU's measured kernels; peak: the larger of FLOPs and bytes at peak "
		"rates; linear: base and so much a token, sequence and KV token" },
	{ "base", KVT_OPTION_TIME, 0, FIELD(base), "0s", 0, 3600, NULL,
		"added to every step: scheduler, launch, sampling" },
	{ "compute_speed", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(compute_speed), "1", 0.01, 100,
		NULL, "how many times faster what FLOP/s limit is: prompts, large batches" },
	{ "memory_speed", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(memory_speed), "1", 0.01, 100,
		NULL, "how many times faster what HBM's bandwidth limits is: decode" },
	{ "decode_all_reduce", KVT_OPTION_CHOICE, 0, FIELD(decode_all_reduce), "graph", 0, 0,
		kvt_all_reduce_names, "tables: kernel of small all-reduces" },
	{ "all_reduce_rate", KVT_OPTION_QUANTITY, KVT_UNIT_RATE, FIELD(all_reduce_rate), "0B/s", 0,
		0, NULL, "tables: algorithm bandwidth of large all-reduces; 0B/s: as measured" },
	{ "kernel_overhead", KVT_OPTION_TIME, 0, FIELD(kernel_overhead), "0s", 0, 60, NULL,
		"tables: added to every kernel call" },
	{ "flops", KVT_OPTION_QUANTITY, KVT_UNIT_FLOPS, FIELD(flops), "0FLOP/s", 0, 1e21, NULL,
		"peak: of one GPU; 0FLOP/s: what its file says for the weights' format" },
	{ "memory_rate", KVT_OPTION_QUANTITY, KVT_UNIT_RATE, FIELD(memory_rate), "0B/s", 0, 1e18,
		NULL, "peak: HBM bandwidth of one GPU; 0B/s: what its file says" },
	{ "per_token", KVT_OPTION_TIME, 0, FIELD(per_token), "0s", 0, 3600, NULL,
		"linear: of each prompt token in the step" },
	{ "per_sequence", KVT_OPTION_TIME, 0, FIELD(per_sequence), "0s", 0, 3600, NULL,
		"linear: of each sequence that generates a token in the step" },
	{ "per_kv_token", KVT_OPTION_TIME, 0, FIELD(per_kv_token), "0s", 0, 3600, NULL,
		"linear: of each KV token that those sequences attend to" },
	{ 0 },
};

struct kvt_step_cost {
	const kvt_llm *llm;
	unsigned ranks;
	kvt_step_settings settings;
	kvt_work_cost *work;        /* of the tables */
	unsigned n_global, n_local; /* layers */
	uint64_t window;
	unsigned first_global, first_local; /* a layer of each kind */
	unsigned mlp_layers[2], first_mlp[2];
	double flops, memory_rate;          /* peak: of all ranks */
	double kv_token_bytes;              /* peak: a layer, all ranks */
	kvt_time *dense;                    /* by tokens; 0: not known yet */
	double *dense_flops, *reads;        /* peak: the same */
	kvt_time *attention[BATCH_MAX + 1]; /* by batch: GRID_POINTS, -1: not known yet */
};

static void find_layers(kvt_step_cost *cost)
{
	const kvt_llm *llm = cost->llm;
	for (unsigned i = llm->n_layers; i-- > 0;) {
		const kvt_layer *layer = &llm->layers[i];
		if (layer->attention == KVT_ATTENTION_GLOBAL) {
			cost->n_global++;
			cost->first_global = i;
		} else {
			cost->n_local++;
			cost->first_local = i;
		}
		cost->mlp_layers[layer->mlp]++;
		cost->first_mlp[layer->mlp] = i;
	}
	cost->window = cost->n_local > 0 ? (uint64_t)llm->window : UINT64_MAX;
}

kvt_step_cost *kvt_step_cost_new(const kvt_llm *llm, const kvt_gpu *gpu, unsigned ranks,
	const kvt_step_settings *settings, kvt_model_store *models, GError **error)
{
	const kvt_cost_options options = {
		.models = models,
		.ranks = ranks,
		.decode_all_reduce = (kvt_all_reduce)settings->decode_all_reduce,
		.all_reduce_rate = settings->all_reduce_rate,
		.kernel_overhead = settings->kernel_overhead,
		.compute_speed = settings->compute_speed,
		.memory_speed = settings->memory_speed,
	};
	if (!kvt_llm_check_ranks(llm, ranks, error))
		return NULL;
	kvt_step_cost *cost = g_new0(kvt_step_cost, 1);
	cost->llm = llm;
	cost->ranks = ranks;
	cost->settings = *settings;
	find_layers(cost);
	double flops = settings->flops;
	if (flops <= 0)
		flops = kvt_gpu_flops(gpu, (kvt_dtype)llm->precision.format[KVT_PART_MLP]);
	double rate = settings->memory_rate > 0 ? settings->memory_rate : gpu->memory_bandwidth;
	cost->flops = flops * ranks * settings->compute_speed;
	cost->memory_rate = rate * ranks * settings->memory_speed;
	cost->kv_token_bytes = (double)kvt_llm_kv_token_bytes(llm, ranks) * ranks;
	cost->dense = g_new0(kvt_time, DENSE_MAX + 1);
	if (settings->model == KVT_STEP_PEAK) {
		cost->dense_flops = g_new0(double, DENSE_MAX + 1);
		cost->reads = g_new0(double, DENSE_MAX + 1);
	}
	if (settings->model == KVT_STEP_TABLES) {
		cost->work = kvt_work_cost_new(llm, gpu, &options, error);
		if (!cost->work) {
			kvt_step_cost_free(cost);
			return NULL;
		}
	}
	return cost;
}

void kvt_step_cost_free(kvt_step_cost *cost)
{
	if (!cost)
		return;
	for (unsigned i = 0; i < G_N_ELEMENTS(cost->attention); i++)
		g_free(cost->attention[i]);
	kvt_work_cost_free(cost->work);
	g_free(cost->dense);
	g_free(cost->dense_flops);
	g_free(cost->reads);
	g_free(cost);
}

static kvt_time work_time(kvt_step_cost *cost, kvt_work_kind kind, unsigned layer, uint64_t tokens)
{
	const kvt_work work = { .kind = kind, .layer = layer, .tokens = tokens };
	return kvt_work_cost_time(cost->work, &work);
}

static kvt_time compute_dense(kvt_step_cost *cost, uint64_t tokens)
{
	kvt_time layer = work_time(cost, KVT_WORK_QKV, 0, tokens) +
			 work_time(cost, KVT_WORK_OUTPUT, 0, tokens);
	kvt_time time = layer * (kvt_time)cost->llm->n_layers;
	for (unsigned i = 0; i < G_N_ELEMENTS(cost->mlp_layers); i++)
		if (cost->mlp_layers[i] > 0)
			time += (kvt_time)cost->mlp_layers[i] *
				work_time(cost, KVT_WORK_MLP, cost->first_mlp[i], tokens);
	unsigned all_reduces = kvt_llm_allreduces(cost->llm, cost->ranks);
	if (all_reduces > 0)
		time += (kvt_time)all_reduces * work_time(cost, KVT_WORK_ALL_REDUCE, 0, tokens);
	return time;
}

/* Products and all-reduces of all layers over so many tokens. */
static kvt_time dense_time(kvt_step_cost *cost, uint64_t tokens)
{
	if (tokens > DENSE_MAX)
		return compute_dense(cost, tokens);
	kvt_time *known = &cost->dense[tokens];
	if (*known == 0 && tokens > 0)
		*known = compute_dense(cost, tokens);
	return *known;
}

static uint64_t grid_context(unsigned point)
{
	uint64_t octave = (uint64_t)GRID_FIRST << (point >> GRID_SUB_BITS);
	return octave + octave / GRID_SUB * (point % GRID_SUB);
}

/* The last grid point that is not beyond the context. */
static unsigned grid_below(double context)
{
	if (context < GRID_FIRST)
		return 0;
	int exponent;
	double fraction = frexp(context / GRID_FIRST, &exponent) * 2 - 1;
	unsigned point = (unsigned)(exponent - 1) * GRID_SUB + (unsigned)(fraction * GRID_SUB);
	return MIN(point, GRID_POINTS - 2);
}

static kvt_time grid_time(kvt_step_cost *cost, uint64_t batch, unsigned point)
{
	kvt_time **row = &cost->attention[batch];
	if (!*row) {
		*row = g_new(kvt_time, GRID_POINTS);
		for (unsigned i = 0; i < GRID_POINTS; i++)
			(*row)[i] = -1;
	}
	if ((*row)[point] < 0) {
		const kvt_work work = { .kind = KVT_WORK_ATTENTION,
			.tokens = 1,
			.kv_tokens = grid_context(point),
			.batch = (unsigned)batch };
		(*row)[point] = kvt_work_cost_time(cost->work, &work);
	}
	return (*row)[point];
}

/* One layer's decode attention. A batch of unequal contexts takes as long as one of equal ones with
 * as many KV tokens: kernels split long sequences over the whole GPU. */
static double decode_attention(kvt_step_cost *cost, uint64_t batch, uint64_t context)
{
	double each = (double)context / (double)batch;
	double times = 1;
	if (batch > BATCH_MAX) {
		times = (double)batch / BATCH_MAX;
		batch = BATCH_MAX;
	}
	unsigned below = grid_below(each);
	double low = (double)grid_context(below), high = (double)grid_context(below + 1);
	double first = (double)grid_time(cost, batch, below);
	/* below the grid a call takes what it takes at its first point */
	if (each <= low)
		return first * times;
	double second = (double)grid_time(cost, batch, below + 1);
	return times * (first + (second - first) * (each - low) / (high - low));
}

static kvt_time chunk_attention(kvt_step_cost *cost, const kvt_step_chunk *chunk)
{
	kvt_time time = 0;
	kvt_work work = { .kind = KVT_WORK_ATTENTION,
		.layer = cost->first_global,
		.tokens = chunk->tokens,
		.kv_tokens = chunk->prefix,
		.causal = 1,
		.batch = 1 };
	if (cost->n_global > 0)
		time = (kvt_time)cost->n_global * kvt_work_cost_time(cost->work, &work);
	if (cost->n_local == 0)
		return time;
	/* windows of tokens side by side, each behind what they see of earlier ones on average */
	work.layer = cost->first_local;
	work.batch = (unsigned)((chunk->tokens + cost->window - 1) / cost->window);
	work.tokens = (chunk->tokens + work.batch - 1) / work.batch;
	double pairs =
		kvt_llm_attention_pairs(cost->llm, cost->first_local, chunk->prefix, chunk->tokens);
	double own = 0.5 * (double)work.tokens * (double)(work.tokens + 1) * work.batch;
	double earlier = (pairs - own) / (double)chunk->tokens;
	work.kv_tokens = earlier > 0 ? (uint64_t)(earlier + 0.5) : 0;
	return time + (kvt_time)cost->n_local * kvt_work_cost_time(cost->work, &work);
}

static uint64_t step_tokens(const kvt_step *step)
{
	uint64_t tokens = step->decodes;
	for (unsigned i = 0; i < step->n_chunks; i++)
		tokens += step->chunks[i].tokens;
	return tokens;
}

static kvt_time tables_time(kvt_step_cost *cost, const kvt_step *step)
{
	kvt_time time = dense_time(cost, step_tokens(step));
	if (step->rows > 0)
		time += work_time(cost, KVT_WORK_HEAD, 0, step->rows);
	for (unsigned i = 0; i < step->n_chunks; i++)
		time += chunk_attention(cost, &step->chunks[i]);
	if (step->decodes == 0)
		return time;
	double attention = 0;
	if (cost->n_global > 0)
		attention += cost->n_global * decode_attention(cost, step->decodes, step->context);
	if (cost->n_local > 0)
		attention +=
			cost->n_local * decode_attention(cost, step->decodes, step->local_context);
	return time + llrint(attention);
}

/* FLOPs of all layers' products over so many tokens, all ranks, and bytes of weights read. */
static void dense_work(kvt_step_cost *cost, uint64_t tokens, double *flops, double *bytes)
{
	uint64_t slot = MIN(tokens, DENSE_MAX);
	if (cost->reads[slot] <= 0) {
		double sum = 0;
		for (unsigned layer = 0; layer < cost->llm->n_layers; layer++) {
			kvt_llm_gemm gemms[KVT_LLM_GEMMS_MAX];
			unsigned n = kvt_llm_layer_gemms(
				cost->llm, layer, slot, cost->ranks, slot == 1, gemms);
			for (unsigned i = 0; i < n; i++)
				sum += kvt_llm_gemm_flops(&gemms[i]) * cost->ranks;
		}
		cost->dense_flops[slot] = sum;
		cost->reads[slot] = kvt_llm_read_bytes(cost->llm, slot, cost->ranks) * cost->ranks;
	}
	*flops = cost->dense_flops[slot] * (double)tokens / (double)slot;
	*bytes = cost->reads[slot];
}

/* (query, key) pairs times layers are FLOPs; KV tokens times layers are bytes. */
static double peak_seconds(kvt_step_cost *cost, const kvt_step *step)
{
	const kvt_llm *llm = cost->llm;
	double flops = 0, bytes = 0;
	uint64_t tokens = step_tokens(step);
	if (tokens > 0)
		dense_work(cost, tokens, &flops, &bytes);
	if (step->rows > 0) {
		kvt_llm_gemm head = kvt_llm_head_gemm(llm, step->rows, cost->ranks);
		flops += kvt_llm_gemm_flops(&head) * cost->ranks;
	}
	const kvt_llm_attention shape = kvt_llm_attention_shape(llm, cost->ranks, false);
	double pair = 2.0 * (double)((shape.head_dim + shape.value_dim) * shape.query_heads) *
		      cost->ranks;
	double seen = (double)cost->n_global * (double)step->context +
		      (double)cost->n_local * (double)step->local_context;
	flops += seen * pair;
	bytes += seen * cost->kv_token_bytes;
	for (unsigned i = 0; i < step->n_chunks; i++) {
		const kvt_step_chunk *chunk = &step->chunks[i];
		uint64_t held = MIN(chunk->prefix, cost->window);
		if (cost->n_global > 0)
			flops += cost->n_global * pair *
				 kvt_llm_attention_pairs(
					 llm, cost->first_global, chunk->prefix, chunk->tokens);
		if (cost->n_local > 0)
			flops += cost->n_local * pair *
				 kvt_llm_attention_pairs(
					 llm, cost->first_local, chunk->prefix, chunk->tokens);
		bytes += cost->kv_token_bytes * ((double)cost->n_global * (double)chunk->prefix +
							(double)cost->n_local * (double)held);
	}
	return MAX(flops / cost->flops, bytes / cost->memory_rate);
}

static kvt_time quicker(kvt_time time, double speed)
{
	return speed == 1 ? time : (kvt_time)llrint((double)time / speed);
}

kvt_time kvt_step_cost_time(kvt_step_cost *cost, const kvt_step *step)
{
	const kvt_step_settings *s = &cost->settings;
	kvt_time time = 0;
	switch ((kvt_step_model)s->model) {
	case KVT_STEP_TABLES:
		time = tables_time(cost, step);
		break;
	case KVT_STEP_PEAK:
		time = kvt_time_from_seconds(peak_seconds(cost, step));
		break;
	case KVT_STEP_LINEAR:
		time = quicker(s->per_token * (kvt_time)(step_tokens(step) - step->decodes),
			       s->compute_speed) +
		       quicker(s->per_sequence * (kvt_time)step->decodes +
				       s->per_kv_token * (kvt_time)step->context,
			       s->memory_speed);
		break;
	}
	return MAX(time + s->base, 1);
}

kvt_time kvt_step_cost_prefill(
	kvt_step_cost *cost, uint64_t tokens, uint64_t prefix, uint64_t chunk_tokens)
{
	kvt_time time = 0;
	while (tokens > 0) {
		const kvt_step_chunk chunk = { MIN(tokens, chunk_tokens), prefix };
		const kvt_step step = { .chunks = &chunk, .n_chunks = 1 };
		time += kvt_step_cost_time(cost, &step);
		prefix += chunk.tokens;
		tokens -= chunk.tokens;
	}
	return time;
}

unsigned kvt_step_cost_layers(const kvt_step_cost *cost)
{
	return cost->llm->n_layers;
}

uint64_t kvt_step_cost_window(const kvt_step_cost *cost)
{
	return cost->window;
}

const char *kvt_step_cost_source(const kvt_step_cost *cost)
{
	switch ((kvt_step_model)cost->settings.model) {
	case KVT_STEP_TABLES:
		return kvt_work_cost_source(cost->work, KVT_WORK_ATTENTION);
	case KVT_STEP_PEAK:
		return "peak rates";
	default:
		return "a line, from the experiment's own file";
	}
}
