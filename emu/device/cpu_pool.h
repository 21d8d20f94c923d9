/*
 * cpu_pool.h: the threads that compute for the CPU device: one job at a time, cut into tasks that
 * threads take in turn. It is no general pool and keeps no queue.
 */
#ifndef KVT_CPU_POOL_H
#define KVT_CPU_POOL_H

#include <glib.h>
#include <stdint.h>

#include "emu/loop/cores.h"

typedef struct kvt_cpu_pool kvt_cpu_pool;

typedef struct kvt_cpu_job {
	void (*task)(void *arg, unsigned index, unsigned thread); /* on some thread */
	/* On a thread, after the last task; part of the job's time. May be NULL. */
	void (*end)(void *arg);
	/* On that thread, when all is over; must not begin a job itself. The time is from begin to
	 * here. */
	void (*finish)(void *arg, int64_t nanoseconds);
	void *arg;
	unsigned n_tasks; /* 0: finish alone */
} kvt_cpu_job;

/* NULL with an error when threads cannot be made. */
kvt_cpu_pool *kvt_cpu_pool_new(unsigned threads, GError **error);

/* Puts the threads where kvt_cores_place_compute() does; there they spin a while between jobs. */
void kvt_cpu_pool_place(kvt_cpu_pool *pool, const kvt_cores *cores);

/* Waits for the job that runs. */
void kvt_cpu_pool_free(kvt_cpu_pool *pool);

/* The job before must have called finish. The job is copied. */
void kvt_cpu_pool_begin(kvt_cpu_pool *pool, const kvt_cpu_job *job);

#endif
