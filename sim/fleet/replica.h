/*
 * replica.h: one replica: a tensor-parallel group that batches continuously. Step after step it
 * gives every running sequence its next token and fills the rest of the token budget with prompts,
 * in chunks; KV that a prompt needs comes meanwhile, over fleet_transfers.h; when HBM is full the
 * sequence that came last gives way. Where KV is, kv_manager.h says; how long a step takes,
 * step_cost.h. No step is on a clock's tick: one begins when the last one ended or when there is
 * something to do.
 */
#ifndef KVT_REPLICA_H
#define KVT_REPLICA_H

#include "sim/core/loop.h"
#include "sim/fleet/fleet_settings.h"
#include "sim/fleet/kv_manager.h"
#include "sim/fleet/request_outcome.h"
#include "sim/fleet/step_cost.h"
#include "sim/fleet/fleet_transfers.h"
#include "traces/request_trace.h"

typedef struct kvt_replica kvt_replica;

/* What all replicas of a fleet share; outlives them. */
typedef struct kvt_replica_env {
	kvt_loop *loop;
	const kvt_fleet_settings *settings;
	const kvt_request_trace *trace;
	uint32_t block_tokens;
	kvt_step_cost *cost;
	kvt_fleet_transfers *transfers;
	const uint32_t *next_turn;     /* [requests], that goes on where it ends, or
					  KVT_REQUEST_NONE */
	kvt_request_outcome *outcomes; /* [requests] */
	/* with [fleet] migration: all replicas and their KV managers, and the replica where each
	 * session's last request ended, UINT32_MAX: none did */
	kvt_replica *const *replicas;
	kvt_kv_manager *const *managers;
	uint32_t *homes;
	/* [trace->n_tenants]; NULL: requests are alike, whosever they are */
	const kvt_tenant_settings *const *tenants;
	/* called when a request has ended or was refused */
	void (*ended)(void *arg, uint32_t request);
	void *arg;
} kvt_replica_env;

/* The manager stays the caller's and outlives it. */
kvt_replica *kvt_replica_new(const kvt_replica_env *env, unsigned index, kvt_kv_manager *kv);
void kvt_replica_free(kvt_replica *replica);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_replica, kvt_replica_free)

/* A request has come. It is refused at once, or will end. */
void kvt_replica_enqueue(kvt_replica *replica, uint32_t request);

/* What a router looks at: prompt tokens that wait or are being computed, of tenants served apart
 * those that a request would have to wait for; requests that are there; and how many of a request's
 * prompt tokens would be found. */
double kvt_replica_ahead(const kvt_replica *replica, uint32_t request);
unsigned kvt_replica_requests(const kvt_replica *replica);
uint64_t kvt_replica_match(kvt_replica *replica, uint32_t request);

/* A tenant's requests that wait. */
unsigned kvt_replica_queued(const kvt_replica *replica, uint32_t tenant);

/* When the first token of the request would come were it enqueued now, from now: an estimate, from
 * what waits, what runs and what of it would be found; loads are not in it. */
kvt_time kvt_replica_predict(kvt_replica *replica, uint32_t request);

/* Time of steps that went to a tenant, by what was computed for it. */
kvt_time kvt_replica_tenant_time(const kvt_replica *replica, uint32_t tenant);

typedef struct kvt_replica_stats {
	uint64_t steps, prompt_tokens, output_tokens; /* computed, generated */
	uint64_t recomputed_tokens;                   /* of those, because of a preemption */
	uint64_t preemptions, swaps;
	kvt_time busy;  /* in steps */
	kvt_time stall; /* of that: a step waits for KV */
	unsigned running_max, waiting_max;
	double running_time; /* sequences in steps x seconds */
} kvt_replica_stats;

/* Requests that are there now: waiting to be admitted, with room in HBM, swapped out; and whether a
 * step is under way. */
typedef struct kvt_replica_load {
	unsigned waiting, running, swapped;
	bool stepping;
} kvt_replica_load;

/* Sequences with a prompt to compute that have room at a time, from now on; the setting's at first.
 */
void kvt_replica_set_ahead(kvt_replica *replica, unsigned ahead);

kvt_replica_load kvt_replica_get_load(const kvt_replica *replica);

const kvt_replica_stats *kvt_replica_get_stats(const kvt_replica *replica);

/* Time between tokens, ps, a token each. */
const kvt_histogram *kvt_replica_token_gaps(const kvt_replica *replica);

/* Why nothing goes on although requests are there, for a message: a new string. */
char *kvt_replica_describe(const kvt_replica *replica);

#endif
