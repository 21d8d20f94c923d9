/*
 * replica_tenants.h: who of several tenants a replica serves: who is admitted, whose tokens a step
 * computes, who gives way. Requests of one tenant stay in their order. Where tenants are served as
 * one it only counts. For the files of replica_internal.h.
 */
#ifndef KVT_REPLICA_TENANTS_H
#define KVT_REPLICA_TENANTS_H

#include "sim/fleet/fair_share.h"
#include "sim/fleet/replica_internal.h"

typedef struct kvt_replica_tenant {
	const kvt_tenant_settings *settings;
	kvt_wait_queue queue;
	uint64_t backlog; /* prompt tokens that wait or are being computed */
	double served;    /* tokens admitted, by weight: who has least is next */
	double credit;    /* of a step's tokens, from those before; less than 0: owed */
	double step;      /* tokens of the step that is being made */
	kvt_time time;    /* of steps */
	/* of sequences with room, counted when needed */
	unsigned active, prompts;
	uint64_t held; /* bytes of HBM */
} kvt_replica_tenant;

struct kvt_replica_tenants {
	unsigned n;
	bool is_apart, is_reserved;
	kvt_replica_tenant *tenants;
	kvt_share_claim *claims; /* scratch */
	GPtrArray *ready;        /* scratch: sequences that generate */
	kvt_time token_time;     /* of a prompt token in a full step */
	double context_tokens;   /* prompt tokens that take as long as a decode's KV token */
	uint64_t hbm_bytes;
};

kvt_replica_tenants *kvt_replica_tenants_new(kvt_replica *replica);
void kvt_replica_tenants_free(kvt_replica_tenants *tenants);

static inline bool kvt_replica_is_apart(const kvt_replica *r)
{
	return r->tenants && r->tenants->is_apart;
}

/* The queue in which it waits; how many wait in all. */
kvt_wait_queue *kvt_replica_queue(kvt_replica *replica, const kvt_sequence *sequence);
unsigned kvt_replica_waiting(const kvt_replica *replica);

void kvt_replica_count_backlog(kvt_replica *replica, const kvt_sequence *sequence, uint64_t change);

/* Admits whose turn it is, then makes a step of what each tenant's share allows. */
void kvt_replica_compose_apart(kvt_replica *replica, kvt_step *step, kvt_time *wake);

/* Who gives way for the sequence: itself, or one that is not in the step; NULL: nobody can. */
kvt_sequence *kvt_replica_gives_way(kvt_replica *replica, kvt_sequence *sequence);

/* A step has ended: its time goes to those it was for. */
void kvt_replica_charge_step(kvt_replica *replica, kvt_time took);

#endif
