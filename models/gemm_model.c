/* gemm_model.c: choosing a kernel and interpolating its residual. Reads no file and fits nothing.
 */
#include "models/gemm_model.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "models/gemm_series.h"

gemm_series *gemm_series_new(const char *source, const char *dtype)
{
	gemm_series *series = g_new0(gemm_series, 1);
	series->source = g_strdup(source);
	series->dtype = g_strdup(dtype);
	series->bytes = gemm_dtype_bytes(dtype);
	return series;
}

void gemm_series_free(gemm_series *series)
{
	if (series == NULL)
		return;
	g_free(series->source);
	g_free(series->dtype);
	g_free(series->m.values);
	g_free(series->n.values);
	g_free(series->k.values);
	g_free(series->codes);
	g_free(series);
}

kvt_gemm_model *gemm_model_new(const char *gpu, int64_t sms)
{
	kvt_gemm_model *model = g_new0(kvt_gemm_model, 1);
	model->gpu = g_strdup(gpu);
	model->sms = sms;
	model->series = g_ptr_array_new_with_free_func((GDestroyNotify)gemm_series_free);
	return model;
}

void kvt_gemm_model_free(kvt_gemm_model *model)
{
	if (model == NULL)
		return;
	g_free(model->gpu);
	g_ptr_array_unref(model->series);
	g_free(model);
}

const char *kvt_gemm_model_gpu(const kvt_gemm_model *model)
{
	return model->gpu;
}

double gemm_dtype_bytes(const char *dtype)
{
	if (g_str_has_prefix(dtype, "fp8") || g_str_has_prefix(dtype, "int8"))
		return 1;
	if (strstr(dtype, "fp4") != NULL || g_str_has_prefix(dtype, "int4"))
		return 0.5;
	return g_strcmp0(dtype, "float32") == 0 || g_strcmp0(dtype, "fp32") == 0 ? 4 : 2;
}

char *gemm_series_column(const gemm_series *series, unsigned n, unsigned k)
{
	return series->codes + ((size_t)n * series->k.count + k) * series->m.count;
}

/* A place on an axis: between points i and i + 1, `share` of the way on a log scale. */
typedef struct place {
	unsigned i;
	double share;
	bool outside;
} place;

static place axis_place(const gemm_axis *axis, int64_t value)
{
	unsigned low = 0, high = axis->count - 1;
	if (value <= axis->values[0])
		return (place){ 0, 0, value < axis->values[0] };
	if (value >= axis->values[high])
		return (place){ high, 0, value > axis->values[high] };
	while (high - low > 1) {
		unsigned middle = (low + high) / 2;
		if (axis->values[middle] <= value)
			low = middle;
		else
			high = middle;
	}
	if (axis->values[low] == value)
		return (place){ low, 0, false };
	double from = log((double)axis->values[low]);
	double share = (log((double)value) - from) / (log((double)axis->values[high]) - from);
	return (place){ low, share, false };
}

static double column_residual(const gemm_series *series, const char *column, place m)
{
	double code = column[m.i] - GEMM_CODE_FIRST;
	if (m.share > 0)
		code += m.share * (column[m.i + 1] - column[m.i]);
	return series->residual_low + series->residual_step * code;
}

/* The measured column nearest to (n, k) in octaves. */
static const char *nearest_column(const gemm_series *series, int64_t n, int64_t k)
{
	const char *best = NULL;
	double best_distance = INFINITY;
	for (unsigned i = 0; i < series->n.count; i++) {
		for (unsigned j = 0; j < series->k.count; j++) {
			const char *column = gemm_series_column(series, i, j);
			double distance = fabs(log2((double)series->n.values[i] / (double)n)) +
					  fabs(log2((double)series->k.values[j] / (double)k));
			if (*column != '\0' && distance < best_distance) {
				best = column;
				best_distance = distance;
			}
		}
	}
	return best;
}

double gemm_series_seconds(
	const gemm_series *series, int64_t sms, int64_t m, int64_t n, int64_t k, bool *extrapolated)
{
	place at_m = axis_place(&series->m, m), at_n = axis_place(&series->n, n),
	      at_k = axis_place(&series->k, k);
	*extrapolated = at_m.outside || at_n.outside || at_k.outside;
	double residual = 0, weights = 0;
	for (unsigned corner = 0; corner < 4; corner++) {
		unsigned up_n = corner & 1, up_k = corner >> 1;
		double weight =
			(up_n ? at_n.share : 1 - at_n.share) * (up_k ? at_k.share : 1 - at_k.share);
		if (weight <= 0)
			continue;
		const char *column = gemm_series_column(series, at_n.i + up_n, at_k.i + up_k);
		if (*column == '\0')
			continue;
		residual += weight * column_residual(series, column, at_m);
		weights += weight;
	}
	if (weights > 0) {
		residual /= weights;
	} else {
		residual = column_residual(series, nearest_column(series, n, k), at_m);
		*extrapolated = true;
	}
	return kvt_gemm_base_seconds(&series->base, sms, series->bytes, m, n, k) * exp(residual);
}

static const char *table_dtype(const char *dtype)
{
	static const char *const ALIASES[][2] = {
		{ "bf16", "bfloat16" },
		{ "fp16", "bfloat16" },
		{ "float16", "bfloat16" },
		{ "half", "bfloat16" },
		{ "fp8_e4m3", "fp8" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(ALIASES); i++)
		if (strcmp(dtype, ALIASES[i][0]) == 0)
			return ALIASES[i][1];
	return dtype;
}

/* Octaves that m lies outside of what the kernel was measured at. */
static double m_distance(const gemm_series *series, int64_t m)
{
	int64_t low = series->m.values[0], high = series->m.values[series->m.count - 1];
	if (m < low)
		return log2((double)low / (double)m);
	return m > high ? log2((double)m / (double)high) : 0;
}

/* Kernels of one dtype divide the shapes among them, each with rules of its own; the one with the
 * strictest rules that this shape meets is what the library would have chosen. */
static bool serves_better(const gemm_series *a, const gemm_series *b, const kvt_gemm_query *q)
{
	if (b == NULL)
		return true;
	bool meets_a = q->n % a->n_multiple == 0 && q->k % a->k_multiple == 0;
	bool meets_b = q->n % b->n_multiple == 0 && q->k % b->k_multiple == 0;
	if (meets_a != meets_b)
		return meets_a;
	double out_a = m_distance(a, q->m), out_b = m_distance(b, q->m);
	double strict_a = (double)a->n_multiple * (double)a->k_multiple;
	double strict_b = (double)b->n_multiple * (double)b->k_multiple;
	if (strict_a != strict_b)
		return meets_a ? strict_a > strict_b : strict_a < strict_b;
	return out_a < out_b;
}

int kvt_gemm_predict(const kvt_gemm_model *model, const kvt_gemm_query *query, kvt_gemm_time *out)
{
	if (query->m < 1 || query->n < 1 || query->k < 1)
		return -EINVAL;
	const char *dtype = table_dtype(query->dtype);
	const gemm_series *best = NULL;
	for (unsigned i = 0; i < model->series->len; i++) {
		const gemm_series *series = model->series->pdata[i];
		if (strcmp(series->dtype, dtype) != 0)
			continue;
		if (query->source != NULL) {
			if (strcmp(series->source, query->source) == 0)
				best = series;
		} else if (serves_better(series, best, query)) {
			best = series;
		}
	}
	if (best == NULL)
		return -ENOENT;
	out->source = best->source;
	out->seconds = gemm_series_seconds(
		best, model->sms, query->m, query->n, query->k, &out->extrapolated);
	return 0;
}

int kvt_gemm_predict_row(const kvt_gemm_model *model, const kvt_kernel_row *row, kvt_gemm_time *out)
{
	g_assert(row->kind == KVT_KERNEL_GEMM);
	kvt_gemm_query query = { row->source, row->dtype, row->gemm.m, row->gemm.n, row->gemm.k };
	return kvt_gemm_predict(model, &query, out);
}

bool kvt_gemm_model_has(const kvt_gemm_model *model, const char *dtype)
{
	for (unsigned i = 0; i < model->series->len; i++) {
		const gemm_series *series = model->series->pdata[i];
		if (strcmp(series->dtype, table_dtype(dtype)) == 0)
			return true;
	}
	return false;
}
