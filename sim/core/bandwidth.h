/*
 * bandwidth.h: links that flows share. A flow moves bytes over a path of links at once; rates are
 * max-min fair over all links, by weight within a priority class, a higher class first, above what
 * reservations guarantee. A change re-shares only the flows that are connected to it by links.
 */
#ifndef KVT_BANDWIDTH_H
#define KVT_BANDWIDTH_H

#include <stdint.h>

#include "sim/core/loop.h"

enum { KVT_PATH_MAX = 8, KVT_PRIORITY_CLASSES = 4 };

typedef struct kvt_network kvt_network; /* all links and flows that may share */
typedef uint32_t kvt_link;
typedef uint64_t kvt_flow; /* 0 is none */

typedef struct kvt_flow_spec {
	kvt_link path[KVT_PATH_MAX]; /* each link once */
	unsigned path_length;        /* 0: limited by nothing but max_rate */
	/* Units of the link's capacity that one byte of this flow takes up on path[i]; 0 stands
	 * for 1. Carries per-descriptor cost, IOPS limits, writes dearer than reads, compression:
	 * an I/O of s bytes on a drive of B bytes/s and N I/Os per second costs max(1, B/(N s)). */
	double cost[KVT_PATH_MAX];
	uint64_t bytes;
	double weight;     /* > 0; 0 stands for 1 */
	unsigned priority; /* 0 is served first, below KVT_PRIORITY_CLASSES */
	double max_rate;   /* bytes/s the flow can take at most (its queue depth, say); 0: no cap */
	double reserved_rate; /* bytes/s it gets before any sharing; scaled down when a link is
				 oversubscribed by reservations */
	kvt_callback done;    /* called on the loop when the last byte has moved */
	void *arg;
} kvt_flow_spec;

kvt_network *kvt_network_new(kvt_loop *loop);
void kvt_network_free(kvt_network *network);

/* A link of `bytes_per_second` (> 0); the name is copied. */
kvt_link kvt_network_add_link(kvt_network *network, const char *name, double bytes_per_second);
void kvt_network_set_rate(kvt_network *network, kvt_link link, double bytes_per_second);

/* Starts a flow. Never completes inline: done runs on the loop, at the earliest at this time. */
kvt_flow kvt_network_start(kvt_network *network, const kvt_flow_spec *spec);

/* Stops a flow whose done has not run; returns the bytes it had not moved (rounded up). */
uint64_t kvt_network_cancel(kvt_network *network, kvt_flow flow);

/* bytes/s now; 0 when the flow has ended. */
double kvt_network_flow_rate(kvt_network *network, kvt_flow flow);

typedef struct kvt_link_stats {
	const char *name;
	double bytes_per_second; /* capacity */
	double bytes;            /* moved so far */
	kvt_time busy;           /* time with at least one flow on it */
} kvt_link_stats;

unsigned kvt_network_n_links(const kvt_network *network);
kvt_link_stats kvt_network_link_stats(kvt_network *network, kvt_link link);

#endif
