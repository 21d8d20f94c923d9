/*
 * attention_fit.c: fits an attention model to measured rows: the constants of the base formula,
 * then what it leaves over, carried from the measured shapes to every point of a grid. Everything
 * is deterministic; rows are taken in the order given.
 */
#include "models/attention_internal.h"

#include <math.h>
#include <string.h>

#include "models/kriging.h"
#include "models/least_squares.h"
#include "sim/base/error.h"

enum { DIMS = 5, NEIGHBOURS = 40, FIT_ROWS = 1500, TOKENS_KEPT = 48, BATCHES_KEPT = 32 };

/*
 * Correlation lengths of the leftover in log2 of units, heads, KV heads, tokens, and between one
 * query head a KV head and more. Units are what thread blocks are dealt out by: the query heads of
 * all sequences for prefill, the sequences for decode. Chosen by rows left out on several GPUs.
 */
static const double LENGTHS[2][DIMS] = { { 5, 16, 8, 8, 2 }, { 2.5, 24, 4, 10, 1.25 } };
static const double NUGGET = 2e-3;
/* Rows below this are mostly launch and noise: they count less. */
static const double FULL_WEIGHT_SECONDS = 1e-4;

/* A measured row as the fit sees it. */
typedef struct sample {
	kvt_attention_work work;
	double log_seconds, weight;
	double place[DIMS];
	double leftover; /* ln(measured / base) */
} sample;

typedef struct fit {
	const kvt_attention_gpu *gpu;
	kvt_attention_grid *grid;
	kvt_attention_base base; /* being tried */
	double guess[KVT_BASE_MAX];
	sample *samples;
	size_t count, stride;
	double total_weight;
} fit;

static kvt_attention_phase row_phase(const kvt_kernel_row *row)
{
	return row->kind == KVT_KERNEL_DECODE ? KVT_ATTENTION_DECODE : KVT_ATTENTION_PREFILL;
}

static bool is_attention(const kvt_kernel_row *row)
{
	return row->kind == KVT_KERNEL_DECODE || row->kind == KVT_KERNEL_PREFILL;
}

static void place(const kvt_attention_grid *grid, const kvt_attention_work *w, double *at)
{
	bool decode = grid->phase == KVT_ATTENTION_DECODE;
	at[0] = log2(decode ? w->batch : w->batch * w->heads);
	at[1] = log2(w->heads);
	at[2] = log2(w->kv_heads);
	at[3] = log2(w->tokens);
	at[4] = w->heads > w->kv_heads;
	for (int d = 0; d < DIMS; d++)
		at[d] /= LENGTHS[grid->phase][d];
}

static int compare_values(gconstpointer a, gconstpointer b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static int compare_pairs(gconstpointer a, gconstpointer b)
{
	const kvt_attention_pair *x = a, *y = b;
	int order = compare_values(&x->kv_heads, &y->kv_heads);
	return order != 0 ? order : compare_values(&x->heads, &y->heads);
}

/* Sorts, drops doubles, and keeps at most `most`, evenly by rank with both ends. */
static void tidy(GArray *values, size_t size, GCompareFunc compare, unsigned most)
{
	g_array_sort(values, compare);
	char *data = values->data;
	unsigned count = 0;
	for (unsigned i = 0; i < values->len; i++)
		if (count == 0 || compare(data + (count - 1) * size, data + i * size) != 0)
			memmove(data + count++ * size, data + i * size, size);
	if (count > most) {
		for (unsigned i = 0; i < most; i++)
			memmove(data + i * size, data + (size_t)i * (count - 1) / (most - 1) * size,
				size);
		count = most;
	}
	g_array_set_size(values, count);
}

static void add_sample(fit *f, const kvt_kernel_row *row)
{
	const kvt_kernel_attention *r = &row->attention;
	bool decode = row->kind == KVT_KERNEL_DECODE;
	int64_t tokens = decode ? kvt_kernel_row_kv_tokens(row) : r->isl;
	sample *s = &f->samples[f->count++];
	s->work = (kvt_attention_work){ .batch = (double)r->batch,
		.heads = (double)r->heads,
		.kv_heads = (double)r->kv_heads,
		.head_dim = (double)r->head_dim,
		.tokens = (double)tokens,
		.kv_bytes = f->grid->kv_bytes };
	s->log_seconds = log(row->seconds);
	s->weight = fmin(1, fmax(0.02, row->seconds / FULL_WEIGHT_SECONDS));
	place(f->grid, &s->work, s->place);
	g_array_append_val(f->grid->batches, r->batch);
	g_array_append_val(f->grid->tokens, tokens);
	kvt_attention_pair pair = { r->heads, r->kv_heads };
	g_array_append_val(f->grid->pairs, pair);
}

static bool belongs(const kvt_attention_grid *grid, const kvt_kernel_row *row)
{
	return is_attention(row) && row_phase(row) == grid->phase &&
	       row->attention.head_dim == grid->head_dim &&
	       (grid->phase == KVT_ATTENTION_DECODE || row->attention.step == 0) &&
	       strcmp(row->source, grid->source) == 0 && strcmp(row->dtype, grid->dtype) == 0 &&
	       strcmp(row->kv_dtype, grid->kv_dtype) == 0;
}

/* Below this a squared error counts as it is, above it less and less: odd rows must not decide. */
static const double ROBUST = 0.25;
/* How strongly constants that no row depends on are held to the guess. */
static const double HOLD = 0.01;

/*
 * What a fit minimises: log errors, then the constants' distance from the guess, then what would
 * contradict the datasheet: memory faster than it says, or L2 slower than memory.
 */
static void residuals(const double *x, double *out, void *arg)
{
	fit *f = arg;
	unsigned n = kvt_attention_base_count(&f->base), at = 0;
	double hold = HOLD * sqrt(f->total_weight);
	for (unsigned i = 0; i < n; i++)
		f->base.constants[i] = f->guess[i] * exp(x[i]);
	for (size_t i = 0; i < f->count; i += f->stride) {
		const sample *s = &f->samples[i];
		double error = log(kvt_attention_base_seconds(&f->base, f->gpu, &s->work)) -
			       s->log_seconds;
		double scaled = error / ROBUST;
		double size = ROBUST * sqrt(2 * (sqrt(1 + scaled * scaled) - 1));
		out[at++] = sqrt(s->weight) * copysign(size, error);
	}
	for (unsigned i = 0; i < n; i++)
		out[at++] = hold * x[i];
	const double *c = f->base.constants;
	out[at++] = 1000 * hold * fmax(0, log(c[KVT_BASE_MEMORY] / f->gpu->bandwidth));
	out[at++] = 1000 * hold * fmax(0, log(c[KVT_BASE_MEMORY] / c[KVT_BASE_CACHE]));
}

static double fit_constants(fit *f, double *x, size_t rows, unsigned iterations)
{
	unsigned n = kvt_attention_base_count(&f->base);
	f->stride = (f->count + rows - 1) / rows;
	f->total_weight = 0;
	for (size_t i = 0; i < f->count; i += f->stride)
		f->total_weight += f->samples[i].weight;
	unsigned count = (unsigned)((f->count + f->stride - 1) / f->stride);
	return kvt_least_squares(n, x, count + n + 2, iterations, residuals, f);
}

/*
 * The base of the grid, from the best of several starts: for decode, kernels that split a KV head's
 * tokens over thread blocks and ones that do not; for prefill, each tile.
 */
static void fit_base(fit *f)
{
	static const int tiles[] = { 64, 128, 256 };
	bool decode = f->grid->phase == KVT_ATTENTION_DECODE;
	double best = INFINITY, best_x[KVT_BASE_MAX] = { 0 };
	kvt_attention_base chosen = f->grid->base;
	kvt_attention_base_guess(&f->grid->base, f->gpu);
	memcpy(f->guess, f->grid->base.constants, sizeof(f->guess));
	for (unsigned i = 0; i < (decode ? 4 : 2 * G_N_ELEMENTS(tiles)); i++) {
		double x[KVT_BASE_MAX] = { 0 };
		if (decode) {
			x[KVT_BASE_SPLITS] = i % 2 ? 2 : -2.5;
			x[KVT_BASE_SERIAL_GROUP] = i / 2 ? -0.7 : 0.4;
		}
		f->base = f->grid->base;
		f->base.tile = decode ? 0 : tiles[i / 2];
		f->base.packed = !decode && i % 2 == 1;
		double value = fit_constants(f, x, FIT_ROWS, 60);
		if (value < best) {
			best = value;
			chosen = f->base;
			memcpy(best_x, x, sizeof(x));
		}
	}
	f->base = chosen;
	fit_constants(f, best_x, f->count, 60);
	/* As a table keeps them, so that a loaded model predicts the same. */
	for (unsigned i = 0; i < kvt_attention_base_count(&f->base); i++) {
		char text[32];
		g_snprintf(text, sizeof(text), "%.6g", f->guess[i] * exp(best_x[i]));
		f->base.constants[i] = g_ascii_strtod(text, NULL);
	}
	f->grid->base = f->base;
	for (size_t i = 0; i < f->count; i++) {
		sample *s = &f->samples[i];
		s->leftover = s->log_seconds -
			      log(kvt_attention_base_seconds(&f->base, f->gpu, &s->work));
	}
}

typedef struct near {
	double distance;
	size_t index;
} near;

static bool farther(const near *a, const near *b)
{
	return a->distance > b->distance || (a->distance == b->distance && a->index > b->index);
}

/* Keeps the `most` nearest in a heap with the farthest on top. */
static void keep_near(near *heap, unsigned *count, unsigned most, near one)
{
	unsigned i;
	if (*count < most) {
		for (i = (*count)++; i > 0 && farther(&one, &heap[(i - 1) / 2]); i = (i - 1) / 2)
			heap[i] = heap[(i - 1) / 2];
	} else {
		if (!farther(&heap[0], &one))
			return;
		for (i = 0; 2 * i + 1 < most;) {
			unsigned child = 2 * i + 1;
			if (child + 1 < most && farther(&heap[child + 1], &heap[child]))
				child++;
			if (!farther(&heap[child], &one))
				break;
			heap[i] = heap[child];
			i = child;
		}
	}
	heap[i] = one;
}

/* The leftover at a place, from the nearest samples. */
static double leftover_at(const fit *f, const double *at, double *scratch)
{
	near heap[NEIGHBOURS];
	unsigned count = 0;
	for (size_t i = 0; i < f->count; i++) {
		double distance = 0;
		for (int d = 0; d < DIMS; d++) {
			double gap = f->samples[i].place[d] - at[d];
			distance += gap * gap;
		}
		keep_near(heap, &count, NEIGHBOURS, (near){ distance, i });
	}
	double points[NEIGHBOURS * DIMS], values[NEIGHBOURS], nugget[NEIGHBOURS];
	for (unsigned i = 0; i < count; i++) {
		const sample *s = &f->samples[heap[i].index];
		memcpy(points + i * DIMS, s->place, sizeof(s->place));
		values[i] = s->leftover;
		nugget[i] = NUGGET;
	}
	return kvt_kriging_estimate(DIMS, count, points, values, nugget, at, scratch);
}

static kvt_attention_work cell_work(
	const kvt_attention_grid *grid, unsigned p, unsigned b, unsigned t)
{
	kvt_attention_pair pair = kvt_grid_pair(grid, p);
	return (kvt_attention_work){ .batch = (double)kvt_grid_batch(grid, b),
		.heads = (double)pair.heads,
		.kv_heads = (double)pair.kv_heads,
		.head_dim = (double)grid->head_dim,
		.tokens = (double)kvt_grid_tokens(grid, t),
		.kv_bytes = grid->kv_bytes };
}

static void fill_times(fit *f)
{
	kvt_attention_grid *grid = f->grid;
	double *scratch = g_new(double, KVT_KRIGING_SCRATCH(NEIGHBOURS));
	for (unsigned p = 0; p < grid->pairs->len; p++)
		for (unsigned b = 0; b < grid->batches->len; b++)
			for (unsigned t = 0; t < grid->tokens->len; t++) {
				kvt_attention_work work = cell_work(grid, p, b, t);
				double at[DIMS];
				place(grid, &work, at);
				double base =
					kvt_attention_base_seconds(&grid->base, f->gpu, &work);
				grid->times[kvt_grid_cell(grid, p, b, t)] =
					log(base) + leftover_at(f, at, scratch);
			}
	g_free(scratch);
}

/* The nearest values that never fall, by pooling neighbours that do (Ayer et al., 1955). */
static void make_rising(double *values, unsigned count, size_t stride)
{
	double means[MAX(KVT_GRID_TOKENS_MAX, KVT_GRID_BATCHES_MAX)];
	unsigned sizes[MAX(KVT_GRID_TOKENS_MAX, KVT_GRID_BATCHES_MAX)], pools = 0;
	for (unsigned i = 0; i < count; i++) {
		means[pools] = values[i * stride];
		sizes[pools++] = 1;
		while (pools > 1 && means[pools - 1] < means[pools - 2]) {
			unsigned size = sizes[pools - 1] + sizes[pools - 2];
			means[pools - 2] = (means[pools - 1] * sizes[pools - 1] +
						   means[pools - 2] * sizes[pools - 2]) /
					   size;
			sizes[pools-- - 2] = size;
		}
	}
	for (unsigned pool = 0, i = 0; pool < pools; pool++)
		for (unsigned j = 0; j < sizes[pool]; j++)
			values[i++ * stride] = means[pool];
}

/* More tokens or more sequences are never faster; measurement noise and the odd choice of a kernel
 * by its library say otherwise now and then. */
static void make_grid_rising(kvt_attention_grid *grid)
{
	unsigned batches = grid->batches->len, tokens = grid->tokens->len;
	for (unsigned p = 0; p < grid->pairs->len; p++) {
		double *times = grid->times + kvt_grid_cell(grid, p, 0, 0);
		for (int round = 0; round < 8; round++) {
			for (unsigned b = 0; b < batches; b++)
				make_rising(times + (size_t)b * tokens, tokens, 1);
			for (unsigned t = 0; t < tokens; t++)
				make_rising(times + t, batches, tokens);
		}
		for (unsigned b = 0; b < batches; b++)
			for (unsigned t = 0; t < tokens; t++) {
				double *cell = times + (size_t)b * tokens + t;
				if (t > 0)
					*cell = fmax(*cell, cell[-1]);
				if (b > 0)
					*cell = fmax(*cell, cell[-(ptrdiff_t)tokens]);
				*cell = kvt_attention_quantise(*cell);
			}
	}
}

/* How far each pair and batch was measured, plus one step, which the neighbours carry. */
static void find_reach(fit *f)
{
	kvt_attention_grid *grid = f->grid;
	unsigned batches = grid->batches->len;
	memset(grid->reach, 0, (size_t)grid->pairs->len * batches);
	for (size_t i = 0; i < f->count; i++) {
		const kvt_attention_work *w = &f->samples[i].work;
		unsigned p = 0, b = 0, t = 0;
		while (p < grid->pairs->len &&
			((double)kvt_grid_pair(grid, p).heads != w->heads ||
				(double)kvt_grid_pair(grid, p).kv_heads != w->kv_heads))
			p++;
		while (b < batches && (double)kvt_grid_batch(grid, b) != w->batch)
			b++;
		while (t < grid->tokens->len && (double)kvt_grid_tokens(grid, t) < w->tokens)
			t++;
		if (p == grid->pairs->len || b == batches)
			continue;
		uint8_t *reach = &grid->reach[p * batches + b];
		*reach = (uint8_t)MAX(*reach, MIN(t + 2, grid->tokens->len));
	}
}

static gboolean fit_grid(kvt_attention_model *model, const kvt_kernel_row *first,
	const kvt_kernel_row *rows, size_t count, GError **error)
{
	kvt_attention_grid *grid = kvt_attention_grid_new(row_phase(first), first->source,
		first->dtype, first->kv_dtype, first->attention.head_dim);
	g_ptr_array_add(model->grids, grid);
	if (!(grid->dtype_bytes > 0) || !(grid->kv_bytes > 0))
		return kvt_error_usage(error,
			"formats %s and %s of %s: expected bfloat16, float16, fp8, int8, float32",
			first->dtype, first->kv_dtype, first->source);
	fit f = { .gpu = &model->gpu, .grid = grid };
	f.samples = g_new0(sample, count);
	for (size_t i = 0; i < count; i++)
		if (belongs(grid, &rows[i]))
			add_sample(&f, &rows[i]);
	tidy(grid->batches, sizeof(int64_t), compare_values, BATCHES_KEPT);
	tidy(grid->tokens, sizeof(int64_t), compare_values, TOKENS_KEPT);
	tidy(grid->pairs, sizeof(kvt_attention_pair), compare_pairs, KVT_GRID_PAIRS_MAX);
	kvt_attention_grid_allocate(grid);
	fit_base(&f);
	fill_times(&f);
	make_grid_rising(grid);
	find_reach(&f);
	g_free(f.samples);
	return TRUE;
}

/* By phase, source, formats, head_dim. */
static int compare_rows(gconstpointer a, gconstpointer b)
{
	const kvt_kernel_row *x = *(const kvt_kernel_row *const *)a;
	const kvt_kernel_row *y = *(const kvt_kernel_row *const *)b;
	int order = (int)row_phase(x) - (int)row_phase(y);
	if (order == 0)
		order = strcmp(x->source, y->source);
	if (order == 0)
		order = strcmp(x->dtype, y->dtype);
	if (order == 0)
		order = strcmp(x->kv_dtype, y->kv_dtype);
	return order != 0 ? order : compare_values(&x->attention.head_dim, &y->attention.head_dim);
}

kvt_attention_model *kvt_attention_model_fit(const char *name, const kvt_attention_gpu *gpu,
	const kvt_kernel_row *rows, size_t count, GError **error)
{
	g_autoptr(kvt_attention_model) model = kvt_attention_model_new(name, gpu);
	g_autoptr(GPtrArray) kinds = g_ptr_array_new();
	for (size_t i = 0; i < count; i++) {
		const kvt_kernel_row *row = &rows[i];
		unsigned j = 0;
		/* A prefill row with a prefix has no place on the grid. */
		bool counts = is_attention(row) &&
			      (row->kind == KVT_KERNEL_DECODE || row->attention.step == 0);
		while (counts && j < kinds->len && compare_rows(&kinds->pdata[j], &row) != 0)
			j++;
		if (counts && j == kinds->len)
			g_ptr_array_add(kinds, (gpointer)row);
	}
	g_ptr_array_sort(kinds, compare_rows);
	if (kinds->len == 0 || kinds->len > KVT_GRIDS_MAX) {
		kvt_error_usage(error, "%u attention kernels in the rows, expected 1 to %d",
			kinds->len, KVT_GRIDS_MAX);
		return NULL;
	}
	for (unsigned i = 0; i < kinds->len; i++)
		if (!fit_grid(model, kinds->pdata[i], rows, count, error))
			return NULL;
	kvt_attention_behind_fit(model, rows, count);
	return g_steal_pointer(&model);
}
