/*
 * node_internal.h: what the files of the storage node share: node.c (the node, its models, drain),
 * node_session.c (connections and messages), node_tenant.c (caps and queues), node_lease.c (leases
 * and tickets), node_fetch.c, node_write.c, node_list.c and node_metrics.c. For these alone.
 */
#ifndef KVT_NODE_INTERNAL_H
#define KVT_NODE_INTERNAL_H

#include "emu/loop/helper_pool.h"
#include "emu/remote/node.h"
#include "emu/remote/slab_pool.h"
#include "sim/tier/page_map.h"
#include "sim/tier/resubmit.h"

typedef struct node_session node_session;
typedef struct node_request node_request;
typedef struct node_lease node_lease;
typedef struct node_ticket node_ticket;

/* Pages of one model, of all tenants. */
typedef struct node_model {
	uint64_t model;
	kvt_tier *tier; /* NULL: there is no store */
	kvt_resubmit queue;
	kvt_page_map *pages; /* that are stored */
	uint64_t bytes;
	unsigned sessions;
	node_request *reading; /* requests that read from the store */
} node_model;

/* What a tenant has of a model. */
typedef struct node_share {
	node_model *model;
	uint64_t bytes;
	unsigned sessions;
} node_share;

typedef struct node_queue {
	node_request *first, *last;
} node_queue;

typedef struct node_tenant {
	kvt_node *node;
	kvt_node_tenant_settings settings;
	kvt_fabric_domain *domain;
	uint64_t used, reserved;
	unsigned connections, requests, leases, tickets;
	GArray *shares; /* node_share: of models that it has pages or connections of */
	/* The bucket: requests wait while it is not above 0. */
	double tokens;
	kvt_time filled;
	unsigned passed; /* requests of higher classes since one of the lowest that waits went */
	node_queue delayed[KVT_PRIORITY_CLASSES];
	kvt_event timer;
	kvt_node_counts counts;
} node_tenant;

/* A slab's memory as the tenant's clients may touch it. */
typedef struct node_slab {
	kvt_fabric_region read, write;
	bool writable;    /* `write` is open */
	unsigned tickets; /* blocks that are to be written to */
} node_slab;

struct node_lease {
	uint64_t id; /* first: the key of the table */
	node_session *session;
	kvt_slab *slab;
	kvt_time end;
	node_lease *earlier, *later; /* of all, in the order of their end */
	node_lease *previous, *next; /* of the session's */
};

/* Room that a client writes to, from RESERVE to the answer to its COMMIT. */
struct node_ticket {
	uint64_t id; /* first: the key of the table */
	node_session *session;
	kvt_store_run run;
	GPtrArray *blocks; /* kvt_slab_block, each with a hold */
	unsigned priority;
	bool committing;
	kvt_time end;
	node_ticket *earlier, *later;
	node_ticket *previous, *next;
};

/* Pages that lie together, of a request's. */
typedef struct node_part {
	kvt_slab_piece piece; /* its slab is held */
	bool staged;          /* read for this request */
	kvt_transfer transfer;
	node_request *request;
} node_part;

/* A request that is answered, until the answer is on its way. */
struct node_request {
	node_session *session;
	kvt_remote_type type;
	uint64_t id;
	unsigned priority;
	int queue;
	kvt_store_run run;
	uint64_t address, bytes;
	uint32_t key;
	kvt_time arrived, waiting; /* waiting: for room, since then; 0: it did not have to */
	GArray *parts;             /* node_part, in page order */
	GPtrArray *blocks;         /* kvt_slab_block: for pages of the store's */
	node_ticket *ticket;
	kvt_io io;
	kvt_extent *extents;
	void **memory;
	kvt_helper_task task;
	bool bad, stale;  /* stale: pages of it were replaced or discarded meanwhile */
	unsigned pending; /* transfers, the answer among them */
	kvt_transfer answer;
	uint8_t *said;                         /* the answer's bytes */
	node_request *next;                    /* of a queue */
	node_request *read_before, *read_next; /* of the model's */
};

struct node_session {
	kvt_node *node;
	node_tenant *tenant;
	node_model *model;
	kvt_connection *connection; /* NULL: it has ended */
	bool ending;                /* it was told to */
	unsigned requests;
	node_lease *leases;
	node_ticket *tickets;
	unsigned n_leases;
	GArray *listing; /* kvt_extent; what LIST gives out */
	node_session *previous, *next;
};

struct kvt_node {
	kvt_loop *loop;
	kvt_fabric *fabric;
	kvt_node_settings settings; /* without what it points at, but for the store's */
	kvt_node_store store;
	bool has_store;
	kvt_fabric_listener *listener;
	uint16_t port;
	kvt_slab_pool *pool;
	kvt_helper_pool *helpers;
	node_tenant *tenants;
	unsigned n_tenants;
	GPtrArray *models;
	node_session *sessions;
	GHashTable *leases, *tickets;
	uint64_t next_lease, next_ticket;
	node_lease *oldest_lease, *newest_lease;
	node_ticket *oldest_ticket, *newest_ticket;
	kvt_event timer; /* for the first of these to end, at timer_at */
	kvt_time timer_at;
	node_queue waiting[KVT_PRIORITY_CLASSES]; /* for room in the pool */
	kvt_event retry, give_up;
	bool draining, drained;
	kvt_event drain_limit, drain_check;
	void (*drain_done)(void *arg);
	void *drain_arg;
	kvt_remote_reader reader;
	uint64_t latency[KVT_NODE_TYPES][KVT_NODE_TIMES];
	double latency_sum[KVT_NODE_TYPES];
	uint64_t strange_hellos; /* of no tenant */
	uint64_t refused[KVT_NODE_REFUSALS];
	uint64_t region_errors;
};

static inline kvt_slab_pool *node_pool(const node_request *request)
{
	return request->session->node->pool;
}

static inline void node_queue_push(node_queue *queue, node_request *request)
{
	request->next = NULL;
	*(queue->first ? &queue->last->next : &queue->first) = request;
	queue->last = request;
}

static inline node_request *node_queue_pop(node_queue *queue)
{
	node_request *request = queue->first;
	if (request)
		queue->first = request->next;
	return request;
}

/* --- node.c --- */

/* The model's, made when there is none; NULL: there can be none more. */
node_model *kvt_node_model(kvt_node *node, uint64_t model);
/* It goes when nobody needs it. */
void kvt_node_model_check(kvt_node *node, node_model *model);
/* Moves the pages of the blocks from or to the store: io.op says which. */
void kvt_node_submit(node_request *request, GPtrArray *blocks, void (*done)(kvt_io *io));
/* Goes on with draining, soon. */
void kvt_node_check_drain(kvt_node *node);
/* Slabs may have become idle: requests that wait are tried again, soon. */
void kvt_node_room(kvt_node *node);
/* The request waits for room, or has waited long enough and is refused. */
void kvt_node_wait(node_request *request);
/* Forgets pages of the run that the store no longer has. */
void kvt_node_forget_lost(const node_session *session, const kvt_extent *pages);

/* --- node_session.c --- */

/* Somebody wants to connect (fabric.h's `asked`). */
void kvt_node_asked(void *arg, kvt_fabric_request *request, const void *hello, size_t bytes);
/* Sends the answer, whose type, id and priority are filled in here; the request ends with it. */
void kvt_node_answer(node_request *request, kvt_remote_record *record);
/* The same for one that has nothing but a status. */
void kvt_node_refuse(node_request *request, int status);
/* A transfer, or the answer, has ended: with the last the request has. */
void kvt_node_settle(node_request *request);
/* Ends the connection. */
void kvt_node_end_session(node_session *session);

/* --- node_tenant.c --- */

node_tenant *kvt_node_tenant_find(kvt_node *node, uint32_t number);
/* Begins a FETCH or RESERVE, now or when the tenant's bandwidth allows; refuses one of more bytes
 * than a slab. */
void kvt_node_admit(node_request *request);
/* Begins it now, for the first time or again. */
void kvt_node_begin(node_request *request);
/* Counts an answer. */
void kvt_node_count(node_tenant *tenant, const node_request *request, int status);
/* What the tenant has of the model, made when there is none; NULL: it may have no more models. */
node_share *kvt_node_share(node_tenant *tenant, node_model *model);
/* It goes when there is nothing left of it. */
void kvt_node_share_check(node_tenant *tenant, node_model *model);
/* Pages are now stored, or no longer. */
void kvt_node_stored(node_tenant *tenant, node_model *model, const kvt_extent *pages);
void kvt_node_unstored(node_tenant *tenant, node_model *model, const kvt_extent *pages);

/* --- node_lease.c --- */

/* NULL: the tenant may not have one more. Takes a hold of its own. */
node_lease *kvt_node_lease(node_session *session, kvt_slab *slab);
void kvt_node_lease_end(node_lease *lease);
/* The blocks, with a hold each, and the claim of the run's page size become the ticket's. */
node_ticket *kvt_node_ticket(node_request *request, GPtrArray *blocks);
/* A block of the slab's, counted in its state's tickets, is not to be written to any more. */
void kvt_node_unwrite(kvt_node *node, kvt_slab *slab);
/* Gives the room up; not while it is committing. */
void kvt_node_ticket_end(node_ticket *ticket);
/* Sets the timer for the first that ends. */
void kvt_node_set_timer(kvt_node *node);
/* The pool's hooks. */
int kvt_node_slab_opened(void *arg, kvt_slab *slab);
void kvt_node_slab_sealed(void *arg, kvt_slab *slab);
void kvt_node_slab_closed(void *arg, kvt_slab *slab);

/* --- node_fetch.c, node_write.c, node_list.c --- */

void kvt_node_fetch(node_request *request);
/* Reads in flight of these pages must not be kept in the pool. */
void kvt_node_overtake(const node_session *session, const kvt_extent *pages);
void kvt_node_reserve(node_request *request);
void kvt_node_commit(node_request *request, const kvt_remote_record *record);
void kvt_node_discard(node_request *request);
void kvt_node_list(node_request *request, uint64_t cursor);

#endif
