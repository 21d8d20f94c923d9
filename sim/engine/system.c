/* system.c: from the models' numbers to links, tiers and a device. */
#include "sim/engine/system.h"

#include "models/llm_cost.h"
#include "sim/base/error.h"
#include "sim/engine/hosted_device.h"
#include "sim/engine/modelled_device.h"
#include "sim/tier/fault_tier.h"
#include "sim/tier/ring_tier.h"
#include "sim/tier/striped_tier.h"

/* bytes/s of one GPU's copies in one direction, `measured` on the host or 0: no more than the link
 * between its slot and this GPU. */
static double copy_rate(const kvt_experiment *e, double measured)
{
	double link = kvt_host_link_rate(
		e->host, e->host->gpu_lanes, e->gpu->pcie_generation, e->gpu->pcie_lanes);
	return measured > 0 ? MIN(measured, link) : link;
}

/* Line rate of a NIC in a host's slot: what of it the slot can fill. */
static double nic_rate(const kvt_nic *nic, const kvt_host *host, double efficiency)
{
	double line = nic->line_rate * (double)nic->ports;
	double slot =
		kvt_host_link_rate(host, host->nic_lanes, nic->pcie_generation, nic->pcie_lanes);
	return MIN(line, slot / efficiency);
}

static kvt_drive_slot drive_slot(const kvt_host *host)
{
	return (kvt_drive_slot){ host->pcie_generation, host->drive_lanes };
}

/* Ranks that are there. */
static unsigned held_ranks(const kvt_world *world, const kvt_experiment *e)
{
	return world->one_rank ? 1 : (unsigned)e->ranks;
}

kvt_topology_spec kvt_system_topology_spec(const kvt_world *world, const kvt_experiment *e)
{
	const kvt_gpu *gpu = e->gpu;
	double ranks = (double)held_ranks(world, e);
	double efficiency = e->fabric_efficiency > 0 ? e->fabric_efficiency : e->nic->efficiency;
	return (kvt_topology_spec){
		.ranks = held_ranks(world, e),
		.hbm_rate = gpu->memory_bandwidth * gpu->memory_efficiency * ranks,
		.gpu_link_rate = copy_rate(e, e->host->copy_to_gpu) * ranks,
		.gpu_store_rate = copy_rate(e, e->host->copy_from_gpu) * ranks,
		.gpu_copy_cost = kvt_time_to_seconds(e->host->copy_setup),
		.copies = e->host->n_copy_points > 0 ? e->host : NULL,
		.dram_rate = kvt_host_dram_bandwidth(e->host),
		.nic_rate = nic_rate(e->nic, e->host, efficiency) * (double)e->nics,
		.fabric_efficiency = efficiency,
		.fabric_latency = e->nic->read_latency,
		.fabric_latency_p99 = e->nic->read_latency_p99,
		.nic_message_rate = e->nic->message_rate * (double)e->nics,
		.nic_serial = e->nic->serial,
		.nic_message_bandwidth = e->nic->message_bandwidth,
		.target_nic_rate = nic_rate(e->nic, e->target, efficiency) *
				   (double)(e->targets * e->target_nics),
		.target_dram_rate = kvt_host_dram_bandwidth(e->target) * (double)e->targets,
		.client_io_rate = e->io_rate > 0 ? e->io_rate : e->host->io_rate,
		.checksum_rate = e->checksum_rate > 0 ? e->checksum_rate : e->host->checksum_rate,
		.processors = gpu->host_threads > 0 ? (double)e->host->cores : 0,
		.gpu_direct = e->gpu_direct,
		.client_slot = drive_slot(e->host),
		.target_slot = drive_slot(e->target),
	};
}

static gboolean open_hbm(kvt_system *system, const kvt_tier_env *env, GError **error)
{
	const kvt_experiment *e = system->experiment;
	uint64_t ranks = held_ranks(&system->world, e);
	uint64_t room;
	if (!kvt_experiment_kv_room(e, &room, error))
		return FALSE;
	system->weight_bytes = kvt_llm_weight_bytes(e->llm, (unsigned)e->ranks) * ranks;
	system->reserved_bytes = e->activation_bytes * ranks;
	uint64_t capacity = room * ranks;
	g_autofree char *text =
		g_strdup_printf("[hbm]\ncapacity = %" G_GUINT64_FORMAT "B\n", capacity);
	g_autoptr(kvt_config) config = kvt_config_parse("hbm", text, error);
	if (!config)
		return FALSE;
	system->hbm = kvt_tier_open("hbm", env, kvt_config_section(config, "hbm"), error);
	return system->hbm != NULL;
}

/* Opens a tier, with the faults that the experiment asks for. */
static kvt_tier *open_node(
	const kvt_system *system, const char *name, kvt_tier_env env, unsigned i, GError **error)
{
	static const kvt_fault_settings dead = { .read_error_rate = 1, .write_error_rate = 1 };
	const kvt_experiment *e = system->experiment;
	const kvt_world *world = &system->world;
	env.instance = i;
	kvt_tier *tier;
	if (world->open_store)
		tier = world->open_store(world->arg, &env, name, error);
	else
		tier = kvt_tier_open(
			name, &env, kvt_config_section_or_empty(e->config, name), error);
	bool is_dead = i / KVT_SYSTEM_STORES_MAX < e->dead_nodes;
	if (tier && (is_dead || kvt_fault_settings_any(&e->faults)))
		tier = kvt_fault_tier_new(&env, tier, is_dead ? &dead : &e->faults);
	return tier;
}

/* Opens the i-th storage tier, of one node or of several. */
static kvt_tier *open_store(
	const kvt_system *system, const char *name, kvt_tier_env env, unsigned i, GError **error)
{
	const kvt_experiment *e = system->experiment;
	const unsigned n = (unsigned)e->nodes;
	if (n == 1)
		return open_node(system, name, env, i, error);
	kvt_tier *nodes[KVT_RING_PARTS_MAX];
	char *names[KVT_RING_PARTS_MAX + 1] = { NULL };
	unsigned opened = 0;
	for (; opened < n; opened++) {
		nodes[opened] =
			open_node(system, name, env, opened * KVT_SYSTEM_STORES_MAX + i, error);
		if (!nodes[opened])
			break;
		names[opened] = g_strdup_printf("%s %u", name, opened);
	}
	kvt_tier *ring = NULL;
	const kvt_ring_settings settings = { .replicas = (unsigned)e->replicas };
	if (opened == n)
		ring = kvt_ring_tier_new(&env, nodes, (const char *const *)names, n, &settings);
	for (unsigned j = 0; j < opened; j++) {
		if (!ring)
			kvt_tier_close(nodes[j]);
		g_free(names[j]);
	}
	return ring;
}

static gboolean open_stores(kvt_system *system, const kvt_tier_env *env, GError **error)
{
	const kvt_experiment *e = system->experiment;
	const char *names[] = { e->tier_name, e->second_tier_name };
	gboolean wanted[] = { e->second_share<1, e->second_share> 0 };
	for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
		if (!wanted[i])
			continue;
		kvt_tier *tier = open_store(system, names[i], *env, i, error);
		if (!tier)
			return FALSE;
		system->stores[system->n_stores++] = tier;
	}
	system->storage = system->stores[0];
	if (system->n_stores == 2) {
		system->storage = kvt_striped_tier_new(
			env, system->stores[0], system->stores[1], e->second_share);
	}
	return TRUE;
}

/* Opens what a session that comes here leaves its pages in. */
static gboolean open_keep(kvt_system *system, const kvt_tier_env *env, GError **error)
{
	const kvt_experiment *e = system->experiment;
	const kvt_world *world = &system->world;
	if (e->kind != KVT_RUN_MIGRATE || *e->keep_tier == '\0')
		return TRUE;
	kvt_tier_env own = *env;
	own.instance = KVT_SYSTEM_STORES_MAX * KVT_RING_PARTS_MAX;
	system->keep =
		world->open_keep
			? world->open_keep(world->arg, &own, e->keep_tier, error)
			: kvt_tier_open(e->keep_tier, &own,
				  kvt_config_section_or_empty(e->config, e->keep_tier), error);
	return system->keep != NULL;
}

/* What only a language model needs: HBM beside its weights, and a device that computes. */
static gboolean open_device(kvt_system *system, const kvt_tier_env *env, GError **error)
{
	const kvt_experiment *experiment = system->experiment;
	kvt_cost_options options = {
		.ranks = (unsigned)experiment->ranks,
		.decode_all_reduce = (kvt_all_reduce)experiment->decode_all_reduce,
		.all_reduce_rate = experiment->all_reduce_rate,
		.kernel_overhead = experiment->kernel_overhead,
		.call_overhead = experiment->host->call_overhead,
		.models = experiment->models,
	};
	system->cost = kvt_work_cost_new(experiment->llm, experiment->gpu, &options, error);
	if (!system->cost || !open_hbm(system, env, error))
		return FALSE;
	kvt_kv_layout_init(&system->engine.layout, experiment->llm, (unsigned)experiment->ranks, 1,
		(uint64_t)experiment->page_tokens);
	const kvt_world *world = &system->world;
	if (world->one_rank)
		kvt_kv_layout_hold_one(&system->engine.layout);
	if (world->open_device)
		system->device = world->open_device(world->arg, system, error);
	else if (experiment->gpu->host_threads > 0)
		system->device = kvt_hosted_device_new(&system->topology, system->loop,
			system->cost, (unsigned)experiment->gpu->host_threads, system->timeline);
	else
		system->device =
			kvt_modelled_device_new(system->loop, system->cost, system->timeline);
	return system->device != NULL;
}

/* What the engine sees of all that. */
static void make_engine(kvt_system *system)
{
	kvt_engine *engine = &system->engine;
	kvt_decision_log *log = system->world.decisions;
	engine->loop = log ? kvt_decision_log_loop(log, system->loop) : system->loop;
	engine->storage = log ? kvt_decision_log_tier(log, system->storage) : system->storage;
	engine->device = system->device;
	if (log && system->device)
		engine->device = kvt_decision_log_device(log, system->device);
	engine->timeline = system->timeline;
	engine->load_track = kvt_timeline_track(system->timeline, "loads", 0);
}

kvt_system *kvt_system_new(const kvt_experiment *experiment, kvt_timeline *timeline, GError **error)
{
	const kvt_world models = { 0 };
	return kvt_system_new_in(&models, experiment, timeline, error);
}

kvt_system *kvt_system_new_in(const kvt_world *world, const kvt_experiment *experiment,
	kvt_timeline *timeline, GError **error)
{
	kvt_system *system = g_new0(kvt_system, 1);
	system->experiment = experiment;
	system->world = *world;
	system->timeline = timeline;
	system->loop = world->loop ? world->loop : kvt_virtual_loop_new();
	system->network = kvt_network_new(system->loop);
	kvt_topology_spec spec = kvt_system_topology_spec(world, experiment);
	kvt_topology_init(&system->topology, system->network, &spec);
	kvt_tier_env env = { .loop = system->loop,
		.network = system->network,
		.timeline = timeline,
		.seed = (uint64_t)experiment->seed,
		.models = experiment->models,
		.topology = &system->topology };
	if ((experiment->llm && !open_device(system, &env, error)) ||
		!open_stores(system, &env, error) || !open_keep(system, &env, error)) {
		kvt_system_free(system);
		return NULL;
	}
	make_engine(system);
	return system;
}

void kvt_system_free(kvt_system *system)
{
	if (!system)
		return;
	if (system->n_stores == 2)
		kvt_tier_close(system->storage);
	for (unsigned i = 0; i < system->n_stores; i++)
		kvt_tier_close(system->stores[i]);
	kvt_tier_close(system->keep);
	kvt_tier_close(system->hbm);
	kvt_device_free(system->device);
	kvt_work_cost_free(system->cost);
	kvt_network_free(system->network);
	if (!system->world.loop)
		kvt_loop_free(system->loop);
	g_free(system);
}

uint64_t kvt_system_kv_capacity(const kvt_system *system)
{
	kvt_tier_stats stats;
	system->hbm->ops->stats(system->hbm, &stats);
	return stats.capacity;
}

uint64_t kvt_system_native_tokens(const kvt_system *system)
{
	uint64_t capacity = kvt_system_kv_capacity(system), low = 0, high = 1;
	while (kvt_kv_page_bytes_total(&system->engine.layout, high) <= capacity)
		high *= 2;
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;
		if (kvt_kv_page_bytes_total(&system->engine.layout, middle) <= capacity)
			low = middle;
		else
			high = middle;
	}
	return low;
}
