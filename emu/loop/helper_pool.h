/*
 * helper_pool.h: a few threads that do for the loop what takes processor time: checksums, copies.
 * Tasks begin in the order of submission; each tells the loop when it is done. It is no scheduler
 * and knows no priorities.
 */
#ifndef KVT_HELPER_POOL_H
#define KVT_HELPER_POOL_H

#include <glib.h>

#include "sim/core/loop.h"

typedef struct kvt_helper_pool kvt_helper_pool;
typedef struct kvt_helper_task kvt_helper_task;

/* Belongs to the caller, and stays where it is until done. */
struct kvt_helper_task {
	void (*work)(kvt_helper_task *task); /* on some thread */
	void (*done)(kvt_helper_task *task); /* on the loop, after work; may submit */
	void *arg;
	/* the pool's */
	kvt_helper_pool *pool;
	kvt_helper_task *next;
};

/* `loop` is a real one. Without threads (0) work is done on the loop, just before done. */
kvt_helper_pool *kvt_helper_pool_new(kvt_loop *loop, unsigned threads, GError **error);

/* Waits for work that has begun and drops the rest: no done runs any more, and the loop must not
 * run on with tasks of the pool pending. */
void kvt_helper_pool_free(kvt_helper_pool *pool);

/* As kvt_helper_pool_submit, but where there are no threads it is done, and its done has been
 * called, on return: for callbacks of the loop. */
void kvt_helper_pool_run(kvt_helper_pool *pool, kvt_helper_task *task);

/* From the loop's thread. */
void kvt_helper_pool_submit(kvt_helper_pool *pool, kvt_helper_task *task);

#endif
