/*
 * store_spans.c: disjoint spans of pages in a balanced tree, by their ends: the span that holds a
 * page, or the next one, is the first whose end lies behind the page.
 */
#include "emu/store/store_spans.h"

static int compare_ends(gconstpointer a, gconstpointer b, gpointer arg)
{
	uint64_t x = ((const kvt_store_span *)a)->end, y = ((const kvt_store_span *)b)->end;
	return (x > y) - (x < y);
}

static void free_span(gpointer span)
{
	g_slice_free(kvt_store_span, span);
}

void kvt_store_spans_clear(kvt_store_spans *spans)
{
	if (spans->tree)
		g_tree_destroy(spans->tree);
	spans->tree = NULL;
}

unsigned kvt_store_spans_count(const kvt_store_spans *spans)
{
	return spans->tree ? (unsigned)g_tree_nnodes(spans->tree) : 0;
}

const kvt_store_span *kvt_store_spans_at(const kvt_store_spans *spans, uint64_t page)
{
	if (!spans->tree)
		return NULL;
	kvt_store_span key = { .end = page };
	GTreeNode *node = g_tree_upper_bound(spans->tree, &key);
	return node ? g_tree_node_key(node) : NULL;
}

static void insert(kvt_store_spans *spans, kvt_store_span span)
{
	if (!spans->tree)
		spans->tree = g_tree_new_full(compare_ends, NULL, free_span, NULL);
	kvt_store_span *copy = g_slice_new(kvt_store_span);
	*copy = span;
	g_tree_insert(spans->tree, copy, copy);
}

void kvt_store_spans_cut(kvt_store_spans *spans, uint64_t first, uint64_t end)
{
	const kvt_store_span *found;
	while ((found = kvt_store_spans_at(spans, first)) && found->first < end) {
		kvt_store_span span = *found;
		if (span.end > end)
			((kvt_store_span *)found)->first = end;
		else
			g_tree_remove(spans->tree, found);
		if (span.first < first) {
			kvt_store_span left = span;
			left.end = first;
			insert(spans, left);
		}
	}
	if (kvt_store_spans_count(spans) == 0)
		kvt_store_spans_clear(spans);
}

void kvt_store_spans_set(
	kvt_store_spans *spans, uint64_t first, uint64_t end, uint64_t generation, void *record)
{
	kvt_store_spans_cut(spans, first, end);
	insert(spans,
		(kvt_store_span){
			.first = first, .end = end, .generation = generation, .record = record });
}

void kvt_store_spans_raise(
	kvt_store_spans *spans, uint64_t first, uint64_t end, uint64_t generation)
{
	while (first < end) {
		const kvt_store_span *span = kvt_store_spans_at(spans, first);
		uint64_t stop = end;
		if (span && span->first <= first && span->generation >= generation) {
			first = span->end;
			continue;
		}
		if (span && span->first > first)
			stop = MIN(end, span->first);
		else if (span)
			stop = MIN(end, span->end);
		kvt_store_spans_set(spans, first, stop, generation, NULL);
		first = stop;
	}
}
