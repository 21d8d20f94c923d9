/*
 * plan_runner.h: runs jobs of a plan by the threads of a sweep (sweep_pool.h), each once: what has
 * been run is remembered. Results do not depend on how many threads there are.
 */
#ifndef KVT_PLAN_RUNNER_H
#define KVT_PLAN_RUNNER_H

#include "sim/plan/plan_point.h"

typedef struct kvt_plan_runner kvt_plan_runner;

/* The settings outlive it. NULL with an error when there is no thread. */
kvt_plan_runner *kvt_plan_runner_new(
	const kvt_plan_settings *settings, unsigned threads, GError **error);
void kvt_plan_runner_free(kvt_plan_runner *runner);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_plan_runner, kvt_plan_runner_free)

typedef struct kvt_plan_result {
	kvt_plan_job job;
	bool ran;    /* whether it could be */
	char *error; /* why not; the runner's */
	kvt_plan_figures figures;
} kvt_plan_result;

/* Runs those of n jobs that have not been run, and fills `results`, [n], with all of theirs. */
void kvt_plan_runner_run(
	kvt_plan_runner *runner, const kvt_plan_job *jobs, unsigned n, kvt_plan_result *results);

/* Simulations so far, of the whole traffic and of the beginning of it alone. */
unsigned kvt_plan_runner_count(const kvt_plan_runner *runner);
unsigned kvt_plan_runner_screened(const kvt_plan_runner *runner);

#endif
