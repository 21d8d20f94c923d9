/*
 * remote_probe.h: a steady load on a storage node: one-sided reads and writes of its memory, or
 * questions where pages lie, so many in flight, over the fabric and the protocol that the remote
 * tier uses, and without its books and checksums. For calibration: it keeps no pages, and takes
 * away those that it stored.
 */
#ifndef KVT_REMOTE_PROBE_H
#define KVT_REMOTE_PROBE_H

#include "emu/calibrate/calibrate_grid.h"
#include "emu/fabric/fabric.h"
#include "emu/remote/remote_tier.h"

typedef struct kvt_remote_probe kvt_remote_probe;

typedef struct kvt_remote_probe_settings {
	const char *address;
	uint16_t port;
	kvt_remote_tenant tenant;
	kvt_connection_settings connection;
} kvt_remote_probe_settings;

typedef enum kvt_probe_op {
	KVT_PROBE_READ,  /* one-sided, of pages under a lease */
	KVT_PROBE_WRITE, /* one-sided, into room that was reserved */
	KVT_PROBE_FETCH, /* FETCH to FETCHED, of a run in the node's memory: no bytes move */
	KVT_PROBE_OPS,
} kvt_probe_op;

typedef struct kvt_probe_load {
	kvt_probe_op op;
	uint64_t size;         /* bytes of each; of FETCH: of the run */
	unsigned depth, least; /* in flight; how many at least */
	double seconds;        /* how long at least */
} kvt_probe_load;

/*
 * Connects, and stores pages to read; runs the loop, not from a callback. Loop (a real one) and
 * fabric must outlive it. NULL with an error: not there, refused, or it has no room.
 */
kvt_remote_probe *kvt_remote_probe_new(kvt_loop *loop, kvt_fabric *fabric,
	const kvt_remote_probe_settings *settings, GError **error);
void kvt_remote_probe_free(kvt_remote_probe *probe);

/* Bytes that an op of that kind may be of, and all in flight together. */
uint64_t kvt_remote_probe_largest(const kvt_remote_probe *probe);
uint64_t kvt_remote_probe_memory(const kvt_remote_probe *probe);

/* `latencies`, in ps, is added to. */
bool kvt_remote_probe_run(kvt_remote_probe *probe, const kvt_probe_load *load,
	kvt_load_result *result, kvt_histogram *latencies, GError **error);

#endif
