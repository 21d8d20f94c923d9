/*
 * reference_heap.h: a plain binary heap on (time, sequence) that calls its events, without
 * cancellation or tuning: the yardstick of bench_event_queue.c. Frozen: ratios against it are
 * comparable over the years only while it stays as it is.
 */
#ifndef REFERENCE_HEAP_H
#define REFERENCE_HEAP_H

#include <stddef.h>
#include <stdint.h>

typedef struct reference_entry {
	int64_t when;
	uint64_t sequence;
	void (*callback)(void *arg);
	void *arg;
} reference_entry;

typedef struct reference_heap {
	reference_entry *entries;
	size_t n, capacity;
	uint64_t sequence;
	int64_t now;
	int stopped;
} reference_heap;

void reference_heap_init(reference_heap *heap);
void reference_heap_clear(reference_heap *heap);
void reference_heap_push(
	reference_heap *heap, int64_t when, void (*callback)(void *arg), void *arg);

/* Calls events in order until none is left or a callback sets `stopped`; returns how many. */
uint64_t reference_heap_run(reference_heap *heap);

#endif
