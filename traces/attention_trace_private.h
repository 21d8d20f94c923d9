/*
 * attention_trace_private.h: what the reader's parts share: attention_trace.c (file, header,
 * steps), attention_layer.c (rows and tensors of one layer) and attention_synthetic.c (compact keys
 * of a grown layer), and with the writer. Nobody else includes it but them.
 */
#ifndef KVT_ATTENTION_TRACE_PRIVATE_H
#define KVT_ATTENTION_TRACE_PRIVATE_H

#include "traces/attention_trace.h"
#include "traces/synthetic_keys.h"
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

/* The compact keys of a grown layer; ids are 0 where the file has none. */
typedef struct kvt_synthetic_datasets {
	kvt_h5_dataset base, partner, page, weight;
} kvt_synthetic_datasets;

/* The datasets of one layer; queries, keys and values have id 0 where the file has none. A layer
 * has keys, synthetic keys, or neither. */
typedef struct kvt_attention_datasets {
	kvt_h5_dataset offsets, block, mass, queries, keys, values;
	kvt_synthetic_datasets synthetic;
} kvt_attention_datasets;

/* Opens them and checks types and shapes. A guard must be held. */
bool kvt_attention_datasets_open(const kvt_attention_trace *trace, uint32_t layer,
	kvt_attention_datasets *datasets, GError **error);
void kvt_attention_datasets_close(kvt_attention_datasets *datasets);

/* Opens `synthetic_keys` of the layer's group, whose path is `prefix`, where there is one, and
 * checks types and shapes. A guard must be held. */
bool kvt_synthetic_datasets_open(const kvt_attention_trace *trace, hid_t group, const char *prefix,
	kvt_synthetic_datasets *datasets, GError **error);
void kvt_synthetic_datasets_close(kvt_synthetic_datasets *datasets);

/* Reads and checks all of it into `keys`, which is empty; adds to *bytes. A guard must be held. */
bool kvt_synthetic_datasets_read(const kvt_attention_trace *trace,
	const kvt_synthetic_datasets *datasets, kvt_synthetic_keys *keys, uint64_t *bytes,
	GError **error);

/* Writes `synthetic_keys` into a layer's group; false when HDF5 fails. A guard must be held. */
bool kvt_synthetic_datasets_write(hid_t group, const kvt_synthetic_keys *keys);

#endif
