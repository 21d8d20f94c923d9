/*
 * arrivals.h: when each request of a trace comes. Open loop: when the trace says, or so many times
 * faster. Closed loop: `think` after everything it waits for has ended, sessions beginning when the
 * trace says or as users become free. It knows nothing of who serves them.
 */
#ifndef KVT_ARRIVALS_H
#define KVT_ARRIVALS_H

#include "sim/core/loop.h"
#include "sim/fleet/fleet_settings.h"
#include "traces/request_trace.h"

typedef struct kvt_arrivals kvt_arrivals;

/* Calls arrive(arg, request) on the loop for each of the first `n_requests` of the trace, those of
 * one time in order. All must outlive it. */
kvt_arrivals *kvt_arrivals_new(kvt_loop *loop, const kvt_request_trace *trace, uint32_t n_requests,
	const kvt_fleet_settings *settings, void (*arrive)(void *arg, uint32_t request), void *arg);
void kvt_arrivals_free(kvt_arrivals *arrivals);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_arrivals, kvt_arrivals_free)

/* Schedules the first ones; before the loop runs. */
void kvt_arrivals_start(kvt_arrivals *arrivals);

/* The request has ended or was refused: who waited for it alone goes on thinking. */
void kvt_arrivals_ended(kvt_arrivals *arrivals, uint32_t request);

/* Requests that have not come yet. */
uint64_t kvt_arrivals_left(const kvt_arrivals *arrivals);

#endif
