/*
 * topology.h: the links that the tiers of one simulated system share: GPU copy engines and PCIe
 * slots, host DRAM, NICs at both ends, storage targets' DRAM. A tier adds links of its own (its
 * drives) and names its path over these, so that everything that moves contends with everything
 * else. Ranks of a tensor-parallel group move their shares in step: a link that each rank has its
 * own of appears once, with the group's summed rate.
 */
#ifndef KVT_TOPOLOGY_H
#define KVT_TOPOLOGY_H

#include <glib.h>

#include "sim/core/bandwidth.h"

/*
 * One hop of a path. An I/O of s bytes takes max(per_byte * s + per_io, min_per_io) units of the
 * link. On a byte link per_io is a descriptor's cost in seconds times the link's rate; a link whose
 * units are I/Os (command slots, IOPS) has per_byte 0 and per_io 1.
 */
typedef struct kvt_hop {
	kvt_link link;
	double per_byte;
	double per_io;
	double min_per_io;
} kvt_hop;

typedef struct kvt_path {
	kvt_hop hops[KVT_PATH_MAX];
	unsigned n_hops;
} kvt_path;

/* Rates in bytes/s, summed over what runs in parallel; costs in seconds. A rate of 0: there is no
 * such link, and a tier that needs it refuses to open. */
typedef struct kvt_topology_spec {
	unsigned ranks;           /* GPUs of the group, copy engines that work in parallel */
	double hbm_rate;          /* all ranks */
	double gpu_link_rate;     /* host to GPU, all ranks, as measured for large copies */
	double gpu_copy_cost;     /* seconds a copy descriptor costs one rank's copy engine */
	double dram_rate;         /* client DRAM */
	double nic_rate;          /* client NICs' line rate */
	double fabric_efficiency; /* share of the NICs' line rate that payload reaches */
	kvt_time fabric_latency, fabric_latency_p99; /* of a small RDMA read, no drive */
	double nic_message_rate; /* RDMA messages/s of the client's NICs; 0: no limit */
	double target_nic_rate;  /* storage targets' NICs together, line rate */
	double target_dram_rate; /* storage targets' DRAM together */
	double checksum_rate;    /* verification of arriving pages, all workers; 0: none */
	gboolean gpu_direct;     /* drives and NICs reach the GPU without crossing client DRAM */
} kvt_topology_spec;

typedef struct kvt_topology {
	kvt_topology_spec spec;
	kvt_network *network;
	kvt_link hbm, gpu, dram, nic, target_nic, target_dram,
		checksum; /* valid where the rate is not 0 */
} kvt_topology;

/* Adds the links to the network. */
void kvt_topology_init(kvt_topology *topology, kvt_network *network, const kvt_topology_spec *spec);

/* Appends a hop that costs one unit a byte. */
void kvt_path_add(kvt_path *path, kvt_link link);

/* Appends a hop over a link of I/Os per second. */
void kvt_path_add_ios(kvt_path *path, kvt_link link);

/* Appends the way from host memory (or, with from_fabric or drives and gpu_direct, from the PCIe
 * switch) into HBM: client DRAM where it is crossed, then PCIe and the copy engines. */
void kvt_path_add_to_gpu(kvt_path *path, const kvt_topology *topology, gboolean from_device);

/* Appends the fabric between client and targets: the targets' NICs and the client's. */
void kvt_path_add_fabric(kvt_path *path, const kvt_topology *topology);

/* Units of each hop that one byte takes when I/Os have `io_bytes` bytes; fills cost[n_hops]. */
void kvt_path_costs(const kvt_path *path, double io_bytes, double *cost);

#endif
