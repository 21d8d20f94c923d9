/*
 * trace_reference.h: attention of a recorded trace as it should be: keys, values and queries by the
 * trace's reader, in double precision and, for scale, in FP32 with everything in memory. Not a test
 * itself, and nothing of the emulation's.
 */
#ifndef TRACE_REFERENCE_H
#define TRACE_REFERENCE_H

#include "traces/attention_trace.h"

/* code-32k-window.h5: 8 query heads on 2 KV heads of 64, layer 7, pages of 16 tokens. */
enum {
	TRACE_KV_HEADS = 2,
	TRACE_GROUP = 4,
	TRACE_DIM = 64,
	TRACE_BLOCK = 16,
	TRACE_PAGE_BYTES = 2 * TRACE_BLOCK * TRACE_DIM * 2, /* of a KV head */
};

#define TRACE_SAMPLE "code-32k-window.h5"

typedef struct trace_reference {
	kvt_attention_trace *trace;
	kvt_attention_layer *layer;
	const kvt_attention_step *steps;
	uint64_t n_steps, n_tokens;
	float *keys[TRACE_KV_HEADS], *values[TRACE_KV_HEADS]; /* [n_tokens][TRACE_DIM] */
} trace_reference;

void trace_reference_open(trace_reference *r);
void trace_reference_close(trace_reference *r);

/* Sums of squares over the numbers that were compared. */
typedef struct trace_errors {
	uint64_t outputs;
	double error, resident;
} trace_errors;

/* Compares output[TRACE_GROUP][TRACE_DIM] of a KV head at a step, which attends to tokens[n]. */
void trace_reference_compare(const trace_reference *r, uint64_t step, unsigned kv_head,
	const uint64_t *tokens, uint64_t n, const float *output, trace_errors *errors);

#endif
