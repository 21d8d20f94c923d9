/*
 * virtual_loop.c: the simulator's loop. Time stands still while a callback runs and then jumps to
 * the next event. The order of events is event_queue.c's.
 */
#include "sim/core/loop.h"

#include <glib.h>

#include "sim/core/event_queue.h"

typedef struct virtual_loop {
	kvt_loop base;
	bool running, stopped;
	kvt_event_queue queue;
} virtual_loop;

static kvt_time virtual_now(kvt_loop *base)
{
	return ((virtual_loop *)base)->queue.now;
}

static kvt_event virtual_at(kvt_loop *base, kvt_time when, kvt_callback callback, void *arg)
{
	virtual_loop *loop = (virtual_loop *)base;
	if (when == KVT_TIME_NEVER)
		return 0;
	return kvt_event_queue_push(&loop->queue, MAX(when, loop->queue.now), callback, arg);
}

static bool virtual_cancel(kvt_loop *base, kvt_event event)
{
	return kvt_event_queue_cancel(&((virtual_loop *)base)->queue, event);
}

static uint64_t virtual_run(kvt_loop *base)
{
	virtual_loop *loop = (virtual_loop *)base;
	g_assert(!loop->running);
	loop->running = true;
	loop->stopped = false;
	uint64_t n_run = 0;
	kvt_callback callback;
	void *arg;
	while (!loop->stopped && kvt_event_queue_pop(&loop->queue, &callback, &arg)) {
		callback(arg);
		n_run++;
	}
	loop->running = false;
	return n_run;
}

static void virtual_stop(kvt_loop *base)
{
	((virtual_loop *)base)->stopped = true;
}

static void virtual_free(kvt_loop *base)
{
	virtual_loop *loop = (virtual_loop *)base;
	g_assert(!loop->running);
	kvt_event_queue_clear(&loop->queue);
	g_free(loop);
}

static const kvt_loop_ops virtual_ops = {
	.now = virtual_now,
	.at = virtual_at,
	.cancel = virtual_cancel,
	.run = virtual_run,
	.stop = virtual_stop,
	.free = virtual_free,
};

kvt_loop *kvt_virtual_loop_new(void)
{
	virtual_loop *loop = g_new0(virtual_loop, 1);
	loop->base.ops = &virtual_ops;
	kvt_event_queue_init(&loop->queue);
	return &loop->base;
}
