/*
 * step_cost.h: how long one iteration of a serving engine takes: the dense products of all tokens
 * of the step together, decode attention over what each running sequence has so far, a chunk's
 * attention over its prefix, all-reduces, LM head. It knows no queue and no cache. Three models:
 * the GPU's measured kernel tables (roofline where there is none), peak rates as a closed-form
 * analysis takes them, and a line through a server's own log.
 *
 * What it has computed it remembers, so that a step costs well under a microsecond of CPU: products
 * by token count; decode attention by batch on a grid of contexts, linear between two.
 */
#ifndef KVT_STEP_COST_H
#define KVT_STEP_COST_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "models/hardware.h"
#include "models/llm.h"
#include "models/model_store.h"
#include "sim/base/sim_time.h"

typedef enum kvt_step_model {
	KVT_STEP_TABLES, /* measured kernels; roofline for what was not measured */
	KVT_STEP_PEAK,   /* the larger of FLOPs at peak and bytes at peak */
	KVT_STEP_LINEAR, /* base and so much a token, sequence, KV token */
} kvt_step_model;

typedef struct kvt_step_settings {
	int model;                          /* kvt_step_model */
	kvt_time base;                      /* added to every step: scheduler, launch, sampling */
	double compute_speed, memory_speed; /* times as fast as it would be, what they limit */
	/* of the tables */
	int decode_all_reduce; /* kvt_all_reduce */
	double all_reduce_rate;
	kvt_time kernel_overhead;
	/* of peak rates, of one GPU; 0: what its file says */
	double flops, memory_rate;
	/* of the line */
	kvt_time per_token, per_sequence, per_kv_token;
} kvt_step_settings;

extern const kvt_option kvt_step_options[];

/* `tokens` new ones of one sequence behind `prefix` earlier ones. */
typedef struct kvt_step_chunk {
	uint64_t tokens, prefix;
} kvt_step_chunk;

typedef struct kvt_step {
	/* sequences that generate a token each, and the KV tokens that they attend to, summed over
	 * them, each one's new token included: in global layers, and in chunked or sliding ones (at
	 * most the window of each) */
	uint64_t decodes, context, local_context;
	const kvt_step_chunk *chunks;
	unsigned n_chunks;
	uint64_t rows; /* of the LM head: decodes, and chunks that end their prompt */
} kvt_step;

typedef struct kvt_step_cost kvt_step_cost;

/* Of one tensor-parallel group of `ranks`. The models must outlive it; kernel tables are from the
 * store, NULL: its own. NULL with an error as kvt_work_cost_new. */
kvt_step_cost *kvt_step_cost_new(const kvt_llm *llm, const kvt_gpu *gpu, unsigned ranks,
	const kvt_step_settings *settings, kvt_model_store *models, GError **error);
void kvt_step_cost_free(kvt_step_cost *cost);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_step_cost, kvt_step_cost_free)

/* How long the step takes, at least 1 ps; more of anything never makes it shorter but by what the
 * tables do. */
kvt_time kvt_step_cost_time(kvt_step_cost *cost, const kvt_step *step);

/* How long a prompt of `tokens` behind `prefix` takes alone, in chunks of at most `chunk_tokens`:
 * an estimate for who decides whether to load or to compute. */
kvt_time kvt_step_cost_prefill(
	kvt_step_cost *cost, uint64_t tokens, uint64_t prefix, uint64_t chunk_tokens);

/* Layers, one after the other in a step: a step whose KV arrives meanwhile ends no sooner than its
 * last layer's share after the last byte. */
unsigned kvt_step_cost_layers(const kvt_step_cost *cost);

/* The window of chunked or sliding layers, tokens; UINT64_MAX where there are none. */
uint64_t kvt_step_cost_window(const kvt_step_cost *cost);

/* What the times are from, one line. */
const char *kvt_step_cost_source(const kvt_step_cost *cost);

#endif
