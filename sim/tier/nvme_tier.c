/*
 * nvme_tier.c: an array of equal NVMe drives, in the client (nvme) or on storage targets behind the
 * fabric (remote-nvme), as modelled tiers. Pages are striped over all drives; a drive is a
 * bandwidth that reads and writes share, commands a second, and a latency with a tail.
 */
#include <math.h>
#include <stddef.h>

#include "models/hardware.h"
#include "sim/base/error.h"
#include "sim/tier/builtin_tiers.h"
#include "sim/tier/modelled_tier.h"

typedef struct nvme_settings {
	char *drive;
	int64_t drives, queue_depth;
	uint64_t max_transfer, capacity;
	double compression;
	bool coalesce;
} nvme_settings;

#define SETTING(field) offsetof(nvme_settings, field)

static const kvt_option nvme_options[] = {
	{ "drive", KVT_OPTION_STRING, 0, SETTING(drive), "scaleflux-csd5000", 0, 0, NULL,
		"drive model: a name under models/drive or a path" },
	{ "drives", KVT_OPTION_INTEGER, 0, SETTING(drives), "8", 1, 100000, NULL,
		"drives that pages are striped over" },
	{ "queue_depth", KVT_OPTION_INTEGER, 0, SETTING(queue_depth), "0", 0, 1e6, NULL,
		"commands in flight a drive; 0: what the drive model says" },
	{ "max_transfer", KVT_OPTION_BYTES, 0, SETTING(max_transfer), "0B", 0, 1e12, NULL,
		"neighbouring pages are read in one command up to this size; 0B: the drive's" },
	{ "coalesce", KVT_OPTION_BOOL, 0, SETTING(coalesce), "yes", 0, 0, NULL,
		"whether neighbouring pages lie together on the drives; no: a command a page" },
	{ "compression", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, SETTING(compression), "1", 1, 16, NULL,
		"ratio that a compressing drive reaches on KV pages" },
	{ "capacity", KVT_OPTION_BYTES, 0, SETTING(capacity), "0B", 0, 0, NULL,
		"bytes the array holds; 0B: drives x the drive's capacity x compression" },
	{ 0 },
};

/* What of the array's rate, in host bytes/s, one direction reaches. */
static double array_rate(const kvt_drive *drive, const nvme_settings *settings, double bandwidth)
{
	double rate = bandwidth * settings->compression;
	if (drive->link_bandwidth > 0 && rate > drive->link_bandwidth)
		rate = drive->link_bandwidth;
	return rate * (double)settings->drives;
}

static kvt_latency sum_latency(kvt_time median, kvt_time p99, kvt_time more, kvt_time more_p99)
{
	return (kvt_latency){ kvt_time_to_seconds(median + more),
		kvt_time_to_seconds(p99 + more_p99) };
}

/* The drives' hops of both directions, over links of the array's own. */
static void add_array(kvt_modelled_spec *spec, kvt_network *network, const kvt_drive *drive,
	const nvme_settings *settings, const char *name)
{
	int64_t depth = settings->queue_depth > 0 ? settings->queue_depth : drive->queue_depth;
	double read_rate = array_rate(drive, settings, drive->read_bandwidth);
	double write_rate = array_rate(drive, settings, drive->write_bandwidth);
	g_autofree char *media_name = g_strconcat(name, "-drives", NULL);
	kvt_link media = kvt_network_add_link(network, media_name, read_rate);
	kvt_path_add(&spec->read.path, media);
	kvt_path_add(&spec->write.path, media);
	spec->write.path.hops[0].per_byte = read_rate / write_rate;

	/* commands a second: what the drive is rated at, or what its queue allows (Little's law) */
	double drives = (double)settings->drives;
	double read_ios = drive->read_iops, write_ios = drive->write_iops;
	double latency = kvt_time_to_seconds(drive->read_latency);
	if (latency > 0 && (double)depth / latency < read_ios)
		read_ios = (double)depth / latency;
	g_autofree char *commands_name = g_strconcat(name, "-commands", NULL);
	kvt_link commands = kvt_network_add_link(network, commands_name, read_ios * drives);
	kvt_path_add_ios(&spec->read.path, commands);
	kvt_path_add_ios(&spec->write.path, commands);
	spec->write.path.hops[1].per_io = write_ios > 0 ? MAX(read_ios / write_ios, 1) : 1;

	spec->queue_depth = (unsigned)(depth * settings->drives);
	spec->max_io_bytes =
		settings->max_transfer > 0 ? settings->max_transfer : drive->transfer_max;
	spec->page_ios = !settings->coalesce;
	spec->capacity =
		settings->capacity > 0
			? settings->capacity
			: (uint64_t)((double)drive->capacity * settings->compression * drives);
}

static kvt_tier *open_array(const kvt_tier_ops *ops, const kvt_tier_env *env,
	const nvme_settings *settings, gboolean remote, GError **error)
{
	const kvt_topology *topology = env->topology;
	if (remote && topology->spec.nic_rate <= 0) {
		kvt_error_usage(error,
			"tier %s: the system has no NIC, expected [fabric] nics >= 1", ops->name);
		return NULL;
	}
	g_autoptr(kvt_drive) drive = kvt_drive_load(settings->drive, error);
	if (!drive)
		return NULL;
	if (settings->compression > 1 && !drive->compression) {
		kvt_error_usage(error,
			"tier %s: compression: drive %s does not compress, expected 1 or a drive "
			"with compression",
			ops->name, drive->name);
		return NULL;
	}
	kvt_modelled_spec spec = { .io_ranks = topology->spec.ranks };
	add_array(&spec, env->network, drive, settings, ops->name);
	kvt_time fabric = 0, fabric_p99 = 0;
	if (remote) {
		fabric = topology->spec.fabric_latency;
		fabric_p99 = topology->spec.fabric_latency_p99;
		kvt_path_add_fabric(&spec.read.path, topology);
		kvt_path_add_fabric(&spec.write.path, topology);
	}
	spec.read.latency =
		sum_latency(drive->read_latency, drive->read_latency_p99, fabric, fabric_p99);
	spec.write.latency =
		sum_latency(drive->write_latency, drive->write_latency_p99, fabric, fabric_p99);
	kvt_path_add_to_gpu(&spec.read.path, topology, TRUE);
	kvt_path_add_to_gpu(&spec.write.path, topology, TRUE);
	return kvt_modelled_tier_new(ops, env, &spec);
}

static kvt_tier *nvme_open(const kvt_tier_env *env, const void *settings, GError **error)
{
	return open_array(&kvt_tier_nvme, env, settings, FALSE, error);
}

static kvt_tier *remote_nvme_open(const kvt_tier_env *env, const void *settings, GError **error)
{
	return open_array(&kvt_tier_remote_nvme, env, settings, TRUE, error);
}

const kvt_tier_ops kvt_tier_nvme = {
	.name = "nvme",
	.summary = "NVMe drives in the client",
	.flags = KVT_TIER_MODELLED,
	.options = nvme_options,
	.settings_size = sizeof(nvme_settings),
	.open = nvme_open,
	KVT_MODELLED_OPS,
};

const kvt_tier_ops kvt_tier_remote_nvme = {
	.name = "remote-nvme",
	.summary = "NVMe drives on storage targets, read and written over RDMA",
	.flags = KVT_TIER_MODELLED,
	.options = nvme_options,
	.settings_size = sizeof(nvme_settings),
	.open = remote_nvme_open,
	KVT_MODELLED_OPS,
};
