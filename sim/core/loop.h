/*
 * loop.h: what the engine knows of time: what time is it, call me then. The virtual loop of the
 * simulator and the real loop of the emulation implement it; code above cannot tell them apart.
 * Callbacks run one at a time, in (time, submission) order, never inside the call that scheduled
 * them.
 */
#ifndef KVT_LOOP_H
#define KVT_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/base/sim_time.h"

typedef void (*kvt_callback)(void *arg);

/* A scheduled call; 0 is none. Stays valid (as "not pending") after the call has run. */
typedef uint64_t kvt_event;

typedef struct kvt_loop kvt_loop;

typedef struct kvt_loop_ops {
	kvt_time (*now)(kvt_loop *loop);
	/* Calls callback(arg) at `when` (or as soon as possible when that is past). At
	 * KVT_TIME_NEVER nothing is scheduled: returns 0. */
	kvt_event (*at)(kvt_loop *loop, kvt_time when, kvt_callback callback, void *arg);
	/* True when the event was pending and now never runs. */
	bool (*cancel)(kvt_loop *loop, kvt_event event);
	/* Runs until nothing is pending or kvt_loop_stop; returns the number of callbacks run. Not
	 * from a callback. What a stop left pending runs in the next run; a stop while nothing
	 * runs does nothing. */
	uint64_t (*run)(kvt_loop *loop);
	void (*stop)(kvt_loop *loop);
	void (*free)(kvt_loop *loop);
} kvt_loop_ops;

/* A loop begins with its operations; an implementation embeds this first. */
struct kvt_loop {
	const kvt_loop_ops *ops;
};

static inline kvt_time kvt_loop_now(kvt_loop *loop)
{
	return loop->ops->now(loop);
}

static inline kvt_event kvt_loop_at(kvt_loop *loop, kvt_time when, kvt_callback callback, void *arg)
{
	return loop->ops->at(loop, when, callback, arg);
}

/* `delay` from now; a delay that would overflow means never, which is not scheduled: returns 0. */
static inline kvt_event kvt_loop_after(
	kvt_loop *loop, kvt_time delay, kvt_callback callback, void *arg)
{
	kvt_time now = loop->ops->now(loop);
	if (delay >= KVT_TIME_NEVER - now)
		return 0;
	return loop->ops->at(loop, now + (delay > 0 ? delay : 0), callback, arg);
}

static inline bool kvt_loop_cancel(kvt_loop *loop, kvt_event event)
{
	return loop->ops->cancel(loop, event);
}

static inline uint64_t kvt_loop_run(kvt_loop *loop)
{
	return loop->ops->run(loop);
}

static inline void kvt_loop_stop(kvt_loop *loop)
{
	loop->ops->stop(loop);
}

static inline void kvt_loop_free(kvt_loop *loop)
{
	if (loop)
		loop->ops->free(loop);
}

/* The simulator's loop: virtual time from 0, advanced by events alone (virtual_loop.c). */
kvt_loop *kvt_virtual_loop_new(void);

#endif
