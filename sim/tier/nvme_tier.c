/*
 * nvme_tier.c: an array of equal NVMe drives, in the client (nvme) or on storage targets behind the
 * fabric (remote-nvme), as modelled tiers. Pages are striped over all drives; a drive is a
 * bandwidth and commands a second that reads and writes share, a queue, and a latency with a tail;
 * it serves reads in order of arrival, and writes, one I/O after the other or all that its queue
 * holds together.
 * No flash translation layer: its work is in mixed_efficiency and the tail.
 */
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
		"drives that pages are striped over, on all targets together" },
	{ "queue_depth", KVT_OPTION_INTEGER, 0, SETTING(queue_depth), "0", 0, 1e6, NULL,
		"commands in flight a drive; 0: what the drive model says" },
	{ "max_transfer", KVT_OPTION_BYTES, 0, SETTING(max_transfer), "0B", 0, 1e12, NULL,
		"neighbouring pages are read in one command up to this size; 0B: the drive's" },
	{ "coalesce", KVT_OPTION_BOOL, 0, SETTING(coalesce), "yes", 0, 0, NULL,
		"whether neighbouring pages lie together on the drives; no: a command a page" },
	{ "compression", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, SETTING(compression), "1", 1, 16, NULL,
		"ratio that a compressing drive reaches on KV pages, at most its largest" },
	{ "capacity", KVT_OPTION_BYTES, 0, SETTING(capacity), "0B", 0, 0, NULL,
		"bytes the array holds; 0B: drives x the drive's capacity x compression" },
	{ 0 },
};

/* An array while it is being opened. */
typedef struct array {
	const kvt_tier_ops *ops;
	const kvt_tier_env *env;
	const nvme_settings *settings;
	const kvt_drive *drive;
	gboolean remote;
	double queue_depth; /* commands in flight, all drives */
} array;

static double drive_rate(const array *a, double bandwidth)
{
	const kvt_topology_spec *topology = &a->env->topology->spec;
	const kvt_drive_slot *slot = a->remote ? &topology->target_slot : &topology->client_slot;
	return kvt_drive_slot_rate(slot, a->drive, bandwidth, a->settings->compression);
}

/* Appends a link of the array's own to a path in each direction. */
static void add_link(const array *a, const char *part, const kvt_hop *hop, kvt_path *read,
	kvt_path *write, double write_factor)
{
	g_autofree char *name = g_strconcat(a->ops->name, "-", part, NULL);
	kvt_hop added = *hop;
	added.link = kvt_network_add_link(a->env->network, name, hop->rate);
	kvt_path_add_hop(read, &added);
	added.per_byte *= write_factor;
	added.per_io *= write_factor;
	kvt_path_add_hop(write, &added);
}

static kvt_latency latency(const array *a, kvt_time median, kvt_time p99)
{
	const kvt_topology_spec *topology = &a->env->topology->spec;
	kvt_time fabric = a->remote ? topology->fabric_latency : 0;
	kvt_time fabric_p99 = a->remote ? topology->fabric_latency_p99 : 0;
	return (kvt_latency){ kvt_time_to_seconds(median + fabric),
		kvt_time_to_seconds(p99 + fabric_p99) };
}

/* 0 where commands are as fast as the drive. */
static double command_rate(double command, double device)
{
	return command > 0 && command < device ? command : 0;
}

/* What a command takes of a drive's turns, in bytes that it could move meanwhile. */
static double serial_bytes(bool serial, double rate, double iops)
{
	return serial ? MAX(rate / iops - 4096, 0) : 0;
}

/* The drives' own links, in what a read takes of them: bytes of the media, commands, and seconds of
 * queue slots. A write takes as much more of the first two as the drive writes slower. */
static void add_drives(const array *a, kvt_modelled_spec *spec)
{
	const kvt_drive *drive = a->drive;
	kvt_direction_spec *read = &spec->direction[KVT_TO_GPU];
	kvt_direction_spec *write = &spec->direction[KVT_FROM_GPU];
	double drives = (double)a->settings->drives;
	read->latency = latency(a, drive->read_latency, drive->read_latency_p99);
	write->latency = latency(a, drive->write_latency, drive->write_latency_p99);
	read->device_rate = drive_rate(a, drive->read_bandwidth);
	write->device_rate = drive_rate(a, drive->write_bandwidth);

	read->command_rate = command_rate(drive->read_command_bandwidth, read->device_rate);
	write->command_rate = command_rate(drive->write_command_bandwidth, write->device_rate);

	kvt_hop media = { .rate = read->device_rate * drives, .per_byte = 1 };
	double write_factor = read->device_rate / write->device_rate;
	add_link(a, "drives", &media, &read->path, &write->path, write_factor);
	if (drive->queue_shared)
		kvt_network_set_places(
			a->env->network, read->path.hops[0].link, (uint64_t)a->queue_depth);
	read->path.hops[read->path.n_hops - 1].per_io =
		serial_bytes(drive->read_serial, read->device_rate, drive->read_iops);
	write->path.hops[write->path.n_hops - 1].per_io =
		write_factor *
		serial_bytes(drive->write_serial, write->device_rate, drive->write_iops);
	kvt_hop commands = { .rate = drive->read_iops * drives, .per_io = 1 };
	add_link(a, "commands", &commands, &read->command_path, &write->command_path,
		drive->read_iops / drive->write_iops);
	kvt_hop slots = { .rate = a->queue_depth, .per_slot_second = 1 };
	add_link(a, "slots", &slots, &read->command_path, &write->command_path, 1);

	spec->mixed[0] = (kvt_mixed_link){ read->path.hops[0].link, media.rate };
	spec->mixed[1] = (kvt_mixed_link){ read->command_path.hops[0].link, commands.rate };
	spec->n_mixed = 2;
	spec->mixed_efficiency = drive->mixed_efficiency;
}

/* From the drives on: out of the target, over the fabric, into the GPU. */
static void add_way(const array *a, kvt_modelled_spec *spec)
{
	const kvt_topology *topology = a->env->topology;
	for (unsigned i = 0; i < KVT_DIRECTIONS; i++) {
		kvt_path *path = &spec->direction[i].path;
		kvt_path_add_client_ios(&spec->direction[i].command_path, topology);
		if (a->remote) {
			/* between drive and NIC a target keeps data in DRAM: in and out again */
			kvt_path_add_target_dram(path, topology, 2);
			kvt_path_add_fabric(path, topology, i);
		}
		kvt_path_add_gpu(path, topology, i, TRUE);
	}
}

/* Refuses what the drive cannot be. */
static gboolean check_settings(const array *a, GError **error)
{
	const kvt_drive *drive = a->drive;
	double most = drive->compression ? drive->compression_max : 1;
	if (a->settings->compression > most)
		return kvt_error_usage(error,
			"compression: %g is more than drive %s reaches, expected at most %g",
			a->settings->compression, drive->name, most);
	if (a->settings->max_transfer > drive->transfer_max) {
		g_autofree char *largest =
			kvt_unit_format((double)drive->transfer_max, KVT_UNIT_BYTES);
		return kvt_error_usage(error,
			"max_transfer: more than a command of drive %s moves, expected at most %s",
			drive->name, largest);
	}
	if (a->remote && a->env->topology->spec.nic_rate <= 0)
		return kvt_error_usage(error, "the system has no NIC, expected [fabric] nics >= 1");
	return TRUE;
}

static kvt_tier *open_array(const kvt_tier_ops *ops, const kvt_tier_env *env,
	const nvme_settings *settings, gboolean remote, GError **error)
{
	g_autoptr(kvt_model_store) models =
		env->models ? kvt_model_store_ref(env->models) : kvt_model_store_new();
	const kvt_drive *drive = kvt_model_store_drive(models, settings->drive, error);
	if (!drive)
		return NULL;
	int64_t depth = settings->queue_depth > 0 ? settings->queue_depth : drive->queue_depth;
	double drives = (double)settings->drives;
	array a = { ops, env, settings, drive, remote, (double)depth * drives };
	if (!check_settings(&a, error))
		return NULL;
	double capacity = (double)drive->capacity * settings->compression * drives;
	kvt_modelled_spec spec = {
		.capacity = settings->capacity > 0 ? settings->capacity : (uint64_t)capacity,
		.max_io_bytes =
			settings->max_transfer > 0 ? settings->max_transfer : drive->transfer_max,
		.page_ios = !settings->coalesce,
		.copy_whole = TRUE,
		.in_turn = TRUE,
		.io_ranks = env->topology->spec.ranks,
		.devices = (unsigned)settings->drives,
	};
	add_drives(&a, &spec);
	add_way(&a, &spec);
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
