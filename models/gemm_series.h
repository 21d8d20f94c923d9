/*
 * gemm_series.h: the inside of a kvt_gemm_model, shared by gemm_model.c, gemm_table.c and
 * gemm_fit.c and by nobody else.
 */
#ifndef KVT_GEMM_SERIES_H
#define KVT_GEMM_SERIES_H

#include "models/gemm_base.h"
#include "models/gemm_model.h"

/* Residuals are stored as one printable character each, '!' (33) to '~' (126). */
enum { GEMM_CODE_FIRST = '!', GEMM_CODE_LAST = '~', GEMM_AXIS_MAX = 4096 };

typedef struct gemm_axis {
	int64_t *values; /* ascending */
	unsigned count;
} gemm_axis;

/* One kernel (kernel_source and dtype) with its grid of residuals. */
typedef struct gemm_series {
	char *source, *dtype;
	double bytes;                   /* an element of A and B */
	int64_t rows;                   /* it was fitted to */
	int64_t n_multiple, k_multiple; /* of every n and k measured: where the kernel applies */
	kvt_gemm_base base;
	gemm_axis m, n, k;
	double residual_low, residual_step; /* log(measured / base) = low + step * code */
	/* code of (n, k, m) at ((n * k.count) + k) * m.count + m; NULL column: 0 */
	char *codes;
} gemm_series;

struct kvt_gemm_model {
	char *gpu;
	int64_t sms;
	GPtrArray *series; /* gemm_series */
};

gemm_series *gemm_series_new(const char *source, const char *dtype);
void gemm_series_free(gemm_series *series);
kvt_gemm_model *gemm_model_new(const char *gpu, int64_t sms);

/* The codes of column (n, k), m.count characters. The first is 0 when nothing was measured there.
 */
char *gemm_series_column(const gemm_series *series, unsigned n, unsigned k);

/* Bytes of an element of a dtype in the tables: 2 for bfloat16, 1 for fp8 and int8, 0.5 for fp4. */
double gemm_dtype_bytes(const char *dtype);

double gemm_series_seconds(const gemm_series *series, int64_t sms, int64_t m, int64_t n, int64_t k,
	bool *extrapolated);

#endif
