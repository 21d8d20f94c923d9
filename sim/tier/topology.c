/* topology.c: adds the shared links of a system, and puts together paths over them. */
#include "sim/tier/topology.h"

/*
 * Share of a PCIe link's raw rate that a drive's data can be: 512 bytes of payload a packet beside
 * 24 of headers and framing (PCI Express Base Specification). FLIT mode counts its own overhead in
 * the raw rate, and carries about the same headers.
 */
static const double PCIE_PAYLOAD = 512.0 / (512 + 24);

double kvt_drive_slot_rate(
	const kvt_drive_slot *slot, const kvt_drive *drive, double bandwidth, double compression)
{
	int64_t generation = drive->pcie_generation, lanes = drive->pcie_lanes;
	if (slot->generation > 0)
		generation = MIN(generation, slot->generation);
	if (slot->lanes > 0)
		lanes = MIN(lanes, slot->lanes);
	double link = kvt_pcie_raw_rate(generation, lanes) * PCIE_PAYLOAD;
	return MIN(bandwidth * compression, link);
}

static double efficiency(const kvt_topology_spec *spec)
{
	return spec->fabric_efficiency > 0 ? spec->fabric_efficiency : 1;
}

static double gpu_rate(const kvt_topology_spec *spec, kvt_direction direction)
{
	return direction == KVT_FROM_GPU && spec->gpu_store_rate > 0 ? spec->gpu_store_rate
								     : spec->gpu_link_rate;
}

static kvt_link add_link(kvt_network *network, const char *name, double rate)
{
	return rate > 0 ? kvt_network_add_link(network, name, rate) : 0;
}

void kvt_topology_init(kvt_topology *topology, kvt_network *network, const kvt_topology_spec *spec)
{
	*topology = (kvt_topology){ .spec = *spec, .network = network };
	double share = efficiency(spec);
	topology->hbm = add_link(network, "hbm", spec->hbm_rate);
	topology->gpu[KVT_TO_GPU] = add_link(network, "gpu-pcie", gpu_rate(spec, KVT_TO_GPU));
	topology->gpu[KVT_FROM_GPU] =
		add_link(network, "gpu-pcie-out", gpu_rate(spec, KVT_FROM_GPU));
	topology->dram = add_link(network, "dram", spec->dram_rate);
	topology->nic[KVT_TO_GPU] = add_link(network, "nic", spec->nic_rate * share);
	topology->nic[KVT_FROM_GPU] = add_link(network, "nic-out", spec->nic_rate * share);
	topology->target_nic[KVT_TO_GPU] =
		add_link(network, "target-nic", spec->target_nic_rate * share);
	topology->target_nic[KVT_FROM_GPU] =
		add_link(network, "target-nic-in", spec->target_nic_rate * share);
	topology->target_dram = add_link(network, "target-dram", spec->target_dram_rate);
	topology->client_ios = add_link(network, "client-ios", spec->client_io_rate);
	topology->checksum = add_link(network, "checksum", spec->checksum_rate);
	topology->processors =
		add_link(network, "processors", spec->processors * KVT_PROCESSOR_UNITS);
}

double kvt_topology_copy_cost(const kvt_topology *topology, double bytes)
{
	const kvt_host *host = topology->spec.copies;
	if (!host)
		return topology->spec.gpu_copy_cost;
	double rate = host->copy_points[host->n_copy_points - 1].rate;
	return MAX(kvt_host_copy_seconds(host, (uint64_t)bytes, rate) - bytes / rate, 0);
}

void kvt_path_add_hop(kvt_path *path, const kvt_hop *hop)
{
	g_assert(path->n_hops < KVT_PATH_MAX);
	path->hops[path->n_hops++] = *hop;
}

void kvt_path_add(kvt_path *path, kvt_link link, double rate, double per_byte)
{
	kvt_hop hop = { .link = link, .rate = rate, .per_byte = per_byte };
	kvt_path_add_hop(path, &hop);
}

void kvt_path_add_hbm(kvt_path *path, const kvt_topology *topology)
{
	if (topology->spec.hbm_rate > 0)
		kvt_path_add(path, topology->hbm, topology->spec.hbm_rate, 1);
}

void kvt_path_add_gpu(
	kvt_path *path, const kvt_topology *topology, kvt_direction direction, gboolean device)
{
	const kvt_topology_spec *spec = &topology->spec;
	gboolean direct = device && spec->gpu_direct;
	/* staged data is written to DRAM and read again */
	if (!direct && spec->dram_rate > 0)
		kvt_path_add(path, topology->dram, spec->dram_rate, device ? 2 : 1);
	if (spec->checksum_rate > 0)
		kvt_path_add(path, topology->checksum, spec->checksum_rate, 1);
	if (spec->gpu_link_rate <= 0)
		return;
	double rate = gpu_rate(spec, direction);
	kvt_hop hop = {
		.link = topology->gpu[direction],
		.rate = rate,
		.per_byte = 1,
		/* each rank's engine pays for its own descriptors */
		.per_copy_second = direct ? 0 : rate / MAX(spec->ranks, 1),
	};
	kvt_path_add_hop(path, &hop);
}

void kvt_path_add_fabric(kvt_path *path, const kvt_topology *topology, kvt_direction direction)
{
	const kvt_topology_spec *spec = &topology->spec;
	double share = efficiency(spec), rate = spec->nic_rate * share;
	if (spec->target_nic_rate > 0)
		kvt_path_add(
			path, topology->target_nic[direction], spec->target_nic_rate * share, 1);
	kvt_hop hop = {
		.link = topology->nic[direction],
		.rate = rate,
		.per_byte = 1,
		.min_per_io = spec->nic_message_rate > 0 ? rate / spec->nic_message_rate : 0,
	};
	if (spec->nic_serial)
		hop.per_io = MAX(hop.min_per_io - 4096, 0);
	kvt_path_add_hop(path, &hop);
}

void kvt_path_add_target_dram(kvt_path *path, const kvt_topology *topology, double crossings)
{
	if (topology->spec.target_dram_rate > 0)
		kvt_path_add(
			path, topology->target_dram, topology->spec.target_dram_rate, crossings);
}

void kvt_path_add_client_ios(kvt_path *path, const kvt_topology *topology)
{
	kvt_hop hop = {
		.link = topology->client_ios,
		.rate = topology->spec.client_io_rate,
		.per_io = 1,
	};
	if (hop.rate > 0)
		kvt_path_add_hop(path, &hop);
}

void kvt_path_add_processors(
	kvt_path *path, const kvt_topology *topology, double seconds, double rate)
{
	kvt_hop hop = {
		.link = topology->processors,
		.rate = topology->spec.processors * KVT_PROCESSOR_UNITS,
		.per_byte = rate > 0 ? KVT_PROCESSOR_UNITS / rate : 0,
		.per_io = seconds * KVT_PROCESSOR_UNITS,
	};
	if (hop.rate > 0 && (hop.per_byte > 0 || hop.per_io > 0))
		kvt_path_add_hop(path, &hop);
}

static double hop_units(const kvt_hop *hop, const kvt_path_load *load)
{
	double added = hop->per_byte * load->bytes + hop->per_io * load->device_ios +
		       hop->per_copy_second * load->copy_seconds +
		       hop->per_slot_second * load->slot_seconds;
	return MAX(added, hop->min_per_io * load->device_ios);
}

void kvt_path_set_flow(const kvt_path *path, const kvt_path_load *load, kvt_flow_spec *flow)
{
	flow->path_length = path->n_hops;
	for (unsigned i = 0; i < path->n_hops; i++) {
		flow->path[i] = path->hops[i].link;
		flow->cost[i] = hop_units(&path->hops[i], load) / load->bytes;
	}
}
