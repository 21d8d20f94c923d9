/* memory_fabric_internal.h: what memory_fabric.c (hosts, memory, who connects) and
 * memory_connection.c (transfers and ends of connections) share. For these alone. */
#ifndef MEMORY_FABRIC_INTERNAL_H
#define MEMORY_FABRIC_INTERNAL_H

#include "tests/unit/memory_fabric.h"

typedef struct memory_host memory_host;

struct memory_wire {
	kvt_loop *loop;
	GPtrArray *hosts;
	GHashTable *regions; /* by key */
	/* What events of the loop may still name stays until the wire goes. */
	GPtrArray *connections, *requests;
	GHashTable *deliveries;
	kvt_time delay;
	unsigned flip_every, until_flip;
	uint32_t last_key;
	uint16_t last_port;
	memory_wire_counts counts;
};

/* A call that a stopped host has not had yet. */
typedef struct held_call {
	kvt_callback callback;
	void *arg;
} held_call;

struct memory_host {
	kvt_fabric base;
	memory_wire *wire;
	char *address, *second;
	GPtrArray *listeners, *connections;
	unsigned domains, regions_left;
	bool cut, stopped, killed;
	GArray *held;
};

struct kvt_fabric_domain {
	memory_host *host;
	unsigned regions, connections;
};

typedef struct memory_region {
	kvt_fabric_domain *domain;
	uint8_t *memory;
	uint64_t bytes, address;
	uint32_t key;
	kvt_fabric_access access;
	unsigned under_way; /* transfers of this side */
} memory_region;

/* One transfer on its way; a message that nobody waits for has its own copy. */
typedef struct memory_flight {
	kvt_transfer *transfer;
	kvt_transfer own;
	uint8_t *message;      /* bytes of one */
	memory_region *region; /* of the others */
	kvt_time due;
	unsigned attempts;
	int status;
} memory_flight;

/* Flights in order, of which the first is tried when it is due. */
typedef struct memory_leg {
	GQueue flights;
	kvt_event event;
	struct memory_queue *queue;
} memory_leg;

typedef struct memory_queue {
	kvt_connection *connection;
	memory_leg there, back;
	kvt_time last; /* when the flight before is due */
	unsigned credit;
} memory_queue;

typedef enum memory_state {
	CONNECTION_OPENING,
	CONNECTION_UP,
	CONNECTION_ENDING,
	CONNECTION_DOWN,
} memory_state;

struct kvt_connection {
	memory_host *host;
	kvt_fabric_domain *domain;
	kvt_connection_settings settings;
	kvt_connection_handlers handlers;
	void *arg;
	kvt_connection *peer;        /* NULL until there is one */
	kvt_fabric_request *request; /* of ours, not answered yet */
	bool freed;                  /* by its owner */
	memory_state state;
	memory_queue queues[KVT_FABRIC_QUEUES];
	GQueue classes[KVT_PRIORITY_CLASSES]; /* flights that wait for a queue */
	unsigned waited[KVT_PRIORITY_CLASSES];
	unsigned turn; /* the queue to look at first */
	kvt_event pump, deadline;
	int end_status;
	uint8_t said[KVT_FABRIC_WELCOME]; /* welcome or reason */
	size_t said_bytes;
	bool heard; /* said is one */
	char target[64];
	uint16_t port;
};

/* memory_fabric.c */

/* Whether the host's part of the call must wait; it comes when the host goes on. */
bool memory_host_hold(memory_host *host, kvt_callback callback, void *arg);
/* Whether nothing passes between two hosts. */
bool memory_hosts_cut(const memory_host *a, const memory_host *b);
/* The open region of that key which has those bytes; NULL. */
memory_region *memory_region_find(
	memory_wire *wire, uint32_t key, uint64_t address, uint64_t bytes);

/* memory_connection.c */

kvt_connection *memory_connection_new(memory_host *host, kvt_fabric_domain *domain,
	const kvt_connection_settings *settings, const kvt_connection_handlers *handlers,
	void *arg);
/* Runs its `up` as soon as the loop comes to it. */
void memory_connection_rise(kvt_connection *connection, kvt_time when);
/* It ends: all transfers, then down with that status, from the loop. No more than once. */
void memory_connection_end(kvt_connection *connection, int status);
/* It ends, and its peer hears of it where it can. */
void memory_connection_part(kvt_connection *connection, int status, int peer_status);

/* Its first flight is looked at when it is due. */
void memory_leg_arm(memory_leg *leg);

void memory_submit(kvt_connection *connection, kvt_transfer *transfer);
void memory_commit(kvt_connection *connection);
void memory_connection_free(kvt_connection *connection);

#endif
