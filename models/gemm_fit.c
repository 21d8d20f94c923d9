/*
 * gemm_fit.c: fits a kvt_gemm_model to measured rows, in two steps for each kernel: the constants
 * of the base by least absolute log error, then the log residual at every cell of the measured
 * grid by kriging from the rows around it (the cell's own among them), which also removes the
 * measurements' noise.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/gemm_series.h"
#include "models/kriging.h"
#include "models/minimize.h"
#include "sim/base/error.h"

enum { FIT_ROWS = 6000, FIT_EVALUATIONS = 3000, NEAR = 64, DIMS = 4 };

/* Rows below this are mostly launch overhead; they count less in the base's fit. */
static const double SHORT_SECONDS = 1e-4;
static const double SHORT_WEIGHT = 0.2;

typedef struct sample {
	int64_t m, n, k;
	double seconds;
	double residual;
	double at[DIMS];
} sample;

/* Samples of one kernel ordered by (n, k, m), and where each column begins. */
typedef struct sample_set {
	gemm_series *series;
	int64_t sms;
	GArray *samples;
	unsigned *column_start; /* n.count * k.count + 1 */
} sample_set;

/* ---- the base ---- */

enum {
	P_PEAK,
	P_BANDWIDTH,
	P_FLOOR,
	P_FILL,
	P_QUANTISED,
	P_TILE,
	PARAMETERS = P_TILE + KVT_GEMM_TILES
};

typedef struct base_fit {
	const sample_set *set;
	size_t stride;
	bool split_k;
} base_fit;

static double rounded(double value)
{
	char text[32];
	g_ascii_formatd(text, sizeof text, "%.6g", value);
	return g_ascii_strtod(text, NULL);
}

static kvt_gemm_base base_from(const double *p, bool split_k)
{
	kvt_gemm_base base = { .split_k = split_k };
	base.peak = exp(p[P_PEAK]);
	base.bandwidth = exp(p[P_BANDWIDTH]);
	base.floor = exp(p[P_FLOOR]);
	base.fill = exp(p[P_FILL]);
	base.quantised = 1 / (1 + exp(-p[P_QUANTISED]));
	for (int i = 0; i < KVT_GEMM_TILES; i++)
		base.tile_efficiency[i] = exp(-fabs(p[P_TILE + i]));
	return base;
}

static double base_loss(const double *p, void *arg)
{
	const base_fit *fit = arg;
	const sample_set *set = fit->set;
	kvt_gemm_base base = base_from(p, fit->split_k);
	double sum = 0, weights = 0;
	for (size_t i = 0; i < set->samples->len; i += fit->stride) {
		const sample *s = &g_array_index(set->samples, sample, i);
		double seconds = kvt_gemm_base_seconds(
			&base, set->sms, set->series->bytes, s->m, s->n, s->k);
		double weight = s->seconds < SHORT_SECONDS ? SHORT_WEIGHT : 1;
		/* one wild row must not bend the constants */
		sum += weight * fmin(fabs(log(seconds / s->seconds)), 1);
		weights += weight;
	}
	/* holds the one parameter that may run away where nothing depends on it */
	return sum / weights + 1e-4 * p[P_QUANTISED] * p[P_QUANTISED];
}

/* Where the search begins: the fastest that any row went. */
static void first_guess(const sample_set *set, double *p)
{
	double peak = 0, bandwidth = 0, floor = INFINITY;
	for (size_t i = 0; i < set->samples->len; i++) {
		const sample *s = &g_array_index(set->samples, sample, i);
		double m = (double)s->m, n = (double)s->n, k = (double)s->k;
		double bytes = set->series->bytes * k * (m + n) + 2 * m * n;
		peak = fmax(peak, 2 * m * n * k / s->seconds);
		bandwidth = fmax(bandwidth, bytes / s->seconds);
		floor = fmin(floor, s->seconds);
	}
	const double guess[PARAMETERS] = { log(peak), log(bandwidth), log(0.7 * floor), log(100), 2,
		0.3, 0.2, 0.2, 0.05, 0.05, 0.05 };
	memcpy(p, guess, sizeof guess);
}

static void fit_base(sample_set *set)
{
	static const double STEP[PARAMETERS] = { 0.2, 0.2, 0.3, 0.5, 1, 0.2, 0.2, 0.2, 0.2, 0.2,
		0.2 };
	double best = INFINITY;
	for (int split = 0; split < 2; split++) {
		base_fit fit = { set, 1 + set->samples->len / FIT_ROWS, split != 0 };
		double p[PARAMETERS];
		first_guess(set, p);
		double loss = kvt_minimize(PARAMETERS, p, STEP, FIT_EVALUATIONS, base_loss, &fit);
		if (loss < best) {
			best = loss;
			set->series->base = base_from(p, fit.split_k);
		}
	}
	kvt_gemm_base *base = &set->series->base;
	base->peak = rounded(base->peak);
	base->bandwidth = rounded(base->bandwidth);
	base->floor = rounded(base->floor);
	base->fill = rounded(base->fill);
	base->quantised = rounded(base->quantised);
	for (int i = 0; i < KVT_GEMM_TILES; i++)
		base->tile_efficiency[i] = rounded(base->tile_efficiency[i]);
}

/* ---- residuals ---- */

static void place_shape(int64_t m, int64_t n, int64_t k, double *at)
{
	/* rows of the last tile that are padding: what 2048 and 2049 differ in */
	double padding = (double)((m + 255) / 256 * 256) / (double)m - 1;
	at[0] = log2((double)m) / 4;
	at[1] = log2((double)n) / 4;
	at[2] = log2((double)k) / 4;
	at[3] = padding;
}

typedef struct near_column {
	double distance;
	unsigned column;
} near_column;

static int by_distance(const void *a, const void *b)
{
	const near_column *x = a, *y = b;
	if (x->distance != y->distance)
		return x->distance < y->distance ? -1 : 1;
	return x->column < y->column ? -1 : x->column > y->column;
}

typedef struct near_sample {
	double distance;
	unsigned index;
} near_sample;

/* Keeps the NEAR nearest, nearest first; insertion is cheap because few candidates get in. */
static void keep_near(near_sample *kept, unsigned *count, double distance, unsigned index)
{
	if (*count == NEAR && distance >= kept[NEAR - 1].distance)
		return;
	unsigned i = *count < NEAR ? (*count)++ : NEAR - 1;
	for (; i > 0 && kept[i - 1].distance > distance; i--)
		kept[i] = kept[i - 1];
	kept[i] = (near_sample){ distance, index };
}

static unsigned find_near(const sample_set *set, const near_column *columns, unsigned n_columns,
	const double *at, near_sample *kept)
{
	unsigned count = 0;
	for (unsigned c = 0; c < n_columns; c++) {
		if (count == NEAR && columns[c].distance >= kept[NEAR - 1].distance)
			break;
		unsigned column = columns[c].column;
		for (unsigned i = set->column_start[column]; i < set->column_start[column + 1];
			i++) {
			const sample *s = &g_array_index(set->samples, sample, i);
			double m = s->at[0] - at[0], padding = s->at[3] - at[3];
			double distance = columns[c].distance + m * m + padding * padding;
			keep_near(kept, &count, distance, i);
		}
	}
	return count;
}

static double estimate(const sample_set *set, const near_sample *near, unsigned count,
	const double *at, double *scratch)
{
	double points[NEAR * DIMS], values[NEAR], nugget[NEAR];
	for (unsigned i = 0; i < count; i++) {
		const sample *s = &g_array_index(set->samples, sample, near[i].index);
		memcpy(points + (size_t)i * DIMS, s->at, sizeof s->at);
		values[i] = s->residual;
		nugget[i] = 0.05;
	}
	return kvt_kriging_estimate(DIMS, count, points, values, nugget, at, scratch);
}

/* Fills `cells` of one column (n, k) with residuals. */
static void estimate_column(const sample_set *set, unsigned n, unsigned k, near_column *columns,
	double *cells, double *scratch)
{
	const gemm_series *s = set->series;
	unsigned n_columns = s->n.count * s->k.count;
	for (unsigned c = 0; c < n_columns; c++) {
		double dn = log2((double)s->n.values[c / s->k.count] / (double)s->n.values[n]) / 4;
		double dk = log2((double)s->k.values[c % s->k.count] / (double)s->k.values[k]) / 4;
		columns[c] = (near_column){ dn * dn + dk * dk, c };
	}
	qsort(columns, n_columns, sizeof *columns, by_distance);
	near_sample near[NEAR];
	for (unsigned i = 0; i < s->m.count; i++) {
		double at[DIMS];
		place_shape(s->m.values[i], s->n.values[n], s->k.values[k], at);
		unsigned count = find_near(set, columns, n_columns, at, near);
		cells[i] = estimate(set, near, count, at, scratch);
	}
}

/* Residuals become characters; the range is that of the residuals themselves. */
static void encode(gemm_series *s, const double *cells, size_t count)
{
	double low = INFINITY, high = -INFINITY;
	for (size_t i = 0; i < count; i++) {
		if (isnan(cells[i]))
			continue;
		low = fmin(low, cells[i]);
		high = fmax(high, cells[i]);
	}
	s->residual_low = rounded(low);
	s->residual_step = rounded(fmax(high - low, 1e-6) / (GEMM_CODE_LAST - GEMM_CODE_FIRST));
	s->codes = g_malloc0(count);
	for (size_t i = 0; i < count; i++) {
		if (isnan(cells[i]))
			continue;
		double code = round((cells[i] - s->residual_low) / s->residual_step);
		code = CLAMP(code, 0, GEMM_CODE_LAST - GEMM_CODE_FIRST);
		s->codes[i] = (char)(GEMM_CODE_FIRST + (int)code);
	}
}

static void fit_residuals(sample_set *set)
{
	gemm_series *s = set->series;
	for (unsigned i = 0; i < set->samples->len; i++) {
		sample *p = &g_array_index(set->samples, sample, i);
		double base = kvt_gemm_base_seconds(&s->base, set->sms, s->bytes, p->m, p->n, p->k);
		p->residual = log(p->seconds / base);
		place_shape(p->m, p->n, p->k, p->at);
	}
	size_t columns = (size_t)s->n.count * s->k.count, count = columns * s->m.count;
	g_autofree double *cells = g_new(double, count);
	g_autofree near_column *order = g_new(near_column, columns);
	g_autofree double *scratch = g_new(double, KVT_KRIGING_SCRATCH(NEAR));
	for (size_t c = 0; c < columns; c++) {
		double *column = cells + c * s->m.count;
		if (set->column_start[c] == set->column_start[c + 1]) {
			for (unsigned i = 0; i < s->m.count; i++)
				column[i] = NAN;
			continue;
		}
		estimate_column(set, (unsigned)(c / s->k.count), (unsigned)(c % s->k.count), order,
			column, scratch);
	}
	encode(s, cells, count);
}

/* ---- grouping ---- */

static int by_number(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

static gemm_axis axis_of(const GArray *samples, size_t offset)
{
	gemm_axis axis = { g_new(int64_t, samples->len), 0 };
	for (unsigned i = 0; i < samples->len; i++)
		axis.values[i] = *(
			const int64_t *)((const char *)&g_array_index(samples, sample, i) + offset);
	qsort(axis.values, samples->len, sizeof *axis.values, by_number);
	for (unsigned i = 0; i < samples->len; i++)
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
		for (int64_t a = axis->values[i]; a != 0;) {
			int64_t rest = divisor % a;
			divisor = a;
			a = rest;
		}
	return divisor;
}

static int by_shape(const void *a, const void *b)
{
	const sample *x = a, *y = b;
	if (x->n != y->n)
		return x->n < y->n ? -1 : 1;
	if (x->k != y->k)
		return x->k < y->k ? -1 : 1;
	if (x->m != y->m)
		return x->m < y->m ? -1 : 1;
	return x->seconds < y->seconds ? -1 : x->seconds > y->seconds;
}

static void sort_into_columns(sample_set *set)
{
	gemm_series *s = set->series;
	s->m = axis_of(set->samples, offsetof(sample, m));
	s->n = axis_of(set->samples, offsetof(sample, n));
	s->k = axis_of(set->samples, offsetof(sample, k));
	s->n_multiple = common_divisor(&s->n);
	s->k_multiple = common_divisor(&s->k);
	s->rows = set->samples->len;
	g_array_sort(set->samples, by_shape);
	size_t columns = (size_t)s->n.count * s->k.count;
	set->column_start = g_new0(unsigned, columns + 1);
	for (unsigned i = 0; i < set->samples->len; i++) {
		const sample *p = &g_array_index(set->samples, sample, i);
		size_t column =
			(size_t)axis_index(&s->n, p->n) * s->k.count + axis_index(&s->k, p->k);
		set->column_start[column + 1]++;
	}
	for (size_t c = 0; c < columns; c++)
		set->column_start[c + 1] += set->column_start[c];
}

static void fit_series(gemm_series *series, int64_t sms, GArray *samples)
{
	sample_set set = { series, sms, samples, NULL };
	sort_into_columns(&set);
	fit_base(&set);
	fit_residuals(&set);
	g_free(set.column_start);
}

kvt_gemm_model *kvt_gemm_model_fit(
	const char *gpu, int64_t sms, const kvt_kernel_row *rows, size_t count, GError **error)
{
	g_assert(sms > 0);
	g_autoptr(kvt_gemm_model) model = gemm_model_new(gpu, sms);
	g_autoptr(GPtrArray) samples =
		g_ptr_array_new_with_free_func((GDestroyNotify)g_array_unref);
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
			g_ptr_array_add(samples, g_array_new(FALSE, FALSE, sizeof(sample)));
		}
		sample s = { row->gemm.m, row->gemm.n, row->gemm.k, row->seconds, 0, { 0 } };
		g_array_append_val(samples->pdata[at], s);
	}
	if (model->series->len == 0) {
		kvt_error_usage(error, "%s: no gemm row to fit, expected at least one", gpu);
		return NULL;
	}
	for (unsigned i = 0; i < model->series->len; i++)
		fit_series(model->series->pdata[i], sms, samples->pdata[i]);
	return g_steal_pointer(&model);
}
