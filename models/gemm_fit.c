/*
 * gemm_fit.c: fits a kvt_gemm_model to measured rows. For each kernel: the constants of the base
 * (gemm_base_fit.c), then the log residual on the grid of measured m, n and k (gemm_field.c),
 * stored as characters.
 */
#include "models/gemm_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/base/error.h"

double gemm_rounded(double value)
{
	char text[32];
	g_ascii_formatd(text, sizeof text, "%.6g", value);
	return g_ascii_strtod(text, NULL);
}

/* Residuals become characters; the range is that of the residuals themselves. */
static void encode(gemm_series *s, const double *cells)
{
	size_t count = (size_t)s->n.count * s->k.count * s->m.count;
	double low = INFINITY, high = -INFINITY;
	for (size_t i = 0; i < count; i++) {
		if (isnan(cells[i]))
			continue;
		low = fmin(low, cells[i]);
		high = fmax(high, cells[i]);
	}
	s->residual_low = gemm_rounded(low);
	s->residual_step =
		gemm_rounded(fmax(high - low, 1e-6) / (GEMM_CODE_LAST - GEMM_CODE_FIRST));
	s->codes = g_malloc0(count);
	for (size_t i = 0; i < count; i++) {
		if (isnan(cells[i]))
			continue;
		double code = round((cells[i] - s->residual_low) / s->residual_step);
		code = CLAMP(code, 0, GEMM_CODE_LAST - GEMM_CODE_FIRST);
		s->codes[i] = (char)(GEMM_CODE_FIRST + (int)code);
	}
}

static int by_number(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

/* The distinct values of one dimension; `offset` is its place in gemm_sample. */
static gemm_axis axis_of(const gemm_samples *samples, size_t offset)
{
	gemm_axis axis = { g_new(int64_t, samples->count), 0 };
	for (unsigned i = 0; i < samples->count; i++)
		memcpy(&axis.values[i], (const char *)&samples->rows[i] + offset,
			sizeof *axis.values);
	qsort(axis.values, samples->count, sizeof *axis.values, by_number);
	for (unsigned i = 0; i < samples->count; i++)
		if (axis.count == 0 || axis.values[axis.count - 1] != axis.values[i])
			axis.values[axis.count++] = axis.values[i];
	axis.values = g_renew(int64_t, axis.values, axis.count);
	return axis;
}

static unsigned axis_index(const gemm_axis *axis, int64_t value)
{
	const int64_t *at = bsearch(&value, axis->values, axis->count, sizeof value, by_number);
	g_assert(at != NULL);
	return (unsigned)(at - axis->values);
}

static int64_t common_divisor(const gemm_axis *axis)
{
	int64_t divisor = 0;
	for (unsigned i = 0; i < axis->count; i++)
		for (int64_t rest = axis->values[i]; rest != 0;) {
			int64_t next = divisor % rest;
			divisor = rest;
			rest = next;
		}
	return divisor;
}

static int by_shape(const void *a, const void *b)
{
	const gemm_sample *x = a, *y = b;
	if (x->n != y->n)
		return x->n < y->n ? -1 : 1;
	if (x->k != y->k)
		return x->k < y->k ? -1 : 1;
	if (x->m != y->m)
		return x->m < y->m ? -1 : 1;
	return (x->seconds > y->seconds) - (x->seconds < y->seconds);
}

static void sort_into_columns(gemm_samples *samples)
{
	gemm_series *s = samples->series;
	s->m = axis_of(samples, offsetof(gemm_sample, m));
	s->n = axis_of(samples, offsetof(gemm_sample, n));
	s->k = axis_of(samples, offsetof(gemm_sample, k));
	s->n_multiple = common_divisor(&s->n);
	s->k_multiple = common_divisor(&s->k);
	s->rows = samples->count;
	qsort(samples->rows, samples->count, sizeof *samples->rows, by_shape);
	size_t columns = (size_t)s->n.count * s->k.count;
	samples->column_start = g_new0(unsigned, columns + 1);
	for (unsigned i = 0; i < samples->count; i++) {
		const gemm_sample *row = &samples->rows[i];
		size_t column =
			(size_t)axis_index(&s->n, row->n) * s->k.count + axis_index(&s->k, row->k);
		samples->column_start[column + 1]++;
	}
	for (size_t c = 0; c < columns; c++)
		samples->column_start[c + 1] += samples->column_start[c];
}

static void fit_series(gemm_series *series, int64_t sms, GArray *rows)
{
	gemm_samples samples = { series, sms, (gemm_sample *)rows->data, rows->len, NULL };
	sort_into_columns(&samples);
	gemm_fit_base(&samples);
	g_autofree double *cells = gemm_fit_field(&samples);
	encode(series, cells);
	g_free(samples.column_start);
}

kvt_gemm_model *kvt_gemm_model_fit(
	const char *gpu, int64_t sms, const kvt_kernel_row *rows, size_t count, GError **error)
{
	g_assert(sms > 0);
	g_autoptr(kvt_gemm_model) model = gemm_model_new(gpu, sms);
	g_autoptr(GPtrArray) groups = g_ptr_array_new_with_free_func((GDestroyNotify)g_array_unref);
	for (size_t i = 0; i < count; i++) {
		const kvt_kernel_row *row = &rows[i];
		if (row->kind != KVT_KERNEL_GEMM)
			continue;
		unsigned at = 0;
		for (; at < model->series->len; at++) {
			const gemm_series *s = model->series->pdata[at];
			if (strcmp(s->source, row->source) == 0 &&
				strcmp(s->dtype, row->dtype) == 0)
				break;
		}
		if (at == model->series->len) {
			g_ptr_array_add(model->series, gemm_series_new(row->source, row->dtype));
			g_ptr_array_add(groups, g_array_new(FALSE, FALSE, sizeof(gemm_sample)));
		}
		gemm_sample sample = { .m = row->gemm.m,
			.n = row->gemm.n,
			.k = row->gemm.k,
			.seconds = row->seconds };
		g_array_append_val(groups->pdata[at], sample);
	}
	if (model->series->len == 0) {
		kvt_error_usage(error, "%s: no gemm row to fit, expected at least one", gpu);
		return NULL;
	}
	for (unsigned i = 0; i < model->series->len; i++)
		fit_series(model->series->pdata[i], sms, groups->pdata[i]);
	return g_steal_pointer(&model);
}
