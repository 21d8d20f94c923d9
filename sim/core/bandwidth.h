/*
 * bandwidth.h: links that flows share. A flow moves bytes over a path of links at once; rates are
 * max-min fair over all links, by weight within a priority class, a higher class first, above what
 * reservations guarantee. A change re-shares only the flows that are connected to it by links.
 * A fluid model: it knows no packets, no queues and no latency.
 *
 * What a flow of rate r (bytes/s) takes of a link is cost x r, and what flows take of a link never
 * exceeds its capacity. Rates are set in this order:
 *   1. Each flow gets its reserved rate, no more than max_rate and than its links carry; where
 *      reservations oversubscribe a link, all of it are scaled by the same factor, and a flow that
 *      crosses several such links by the least of their factors.
 *   2. Class 0 shares what is left, then class 1 what that leaves, and so on. Within a class what
 *      flows get above their reservation is max-min fair: extra / weight rises for all alike until
 *      a link of the flow is full or the flow reaches max_rate.
 *      Flows with a turn stand in one of the lines at the first link of their path, each class in
 *      its own: the first ones, as many as the link has places for, rise with the others, the
 *      next one joins when one of them has stopped, rising from there. That is a device that
 *      shares itself among what its queue holds, is fed in order of arrival and idles for nobody.
 * A share below 1e-12 of a link counts as none, so that rounding never feeds a starved class.
 */
#ifndef KVT_BANDWIDTH_H
#define KVT_BANDWIDTH_H

#include <stdint.h>

#include "sim/core/loop.h"

enum { KVT_PATH_MAX = 8, KVT_PRIORITY_CLASSES = 4, KVT_LINES = 2 };

typedef struct kvt_network kvt_network; /* all links and flows that may share */
typedef uint32_t kvt_link;
typedef uint64_t kvt_flow; /* 0 is none; one that has ended stays safe to pass in */

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
	uint64_t turn;        /* its place in a line at path[0], the least first; 0: in none */
	unsigned line;        /* which, below KVT_LINES */
	uint64_t places;   /* that it takes there, more than there are if need be; 0 stands for 1 */
	kvt_callback done; /* called on the loop when the last byte has moved; may be NULL */
	void *arg;
} kvt_flow_spec;

/* The loop must outlive the network. */
kvt_network *kvt_network_new(kvt_loop *loop);

/* Drops the flows that are under way without calling them; not from within a done. */
void kvt_network_free(kvt_network *network);

/* A link of `bytes_per_second` (> 0, finite); the name is copied. */
kvt_link kvt_network_add_link(kvt_network *network, const char *name, double bytes_per_second);

/* Places of each line at the link, 1 unless set; before any flow crosses it. */
void kvt_network_set_places(kvt_network *network, kvt_link link, uint64_t places);

/* Changes a link's capacity from now on; 0 stops what crosses it until it is raised again. */
void kvt_network_set_rate(kvt_network *network, kvt_link link, double bytes_per_second);

/*
 * Starts a flow; the spec is copied. Never completes inline: done runs on the loop, at the earliest
 * at this time, and flows that end at one time do so in the order they were started. The time a
 * flow takes is rounded up to a picosecond; a flow of no bytes, or one that nothing limits, ends
 * at the time it started. One that gets no bandwidth, ever, never ends and schedules nothing.
 */
kvt_flow kvt_network_start(kvt_network *network, const kvt_flow_spec *spec);

/* Another weight (0 stands for 1) and reserved rate from now on; nothing when the flow has ended.
 */
void kvt_network_set_share(
	kvt_network *network, kvt_flow flow, double weight, double reserved_rate);

/* Stops a flow whose done has not run; returns the bytes it had not moved (rounded up), 0 when the
 * flow has ended. */
uint64_t kvt_network_cancel(kvt_network *network, kvt_flow flow);

/* Bytes it has not moved yet (rounded up), 0 when the flow has ended. */
uint64_t kvt_network_flow_left(const kvt_network *network, kvt_flow flow);

/* bytes/s now; INFINITY when nothing limits it, 0 when the flow has ended. */
double kvt_network_flow_rate(kvt_network *network, kvt_flow flow);

typedef struct kvt_link_stats {
	const char *name;        /* belongs to the network */
	double bytes_per_second; /* capacity */
	double bytes;            /* moved so far, in whole bytes */
	double busy_units;       /* capacity used up so far: cost x bytes. Utilisation over a time
				    is busy_units / (capacity x time) */
	kvt_time busy;           /* time with at least one flow on it */
	unsigned flows;          /* on it now */
} kvt_link_stats;

unsigned kvt_network_n_links(const kvt_network *network);
kvt_link_stats kvt_network_link_stats(kvt_network *network, kvt_link link);

/* What the network has done, to see what sharing costs. */
typedef struct kvt_network_stats {
	uint64_t started, finished, cancelled; /* flows */
	uint64_t shares;                       /* components whose rates were set anew */
	uint64_t shared_flows;                 /* flows in them */
} kvt_network_stats;

kvt_network_stats kvt_network_get_stats(const kvt_network *network);

#endif
