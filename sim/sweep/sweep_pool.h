/*
 * sweep_pool.h: threads that run points. Each takes the next point whenever it is free, whoever
 * else is slow, and puts what came out, as frames (sweep_record.h), into a queue that one other
 * thread empties.
 */
#ifndef KVT_SWEEP_POOL_H
#define KVT_SWEEP_POOL_H

#include "sim/sweep/sweep_kind.h"
#include "sim/sweep/sweep_plan.h"
#include "sim/sweep/sweep_supply.h"

/* What is run at each point; all of it outlives the pool. */
typedef struct kvt_sweep_work {
	/* Runs a point in the place of the kind, config and plan, which are not looked at then; as
	 * kvt_sweep_kind's. NULL: the plan's points of the config are run. */
	bool (*run)(void *arg, uint64_t point, kvt_sweep_metrics *metrics, GError **error);
	void *arg;
	const kvt_sweep_kind *kind;
	const kvt_config *config; /* read-only while the pool runs */
	const kvt_sweep_plan *plan;
	kvt_model_store *models;
	void *shared; /* of the kind */
} kvt_sweep_work;

typedef struct kvt_sweep_pool kvt_sweep_pool;

enum { KVT_SWEEP_THREADS_MAX = 4096 };

/* Starts the threads, whose workers' numbers count from `first_worker`. NULL with an error when no
 * thread can be started. */
kvt_sweep_pool *kvt_sweep_pool_new(const kvt_sweep_work *work, kvt_sweep_supply *supply,
	unsigned threads, unsigned first_worker, GError **error);

/* The frames of what has run since the last call, a new GByteArray; waits for some for at most so
 * many microseconds, and is NULL when there are none. */
GByteArray *kvt_sweep_pool_take(kvt_sweep_pool *pool, int64_t microseconds);

/* Whether every thread has ended (the supply has) and nothing is left to be taken. */
bool kvt_sweep_pool_ended(kvt_sweep_pool *pool);

/* Seconds that a point took so far, on average; 0: none has run. */
double kvt_sweep_pool_mean(kvt_sweep_pool *pool);

/* Waits for the threads, which end when the supply has. */
void kvt_sweep_pool_free(kvt_sweep_pool *pool);

#endif
