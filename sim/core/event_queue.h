/*
 * event_queue.h: the pending events of a virtual loop, smallest (time, order of submission) first,
 * with cancellation. It knows nothing of running them; virtual_loop.c does.
 */
#ifndef KVT_EVENT_QUEUE_H
#define KVT_EVENT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "sim/core/loop.h"

typedef struct kvt_event_queue kvt_event_queue;

kvt_event_queue *kvt_event_queue_new(void);
void kvt_event_queue_free(kvt_event_queue *queue);

/* Adds callback(arg) at `when`, which must not be before the last time popped. Never 0. */
kvt_event kvt_event_queue_push(
	kvt_event_queue *queue, kvt_time when, kvt_callback callback, void *arg);

/* Takes a pending event out; false when it has been popped or cancelled before (any value is safe
 * to ask for). */
bool kvt_event_queue_cancel(kvt_event_queue *queue, kvt_event event);

/* Takes out the first event; false when there is none. */
bool kvt_event_queue_pop(
	kvt_event_queue *queue, kvt_time *when, kvt_callback *callback, void **arg);

/* Events pending: pushed, not popped, not cancelled. */
size_t kvt_event_queue_pending(const kvt_event_queue *queue);

#endif
