/*
 * calibration.h: what a machine was measured to do, and the model files that follow from it, so
 * that `kvtier run` can predict what `kvtier emu` will see. Measuring (calibrate_drive.c,
 * calibrate_network.c, calibrate_host.c, calibrate_attention.c, calibrate_calls.c), fitting
 * (calibrate_fit.c), the record that is kept (calibrate_record.c) and the files that models/ reads
 * (calibrate_files.c) are apart: a record read back gives the same files. It knows no experiment.
 *
 * Rates are bytes/s, times seconds. Every figure is a median over repeats with the least and the
 * largest beside it. Memory, checksums and the like are measured in threads' own time, so that
 * other programs disturb them little; the drive and wake-ups by the clock; attention in both.
 */
#ifndef KVT_CALIBRATION_H
#define KVT_CALIBRATION_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "emu/loop/cores.h"

/* A figure measured several times. */
typedef struct kvt_measured {
	double value, low, high;
} kvt_measured;

/* Reads, or writes, of one size with so many in flight, at random places of a file. */
typedef struct kvt_drive_point {
	bool write;
	uint64_t size;
	unsigned depth;
	kvt_measured rate;
	double latency, latency_p99; /* from submission to callback */
	double cpu;                  /* of the loop's thread, an I/O */
	double busy;   /* of all processors of this machine, an I/O; NAN: not measured */
	double waited; /* share of the time that the loop's thread was ready but had no core */
	uint64_t ios;
} kvt_drive_point;

/* One-sided reads beside perftest's: bytes/s, or, where one is in flight, the median latency. */
typedef struct kvt_perftest_point {
	uint64_t size;
	unsigned depth;
	double ours, theirs;
} kvt_perftest_point;

typedef enum kvt_host_figure {
	KVT_HOST_MEMORY_ONE,   /* bytes/s that one thread reads */
	KVT_HOST_MEMORY_ALL,   /* that a thread a core reads together */
	KVT_HOST_COPY,         /* bytes/s that one thread copies */
	KVT_HOST_CHECKSUM,     /* bytes/s of xxh3 over pages, one thread */
	KVT_HOST_FMA,          /* FLOP/s of fused multiply-adds in FP32, one thread */
	KVT_HOST_DRAM_LATENCY, /* s of a load that misses all caches */
	KVT_HOST_TIMER,        /* s from when a timer is due to its callback */
	KVT_HOST_WAKE,         /* s from the loop to a sleeping thread and back */
	KVT_HOST_CALL,         /* s of the loop and back to it, beyond what threads see of a call */
	KVT_HOST_START,        /* s that threads take for a call of next to no work */
	KVT_HOST_MERGE,        /* bytes/s of merging partial results, all threads */
	KVT_HOST_SCORE,        /* bytes/s of page codes scored, one thread */
	KVT_HOST_SCORE_MEANS,  /* the same from their mean records alone */
	KVT_HOST_FIGURES,
} kvt_host_figure;

/* Bytes of merging one row of a partial result in FP32 with its log-sum-exp: two are read, one is
 * written, as the modelled device counts them. */
#define KVT_MERGE_BYTES(head_dim) (3.0 * 4 * ((head_dim) + 1))

/* Key, unit and what it is, of each. */
typedef struct kvt_host_figure_info {
	const char *key;
	int unit; /* kvt_unit */
	const char *what;
} kvt_host_figure_info;

extern const kvt_host_figure_info kvt_host_figures[KVT_HOST_FIGURES];

/* One call of the CPU device's attention for all KV heads of a layer, on all its threads. */
typedef struct kvt_attention_point {
	unsigned heads, kv_heads, head_dim;
	uint64_t tokens; /* decode: KV tokens that one query sees; prefill: causal tokens */
	uint64_t prefix; /* prefill: tokens before them */
	bool prefill;
	kvt_measured seconds; /* by the clock, from the call to the last task's end */
	kvt_measured cpu;     /* of the thread that worked longest, its own time */
} kvt_attention_point;

/* Of a GPU, where one was measured: gpu_calibration.h. */
typedef struct kvt_gpu_calibration kvt_gpu_calibration;
typedef struct kvt_gpu_calibrate_settings kvt_gpu_calibrate_settings;

typedef struct kvt_calibration {
	char *name, *cpu, *kernel; /* what the files are called; what was measured */
	char *store, *filesystem;  /* the folder; its file system and device */
	char *method, *isa;        /* of I/O; of attention */
	char *dense; /* GPU whose matrix products the device is to have; NULL: the CPU's own */
	bool direct; /* O_DIRECT, and not through the page cache */
	unsigned cores, threads; /* threads: of attention */
	uint64_t memory, cache;  /* bytes: of the machine; of the last level */
	uint64_t capacity, file_bytes;
	double mixed; /* rate of reads and writes at once, over the one after the other */
	GArray *drive, *attention; /* kvt_drive_point, kvt_attention_point */
	/* kvt_drive_point: one-sided reads and writes of a storage node's memory, questions where a
	 * run of `size` bytes lies, and reads of the remote tier. Empty: no network was measured */
	GArray *network, *fetches, *remote;
	double from_drives;  /* share of what `remote` read that the node had on drives alone */
	GArray *perftest;    /* kvt_perftest_point, of reads */
	char *why;           /* there are none of these, or not all; NULL: nothing is missing */
	char *node, *device; /* what was reached, through which RDMA device; NULL: none */
	/* beside a GPU those of calls to threads and of merges are 0: not measured */
	kvt_measured host[KVT_HOST_FIGURES];
	kvt_gpu_calibration *gpu; /* NULL: the CPU is the device that attends */
} kvt_calibration;

typedef struct kvt_calibrate_settings {
	const char *store; /* folder on the device to be measured; beside a GPU NULL: none */
	/* A storage node that runs, HOST:PORT, to be measured in the place of a device; NULL: none.
	 * Pages are stored for the first tenant of the file `keys` meanwhile. */
	const char *node, *keys;
	const kvt_gpu_calibrate_settings *gpu; /* NULL: attention is measured on the CPU */
	unsigned threads;                      /* of attention; 0: one a core but the engine's */
	kvt_cores *place;                      /* where threads go; kvt_calibrate() has its own */
	bool quick;          /* few points, short: for a first look and for tests */
	uint64_t file_bytes; /* of the file that is read and written; 0: 512 MiB, 32 when quick */
	/* Told what is being measured, `done` of `total`; may be NULL. */
	void (*progress)(void *arg, const char *what, unsigned done, unsigned total);
	void *progress_arg;
} kvt_calibrate_settings;

kvt_calibration *kvt_calibration_new(const char *name);
void kvt_calibration_free(kvt_calibration *calibration);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_calibration, kvt_calibration_free)

/* Fill their parts. False with an error when the folder cannot be written or a device fails. */
gboolean kvt_calibrate_drive(
	kvt_calibration *calibration, const kvt_calibrate_settings *settings, GError **error);
gboolean kvt_calibrate_network(
	kvt_calibration *calibration, const kvt_calibrate_settings *settings, GError **error);
gboolean kvt_calibrate_host(
	kvt_calibration *calibration, const kvt_calibrate_settings *settings, GError **error);
gboolean kvt_calibrate_attention(
	kvt_calibration *calibration, const kvt_calibrate_settings *settings, GError **error);
gboolean kvt_calibrate_calls(
	kvt_calibration *calibration, const kvt_calibrate_settings *settings, GError **error);

/* Everything, in that order. */
kvt_calibration *kvt_calibrate(
	const char *name, const kvt_calibrate_settings *settings, GError **error);

/* Median, least and largest of `values`, which are sorted. */
kvt_measured kvt_measured_of(double *values, unsigned n);

/* CPU time of the calling thread, s. */
double kvt_thread_seconds(void);

/*
 * One direction of a drive as the modelled tier (sim/tier/nvme_tier.c) takes it to be: with depth
 * d of size s in flight, bytes/s are the least of bandwidth, iops x s and d x s / (latency + s /
 * command_rate). A serial one moves bytes and takes commands in turn: in the place of the first two
 * is s / (1 / iops + (s - 4096) / bandwidth).
 */
typedef struct kvt_drive_fit {
	double bandwidth, iops, latency, command_rate;
	bool serial;
	double latency_median, latency_p99; /* of a lognormal with `latency` as its mean */
	double error, worst;    /* of the fitted points' rates: median and largest, as a share */
	double spread;          /* of the repeats, either way: median over the points */
	unsigned points, depth; /* depth: no more in flight is faster */
	uint64_t transfer;      /* largest size, 1 MiB at most, that reaches the bandwidth */
} kvt_drive_fit;

/* Bytes/s of that model. */
double kvt_drive_fit_rate(const kvt_drive_fit *fit, uint64_t size, unsigned depth);

/* Fits the points of one direction. False with an error where there are fewer than four, or no two
 * sizes or depths. */
gboolean kvt_drive_fit_points(
	const kvt_drive_point *points, unsigned n, bool write, kvt_drive_fit *fit, GError **error);

/* What reads of the remote tier take, beside the network: a descriptor of up to `transfer` bytes
 * takes `seconds` of this machine's processors and `per_byte` more for each byte, and `latency`
 * that nobody works in. All 0 where the processors' work was not measured. */
typedef struct kvt_remote_fit {
	uint64_t transfer;
	double seconds, per_byte, latency;
	double error, worst; /* of the processors' work: median and largest, as a share */
	unsigned points;
} kvt_remote_fit;

kvt_remote_fit kvt_remote_fit_points(const kvt_calibration *calibration, const kvt_drive_fit *read);

/* The curves of what pages come from: the drive's, or else the network's. */
const GArray *kvt_calibration_points(const kvt_calibration *calibration);

/* Seconds of loop's thread that a command takes: the median over small ones at depth. 0: unknown.
 */
double kvt_calibration_io_cpu(const kvt_calibration *calibration);

/* How long the loop's thread waited for a core while the drive was measured, median share: where it
 * is not near 0, other programs were running, and figures by the clock are too low. */
double kvt_calibration_waited(const kvt_calibration *calibration);

/* Seconds that a call to the device's threads takes beyond their own time when they need not wait
 * for a core: the median, over short calls, of the least that was seen. */
double kvt_calibration_dispatch(const kvt_calibration *calibration);

/* What an attention call takes on a quiet machine: the threads' own time and the dispatch. */
double kvt_calibration_attention_seconds(
	const kvt_calibration *calibration, const kvt_attention_point *point);

/* The record: schema kvtier.calibration/1. */
json_t *kvt_calibration_to_json(const kvt_calibration *calibration);
/* `name` stands for the file in messages. NULL with one line when it is no such record, of another
 * version, or a figure is missing or impossible. */
kvt_calibration *kvt_calibration_from_json(const char *name, const json_t *value, GError **error);
kvt_calibration *kvt_calibration_load(const char *path, GError **error);

/*
 * Writes into `folder` (made if need be): NAME.json, the record; NAME-drive.ini or NAME-nic.ini,
 * NAME-host.ini, NAME-gpu.ini (the GPU, or the CPU as the device that attends) with
 * NAME-attention.csv and .table, of a GPU also NAME-products.csv and NAME-gemm.table; NAME.ini, to
 * be included by experiments, which names the others by their full paths. Each is read back before
 * this returns. Appends the paths, which the array frees.
 */
gboolean kvt_calibration_write(
	const kvt_calibration *calibration, const char *folder, GPtrArray *written, GError **error);

/* The attention times as a file of kernel times (models/kernel_csv.h). A new string. */
char *kvt_calibration_kernel_csv(const kvt_calibration *calibration);

/* What fio measured of the same file, sizes, depth and flags, right beside ours. */
typedef struct kvt_fio_point {
	uint64_t size;
	unsigned depth;
	double rate, fio_rate;
} kvt_fio_point;

/* Reads of 16 KiB, 128 KiB and 1 MiB. Empty, with *why a line (to be freed), where fio is not
 * installed or fails. A GArray of kvt_fio_point. */
GArray *kvt_calibrate_against_fio(const kvt_calibrate_settings *settings, char **why);

#endif
