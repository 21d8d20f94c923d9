/*
 * real_loop.h: the loop of core/loop.h in real time, for the emulation. Time is CLOCK_MONOTONIC in
 * picoseconds since the loop was made. Completions of I/O come from sources that the loop polls,
 * results of helper threads are posted to it; all enter the one queue that timers are in. One
 * thread calls everything here but kvt_real_loop_post.
 *
 * What differs from virtual time: time goes on while a callback runs, and an event runs when it is
 * due or later. Callbacks run in batches: all that is due when a batch begins, in (time, order of
 * submission); sources and posts are looked at between batches, so that no callback that goes on
 * scheduling itself for now keeps them waiting.
 */
#ifndef KVT_REAL_LOOP_H
#define KVT_REAL_LOOP_H

#include "sim/base/histogram.h"
#include "sim/core/loop.h"

typedef struct kvt_real_loop_settings {
	/* Before a wait ends in sleep, and before a timer that sleep was ended for, the loop polls
	 * for so long: saves the cost of a wake-up and burns a core. 0: never. */
	kvt_time spin;
} kvt_real_loop_settings;

/* `settings` may be NULL: no spinning. NULL with errno set when the system has no descriptor left.
 */
kvt_loop *kvt_real_loop_new(const kvt_real_loop_settings *settings);

/*
 * Where completions come from: an engine of I/O, say. It belongs to the caller and must stay until
 * it is removed.
 */
typedef struct kvt_real_source {
	/* Gives the device what waits to be given and, without waiting, schedules a callback
	 * (kvt_loop_at for now) for all that has completed, in order of submission. Returns how
	 * many. Called between batches, also when nothing is under way. */
	unsigned (*poll)(void *arg);
	int wait_fd;   /* readable when poll would find something */
	bool readable; /* set by the loop when wait_fd was; the source may clear it */
	/* Before the loop sleeps on wait_fd: makes it tell, and returns true when poll would find
	 * something already. NULL: it always tells. */
	bool (*arm)(void *arg);
	/* Sleeps in the device itself until poll would find something, wake_fd is readable, or
	 * `ns` nanoseconds have passed (< 0: without end). Used when no other source has anything
	 * to wait for. NULL: the loop waits for wait_fd. */
	void (*wait)(void *arg, int wake_fd, int64_t ns);
	bool idle; /* set while nothing is under way: the loop need not wait for this source */
	/* Set while only polling finds what is under way: the loop then does not sleep. */
	bool must_poll;
	void *arg;
	struct kvt_real_source *next; /* the loop's */
} kvt_real_source;

void kvt_real_loop_add_source(kvt_loop *loop, kvt_real_source *source);
/* Not from a source's poll. */
void kvt_real_loop_remove_source(kvt_loop *loop, kvt_real_source *source);

/* Says that something is under way outside (an I/O, a task of a helper thread) that will schedule
 * or post: kvt_loop_run waits for it. As many releases as holds. */
void kvt_real_loop_hold(kvt_loop *loop);
void kvt_real_loop_release(kvt_loop *loop);

/* From any thread: callback(arg) runs on the loop's thread as soon as possible, after what was
 * posted before. Wakes the loop; does not keep it running (hold does). The loop must be there until
 * this returns. */
void kvt_real_loop_post(kvt_loop *loop, kvt_callback callback, void *arg);

typedef struct kvt_real_loop_stats {
	uint64_t callbacks, batches, sleeps;
	kvt_time asleep, spinning; /* within kvt_loop_run */
	kvt_histogram lateness;    /* from when a callback was due to its batch, ps */
} kvt_real_loop_stats;

void kvt_real_loop_get_stats(const kvt_loop *loop, kvt_real_loop_stats *stats);

#endif
