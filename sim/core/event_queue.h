/*
 * event_queue.h: the pending events of a virtual loop, smallest (time, order of submission) first,
 * with cancellation. It knows nothing of running them; virtual_loop.c does. What is here in full
 * is the path that every event takes, to be inlined; event_queue.c says how it all works.
 */
#ifndef KVT_EVENT_QUEUE_H
#define KVT_EVENT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/core/loop.h"

/* The structures are private to event_queue.[ch]. */
enum {
	KVT_EVENT_CHUNK_BYTES = 512,
	KVT_EVENT_CHUNK_ENTRIES = KVT_EVENT_CHUNK_BYTES / 16 - 1,
	KVT_EVENT_FRONT_ENTRIES = 2 * KVT_EVENT_CHUNK_ENTRIES + 2,
	KVT_EVENT_MAX_LEVELS = 24,
};

/* The handle tells a pending event from one that was cancelled: see kvt_event_slot. */
typedef struct kvt_event_entry {
	uint64_t when;
	kvt_event event;
} kvt_event_entry;

/* Lies at a multiple of its size, so that an entry's address tells the chunk and its end. */
typedef struct kvt_event_chunk {
	struct kvt_event_chunk *next; /* unless it is its bucket's last */
	uint64_t unused;
	kvt_event_entry entries[KVT_EVENT_CHUNK_ENTRIES];
} kvt_event_chunk;

/* Entries in order of submission, in full chunks but for the last. */
typedef struct kvt_event_bucket {
	kvt_event_entry *end; /* of the last chunk's entries; NULL when there are none */
	kvt_event_chunk *first;
} kvt_event_bucket;

/* Buckets of equal width; those before `current` have been emptied. */
typedef struct kvt_event_level {
	uint64_t start; /* of bucket 0 */
	kvt_event_bucket *buckets;
	uint32_t n_buckets, capacity, current;
	uint32_t shift; /* a bucket is 2^shift ps wide */
} kvt_event_level;

/* What a pending event calls. A handle is generation << 32 | index of the slot. */
typedef struct kvt_event_slot {
	kvt_callback callback;
	void *arg;
	uint32_t generation; /* odd while an event is pending here */
	uint32_t next_free;
} kvt_event_slot;

typedef struct kvt_event_queue {
	kvt_time now;                 /* when the event popped last was due */
	kvt_event_entry *head, *tail; /* the front: sorted, before everything else */
	kvt_event_slot *slots;
	uint32_t n_slots, slot_capacity, free_slot;
	uint32_t n_levels;
	size_t n_pending, n_cancelled;           /* n_cancelled: entries that were left behind */
	uint64_t from[KVT_EVENT_MAX_LEVELS + 1]; /* a level takes times from here on; ends with 0 */
	kvt_event_level levels[KVT_EVENT_MAX_LEVELS];
	kvt_event_chunk *open_chunk; /* that the front lies in; NULL: it lies in front_entries */
	kvt_event_chunk *free_chunks;
	struct kvt_event_block *blocks;
	size_t n_chunks;
	kvt_event_entry front_entries[KVT_EVENT_FRONT_ENTRIES];
} kvt_event_queue;

void kvt_event_queue_add_slot(kvt_event_queue *queue);
void kvt_event_queue_add_chunk(kvt_event_queue *queue, kvt_event_bucket *bucket);
void kvt_event_queue_insert(kvt_event_queue *queue, kvt_event_entry entry);
bool kvt_event_queue_refill(kvt_event_queue *queue);

static inline void kvt_event_queue_append(
	kvt_event_queue *queue, kvt_event_level *level, kvt_event_entry entry)
{
	kvt_event_bucket *bucket = &level->buckets[(entry.when - level->start) >> level->shift];
	if ((uintptr_t)bucket->end % KVT_EVENT_CHUNK_BYTES == 0)
		kvt_event_queue_add_chunk(queue, bucket);
	*bucket->end++ = entry;
}

static inline bool kvt_event_queue_is_pending(const kvt_event_queue *queue, kvt_event event)
{
	return queue->slots[(uint32_t)event].generation == event >> 32;
}

/* A slot whose generations are used up is never taken again, so that no handle comes back. */
static inline void kvt_event_queue_end_event(kvt_event_queue *queue, kvt_event event)
{
	kvt_event_slot *slot = &queue->slots[(uint32_t)event];
	queue->n_pending--;
	if (++slot->generation != 0) {
		slot->next_free = queue->free_slot;
		queue->free_slot = (uint32_t)event;
	}
}

/* What is public begins here. */

void kvt_event_queue_init(kvt_event_queue *queue);
void kvt_event_queue_clear(kvt_event_queue *queue);

/* Adds callback(arg) at `when`, not before queue->now. Returns its handle, never 0. */
static inline kvt_event kvt_event_queue_push(
	kvt_event_queue *queue, kvt_time when, kvt_callback callback, void *arg)
{
	if (queue->free_slot == 0)
		kvt_event_queue_add_slot(queue);
	uint32_t i = queue->free_slot;
	kvt_event_slot *slot = &queue->slots[i];
	queue->free_slot = slot->next_free;
	queue->n_pending++;
	slot->callback = callback;
	slot->arg = arg;
	kvt_event_entry entry = { (uint64_t)when, (uint64_t)++slot->generation << 32 | i };
	unsigned l = 0;
	while (entry.when < queue->from[l])
		l++;
	if (l < queue->n_levels)
		kvt_event_queue_append(queue, &queue->levels[l], entry);
	else
		kvt_event_queue_insert(queue, entry);
	return entry.event;
}

/* Takes out the first event and moves queue->now to it; false when there is none. */
static inline bool kvt_event_queue_pop(kvt_event_queue *queue, kvt_callback *callback, void **arg)
{
	for (;;) {
		if (queue->head == queue->tail && !kvt_event_queue_refill(queue))
			return false;
		kvt_event_entry entry = *queue->head++;
		if (!kvt_event_queue_is_pending(queue, entry.event)) {
			queue->n_cancelled--;
			continue;
		}
		queue->now = (kvt_time)entry.when;
		*callback = queue->slots[(uint32_t)entry.event].callback;
		*arg = queue->slots[(uint32_t)entry.event].arg;
		kvt_event_queue_end_event(queue, entry.event);
		return true;
	}
}

/* When the first event is due; false when there is none. Takes nothing out and moves no time: what
 * is pushed next may be due earlier. */
static inline bool kvt_event_queue_next(kvt_event_queue *queue, kvt_time *when)
{
	for (;;) {
		if (queue->head == queue->tail && !kvt_event_queue_refill(queue))
			return false;
		if (kvt_event_queue_is_pending(queue, queue->head->event)) {
			*when = (kvt_time)queue->head->when;
			return true;
		}
		queue->head++;
		queue->n_cancelled--;
	}
}

/* Takes a pending event out; false when it was popped or cancelled before. Any value is safe. */
bool kvt_event_queue_cancel(kvt_event_queue *queue, kvt_event event);

/* Bytes held: they follow the largest number of events that were pending at once. */
size_t kvt_event_queue_bytes(const kvt_event_queue *queue);

#endif
