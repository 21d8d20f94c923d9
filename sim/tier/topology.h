/*
 * topology.h: the links that the tiers of one simulated system share: GPU copy engines and PCIe
 * slots, host DRAM, NICs at both ends, storage targets' DRAM. A tier adds links of its own (its
 * drives) and names its path over these, so that everything that moves contends with everything
 * else. PCIe and NICs carry both directions at full rate at once, so each is two links; DRAM, HBM
 * and checksum workers are shared by both. Ranks of a tensor-parallel group move their shares in
 * step: a link that each rank has its own of appears once, with the group's summed rate.
 */
#ifndef KVT_TOPOLOGY_H
#define KVT_TOPOLOGY_H

#include <glib.h>

#include "models/hardware.h"
#include "sim/core/bandwidth.h"

/* Towards HBM, as reads move, or away from it, as writes do. */
typedef enum kvt_direction {
	KVT_TO_GPU,
	KVT_FROM_GPU,
	KVT_DIRECTIONS,
} kvt_direction;

/* What of an I/O a path has to carry. */
typedef struct kvt_path_load {
	double bytes;
	double device_ios;   /* commands or descriptors at the store: cut by its largest transfer */
	double copy_seconds; /* that its copies cost the GPU's copy engines beyond their bytes */
	double slot_seconds; /* that its device I/Os hold slots of the store's queue, together */
} kvt_path_load;

/*
 * One hop of a path. A load takes the larger of per_byte * bytes + per_io * device_ios +
 * per_copy_second * copy_seconds + per_slot_second * slot_seconds and min_per_io * device_ios, in
 * units of the link. On a byte link per_copy_second is the rate of one copy engine; a link whose
 * units are I/Os (IOPS) has per_byte 0 and per_io 1. What a link does one after the other is added,
 * what it does meanwhile (a NIC's messages) is a minimum.
 */
typedef struct kvt_hop {
	kvt_link link;
	double rate; /* the link's, units/s */
	double per_byte, per_io, per_copy_second, per_slot_second;
	double min_per_io;
} kvt_hop;

typedef struct kvt_path {
	kvt_hop hops[KVT_PATH_MAX];
	unsigned n_hops;
} kvt_path;

/* A PCIe slot for a drive; 0: no older, or no narrower, than the drive in it. */
typedef struct kvt_drive_slot {
	int64_t generation, lanes;
} kvt_drive_slot;

/* Host bytes/s of one drive in the slot, of `bandwidth` bytes/s that its medium reads or writes:
 * compression, which multiplies it, stretches what the medium moves, not its PCIe link. */
double kvt_drive_slot_rate(
	const kvt_drive_slot *slot, const kvt_drive *drive, double bandwidth, double compression);

/* Rates in bytes/s, summed over what runs in parallel; costs in seconds. A rate of 0: there is no
 * such link, and a tier that needs it refuses to open. */
typedef struct kvt_topology_spec {
	unsigned ranks;           /* GPUs of the group, copy engines that work in parallel */
	double hbm_rate;          /* all ranks */
	double gpu_link_rate;     /* host to GPU, all ranks, as measured for large copies */
	double gpu_store_rate;    /* GPU to host, the same; 0: as gpu_link_rate */
	double gpu_copy_cost;     /* seconds a copy descriptor costs one rank's copy engine */
	const kvt_host *copies;   /* whose copies were measured by size: what a descriptor costs in
				     the place of gpu_copy_cost; NULL: none; must outlive all */
	double dram_rate;         /* client DRAM */
	double nic_rate;          /* client NICs' line rate, one direction */
	double fabric_efficiency; /* share of the NICs' line rate that payload reaches; 0: all */
	kvt_time fabric_latency, fabric_latency_p99; /* of a small RDMA read, no drive */
	double nic_message_rate;      /* RDMA messages/s of the client's NICs; 0: no limit */
	gboolean nic_serial;          /* messages are taken after others' bytes, as hardware.h's */
	double nic_message_bandwidth; /* that one message moves at most; 0: no limit */
	double target_nic_rate;       /* storage targets' NICs together, line rate, one direction */
	double target_dram_rate;      /* storage targets' DRAM together */
	double client_io_rate; /* I/Os/s to drives and targets that the client's software submits
				  and completes; 0: no limit */
	double checksum_rate;  /* checksums of pages that come and go, all workers; 0: none */
	double processors;   /* of the client that its device's threads and I/O share; 0: the device
				has none of the host's */
	gboolean gpu_direct; /* drives and NICs reach the GPU without crossing client DRAM */
	kvt_drive_slot client_slot, target_slot;
} kvt_topology_spec;

typedef struct kvt_topology {
	kvt_topology_spec spec;
	kvt_network *network;
	/* valid where the rate is not 0 */
	kvt_link hbm, dram, target_dram, checksum, client_ios, processors;
	kvt_link gpu[KVT_DIRECTIONS], nic[KVT_DIRECTIONS], target_nic[KVT_DIRECTIONS];
} kvt_topology;

/* Adds the links to the network. */
void kvt_topology_init(kvt_topology *topology, kvt_network *network, const kvt_topology_spec *spec);

/* Seconds that a copy of so many bytes, host to GPU, costs an engine beyond them. */
double kvt_topology_copy_cost(const kvt_topology *topology, double bytes);

/* Appends a hop as it is; there is room for KVT_PATH_MAX. */
void kvt_path_add_hop(kvt_path *path, const kvt_hop *hop);

/* Appends a hop that takes `per_byte` units of a link of `rate` bytes/s for each byte. */
void kvt_path_add(kvt_path *path, kvt_link link, double rate, double per_byte);

/* Appends HBM, where its rate is known. */
void kvt_path_add_hbm(kvt_path *path, const kvt_topology *topology);

/* Appends the way between HBM and host memory, or, with `device`, a drive or NIC: client DRAM where
 * it is crossed, checksums, then PCIe and the copy engines. What a device moves into or out of the
 * GPU by itself (gpu_direct) needs no copy descriptors. */
void kvt_path_add_gpu(
	kvt_path *path, const kvt_topology *topology, kvt_direction direction, gboolean device);

/* Appends the fabric between client and targets: the targets' NICs and the client's. */
void kvt_path_add_fabric(kvt_path *path, const kvt_topology *topology, kvt_direction direction);

/* Appends the targets' DRAM, `crossings` times a byte, where its rate is known. */
void kvt_path_add_target_dram(kvt_path *path, const kvt_topology *topology, double crossings);

/* Appends the client's I/O software, where its rate is known. */
void kvt_path_add_client_ios(kvt_path *path, const kvt_topology *topology);

/* Sets the links of a flow and what each byte of the load takes of them. */
void kvt_path_set_flow(const kvt_path *path, const kvt_path_load *load, kvt_flow_spec *flow);

/* A processor's seconds are so many units of the link of processors. */
#define KVT_PROCESSOR_UNITS 1e9

/* Appends the client's processors, where device and I/O share them: a device I/O takes `seconds` of
 * one and moves at most `rate` bytes/s through it (0: no limit). */
void kvt_path_add_processors(
	kvt_path *path, const kvt_topology *topology, double seconds, double rate);

#endif
