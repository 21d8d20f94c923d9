/*
 * gemm_model.h: how long a matrix product C[m,n] = A[m,k] B[k,n] takes on a GPU, from a small table
 * fitted to measured kernel times: a time from first principles (gemm_base.h) and, on a grid of
 * shapes, how far the measured kernels are from it. It predicts one kernel alone on an idle GPU;
 * it knows nothing of layers or of overlap.
 *
 * In a linear layer m counts tokens, n output and k input features.
 */
#ifndef KVT_GEMM_MODEL_H
#define KVT_GEMM_MODEL_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "models/kernel_csv.h"

typedef struct kvt_gemm_model kvt_gemm_model;

typedef struct kvt_gemm_query {
	const char *source; /* kernel_source as measured, such as torch.nn.functional.linear; NULL:
			       the one that serves this dtype and shape */
	const char
		*dtype;  /* of both inputs: bfloat16, fp8, fp8_block (block-scaled FP8); also bf16,
			    fp16 and float16, which run at the bfloat16 rate, and fp8_e4m3 */
	int64_t m, n, k; /* >= 1 */
} kvt_gemm_query;

typedef struct kvt_gemm_time {
	double seconds;
	bool extrapolated;  /* outside of the measured m, n or k */
	const char *source; /* the kernel meant; belongs to the model */
} kvt_gemm_time;

/* Reads a table; NULL with an error at file:line when it is malformed. */
kvt_gemm_model *kvt_gemm_model_load(const char *path, GError **error);
kvt_gemm_model *kvt_gemm_model_parse(
	const char *name, const char *text, size_t length, GError **error);

/*
 * Fits a model to the GEMM rows among `rows` (others are skipped). `gpu` names the GPU, `sms` is
 * the number of its streaming multiprocessors. The same rows in the same order give the same
 * model, and a model that was saved and loaded predicts exactly as before. NULL with an error when
 * there are no GEMM rows.
 */
kvt_gemm_model *kvt_gemm_model_fit(
	const char *gpu, int64_t sms, const kvt_kernel_row *rows, size_t count, GError **error);

/* The table as text, to be freed; or into a file. */
char *kvt_gemm_model_text(const kvt_gemm_model *model);
gboolean kvt_gemm_model_save(const kvt_gemm_model *model, const char *path, GError **error);

void kvt_gemm_model_free(kvt_gemm_model *model);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_gemm_model, kvt_gemm_model_free)

/* Fills `out`. 0, -EINVAL for m, n or k below 1, -ENOENT when the table has no such kernel or
 * dtype. Allocates nothing. */
int kvt_gemm_predict(const kvt_gemm_model *model, const kvt_gemm_query *query, kvt_gemm_time *out);

/* The prediction for a measured row's kernel, dtype and shape. */
int kvt_gemm_predict_row(
	const kvt_gemm_model *model, const kvt_kernel_row *row, kvt_gemm_time *out);

const char *kvt_gemm_model_gpu(const kvt_gemm_model *model);

/* Whether the table has the dtype, by any of its names. */
bool kvt_gemm_model_has(const kvt_gemm_model *model, const char *dtype);

/* Floating-point operations of a product, 2 m n k; the size by which "a quarter of the largest" is
 * told. */
static inline double kvt_gemm_flops(int64_t m, int64_t n, int64_t k)
{
	return 2.0 * (double)m * (double)n * (double)k;
}

#endif
