/*
 * attention_trace_check.h: reads a whole trace and tells whether it is sound: every row and tensor,
 * tokens against steps, and at some steps the recorded masses against the softmax of the recorded
 * queries and keys. It changes nothing and repairs nothing.
 */
#ifndef KVT_ATTENTION_TRACE_CHECK_H
#define KVT_ATTENTION_TRACE_CHECK_H

#include "sim/base/progress.h"
#include "traces/attention_trace.h"

/*
 * How far a recorded mass may be from the recomputed one, as a share of it. Masses, queries and
 * keys are all rounded to half precision (2^-11), and the recorder's own arithmetic differs; the
 * recorded traces stay within 0.0014. A missing temperature factor is off by tens of percent.
 */
#define KVT_ATTENTION_CHECK_TOLERANCE 0.02

typedef struct kvt_attention_layer_check {
	uint64_t rows, accesses; /* read and found sound */
	uint64_t tensor_values;  /* of queries, keys and values, all finite */
	uint64_t recomputed;     /* masses compared; 0 without queries or keys */
	double worst;            /* largest relative difference among them */
} kvt_attention_layer_check;

/* Tokens of the steps against the list of all tokens, where the trace has both. */
bool kvt_attention_trace_check_tokens(kvt_attention_trace *trace, GError **error);

/* A layer: all its rows and tensors, and the masses of up to `samples` steps spread evenly.
 * `progress` counts rows from *rows_done on, and may be NULL. */
bool kvt_attention_layer_check_all(kvt_attention_layer *layer, uint64_t samples,
	kvt_attention_layer_check *result, kvt_progress *progress, uint64_t *rows_done,
	GError **error);

#endif
