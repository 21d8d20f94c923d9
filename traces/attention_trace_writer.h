/*
 * attention_trace_writer.h: writes attention traces (traces/FORMAT.md), for cutting recorded ones
 * and for generators. It streams in the order of the file: header and steps, then layer by layer
 * its rows and tensors. What it is given is checked by the reader's rules, so it cannot write what
 * the reader refuses.
 *
 * The file appears under its name only when it is complete: it is written beside it and renamed.
 * The same input gives the same bytes. Errors: KVT_ERROR_USAGE for data that breaks the format,
 * KVT_ERROR_FAILED when the file cannot be written. After an error only _free may follow.
 */
#ifndef KVT_ATTENTION_TRACE_WRITER_H
#define KVT_ATTENTION_TRACE_WRITER_H

#include "traces/attention_trace.h"
#include "traces/synthetic_keys.h"

typedef struct kvt_attention_writer kvt_attention_writer;

/* Tensors that a layer will have. */
typedef enum kvt_attention_tensors {
	KVT_ATTENTION_QUERIES = 1,
	KVT_ATTENTION_KEYS = 2,
	KVT_ATTENTION_VALUES = 4,
} kvt_attention_tensors;

/* When a recorder ends a row: it covers this much of the mass, or has this many pages. */
enum { KVT_ATTENTION_ROW_PAGES = 1024 };
#define KVT_ATTENTION_ROW_COVER 0.99

/* Begins a trace; header and steps are copied. Steps without tokens have UINT32_MAX in all, steps
 * without nll NaN in all. NULL with an error. */
kvt_attention_writer *kvt_attention_writer_new(const char *path, const kvt_attention_header *header,
	const kvt_attention_step *steps, uint64_t step_count, GError **error);

/* Optional: the ids of all tokens, [total_tokens]. */
bool kvt_attention_writer_tokens(
	kvt_attention_writer *writer, const uint32_t *tokens, GError **error);

/* Begins a layer (each number once) with these tensors, ending the one before. */
bool kvt_attention_writer_layer(
	kvt_attention_writer *writer, uint32_t layer, unsigned tensors, GError **error);

/* The layer's next row, in order (step, KV head); masses are rounded to half precision. */
bool kvt_attention_writer_row(
	kvt_attention_writer *writer, const kvt_attention_row *row, GError **error);

/*
 * The next row from the masses of all pages present, mass[i] being that of page first + i: by
 * falling mass until KVT_ATTENTION_ROW_COVER or KVT_ATTENTION_ROW_PAGES, ties by page.
 */
bool kvt_attention_writer_row_of_masses(kvt_attention_writer *writer, const float *mass,
	uint64_t first, uint64_t pages, GError **error);

/* The next `count` steps of queries, halves[count][query_heads][head_dim]. */
bool kvt_attention_writer_queries(
	kvt_attention_writer *writer, const uint16_t *halves, uint64_t count, GError **error);

/* The next `count` tokens of keys or values, halves[count][head_dim]; all tokens of KV head 0 come
 * first, then those of head 1 and so on; a call stays within one head. */
bool kvt_attention_writer_keys(
	kvt_attention_writer *writer, const uint16_t *halves, uint64_t count, GError **error);
bool kvt_attention_writer_values(
	kvt_attention_writer *writer, const uint16_t *halves, uint64_t count, GError **error);

/* Keys of a grown layer in compact form, in place of all kvt_attention_writer_keys; once, and only
 * in a trace that is synthetic. Shapes are those of the header. */
bool kvt_attention_writer_synthetic_keys(
	kvt_attention_writer *writer, const kvt_synthetic_keys *keys, GError **error);

/* Ends the last layer, opens the file with the reader, and gives it its name. */
bool kvt_attention_writer_finish(kvt_attention_writer *writer, GError **error);

/* Frees the writer; what was not finished is removed. NULL is allowed. */
void kvt_attention_writer_free(kvt_attention_writer *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_attention_writer, kvt_attention_writer_free)

#endif
