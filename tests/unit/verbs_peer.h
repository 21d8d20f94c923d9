/*
 * verbs_peer.h: a peer in a process of its own, on the far RDMA device, that accepts everyone and
 * lets its memory be read and written; and this process's end of connections to it.
 */
#ifndef VERBS_PEER_H
#define VERBS_PEER_H

#include <sys/types.h>

#include "emu/fabric/verbs_fabric.h"

enum { PEER_MEMORY = 16 << 20, PEER_SECONDS = 60 };

/* Why there can be none here; NULL: there can. */
const char *verbs_peer_missing(void);

/* The peer's memory is of the seed's deterministic bytes; it dies with this process. */
pid_t verbs_peer_start(uint64_t seed);
/* Ends it by this signal and waits for that. */
void verbs_peer_end(pid_t peer, int signal);
void verbs_peer_fill(uint8_t *at, uint64_t bytes, uint64_t seed);

typedef struct verbs_near {
	kvt_loop *loop;
	kvt_fabric *fabric;
	kvt_fabric_domain *domain;
	uint8_t *memory; /* PEER_MEMORY */
	kvt_fabric_region region;
	kvt_connection *connection; /* the last that was opened */
	uint64_t address;           /* the peer's */
	uint32_t key;
	unsigned ups, downs, done, failed, timed_out;
	int status; /* of down */
	unsigned passed;
} verbs_near;

void verbs_near_begin(verbs_near *near, const kvt_verbs_settings *more);
void verbs_near_end(verbs_near *near);
/* One more connection, up; the peer may be starting yet. */
kvt_connection *verbs_near_open(verbs_near *near, const kvt_connection_settings *settings);
/* Ends it, runs until it is down and frees it. */
void verbs_near_close(verbs_near *near, kvt_connection *connection);
/* Submits a transfer of the same place here and there. */
void verbs_near_submit(verbs_near *near, kvt_transfer *transfer, kvt_transfer_op op,
	uint64_t offset, uint64_t length);
/* Runs until so many are done in all, or so many connections are down; fails when it takes
 * PEER_SECONDS. */
void verbs_near_until_done(verbs_near *near, unsigned done);
void verbs_near_until_down(verbs_near *near, unsigned downs);
/* Runs for so long. */
void verbs_near_pass(verbs_near *near, kvt_time time);

#endif
