/* topology.c: adds the shared links of a system, and puts together paths over them. */
#include "sim/tier/topology.h"

void kvt_topology_init(kvt_topology *topology, kvt_network *network, const kvt_topology_spec *spec)
{
	*topology = (kvt_topology){ .spec = *spec, .network = network };
	if (spec->hbm_rate > 0)
		topology->hbm = kvt_network_add_link(network, "hbm", spec->hbm_rate);
	if (spec->gpu_link_rate > 0)
		topology->gpu = kvt_network_add_link(network, "gpu-pcie", spec->gpu_link_rate);
	if (spec->dram_rate > 0)
		topology->dram = kvt_network_add_link(network, "dram", spec->dram_rate);
	double efficiency = spec->fabric_efficiency > 0 ? spec->fabric_efficiency : 1;
	if (spec->nic_rate > 0)
		topology->nic = kvt_network_add_link(network, "nic", spec->nic_rate * efficiency);
	if (spec->target_nic_rate > 0)
		topology->target_nic = kvt_network_add_link(
			network, "target-nic", spec->target_nic_rate * efficiency);
	if (spec->target_dram_rate > 0)
		topology->target_dram =
			kvt_network_add_link(network, "target-dram", spec->target_dram_rate);
	if (spec->checksum_rate > 0)
		topology->checksum = kvt_network_add_link(network, "checksum", spec->checksum_rate);
}

static void add_hop(kvt_path *path, kvt_hop hop)
{
	g_assert(path->n_hops < KVT_PATH_MAX);
	path->hops[path->n_hops++] = hop;
}

void kvt_path_add(kvt_path *path, kvt_link link)
{
	add_hop(path, (kvt_hop){ .link = link, .per_byte = 1 });
}

void kvt_path_add_ios(kvt_path *path, kvt_link link)
{
	add_hop(path, (kvt_hop){ .link = link, .per_io = 1 });
}

void kvt_path_add_to_gpu(kvt_path *path, const kvt_topology *topology, gboolean from_device)
{
	const kvt_topology_spec *spec = &topology->spec;
	gboolean crosses_dram = !(from_device && spec->gpu_direct);
	if (crosses_dram && spec->dram_rate > 0) {
		/* staged data is written to DRAM and read again */
		add_hop(path, (kvt_hop){ .link = topology->dram, .per_byte = from_device ? 2 : 1 });
	}
	if (spec->checksum_rate > 0)
		kvt_path_add(path, topology->checksum);
	if (spec->gpu_link_rate > 0) {
		/* each rank's engine pays for its own descriptors: the group's rate over ranks */
		double rank_rate = spec->gpu_link_rate / MAX(spec->ranks, 1);
		add_hop(path, (kvt_hop){ .link = topology->gpu,
				      .per_byte = 1,
				      .per_io = spec->gpu_copy_cost * rank_rate });
	}
}

void kvt_path_add_fabric(kvt_path *path, const kvt_topology *topology)
{
	const kvt_topology_spec *spec = &topology->spec;
	if (spec->target_nic_rate > 0)
		kvt_path_add(path, topology->target_nic);
	double efficiency = spec->fabric_efficiency > 0 ? spec->fabric_efficiency : 1;
	double rate = spec->nic_rate * efficiency;
	add_hop(path,
		(kvt_hop){ .link = topology->nic,
			.per_byte = 1,
			.min_per_io =
				spec->nic_message_rate > 0 ? rate / spec->nic_message_rate : 0 });
}

void kvt_path_costs(const kvt_path *path, double io_bytes, double *cost)
{
	double per_byte = io_bytes > 0 ? 1 / io_bytes : 0;
	for (unsigned i = 0; i < path->n_hops; i++) {
		const kvt_hop *hop = &path->hops[i];
		cost[i] = MAX(hop->per_byte + hop->per_io * per_byte, hop->min_per_io * per_byte);
	}
}
