/*
 * verbs_fabric_internal.h: what the files of the fabric over verbs share. verbs_fabric.c has the
 * device, its completion queues and the loop's sources; _memory.c domains and regions; _open.c how
 * connections come up, _listen.c where they are asked for; _connection.c how they carry transfers
 * and end; _queue.c one queue pair.
 */
#ifndef KVT_VERBS_FABRIC_INTERNAL_H
#define KVT_VERBS_FABRIC_INTERNAL_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "emu/fabric/key_quarantine.h"
#include "emu/loop/real_loop.h"
#include "emu/fabric/verbs_fabric.h"

enum {
	/* Private data of a request: 16 of ours, then the hello. */
	VERBS_HEADER = 16,
	/* Receive buffers beyond those that the peer has credit for: it sends an update of credits
	 * only when half of them are owed, so at most two are not yet read. */
	VERBS_UPDATES = 2,
	VERBS_INLINE = 220,  /* bytes that are asked for */
	VERBS_PRIVATE = 256, /* bytes that an event may bring */
	/* Private data of ours begins with these two; that of a refusal has four bytes in front. */
	VERBS_MAGIC = 0x4b,
	VERBS_VERSION = 1,
	VERBS_REFUSAL = 4,
};

typedef struct verbs_fabric verbs_fabric;
typedef struct verbs_queue verbs_queue;

/* An event of the connection manager, copied and acknowledged. */
typedef struct verbs_event {
	enum rdma_cm_event_type type;
	int status;
	struct rdma_cm_id *id;
	uint8_t reads_here, reads_there; /* of a request: reads that each side may have under way */
	uint8_t retries;                 /* of a request */
	uint8_t private_bytes;
	uint8_t private_data[VERBS_PRIVATE];
} verbs_event;

/* What an id of the connection manager belongs to: first in it, and the id's context. */
typedef struct verbs_owner {
	void (*on_event)(struct verbs_owner *owner, const verbs_event *event);
} verbs_owner;

/* Completion queues are shared, and never promised more entries than they have. */
typedef struct verbs_cq {
	struct ibv_cq *cq;
	unsigned entries, promised;
	bool armed; /* the channel will tell, or has */
	struct verbs_cq *next;
} verbs_cq;

struct verbs_fabric {
	kvt_fabric base;
	kvt_loop *loop;
	kvt_verbs_settings settings; /* its strings are gone */
	struct rdma_event_channel *events;
	struct ibv_context **contexts; /* librdmacm's, of all devices */
	struct ibv_context *device;    /* one of them */
	struct ibv_device_attr limits;
	struct ibv_comp_channel *channel;
	verbs_cq *cqs;
	kvt_real_source event_source, completion_source;
	int epoll, timer;     /* of the source of events: the channel's, and the keepalive's */
	kvt_time events_seen; /* when they were looked for */
	unsigned looks;       /* of the loop */
	GPtrArray *up;        /* connections */
	kvt_key_quarantine *keys;
	unsigned users; /* listeners, requests and connections */
	unsigned domains;
	struct kvt_connection *dirty;   /* those with something to post */
	struct kvt_connection *forming; /* accepted, and not yet up */
	GPtrArray *farewells;           /* ids that have yet to say good-bye */
	uint64_t scheduled;             /* callbacks, ever */
	kvt_verbs_stats stats;
};

struct kvt_fabric_domain {
	verbs_fabric *fabric;
	struct ibv_pd *pd;
};

/* A work request at the device, or a receive buffer. */
typedef struct verbs_slot {
	verbs_queue *queue;
	bool receive;
	kvt_transfer *transfer; /* NULL: an update of credits, or a probe */
	uint32_t length;
	int buffer; /* that a message was copied to, -1: none */
	struct verbs_slot *next;
} verbs_slot;

typedef struct verbs_class {
	kvt_transfer *first, *last;
} verbs_class;

typedef enum verbs_queue_state {
	VERBS_QUEUE_NONE, /* has no id */
	VERBS_QUEUE_OPENING,
	VERBS_QUEUE_UP,
} verbs_queue_state;

struct verbs_queue {
	verbs_owner owner;
	struct kvt_connection *connection;
	unsigned index;
	verbs_queue_state state;
	struct rdma_cm_id *id;
	int resolve_ms; /* that the kernel had to resolve the peer's address */
	struct ibv_qp *qp;
	verbs_cq *cq;
	unsigned max_reads, max_inline;
	verbs_class classes[KVT_PRIORITY_CLASSES]; /* transfers for this queue alone */
	unsigned passed[KVT_PRIORITY_CLASSES];
	/* send side: slots from tail to head are at the device, or in the chain */
	verbs_slot *sends;
	unsigned n_sends;
	uint64_t head, tail;
	unsigned taken, reads; /* slots of transfers, of reads */
	uint64_t bytes;        /* of transfers under way */
	bool updating;         /* an update of credits, or a probe, is under way */
	bool active;           /* something has been heard since the last round of probes */
	struct ibv_send_wr *chain;
	struct ibv_sge *pieces;
	unsigned n_chain;
	int *free_buffers;
	unsigned n_free_buffers;
	unsigned credits; /* messages that the peer has room for */
	/* receive side */
	verbs_slot *receives;
	unsigned n_receives;
	unsigned owed;            /* buffers given back that the peer does not know of */
	verbs_slot *early, *late; /* messages that came before the connection was up */
	uint8_t *memory;          /* receive buffers, then copies of messages */
};

typedef enum verbs_state {
	VERBS_OPENING,
	VERBS_UP,
	VERBS_CLOSING, /* its end is scheduled */
	VERBS_ENDED,   /* nothing is at the device any more */
	VERBS_DOWN,
} verbs_state;

/* A callback on its way. */
typedef struct verbs_later {
	kvt_event event;
	kvt_callback callback;
	void *arg;
} verbs_later;

struct kvt_connection {
	verbs_fabric *fabric;
	kvt_fabric_domain *domain;
	kvt_connection_settings settings; /* complete */
	kvt_connection_handlers handlers;
	void *arg;
	verbs_state state;
	bool connects; /* this side does */
	bool quiet;    /* this side has disconnected: nothing that comes is wanted */
	int status;    /* of the end */
	uint64_t group;
	unsigned n_queues, n_up;
	verbs_queue *queues;
	kvt_event timer;
	struct sockaddr_storage peer;
	/* until it is up: hello or welcome, to be sent or received; then a refusal's reason */
	uint8_t said[KVT_FABRIC_WELCOME];
	size_t said_bytes;
	bool has_reason;
	verbs_class classes[KVT_PRIORITY_CLASSES]; /* transfers for any queue */
	unsigned turn;                             /* the queue that is filled first */
	uint64_t sequence, outstanding;
	uint64_t waiting; /* transfers in classes: not all of them has been given to the device */
	kvt_transfer *letters; /* free copies of messages that nobody waits for */
	uint8_t *memory;
	size_t memory_bytes;
	struct ibv_mr *mr;
	bool dirty;
	struct kvt_connection *next_dirty, *next_forming;
	GArray *calls;       /* verbs_later: scheduled, in the order in which they will run */
	unsigned first_call; /* of these, that has not run */
};

/* In front of the private data of a request, or of its answer. */
typedef struct verbs_header {
	unsigned queue, queues;
	unsigned bytes;    /* that follow it */
	unsigned messages; /* receive buffers */
	uint32_t message_bytes;
	uint64_t group;
} verbs_header;

/* --- verbs_fabric.c --- */

/* Schedules a callback for now. */
kvt_event verbs_call(verbs_fabric *fabric, kvt_callback callback, void *arg);
/* A completion queue with room for so many entries, which are promised; NULL with errno. */
verbs_cq *verbs_cq_take(verbs_fabric *fabric, unsigned entries);
void verbs_cq_give_back(verbs_fabric *fabric, verbs_cq *cq, unsigned entries);
/* Looks at all completions that are there. */
void verbs_fabric_reap(verbs_fabric *fabric);
/* A listener, request or connection more or less. */
void verbs_fabric_use(verbs_fabric *fabric, int change);
/* Destroys the id when the peer knows of its end. */
void verbs_fabric_part(verbs_fabric *fabric, struct rdma_cm_id *id);
/* The connection is up, or no more: only then are its queues tried when nothing happens. */
void verbs_fabric_set_up(struct kvt_connection *connection, bool up);
void verbs_fabric_set_dirty(struct kvt_connection *connection);
bool verbs_address(const char *address, uint16_t port, bool listens,
	struct sockaddr_storage *result, GError **error);

/* --- verbs_fabric_memory.c --- */

kvt_fabric_domain *verbs_domain_new(kvt_fabric *fabric, GError **error);
void verbs_domain_free(kvt_fabric_domain *domain);
int verbs_region_open(kvt_fabric_domain *domain, void *memory, uint64_t bytes,
	kvt_fabric_access access, kvt_fabric_region *region);
void verbs_region_close(kvt_fabric_region *region);

/* --- verbs_fabric_open.c --- */

kvt_connection *verbs_connect(kvt_fabric *fabric, kvt_fabric_domain *domain, const char *address,
	uint16_t port, const kvt_connection_settings *settings, const void *hello, size_t bytes,
	const kvt_connection_handlers *handlers, void *arg, GError **error);
/* False when it is none of ours, or says what cannot be, or brings more than `most` bytes. */
bool verbs_header_read(const verbs_event *event, unsigned most, verbs_header *header);
/* Makes the queue pair at the queue's id; 0 or a negative errno. */
int verbs_queue_make(verbs_queue *queue);
/* What to connect or accept with; writes the private data, of VERBS_PRIVATE bytes. */
struct rdma_conn_param verbs_queue_parameters(const verbs_queue *queue, uint8_t *private_data);
void verbs_queue_event(verbs_owner *owner, const verbs_event *event);
void verbs_connection_start_timer(kvt_connection *connection);
/* Frees one of which the peer knows nothing; no handler is called. */
void verbs_connection_abandon(kvt_connection *connection);
/* The queue's way is open, at this end; the last one brings the connection up. */
void verbs_queue_is_up(verbs_queue *queue);

/* --- verbs_fabric_listen.c --- */

kvt_fabric_listener *verbs_listen(kvt_fabric *fabric, const char *address, uint16_t port,
	void (*asked)(void *arg, kvt_fabric_request *request, const void *hello, size_t bytes),
	void *arg, GError **error);
uint16_t verbs_listener_port(const kvt_fabric_listener *listener);
void verbs_listener_free(kvt_fabric_listener *listener);
const char *verbs_request_peer(const kvt_fabric_request *request);
kvt_connection *verbs_accept(kvt_fabric_request *request, kvt_fabric_domain *domain,
	const kvt_connection_settings *settings, const void *welcome, size_t bytes,
	const kvt_connection_handlers *handlers, void *arg);
void verbs_refuse(kvt_fabric_request *request, const void *reason, size_t bytes);

/* --- verbs_fabric_connection.c --- */

/* A new one, with its memory registered; NULL with errno. */
kvt_connection *verbs_connection_new(kvt_fabric_domain *domain,
	const kvt_connection_settings *settings, unsigned queues,
	const kvt_connection_handlers *handlers, void *arg);
/* Schedules a callback for now, which does not run once the connection is freed. */
void verbs_connection_call(kvt_connection *connection, kvt_callback callback, void *arg);
/* Lets go of its memory: nothing of it is at the device. */
void verbs_connection_release(kvt_connection *connection);
/* Gives the device what can be given. */
void verbs_connection_fill(kvt_connection *connection);
/* All of the transfer has been moved, or what has not never will be. */
void verbs_connection_finish(kvt_connection *connection, kvt_transfer *transfer);
/* Begins its end, for this reason, unless that has begun. */
void verbs_connection_close(kvt_connection *connection, int status);
void verbs_submit(kvt_connection *connection, kvt_transfer *transfer);
void verbs_commit(kvt_connection *connection);
unsigned verbs_queues(const kvt_connection *connection);
void verbs_disconnect(kvt_connection *connection);
void verbs_connection_free(kvt_connection *connection);

/* --- verbs_fabric_queue.c --- */

void verbs_class_append(verbs_class *class, kvt_transfer *transfer);
/* Bytes of receive and send buffers of a queue. */
size_t verbs_queue_memory(const kvt_connection_settings *settings);
void verbs_queue_init(verbs_queue *queue, kvt_connection *connection, unsigned index);
/* Makes its queue pair at its id, with receive buffers there; 0 or a negative errno. */
int verbs_queue_open(verbs_queue *queue);
/* Nothing of it is at the device any more after this and a look at the completions. */
void verbs_queue_close(verbs_queue *queue);
/* What is left ends with the status. */
void verbs_queue_drop(verbs_queue *queue, int status);
void verbs_queue_free(verbs_queue *queue);
/* Adds one work request to the chain; false: there is none, or no room. */
bool verbs_queue_add(verbs_queue *queue);
/* Asks the peer's device for a sign of life, where nothing else has. */
void verbs_queue_probe(verbs_queue *queue);
/* Gives the chain to the device. */
void verbs_queue_post(verbs_queue *queue);
void verbs_queue_complete(const struct ibv_wc *completion);
/* Messages that came too early are delivered. */
void verbs_queue_deliver_early(verbs_queue *queue);

#endif
