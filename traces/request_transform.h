/*
 * request_transform.h: request traces made from others: a part of one, at another rate, with other
 * blocks or other users; several as the tenants of one. The traces they are made from stay as they
 * are. What waits for a request that was left out arrives at its own time.
 */
#ifndef KVT_REQUEST_TRANSFORM_H
#define KVT_REQUEST_TRANSFORM_H

#include "sim/base/sim_time.h"
#include "traces/request_trace.h"

/*
 * What is done to a trace, in this order; 0 leaves each as it is. A dialogue below is a request
 * that waits for none together with all that wait for it in turn: a whole agentic trace with its
 * sub-agents; of an open trace, one request.
 */
typedef struct kvt_request_edit {
	kvt_time from, until;  /* requests that arrive in [from, until); until 0: to the end */
	uint64_t first, count; /* of those, `count` after the first `first`; count 0: all */

	/* Sessions whose requests wait for none become closed loops: each request waits for the one
	 * before it, and think is what is left of the interval after this long an output token. */
	bool close;
	kvt_time close_pace;

	double rate; /* arrivals come this many times as fast; what users think stays the same */

	/* Dialogues begin at random (Poisson) this often, 1/s, in the order in which they began. */
	double start_rate;
	uint64_t seed;

	/* Closed loop by users: that many of them take the dialogues in turn, each `think` after
	 * the end of its last one. Arrivals are moved to when that would be, as far as latencies
	 * were recorded. */
	uint32_t users;
	kvt_time think;

	/* Tokens a block, a multiple or a fraction of the trace's. Coarser blocks are exact but for
	 * the last, partial one, which loses its id; finer ones share no more than the trace's. */
	uint32_t block_tokens;
} kvt_request_edit;

/* NULL with an error that begins with `name` where nothing is left, or blocks cannot be so. */
kvt_request_trace *kvt_request_transform(const kvt_request_trace *trace,
	const kvt_request_edit *edit, const char *name, GError **error);

/* One of the traces that are mixed. */
typedef struct kvt_request_part {
	const kvt_request_trace *trace;
	const char *name; /* of its tenant; NULL: its tenants keep theirs */
	double share;     /* of the requests; any unit */
} kvt_request_part;

/*
 * The parts as one trace, sessions and blocks of each its own. Where shares are 0 all come as
 * recorded. Otherwise each is brought to its share of `rate` requests/s (0: of all that they have
 * together), and what comes after the first of them has ended is left out, so that the shares hold
 * until then. NULL with an error where the parts have blocks of several sizes, or some shares are
 * 0.
 */
kvt_request_trace *kvt_request_mix(
	const kvt_request_part *parts, unsigned count, double rate, GError **error);

#endif
