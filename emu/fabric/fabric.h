/*
 * fabric.h: an RDMA network as the remote tier and the storage node see it: memory that a peer may
 * read and write where it knows its key, connections that messages and one-sided transfers go
 * over, all completions on the real loop. emu/fabric/verbs_fabric.c is the one over libibverbs and
 * librdmacm; tests have one within a process. It knows bytes and no pages; what messages mean is
 * remote_protocol.h's.
 *
 * All of one fabric is called on its loop's thread, and nothing completes inline: handlers run on
 * the loop. Whatever becomes of a peer or of the wire, every transfer that was submitted ends,
 * once, within the time that retries take.
 *
 * A transfer under way, and a connection that comes up or goes down, keep kvt_loop_run running. A
 * listener and a connection that is up do not: who waits for a peer or for a message holds the loop
 * himself (kvt_real_loop_hold).
 */
#ifndef KVT_FABRIC_H
#define KVT_FABRIC_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "sim/base/sim_time.h"
#include "sim/core/bandwidth.h"
#include "sim/core/loop.h"

/* Bytes that a connection's opening carries: the one who asks, and the answers. */
enum {
	KVT_FABRIC_HELLO = 40,
	KVT_FABRIC_WELCOME = 128, /* and of a reason to refuse */
};

/* Queue pairs of a connection at most. */
enum { KVT_FABRIC_QUEUES = 16 };

typedef struct kvt_fabric_ops kvt_fabric_ops;

/* A network device on a loop. An implementation embeds this first. */
typedef struct kvt_fabric {
	const kvt_fabric_ops *ops;
} kvt_fabric;

/* A protection domain: a key of memory in one opens nothing over connections of another. */
typedef struct kvt_fabric_domain kvt_fabric_domain;

typedef enum kvt_fabric_access {
	KVT_FABRIC_LOCAL, /* the peer may do nothing with it */
	KVT_FABRIC_REMOTE_READ,
	KVT_FABRIC_REMOTE_WRITE,
	KVT_FABRIC_REMOTE_BOTH,
} kvt_fabric_access;

/* Memory that has been registered, and stays where it is until it is not. */
typedef struct kvt_fabric_region {
	kvt_fabric_domain *domain;
	uint8_t *memory;
	uint64_t bytes;
	uint64_t address; /* as the peer names its first byte */
	uint32_t key; /* that the peer needs; never one that was in use a short time ago. 0: none */
	void *handle; /* the implementation's */
} kvt_fabric_region;

typedef struct kvt_fabric_listener kvt_fabric_listener;
typedef struct kvt_fabric_request kvt_fabric_request; /* of a peer, to be connected */
typedef struct kvt_connection kvt_connection;
typedef struct kvt_transfer kvt_transfer;

typedef enum kvt_transfer_op {
	KVT_TRANSFER_READ,    /* the peer's memory to here */
	KVT_TRANSFER_WRITE,   /* from here to the peer's memory */
	KVT_TRANSFER_MESSAGE, /* to the peer's message handler */
} kvt_transfer_op;

enum { KVT_ANY_QUEUE = -1 };

/* One transfer. It and its memory belong to the caller, and stay where they are until done. */
struct kvt_transfer {
	kvt_transfer_op op;
	unsigned
		priority; /* a class of bandwidth.h: 0 is served first, patience as io_engine.h's */
	int queue;        /* of the connection, or KVT_ANY_QUEUE; those of one queue and class reach
			     the peer in order, a message after the bytes of writes before it */
	void *memory;
	const kvt_fabric_region *region; /* that memory lies in; NULL for messages: it is copied */
	uint64_t length;                 /* > 0 but for messages, which are of at most the
					    connection's message_bytes */
	uint64_t remote_address;
	uint32_t remote_key;
	void (*done)(kvt_transfer *transfer); /* on the loop, once; may submit. NULL for messages:
						 nobody waits for it, submit copies all of it */
	void *arg;
	/* set before done: 0; -EACCES: the peer's memory may not be touched so; -ETIMEDOUT: no
	 * answer; -ECONNRESET: the connection has ended; -EIO others. After one that is not 0 the
	 * connection is going down. */
	int status;
	/* the implementation's while it is under way */
	kvt_transfer *next;
	uint64_t sequence, begun; /* begun: bytes that are under way or have been moved */
	unsigned pieces;          /* of these, under way */
	void *state[2];
};

/* What happens on a connection. All run on the loop; `arg` is the one of accept or connect. */
typedef struct kvt_connection_handlers {
	/* It is up, on both sides. welcome: what the listener's side said, NULL on its own. */
	void (*up)(void *arg, kvt_connection *connection, const void *welcome, size_t bytes);
	/* A message came; its bytes are there until this returns. */
	void (*message)(
		void *arg, kvt_connection *connection, int queue, const void *bytes, size_t length);
	/* It has ended, or never came up; all its transfers have been done. Called once; then, or
	 * later, the owner frees it. status: -ECONNREFUSED with the reason that the peer gave (or
	 * none), -ETIMEDOUT, -ENETUNREACH, -ECONNRESET, 0: one side closed it, or its process
	 * has ended. */
	void (*down)(void *arg, kvt_connection *connection, int status, const void *reason,
		size_t bytes);
} kvt_connection_handlers;

/* What a connection is made with. 0 in a member: the value in brackets. */
typedef struct kvt_connection_settings {
	unsigned queues;        /* queue pairs [1]; the side that connects says how many */
	unsigned depth;         /* transfers under way in a queue at most [64] */
	unsigned messages;      /* receive buffers of a queue, the peer's credit [32] */
	uint32_t message_bytes; /* of the longest message [16 KiB]; sides that differ are refused */
	unsigned retries;       /* of a packet, 1 to 6 [6] */
	kvt_time timeout;       /* for an acknowledgement, about [1 s] */
	kvt_time connect_timeout; /* [5 s] */
} kvt_connection_settings;

struct kvt_fabric_ops {
	const char *name;

	kvt_fabric_domain *(*domain_new)(kvt_fabric *fabric, GError **error);
	/* Nothing of the domain may be left. */
	void (*domain_free)(kvt_fabric_domain *domain);

	/* 0, or a negative errno: -ENOMEM when the system or device allows no more. */
	int (*region_open)(kvt_fabric_domain *domain, void *memory, uint64_t bytes,
		kvt_fabric_access access, kvt_fabric_region *region);
	/* From now on its key opens nothing. No transfer of this side may be under way in it. */
	void (*region_close)(kvt_fabric_region *region);

	/* Listens at the address ("" or NULL: all) and port (0: any; kvt_fabric_port says which).
	 * For each peer `asked` runs, which accepts or refuses, then or later. */
	kvt_fabric_listener *(*listen)(kvt_fabric *fabric, const char *address, uint16_t port,
		void (*asked)(
			void *arg, kvt_fabric_request *request, const void *hello, size_t bytes),
		void *arg, GError **error);
	uint16_t (*listener_port)(const kvt_fabric_listener *listener);
	/* What was asked and not answered is refused. */
	void (*listener_free)(kvt_fabric_listener *listener);
	/* "10.0.0.1:4791" */
	const char *(*request_peer)(const kvt_fabric_request *request);
	/* The request has ended with either. NULL: it could not be, and nothing more happens. */
	kvt_connection *(*accept)(kvt_fabric_request *request, kvt_fabric_domain *domain,
		const kvt_connection_settings *settings, const void *welcome, size_t bytes,
		const kvt_connection_handlers *handlers, void *arg);
	void (*refuse)(kvt_fabric_request *request, const void *reason, size_t bytes);

	/* Begins to connect; up or down follows. NULL with an error: the address is none, or no
	 * device reaches it. */
	kvt_connection *(*connect)(kvt_fabric *fabric, kvt_fabric_domain *domain,
		const char *address, uint16_t port, const kvt_connection_settings *settings,
		const void *hello, size_t bytes, const kvt_connection_handlers *handlers, void *arg,
		GError **error);
	/* Never refuses: transfers wait, in their class, for room in the queue and for the peer's
	 * credit; after the connection's end, they are done with -ECONNRESET. */
	void (*submit)(kvt_connection *connection, kvt_transfer *transfer);
	/* Gives what was submitted to the device now, not between batches of callbacks. */
	void (*commit)(kvt_connection *connection);
	unsigned (*queues)(const kvt_connection *connection);
	/* Ends it: what is under way is done, with -ECONNRESET where it was not already; then down.
	 */
	void (*disconnect)(kvt_connection *connection);
	/* At any time. Before down it ends at once, as a process that ends does: none of its
	 * handlers and of its transfers' done run any more, and nothing moves in their memory. */
	void (*connection_free)(kvt_connection *connection);

	/* Everything of the fabric must have been freed. */
	void (*free)(kvt_fabric *fabric);
};

#endif
