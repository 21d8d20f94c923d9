/*
 * cublas_gemm.h: times of matrix products by cuBLAS, which is looked for when it is wanted and not
 * when kvtier is built or started. It knows no model.
 */
#ifndef KVT_CUBLAS_GEMM_H
#define KVT_CUBLAS_GEMM_H

#include "emu/calibrate/gpu_calibration.h"

typedef struct kvt_cublas kvt_cublas;

/* NULL where there is no cuBLAS or no CUDA; *why says so then (to be freed). */
kvt_cublas *kvt_cublas_new(char **why);
void kvt_cublas_free(kvt_cublas *cublas);

/* Belongs to it. */
const kvt_gpu_products *kvt_cublas_products(const kvt_cublas *cublas);

#endif
