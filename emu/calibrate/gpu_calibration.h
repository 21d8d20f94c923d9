/*
 * gpu_calibration.h: what a GPU was measured to do through emu/gpu/gpu.h: copies by size and way,
 * attention by shape, merges, what calls take beyond their kernels, matrix products of the models'
 * shapes. Part of a calibration (calibration.h), whose record and files have it; fits are
 * models/'s.
 *
 * Times are the device's own, between two events, of calls one behind the other with all of them
 * submitted before the first begins; but for launches, which are by the host's clock. KV comes from
 * memory: calls that follow each other attend to other pages.
 */
#ifndef KVT_GPU_CALIBRATION_H
#define KVT_GPU_CALIBRATION_H

#include "emu/calibrate/calibration.h"
#include "emu/gpu/gpu.h"

/* Copies between pinned memory and the GPU's, bytes/s; windows of 32 MiB, two under way. */
typedef struct kvt_gpu_copy_point {
	bool to_gpu;
	kvt_gpu_copy_way way;
	uint64_t size; /* of each; pages at random places of the host's memory */
	kvt_measured rate;
} kvt_gpu_copy_point;

/* One call of attention for all KV heads of a layer. */
typedef struct kvt_gpu_attention_point {
	unsigned heads, kv_heads, head_dim;
	kvt_element element; /* BF16 or E4M3 */
	bool prefill;
	uint64_t tokens; /* decode: KV tokens that one query sees; prefill: causal tokens */
	uint64_t prefix; /* prefill: tokens before them */
	kvt_measured seconds;
} kvt_gpu_attention_point;

typedef struct kvt_gpu_product_point {
	bool fp8; /* both inputs; no: BF16 */
	int64_t m, n, k;
	double seconds;
} kvt_gpu_product_point;

typedef enum kvt_gpu_figure {
	KVT_GPU_LAUNCH,       /* s of a call on an idle stream until the loop hears, beside it */
	KVT_GPU_COPY_LATENCY, /* s of a copy of one small page, the same way */
	KVT_GPU_SUBMIT,       /* s of the host's thread, a call with its events */
	KVT_GPU_GAP,          /* s that a timed wait takes beyond its time, one behind the other */
	KVT_GPU_APPEND,       /* s of putting a token's keys and values into its page */
	KVT_GPU_STREAM,       /* s from a call's end to one that waits for it on another stream */
	KVT_GPU_START,        /* s of a merge of next to nothing */
	KVT_GPU_MERGE,        /* bytes/s of merging partial results (KVT_MERGE_BYTES) */
	KVT_GPU_VERIFY,       /* bytes/s of pages whose checksums the GPU makes */
	KVT_GPU_FIGURES,
} kvt_gpu_figure;

extern const kvt_host_figure_info kvt_gpu_figures[KVT_GPU_FIGURES];

struct kvt_gpu_calibration {
	char *device, *versions, *date; /* what was measured, of which driver, when */
	char *datasheet;                /* the GPU's file in models/gpu whose figures it has */
	uint64_t memory;
	unsigned processors;
	/* of the link to the host; 0: the system does not say */
	unsigned pcie_generation, pcie_lanes;
	kvt_measured figures[KVT_GPU_FIGURES];
	GArray *copies, *attention, *products; /* of the points above */
	char *why;                             /* what was not measured, and why; NULL: nothing */
};

/* Who times matrix products on the GPU: cublas_gemm.h, or a test. */
typedef struct kvt_gpu_products {
	/* Seconds of one product of many, C[m,n] = A[m,k] B[k,n]. -ENOTSUP: not of that kind. */
	int (*time)(void *arg, bool fp8, int64_t m, int64_t n, int64_t k, double *seconds);
	void *arg;
} kvt_gpu_products;

struct kvt_gpu_calibrate_settings {
	kvt_real_gpu *gpu;
	const kvt_gpu_products *products; /* NULL: `why_no_products` */
	const char *why_no_products;
	const char *datasheet; /* NULL: the one whose title says what the card calls itself */
	uint64_t bytes;        /* of its memory to measure with; 0: 2 GiB, 512 MiB when quick */
	uint64_t scratch;      /* bytes of scratch at most; 0: any */
	uint64_t flops;        /* of a call at most; 0: 2e13, 2e12 when quick */
};

kvt_gpu_calibration *kvt_gpu_calibration_new(void);
void kvt_gpu_calibration_free(kvt_gpu_calibration *gpu);

/* Measures everything. False with an error where the GPU refuses or fails. */
gboolean kvt_gpu_calibration_measure(
	kvt_gpu_calibration *gpu, const kvt_calibrate_settings *settings, GError **error);

/* Bytes/s that attention to one query reads at most. */
double kvt_gpu_calibration_read_rate(const kvt_gpu_calibration *gpu);

/* Copies by the automatic way, by size, ascending: what a host's file has, `most` at most. Returns
 * how many. */
unsigned kvt_gpu_calibration_copies(const kvt_gpu_calibration *gpu, bool to_gpu,
	const kvt_gpu_copy_point **points, unsigned most);

/* The times of attention and of products as files of kernel times (models/kernel_csv.h). New
 * strings. */
char *kvt_gpu_calibration_attention_csv(const kvt_gpu_calibration *gpu);
char *kvt_gpu_calibration_products_csv(const kvt_gpu_calibration *gpu);

#endif
