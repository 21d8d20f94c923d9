/*
 * node_fixture.h: a storage node and clients of it on one loop and a wire within the process, for
 * tests: clients speak the protocol record by record, and may say anything.
 */
#ifndef NODE_FIXTURE_H
#define NODE_FIXTURE_H

#include "emu/remote/node.h"
#include "sim/tier/fault_tier.h"
#include "tests/unit/memory_fabric.h"

enum { NODE_SLAB = 64 << 10, NODE_PAGE = 4096, NODE_MODEL = 77, NODE_MEMORY = 1 << 20 };

/* What a node is made with; begin with node_setup_default. */
typedef struct node_setup {
	kvt_node_settings settings;
	kvt_node_tenant_settings tenants[3]; /* numbers 1, 2, 3; keys of that byte */
	bool store;                          /* else memory alone */
	uint64_t store_capacity, store_segment;
	const char *folder;        /* of a store that is there; NULL: a new one, which goes */
	kvt_fault_settings faults; /* of the store */
	/* Puts a tier of the test's around the store's, which it then owns; may be NULL. */
	kvt_tier *(*wrap)(void *arg, kvt_tier *inner);
	void *wrap_arg;
} node_setup;

typedef struct node_host {
	node_setup setup;
	kvt_loop *loop;
	memory_wire *wire;
	kvt_fabric *far, *near; /* the node's host; the clients' */
	char *folder;           /* of the store; goes with this unless it was given */
	kvt_tier *tier;
	kvt_node_store store;
	kvt_node *node; /* NULL: of another process, or freed already */
	const char *address;
	uint16_t port;
	bool drained;
} node_host;

node_setup node_setup_default(void);

node_host *node_host_new(const node_setup *setup);
/* Clients alone, of a node that another process is: over the fabric, which goes with the loop when
 * this is freed. */
node_host *node_host_far(kvt_loop *loop, kvt_fabric *near, const char *address, uint16_t port);
/* Drains it, and frees it. */
void node_host_free(node_host *host);

/* Runs the loop until *flag, at most 20 s. */
void node_host_until(node_host *host, const bool *flag);
/* Runs it for so long. */
void node_host_run(node_host *host, kvt_time time);

kvt_node_tenant_state node_host_tenant(const node_host *host, uint32_t number);
uint64_t node_host_errors(const node_host *host, uint32_t number, const char *cause);

/* An answer, with its arrays. */
typedef struct node_answer {
	kvt_remote_record record;
	kvt_remote_piece pieces[KVT_REMOTE_PIECES];
	kvt_extent runs[KVT_REMOTE_RUNS];
	uint64_t checksums[KVT_REMOTE_PAGES];
} node_answer;

typedef struct node_client {
	node_host *host;
	uint32_t tenant;
	kvt_connection *connection;
	kvt_fabric_domain *domain;
	uint8_t *memory; /* NODE_MEMORY bytes that the node may write to */
	kvt_fabric_region region;
	bool up, down, ended; /* ended: either */
	int status;           /* of down */
	kvt_remote_refusal refusal;
	kvt_remote_welcome welcome;
	uint64_t next_id;
	GQueue answers; /* node_answer, in the order of arrival */
	bool answered;  /* there is one */
} node_client;

/* Connects with the tenant's own key, or with any hello; waits until it is up or refused. */
node_client *node_client_new(node_host *host, uint32_t tenant, uint64_t model);
node_client *node_client_hello(node_host *host, const void *hello, size_t bytes);
/* Ends it, and waits until the node knows. */
void node_client_free(node_client *client);

/* Bytes of a message. */
void node_client_say(node_client *client, const void *bytes, size_t length);
/* A record, with the next id, which is returned. */
uint64_t node_client_send(node_client *client, kvt_remote_record record);
/* The next answer, the caller's to g_free; NULL: the connection has ended. */
node_answer *node_client_wait(node_client *client);
/* Both, of a connection that lives; and for those of which only the status counts: -ECONNRESET
 * when it does not. */
node_answer *node_client_ask(node_client *client, kvt_remote_record record);
int node_client_status(node_client *client, kvt_remote_record record);

/* Moves bytes between the client's memory and the node's: the status of the transfer. */
int node_client_read(
	node_client *client, uint64_t offset, uint64_t address, uint32_t key, uint64_t length);
int node_client_write(
	node_client *client, uint64_t offset, uint64_t address, uint32_t key, uint64_t length);

kvt_extent node_pages(uint64_t first, uint64_t n);

/* RESERVE, WRITE of pages that say who wrote what, COMMIT: the first status that is not 0. */
int node_client_put(node_client *client, kvt_extent pages, uint8_t seed);
/* FETCH, and READ of what was leased: the status, or 0, when every page is what a put with that
 * seed wrote; -EBADMSG when not. direct: the client names memory. Leases are released. */
int node_client_get(node_client *client, kvt_extent pages, uint8_t seed, bool direct);

/* FETCH without memory: what it was answered, of one piece, under a lease. */
node_answer *node_client_lease(node_client *client, kvt_extent pages);
/* COMMIT of what RESERVE gave room for, with the checksums of the pages at the beginning of the
 * client's memory: the status. */
int node_client_commit(node_client *client, const node_answer *room, kvt_extent pages);

/* Whether all of the run at `memory` is what a put with that seed wrote. */
bool node_pages_are(const uint8_t *memory, kvt_extent pages, uint8_t seed);
void node_pages_make(uint8_t *memory, kvt_extent pages, uint8_t seed);

#endif
