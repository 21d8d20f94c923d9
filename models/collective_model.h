/*
 * collective_model.h: how long a collective (all-reduce, all-gather, ...) among the GPUs of one
 * host takes, interpolated between measured message sizes. It knows no topology: what the measured
 * host had between its GPUs (NVLink, or PCIe without peer access as with the L40S) is in the
 * times. Hosts with other links need tables of their own.
 *
 * The size of a message is that of the whole tensor on one rank: what all_reduce adds up, what
 * all_gather puts out, what reduce_scatter and alltoall take in. Times depend on bytes; formats of
 * one size in bytes take the same time.
 */
#ifndef KVT_COLLECTIVE_MODEL_H
#define KVT_COLLECTIVE_MODEL_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "models/kernel_csv.h"

typedef struct kvt_collective_model kvt_collective_model;

/* Who carries it out. */
typedef enum kvt_collective_flavour {
	KVT_COLLECTIVE_NCCL,
	KVT_COLLECTIVE_CUSTOM_EAGER, /* vLLM's one- and two-shot all-reduce, launched by the host */
	KVT_COLLECTIVE_CUSTOM_GRAPH, /* the same within a CUDA graph */
	KVT_COLLECTIVE_FLAVOURS,
} kvt_collective_flavour;

/* kernel_source of each flavour in measured rows: "NCCL", "vLLM_custom_eager", ... */
extern const char *const kvt_collective_flavour_names[KVT_COLLECTIVE_FLAVOURS + 1];

typedef struct kvt_collective_query {
	const char *op; /* all_reduce, all_gather, reduce_scatter, alltoall */
	kvt_collective_flavour flavour;
	int64_t gpus; /* >= 1; 1 takes no time */
	double bytes; /* >= 0 */
} kvt_collective_query;

typedef struct kvt_collective_time {
	double seconds;
	double bandwidth;  /* bytes / seconds, the "algorithm bandwidth"; 0 when seconds is */
	bool extrapolated; /* size or number of GPUs outside of the measured ones, or between two
			      measured numbers of GPUs */
} kvt_collective_time;

/* Reads a table; NULL with an error at file:line when it is malformed. */
kvt_collective_model *kvt_collective_model_load(const char *path, GError **error);
kvt_collective_model *kvt_collective_model_parse(
	const char *name, const char *text, size_t length, GError **error);

/* Makes a model of the collective rows among `rows` (others are skipped): the median time of each
 * size in bytes. NULL with an error when there is none, or a row's dtype has no known size. */
kvt_collective_model *kvt_collective_model_fit(
	const char *gpu, const kvt_kernel_row *rows, size_t count, GError **error);

/* The table as text, to be freed; or into a file. */
char *kvt_collective_model_text(const kvt_collective_model *model);
gboolean kvt_collective_model_save(
	const kvt_collective_model *model, const char *path, GError **error);

void kvt_collective_model_free(kvt_collective_model *model);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_collective_model, kvt_collective_model_free)

/*
 * Fills `out`. 0; -EINVAL for gpus < 1 or bytes that are negative or not finite; -ENOENT when the
 * table has no such op and flavour. Between two sizes the time is a straight line on log-log axes;
 * beyond the largest, bytes arrive at the rate of the last two sizes; below the smallest the time
 * stays. Between two numbers of GPUs, and outside of them, a straight line on log-log axes too.
 * Allocates nothing.
 */
int kvt_collective_predict(const kvt_collective_model *model, const kvt_collective_query *query,
	kvt_collective_time *out);

/* The prediction for a measured row's op, source, number of GPUs and size. */
int kvt_collective_predict_row(
	const kvt_collective_model *model, const kvt_kernel_row *row, kvt_collective_time *out);

/* Bytes/s that a collective of very large messages approaches: the rate of the last two measured
 * sizes; 0 when the table lacks this op, flavour or exact number of GPUs. */
double kvt_collective_asymptotic_bandwidth(const kvt_collective_model *model, const char *op,
	kvt_collective_flavour flavour, int64_t gpus);

bool kvt_collective_model_has(
	const kvt_collective_model *model, const char *op, kvt_collective_flavour flavour);

const char *kvt_collective_model_gpu(const kvt_collective_model *model);

#endif
