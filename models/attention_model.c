/*
 * attention_model.c: asks a fitted attention model for a time: which kernel, which measured shapes
 * lie around the asked one, and what lies between and beyond them.
 */
#include "models/attention_internal.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* Rows of queries that a kernel pads to when it packs the query heads of a KV head. */
static const double PACKED_ROWS = 64;
/* kernels/attention.c, as calibrations name it, takes so many rows at once. */
static const char CPU_KERNEL[] = "kvtier_";
static const double CPU_ROWS = 4;
/* Share of how far the base formula is off at the edge of the grid that persists beyond it: part
 * belongs to the shape (a bandwidth), part to the point (a wave of thread blocks). */
static const double PERSISTS = 0.5;

double kvt_attention_dtype_bytes(const char *name)
{
	static const struct {
		const char *name;
		double bytes;
	} formats[] = { { "bfloat16", 2 }, { "bf16", 2 }, { "float16", 2 }, { "fp16", 2 },
		{ "half", 2 }, { "fp8", 1 }, { "fp8_e4m3", 1 }, { "fp8_e5m2", 1 }, { "int8", 1 },
		{ "float32", 4 }, { "fp32", 4 }, { "fp4", 0.5 }, { "nvfp4", 0.5 },
		{ "int4", 0.5 } };
	for (size_t i = 0; i < G_N_ELEMENTS(formats); i++)
		if (strcmp(formats[i].name, name) == 0)
			return formats[i].bytes;
	return 0;
}

kvt_attention_grid *kvt_attention_grid_new(kvt_attention_phase phase, const char *source,
	const char *dtype, const char *kv_dtype, int64_t head_dim)
{
	kvt_attention_grid *grid = g_new0(kvt_attention_grid, 1);
	grid->phase = phase;
	grid->base.decode = phase == KVT_ATTENTION_DECODE;
	grid->source = g_strdup(source);
	grid->dtype = g_strdup(dtype);
	grid->kv_dtype = g_strdup(kv_dtype);
	grid->dtype_bytes = kvt_attention_dtype_bytes(dtype);
	grid->kv_bytes = kvt_attention_dtype_bytes(kv_dtype);
	grid->head_dim = head_dim;
	grid->batches = g_array_new(FALSE, FALSE, sizeof(int64_t));
	grid->tokens = g_array_new(FALSE, FALSE, sizeof(int64_t));
	grid->pairs = g_array_new(FALSE, FALSE, sizeof(kvt_attention_pair));
	grid->behind = g_array_new(FALSE, FALSE, sizeof(kvt_attention_behind));
	return grid;
}

void kvt_attention_grid_allocate(kvt_attention_grid *grid)
{
	grid->times = g_renew(double, grid->times, kvt_grid_cells(grid));
	grid->reach = g_renew(uint8_t, grid->reach, grid->pairs->len * grid->batches->len);
}

void kvt_attention_grid_free(kvt_attention_grid *grid)
{
	if (grid == NULL)
		return;
	g_free(grid->source);
	g_free(grid->dtype);
	g_free(grid->kv_dtype);
	g_array_free(grid->batches, TRUE);
	g_array_free(grid->tokens, TRUE);
	g_array_free(grid->pairs, TRUE);
	g_array_free(grid->behind, TRUE);
	g_free(grid->times);
	g_free(grid->reach);
	g_free(grid);
}

kvt_attention_model *kvt_attention_model_new(const char *name, const kvt_attention_gpu *gpu)
{
	kvt_attention_model *model = g_new0(kvt_attention_model, 1);
	model->name = g_strdup(name);
	model->gpu = *gpu;
	model->grids = g_ptr_array_new_with_free_func((GDestroyNotify)kvt_attention_grid_free);
	return model;
}

void kvt_attention_model_free(kvt_attention_model *model)
{
	if (model == NULL)
		return;
	g_free(model->name);
	g_ptr_array_unref(model->grids);
	g_free(model);
}

const char *kvt_attention_model_name(const kvt_attention_model *model)
{
	return model->name;
}

const kvt_attention_gpu *kvt_attention_model_gpu(const kvt_attention_model *model)
{
	return &model->gpu;
}

double kvt_attention_row_size(const kvt_kernel_row *row)
{
	return (double)kvt_kernel_row_kv_tokens(row);
}

double kvt_attention_rate(kvt_attention_phase phase, const kvt_attention_time *time)
{
	return (phase == KVT_ATTENTION_DECODE ? time->bytes : time->flops) / time->seconds;
}

/* What is asked of one grid. */
typedef struct ask {
	const kvt_attention_model *model;
	const kvt_attention_grid *grid;
	double batch, tokens;
} ask;

/* Pairs of the grid around the asked heads, with weights that add up to 1, and the heads that they
 * stand for: the asked ones, or the nearest inside of the measured ones. */
typedef struct blend {
	unsigned count, pairs[4];
	double weights[4], heads, kv_heads;
} blend;

static double base_seconds(const ask *a, double batch, double heads, double kv_heads, double tokens)
{
	const kvt_attention_grid *grid = a->grid;
	return kvt_attention_base_seconds(&grid->base, &a->model->gpu,
		&(kvt_attention_work){ .batch = batch,
			.heads = heads,
			.kv_heads = kv_heads,
			.head_dim = (double)grid->head_dim,
			.tokens = tokens,
			.kv_bytes = grid->kv_bytes });
}

/* Last index of an ascending axis whose value is at most x; 0 if there is none. */
static unsigned below(const GArray *axis, double x)
{
	unsigned low = 0, high = axis->len;
	while (high - low > 1) {
		unsigned middle = (low + high) / 2;
		if ((double)g_array_index(axis, int64_t, middle) <= x)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/*
 * Beyond the last measured point: the base formula's growth, times how far the base was off there.
 * That correction fades where memory takes over from L2 on the way: it belongs to the other regime.
 */
static double beyond(const ask *a, double edge_seconds, kvt_attention_pair pair, double edge_batch,
	double edge_tokens, double batch, double tokens)
{
	kvt_attention_work work = { .heads = (double)pair.heads,
		.kv_heads = (double)pair.kv_heads,
		.head_dim = (double)a->grid->head_dim,
		.kv_bytes = a->grid->kv_bytes,
		.batch = edge_batch,
		.tokens = edge_tokens };
	const kvt_attention_base *base = &a->grid->base;
	const kvt_attention_gpu *gpu = &a->model->gpu;
	double edge = kvt_attention_base_seconds(base, gpu, &work);
	double misses = kvt_attention_base_misses(base, gpu, &work);
	work.batch = batch;
	work.tokens = tokens;
	double growth = fmax(0, kvt_attention_base_seconds(base, gpu, &work) - edge);
	double change = kvt_attention_base_misses(base, gpu, &work) - misses;
	return edge_seconds + growth * pow(edge_seconds / edge, PERSISTS * (1 - change));
}

/* Seconds of a measured pair and batch at any length. */
static double series_seconds(const ask *a, unsigned p, unsigned b)
{
	const kvt_attention_grid *grid = a->grid;
	kvt_attention_pair pair = kvt_grid_pair(grid, p);
	double batch = (double)kvt_grid_batch(grid, b);
	unsigned i = below(grid->tokens, a->tokens), last = grid->tokens->len - 1;
	double at = (double)kvt_grid_tokens(grid, i);
	double seconds = exp(grid->times[kvt_grid_cell(grid, p, b, i)]);
	if (a->tokens == at)
		return seconds;
	if (a->tokens > at && i == last)
		return beyond(a, seconds, pair, batch, at, batch, a->tokens);
	double heads = (double)pair.heads, kv_heads = (double)pair.kv_heads;
	double base = base_seconds(a, batch, heads, kv_heads, a->tokens);
	double base_at = base_seconds(a, batch, heads, kv_heads, at);
	if (a->tokens < at)
		return seconds * base / base_at;
	double next = exp(grid->times[kvt_grid_cell(grid, p, b, i + 1)]);
	double base_next =
		base_seconds(a, batch, heads, kv_heads, (double)kvt_grid_tokens(grid, i + 1));
	double way = base_next > base_at
			     ? (base - base_at) / (base_next - base_at)
			     : (a->tokens - at) / ((double)kvt_grid_tokens(grid, i + 1) - at);
	return seconds + (next - seconds) * fmin(fmax(way, 0), 1);
}

/* The same, never less than at a smaller measured batch: times on the grid rise with the batch, but
 * two of them may cross on their ways between two lengths. */
static double rising_seconds(const ask *a, unsigned p, unsigned b)
{
	double seconds = series_seconds(a, p, b);
	while (b > 0)
		seconds = fmax(seconds, series_seconds(a, p, --b));
	return seconds;
}

/* Seconds of a measured pair of heads at any batch and length. */
static double pair_seconds(const ask *a, unsigned p)
{
	const kvt_attention_grid *grid = a->grid;
	unsigned i = below(grid->batches, a->batch), last = grid->batches->len - 1;
	double at = (double)kvt_grid_batch(grid, i), seconds = rising_seconds(a, p, i);
	if (a->batch == at)
		return seconds;
	if (a->batch > at && i == last)
		return beyond(
			a, seconds, kvt_grid_pair(grid, p), at, a->tokens, a->batch, a->tokens);
	if (a->batch < at)
		return seconds * fmax(a->batch / at, 0.5);
	double way = (a->batch - at) / ((double)kvt_grid_batch(grid, i + 1) - at);
	double next = fmax(rising_seconds(a, p, i + 1), seconds);
	return seconds + (next - seconds) * way;
}

/* Whether batch and length lie within what was measured of a pair, or one grid step beyond. */
static bool reaches(const ask *a, unsigned p)
{
	const kvt_attention_grid *grid = a->grid;
	unsigned b = below(grid->batches, a->batch);
	if (b + 1 < grid->batches->len && (double)kvt_grid_batch(grid, b) < a->batch)
		b++;
	unsigned reach = grid->reach[p * grid->batches->len + b];
	return reach > 0 && a->tokens <= (double)kvt_grid_tokens(grid, reach - 1) &&
	       a->tokens * 2 >= (double)kvt_grid_tokens(grid, 0) &&
	       a->batch <= (double)kvt_grid_batch(grid, grid->batches->len - 1);
}

/* The pairs of one KV head count around `heads`, of one kind (one query head a KV head, or more).
 * False if there are none. */
static bool bracket_heads(const kvt_attention_grid *grid, int64_t kv_heads, double heads,
	bool group, double weight, blend *out, double *stands_for)
{
	int low = -1, high = -1;
	for (unsigned p = 0; p < grid->pairs->len; p++) {
		kvt_attention_pair pair = kvt_grid_pair(grid, p);
		if (pair.kv_heads != kv_heads || (pair.heads > pair.kv_heads) != group)
			continue;
		if ((double)pair.heads <= heads)
			low = (int)p;
		else if (high < 0)
			high = (int)p;
	}
	if (low < 0 && high < 0)
		return false;
	double from = low >= 0 ? (double)kvt_grid_pair(grid, (unsigned)low).heads : 0;
	double to = high >= 0 ? (double)kvt_grid_pair(grid, (unsigned)high).heads : 0;
	*stands_for = low < 0 ? to : high < 0 ? from : heads;
	double way = low < 0 ? 1 : high < 0 ? 0 : (heads - from) / (to - from);
	if (way < 1) {
		out->pairs[out->count] = (unsigned)low;
		out->weights[out->count++] = weight * (1 - way);
	}
	if (way > 0) {
		out->pairs[out->count] = (unsigned)high;
		out->weights[out->count++] = weight * way;
	}
	return true;
}

/* KV head counts of that kind around `kv_heads`; 0: none on that side. */
static void bracket_kv_heads(
	const kvt_attention_grid *grid, int64_t kv_heads, bool group, int64_t *low, int64_t *high)
{
	*low = *high = 0;
	for (unsigned p = 0; p < grid->pairs->len; p++) {
		kvt_attention_pair pair = kvt_grid_pair(grid, p);
		if ((pair.heads > pair.kv_heads) != group)
			continue;
		if (pair.kv_heads <= kv_heads)
			*low = pair.kv_heads;
		else if (*high == 0)
			*high = pair.kv_heads;
	}
}

/*
 * Between KV head counts the heads a KV head stay the same, so that both sides do the same work a
 * byte. Kernels treat one query head a KV head apart (no sharing of loads, other splits), so the
 * two kinds are mixed only when one is missing.
 */
static blend blend_pairs(const kvt_attention_grid *grid, int64_t heads, int64_t kv_heads)
{
	blend out = { 0 };
	bool group = heads > kv_heads;
	int64_t low, high;
	bracket_kv_heads(grid, kv_heads, group, &low, &high);
	if (low == 0 && high == 0) {
		group = !group;
		bracket_kv_heads(grid, kv_heads, group, &low, &high);
	}
	double ratio = group ? fmax(1, (double)heads / (double)kv_heads) : 1;
	double way = low == 0 ? 1 : high == 0 ? 0 : (double)(kv_heads - low) / (double)(high - low);
	double h = 0;
	if (way < 1 && bracket_heads(grid, low, ratio * (double)low, group, 1 - way, &out, &h)) {
		out.heads += (1 - way) * h;
		out.kv_heads += (1 - way) * (double)low;
	}
	if (way > 0 && bracket_heads(grid, high, ratio * (double)high, group, way, &out, &h)) {
		out.heads += way * h;
		out.kv_heads += way * (double)high;
	}
	return out;
}

static kvt_attention_work work_of(const ask *a, double batch, double heads, double kv_heads)
{
	return (kvt_attention_work){ .batch = batch,
		.heads = heads,
		.kv_heads = kv_heads,
		.head_dim = (double)a->grid->head_dim,
		.tokens = a->tokens,
		.kv_bytes = a->grid->kv_bytes };
}

static double kv_element_bytes(const kvt_attention_grid *grid, const kvt_attention_query *query)
{
	return query->kv_dtype != NULL ? kvt_attention_dtype_bytes(query->kv_dtype)
				       : grid->kv_bytes;
}

/*
 * Seconds of a kernel without a prefix on one grid; sets a->extrapolated. What was not measured is
 * carried over to what was and takes as long: KV heads beyond the measured ones are more sequences
 * (either way one more unit of work that shares nothing with the others), wider or narrower
 * elements of a decode are more or fewer tokens (the same bytes).
 */
static double grid_seconds(const ask *asked, const kvt_attention_query *query, bool *extrapolated)
{
	ask a = *asked;
	const kvt_attention_grid *grid = a.grid;
	const kvt_attention_base *base = &grid->base;
	const kvt_attention_gpu *gpu = &a.model->gpu;
	bool of_decode = grid->phase == KVT_ATTENTION_DECODE;
	blend mix = blend_pairs(grid, query->heads, query->kv_heads);
	double heads = (double)query->heads * mix.kv_heads / (double)query->kv_heads;
	a.batch *= (double)query->kv_heads / mix.kv_heads;
	if (of_decode)
		a.tokens *= (double)query->head_dim / (double)grid->head_dim *
			    kv_element_bytes(grid, query) / grid->kv_bytes;
	if (mix.heads != heads || a.batch != asked->batch || a.tokens != asked->tokens ||
		query->head_dim != grid->head_dim)
		*extrapolated = true;
	double seconds = 0;
	for (unsigned i = 0; i < mix.count; i++) {
		seconds += mix.weights[i] * pair_seconds(&a, mix.pairs[i]);
		if (!reaches(&a, mix.pairs[i]))
			*extrapolated = true;
	}
	kvt_attention_work work = work_of(&a, a.batch, heads, mix.kv_heads);
	double warm = kvt_attention_base_seconds(base, gpu, &work);
	if (mix.heads != heads) {
		kvt_attention_work near = work_of(&a, a.batch, mix.heads, mix.kv_heads);
		seconds += fmax(0, warm - kvt_attention_base_seconds(base, gpu, &near));
	}
	if (of_decode && query->cold) {
		work.cold = true;
		seconds += fmax(0, kvt_attention_base_seconds(base, gpu, &work) - warm);
	} else if (!of_decode && query->head_dim != grid->head_dim) {
		work.head_dim = (double)query->head_dim;
		seconds *= kvt_attention_base_seconds(base, gpu, &work) / warm;
	}
	return seconds;
}

/*
 * Seconds of new tokens that attend to earlier ones and, causally, to themselves. The work runs at
 * the rate at which the whole causal kernel grows around that length: what a longer prompt adds is
 * such work, at the clocks that are left after the whole prompt's. Query heads of a KV head are
 * taken to be packed into tiles and keys to be split over idle SMs, as kernels for chunked prefill
 * do; memory must deliver the KV once. Where prefixes were measured, the nearest correct it.
 */
static double prefix_seconds(const ask *asked, const kvt_attention_query *query, bool *extrapolated)
{
	const kvt_attention_grid *grid = asked->grid;
	double new_tokens = asked->tokens, prefix = (double)query->prefix;
	double longest = (double)kvt_grid_tokens(grid, grid->tokens->len - 1);
	double at = fmax(prefix + new_tokens, 2048), half = at / 2;
	bool of_rate = false;
	ask a = *asked;
	a.tokens = at;
	double later = grid_seconds(&a, query, &of_rate);
	a.tokens = half;
	double earlier = grid_seconds(&a, query, &of_rate);
	*extrapolated |= prefix + new_tokens > longest;
	double heads = (double)query->heads, kv_heads = (double)query->kv_heads;
	double dims = (double)query->head_dim * (double)query->batch;
	double rate = 2 * dims * heads * (at * at - half * half) / fmax(later - earlier, 1e-12);
	double packed = g_str_has_prefix(grid->source, CPU_KERNEL) ? CPU_ROWS : PACKED_ROWS;
	double rows = kv_heads * packed * ceil(new_tokens * heads / kv_heads / packed);
	double computed = 4 * dims * rows * (prefix + new_tokens / 2) / rate;
	double moved = 2 * dims * kv_heads * (prefix + new_tokens) * kv_element_bytes(grid, query) /
		       grid->base.constants[KVT_BASE_MEMORY];
	return (grid->base.constants[KVT_BASE_FLOOR] + fmax(computed, moved)) *
	       kvt_attention_behind_factor(grid, query);
}

static void ask_grid(const kvt_attention_model *model, const kvt_attention_grid *grid,
	const kvt_attention_query *query, kvt_attention_time *out)
{
	ask a = { .model = model,
		.grid = grid,
		.batch = (double)query->batch,
		.tokens = (double)query->tokens };
	out->source = grid->source;
	out->extrapolated = false;
	out->seconds = grid_seconds(&a, query, &out->extrapolated);
	if (grid->phase == KVT_ATTENTION_PREFILL && query->prefix > 0)
		out->seconds = fmax(out->seconds, prefix_seconds(&a, query, &out->extrapolated));
}

/* How unlike a grid is to what is asked, 0 for the same; negative if it cannot answer. */
static int mismatch(const kvt_attention_grid *grid, const kvt_attention_query *query)
{
	if (grid->phase != query->phase ||
		(query->source != NULL && strcmp(query->source, grid->source) != 0))
		return -1;
	int points = 0;
	if (query->kv_dtype != NULL && strcmp(query->kv_dtype, grid->kv_dtype) != 0)
		points += kvt_attention_dtype_bytes(query->kv_dtype) == grid->kv_bytes ? 1 : 100;
	if (query->dtype != NULL && strcmp(query->dtype, grid->dtype) != 0)
		points += kvt_attention_dtype_bytes(query->dtype) == grid->dtype_bytes ? 1 : 50;
	if (query->head_dim != grid->head_dim)
		points += 200 + (int)fmin(500, fabs((double)(query->head_dim - grid->head_dim)));
	double longest = (double)kvt_grid_tokens(grid, grid->tokens->len - 1);
	if (query->source == NULL &&
		((double)query->tokens > 4 * longest ||
			query->tokens * 4 < kvt_grid_tokens(grid, 0)) &&
		grid->tokens->len == 1)
		points += 1000;
	return points;
}

static bool valid(const kvt_attention_query *q)
{
	return q->batch >= 1 && q->kv_heads >= 1 && q->heads >= q->kv_heads && q->head_dim >= 1 &&
	       q->tokens >= 1 && q->prefix >= 0 &&
	       (q->dtype == NULL || kvt_attention_dtype_bytes(q->dtype) > 0) &&
	       (q->kv_dtype == NULL || kvt_attention_dtype_bytes(q->kv_dtype) > 0);
}

int kvt_attention_predict(
	const kvt_attention_model *model, const kvt_attention_query *query, kvt_attention_time *out)
{
	if (!valid(query))
		return -EINVAL;
	int least = -1;
	for (unsigned i = 0; i < model->grids->len; i++) {
		const kvt_attention_grid *grid = model->grids->pdata[i];
		int points = mismatch(grid, query);
		if (points < 0 || (least >= 0 && points > least))
			continue;
		kvt_attention_time time;
		ask_grid(model, grid, query, &time);
		if (least < 0 || points < least || time.seconds < out->seconds) {
			out->seconds = time.seconds;
			out->extrapolated = time.extrapolated;
			out->source = time.source;
			out->bytes = 2 * kv_element_bytes(grid, query) * (double)query->kv_heads;
		}
		least = points;
	}
	if (least < 0)
		return -ENOENT;
	double dims = (double)query->batch * (double)query->head_dim;
	double tokens = (double)query->tokens, prefix = (double)query->prefix;
	bool decode = query->phase == KVT_ATTENTION_DECODE;
	double pairs = decode ? tokens : tokens * prefix + tokens * (tokens + 1) / 2;
	out->flops = 4 * dims * (double)query->heads * pairs;
	out->bytes *= dims * (decode ? tokens : tokens + prefix);
	return 0;
}

int kvt_attention_predict_row(
	const kvt_attention_model *model, const kvt_kernel_row *row, kvt_attention_time *out)
{
	const kvt_kernel_attention *r = &row->attention;
	bool decode = row->kind == KVT_KERNEL_DECODE;
	if (!decode && row->kind != KVT_KERNEL_PREFILL)
		return -EINVAL;
	return kvt_attention_predict(model,
		&(kvt_attention_query){
			.phase = decode ? KVT_ATTENTION_DECODE : KVT_ATTENTION_PREFILL,
			.source = row->source,
			.dtype = row->dtype,
			.kv_dtype = row->kv_dtype,
			.batch = r->batch,
			.heads = r->heads,
			.kv_heads = r->kv_heads,
			.head_dim = r->head_dim,
			.tokens = decode ? kvt_kernel_row_kv_tokens(row) : r->isl,
			.prefix = decode ? 0 : r->step },
		out);
}
