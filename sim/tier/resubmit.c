/* resubmit.c: a queue in front of a tier that may be full. */
#include "sim/tier/resubmit.h"

#include <errno.h>

void kvt_resubmit_init(kvt_resubmit *queue, kvt_loop *loop, kvt_tier *tier)
{
	*queue = (kvt_resubmit){ .loop = loop, .tier = tier };
}

void kvt_resubmit_clear(kvt_resubmit *queue)
{
	if (queue->report != 0)
		kvt_loop_cancel(queue->loop, queue->report);
	*queue = (kvt_resubmit){ .loop = queue->loop, .tier = queue->tier };
}

static int submit(kvt_resubmit *queue, kvt_io *io)
{
	int error = kvt_tier_submit(queue->tier, io);
	queue->under_way += error == 0;
	return error;
}

static void report_invalid(void *arg)
{
	kvt_resubmit *queue = arg;
	queue->report = 0;
	while (queue->invalid) {
		kvt_io *io = queue->invalid;
		queue->invalid = io->next;
		queue->under_way++;
		io->bytes = 0;
		io->submitted = io->completed = kvt_loop_now(queue->loop);
		io->done(io);
	}
}

/* Offers what waits, in order, until the tier is full. */
static void offer_waiting(kvt_resubmit *queue)
{
	bool any = false;
	while (queue->first) {
		kvt_io *io = queue->first, *next = io->next;
		int error = submit(queue, io);
		if (error == -EAGAIN)
			break;
		any |= error == 0;
		queue->first = next;
		if (error != 0) {
			io->status = error;
			io->next = queue->invalid;
			queue->invalid = io;
		}
	}
	if (any)
		kvt_tier_commit(queue->tier);
	if (queue->invalid && queue->report == 0)
		queue->report = kvt_loop_after(queue->loop, 0, report_invalid, queue);
	g_assert(!queue->first || queue->under_way > 0);
}

int kvt_resubmit_try(kvt_resubmit *queue, kvt_io *io)
{
	return queue->first ? -EAGAIN : submit(queue, io);
}

void kvt_resubmit_add(kvt_resubmit *queue, kvt_io *io)
{
	io->next = NULL;
	if (queue->first)
		queue->last->next = io;
	else
		queue->first = io;
	queue->last = io;
	if (queue->first == io)
		offer_waiting(queue);
}

void kvt_resubmit_completed(kvt_resubmit *queue)
{
	g_assert(queue->under_way > 0);
	queue->under_way--;
	if (queue->first)
		offer_waiting(queue);
}
