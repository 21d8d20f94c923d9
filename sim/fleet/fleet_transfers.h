/*
 * fleet_transfers.h: KV on its way: each move of blocks is one flow over the links of its route,
 * beside everything else that moves. It knows bytes and links; what the blocks are is
 * kv_manager.h's, and who waits for them is replica.h's.
 */
#ifndef KVT_FLEET_TRANSFERS_H
#define KVT_FLEET_TRANSFERS_H

#include "sim/fleet/fleet_links.h"
#include "sim/fleet/link_shares.h"

typedef struct kvt_fleet_transfers kvt_fleet_transfers;
typedef uint64_t kvt_fleet_transfer; /* 0 is none; one that has ended stays safe to pass in */

typedef struct kvt_fleet_transfer_spec {
	kvt_fleet_place from, to;
	uint64_t bytes;
	/* as kvt_flow_spec's; priority 0 is served first */
	unsigned priority;
	double weight, reserved_rate;
	uint32_t tenant;   /* where there are link shares, which say the three above then */
	kvt_callback done; /* on the loop, never inline */
	void *arg;
} kvt_fleet_transfer_spec;

/* Both must outlive it. */
kvt_fleet_transfers *kvt_fleet_transfers_new(
	kvt_loop *loop, kvt_network *network, kvt_fleet_links *links);
void kvt_fleet_transfers_free(kvt_fleet_transfers *transfers);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_fleet_transfers, kvt_fleet_transfers_free)

/* Before the first one starts: tenants have shares of links from now on. Borrowed. */
void kvt_fleet_transfers_share(kvt_fleet_transfers *transfers, kvt_link_shares *shares);

kvt_fleet_transfer kvt_fleet_transfers_start(
	kvt_fleet_transfers *transfers, const kvt_fleet_transfer_spec *spec);

/* How much longer it takes if everything goes on at the rate of now; 0 when it has ended,
 * KVT_TIME_NEVER when it does not move. */
kvt_time kvt_fleet_transfers_left(kvt_fleet_transfers *transfers, kvt_fleet_transfer transfer);

/* How long so many bytes take if nothing else moves: an estimate for who decides. */
kvt_time kvt_fleet_transfers_alone(
	kvt_fleet_transfers *transfers, kvt_fleet_place from, kvt_fleet_place to, uint64_t bytes);

/* For estimates: how many times slower than alone each link of the network is, by its number; read
 * by kvt_fleet_transfers_alone from now on; NULL: none is. Stays the caller's. */
void kvt_fleet_transfers_set_slower(kvt_fleet_transfers *transfers, const double *slower);

/* Under way now, and bytes of all that have ended, from the one level to the other. */
unsigned kvt_fleet_transfers_under_way(const kvt_fleet_transfers *transfers);
uint64_t kvt_fleet_transfers_moved(
	const kvt_fleet_transfers *transfers, unsigned from, unsigned to);

#endif
