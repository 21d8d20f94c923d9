/*
 * topology.h: the links of one simulated system: GPU copy engines, PCIe roots, DRAM, NICs, drive
 * arrays here and on storage targets. A tier's path is a list of hops over these links, so that
 * everything that moves contends with everything else. Ranks of a tensor-parallel group move their
 * shares in step: a link that each rank has its own of (copy engine, PCIe slot) appears once with
 * the group's summed rate.
 */
#ifndef KVT_TOPOLOGY_H
#define KVT_TOPOLOGY_H

#include <glib.h>

#include "sim/core/bandwidth.h"

/* One hop: a link and what an I/O takes of it. An I/O of s bytes takes
 * max(per_byte * s + per_io, min_per_io) units, units being the link's bytes. */
typedef struct kvt_hop {
	kvt_link link;
	double per_byte;   /* 1: one unit a byte */
	double per_io;     /* descriptor cost: seconds an I/O times the link's rate */
	double min_per_io; /* IOPS limit: the link's rate over I/Os per second */
} kvt_hop;

typedef struct kvt_path {
	kvt_hop hops[KVT_PATH_MAX];
	unsigned n_hops;
} kvt_path;

/* Rates in bytes/s (sums over what runs in parallel), costs in seconds a transfer. */
typedef struct kvt_topology_spec {
	double hbm_rate;      /* all ranks */
	double gpu_link_rate; /* host to GPU, all ranks' PCIe slots, as measured for large copies */
	double gpu_copy_cost; /* s a copy descriptor of one rank's copy engine */
	unsigned ranks;       /* copy engines that work in parallel */
	double dram_rate;     /* client host DRAM */
	double nic_rate;      /* client NICs, line rate */
	double fabric_efficiency; /* share of the line rate that payload reaches */
	double nic_message_rate;  /* RDMA messages/s of the client's NICs; 0: no limit */
	double target_nic_rate;   /* storage targets' NICs together, line rate */
	double target_dram_rate;  /* storage targets' DRAM */
	double local_drive_rate;  /* drives of the client, read */
	double remote_drive_rate; /* drives of the targets, read */
	gboolean gpu_direct;      /* NIC and drives write to the GPU without crossing client DRAM */
} kvt_topology_spec;

typedef struct kvt_topology {
	kvt_topology_spec spec;
	kvt_link hbm, gpu, dram, nic, target_nic, target_dram, local_drives, remote_drives;
	kvt_path to_gpu; /* the tail that every path from host or fabric to HBM shares */
} kvt_topology;

/* Adds the links to the network. A rate of 0 in the spec leaves that link out: a tier that needs
 * it then refuses to open. */
void kvt_topology_init(kvt_topology *topology, kvt_network *network, const kvt_topology_spec *spec);

#endif
