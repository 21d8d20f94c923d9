/*
 * gemm_field.c: the log residual of a kernel as a random field over its shapes, estimated by
 * kriging from the NEAR nearest rows. How far the field is alike along each feature, and how noisy
 * rows are, is chosen by how well rows are predicted from the others.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/gemm_fit.h"
#include "models/kriging.h"

enum { NEAR = 64, QUERIES = 800, SIZES = 3 };

/* Tiles whose waves a kernel may be bound to. */
static const int WAVE_TILE[][2] = { { 64, 64 }, { 64, 128 }, { 128, 128 }, { 128, 256 },
	{ 256, 128 } };
enum {
	FEATURE_M,
	FEATURE_N,
	FEATURE_K,
	FEATURE_PADDING,
	FEATURE_ODD,
	FEATURE_BUCKET,
	FEATURE_WAVE
};
G_STATIC_ASSERT(FEATURE_WAVE + G_N_ELEMENTS(WAVE_TILE) == GEMM_FEATURES);

/* Where the search for correlation lengths begins. */
static const double FIRST_LENGTH[GEMM_FEATURES] = { 4, 4, 4, 1, 4, 8, 8, 8, 3, 3, 3 };
static const double FIRST_NUGGET = 0.1, MAX_LENGTH = 200, MAX_NUGGET = 3, MIN_NUGGET = 1e-3;

typedef struct near_column {
	double distance; /* squared, as all distances here */
	unsigned column;
} near_column;

typedef struct near_row {
	double distance;
	unsigned index;
} near_row;

typedef struct field {
	const gemm_samples *samples;
	double length[GEMM_FEATURES];
	double nugget;
	double *scaled; /* features of every row over their lengths */
	near_column *columns;
	unsigned n_columns;
	near_row near[NEAR];
	double *scratch;
} field;

static void features_of(int64_t sms, int64_t m, int64_t n, int64_t k, double *feature)
{
	double rows = (double)m, columns = (double)n;
	feature[FEATURE_M] = log2(rows);
	feature[FEATURE_N] = log2(columns);
	feature[FEATURE_K] = log2((double)k);
	feature[FEATURE_PADDING] = ceil(rows / 256) * 256 / rows - 1;
	feature[FEATURE_ODD] = (double)(m & 1);
	feature[FEATURE_BUCKET] = (m > 16) + (m > 32) + (m > 64) + (m > 128) + (m > 256);
	for (size_t i = 0; i < G_N_ELEMENTS(WAVE_TILE); i++) {
		double waves = ceil(rows / WAVE_TILE[i][0]) * ceil(columns / WAVE_TILE[i][1]) /
			       (double)sms;
		feature[FEATURE_WAVE + i] = log2(waves / ceil(waves));
	}
}

static void scale_rows(field *f)
{
	const gemm_samples *samples = f->samples;
	for (unsigned i = 0; i < samples->count; i++)
		for (int d = 0; d < GEMM_FEATURES; d++)
			f->scaled[(size_t)i * GEMM_FEATURES + d] =
				samples->rows[i].feature[d] / f->length[d];
}

static int by_distance(const void *a, const void *b)
{
	const near_column *x = a, *y = b;
	if (x->distance != y->distance)
		return x->distance < y->distance ? -1 : 1;
	return x->column < y->column ? -1 : x->column > y->column;
}

/* Columns that have rows, by distance in n and k: a lower bound of the distance of their rows. */
static void order_columns(field *f, int64_t n, int64_t k)
{
	const gemm_series *s = f->samples->series;
	f->n_columns = 0;
	for (unsigned i = 0; i < s->n.count; i++) {
		double dn = log2((double)s->n.values[i] / (double)n) / f->length[FEATURE_N];
		for (unsigned j = 0; j < s->k.count; j++) {
			unsigned column = i * s->k.count + j;
			if (f->samples->column_start[column] ==
				f->samples->column_start[column + 1])
				continue;
			double dk = log2((double)s->k.values[j] / (double)k) / f->length[FEATURE_K];
			f->columns[f->n_columns++] = (near_column){ dn * dn + dk * dk, column };
		}
	}
	qsort(f->columns, f->n_columns, sizeof *f->columns, by_distance);
}

/* Keeps the NEAR nearest, nearest first; few candidates get in, so insertion is cheap. */
static void keep_near(near_row *kept, unsigned *count, double distance, unsigned index)
{
	unsigned i = *count < NEAR ? (*count)++ : NEAR - 1;
	for (; i > 0 && kept[i - 1].distance > distance; i--)
		kept[i] = kept[i - 1];
	kept[i] = (near_row){ distance, index };
}

static unsigned find_near(field *f, const double *at, unsigned skip)
{
	unsigned count = 0;
	double worst = INFINITY;
	for (unsigned c = 0; c < f->n_columns && f->columns[c].distance < worst; c++) {
		const unsigned *start = &f->samples->column_start[f->columns[c].column];
		for (unsigned i = start[0]; i < start[1]; i++) {
			const double *row = f->scaled + (size_t)i * GEMM_FEATURES;
			double distance = 0;
			for (int d = 0; d < GEMM_FEATURES; d++)
				distance += (row[d] - at[d]) * (row[d] - at[d]);
			if (distance >= worst || i == skip)
				continue;
			keep_near(f->near, &count, distance, i);
			if (count == NEAR)
				worst = f->near[NEAR - 1].distance;
		}
	}
	return count;
}

/* The field at a shape whose columns are ordered; `skip` is a row to leave out, or UINT_MAX. */
static double estimate(field *f, const double *feature, unsigned skip)
{
	double at[GEMM_FEATURES], points[NEAR * GEMM_FEATURES], values[NEAR], nugget[NEAR];
	for (int d = 0; d < GEMM_FEATURES; d++)
		at[d] = feature[d] / f->length[d];
	unsigned count = find_near(f, at, skip);
	if (count == 0)
		return 0;
	for (unsigned i = 0; i < count; i++) {
		unsigned index = f->near[i].index;
		memcpy(points + (size_t)i * GEMM_FEATURES,
			f->scaled + (size_t)index * GEMM_FEATURES, sizeof at);
		values[i] = f->samples->rows[index].residual;
		nugget[i] = f->nugget * f->samples->rows[index].noise;
	}
	return kvt_kriging_estimate(GEMM_FEATURES, count, points, values, nugget, at, f->scratch);
}

static double left_out_residual(field *f, unsigned i)
{
	const gemm_sample *row = &f->samples->rows[i];
	order_columns(f, row->n, row->k);
	return estimate(f, row->feature, i) - row->residual;
}

/* Mean relative error at every stride-th row that is long enough to count, each left out. */
static double left_out_error(field *f, const GArray *queries)
{
	scale_rows(f);
	double sum = 0;
	for (unsigned q = 0; q < queries->len; q++) {
		double error = left_out_residual(f, g_array_index(queries, unsigned, q));
		/* capped: wild rows must not choose the lengths */
		sum += fmin(fabs(expm1(error)), 0.7);
	}
	return sum / queries->len;
}

static GArray *choose_queries(const gemm_samples *samples)
{
	GArray *all = g_array_new(FALSE, FALSE, sizeof(unsigned));
	for (unsigned i = 0; i < samples->count; i++)
		if (samples->rows[i].seconds >= GEMM_SHORT_SECONDS)
			g_array_append_val(all, i);
	if (all->len < QUERIES / 20) {
		g_array_set_size(all, 0);
		for (unsigned i = 0; i < samples->count; i++)
			g_array_append_val(all, i);
	}
	unsigned stride = all->len / QUERIES + 1, kept = 0;
	for (unsigned i = 0; i < all->len; i += stride)
		g_array_index(all, unsigned, kept++) = g_array_index(all, unsigned, i);
	g_array_set_size(all, kept);
	return all;
}

/* Multiplies one setting by `factor` for as long as that helps. */
static void try_factor(field *f, const GArray *queries, double *setting, double factor, double low,
	double high, double *best)
{
	for (;;) {
		double before = *setting;
		*setting *= factor;
		double error =
			*setting < low || *setting > high ? INFINITY : left_out_error(f, queries);
		if (!(error < *best * 0.9995)) {
			*setting = before;
			return;
		}
		*best = error;
	}
}

/* Pattern search, coarse then fine: the error is noisy and has many flat directions. */
static void choose_lengths(field *f)
{
	static const double FACTOR[] = { 2.5, 2.5, 1.6 };
	g_autoptr(GArray) queries = choose_queries(f->samples);
	double best = left_out_error(f, queries);
	for (size_t round = 0; round < G_N_ELEMENTS(FACTOR); round++) {
		for (int d = 0; d <= GEMM_FEATURES; d++) {
			bool length = d < GEMM_FEATURES;
			double *setting = length ? &f->length[d] : &f->nugget;
			double low = length ? 0.05 : MIN_NUGGET,
			       high = length ? MAX_LENGTH : MAX_NUGGET;
			double before = *setting;
			try_factor(f, queries, setting, FACTOR[round], low, high, &best);
			if (*setting == before)
				try_factor(
					f, queries, setting, 1 / FACTOR[round], low, high, &best);
		}
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Rows that the others do not explain are believed less, as under a Student t of 3 degrees. */
static void weigh_rows(field *f, gemm_samples *samples)
{
	scale_rows(f);
	g_autofree double *error = g_new(double, 2 * (size_t)samples->count);
	double *sorted = error + samples->count;
	for (unsigned i = 0; i < samples->count; i++)
		error[i] = sorted[i] = fabs(left_out_residual(f, i));
	qsort(sorted, samples->count, sizeof *sorted, by_value);
	double scale = 1.5 * sorted[samples->count / 2] + 1e-9;
	for (unsigned i = 0; i < samples->count; i++)
		samples->rows[i].noise = 1 + error[i] * error[i] / (3 * scale * scale);
}

static void fill_column(field *f, unsigned n, unsigned k, double *cells)
{
	const gemm_series *s = f->samples->series;
	order_columns(f, s->n.values[n], s->k.values[k]);
	for (unsigned i = 0; i < s->m.count; i++) {
		double feature[GEMM_FEATURES];
		features_of(
			f->samples->sms, s->m.values[i], s->n.values[n], s->k.values[k], feature);
		cells[i] = estimate(f, feature, UINT_MAX);
	}
}

double *gemm_fit_field(gemm_samples *samples)
{
	const gemm_series *s = samples->series;
	size_t n_columns = (size_t)s->n.count * s->k.count;
	field f = { .samples = samples, .nugget = FIRST_NUGGET };
	memcpy(f.length, FIRST_LENGTH, sizeof f.length);
	f.scaled = g_new(double, (size_t)samples->count *GEMM_FEATURES);
	f.columns = g_new(near_column, n_columns);
	f.scratch = g_new(double, KVT_KRIGING_SCRATCH(NEAR));
	for (unsigned i = 0; i < samples->count; i++) {
		gemm_sample *row = &samples->rows[i];
		double base = kvt_gemm_base_seconds(
			&s->base, samples->sms, s->bytes, row->m, row->n, row->k);
		row->residual = log(row->seconds / base);
		row->noise = 1;
		features_of(samples->sms, row->m, row->n, row->k, row->feature);
	}
	choose_lengths(&f);
	weigh_rows(&f, samples);
	double *cells = g_new(double, n_columns * s->m.count);
	for (size_t c = 0; c < n_columns; c++) {
		double *column = cells + c * s->m.count;
		if (samples->column_start[c] < samples->column_start[c + 1])
			fill_column(
				&f, (unsigned)(c / s->k.count), (unsigned)(c % s->k.count), column);
		else
			for (unsigned i = 0; i < s->m.count; i++)
				column[i] = NAN;
	}
	g_free(f.scaled);
	g_free(f.columns);
	g_free(f.scratch);
	return cells;
}
