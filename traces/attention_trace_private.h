/*
 * attention_trace_private.h: what the reader's two halves share: attention_trace.c (file, header,
 * steps) and attention_layer.c (rows and tensors of one layer). Nobody else includes it but them.
 */
#ifndef KVT_ATTENTION_TRACE_PRIVATE_H
#define KVT_ATTENTION_TRACE_PRIVATE_H

#include "traces/attention_trace.h"
#include "traces/trace_hdf5.h"

struct kvt_attention_trace {
	kvt_h5_file file;
	kvt_attention_header header;
	uint8_t *layer_kind;
	kvt_attention_step *steps;
	uint64_t step_count;
	uint32_t *layers;
	uint32_t layer_count;
	uint32_t *tokens; /* read on first use */
	kvt_attention_read_stats stats;
};

/* The datasets of one layer; queries, keys and values have id 0 where the file has none. */
typedef struct kvt_attention_datasets {
	kvt_h5_dataset offsets, block, mass, queries, keys, values;
} kvt_attention_datasets;

/* Opens them and checks types and shapes. A guard must be held. */
bool kvt_attention_datasets_open(const kvt_attention_trace *trace, uint32_t layer,
	kvt_attention_datasets *datasets, GError **error);
void kvt_attention_datasets_close(kvt_attention_datasets *datasets);

#endif
