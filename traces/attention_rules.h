/*
 * attention_rules.h: the rules that a trace's header, steps and access rows obey, in one place for
 * the reader and the writer. It knows nothing of files.
 *
 * Each check returns NULL when all is well and otherwise one line, a new string: the place in the
 * file, what is wrong, and what was expected.
 */
#ifndef KVT_ATTENTION_RULES_H
#define KVT_ATTENTION_RULES_H

#include "traces/attention_trace.h"

char *kvt_attention_header_check(const kvt_attention_header *header);

/* Steps against a sound header. */
char *kvt_attention_steps_check(
	const kvt_attention_header *header, const kvt_attention_step *steps, uint64_t count);

typedef struct kvt_attention_row_checker kvt_attention_row_checker;

/* A checker for rows of layers of that kind; keeps the header's numbers, not the header. */
kvt_attention_row_checker *kvt_attention_row_checker_new(
	const kvt_attention_header *header, kvt_attention_layer_kind kind);
void kvt_attention_row_checker_free(kvt_attention_row_checker *checker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_attention_row_checker, kvt_attention_row_checker_free)

/*
 * NULL when the row of a step at `position` is sound: pages present, no page twice, masses finite,
 * in [0, 1], not rising, and summing to at most 1 plus the rounding of half precision. The place in
 * the message is the entry in the row.
 */
char *kvt_attention_row_check(
	kvt_attention_row_checker *checker, uint64_t position, const kvt_attention_row *row);

#endif
