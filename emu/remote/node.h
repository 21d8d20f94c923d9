/*
 * node.h: the storage node: pages of many clients in a pool of memory that they read one-sided, and
 * behind it in a page store that keeps what was acknowledged. It speaks remote_protocol.h over a
 * fabric.h on a real loop; node_settings.h makes one from a configuration. It listens to no signals
 * and prints nothing.
 *
 * What it promises:
 * - COMMITTED means that the bytes were those that the client's checksums say, and that the store
 *   has them; without a store, that they are in memory until they are discarded.
 * - A page that a lease covers stays where it is, as it is, until the lease has ended; afterwards
 *   its key opens nothing, whoever has the memory then.
 * - Each tenant has a protection domain of its own, and each slab of the pool one tenant at a time:
 *   its keys open nothing over another's connections. Requests name no tenant.
 * - No message crashes it: what is not the protocol ends the connection, what a tenant may not do
 *   is refused, and what it can make the node hold is bounded by its caps.
 * A tenant's own clients trust each other: pages that one writes, another may read and replace.
 */
#ifndef KVT_NODE_H
#define KVT_NODE_H

#include "emu/fabric/fabric.h"
#include "emu/tier/memory_arena.h"
#include "emu/remote/remote_protocol.h"
#include "emu/store/store.h"

typedef struct kvt_node kvt_node;

/* A tenant, and what it may have. */
typedef struct kvt_node_tenant_settings {
	uint32_t number;
	uint8_t key[KVT_REMOTE_KEY];
	uint64_t capacity; /* bytes of its pages */
	uint64_t pool;     /* bytes of the pool, slabs as a whole */
	uint64_t held;     /* of these, that its leases and writes may hold at once */
	double bandwidth;  /* bytes/s that it may fetch and write; 0: no limit */
	uint64_t burst;    /* bytes that it may move at once after a pause */
	unsigned connections, requests, models;
} kvt_node_tenant_settings;

/* The store behind the pool. What it gives stays its own. */
typedef struct kvt_node_store {
	/* The tier of a model's pages; NULL: it can have no more. */
	kvt_tier *(*tier)(void *arg, uint64_t model);
	/* That model's tier is not needed any more; nothing is in flight. */
	void (*release)(void *arg, kvt_tier *tier);
	/* As kvt_store_models and kvt_store_each. */
	unsigned (*models)(void *arg, uint64_t *models, unsigned max);
	void (*each)(void *arg, uint64_t model, void (*run)(void *arg, const kvt_store_run *run),
		void *run_arg);
	void *arg;
} kvt_node_store;

/* Over a tier of uring_tier.h, which must outlive the node. */
kvt_node_store kvt_node_store_over(kvt_tier *tier);

typedef struct kvt_node_settings {
	const char *address; /* to listen at; "": all */
	uint16_t port;       /* 0: any */
	uint64_t pool_bytes, slab_bytes;
	kvt_huge_pages huge;
	bool pinned;
	int numa_node;          /* -1: any */
	kvt_time lease;         /* how long one lasts */
	kvt_time ticket;        /* how long a client may take from RESERVE to COMMIT */
	kvt_time patience;      /* how long a request waits for room in the pool */
	kvt_time drain;         /* how long clients may take to finish */
	uint64_t smallest_page; /* bytes */
	unsigned helpers;       /* threads for checksums; 0: the loop's own does it */
	kvt_connection_settings connection;
	const kvt_node_store *store; /* NULL: memory alone */
	const kvt_node_tenant_settings *tenants;
	unsigned n_tenants;
} kvt_node_settings;

/*
 * Listens. Loop, fabric and store must outlive it; settings need not. The loop keeps running as
 * long as the node does not drain. NULL with an error: no memory, nothing to listen at, ...
 */
kvt_node *kvt_node_new(
	kvt_loop *loop, kvt_fabric *fabric, const kvt_node_settings *settings, GError **error);

uint16_t kvt_node_port(const kvt_node *node);

/* Refuses what is new, waits for what is under way and for leases, at most for the time of the
 * settings, and ends all connections; then `done` is called on the loop. Once. */
void kvt_node_drain(kvt_node *node, void (*done)(void *arg), void *arg);

/* Of a node that has drained, or that no client ever asked. */
void kvt_node_free(kvt_node *node);

/* --- What it has done --- */

enum { KVT_NODE_CAUSES = 12, KVT_NODE_TIMES = 20, KVT_NODE_REFUSALS = 7, KVT_NODE_TYPES = 8 };

/* Names of requests by kvt_remote_type, of refusals, and of causes, NULL where there is none. */
extern const char *const kvt_node_type_names[KVT_NODE_TYPES];
extern const char *const kvt_node_refusal_names[KVT_NODE_REFUSALS];
extern const char *const kvt_node_cause_names[KVT_NODE_CAUSES];

/* Upper ends of the latency histograms' buckets, seconds; the last is INFINITY. */
extern const double kvt_node_times[KVT_NODE_TIMES];

typedef struct kvt_node_counts {
	uint64_t requests[KVT_NODE_TYPES];
	uint64_t errors[KVT_NODE_CAUSES]; /* answers that were not 0 */
	uint64_t leased_bytes;            /* told where they lie in the pool */
	uint64_t written_bytes;           /* written to a client's memory */
	uint64_t store_bytes;             /* read from the store for either */
	uint64_t committed_bytes;         /* acknowledged */
	uint64_t leases, tickets, expired_leases, expired_tickets;
	uint64_t delayed; /* requests that waited for bandwidth */
	uint64_t waited;  /* for room in the pool */
	uint64_t connections, protocol_errors, broken_connections;
} kvt_node_counts;

/* Of a tenant (an index of the settings), what was and what is now. */
typedef struct kvt_node_tenant_state {
	uint32_t number;
	kvt_node_counts counts;
	uint64_t capacity, used, reserved; /* bytes of pages; of writes under way */
	uint64_t pool_bytes, held_bytes;
	unsigned connections, requests, leases, tickets;
} kvt_node_tenant_state;

unsigned kvt_node_tenants(const kvt_node *node);
kvt_node_tenant_state kvt_node_tenant_get(const kvt_node *node, unsigned i);

/* All of it as Prometheus' text. Returns a new string. */
char *kvt_node_metrics(const kvt_node *node);

#endif
