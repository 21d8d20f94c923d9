/* calibrate_files.c: a calibration as the files that models/ reads and experiments include. What is
 * fitted and what is measured is decided in calibrate_fit.c; here every figure gets its source. */
#include <errno.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "emu/calibrate/gpu_profile.h"
#include "emu/calibrate/profile_text.h"
#include "models/attention_model.h"
#include "models/gemm_model.h"
#include "models/hardware.h"
#include "sim/base/error.h"
#include "sim/base/output.h"

/* Commands that a store has in flight unless it is told otherwise (emu/io/io_engine.c). */
enum { STORE_DEPTH = 64 };

static void put_drive_fit(GString *text, const char *way, const kvt_drive_fit *fit)
{
	double off = MAX(fit->error, fit->spread);
	const char *const names[] = { "bandwidth", "iops", "command_bandwidth", "latency",
		"latency_p99" };
	for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *key = g_strdup_printf("%s_%s", way, names[i]);
		if (i == 0)
			kvt_put_rate(text, key, CLAMP(fit->bandwidth, 1e6, 9.9e11));
		else if (i == 1)
			kvt_put_frequency(text, key, CLAMP(fit->iops, 100, 9.9e9));
		else if (i == 2)
			kvt_put_rate(text, key, MIN(fit->command_rate, 9.9e11));
		else
			kvt_put_time(text, key,
				CLAMP(i == 3 ? fit->latency_median : fit->latency_p99, 1e-7, 0.99));
		kvt_put_uncertainty(text, key, off);
		if (i == 4)
			g_string_append_printf(text,
				"%s.source = derived: the lognormal with the fitted mean latency "
				"and the measured ratio of 99th percentile to median, 20 at most\n",
				key);
	}
	g_string_append_printf(text, "%s_serial = %s\n", way, fit->serial ? "yes" : "no");
	g_string_append_printf(text,
		"# %ss: %u points, median error of the fit %.1f%%, largest %.0f%%, spread of "
		"repeats %.1f%%\n",
		way, fit->points, 100 * fit->error, 100 * fit->worst, 100 * fit->spread);
}

static gboolean drive_text(const kvt_calibration *c, GString *text, GError **error)
{
	kvt_drive_fit read, write;
	const kvt_drive_point *points = (const kvt_drive_point *)(const void *)c->drive->data;
	if (!kvt_drive_fit_points(points, c->drive->len, false, &read, error) ||
		!kvt_drive_fit_points(points, c->drive->len, true, &write, error))
		return FALSE;
	g_string_append_printf(text,
		"# The device under a store, measured by `kvtier calibrate`; %s.json has the "
		"curves.\n[drive]\ntitle = %s\n"
		"source = fitted: rates of reads and writes by size and depth on %s (%s, %s), %s, "
		"%s, in a file of %" G_GUINT64_FORMAT " MiB\n",
		c->name, c->filesystem, c->filesystem, c->cpu, c->kernel, c->method,
		c->direct ? "O_DIRECT" : "through the page cache", c->file_bytes >> 20);
	kvt_put_bytes(text, "capacity", MAX(c->capacity, 1000000));
	g_string_append(text, "capacity.source = measured: size of the file system\n");
	put_drive_fit(text, "read", &read);
	put_drive_fit(text, "write", &write);
	g_string_append_printf(text,
		"# the loop's thread waited for a core %.0f%% of the time: near 0%% on a quiet "
		"machine\n",
		100 * kvt_calibration_waited(c));
	/* a store has this many at the drive, also where fewer would do: they share it */
	g_string_append_printf(
		text, "queue_depth = %u\n", MAX(MAX(read.depth, write.depth), STORE_DEPTH));
	g_string_append(text, "queue_depth.source = derived: no more is faster, and a store has "
			      "as many in flight\nqueue_shared = yes\nqueue_shared.source = "
			      "assumed: as a virtual disk was seen to do\n");
	kvt_put_bytes(text, "transfer_max", read.transfer);
	g_string_append(text,
		"pcie_generation = 6\npcie_lanes = 16\n"
		"pcie_generation.source = assumed: a link that does not limit what was "
		"measured behind it\n"
		"pcie_lanes.source = assumed: as pcie_generation\n");
	kvt_put_share(text, "mixed_efficiency", c->mixed);
	g_string_append(text, "mixed_efficiency.source = measured: half reads, half writes of 128 "
			      "KiB at depth 32, "
			      "over the one after the other\n"
			      "endurance = 1\nendurance.source = assumed: nothing depends on it\n"
			      "power = 10W\npower.source = assumed: not measured\n"
			      "power_idle = 5W\npower_idle.source = assumed: not measured\n");
	return TRUE;
}

/* A network's reads as one port of a NIC; what the software of both ends takes is apart. */
static gboolean nic_text(const kvt_calibration *c, GString *text, GError **error)
{
	kvt_drive_fit read, write;
	const kvt_drive_point *points = (const kvt_drive_point *)(const void *)c->network->data;
	if (!kvt_drive_fit_points(points, c->network->len, false, &read, error) ||
		!kvt_drive_fit_points(points, c->network->len, true, &write, error))
		return FALSE;
	double off = MAX(read.error, read.spread);
	g_string_append_printf(text,
		"# The way to a storage node's memory, measured by `kvtier calibrate --tier rdma`; "
		"%s.json has the curves.\n[nic]\ntitle = %s\n"
		"source = fitted: rates of one-sided reads by size and depth from %s over %s (%s, "
		"%s)\nports = 1\nports.source = assumed: one is used\n",
		c->name, c->device, c->node, c->device, c->cpu, c->kernel);
	kvt_put_rate(text, "line_rate", CLAMP(read.bandwidth, 1e6, 9.9e12));
	kvt_put_uncertainty(text, "line_rate", off);
	g_string_append(text, "efficiency = 100%\nefficiency.source = derived: line_rate is what "
			      "reads reach\n");
	kvt_put_time(text, "read_latency", CLAMP(read.latency_median, 1e-7, 0.99));
	kvt_put_uncertainty(text, "read_latency", off);
	kvt_put_time(text, "read_latency_p99", CLAMP(read.latency_p99, 1e-7, 0.99));
	kvt_put_uncertainty(text, "read_latency_p99", off);
	kvt_put_frequency(text, "message_rate", CLAMP(read.iops, 100, 9.9e10));
	kvt_put_uncertainty(text, "message_rate", off);
	g_string_append_printf(text, "serial = %s\n", read.serial ? "yes" : "no");
	kvt_put_rate(text, "message_bandwidth", MIN(read.command_rate, 9.9e12));
	g_string_append_printf(text,
		"# reads: %u points, median error of the fit %.1f%%, largest %.0f%%, spread of "
		"repeats %.1f%%\n# writes: %.2f MB/s, %.0f messages/s, latency %.2f us\n"
		"# the loop's thread waited for a core %.0f%% of the time\n",
		read.points, 100 * read.error, 100 * read.worst, 100 * read.spread,
		write.bandwidth / 1e6, write.iops, write.latency * 1e6,
		100 * kvt_calibration_waited(c));
	for (unsigned i = 0; i < c->perftest->len; i++) {
		const kvt_perftest_point *p = &g_array_index(c->perftest, kvt_perftest_point, i);
		g_string_append_printf(text,
			"# beside %s in the same run: %.2f of its %s at %" G_GUINT64_FORMAT
			" bytes, %u in flight\n",
			p->depth == 1 ? "ib_read_lat" : "ib_read_bw", p->ours / p->theirs,
			p->depth == 1 ? "latency" : "rate", p->size, p->depth);
	}
	g_string_append(text,
		"mtu = 4096B\nmtu.source = assumed: nothing depends on it\n"
		"pcie_generation = 6\npcie_lanes = 16\n"
		"pcie_generation.source = assumed: a link that does not limit what was measured "
		"behind it\npcie_lanes.source = assumed: as pcie_generation\n"
		"power = 25W\npower.source = assumed: not measured\n");
	return TRUE;
}

/* Links where the device is the CPU: none but memory is crossed. */
static void link_text(const kvt_calibration *c, GString *text)
{
	const kvt_measured *host = c->host;
	g_string_append(text, "pcie_generation = 6\npcie_efficiency = 100%\n"
			      "root_complexes = 1\ngpu_slots = 1\ngpu_lanes = 16\ndrive_slots = 8\n"
			      "drive_lanes = 16\nnic_slots = 1\nnic_lanes = 16\n"
			      "gpu_peer_to_peer = yes\n");
	const char *const none[] = { "pcie_generation", "pcie_efficiency", "root_complexes",
		"gpu_slots", "gpu_lanes", "drive_slots", "drive_lanes", "nic_slots", "nic_lanes",
		"gpu_peer_to_peer" };
	for (unsigned i = 0; i < G_N_ELEMENTS(none); i++)
		g_string_append_printf(text,
			"%s.source = assumed: the device is the CPU; no link but memory is "
			"crossed\n",
			none[i]);
	g_string_append(text, "copy_setup = 0s\ncopy_setup.source = assumed: no descriptors\n");
	const char *const copies[] = { "copy_to_gpu", "copy_from_gpu" };
	for (unsigned i = 0; i < G_N_ELEMENTS(copies); i++) {
		kvt_put_rate(text, copies[i], host[KVT_HOST_COPY].value);
		kvt_put_measured(text, copies[i], "memory copied by one thread, CPU time",
			kvt_measured_spread(&host[KVT_HOST_COPY]));
	}
	kvt_put_rate(text, "checksum_rate", host[KVT_HOST_CHECKSUM].value);
	kvt_put_measured(text, "checksum_rate", "xxh3 of 64 KiB, one thread, CPU time",
		kvt_measured_spread(&host[KVT_HOST_CHECKSUM]));
	kvt_put_time(text, "call_overhead", MIN(host[KVT_HOST_CALL].value, 0.5));
	kvt_put_measured(text, "call_overhead", "from the loop to the device's threads and back",
		kvt_measured_spread(&host[KVT_HOST_CALL]));
}

static gboolean host_text(const kvt_calibration *c, GString *text, GError **error)
{
	const kvt_measured *host = c->host;
	double io_cpu = kvt_calibration_io_cpu(c);
	g_string_append_printf(text,
		"# A host, measured by `kvtier calibrate`; %s.json has the figures.\n[host]\n"
		"title = %s\nsource = measured: %s, %s\nsockets = 1\ncores = %u\n"
		"sockets.source = assumed: memory is alike for all cores\ndram_channels = 1\n"
		"dram_channels.source = assumed: what was measured is the rate of all\n",
		c->name, c->cpu, c->cpu, c->kernel, c->cores);
	kvt_put_rate(
		text, "dram_channel_rate", CLAMP(host[KVT_HOST_MEMORY_ALL].value, 1e9, 9.9e11));
	kvt_put_measured(text, "dram_channel_rate",
		"a thread a core, each reading its part, CPU time",
		kvt_measured_spread(&host[KVT_HOST_MEMORY_ALL]));
	g_string_append(text, "dram_efficiency = 100%\n"
			      "dram_efficiency.source = derived: the rate is what reads reach\n");
	kvt_put_bytes(text, "dram", MAX(c->memory, 1000000000));
	kvt_put_time(text, "dram_latency", host[KVT_HOST_DRAM_LATENCY].value);
	kvt_put_measured(text, "dram_latency", "a random cycle through memory",
		kvt_measured_spread(&host[KVT_HOST_DRAM_LATENCY]));
	g_string_append(text, "socket_link = 0GB/s\nsocket_link.source = assumed: one socket\n");
	if (io_cpu > 0) {
		kvt_put_frequency(text, "io_rate", MIN(1 / io_cpu, 9.9e11));
		kvt_put_measured(text, "io_rate",
			"CPU time of the loop's thread a read of up to 16 KiB, at depth 8 and more",
			0.1);
	}
	if (c->gpu && !kvt_gpu_profile_links(c, text, error))
		return FALSE;
	if (!c->gpu)
		link_text(c, text);
	g_string_append(text, "power_idle = 100W\npower_idle.source = assumed: not measured\n");
	return TRUE;
}

/* Matrix products as on a GPU: attention is this machine's, the rest of the model another's. */
static gboolean dense_text(const kvt_calibration *c, GString *text, GError **error)
{
	g_autoptr(kvt_gpu) gpu = kvt_gpu_load(c->dense, error);
	if (!gpu)
		return FALSE;
	const struct {
		const char *key;
		double flops;
	} rates[] = { { "flops_fp32", gpu->flops_fp32 }, { "flops_bf16", gpu->flops_bf16 },
		{ "flops_fp8", gpu->flops_fp8 }, { "flops_int8", gpu->flops_int8 },
		{ "flops_fp4", gpu->flops_fp4 } };
	for (unsigned i = 0; i < G_N_ELEMENTS(rates); i++) {
		kvt_put(text, rates[i].key, rates[i].flops / 1e12, "%.6f");
		g_string_append_printf(text,
			"TFLOP/s\n%s.source = assumed: matrix products as on %s\n", rates[i].key,
			gpu->name);
	}
	if (gpu->gemm_table) {
		g_autofree char *full = g_canonicalize_filename(gpu->gemm_table, NULL);
		g_string_append_printf(text,
			"gemm_table = %s\ngemm_table.source = assumed: matrix products as on %s\n",
			full, gpu->name);
	}
	return TRUE;
}

/* The CPU as the device. */
static gboolean cpu_text(const kvt_calibration *c, GString *text, GError **error)
{
	const kvt_measured *host = c->host;
	double flops = MAX(host[KVT_HOST_FMA].value * c->cores, 1e9) / 1e12;
	g_string_append_printf(text,
		"# A CPU as the device that attends, measured by `kvtier calibrate`.\n[gpu]\n"
		"title = %s\nsource = measured: %s, %s\n",
		c->cpu, c->cpu, c->kernel);
	kvt_put_bytes(text, "memory", MAX(c->memory, 1000000000));
	kvt_put_bytes(text, "memory_nominal", MAX(c->memory, 1000000000));
	kvt_put_rate(text, "memory_bandwidth", MAX(host[KVT_HOST_MEMORY_ALL].value, 1e9));
	kvt_put_measured(text, "memory_bandwidth",
		"a thread a core, each reading its part, CPU time",
		kvt_measured_spread(&host[KVT_HOST_MEMORY_ALL]));
	g_string_append(text, "memory_efficiency = 100%\nmemory_efficiency.source = derived: "
			      "memory_bandwidth is what reads reach\n");
	kvt_put_time(text, "call_latency", MIN(host[KVT_HOST_START].value, 0.5));
	kvt_put_measured(text, "call_latency", "a call of next to no work, all threads",
		kvt_measured_spread(&host[KVT_HOST_START]));
	kvt_put_rate(text, "merge_bandwidth", CLAMP(host[KVT_HOST_MERGE].value, 1e8, 9.9e13));
	kvt_put_measured(text, "merge_bandwidth", "partial results of 64 tokens, all threads",
		kvt_measured_spread(&host[KVT_HOST_MERGE]));
	kvt_put_bytes(text, "l2", MAX(c->cache, 100000));
	g_string_append_printf(text,
		"l2.source = measured: last level of cache, as the system says\nsms = %u\n"
		"sms.source = measured: cores\n",
		c->cores);
	if (c->remote->len > 0)
		g_string_append_printf(text,
			"host_threads = %u\nhost_threads.source = measured: threads that attend\n",
			c->threads);
	if (c->dense && !dense_text(c, text, error))
		return FALSE;
	const char *const rates[] = { "flops_fp32", "flops_bf16" };
	for (unsigned i = 0; !c->dense && i < G_N_ELEMENTS(rates); i++) {
		kvt_put(text, rates[i], flops, "%.6f");
		g_string_append(text, "TFLOP/s\n");
		kvt_put_measured(text, rates[i], "FP32 multiply-adds of one thread, times cores",
			kvt_measured_spread(&host[KVT_HOST_FMA]));
	}
	g_string_append_printf(text,
		"pcie_generation = 6\npcie_lanes = 16\n"
		"pcie_generation.source = assumed: the device is the CPU; no link is crossed\n"
		"pcie_lanes.source = assumed: as pcie_generation\npower = 200W\n"
		"power.source = assumed: not measured\npower_idle = 50W\n"
		"power_idle.source = assumed: not measured\n"
		"attention_table = %s-attention.table\n"
		"attention_table.source = fitted: the times in %s-attention.csv\n",
		c->name, c->name);
	return TRUE;
}

/* The remote tier of this machine, and what its reads take of the processors: those that attend,
 * too. */
static void remote_text(const kvt_calibration *c, GString *text)
{
	kvt_drive_fit read;
	const kvt_drive_point *points = (const kvt_drive_point *)(const void *)c->network->data;
	if (!kvt_drive_fit_points(points, c->network->len, false, &read, NULL))
		return;
	kvt_remote_fit fit = kvt_remote_fit_points(c, &read);
	g_string_append_printf(text,
		"# processors: %u points, median error of the fit %.1f%%, largest %.0f%%; %.0f%% "
		"of the pages came from the node's drives\n"
		"[remote-dram]\nin_turn = yes\n",
		fit.points, 100 * fit.error, 100 * fit.worst, 100 * c->from_drives);
	kvt_put_bytes(text, "max_transfer", fit.transfer);
	kvt_put_time(text, "latency", fit.latency);
	kvt_put_time(text, "latency_p99", fit.latency);
	kvt_put_time(text, "processor_time", fit.seconds);
	if (fit.per_byte > 0)
		kvt_put_rate(text, "processor_rate", 1 / fit.per_byte);
	g_string_append(text, "\n");
}

/* Where pages are: on the drive, in memory beside a GPU, or with the node whose machine is taken to
 * be like this one. */
static void storage_text(const kvt_calibration *c, const char *folder, GString *text)
{
	if (c->drive->len > 0)
		g_string_append_printf(text,
			"[fabric]\nnics = 0\ntargets = 0\ntarget = %s/%s-host.ini\n\n"
			"[storage]\ntier = nvme\n\n"
			"[nvme]\ndrive = %s/%s-drive.ini\ndrives = 1\n\n"
			"[sources]\nfabric = assumed: none is used\n"
			"nvme = measured: kvtier calibrate\n",
			folder, c->name, folder, c->name);
	else if (c->gpu) {
		g_string_append(text, "[storage]\ntier = dram\n\n[dram]\n");
		kvt_gpu_profile_memory(c, text);
		g_string_append(text,
			"\n[sources]\ndram = measured: kvtier calibrate --device cuda, "
			"a copy of 4 KiB until the loop hears\n"
			"dram.in_turn = assumed: one batch of copies after the other\n");
	} else
		g_string_append_printf(text,
			"[fabric]\nnics = 1\ntargets = 1\ntarget_nics = 1\n"
			"nic = %s/%s-nic.ini\ntarget = %s/%s-host.ini\n\n"
			"[storage]\ntier = remote-dram\n\n"
			"[sources]\nfabric = measured: kvtier calibrate --tier rdma\n"
			"remote-dram = fitted: kvtier calibrate --tier rdma, reads of the tier\n"
			"remote-dram.max_transfer = assumed: as the tier is told to\n"
			"remote-dram.in_turn = assumed: a queue pair's reads are answered in "
			"order\n"
			"fabric.target = assumed: a node like this machine\n",
			folder, c->name, folder, c->name);
}

static void include_text(const kvt_calibration *c, const char *folder, GString *text)
{
	g_autofree char *full = g_canonicalize_filename(folder, NULL);
	g_string_append_printf(text,
		"# This machine, for experiments: include = %s/%s.ini\n"
		"[gpu]\nname = %s/%s-gpu.ini\n%s\n"
		"[host]\nname = %s/%s-host.ini\n%s\n",
		full, c->name, full, c->name, c->gpu ? "" : "count = 1\nactivations = 0B\n", full,
		c->name, c->gpu ? "" : "gpu_direct = yes\n");
	if (c->remote->len > 0)
		remote_text(c, text);
	storage_text(c, full, text);
	g_string_append(text,
		"gpu = measured: kvtier calibrate\nhost = measured: kvtier calibrate\n"
		"storage = measured: kvtier calibrate\n");
	if (!c->gpu)
		g_string_append(text, "host.gpu_direct = assumed: reads go to where attention "
				      "finds them\n");
}

char *kvt_calibration_kernel_csv(const kvt_calibration *c)
{
	GString *text = g_string_new(NULL);
	g_string_append_printf(text,
		"# Attention on a CPU, measured by `kvtier calibrate`: %s, %s; %u threads: the "
		"longest's own time, median of repeats, and what waking them takes.\n"
		"kernel_source,batch_size,isl,num_heads,num_key_value_heads,head_dim,attn_dtype,"
		"kv_cache_dtype,step,op_name,latency_ms\n",
		c->cpu, c->kernel, c->threads);
	for (unsigned i = 0; i < c->attention->len; i++) {
		const kvt_attention_point *p = &g_array_index(c->attention, kvt_attention_point, i);
		char ms[64];
		g_ascii_formatd(ms, sizeof(ms), "%.6f",
			MAX(kvt_calibration_attention_seconds(c, p) * 1e3, 1e-6));
		g_string_append_printf(text,
			"kvtier_%s,1,%" G_GUINT64_FORMAT
			",%u,%u,%u,bfloat16,bfloat16,%" G_GUINT64_FORMAT ",%s,%s\n",
			c->isa, p->prefill ? p->tokens : 1, p->heads, p->kv_heads, p->head_dim,
			p->prefill ? p->prefix : p->tokens - 1,
			p->prefill ? "context_attention" : "generation_attention", ms);
	}
	return g_string_free(text, FALSE);
}

typedef struct writer {
	const kvt_calibration *calibration;
	const char *folder;
	GPtrArray *written;
	GError **error;
} writer;

/* Writes NAME + ending; returns its path, the array's, or NULL. */
static const char *write_file(writer *w, const char *ending, const char *text)
{
	g_autofree char *name = g_strconcat(w->calibration->name, ending, NULL);
	char *path = g_build_filename(w->folder, name, NULL);
	g_ptr_array_add(w->written, path);
	g_autoptr(GError) why = NULL;
	if (g_file_set_contents(path, text, -1, &why))
		return path;
	kvt_error_failed(w->error, "%s", why->message);
	return NULL;
}

static gboolean write_drive(writer *w)
{
	g_autoptr(GString) text = g_string_new(NULL);
	if (!drive_text(w->calibration, text, w->error))
		return FALSE;
	const char *path = write_file(w, "-drive.ini", text->str);
	g_autoptr(kvt_drive) again = path ? kvt_drive_load(path, w->error) : NULL;
	return again != NULL;
}

static gboolean write_nic(writer *w)
{
	g_autoptr(GString) text = g_string_new(NULL);
	if (!nic_text(w->calibration, text, w->error))
		return FALSE;
	const char *path = write_file(w, "-nic.ini", text->str);
	g_autoptr(kvt_nic) again = path ? kvt_nic_load(path, w->error) : NULL;
	return again != NULL;
}

static gboolean write_host(writer *w)
{
	g_autoptr(GString) text = g_string_new(NULL);
	if (!host_text(w->calibration, text, w->error))
		return FALSE;
	const char *path = write_file(w, "-host.ini", text->str);
	g_autoptr(kvt_host) again = path ? kvt_host_load(path, w->error) : NULL;
	return again != NULL;
}

/* What fits of attention begin with. */
static gboolean attention_gpu(const kvt_calibration *c, kvt_attention_gpu *gpu, GError **error)
{
	*gpu = (kvt_attention_gpu){ .sms = c->gpu ? c->gpu->processors : c->cores,
		.l2 = 1, /* what was measured came from memory */
		.bandwidth = c->host[KVT_HOST_MEMORY_ALL].value,
		.flops = c->host[KVT_HOST_FMA].value * c->cores };
	if (!c->gpu)
		return TRUE;
	g_autoptr(kvt_gpu) sheet = kvt_gpu_load(c->gpu->datasheet, error);
	if (!sheet)
		return FALSE;
	gpu->bandwidth = sheet->memory_bandwidth;
	gpu->flops = sheet->flops_bf16;
	return TRUE;
}

/* Fits the attention times and writes them, as measured and as fitted. */
static gboolean write_attention(writer *w)
{
	const kvt_calibration *c = w->calibration;
	kvt_attention_gpu gpu;
	g_autofree char *csv =
		c->gpu ? kvt_gpu_calibration_attention_csv(c->gpu) : kvt_calibration_kernel_csv(c);
	const char *path = write_file(w, "-attention.csv", csv);
	g_autoptr(kvt_kernel_csv) rows = path ? kvt_kernel_csv_load(path, w->error) : NULL;
	if (!rows || !attention_gpu(c, &gpu, w->error))
		return FALSE;
	g_autoptr(kvt_attention_model) model =
		kvt_attention_model_fit(c->name, &gpu, rows->rows, rows->count, w->error);
	if (!model)
		return FALSE;
	g_autofree char *table = kvt_attention_model_text(model);
	path = write_file(w, "-attention.table", table);
	g_autoptr(kvt_attention_model) reloaded =
		path ? kvt_attention_model_load(path, w->error) : NULL;
	return reloaded != NULL;
}

/* The same of a GPU's matrix products, where there are any. */
static gboolean write_products(writer *w)
{
	const kvt_calibration *c = w->calibration;
	if (!c->gpu || c->gpu->products->len == 0)
		return TRUE;
	g_autofree char *csv = kvt_gpu_calibration_products_csv(c->gpu);
	const char *path = write_file(w, "-products.csv", csv);
	g_autoptr(kvt_kernel_csv) rows = path ? kvt_kernel_csv_load(path, w->error) : NULL;
	g_autoptr(kvt_gemm_model) model = rows ? kvt_gemm_model_fit(c->name, c->gpu->processors,
							 rows->rows, rows->count, w->error)
					       : NULL;
	if (!model)
		return FALSE;
	g_autofree char *table = kvt_gemm_model_text(model);
	path = write_file(w, "-gemm.table", table);
	g_autoptr(kvt_gemm_model) reloaded = path ? kvt_gemm_model_load(path, w->error) : NULL;
	return reloaded != NULL;
}

/* Kernel times, and the file that names them. */
static gboolean write_gpu(writer *w)
{
	g_autoptr(GString) text = g_string_new(NULL);
	if (!write_attention(w) || !write_products(w) ||
		!(w->calibration->gpu ? kvt_gpu_profile_text : cpu_text)(
			w->calibration, text, w->error))
		return FALSE;
	const char *path = write_file(w, "-gpu.ini", text->str);
	g_autoptr(kvt_gpu) again = path ? kvt_gpu_load(path, w->error) : NULL;
	return again != NULL;
}

gboolean kvt_calibration_write(
	const kvt_calibration *c, const char *folder, GPtrArray *written, GError **error)
{
	writer w = { c, folder, written, error };
	if (g_mkdir_with_parents(folder, 0777) != 0)
		return kvt_error_failed(
			error, "%s: cannot make the folder: %s", folder, g_strerror(errno));
	json_t *record = kvt_calibration_to_json(c);
	g_autofree char *json = kvt_json_dump(record);
	json_decref(record);
	g_autoptr(GString) text = g_string_new(NULL);
	include_text(c, folder, text);
	return write_file(&w, ".json", json) && (c->drive->len == 0 || write_drive(&w)) &&
	       (c->network->len == 0 || write_nic(&w)) && write_host(&w) && write_gpu(&w) &&
	       write_file(&w, ".ini", text->str);
}
