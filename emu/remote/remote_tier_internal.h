/*
 * remote_tier_internal.h: what the files of the remote tier share: remote_options.c (its
 * configuration), remote_tier.c (operations),
 * remote_link.c (a tenant's connection), remote_requests.c (what is said over it), remote_leases.c
 * (where pages lie), remote_parts.c (pieces of I/Os on their way), remote_read.c and
 * remote_write.c. For these alone.
 */
#ifndef KVT_REMOTE_TIER_INTERNAL_H
#define KVT_REMOTE_TIER_INTERNAL_H

#include "emu/loop/helper_pool.h"
#include "emu/remote/remote_tier.h"
#include "emu/store/store_spans.h"
#include "sim/tier/page_store.h"

typedef struct remote_tier remote_tier;
typedef struct remote_link remote_link;
typedef struct remote_io remote_io;
typedef struct remote_part remote_part;
typedef struct remote_request remote_request;

/* Something that was asked and is not answered. */
struct remote_request {
	remote_link *link;
	kvt_remote_type answer; /* its type */
	uint64_t id;            /* 0: not under way */
	kvt_time sent;
	/* record: NULL when the connection went; status: the record's, or why there is none */
	void (*answered)(remote_request *request, const kvt_remote_record *record, int status);
	void *arg;
	remote_request *earlier, *later;
};

/* --- Where pages lie --- */

/* Pages under a lease. */
typedef struct remote_grant {
	uint64_t lease;
	kvt_time expires;
	uint64_t address;
	uint32_t key;
	uint64_t first_page, n_pages, page_bytes;
	uint64_t cached; /* pages that are found by it */
	unsigned pins;   /* parts that read by it */
	struct remote_layer *layer;
	struct remote_grant *earlier, *later; /* that are found */
	uint64_t checksums[];
} remote_grant;

typedef struct remote_layer {
	uint64_t key; /* first: the table's */
	kvt_extent all;
	uint64_t changes; /* how often its pages became others */
	kvt_store_spans grants;
} remote_layer;

/* --- A tenant's connection --- */

typedef enum remote_state {
	REMOTE_NEW, /* never asked for */
	REMOTE_CONNECTING,
	REMOTE_LISTING,
	REMOTE_UP,
	REMOTE_ENDING,
	REMOTE_DOWN,
} remote_state;

/* Records that wait to be sent in one message. */
typedef struct remote_message {
	uint8_t *bytes; /* KVT_REMOTE_MESSAGE */
	size_t length;
} remote_message;

struct remote_link {
	remote_tier *tier;
	kvt_remote_tenant tenant; /* the node's */
	uint32_t local;           /* the I/Os' */
	remote_state state;
	bool was_up;
	kvt_connection *connection;
	kvt_remote_welcome welcome;
	kvt_remote_loss loss; /* of the last end */
	bool lost;            /* loss is set, for the end to come */
	char *reason;
	kvt_time retry_at, pause;
	/* requests */
	GPtrArray *slots;
	GArray *free_slots; /* unsigned */
	remote_request *oldest, *newest;
	uint64_t sequence;
	kvt_time heard;
	kvt_event timer, flush, retry; /* retry: of deferred parts */
	kvt_time retry_pause;
	remote_message messages[KVT_FABRIC_QUEUES];
	unsigned queues, turn;
	remote_request listing;
	/* what the node is to forget as soon as it can be told */
	GArray *doomed;
	/* leases */
	GHashTable *layers;
	remote_grant *oldest_grant, *newest_grant;
	unsigned n_grants;
	GArray *releases;
	/* I/Os that wait for the first connection, and parts for the node's caps */
	remote_io *waiting, *last_waiting;
	GQueue deferred;
	uint64_t dropped; /* pages that the node has and that are beyond the capacity */
};

/* --- I/Os --- */

/* Some pages of one extent; pooled. */
struct remote_part {
	remote_io *io;
	remote_request request;
	kvt_extent run;
	uint8_t *home;   /* the I/O's memory; NULL: none */
	uint8_t *memory; /* what moves: home, or the buffer */
	const kvt_fabric_region *region;
	kvt_helper_task task;
	GArray *transfers; /* kvt_transfer */
	unsigned pending;  /* transfers, or answers and tasks, under way */
	void (*moved)(remote_part *part);
	int status;
	bool bad;
	uint64_t *checksums; /* [run.n_pages] */
	uint64_t checksums_room;
	uint64_t changes; /* of the layer, when it was asked */
	kvt_time asked;
	GPtrArray *grants; /* that it reads by, pinned */
	/* of a write */
	uint64_t ticket;                  /* 0: none */
	GArray *places;                   /* kvt_remote_piece */
	void (*again)(remote_part *part); /* of one that was deferred */
	bool counted;                     /* among those on their way of its class */
	uint8_t *buffer;
	uint64_t buffer_bytes;
	kvt_fabric_region buffer_region;
	remote_part *next; /* of a write's, or free */
};

/* An I/O on its way; pooled. */
struct remote_io {
	remote_tier *tier;
	remote_link *link;
	kvt_io *io;
	uint64_t bytes;
	bool in_use, begun, queued;
	kvt_page_ticket ticket;
	/* the part to come */
	unsigned at;
	uint64_t offset;
	unsigned parts; /* on their way */
	/* of a write: parts with room of theirs at the node; COMMIT has been said; some of its
	 * pages may be there already and must be forgotten */
	remote_part *wave;
	unsigned wave_parts;
	bool committing, undo;
	GArray *skipped; /* discards that this write made unnecessary, should it succeed */
	int status;
	kvt_remote_failure failure;
	remote_io *next; /* that waits in its class or for a connection, or is free */
};

typedef struct remote_class {
	remote_io *first, *last;
	unsigned parts;
} remote_class;

struct remote_tier {
	kvt_tier base;
	kvt_loop *loop;
	kvt_fabric *fabric;
	bool free_fabric; /* with the tier */
	kvt_fabric_domain *domain;
	kvt_helper_pool *helpers;
	kvt_page_store *pages;
	kvt_tier_stats stats;
	kvt_remote_counts counts;
	kvt_remote_settings settings; /* without what it points at, but for the address */
	char *address, *notice;
	uint64_t model;
	unsigned in_flight;
	GPtrArray *links, *regions; /* regions: kvt_fabric_region */
	remote_class classes[KVT_PRIORITY_CLASSES];
	uint64_t staged; /* bytes of buffers in use */
	remote_io *free_ios;
	remote_part *free_parts;
	GPtrArray *ios, *all_parts; /* every one ever made, to free them */
	kvt_remote_reader reader;
	bool opening;    /* the loop is to stop when the first connection is up or down */
	bool submitting; /* nothing may be done inline */
};

/* --- remote_options.c --- */

typedef struct remote_options {
	char *node, *keys, *model, *device, *address;
	uint64_t capacity, part, staging;
	bool leases, required;
	int64_t queues, depth, parts, helpers, max_ios, retries;
	kvt_time timeout, acknowledge, connect;
} remote_options;

extern const kvt_option kvt_remote_options[];
kvt_tier *kvt_remote_open(const kvt_tier_env *env, const void *options, GError **error);

/* --- remote_tier.c --- */

/* The contract's rules, of that capacity unless the settings have one. */
void kvt_remote_tier_make_books(remote_tier *tier, uint64_t capacity);
/* An I/O whose link is up, or of which that is not known, begins or fails. */
void kvt_remote_begin(remote_io *io);

/* --- remote_link.c --- */

remote_link *kvt_remote_link_new(
	remote_tier *tier, uint32_t local, const kvt_remote_tenant *tenant);
void kvt_remote_link_free(remote_link *link);
/* Seeks the node, when that was never done or the pause is over. */
void kvt_remote_link_wake(remote_link *link);
/* The connection is of no more use: it ends, for that reason. */
void kvt_remote_link_lose(remote_link *link, kvt_remote_loss loss);
/* Tells the node to forget what is there of the run, but for what writes in flight will replace. */
void kvt_remote_link_discard(remote_link *link, const kvt_extent *run);

/* --- remote_requests.c --- */

/* What is said on which queue: what changes pages in order, what reads them anywhere. */
enum { REMOTE_IN_ORDER = 0 };
unsigned kvt_remote_any_queue(remote_link *link);
void kvt_remote_ask(
	remote_link *link, unsigned queue, remote_request *request, kvt_remote_record *record);
/* Says what is not answered. */
void kvt_remote_tell(remote_link *link, unsigned queue, const kvt_remote_record *record);
/* Sends what was asked and told: now, or when the loop comes to it. */
void kvt_remote_flush(remote_link *link);
void kvt_remote_flush_soon(remote_link *link);
void kvt_remote_on_message(remote_link *link, const void *bytes, size_t length);
/* Ends all that is not answered. */
void kvt_remote_fail_requests(remote_link *link);

/* --- remote_leases.c --- */

remote_layer *kvt_remote_layer(remote_link *link, const kvt_extent *run);
/* A grant that the extent's page can be read by now, and how many pages from it on; or NULL, and
 * how many pages there are before the next such. Not pinned. */
remote_grant *kvt_remote_grant_find(
	remote_link *link, const kvt_extent *extent, uint64_t page, uint64_t *n_pages);
/* Pinned. `run` is what the piece is of. */
remote_grant *kvt_remote_grant_new(remote_link *link, const kvt_extent *run,
	const kvt_remote_piece *piece, const uint64_t *checksums, kvt_time expires);
/* Makes it one that is found. */
void kvt_remote_grant_keep(remote_link *link, remote_grant *grant);
void kvt_remote_grant_unpin(remote_link *link, remote_grant *grant);
/* The run's pages are others now. */
void kvt_remote_grants_drop(remote_link *link, const kvt_extent *run);
/* All leases go back. False when there were none that could. */
bool kvt_remote_grants_release(remote_link *link);
/* The connection has gone, and they with it. */
void kvt_remote_grants_clear(remote_link *link);

/* --- remote_parts.c --- */

/* What a try for the next part of an I/O came to. */
typedef enum remote_next {
	REMOTE_BEGUN,
	REMOTE_NO_MORE,
	REMOTE_LATER, /* when another part has ended */
} remote_next;

remote_io *kvt_remote_take_io(remote_tier *tier, kvt_io *io, uint64_t bytes);
void kvt_remote_give_io(remote_io *io);
/* Pages that one request may be for; 0: not even one. */
uint64_t kvt_remote_part_pages(const remote_link *link, uint64_t page_bytes);
/* A part for the pages [first, first + n) of extent `at`, with memory that it can move from or to.
 * NULL with *next set: there is none now, or the I/O has failed. */
remote_part *kvt_remote_take_part(
	remote_io *io, unsigned at, uint64_t first, uint64_t n, remote_next *next);
/* It is no longer on its way, and its memory is free for others. */
void kvt_remote_leave(remote_part *part);
void kvt_remote_give_part(remote_part *part);
void kvt_remote_free_part(remote_tier *tier, remote_part *part);
/* Both, and the tier and the I/O go on. */
void kvt_remote_end_part(remote_part *part);
/* Moves bytes of the part's memory, from `offset` on. */
void kvt_remote_add_transfer(remote_part *part, kvt_transfer_op op, uint64_t offset, uint64_t bytes,
	uint64_t address, uint32_t key);
/* Gives the transfers to the fabric; `moved` is called when the last has ended, with part->status
 * 0 where all went well. */
void kvt_remote_move(remote_part *part, void (*moved)(remote_part *part));
/* Runs a task of the part's on a helper, or at once when there is little to do. */
void kvt_remote_help(remote_part *part, void (*work)(kvt_helper_task *task),
	void (*done)(kvt_helper_task *task));

/* The I/O has failed, if it had not. */
void kvt_remote_fail(remote_io *io, int status, kvt_remote_failure failure);
/* What an answer's status makes of it. */
void kvt_remote_fail_answer(remote_io *io, int status);
/* Asks again later for a part that was over a cap; false when it was asked for too long. */
bool kvt_remote_defer(remote_part *part, void (*again)(remote_part *part));
/* Ends those that wait to be asked again. */
void kvt_remote_fail_deferred(remote_link *link);

void kvt_remote_enqueue(remote_io *io);
void kvt_remote_pump(remote_tier *tier);
/* Nothing of it is under way: ends it, when there is nothing left to begin. */
void kvt_remote_settle(remote_io *io);
void kvt_remote_finish(remote_io *io);

/* --- remote_read.c, remote_write.c --- */

remote_next kvt_remote_next_read(remote_io *io);
remote_next kvt_remote_next_write(remote_io *io);
/* Goes on with a write when its wave has been moved or committed; true: it has ended. */
bool kvt_remote_go_on(remote_io *io);

#endif
