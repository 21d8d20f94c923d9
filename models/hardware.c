/* hardware.c: option tables of GPUs, drives, NICs and hosts, and the few figures derived from them.
 */
#include "models/hardware.h"

#include <math.h>
#include <string.h>

#include "models/model_file.h"
#include "sim/base/error.h"

#define FIELD(type, name) offsetof(type, name)

/* kvt_option rows: name, type, unit, offset, default, low, high, choices, help. */
#define TEXT(T, f, fallback, help)                                                                 \
	{                                                                                          \
#f, KVT_OPTION_STRING, KVT_UNIT_NONE, FIELD(T, f), fallback, 0, 0, NULL, help      \
	}
#define COUNT(T, f, low, high, help)                                                               \
	{                                                                                          \
#f, KVT_OPTION_INTEGER, KVT_UNIT_COUNT, FIELD(T, f), NULL, low, high, NULL, help   \
	}
#define BYTES(T, f, low, help)                                                                     \
	{                                                                                          \
#f, KVT_OPTION_BYTES, KVT_UNIT_BYTES, FIELD(T, f), NULL, low, 1e18, NULL, help     \
	}
#define QUANTITY(T, f, unit, fallback, low, high, help)                                            \
	{                                                                                          \
#f, KVT_OPTION_QUANTITY, unit, FIELD(T, f), fallback, low, high, NULL, help        \
	}
#define TIME(T, f, low, help)                                                                      \
	{                                                                                          \
#f, KVT_OPTION_TIME, KVT_UNIT_TIME, FIELD(T, f), NULL, low, 1, NULL, help          \
	}
#define FLAG(T, f, fallback, help)                                                                 \
	{                                                                                          \
#f, KVT_OPTION_BOOL, KVT_UNIT_NONE, FIELD(T, f), fallback, 0, 0, NULL, help        \
	}
#define CALL_TIME(f, help)                                                                         \
	{                                                                                          \
#f, KVT_OPTION_TIME, KVT_UNIT_TIME, FIELD(kvt_gpu, f), "0s", 0, 1, NULL, help      \
	}
#define END                                                                                        \
	{                                                                                          \
		0                                                                                  \
	}

const kvt_option kvt_gpu_options[] = {
	TEXT(kvt_gpu, title, NULL, "what people call it"),
	BYTES(kvt_gpu, memory, 1e9, "memory that a process can allocate"),
	BYTES(kvt_gpu, memory_nominal, 1e9, "memory as sold"),
	QUANTITY(kvt_gpu, memory_bandwidth, KVT_UNIT_RATE, NULL, 1e9, 1e15, "peak"),
	QUANTITY(kvt_gpu, memory_efficiency, KVT_UNIT_SHARE, NULL, 0.1, 1,
		"share of the peak that a streaming read reaches"),
	{ "call_latency", KVT_OPTION_TIME, KVT_UNIT_TIME, FIELD(kvt_gpu, call_latency), "0s", 0, 1,
		NULL, "of a call of next to no work, contained in the times of kernels" },
	QUANTITY(kvt_gpu, merge_bandwidth, KVT_UNIT_RATE, "0GB/s", 0, 1e14,
		"that merging partial results moves; 0GB/s: as a streaming read"),
	CALL_TIME(launch_latency, "of a call on an idle stream, until the host knows of its end, "
				  "beside the call itself"),
	CALL_TIME(submit_time, "of the host's thread, a call that it submits"),
	CALL_TIME(call_gap, "of a stream, between a dense call and the next"),
	CALL_TIME(append_time, "of putting new tokens' keys and values into their pages, a layer"),
	CALL_TIME(stream_latency, "from a call's end to one that waits for it on another stream"),
	BYTES(kvt_gpu, l2, 1e5, "last-level cache"),
	COUNT(kvt_gpu, sms, 1, 10000, "streaming multiprocessors"),
	QUANTITY(kvt_gpu, flops_fp32, KVT_UNIT_FLOPS, NULL, 1e9, 1e18, "dense FP32"),
	QUANTITY(kvt_gpu, flops_bf16, KVT_UNIT_FLOPS, NULL, 1e9, 1e18, "dense BF16 and FP16"),
	QUANTITY(kvt_gpu, flops_fp8, KVT_UNIT_FLOPS, "0TFLOP/s", 0, 1e18, "dense FP8"),
	QUANTITY(kvt_gpu, flops_int8, KVT_UNIT_FLOPS, "0TFLOP/s", 0, 1e18, "dense INT8"),
	QUANTITY(kvt_gpu, flops_fp4, KVT_UNIT_FLOPS, "0TFLOP/s", 0, 1e18, "dense FP4"),
	{ "host_threads", KVT_OPTION_INTEGER, KVT_UNIT_COUNT, FIELD(kvt_gpu, host_threads), "0", 0,
		1024, NULL, "of the host that it is, on processors that I/O needs too" },
	COUNT(kvt_gpu, pcie_generation, 3, 6, "of its PCIe interface"),
	COUNT(kvt_gpu, pcie_lanes, 1, 32, "of its PCIe interface"),
	QUANTITY(kvt_gpu, nvlink, KVT_UNIT_RATE, "0GB/s", 0, 1e15,
		"NVLink in one direction, to all peers together"),
	QUANTITY(kvt_gpu, power, KVT_UNIT_POWER, NULL, 1, 1e5, "board power"),
	QUANTITY(kvt_gpu, power_idle, KVT_UNIT_POWER, NULL, 0, 1e5, "board power when idle"),
	TEXT(kvt_gpu, attention_table, "", "file of attention kernel times, beside this one"),
	TEXT(kvt_gpu, gemm_table, "", "file of GEMM kernel times"),
	TEXT(kvt_gpu, collective_table, "", "file of collective times"),
	END,
};

const kvt_option kvt_drive_options[] = {
	TEXT(kvt_drive, title, NULL, "what people call it"),
	BYTES(kvt_drive, capacity, 1e6, "that the host can write before compression"),
	QUANTITY(kvt_drive, read_bandwidth, KVT_UNIT_RATE, NULL, 1e6, 1e12, "sequential reads"),
	QUANTITY(kvt_drive, write_bandwidth, KVT_UNIT_RATE, NULL, 1e6, 1e12, "sequential writes"),
	QUANTITY(kvt_drive, read_iops, KVT_UNIT_FREQUENCY, NULL, 1e2, 1e10, "4 KiB random reads"),
	QUANTITY(kvt_drive, write_iops, KVT_UNIT_FREQUENCY, NULL, 1e2, 1e10, "4 KiB random writes"),
	FLAG(kvt_drive, queue_shared, "no",
		"commands in its queue share its bandwidth; no: served in order of arrival"),
	FLAG(kvt_drive, read_serial, "no",
		"a read is taken after another's bytes, not beside them"),
	FLAG(kvt_drive, write_serial, "no", "the same of writes"),
	QUANTITY(kvt_drive, read_command_bandwidth, KVT_UNIT_RATE, "0GB/s", 0, 1e12,
		"of one read, however idle the drive; 0GB/s: as the drive"),
	QUANTITY(kvt_drive, write_command_bandwidth, KVT_UNIT_RATE, "0GB/s", 0, 1e12,
		"of one write"),
	TIME(kvt_drive, read_latency, 1e-7, "median of a 4 KiB random read at queue depth 1"),
	TIME(kvt_drive, read_latency_p99, 1e-7, "99th percentile of the same"),
	TIME(kvt_drive, write_latency, 1e-7, "median of a 4 KiB random write"),
	TIME(kvt_drive, write_latency_p99, 1e-7, "99th percentile of the same"),
	COUNT(kvt_drive, queue_depth, 1, 1e6, "commands in flight that reach the rates"),
	BYTES(kvt_drive, transfer_max, 4096, "largest command"),
	COUNT(kvt_drive, pcie_generation, 3, 6, "of its PCIe interface"),
	COUNT(kvt_drive, pcie_lanes, 1, 16, "of its PCIe interface"),
	FLAG(kvt_drive, compression, "no", "transparent compression"),
	QUANTITY(kvt_drive, compression_max, KVT_UNIT_NONE, "1", 1, 64,
		"largest logical over physical capacity"),
	QUANTITY(kvt_drive, mixed_efficiency, KVT_UNIT_SHARE, NULL, 0.01, 1,
		"rate of a mix of reads and writes over that of the one after the other"),
	QUANTITY(kvt_drive, endurance, KVT_UNIT_NONE, NULL, 0.01, 1000, "drive writes a day"),
	QUANTITY(kvt_drive, power, KVT_UNIT_POWER, NULL, 0.1, 1e3, "active"),
	QUANTITY(kvt_drive, power_idle, KVT_UNIT_POWER, NULL, 0, 1e3, "idle"),
	END,
};

const kvt_option kvt_nic_options[] = {
	TEXT(kvt_nic, title, NULL, "what people call it"),
	COUNT(kvt_nic, ports, 1, 8, "network ports"),
	QUANTITY(kvt_nic, line_rate, KVT_UNIT_RATE, NULL, 1e6, 1e13, "of one port"),
	QUANTITY(kvt_nic, efficiency, KVT_UNIT_SHARE, NULL, 0.1, 1,
		"share of the line rate that payload can fill"),
	TIME(kvt_nic, read_latency, 1e-7, "median of a small RDMA read through one switch"),
	TIME(kvt_nic, read_latency_p99, 1e-7, "99th percentile of the same"),
	QUANTITY(kvt_nic, message_rate, KVT_UNIT_FREQUENCY, NULL, 1e2, 1e11, "messages"),
	FLAG(kvt_nic, serial, "no",
		"software: a message is taken after another's bytes, in order, not beside them"),
	QUANTITY(kvt_nic, message_bandwidth, KVT_UNIT_RATE, "0GB/s", 0, 1e13,
		"of one message, however idle the port; 0GB/s: as the port"),
	BYTES(kvt_nic, mtu, 256, "payload of a packet"),
	COUNT(kvt_nic, pcie_generation, 3, 6, "of its PCIe interface"),
	COUNT(kvt_nic, pcie_lanes, 1, 32, "of its PCIe interface"),
	QUANTITY(kvt_nic, power, KVT_UNIT_POWER, NULL, 0.1, 1e3, "active, without transceivers"),
	END,
};

/* The struct has the points; the file has them as text. */
typedef struct kvt_host_file {
	kvt_host host;
	char *copy_points;
} kvt_host_file;

const kvt_option kvt_host_options[] = {
	TEXT(kvt_host, title, NULL, "what people call it"),
	COUNT(kvt_host, sockets, 1, 16, "CPU sockets"),
	COUNT(kvt_host, cores, 1, 1e5, "cores in all"),
	COUNT(kvt_host, dram_channels, 1, 1e3, "memory channels in all"),
	QUANTITY(kvt_host, dram_channel_rate, KVT_UNIT_RATE, NULL, 1e9, 1e12, "of one channel"),
	QUANTITY(kvt_host, dram_efficiency, KVT_UNIT_SHARE, NULL, 0.1, 1,
		"share of the channels' rate that copies reach"),
	BYTES(kvt_host, dram, 1e9, "installed memory"),
	TIME(kvt_host, dram_latency, 1e-9, "of a load that misses all caches"),
	QUANTITY(kvt_host, socket_link, KVT_UNIT_RATE, NULL, 0, 1e13,
		"between two sockets, one direction; 0GB/s with one socket"),
	COUNT(kvt_host, root_complexes, 1, 256, "PCIe root complexes"),
	QUANTITY(kvt_host, root_bandwidth, KVT_UNIT_RATE, "0GB/s", 0, 1e13,
		"what one root complex moves; 0GB/s: as much as its slots"),
	COUNT(kvt_host, pcie_generation, 3, 6, "of the slots"),
	QUANTITY(kvt_host, pcie_efficiency, KVT_UNIT_SHARE, NULL, 0.1, 1,
		"payload over the link rate after line code"),
	COUNT(kvt_host, gpu_slots, 0, 64, "slots for GPUs"),
	COUNT(kvt_host, gpu_lanes, 1, 32, "lanes of such a slot"),
	COUNT(kvt_host, drive_slots, 0, 256, "slots for NVMe drives"),
	COUNT(kvt_host, drive_lanes, 1, 16, "lanes of such a slot"),
	COUNT(kvt_host, nic_slots, 0, 64, "slots for NICs"),
	COUNT(kvt_host, nic_lanes, 1, 32, "lanes of such a slot"),
	FLAG(kvt_host, gpu_peer_to_peer, NULL, "GPUs and NICs reach each other without DRAM"),
	TIME(kvt_host, copy_setup, 0, "what a host-to-device copy takes beyond its bytes"),
	QUANTITY(kvt_host, copy_to_gpu, KVT_UNIT_RATE, "0GB/s", 0, 1e13,
		"large copies to a GPU; 0GB/s: pcie_efficiency decides"),
	QUANTITY(kvt_host, copy_from_gpu, KVT_UNIT_RATE, "0GB/s", 0, 1e13,
		"large copies from a GPU; 0GB/s: pcie_efficiency decides"),
	{ "copy_points", KVT_OPTION_STRING, KVT_UNIT_NONE, FIELD(kvt_host_file, copy_points), "", 0,
		0, NULL, "measured copies to a GPU: size rate, size rate, ... by size" },
	QUANTITY(kvt_host, power_idle, KVT_UNIT_POWER, NULL, 0, 1e5,
		"of the server without GPUs and drives"),
	QUANTITY(kvt_host, io_rate, KVT_UNIT_FREQUENCY, "0/s", 0, 1e12,
		"commands that its software submits and completes; 0/s: no limit"),
	QUANTITY(kvt_host, checksum_rate, KVT_UNIT_RATE, "0GB/s", 0, 1e13,
		"pages that its software verifies; 0GB/s: no such stage"),
	{ "call_overhead", KVT_OPTION_TIME, KVT_UNIT_TIME, FIELD(kvt_host, call_overhead), "0s", 0,
		1, NULL, "of attention and merges, beyond their work: threads that wake" },
	END,
};

/* Reads the one section of a file and refuses any other. */
static gboolean load(kvt_model_kind kind, const char *name_or_path, const kvt_option *options,
	void *target, char **name, kvt_config **config, GError **error)
{
	const char *section = kvt_model_kind_names[kind];
	const char *const known[] = { section, NULL };
	g_autofree char *path = kvt_model_path(kind, name_or_path, error);
	if (path == NULL)
		return FALSE;
	g_autoptr(kvt_config) opened = kvt_config_load(path, error);
	if (opened == NULL ||
		!kvt_model_read_section(opened, section, TRUE, options, target, error))
		return FALSE;
	if (!kvt_config_check_used(opened, known, error)) {
		kvt_option_clear(options, target);
		return FALSE;
	}
	*name = kvt_model_name_of(path);
	*config = g_steal_pointer(&opened);
	return TRUE;
}

/* Table files stand beside the GPU's own. */
static void resolve(char **table, const char *folder)
{
	if (g_path_is_absolute(*table))
		return;
	char *path = (*table)[0] != '\0' ? g_build_filename(folder, *table, NULL) : NULL;
	g_free(*table);
	*table = path;
}

kvt_gpu *kvt_gpu_load(const char *name_or_path, GError **error)
{
	g_autoptr(kvt_gpu) gpu = g_new0(kvt_gpu, 1);
	g_autoptr(kvt_config) config = NULL;
	if (!load(KVT_MODEL_GPU, name_or_path, kvt_gpu_options, gpu, &gpu->name, &config, error))
		return NULL;
	g_autofree char *folder = g_path_get_dirname(kvt_config_path(config));
	resolve(&gpu->attention_table, folder);
	resolve(&gpu->gemm_table, folder);
	resolve(&gpu->collective_table, folder);
	return g_steal_pointer(&gpu);
}

/* A 99th percentile below the median is a mistake in the file. */
static gboolean check_tail(kvt_config *config, const char *section, const char *key,
	kvt_time median, kvt_time p99, GError **error)
{
	if (p99 >= median)
		return TRUE;
	return kvt_section_error(kvt_config_section(config, section), key, error,
		"the 99th percentile is below the median");
}

kvt_drive *kvt_drive_load(const char *name_or_path, GError **error)
{
	g_autoptr(kvt_drive) drive = g_new0(kvt_drive, 1);
	g_autoptr(kvt_config) config = NULL;
	if (!load(KVT_MODEL_DRIVE, name_or_path, kvt_drive_options, drive, &drive->name, &config,
		    error) ||
		!check_tail(config, "drive", "read_latency_p99", drive->read_latency,
			drive->read_latency_p99, error) ||
		!check_tail(config, "drive", "write_latency_p99", drive->write_latency,
			drive->write_latency_p99, error))
		return NULL;
	return g_steal_pointer(&drive);
}

kvt_nic *kvt_nic_load(const char *name_or_path, GError **error)
{
	g_autoptr(kvt_nic) nic = g_new0(kvt_nic, 1);
	g_autoptr(kvt_config) config = NULL;
	if (!load(KVT_MODEL_NIC, name_or_path, kvt_nic_options, nic, &nic->name, &config, error) ||
		!check_tail(config, "nic", "read_latency_p99", nic->read_latency,
			nic->read_latency_p99, error))
		return NULL;
	return g_steal_pointer(&nic);
}

static gboolean read_copy_points(
	kvt_host *host, kvt_section *section, const char *text, GError **error)
{
	if (text[0] == '\0')
		return TRUE;
	g_auto(GStrv) points = g_strsplit(text, ",", KVT_COPY_POINTS_MAX + 1);
	for (char **point = points; *point != NULL; point++) {
		char *size = g_strstrip(*point), *rate = strchr(size, ' ');
		double bytes = 0, per_second = 0;
		if (rate != NULL)
			*rate++ = '\0';
		g_autoptr(GError) why = NULL;
		if (rate == NULL || !kvt_unit_parse(size, KVT_UNIT_BYTES, &bytes, &why) ||
			!kvt_unit_parse(g_strstrip(rate), KVT_UNIT_RATE, &per_second, &why))
			return kvt_section_error(section, "copy_points", error,
				"point %u is no size and rate, expected such as 64KiB 17.5GB/s",
				host->n_copy_points + 1);
		unsigned n = host->n_copy_points;
		if (n == KVT_COPY_POINTS_MAX)
			return kvt_section_error(section, "copy_points", error,
				"too many points, expected at most %d", KVT_COPY_POINTS_MAX);
		if (bytes < 1 || bytes > 1e15 || per_second < 1 ||
			(n > 0 && bytes <= (double)host->copy_points[n - 1].size))
			return kvt_section_error(section, "copy_points", error,
				"sizes and rates must be above 0 and sizes ascending");
		host->copy_points[n].size = (uint64_t)bytes;
		host->copy_points[n].rate = per_second;
		host->n_copy_points = n + 1;
	}
	return TRUE;
}

kvt_host *kvt_host_load(const char *name_or_path, GError **error)
{
	kvt_host_file file = { 0 };
	g_autoptr(kvt_config) config = NULL;
	if (!load(KVT_MODEL_HOST, name_or_path, kvt_host_options, &file, &file.host.name, &config,
		    error))
		return NULL;
	g_autofree char *points = file.copy_points;
	g_autoptr(kvt_host) host = g_new(kvt_host, 1);
	*host = file.host;
	if (!read_copy_points(host, kvt_config_section(config, "host"), points, error))
		return NULL;
	return g_steal_pointer(&host);
}

void kvt_gpu_free(kvt_gpu *gpu)
{
	if (gpu == NULL)
		return;
	kvt_option_clear(kvt_gpu_options, gpu);
	g_free(gpu->name);
	g_free(gpu);
}

void kvt_drive_free(kvt_drive *drive)
{
	if (drive == NULL)
		return;
	kvt_option_clear(kvt_drive_options, drive);
	g_free(drive->name);
	g_free(drive);
}

void kvt_nic_free(kvt_nic *nic)
{
	if (nic == NULL)
		return;
	kvt_option_clear(kvt_nic_options, nic);
	g_free(nic->name);
	g_free(nic);
}

void kvt_host_free(kvt_host *host)
{
	if (host == NULL)
		return;
	g_free(host->title);
	g_free(host->name);
	g_free(host);
}

double kvt_gpu_flops(const kvt_gpu *gpu, kvt_dtype dtype)
{
	double native = 0;
	switch (dtype) {
	case KVT_DTYPE_FP32:
		return gpu->flops_fp32;
	case KVT_DTYPE_FP8:
		native = gpu->flops_fp8;
		break;
	case KVT_DTYPE_INT8:
		native = gpu->flops_int8;
		break;
	case KVT_DTYPE_FP4:
		native = gpu->flops_fp4;
		break;
	default:
		break;
	}
	return native > 0 ? native : gpu->flops_bf16;
}

double kvt_pcie_raw_rate(int64_t generation, int64_t lanes)
{
	switch (generation) {
	case 3:
		return 8e9 / 8 * (128.0 / 130) * (double)lanes;
	case 4:
		return 16e9 / 8 * (128.0 / 130) * (double)lanes;
	case 5:
		return 32e9 / 8 * (128.0 / 130) * (double)lanes;
	case 6:
		/* A FLIT of 256 bytes has 236 of transaction layer packets (PCIe 6.0, 4.2.3). */
		return 64e9 / 8 * (236.0 / 256) * (double)lanes;
	default:
		return 0;
	}
}

double kvt_host_link_rate(
	const kvt_host *host, int64_t slot_lanes, int64_t device_generation, int64_t device_lanes)
{
	return kvt_pcie_raw_rate(MIN(host->pcie_generation, device_generation),
		       MIN(slot_lanes, device_lanes)) *
	       host->pcie_efficiency;
}

double kvt_host_copy_seconds(const kvt_host *host, uint64_t bytes, double rate)
{
	if (bytes == 0)
		return 0;
	double setup = kvt_time_to_seconds(host->copy_setup), size = (double)bytes;
	unsigned n = host->n_copy_points;
	if (n == 0)
		return setup + size / rate;
	const kvt_copy_point *points = host->copy_points;
	/* Below the first point time shrinks towards the setup. */
	double low_size = 0, low_time = MIN(setup, (double)points[0].size / points[0].rate);
	for (unsigned i = 0; i < n; i++) {
		double high_size = (double)points[i].size, high_time = high_size / points[i].rate;
		if (size <= high_size)
			return low_time +
			       (high_time - low_time) * (size - low_size) / (high_size - low_size);
		low_size = high_size;
		low_time = high_time;
	}
	return size / points[n - 1].rate;
}

double kvt_host_dram_bandwidth(const kvt_host *host)
{
	return (double)host->dram_channels * host->dram_channel_rate * host->dram_efficiency;
}
