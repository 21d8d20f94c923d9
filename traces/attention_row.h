/*
 * attention_row.h: the rules one access row obeys, in one place for the reader and the writer. It
 * knows nothing of files.
 */
#ifndef KVT_ATTENTION_ROW_H
#define KVT_ATTENTION_ROW_H

#include "traces/attention_trace.h"

typedef struct kvt_attention_row_checker kvt_attention_row_checker;

/* A checker for rows of layers of that kind; keeps the header's numbers, not the header. */
kvt_attention_row_checker *kvt_attention_row_checker_new(
	const kvt_attention_header *header, kvt_attention_layer_kind kind);
void kvt_attention_row_checker_free(kvt_attention_row_checker *checker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_attention_row_checker, kvt_attention_row_checker_free)

/*
 * NULL when the row of a step at `position` is sound: pages present, no page twice, masses finite,
 * in [0, 1], not rising, and summing to at most 1 plus the rounding of half precision. Otherwise
 * what is wrong and what was expected, a new string.
 */
char *kvt_attention_row_check(
	kvt_attention_row_checker *checker, uint64_t position, const kvt_attention_row *row);

#endif
