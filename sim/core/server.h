/*
 * server.h: k equal servers with one queue, for what serves one request at a time: a drive's
 * command slots, a GPU's compute streams, checksum workers. First come, first served within a
 * priority class, a higher class first; a server never idles while something waits, and what it has
 * begun it ends. Bandwidth that flows share is bandwidth.h's.
 */
#ifndef KVT_SERVER_H
#define KVT_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/base/histogram.h"
#include "sim/core/bandwidth.h"

typedef struct kvt_server kvt_server;
typedef uint64_t kvt_job; /* 0 is none; one that has ended stays safe to pass in */

/* `servers` > 0; the name is copied. The loop must outlive it. */
kvt_server *kvt_server_new(kvt_loop *loop, const char *name, unsigned servers);

/* Drops the jobs that wait or are served, without calling them. */
void kvt_server_free(kvt_server *server);

/*
 * Asks for `service` (>= 0) of one server's time; priority is below KVT_PRIORITY_CLASSES, 0 first.
 * Never completes inline, not even when service is 0. A job that finds a server idle begins at
 * once, whatever else is submitted at this time; when a job ends, the next begins before the done
 * of the one that ended is called. `done` may be NULL. Allocates only when more jobs are about than
 * ever before.
 */
kvt_job kvt_server_submit(
	kvt_server *server, kvt_time service, unsigned priority, kvt_callback done, void *arg);

/* Takes a job out that still waits. False when it has begun or ended: its done runs, or has. */
bool kvt_server_cancel(kvt_server *server, kvt_job job);

typedef struct kvt_server_stats {
	const char *name; /* belongs to the server */
	unsigned servers;
	uint64_t submitted, finished, cancelled;
	unsigned serving, waiting; /* jobs, now */
	unsigned waiting_max;      /* jobs that have waited at a time */
	double busy_seconds;       /* served so far, by all servers together; utilisation over a
				      time is busy_seconds / (servers x time) */
} kvt_server_stats;

kvt_server_stats kvt_server_get_stats(const kvt_server *server);

/* How long jobs of a class waited before they began, ps; NULL when none has begun. */
const kvt_histogram *kvt_server_waiting(const kvt_server *server, unsigned priority);

#endif
