/*
 * store_spans.h: which value each page of a layer has, as spans of pages with the same one: the
 * record that holds the pages, or the oldest generation of them that is good. It is a sorted map of
 * disjoint spans and knows nothing of files.
 */
#ifndef KVT_STORE_SPANS_H
#define KVT_STORE_SPANS_H

#include <glib.h>
#include <stdint.h>

/* Pages [first, end). */
typedef struct kvt_store_span {
	uint64_t end, first;
	uint64_t generation;
	void *record; /* NULL in a map of floors */
} kvt_store_span;

typedef struct kvt_store_spans {
	GTree *tree; /* NULL: empty */
} kvt_store_spans;

void kvt_store_spans_clear(kvt_store_spans *spans);
unsigned kvt_store_spans_count(const kvt_store_spans *spans);

/* The span that holds `page`, or else the next one behind it; NULL: none. */
const kvt_store_span *kvt_store_spans_at(const kvt_store_spans *spans, uint64_t page);

/* Takes [first, end) out, cutting spans in two where they reach beyond it. */
void kvt_store_spans_cut(kvt_store_spans *spans, uint64_t first, uint64_t end);

/* Gives [first, end) a value, in place of what it had. */
void kvt_store_spans_set(
	kvt_store_spans *spans, uint64_t first, uint64_t end, uint64_t generation, void *record);

/* Raises the generation of [first, end) to at least that; no records. */
void kvt_store_spans_raise(
	kvt_store_spans *spans, uint64_t first, uint64_t end, uint64_t generation);

#endif
