/*
 * kernel_models.h: the kernel times of one GPU together: attention, matrix products and
 * collectives, loaded from the tables that its file names, or fitted to measured rows of any of
 * those kinds. What a kind's model predicts is its own header's business.
 */
#ifndef KVT_KERNEL_MODELS_H
#define KVT_KERNEL_MODELS_H

#include <glib.h>

#include "models/attention_model.h"
#include "models/collective_model.h"
#include "models/gemm_model.h"
#include "models/hardware.h"
#include "models/kernel_check.h"

typedef struct kvt_kernel_models {
	/* each NULL where there is no table, or no rows to fit */
	kvt_attention_model *attention;
	kvt_gemm_model *gemm;
	kvt_collective_model *collective;
} kvt_kernel_models;

/* Loads the tables of the GPU's file. NULL with an error when one is missing or malformed. */
kvt_kernel_models *kvt_kernel_models_load(const kvt_gpu *gpu, GError **error);

/* Fits what there are rows for. NULL with an error when there is none, or a fit fails. */
kvt_kernel_models *kvt_kernel_models_fit(
	const kvt_gpu *gpu, const kvt_kernel_row *rows, size_t count, GError **error);

/*
 * Writes each table there is as <folder>/<GPU>-attention.table and so on, named as in the GPU's
 * file. Appends the paths written, which the array frees. The folder must exist.
 */
gboolean kvt_kernel_models_save(const kvt_kernel_models *models, const kvt_gpu *gpu,
	const char *folder, GPtrArray *written, GError **error);

void kvt_kernel_models_free(kvt_kernel_models *models);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_kernel_models, kvt_kernel_models_free)

/* Seconds of a measured row's kernel; 0, or a negative errno for what no table knows. */
int kvt_kernel_models_predict_row(
	const kvt_kernel_models *models, const kvt_kernel_row *row, double *seconds);

/* Any kind of kernel; `arg` of fit is a const kvt_gpu *, its models are kvt_kernel_models *. Sizes,
 * which are compared within a kind only: KV or prompt tokens, FLOPs, elements. */
extern const kvt_kernel_fitter kvt_gpu_fitter;

#endif
