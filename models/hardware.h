/*
 * hardware.h: GPUs, drives, NICs and hosts as their data files under models/ describe them.
 * Constants and where they are from, no behaviour: tiers and kernel models give them that. Rates
 * are bytes/s in one direction, sizes bytes, times picoseconds, shares 0..1, unless a field says
 * otherwise.
 */
#ifndef KVT_HARDWARE_H
#define KVT_HARDWARE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "models/dtype.h"
#include "sim/base/config.h"
#include "sim/base/sim_time.h"

typedef struct kvt_gpu {
	char *name, *title;
	uint64_t memory;          /* HBM or GDDR that a process can allocate */
	uint64_t memory_nominal;  /* as sold */
	double memory_bandwidth;  /* peak */
	double memory_efficiency; /* share of it that a streaming read reaches */
	kvt_time call_latency;  /* of a call of next to no work; part of what kernels were timed at
				 */
	double merge_bandwidth; /* that merging partial results moves; 0: as a streaming read */
	/* of a card that was measured, beyond its kernels' own times; 0 where nothing is known */
	kvt_time launch_latency; /* from the submission of a call to its beginning where nothing is
				    before it, and from its end to the host's knowing, together */
	kvt_time submit_time;    /* of the host's one thread, a call */
	kvt_time call_gap;       /* from a dense call's end to the next call of its stream */
	kvt_time append_time;    /* of new tokens' keys and values to where they stay, a layer */
	kvt_time stream_latency; /* from a call's end to one that waits for it on another stream */
	uint64_t l2;
	int64_t sms;
	/* peak FLOP/s of dense matrix products by format of both inputs; 0: none in hardware */
	double flops_fp32, flops_bf16, flops_fp8, flops_int8, flops_fp4;
	/* threads of the host that it is: attention and merges take its processors, which I/O needs
	 * too; 0: a device of its own */
	int64_t host_threads;
	int64_t pcie_generation, pcie_lanes;
	double nvlink;            /* to all peers together; 0: none */
	double power, power_idle; /* W */
	/* paths of the fitted kernel tables; NULL: roofline only */
	char *attention_table, *gemm_table, *collective_table;
} kvt_gpu;

/* Peak dense FLOP/s for weights of that format: the fastest that the GPU computes them in. Formats
 * it has no unit for are computed as BF16. */
double kvt_gpu_flops(const kvt_gpu *gpu, kvt_dtype dtype);

typedef struct kvt_drive {
	char *name, *title;
	uint64_t capacity; /* that the host can write before compression */
	double read_bandwidth,
		write_bandwidth;      /* sequential, large transfers, before compression */
	double read_iops, write_iops; /* 4 KiB random */
	/* Commands are taken one after the other with the bytes that they move, as by the one
	 * thread behind a virtual disk, and not beside them: s bytes take 1 / iops and what s is
	 * more than 4 KiB at the bandwidth. */
	bool read_serial, write_serial;
	/* Commands in its queue share its bandwidth; no: they are served in order of arrival. */
	bool queue_shared;
	/* what one command moves at most, however idle the drive is; 0: as much as the drive */
	double read_command_bandwidth, write_command_bandwidth;
	kvt_time read_latency, read_latency_p99; /* 4 KiB random read at queue depth 1 */
	kvt_time write_latency,
		write_latency_p99; /* the same for writes, into a protected buffer */
	int64_t queue_depth;       /* outstanding commands that reach the bandwidths above */
	uint64_t transfer_max;     /* largest command */
	int64_t pcie_generation, pcie_lanes;
	bool compression;       /* transparent: the medium moves and holds fewer bytes */
	double compression_max; /* largest capacity multiple; 1 without */
	/* a mix of reads and writes takes 1 / mixed_efficiency times the time of the one after the
	 * other */
	double mixed_efficiency;
	double endurance;         /* drive writes a day over the warranty */
	double power, power_idle; /* W */
} kvt_drive;

typedef struct kvt_nic {
	char *name, *title;
	int64_t ports;
	double line_rate;                        /* of one port */
	double efficiency;                       /* share of it that payload can fill */
	kvt_time read_latency, read_latency_p99; /* small RDMA read, host memory, one switch */
	double message_rate;                     /* messages/s */
	/* software in the place of a device: messages are taken one after the other with the bytes
	 * that they move, in order of arrival; s bytes take 1 / message_rate and what s is more
	 * than 4 KiB at the line rate */
	bool serial;
	double message_bandwidth; /* that one message moves at most; 0: as much as the port */
	uint64_t mtu;
	int64_t pcie_generation, pcie_lanes;
	double power; /* W */
} kvt_nic;

enum { KVT_COPY_POINTS_MAX = 16 };

/* A measured point of a copy curve: a copy of `size` bytes runs at `rate`. */
typedef struct kvt_copy_point {
	uint64_t size;
	double rate;
} kvt_copy_point;

typedef struct kvt_host {
	char *name, *title;
	int64_t sockets, cores;   /* cores in all */
	int64_t dram_channels;    /* in all */
	double dram_channel_rate; /* bytes/s of one */
	double dram_efficiency;   /* share that copies reach */
	uint64_t dram;            /* installed */
	kvt_time dram_latency;
	double socket_link;      /* between two sockets, one direction; 0: one socket */
	int64_t pcie_generation; /* of the slots; a device's link is the older of the two */
	int64_t root_complexes;  /* each with its own path to DRAM */
	double root_bandwidth;   /* that one root complex moves; 0: no limit but its slots */
	double pcie_efficiency;  /* payload over raw link rate */
	int64_t gpu_slots, gpu_lanes;
	int64_t drive_slots, drive_lanes;
	int64_t nic_slots, nic_lanes;
	bool gpu_peer_to_peer; /* GPUs and NICs reach each other without DRAM */
	/* copies between pinned DRAM and a GPU: setup + size / rate, and the points it is from */
	kvt_time copy_setup;
	double copy_to_gpu, copy_from_gpu; /* at large sizes; 0: pcie_efficiency decides */
	unsigned n_copy_points;
	kvt_copy_point copy_points[KVT_COPY_POINTS_MAX]; /* by size, ascending */
	double power_idle;                               /* W, without GPUs and drives */
	/* what software on it takes; of a host that was measured, 0 where nothing is known */
	double io_rate;         /* commands/s that one thread submits and completes */
	double checksum_rate;   /* bytes/s of pages that one thread verifies */
	kvt_time call_overhead; /* of attention and merges beyond their work: threads that wake */
} kvt_host;

/* Each reads a model by name (models/gpu/NAME.ini ...) or path; NULL with an error when there is
 * none, it is malformed, or a constant has no source. */
kvt_gpu *kvt_gpu_load(const char *name_or_path, GError **error);
kvt_drive *kvt_drive_load(const char *name_or_path, GError **error);
kvt_nic *kvt_nic_load(const char *name_or_path, GError **error);
kvt_host *kvt_host_load(const char *name_or_path, GError **error);

void kvt_gpu_free(kvt_gpu *gpu);
void kvt_drive_free(kvt_drive *drive);
void kvt_nic_free(kvt_nic *nic);
void kvt_host_free(kvt_host *host);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_gpu, kvt_gpu_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_drive, kvt_drive_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_nic, kvt_nic_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_host, kvt_host_free)

/* Raw bytes/s of a PCIe link in one direction, line code included: GT/s x lanes / 8 x 128/130 for
 * generations 3 to 5, x 236/256 (FLIT mode) for 6; 0 for a generation that it does not know. */
double kvt_pcie_raw_rate(int64_t generation, int64_t lanes);

/* Payload bytes/s of the link between a host's slot and a device: the older generation and the
 * fewer lanes, times the host's efficiency. */
double kvt_host_link_rate(
	const kvt_host *host, int64_t slot_lanes, int64_t device_generation, int64_t device_lanes);

/* Seconds of one host-to-device copy: through the measured points where the host has them (linear
 * in time between two, the last one's rate beyond), else copy_setup + bytes / rate, where `rate` is
 * the link's. */
double kvt_host_copy_seconds(const kvt_host *host, uint64_t bytes, double rate);

/* DRAM bytes/s that copies of the whole host reach. */
double kvt_host_dram_bandwidth(const kvt_host *host);

/* The option tables, for help and for listing. */
extern const kvt_option kvt_gpu_options[], kvt_drive_options[], kvt_nic_options[],
	kvt_host_options[];

#endif
