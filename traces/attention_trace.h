/*
 * attention_trace.h: reads recorded attention traces (HDF5, traces/FORMAT.md): which KV pages each
 * decode step attended to, and how strongly. It streams; it decides nothing about caches or tiers.
 *
 * Terms. A step is one token that was fed to the model at `position`; it attends to the tokens
 * 0..position, itself included. A page (block in the file) is block_tokens consecutive tokens;
 * the pages present at a step are 0..position / block_tokens, the partly filled last one included.
 * In a chunked layer only the tokens of the step's own chunk are present. The mass of a page is
 * the sum of the softmax weights of its tokens, averaged over the query heads that share a KV
 * head; the masses of all present pages sum to 1.
 *
 * Files are not trusted: sizes, types, links, filters and contents are checked before they are
 * used, nothing is allocated from a declared size that the file cannot hold, and every error is
 * one line, `file: place: reason, expected what`, with code KVT_ERROR_USAGE. The HDF5 library
 * prints nothing. Calls from several threads are safe on different traces: HDF5 is serialised.
 */
#ifndef KVT_ATTENTION_TRACE_H
#define KVT_ATTENTION_TRACE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kvt_attention_trace kvt_attention_trace;
typedef struct kvt_attention_layer kvt_attention_layer;

/* Limits of the format; larger declared numbers are refused. */
#define KVT_ATTENTION_TOKENS_MAX (UINT64_C(1) << 28)
#define KVT_ATTENTION_LAYERS_MAX 4096
#define KVT_ATTENTION_HEADS_MAX 4096
#define KVT_ATTENTION_HEAD_DIM_MAX 4096
#define KVT_ATTENTION_BLOCK_TOKENS_MAX 65536

typedef enum kvt_attention_layer_kind {
	KVT_TRACE_LAYER_CHUNKED = 0, /* attends within the chunk of local_chunk_tokens it is in */
	KVT_TRACE_LAYER_GLOBAL = 1,  /* attends to every earlier token */
} kvt_attention_layer_kind;

typedef enum kvt_attention_step_kind {
	KVT_TRACE_STEP_PROMPT = 0, /* the token was given (teacher-forced) */
	KVT_TRACE_STEP_DECODE = 1, /* the token was sampled by the model */
} kvt_attention_step_kind;

/* The root attributes. Optional texts are NULL where the file has none. */
typedef struct kvt_attention_header {
	const char *model;   /* name and description */
	const char *source;  /* optional: where the recording comes from */
	const char *license; /* optional: SPDX name */
	const char *derived; /* optional: what was done to the recording (cut, recomputed) */
	bool synthetic;      /* optional, false: generated, not recorded from a model */
	uint32_t layers;     /* of the model; not all need be recorded */
	uint32_t query_heads, kv_heads, head_dim;
	uint32_t block_tokens;       /* tokens a page */
	uint32_t local_chunk_tokens; /* chunk of CHUNKED layers; 0 when there is none */
	uint64_t context_tokens;     /* tokens before the first turn that was recorded */
	uint64_t total_tokens;       /* context and steps; every position is below it */
	float softmax_scale;         /* logit = scale x (query . key), queries as recorded */
	const uint8_t *layer_kind;   /* [layers], kvt_attention_layer_kind */
} kvt_attention_header;

typedef struct kvt_attention_step {
	uint64_t position; /* of the step's token, strictly increasing */
	uint32_t token;    /* id in the model's vocabulary; UINT32_MAX when not recorded */
	uint16_t turn;
	uint8_t kind; /* kvt_attention_step_kind */
	float nll;    /* nats, of the next token; NaN when not recorded */
} kvt_attention_step;

/* One (step, KV head): pages by falling mass, until the row covered 0.99 of the mass or reached
 * the recorder's limit (1,024). The arrays belong to the layer and hold until its next row call. */
typedef struct kvt_attention_row {
	const uint32_t *block;
	const float *mass;
	uint32_t count;
} kvt_attention_row;

/* What reading has cost so far, for reporting the reader's rate apart from an engine's. */
typedef struct kvt_attention_read_stats {
	uint64_t bytes;    /* decoded bytes that the reader took from the file */
	uint64_t rows;     /* access rows decoded and checked */
	uint64_t accesses; /* (block, mass) pairs in them */
	double seconds;    /* wall time inside the reader */
} kvt_attention_read_stats;

/* Opens a trace and checks its header, steps and the shape of every dataset; what rows and tensors
 * hold is checked when it is read. NULL with an error otherwise. */
kvt_attention_trace *kvt_attention_trace_open(const char *path, GError **error);

/* The same for a file's bytes in memory (copied); `name` stands for the file in messages. */
kvt_attention_trace *kvt_attention_trace_open_memory(
	const char *name, const void *bytes, size_t size, GError **error);

/* Frees the trace; its layers must have been closed. NULL is allowed. */
void kvt_attention_trace_close(kvt_attention_trace *trace);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_attention_trace, kvt_attention_trace_close)

const char *kvt_attention_trace_path(const kvt_attention_trace *trace);
const kvt_attention_header *kvt_attention_trace_header(const kvt_attention_trace *trace);

/* The steps, [*count], owned by the trace; there is at least one. */
const kvt_attention_step *kvt_attention_trace_steps(
	const kvt_attention_trace *trace, uint64_t *count);

/* The token ids of context and steps, [total_tokens], owned by the trace and read on first use;
 * *tokens is NULL (and the result true) when the file has none. */
bool kvt_attention_trace_tokens(
	kvt_attention_trace *trace, const uint32_t **tokens, GError **error);

/* The numbers of the recorded layers, rising, [*count], owned by the trace; at least one. */
const uint32_t *kvt_attention_trace_layers(const kvt_attention_trace *trace, uint32_t *count);

/* All reading done through the trace and its layers, closed ones included. */
kvt_attention_read_stats kvt_attention_trace_read_stats(const kvt_attention_trace *trace);

/* Pages that a step can attend to in a layer of that kind: *first and the count (at least 1). */
uint64_t kvt_attention_pages_present(const kvt_attention_header *header,
	kvt_attention_layer_kind kind, uint64_t position, uint64_t *first);

/*
 * Opens a recorded layer. `memory` bounds the bytes that its row and tensor windows may take (0:
 * 64 MiB); a layer that fits is read once, a larger one is streamed window by window, so ask for
 * rows in step order. Error when the layer was not recorded, naming those that were.
 */
kvt_attention_layer *kvt_attention_layer_open(
	kvt_attention_trace *trace, uint32_t layer, size_t memory, GError **error);
void kvt_attention_layer_close(kvt_attention_layer *layer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_attention_layer, kvt_attention_layer_close)

kvt_attention_trace *kvt_attention_layer_trace(const kvt_attention_layer *layer);
uint32_t kvt_attention_layer_number(const kvt_attention_layer *layer);
kvt_attention_layer_kind kvt_attention_layer_get_kind(const kvt_attention_layer *layer);
bool kvt_attention_layer_has_queries(const kvt_attention_layer *layer);
bool kvt_attention_layer_has_keys(const kvt_attention_layer *layer);
bool kvt_attention_layer_has_values(const kvt_attention_layer *layer);

/* (block, mass) pairs of all rows of the layer, known without reading them. */
uint64_t kvt_attention_layer_accesses(const kvt_attention_layer *layer);

/* Length of one row, known without reading it. step < steps, kv_head < kv_heads. */
uint32_t kvt_attention_layer_row_count(
	const kvt_attention_layer *layer, uint64_t step, uint32_t kv_head);

/*
 * The row of (step, kv_head). Its blocks are distinct and present at the step, its masses finite,
 * in [0, 1], falling, and sum to at most 1 (plus what rounding to half precision adds): a file
 * that breaks this is an error that names the row. Fast when steps come in order.
 */
bool kvt_attention_layer_row(kvt_attention_layer *layer, uint64_t step, uint32_t kv_head,
	kvt_attention_row *row, GError **error);

/* Whether the keys are a grown trace's, expanded as they are read; their compact form
 * (synthetic_keys.h) comes to memory whole with the first of them, besides the windows. */
bool kvt_attention_layer_has_synthetic_keys(const kvt_attention_layer *layer);

/* Recorded tensors, IEEE half precision, as raw bits or converted. Queries of one step:
 * out[query_heads][head_dim], as they entered the dot product (with any temperature factor). */
bool kvt_attention_layer_queries(
	kvt_attention_layer *layer, uint64_t step, float *out, GError **error);
bool kvt_attention_layer_queries_half(kvt_attention_layer *layer, uint64_t first_step,
	uint64_t count, uint16_t *out, GError **error);

/* Keys or values of `count` tokens of one KV head from token `first`: out[count][head_dim]. */
bool kvt_attention_layer_keys(kvt_attention_layer *layer, uint32_t kv_head, uint64_t first,
	uint64_t count, float *out, GError **error);
bool kvt_attention_layer_keys_half(kvt_attention_layer *layer, uint32_t kv_head, uint64_t first,
	uint64_t count, uint16_t *out, GError **error);
bool kvt_attention_layer_values(kvt_attention_layer *layer, uint32_t kv_head, uint64_t first,
	uint64_t count, float *out, GError **error);
bool kvt_attention_layer_values_half(kvt_attention_layer *layer, uint32_t kv_head, uint64_t first,
	uint64_t count, uint16_t *out, GError **error);

#endif
