/*
 * fleet_links.h: every link of a fleet, and the way from one place of KV to another over them: each
 * replica's PCIe and copy engines, each node's DRAM, drives and NICs, the storage targets' NICs,
 * DRAM and drives. It starts no flows; fleet_transfers.h does.
 */
#ifndef KVT_FLEET_LINKS_H
#define KVT_FLEET_LINKS_H

#include "sim/fleet/fleet_settings.h"
#include "sim/tier/topology.h"

/* Places: level 0 is a replica's HBM, level t its t-th tier of the settings, as in kv_manager.h. */
typedef struct kvt_fleet_place {
	unsigned replica, level;
} kvt_fleet_place;

/* A way that bytes take. */
typedef struct kvt_fleet_route {
	kvt_path path;
	kvt_time latency;    /* until the first byte */
	uint64_t io_bytes;   /* of one command or copy, the smaller of both ends' */
	double copy_seconds; /* of a copy engine, a copy, beyond its bytes */
	/* the drives that it reads or writes, for who counts what is mixed: indices of arrays, or
	 * KVT_NO_ARRAY */
	unsigned reads, writes;
} kvt_fleet_route;

#define KVT_NO_ARRAY UINT32_MAX

/* The drives of one tier in one place. */
typedef struct kvt_fleet_array {
	kvt_link link;
	double rate, mixed_efficiency;
} kvt_fleet_array;

/* One link, for reports. */
typedef struct kvt_fleet_link {
	kvt_link link;
	char *name; /* "node 0 nic in" */
	double rate;
} kvt_fleet_link;

typedef struct kvt_fleet_links kvt_fleet_links;

/* Adds the links to the network. `block_tokens` is what one I/O moves where a tier does not say.
 * The settings must outlive it. */
kvt_fleet_links *kvt_fleet_links_new(
	const kvt_fleet_settings *settings, uint32_t block_tokens, kvt_network *network);
void kvt_fleet_links_free(kvt_fleet_links *links);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_fleet_links, kvt_fleet_links_free)

/* The way from one place to another; at least one of them is of the replica that asks for it.
 * Belongs to the links, is made once. */
const kvt_fleet_route *kvt_fleet_links_route(
	kvt_fleet_links *links, kvt_fleet_place from, kvt_fleet_place to);

const kvt_fleet_array *kvt_fleet_links_array(const kvt_fleet_links *links, unsigned array);
unsigned kvt_fleet_links_n_arrays(const kvt_fleet_links *links);

/* All links, in the order they were made. */
const kvt_fleet_link *kvt_fleet_links_list(const kvt_fleet_links *links, unsigned *n);

unsigned kvt_fleet_links_node(const kvt_fleet_links *links, unsigned replica);

#endif
