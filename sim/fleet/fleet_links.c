/* fleet_links.c: nodes' topologies put side by side, and routes over them. */
#include "sim/fleet/fleet_links.h"

#include "models/llm_cost.h"
#include "sim/engine/system.h"

struct kvt_fleet_links {
	const kvt_fleet_settings *settings;
	kvt_network *network;
	kvt_topology_spec spec;
	uint64_t block_io; /* bytes of a block in one layer on one rank */
	unsigned n_replicas, n_nodes;
	kvt_topology *replicas; /* [n_replicas]: the node's links and its own PCIe */
	GArray *arrays;         /* kvt_fleet_array */
	unsigned *tier_arrays;  /* [n_nodes x tiers]: of drives; remote ones are node 0's */
	kvt_link *ports;        /* [n_nodes x tiers]: of CXL */
	GArray *list;           /* kvt_fleet_link */
	GHashTable *routes;     /* by both places */
};

static void list_link(kvt_fleet_links *l, kvt_link link, double rate, const char *format, ...)
	G_GNUC_PRINTF(4, 5);

static void list_link(kvt_fleet_links *l, kvt_link link, double rate, const char *format, ...)
{
	if (rate <= 0)
		return;
	va_list arguments;
	va_start(arguments, format);
	kvt_fleet_link entry = { link, g_strdup_vprintf(format, arguments), rate };
	va_end(arguments);
	g_array_append_val(l->list, entry);
}

static bool is_remote(const kvt_tier_settings *tier)
{
	return tier->kind == KVT_FLEET_REMOTE_DRAM || tier->kind == KVT_FLEET_REMOTE_NVME;
}

static bool is_cxl(const kvt_tier_settings *tier)
{
	return tier->kind == KVT_FLEET_CXL;
}

static const kvt_tier_settings *tier_of(const kvt_fleet_links *l, unsigned level)
{
	g_assert(level >= 1 && level <= l->settings->n_tiers);
	return &l->settings->tiers[level - 1];
}

/* One node's links. The targets' are the first node's for all. */
static kvt_topology add_node(kvt_fleet_links *l, unsigned node, const kvt_topology *first)
{
	kvt_topology_spec spec = l->spec;
	spec.hbm_rate = spec.gpu_link_rate = spec.gpu_store_rate = spec.processors = 0;
	if (first)
		spec.target_nic_rate = spec.target_dram_rate = 0;
	kvt_topology topology;
	kvt_topology_init(&topology, l->network, &spec);
	double nic = spec.nic_rate * (spec.fabric_efficiency > 0 ? spec.fabric_efficiency : 1);
	list_link(l, topology.dram, spec.dram_rate, "node %u dram", node);
	list_link(l, topology.nic[KVT_TO_GPU], nic, "node %u nic in", node);
	list_link(l, topology.nic[KVT_FROM_GPU], nic, "node %u nic out", node);
	list_link(l, topology.client_ios, spec.client_io_rate, "node %u ios", node);
	list_link(l, topology.checksum, spec.checksum_rate, "node %u checksum", node);
	if (first) {
		topology.spec.target_nic_rate = first->spec.target_nic_rate;
		topology.spec.target_dram_rate = first->spec.target_dram_rate;
		topology.target_dram = first->target_dram;
		for (unsigned i = 0; i < KVT_DIRECTIONS; i++)
			topology.target_nic[i] = first->target_nic[i];
		return topology;
	}
	double target = spec.target_nic_rate * (nic > 0 ? nic / spec.nic_rate : 1);
	list_link(l, topology.target_nic[KVT_TO_GPU], target, "targets nic out");
	list_link(l, topology.target_nic[KVT_FROM_GPU], target, "targets nic in");
	list_link(l, topology.target_dram, spec.target_dram_rate, "targets dram");
	return topology;
}

static void add_replica(kvt_fleet_links *l, unsigned replica, const kvt_topology *node)
{
	kvt_topology *topology = &l->replicas[replica];
	*topology = *node;
	topology->spec.gpu_link_rate = l->spec.gpu_link_rate;
	topology->spec.gpu_store_rate = l->spec.gpu_store_rate;
	double store = l->spec.gpu_store_rate > 0 ? l->spec.gpu_store_rate : l->spec.gpu_link_rate;
	const double rates[KVT_DIRECTIONS] = { l->spec.gpu_link_rate, store };
	static const char *const ways[KVT_DIRECTIONS] = { "in", "out" };
	for (unsigned i = 0; i < KVT_DIRECTIONS; i++) {
		topology->gpu[i] = kvt_network_add_link(l->network, ways[i], rates[i]);
		list_link(l, topology->gpu[i], rates[i], "replica %u pcie %s", replica, ways[i]);
	}
}

static const kvt_drive_slot *slot_of(const kvt_fleet_links *l, const kvt_tier_settings *tier)
{
	return is_remote(tier) ? &l->spec.target_slot : &l->spec.client_slot;
}

static double drive_rate(const kvt_fleet_links *l, const kvt_tier_settings *tier, double bandwidth)
{
	return kvt_drive_slot_rate(slot_of(l, tier), tier->drive, bandwidth, tier->compression);
}

static unsigned add_array(kvt_fleet_links *l, const kvt_tier_settings *tier, unsigned node)
{
	double rate = drive_rate(l, tier, tier->drive->read_bandwidth) * (double)tier->drives;
	kvt_fleet_array array = { kvt_network_add_link(l->network, tier->name, rate), rate,
		tier->drive->mixed_efficiency };
	g_array_append_val(l->arrays, array);
	if (is_remote(tier))
		list_link(l, array.link, rate, "targets %s drives", tier->name);
	else
		list_link(l, array.link, rate, "node %u %s drives", node, tier->name);
	return l->arrays->len - 1;
}

static kvt_link add_port(kvt_fleet_links *l, const kvt_tier_settings *tier, unsigned node)
{
	kvt_link port = kvt_network_add_link(l->network, tier->name, tier->bandwidth);
	list_link(l, port, tier->bandwidth, "node %u %s ports", node, tier->name);
	return port;
}

static void clear_list_link(gpointer entry)
{
	g_free(((kvt_fleet_link *)entry)->name);
}

kvt_fleet_links *kvt_fleet_links_new(
	const kvt_fleet_settings *settings, uint32_t block_tokens, kvt_network *network)
{
	const kvt_experiment *e = settings->experiment;
	const kvt_world models = { 0 };
	kvt_fleet_links *l = g_new0(kvt_fleet_links, 1);
	l->settings = settings;
	l->network = network;
	l->spec = kvt_system_topology_spec(&models, e);
	l->block_io = block_tokens * kvt_llm_kv_token_bytes(e->llm, (unsigned)e->ranks);
	l->n_replicas = (unsigned)settings->replicas;
	l->n_nodes = kvt_fleet_settings_nodes(settings);
	l->replicas = g_new0(kvt_topology, l->n_replicas);
	l->arrays = g_array_new(FALSE, FALSE, sizeof(kvt_fleet_array));
	l->list = g_array_new(FALSE, FALSE, sizeof(kvt_fleet_link));
	g_array_set_clear_func(l->list, clear_list_link);
	l->routes = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
	l->tier_arrays = g_new0(unsigned, (size_t)l->n_nodes *KVT_FLEET_TIERS_MAX);
	l->ports = g_new0(kvt_link, (size_t)l->n_nodes * KVT_FLEET_TIERS_MAX);
	kvt_topology first;
	for (unsigned node = 0; node < l->n_nodes; node++) {
		kvt_topology topology = add_node(l, node, node > 0 ? &first : NULL);
		if (node == 0)
			first = topology;
		unsigned *arrays = &l->tier_arrays[node * KVT_FLEET_TIERS_MAX];
		for (unsigned i = 0; i < settings->n_tiers; i++) {
			const kvt_tier_settings *tier = &settings->tiers[i];
			arrays[i] = KVT_NO_ARRAY;
			if (is_cxl(tier))
				l->ports[node * KVT_FLEET_TIERS_MAX + i] = add_port(l, tier, node);
			if (tier->drive)
				arrays[i] = node > 0 && is_remote(tier) ? l->tier_arrays[i]
									: add_array(l, tier, node);
		}
		unsigned replica = node * (unsigned)settings->replicas_a_node;
		for (unsigned i = 0; i < settings->replicas_a_node && replica < l->n_replicas; i++)
			add_replica(l, replica++, &topology);
	}
	return l;
}

void kvt_fleet_links_free(kvt_fleet_links *l)
{
	if (!l)
		return;
	g_hash_table_unref(l->routes);
	g_array_unref(l->list);
	g_array_unref(l->arrays);
	g_free(l->tier_arrays);
	g_free(l->ports);
	g_free(l->replicas);
	g_free(l);
}

unsigned kvt_fleet_links_node(const kvt_fleet_links *l, unsigned replica)
{
	return replica / (unsigned)l->settings->replicas_a_node;
}

const kvt_fleet_array *kvt_fleet_links_array(const kvt_fleet_links *l, unsigned array)
{
	return &g_array_index(l->arrays, kvt_fleet_array, array);
}

unsigned kvt_fleet_links_n_arrays(const kvt_fleet_links *l)
{
	return l->arrays->len;
}

const kvt_fleet_link *kvt_fleet_links_list(const kvt_fleet_links *l, unsigned *n)
{
	*n = l->list->len;
	return (const kvt_fleet_link *)(void *)l->list->data;
}

/* Appends the drives of a place: IOPS and a write's cost in what a read takes of them. */
static void add_drives(
	kvt_fleet_links *l, kvt_fleet_route *route, kvt_fleet_place place, gboolean write)
{
	const kvt_tier_settings *tier = tier_of(l, place.level);
	if (!tier->drive)
		return;
	unsigned node = kvt_fleet_links_node(l, place.replica);
	unsigned index = l->tier_arrays[node * KVT_FLEET_TIERS_MAX + place.level - 1];
	const kvt_fleet_array *array = kvt_fleet_links_array(l, index);
	const kvt_drive *drive = tier->drive;
	double slower = write ? drive_rate(l, tier, drive->read_bandwidth) /
					drive_rate(l, tier, drive->write_bandwidth)
			      : 1;
	double iops = (write ? drive->write_iops : drive->read_iops) * (double)tier->drives;
	const kvt_hop hop = { .link = array->link,
		.rate = array->rate,
		.per_byte = slower,
		.min_per_io = array->rate / iops };
	kvt_path_add_hop(&route->path, &hop);
	route->latency += write ? drive->write_latency : drive->read_latency;
	*(write ? &route->writes : &route->reads) = index;
}

/* Appends a node's CXL ports. Loads and stores go there, no commands. */
static void add_ports(kvt_fleet_links *l, kvt_fleet_route *route, kvt_fleet_place place)
{
	const kvt_tier_settings *tier = tier_of(l, place.level);
	if (!is_cxl(tier))
		return;
	unsigned node = kvt_fleet_links_node(l, place.replica);
	kvt_path_add(&route->path, l->ports[node * KVT_FLEET_TIERS_MAX + place.level - 1],
		tier->bandwidth, 1);
	route->latency += tier->latency;
}

/* Appends the way between a tier's medium and the node that the route is of. */
static void add_tier(
	kvt_fleet_links *l, kvt_fleet_route *route, kvt_fleet_place place, kvt_direction direction)
{
	const kvt_tier_settings *tier = tier_of(l, place.level);
	const kvt_topology *topology = &l->replicas[place.replica];
	add_drives(l, route, place, direction == KVT_FROM_GPU);
	add_ports(l, route, place);
	if (!is_remote(tier))
		return;
	kvt_path_add_target_dram(&route->path, topology, tier->drive ? 2 : 1);
	kvt_path_add_fabric(&route->path, topology, direction);
	route->latency += topology->spec.fabric_latency;
}

static uint64_t io_bytes(const kvt_fleet_links *l, unsigned level)
{
	if (level == 0)
		return UINT64_MAX;
	const kvt_tier_settings *tier = tier_of(l, level);
	uint64_t bytes = tier->io_bytes > 0 ? tier->io_bytes : l->block_io;
	return tier->drive ? MIN(bytes, tier->drive->transfer_max) : bytes;
}

/* Between HBM and a tier. */
static void make_gpu_route(
	kvt_fleet_links *l, kvt_fleet_route *route, kvt_fleet_place tier, kvt_direction direction)
{
	const kvt_topology *topology = &l->replicas[tier.replica];
	gboolean cxl = is_cxl(tier_of(l, tier.level));
	gboolean device = !cxl && tier_of(l, tier.level)->kind != KVT_FLEET_DRAM;
	add_tier(l, route, tier, direction);
	kvt_topology way = *topology;
	/* copies from or to an expander are a host's, beside its DRAM */
	if (cxl)
		way.spec.dram_rate = 0;
	kvt_path_add_gpu(&route->path, &way, direction, device);
	if (!device || !topology->spec.gpu_direct) {
		route->copy_seconds = kvt_topology_copy_cost(topology, (double)route->io_bytes);
		route->latency += kvt_time_from_seconds(route->copy_seconds);
	}
	if (device)
		kvt_path_add_client_ios(&route->path, topology);
}

/* From one tier of a node to another, through its DRAM; within the targets, through theirs. */
static void make_tier_route(
	kvt_fleet_links *l, kvt_fleet_route *route, kvt_fleet_place from, kvt_fleet_place to)
{
	const kvt_topology *topology = &l->replicas[from.replica];
	const kvt_tier_settings *source = tier_of(l, from.level), *sink = tier_of(l, to.level);
	if (is_remote(source) && is_remote(sink)) {
		add_drives(l, route, from, FALSE);
		add_drives(l, route, to, TRUE);
		kvt_path_add_target_dram(
			&route->path, topology, source->drive && sink->drive ? 2 : 1);
		return;
	}
	add_tier(l, route, from, KVT_TO_GPU);
	add_tier(l, route, to, KVT_FROM_GPU);
	gboolean memory = source->kind == KVT_FLEET_DRAM || sink->kind == KVT_FLEET_DRAM;
	/* drives and NICs write to an expander and read it as they do DRAM */
	if (!memory && (is_cxl(source) || is_cxl(sink)))
		return;
	if (topology->spec.dram_rate > 0)
		kvt_path_add(
			&route->path, topology->dram, topology->spec.dram_rate, memory ? 1 : 2);
}

/* Appends what one end of a way between replicas takes but its DRAM, of which it says how often a
 * byte crosses it. */
static double add_end(
	kvt_fleet_links *l, kvt_fleet_route *route, kvt_fleet_place place, kvt_direction direction)
{
	kvt_topology way = l->replicas[place.replica];
	way.spec.dram_rate = 0;
	if (place.level == 0) {
		kvt_path_add_gpu(&route->path, &way, direction, TRUE);
		return way.spec.gpu_direct ? 0 : 2;
	}
	const kvt_tier_settings *tier = tier_of(l, place.level);
	/* what goes to an end's GPU, or to this medium in its place, is written */
	add_drives(l, route, place, direction == KVT_TO_GPU);
	add_ports(l, route, place);
	if (is_cxl(tier))
		return 0;
	return tier->drive ? 2 : 1;
}

static void add_dram(kvt_fleet_route *route, const kvt_topology *node, double crossings)
{
	if (crossings > 0 && node->spec.dram_rate > 0)
		kvt_path_add(&route->path, node->dram, node->spec.dram_rate, crossings);
}

/* From one replica's HBM, or a tier of its node, to those of another. */
static void make_peer_route(
	kvt_fleet_links *l, kvt_fleet_route *route, kvt_fleet_place from, kvt_fleet_place to)
{
	const kvt_topology *home = &l->replicas[from.replica], *here = &l->replicas[to.replica];
	double crossings = add_end(l, route, from, KVT_FROM_GPU);
	if (home->dram == here->dram) {
		add_dram(route, home, crossings + add_end(l, route, to, KVT_TO_GPU));
		return;
	}
	add_dram(route, home, crossings);
	if (home->spec.nic_rate > 0) {
		double rate = home->spec.nic_rate *
			      (home->spec.fabric_efficiency > 0 ? home->spec.fabric_efficiency : 1);
		kvt_path_add(&route->path, home->nic[KVT_FROM_GPU], rate, 1);
		kvt_path_add(&route->path, here->nic[KVT_TO_GPU], rate, 1);
		route->latency += here->spec.fabric_latency;
	}
	add_dram(route, here, add_end(l, route, to, KVT_TO_GPU));
}

const kvt_fleet_route *kvt_fleet_links_route(
	kvt_fleet_links *l, kvt_fleet_place from, kvt_fleet_place to)
{
	gint64 key = (gint64)from.replica << 40 | (gint64)from.level << 32 |
		     (gint64)to.replica << 8 | to.level;
	kvt_fleet_route *route = g_hash_table_lookup(l->routes, &key);
	if (route)
		return route;
	route = g_new0(kvt_fleet_route, 1);
	route->reads = route->writes = KVT_NO_ARRAY;
	route->io_bytes = MIN(io_bytes(l, from.level), io_bytes(l, to.level));
	if (route->io_bytes == UINT64_MAX)
		route->io_bytes = l->block_io;
	if (from.replica != to.replica)
		make_peer_route(l, route, from, to);
	else if (to.level == 0)
		make_gpu_route(l, route, from, KVT_TO_GPU);
	else if (from.level == 0)
		make_gpu_route(l, route, to, KVT_FROM_GPU);
	else
		make_tier_route(l, route, from, to);
	g_hash_table_insert(l->routes, g_memdup2(&key, sizeof(key)), route);
	return route;
}
