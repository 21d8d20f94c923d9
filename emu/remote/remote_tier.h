/*
 * remote_tier.h: the tier of a storage node: pages that lie in its memory or on its drives, read
 * and written one-sided over a fabric.h, every page's checksum verified when it arrives. Where a
 * page lies is the node's business, and what the two say to each other remote_protocol.h's.
 *
 * Each tenant has a connection of its own. A connection that is lost ends its I/Os with -EIO; what
 * is submitted before it is there again fails at once, and nothing waits for a node that is silent
 * longer than the timeout. It is sought again, after pauses that grow, when somebody asks for
 * pages: then the node says which there are.
 */
#ifndef KVT_REMOTE_TIER_H
#define KVT_REMOTE_TIER_H

#include "emu/fabric/fabric.h"
#include "emu/remote/remote_protocol.h"
#include "sim/tier/tier.h"

/* `tier = remote`: connects over verbs_fabric.h. */
extern const kvt_tier_ops kvt_tier_remote_node;

/* A tenant of the node's, and the secret by which the node knows it. */
typedef struct kvt_remote_tenant {
	uint32_t number;
	uint8_t key[KVT_REMOTE_KEY];
} kvt_remote_tenant;

/* "10.0.0.1:7471", "[fd00::1]:7471"; *address is new. */
bool kvt_remote_node_parse(const char *text, char **address, uint16_t *port, GError **error);
/* The tenants (kvt_remote_tenant) of a file of keys, in its order; NULL with an error. */
GArray *kvt_remote_keys_load(const char *path, GError **error);

/* 0 in a member: the value in brackets. Nothing that it points at is needed later. */
typedef struct kvt_remote_settings {
	const char *address; /* of the node */
	uint16_t port;
	const char *model; /* whose pages, as the store's option of that name [any] */
	uint64_t capacity; /* bytes of pages that the tier holds [what the node gives the tenant] */
	const kvt_remote_tenant *tenants; /* who I/Os of tenants 0, 1, ... are at the node; the
					     first is connected at once, others when needed */
	unsigned n_tenants;
	bool no_leases;         /* where a page lies is asked for every time */
	bool may_be_down;       /* the node need not be there when the tier is opened */
	uint64_t part_bytes;    /* that one request is for, about [1 MiB] */
	uint64_t staging_bytes; /* of memory for pages that do not move from or to registered
				   memory [64 MiB] */
	unsigned parts;         /* requests of one class at once at most [64] */
	unsigned helpers;       /* threads for checksums and copies; 0: the loop's own does it */
	unsigned max_ios;       /* that are taken before others are told to come again [1024] */
	kvt_time timeout;       /* for which the node may say nothing while it is asked [10 s] */
	kvt_time pause, longest_pause; /* before it is sought again [100 ms, 10 s] */
	kvt_connection_settings connection;
} kvt_remote_settings;

/*
 * Connects and learns what is there, for which it runs the environment's loop, a real one: not from
 * a callback. The fabric must outlive the tier. NULL with an error: no such address, refused (it
 * says why), or, unless the node may be down, not there.
 */
kvt_tier *kvt_remote_tier_new(const kvt_tier_env *env, kvt_fabric *fabric,
	const kvt_remote_settings *settings, GError **error);

/* Whether the tier's first connection is there. */
bool kvt_remote_tier_up(const kvt_tier *tier);

/* Why connections were lost or did not come up. */
typedef enum kvt_remote_loss {
	KVT_REMOTE_LOSS_REFUSED,     /* by the node, or nobody listens */
	KVT_REMOTE_LOSS_UNREACHABLE, /* no way to the node, or no answer to the opening */
	KVT_REMOTE_LOSS_RESET,       /* the node has gone, or closed it */
	KVT_REMOTE_LOSS_TIMED_OUT,   /* the node's device does not answer */
	KVT_REMOTE_LOSS_SILENT,      /* its device does, its process does not */
	KVT_REMOTE_LOSS_DENIED,      /* memory was not, or no longer, to be touched */
	KVT_REMOTE_LOSS_PROTOCOL,    /* what it said makes no sense */
	KVT_REMOTE_LOSSES,
} kvt_remote_loss;

/* Why I/Os failed, -ENOSPC and pages that were never there apart. */
typedef enum kvt_remote_failure {
	KVT_REMOTE_FAILURE_DOWN,     /* there was no connection */
	KVT_REMOTE_FAILURE_LOST,     /* it went meanwhile */
	KVT_REMOTE_FAILURE_DRAINING, /* the node is going down */
	KVT_REMOTE_FAILURE_QUOTA,    /* over a cap of the tenant's */
	KVT_REMOTE_FAILURE_NODE,     /* the node said so */
	KVT_REMOTE_FAILURE_GONE,     /* the node has the pages no more */
	KVT_REMOTE_FAILURE_CHECKSUM, /* a page was wrong */
	KVT_REMOTE_FAILURE_MEMORY,   /* none could be registered */
	KVT_REMOTE_FAILURES,
} kvt_remote_failure;

extern const char *const kvt_remote_loss_names[KVT_REMOTE_LOSSES];
extern const char *const kvt_remote_failure_names[KVT_REMOTE_FAILURES];

typedef struct kvt_remote_counts {
	uint64_t connects; /* that came up */
	uint64_t losses[KVT_REMOTE_LOSSES], failures[KVT_REMOTE_FAILURES];
	uint64_t fetches;      /* requests for where pages lie */
	uint64_t leased_reads; /* parts that a lease made it unnecessary for */
	uint64_t pushed_pages; /* that the node wrote here */
	uint64_t direct_bytes,
		copied_bytes; /* moved to and from I/Os' memory; by way of a buffer */
	uint64_t verified_pages, bad_pages, lost_pages; /* lost: the node had them no more */
} kvt_remote_counts;

kvt_remote_counts kvt_remote_tier_counts(const kvt_tier *tier);

#endif
