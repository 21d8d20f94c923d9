/*
 * replica_internal.h: a replica's state, for the files that run one: replica.c (who is there),
 * replica_step.c (what a step is made of), replica_moves.c (KV that comes and goes),
 * replica_reload.c (what is loaded at all), replica_tenants.c (who of several tenants is served).
 * Nobody else's but the queue's.
 */
#ifndef KVT_REPLICA_INTERNAL_H
#define KVT_REPLICA_INTERNAL_H

#include "sim/base/histogram.h"
#include "sim/fleet/replica.h"
#include "sim/fleet/wait_queue.h"

typedef enum kvt_sequence_state {
	KVT_SEQUENCE_WAITING,
	KVT_SEQUENCE_PROMPT, /* has room; its prompt loads or is computed */
	KVT_SEQUENCE_DECODE,
	KVT_SEQUENCE_SWAPPED,
	KVT_SEQUENCE_OVER,
} kvt_sequence_state;

enum { KVT_SEQUENCE_LOADS_MAX = 16 };

/* One request at its replica. */
typedef struct kvt_sequence {
	uint32_t request, handle; /* the KV manager's handle */
	uint64_t order;           /* of arrival at the replica */
	/* changes whenever it is admitted or gives way, so that moves of before are not its own */
	uint32_t admission, first_admission;
	uint8_t state; /* kvt_sequence_state */
	bool swapped;  /* it was swapped out before this admission */
	/* what of its prompt is there lies so scattered over pages of several sizes that the rest
	 * does not fit, even alone: it is computed again from its first token */
	bool scattered;
	bool early;            /* its chunk of this step computes as its prefix arrives */
	uint32_t peer;         /* replica that its session comes from */
	uint32_t rooms;        /* batches of moves that its writes wait for */
	uint32_t loads;        /* its own, on their way */
	kvt_time last_load;    /* when the last one ended */
	uint64_t prompt;       /* tokens to be there before its next token comes */
	uint64_t found;        /* of those, when it was admitted */
	uint64_t start, chunk; /* of this step */
	uint64_t step;         /* that it is in, or was in last: steps begun before that one */
	uint64_t backlog;      /* tokens that it counts for in the replica's */
	kvt_time hides;        /* loading time that its first chunk can hide; -1: not known */
	kvt_time last_token;   /* when it came */
	uint32_t generated, output;
	kvt_fleet_transfer transfers[KVT_SEQUENCE_LOADS_MAX]; /* loads, those of the admission */
	uint32_t n_transfers;
	struct kvt_sequence *next_free;
} kvt_sequence;

typedef struct kvt_replica_tenants kvt_replica_tenants;

struct kvt_replica {
	kvt_replica_env env;
	unsigned index;
	kvt_kv_manager *kv;
	kvt_wait_queue queue;
	kvt_replica_tenants *tenants; /* NULL: requests are alike */
	uint32_t acting;              /* the tenant whose request makes the moves */
	GPtrArray *active;            /* PROMPT and DECODE, by admission */
	GPtrArray *swapped;           /* the oldest first */
	GPtrArray *sequences;         /* all there ever were, to free them */
	kvt_sequence *free_sequences;
	uint64_t orders, backlog;
	unsigned n_prompts, n_requests;
	unsigned ahead;     /* prompts that may have room at a time */
	unsigned saves;     /* swap-outs on their way */
	unsigned moving;    /* moves of all kinds on their way */
	bool closed;        /* nobody is admitted: somebody had to give way */
	kvt_kv_moves moves; /* scratch */

	bool kicked, stepping, stalled;
	kvt_event wake;
	kvt_time wake_at;
	kvt_time step_begun, step_time; /* of the step under way; without waiting for KV */
	GPtrArray *decodes, *chunks;    /* sequences of the step */
	GArray *chunk_shapes;           /* kvt_step_chunk */
	uint64_t idle_steps;            /* times that nothing could be done, since a step */

	kvt_replica_stats stats;
	kvt_histogram gaps;
};

/* replica.c */

void kvt_replica_kick(kvt_replica *replica);
void kvt_replica_preempt(kvt_replica *replica, kvt_sequence *sequence);
void kvt_replica_finish(kvt_replica *replica, kvt_sequence *sequence);
void kvt_replica_admit_waiting(kvt_replica *replica);
void kvt_replica_set_backlog(kvt_replica *replica, kvt_sequence *sequence, uint64_t tokens);

/* Room for the first sequence of those that wait, or one that was swapped out, which leaves them if
 * it gets it. Where it does not, moves may be left in replica->moves, for another try. */
bool kvt_replica_try_admit(kvt_replica *replica, kvt_sequence *sequence);

/* It found no room: true when it would find none for ever, and is to be tried again another way. */
bool kvt_replica_unstick(kvt_replica *replica, kvt_sequence *sequence);

/* replica_step.c */

/* The sequence's next token is part of the step; false when it has no room. */
bool kvt_replica_add_decode(kvt_replica *replica, kvt_sequence *sequence, kvt_step *step);

/* A chunk of one prompt of at most `budget` tokens; 0 when there is none now, and *wake at most how
 * long that lasts. */
uint64_t kvt_replica_add_chunk(kvt_replica *replica, kvt_sequence *sequence, kvt_step *step,
	uint64_t budget, kvt_time *wake);

/* Where the sequence's next chunk begins; false when it cannot begin yet, and then *wait is how
 * long that lasts, or KVT_TIME_NEVER when something else says when. */
bool kvt_replica_may_begin(
	kvt_replica *replica, kvt_sequence *sequence, uint64_t *start, kvt_time *wait);

/* Begins a step if there is anything to do. */
void kvt_replica_compose(kvt_replica *replica);

/* A load of the sequence has ended, on which the step may wait. */
void kvt_replica_loaded(kvt_replica *replica);

/* replica_reload.c */

/* Says which of what is below HBM, or at the peer, is loaded for a prompt, and which computed
 * again. */
void kvt_replica_limit_loads(kvt_replica *replica, kvt_kv_prompt *prompt, uint32_t peer);

/* replica_moves.c */

/* Starts what is in replica->moves, and empties it; the sequence, if any, waits for what makes it
 * room and for its loads. */
void kvt_replica_start_moves(kvt_replica *replica, kvt_sequence *sequence);

/* How much longer the sequence's loads take if all goes on as now. */
kvt_time kvt_replica_loads_left(kvt_replica *replica, const kvt_sequence *sequence);

/* The replica by which a node is named: this one for its own. */
static inline unsigned kvt_replica_of_node(const kvt_replica *replica, unsigned node)
{
	unsigned a_node = (unsigned)replica->env.settings->replicas_a_node;
	return replica->index / a_node == node ? replica->index : node * a_node;
}

static inline const kvt_request *kvt_replica_request(
	const kvt_replica *replica, const kvt_sequence *sequence)
{
	return &replica->env.trace->requests[sequence->request];
}

#endif
