/* wait_queue.c: two queues, the preempted one first. */
#include "sim/fleet/wait_queue.h"

#include "sim/fleet/replica_internal.h"

void kvt_wait_queue_init(kvt_wait_queue *queue)
{
	g_queue_init(&queue->again);
	g_queue_init(&queue->fresh);
}

void kvt_wait_queue_clear(kvt_wait_queue *queue)
{
	g_queue_clear(&queue->again);
	g_queue_clear(&queue->fresh);
}

void kvt_wait_queue_push(kvt_wait_queue *queue, kvt_sequence *sequence)
{
	g_queue_push_tail(&queue->fresh, sequence);
}

void kvt_wait_queue_return(kvt_wait_queue *queue, kvt_sequence *sequence)
{
	GList *at = queue->again.head;
	while (at && ((const kvt_sequence *)at->data)->order < sequence->order)
		at = at->next;
	g_queue_insert_before(&queue->again, at, sequence);
}

kvt_sequence *kvt_wait_queue_first(const kvt_wait_queue *queue)
{
	const GQueue *from = queue->again.length > 0 ? &queue->again : &queue->fresh;
	return from->head ? from->head->data : NULL;
}

void kvt_wait_queue_pop(kvt_wait_queue *queue)
{
	g_queue_pop_head(queue->again.length > 0 ? &queue->again : &queue->fresh);
}

unsigned kvt_wait_queue_length(const kvt_wait_queue *queue)
{
	return queue->again.length + queue->fresh.length;
}
