/*
 * event_queue.c: a binary heap of (time, sequence, slot). A slot keeps the call of a pending event;
 * its generation makes handles of past events harmless. A cancelled event leaves its heap entry
 * behind, which is dropped when it comes up or when such entries outnumber the others.
 */
#include "sim/core/event_queue.h"

#include <glib.h>

typedef struct entry {
	kvt_time when;
	uint64_t sequence;
	uint32_t slot, generation;
} entry;

typedef struct slot {
	kvt_callback callback;
	void *arg;
	uint32_t generation;
	uint32_t next_free; /* index + 1 */
} slot;

struct kvt_event_queue {
	entry *heap;
	slot *slots;
	size_t n_heap, heap_capacity, n_slots, slot_capacity, n_pending;
	uint64_t sequence;
	uint32_t free_slot; /* index + 1 */
};

kvt_event_queue *kvt_event_queue_new(void)
{
	return g_new0(kvt_event_queue, 1);
}

void kvt_event_queue_free(kvt_event_queue *queue)
{
	if (!queue)
		return;
	g_free(queue->heap);
	g_free(queue->slots);
	g_free(queue);
}

static bool before(const entry *a, const entry *b)
{
	return a->when < b->when || (a->when == b->when && a->sequence < b->sequence);
}

static void sift_up(entry *heap, size_t i, entry e)
{
	while (i > 0 && before(&e, &heap[(i - 1) / 2])) {
		heap[i] = heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap[i] = e;
}

static void sift_down(entry *heap, size_t n, size_t i, entry e)
{
	for (size_t child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && before(&heap[child + 1], &heap[child]))
			child++;
		if (!before(&heap[child], &e))
			break;
		heap[i] = heap[child];
	}
	heap[i] = e;
}

static uint32_t slot_take(kvt_event_queue *queue)
{
	if (queue->free_slot) {
		uint32_t i = queue->free_slot - 1;
		queue->free_slot = queue->slots[i].next_free;
		return i;
	}
	if (queue->n_slots == queue->slot_capacity) {
		g_assert(queue->n_slots < UINT32_MAX / 2);
		queue->slot_capacity = MAX(64, queue->slot_capacity * 2);
		queue->slots = g_renew(slot, queue->slots, queue->slot_capacity);
	}
	queue->slots[queue->n_slots].generation = 1;
	return queue->n_slots++;
}

/* Ends the generation. A slot whose generations are used up is never taken again, so that no
 * handle ever comes back. */
static void slot_release(kvt_event_queue *queue, uint32_t i)
{
	slot *s = &queue->slots[i];
	queue->n_pending--;
	if (++s->generation == UINT32_MAX)
		return;
	s->next_free = queue->free_slot;
	queue->free_slot = i + 1;
}

kvt_event kvt_event_queue_push(
	kvt_event_queue *queue, kvt_time when, kvt_callback callback, void *arg)
{
	uint32_t i = slot_take(queue);
	slot *s = &queue->slots[i];
	s->callback = callback;
	s->arg = arg;
	if (queue->n_heap == queue->heap_capacity) {
		queue->heap_capacity = MAX(64, queue->heap_capacity * 2);
		queue->heap = g_renew(entry, queue->heap, queue->heap_capacity);
	}
	queue->n_pending++;
	sift_up(queue->heap, queue->n_heap++, (entry){ when, queue->sequence++, i, s->generation });
	return (uint64_t)s->generation << 32 | i;
}

static bool is_live(const kvt_event_queue *queue, const entry *e)
{
	return queue->slots[e->slot].generation == e->generation;
}

static void drop_cancelled(kvt_event_queue *queue)
{
	size_t n = 0;
	for (size_t i = 0; i < queue->n_heap; i++) {
		if (is_live(queue, &queue->heap[i]))
			queue->heap[n++] = queue->heap[i];
	}
	queue->n_heap = n;
	for (size_t i = n / 2; i-- > 0;)
		sift_down(queue->heap, n, i, queue->heap[i]);
}

bool kvt_event_queue_cancel(kvt_event_queue *queue, kvt_event event)
{
	uint32_t i = (uint32_t)event, generation = event >> 32;
	if (i >= queue->n_slots || queue->slots[i].generation != generation ||
		generation == UINT32_MAX || generation == 0)
		return false;
	/* A free slot waits in the generation that its next event will have. */
	if (!queue->slots[i].callback)
		return false;
	queue->slots[i].callback = NULL;
	slot_release(queue, i);
	if (queue->n_heap > 2 * queue->n_pending + 64)
		drop_cancelled(queue);
	return true;
}

bool kvt_event_queue_pop(kvt_event_queue *queue, kvt_time *when, kvt_callback *callback, void **arg)
{
	while (queue->n_heap > 0) {
		entry e = queue->heap[0];
		if (--queue->n_heap > 0)
			sift_down(queue->heap, queue->n_heap, 0, queue->heap[queue->n_heap]);
		if (!is_live(queue, &e))
			continue;
		slot *s = &queue->slots[e.slot];
		*when = e.when;
		*callback = s->callback;
		*arg = s->arg;
		s->callback = NULL;
		slot_release(queue, e.slot);
		return true;
	}
	return false;
}

size_t kvt_event_queue_pending(const kvt_event_queue *queue)
{
	return queue->n_pending;
}
