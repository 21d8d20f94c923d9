/*
 * memory_tier.c: HBM, the client's DRAM and a storage target's DRAM as modelled tiers: a capacity,
 * a short latency and a path over the system's links.
 */
#include <stddef.h>

#include "sim/base/error.h"
#include "sim/tier/builtin_tiers.h"
#include "sim/tier/modelled_tier.h"

typedef struct memory_settings {
	uint64_t capacity, max_transfer;
	kvt_time latency, latency_p99, processor_time;
	double processor_rate;
	bool coalesce, in_turn;
} memory_settings;

#define SETTING(field) offsetof(memory_settings, field)
#define CAPACITY_OPTION(bytes)                                                                     \
	{                                                                                          \
		"capacity", KVT_OPTION_BYTES, 0, SETTING(capacity), bytes, 0, 0, NULL,             \
			"bytes of KV pages that it holds"                                          \
	}
#define MEMORY_OPTIONS(transfer, median, p99)                                                      \
	{ "max_transfer", KVT_OPTION_BYTES, 0, SETTING(max_transfer), transfer, 1, 1e12, NULL,     \
		"neighbouring pages are copied in one descriptor up to this size" },               \
		{ "coalesce", KVT_OPTION_BOOL, 0, SETTING(coalesce), "yes", 0, 0, NULL,            \
			"whether neighbouring pages lie together; no: a descriptor a page" },      \
		{ "latency", KVT_OPTION_TIME, 0, SETTING(latency), median, 0, 3600, NULL,          \
			"median latency of one descriptor" },                                      \
	{                                                                                          \
		"latency_p99", KVT_OPTION_TIME, 0, SETTING(latency_p99), p99, 0, 3600, NULL,       \
			"its 99th percentile"                                                      \
	}
#define IN_TURN_OPTION                                                                             \
	{                                                                                          \
		"in_turn", KVT_OPTION_BOOL, 0, SETTING(in_turn), "no", 0, 0, NULL,                 \
			"whether reads are served in order of arrival; no: they share what they "  \
			"cross"                                                                    \
	}

static const kvt_option hbm_options[] = {
	CAPACITY_OPTION("48GB"),
	MEMORY_OPTIONS("1GiB", "1us", "1us"),
	{ 0 },
};

static const kvt_option dram_options[] = {
	CAPACITY_OPTION("1TB"),
	MEMORY_OPTIONS("16MiB", "2us", "10us"),
	IN_TURN_OPTION,
	{ 0 },
};

static const kvt_option remote_dram_options[] = {
	CAPACITY_OPTION("2TB"),
	MEMORY_OPTIONS("1MiB", "1us", "5us"),
	IN_TURN_OPTION,
	{ "processor_time", KVT_OPTION_TIME, 0, SETTING(processor_time), "0s", 0, 1, NULL,
		"of a processor that a descriptor takes, where the device's threads need it too" },
	{ "processor_rate", KVT_OPTION_QUANTITY, KVT_UNIT_RATE, SETTING(processor_rate), "0GB/s", 0,
		1e15, NULL,
		"that a processor moves: software that stands in for a NIC; 0GB/s: any" },
	{ 0 },
};

static kvt_modelled_spec common_spec(const kvt_topology *topology, const memory_settings *settings)
{
	kvt_modelled_spec spec = {
		.capacity = settings->capacity,
		.max_io_bytes = settings->max_transfer,
		.page_ios = !settings->coalesce,
		.io_ranks = topology->spec.ranks,
	};
	for (unsigned i = 0; i < KVT_DIRECTIONS; i++)
		spec.direction[i].latency = (kvt_latency){ kvt_time_to_seconds(settings->latency),
			kvt_time_to_seconds(settings->latency_p99) };
	return spec;
}

static kvt_tier *hbm_open(const kvt_tier_env *env, const void *settings, GError **error)
{
	kvt_modelled_spec spec = common_spec(env->topology, settings);
	for (unsigned i = 0; i < KVT_DIRECTIONS; i++)
		kvt_path_add_hbm(&spec.direction[i].path, env->topology);
	return kvt_modelled_tier_new(&kvt_tier_hbm, env, &spec);
}

static kvt_tier *dram_open(const kvt_tier_env *env, const void *settings, GError **error)
{
	const kvt_topology *topology = env->topology;
	if (topology->spec.dram_rate <= 0) {
		kvt_error_usage(error, "the host has no DRAM bandwidth, expected a "
				       "[host] model with DRAM");
		return NULL;
	}
	kvt_modelled_spec spec = common_spec(topology, settings);
	spec.in_turn = ((const memory_settings *)settings)->in_turn;
	for (unsigned i = 0; i < KVT_DIRECTIONS; i++)
		kvt_path_add_gpu(&spec.direction[i].path, topology, i, FALSE);
	return kvt_modelled_tier_new(&kvt_tier_dram, env, &spec);
}

static kvt_tier *remote_dram_open(const kvt_tier_env *env, const void *settings, GError **error)
{
	const memory_settings *memory = settings;
	const kvt_topology *topology = env->topology;
	if (topology->spec.nic_rate <= 0 || topology->spec.target_dram_rate <= 0) {
		kvt_error_usage(error, "the system has no NIC or no storage "
				       "target, expected [fabric] nics >= 1 and targets >= 1");
		return NULL;
	}
	kvt_modelled_spec spec = common_spec(topology, settings);
	spec.copy_whole = TRUE;
	spec.in_turn = memory->in_turn;
	double fabric = kvt_time_to_seconds(topology->spec.fabric_latency);
	double fabric_p99 = kvt_time_to_seconds(topology->spec.fabric_latency_p99);
	for (unsigned i = 0; i < KVT_DIRECTIONS; i++) {
		kvt_direction_spec *direction = &spec.direction[i];
		direction->latency.median += fabric;
		direction->latency.p99 += fabric_p99;
		direction->command_rate = topology->spec.nic_message_bandwidth;
		kvt_path_add_client_ios(&direction->command_path, topology);
		/* those that are in turn stand in line at the first link */
		kvt_path_add_fabric(&direction->path, topology, i);
		kvt_path_add_target_dram(&direction->path, topology, 1);
		kvt_path_add_processors(&direction->path, topology,
			kvt_time_to_seconds(memory->processor_time), memory->processor_rate);
		kvt_path_add_gpu(&direction->path, topology, i, TRUE);
	}
	return kvt_modelled_tier_new(&kvt_tier_remote_dram, env, &spec);
}

const kvt_tier_ops kvt_tier_hbm = {
	.name = "hbm",
	.summary = "GPU memory of all ranks",
	.flags = KVT_TIER_MODELLED | KVT_TIER_DEVICE_MEMORY,
	.options = hbm_options,
	.settings_size = sizeof(memory_settings),
	.open = hbm_open,
	KVT_MODELLED_OPS,
};

const kvt_tier_ops kvt_tier_dram = {
	.name = "dram",
	.summary = "the client's DRAM, over PCIe",
	.flags = KVT_TIER_MODELLED,
	.options = dram_options,
	.settings_size = sizeof(memory_settings),
	.open = dram_open,
	KVT_MODELLED_OPS,
};

const kvt_tier_ops kvt_tier_remote_dram = {
	.name = "remote-dram",
	.summary = "DRAM of storage targets, over RDMA",
	.flags = KVT_TIER_MODELLED,
	.options = remote_dram_options,
	.settings_size = sizeof(memory_settings),
	.open = remote_dram_open,
	KVT_MODELLED_OPS,
};
