/*
 * bandwidth_internal.h: the state that bandwidth.c (flows in time) and bandwidth_share.c (rates at
 * an instant) have in common. Nobody else includes it.
 */
#ifndef KVT_BANDWIDTH_INTERNAL_H
#define KVT_BANDWIDTH_INTERNAL_H

#include <stdbool.h>

#include "sim/core/bandwidth.h"

#define KVT_NONE UINT32_MAX

/* Stops of a flow while rates are shared: its cap, and once more each of its links when it joins.
 */
enum { KVT_STOPS_PER_FLOW = 1 + KVT_PATH_MAX };

/* One crossing of a link by a flow, in the link's list of crossings: in start order, but of those
 * that stand in line there in that of their turns. A crossing's number is flow x KVT_PATH_MAX + its
 * place in the path. */
typedef struct kvt_crossing {
	double cost;
	kvt_link link;
	uint32_t next, previous; /* crossings of the same link */
} kvt_crossing;

typedef struct kvt_flow_state {
	double rate;      /* since `updated` */
	double remaining; /* bytes at `updated` */
	kvt_time updated;
	kvt_time finish;     /* KVT_TIME_NEVER unless it is in the heap */
	uint32_t heap_index; /* KVT_NONE when not in the heap */
	uint32_t generation;
	uint64_t sequence; /* start order; 0: not in use */
	uint64_t turn;     /* in a line at path[0]; 0: in none */
	uint64_t places;   /* that it takes there */
	uint64_t bytes;

	double weight, max_rate, reserved_rate;
	double new_rate, floor; /* while sharing: the rate to be, and the reserved part of it */
	double joined;          /* while sharing: the level that it rises from */
	uint64_t epoch;         /* of the last gathering that met it */
	uint8_t path_length, priority, line;
	bool active; /* while sharing: its rate is still rising */
	uint32_t next_free;

	kvt_callback done;
	void *arg;
	kvt_crossing path[KVT_PATH_MAX];
} kvt_flow_state;

typedef struct kvt_link_state {
	double capacity;
	uint64_t places; /* of each line */
	double left;     /* while sharing: capacity not given away */
	double weight;   /* while sharing: weight x cost of the active flows */
	double weight_at_first;
	double reserved;           /* while sharing: sum of what is to be reserved */
	uint32_t active;           /* while sharing: active flows on it */
	uint32_t lines[KVT_LINES]; /* while sharing: crossings where those begin who still wait */
	uint32_t n_flows, in_line; /* on it; of those, in line here */
	uint32_t head, tail;       /* crossings */
	uint64_t epoch;

	bool dirty;
	uint64_t last_start; /* sequence of the last flow started over it */
	uint64_t bytes;      /* of flows that have left */
	double busy_units;   /* of flows that have left */
	kvt_time busy, busy_since;
	char *name;
} kvt_link_state;

typedef struct kvt_heap_entry {
	kvt_time finish;
	uint64_t sequence;
	uint32_t flow;
} kvt_heap_entry;

/* Where the flows of a class stop rising: a link that is full, or a flow's cap. */
typedef struct kvt_stop {
	double level; /* extra / weight; of a link, at least this */
	uint32_t of;  /* link or flow */
	bool is_cap;
} kvt_stop;

struct kvt_network {
	kvt_loop *loop;
	kvt_flow_state *flows;
	kvt_link_state *links;
	uint32_t n_flows, flows_capacity, first_free; /* slots ever used, allocated, free list */
	uint32_t n_links, links_capacity;
	uint64_t sequence, epoch;

	kvt_heap_entry *heap; /* flows that will end, soonest first */
	uint32_t heap_size;
	kvt_event timer; /* for the head of the heap, at timer_at */
	kvt_time timer_at;
	bool in_timer;

	kvt_link *dirty; /* links to re-share from, in the order they changed */
	uint32_t n_dirty;
	kvt_event share_event;

	/* Scratch of sharing, as long as the links, the flows, and the stops. */
	kvt_link *component_links;
	uint32_t *component_flows;
	kvt_stop *stops; /* a heap, the lowest first */
	uint32_t n_component_links, n_component_flows, n_stops;

	kvt_network_stats stats;
};

/* Finds the component of `link` and sets new_rate of each of its flows, which it leaves in
 * component_flows. */
void kvt_network_share_component(kvt_network *network, kvt_link link);

/* The rate of a flow that has all of its links to itself. */
double kvt_network_rate_alone(const kvt_network *network, const kvt_flow_state *flow);

#endif
