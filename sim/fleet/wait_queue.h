/*
 * wait_queue.h: requests of one replica that wait to be admitted: first come, first served, those
 * that were preempted before all others, the oldest first.
 */
#ifndef KVT_WAIT_QUEUE_H
#define KVT_WAIT_QUEUE_H

#include <glib.h>

struct kvt_sequence;

typedef struct kvt_wait_queue {
	GQueue again; /* preempted, by number of their request's arrival */
	GQueue fresh;
} kvt_wait_queue;

void kvt_wait_queue_init(kvt_wait_queue *queue);
void kvt_wait_queue_clear(kvt_wait_queue *queue);

/* One that came. */
void kvt_wait_queue_push(kvt_wait_queue *queue, struct kvt_sequence *sequence);

/* One that was preempted. */
void kvt_wait_queue_return(kvt_wait_queue *queue, struct kvt_sequence *sequence);

/* Who is next, and stays; NULL when there is none. */
struct kvt_sequence *kvt_wait_queue_first(const kvt_wait_queue *queue);
void kvt_wait_queue_pop(kvt_wait_queue *queue);

unsigned kvt_wait_queue_length(const kvt_wait_queue *queue);

#endif
