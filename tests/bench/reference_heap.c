/* reference_heap.c: see reference_heap.h. Keep it as it is. */
#include "tests/bench/reference_heap.h"

#include <glib.h>

void reference_heap_init(reference_heap *heap)
{
	*heap = (reference_heap){ 0 };
}

void reference_heap_clear(reference_heap *heap)
{
	g_free(heap->entries);
	*heap = (reference_heap){ 0 };
}

static int before(const reference_entry *a, const reference_entry *b)
{
	if (a->when != b->when)
		return a->when < b->when;
	return a->sequence < b->sequence;
}

void reference_heap_push(reference_heap *heap, int64_t when, void (*callback)(void *arg), void *arg)
{
	if (heap->n == heap->capacity) {
		heap->capacity = heap->capacity ? heap->capacity * 2 : 64;
		heap->entries = g_renew(reference_entry, heap->entries, heap->capacity);
	}
	reference_entry e = { when, heap->sequence++, callback, arg };
	reference_entry *entries = heap->entries;
	size_t i = heap->n++;
	while (i > 0) {
		size_t parent = (i - 1) / 2;
		if (!before(&e, &entries[parent]))
			break;
		entries[i] = entries[parent];
		i = parent;
	}
	entries[i] = e;
}

static reference_entry pop(reference_heap *heap)
{
	reference_entry *entries = heap->entries;
	reference_entry first = entries[0];
	size_t n = --heap->n;
	reference_entry last = entries[n];
	size_t i = 0;
	for (;;) {
		size_t child = 2 * i + 1;
		if (child >= n)
			break;
		if (child + 1 < n && before(&entries[child + 1], &entries[child]))
			child++;
		if (!before(&entries[child], &last))
			break;
		entries[i] = entries[child];
		i = child;
	}
	entries[i] = last;
	return first;
}

uint64_t reference_heap_run(reference_heap *heap)
{
	uint64_t n_run = 0;
	heap->stopped = 0;
	while (!heap->stopped && heap->n > 0) {
		reference_entry e = pop(heap);
		heap->now = e.when;
		e.callback(e.arg);
		n_run++;
	}
	return n_run;
}
