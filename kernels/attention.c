/*
 * attention.c: cuts attention into tiles of tokens and rows of one query token, and merges partial
 * results. The arithmetic of a tile is in attention_scalar.c, attention_lanes.h,
 * attention_avx2.c and attention_avx512.c.
 */
#include "kernels/kernels.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum {
	TILE = KVT_ATTENTION_TILE,
	DIM_MAX = KVT_CODE_HEAD_DIM_MAX,
	LINE = 64,
	VECTOR = 16, /* tokens that a variant may take at once */
	/* Rows from which on it pays to unpack keys and values once for all of them. */
	MANY = 24,
};

typedef void (*tile_function)(kvt_attention_tile *tile);

/* What an instruction set offers. */
typedef struct variant {
	tile_function few, many; /* many: NULL where there is none */
	uint32_t lanes;          /* 0: no vectors */
	uint32_t rows;           /* that `few` takes at once */
} variant;

static int allowed(const kvt_attention_shape *shape)
{
	return shape->head_dim > 0 && shape->head_dim % 16 == 0 &&
	       shape->head_dim <= KVT_CODE_HEAD_DIM_MAX && shape->heads > 0 &&
	       shape->heads <= KVT_CODE_HEADS_MAX && shape->page_tokens > 0 &&
	       (shape->element == KVT_ELEMENT_F16 || shape->element == KVT_ELEMENT_BF16 ||
		       shape->element == KVT_ELEMENT_E4M3);
}

/* Floats of one array of rows in scratch memory. */
static size_t row_floats(size_t n_rows, size_t a_row)
{
	const size_t line = LINE / sizeof(float);
	return (n_rows * a_row + line - 1) / line * line;
}

size_t kvt_attention_scratch_bytes(const kvt_attention_shape *shape, uint32_t n_queries)
{
	if (!allowed(shape))
		return 0;
	size_t n_rows = (size_t)n_queries * shape->heads;
	size_t rows = row_floats(n_rows, shape->head_dim) + row_floats(n_rows, 1);
	size_t unpacked = n_rows >= MANY ? TILE * (size_t)shape->head_dim : 0;
	return sizeof(float) * 2 * (rows + unpacked);
}

/* Places in memory of the numbers in a variant's order; 0 lanes: of the scalar one, as in memory.
 */
static void order_of(const kvt_attention_shape *shape, uint32_t lanes, uint16_t *place)
{
	uint32_t i = 0, block = 2 * lanes;
	if (shape->element == KVT_ELEMENT_BF16 && lanes > 0)
		for (; i + block <= shape->head_dim; i += block)
			for (uint32_t k = 0; k < lanes; k++) {
				place[i + k] = (uint16_t)(i + 2 * k);
				place[i + lanes + k] = (uint16_t)(i + 2 * k + 1);
			}
	for (; i < shape->head_dim; i++)
		place[i] = (uint16_t)i;
}

/* What a variant's number counts: vectors of E4M3 are taken as half precision of 2^-8 the value. */
static double unit(const kvt_attention_shape *shape, uint32_t lanes)
{
	return shape->element == KVT_ELEMENT_E4M3 && lanes > 0 ? 256 : 1;
}

/* Places of a tile's tokens. */
typedef struct places {
	uint32_t n;
	int in_order; /* whether each page follows the one before in memory */
	const uint8_t *keys[TILE], *values[TILE];
} places;

/* Whether a page's keys and values lie behind those of the page before, with no more between. */
static int follows(
	const kvt_attention_shape *shape, const kvt_attention_window *window, uint64_t page)
{
	uintptr_t keys = (uintptr_t)window->keys[page] - (uintptr_t)window->keys[page - 1];
	uintptr_t values = (uintptr_t)window->values[page] - (uintptr_t)window->values[page - 1];
	size_t bytes = shape->page_tokens * (shape->key_stride + shape->value_stride);
	return keys == values && keys > 0 && keys <= bytes;
}

/* Where the tokens from `first` on are. */
static void gather(const kvt_attention_shape *shape, const kvt_attention_window *window,
	uint64_t first, places *out)
{
	uint64_t left = window->n_tokens - first, at = first + window->skip;
	uint64_t page = at / shape->page_tokens;
	uint32_t within = (uint32_t)(at % shape->page_tokens), n = 0;
	uint32_t most = left < TILE ? (uint32_t)left : TILE;
	const size_t key_stride = shape->key_stride, value_stride = shape->value_stride;
	out->in_order = 1;
	for (; n < most; page++, within = 0) {
		out->in_order &= page == 0 || follows(shape, window, page);
		const uint8_t *key = (const uint8_t *)window->keys[page] + within * key_stride;
		const uint8_t *value =
			(const uint8_t *)window->values[page] + within * value_stride;
		uint32_t here = shape->page_tokens - within;
		for (uint32_t end = here < most - n ? n + here : most; n < end; n++) {
			out->keys[n] = key;
			out->values[n] = value;
			key += key_stride;
			value += value_stride;
		}
	}
	out->n = n;
	for (; n > 0 && n % VECTOR != 0; n++) {
		out->keys[n] = out->keys[n - 1];
		out->values[n] = out->values[n - 1];
	}
}

/* Sums over the tokens so far, of all rows. */
typedef struct running {
	const kvt_attention_shape *shape;
	const variant *variant;
	uint32_t n_queries;
	float *query, *sum, *max, *weight, *unpacked;
} running;

/* Rows [row, end), which see the tile's first n tokens. */
static void attend_rows(
	const running *r, kvt_attention_tile *tile, uint32_t n, size_t row, size_t end)
{
	const uint32_t head_dim = r->shape->head_dim;
	tile->n_tokens = n;
	while (row < end) {
		size_t at = row * head_dim, rows = end - row;
		tile_function attend = r->variant->few;
		if (n == TILE && rows >= MANY && r->variant->many)
			attend = r->variant->many;
		else if (rows > r->variant->rows)
			rows = r->variant->rows;
		tile->n_rows = (uint32_t)rows;
		tile->query = r->query + at;
		tile->sum = r->sum + at;
		tile->max = r->max + row;
		tile->weight = r->weight + row;
		attend(tile);
		tile->n_next = 0;
		row += rows;
	}
}

/* One tile's tokens [first, first + n). Query tokens that see a part of them come before those
 * that see all. */
static void attend_tile(
	const running *r, kvt_attention_tile *tile, uint64_t first, uint32_t n, uint64_t seen)
{
	const size_t heads = r->shape->heads;
	uint32_t q = first >= seen ? (uint32_t)(first - seen + 1 < r->n_queries ? first - seen + 1
										: r->n_queries)
				   : 0;
	for (; q < r->n_queries && seen + q < first + n; q++)
		attend_rows(r, tile, (uint32_t)(seen + q - first), q * heads, (q + 1) * heads);
	attend_rows(r, tile, n, q * heads, r->n_queries * heads);
}

/* The places of the next tile are gathered while this one's are in use, to be fetched early. */
static void attend_window(const running *r, const kvt_attention_window *window)
{
	const kvt_attention_shape *shape = r->shape;
	kvt_attention_tile tile = {
		.element = shape->element, .head_dim = shape->head_dim, .unpacked = r->unpacked
	};
	places both[2], *now = &both[0], *next = &both[1], *other;
	gather(shape, window, 0, now);
	for (uint64_t first = 0; now->n > 0; other = now, now = next, next = other) {
		uint64_t after = first + now->n;
		gather(shape, window, after, next);
		tile.keys = now->keys;
		tile.values = now->values;
		tile.next_keys = next->keys;
		tile.next_values = next->values;
		tile.n_next = next->n;
		tile.in_order = next->in_order;
		attend_tile(r, &tile, first, now->n, window->seen);
		first = after;
	}
}

/* Queries by which a product is the base-2 logarithm of a weight: one rounding. */
static void prepare(running *r, const float *queries, uint32_t lanes)
{
	const double log2_e = 1.44269504088896340736;
	const kvt_attention_shape *shape = r->shape;
	double factor =
		(double)shape->scale * (double)shape->key_scale * unit(shape, lanes) * log2_e;
	size_t n_rows = (size_t)r->n_queries * shape->heads;
	uint16_t place[DIM_MAX];
	/* vectors of keys have two tokens */
	order_of(shape, lanes / 2, place);
	for (size_t row = 0; row < n_rows; row++) {
		const float *from = queries + row * shape->head_dim;
		float *to = r->query + row * shape->head_dim;
		for (uint32_t i = 0; i < shape->head_dim; i++)
			to[i] = (float)((double)from[place[i]] * factor);
		r->max[row] = -INFINITY;
		r->weight[row] = 0;
	}
	memset(r->sum, 0, n_rows * shape->head_dim * sizeof(float));
}

static double lse_of(const kvt_attention_partial *partial, size_t row)
{
	return (double)partial->lse[row] + (partial->lse_rest ? (double)partial->lse_rest[row] : 0);
}

static void set_lse(const kvt_attention_partial *partial, size_t row, double lse)
{
	partial->lse[row] = (float)lse;
	if (partial->lse_rest)
		partial->lse_rest[row] =
			lse == -INFINITY ? 0 : (float)(lse - (double)partial->lse[row]);
}

static void finish(const running *r, uint32_t lanes, const kvt_attention_partial *partial)
{
	const double ln_2 = 0.69314718055994530942;
	const kvt_attention_shape *shape = r->shape;
	size_t n_rows = (size_t)r->n_queries * shape->heads;
	float value_scale = shape->value_scale * (float)unit(shape, lanes);
	uint16_t place[DIM_MAX];
	order_of(shape, lanes, place);
	for (size_t row = 0; row < n_rows; row++) {
		const float *from = r->sum + row * shape->head_dim;
		float *to = partial->output + row * shape->head_dim;
		/* a sum of NaNs is not empty */
		int empty = r->weight[row] == 0;
		float factor = empty ? 0 : value_scale / r->weight[row];
		for (uint32_t i = 0; i < shape->head_dim; i++)
			to[place[i]] = empty ? 0 : from[i] * factor;
		set_lse(partial, row,
			empty ? -INFINITY
			      : (double)r->max[row] * ln_2 + log((double)r->weight[row]));
	}
}

int kvt_attention(kvt_isa isa, const kvt_attention_shape *shape, const float *queries,
	uint32_t n_queries, const kvt_attention_window *window,
	const kvt_attention_partial *partial, void *scratch)
{
	static const variant variants[KVT_ISA_COUNT] = {
		[KVT_ISA_SCALAR] = { kvt_attention_tile_scalar, NULL, 0, 8 },
#ifdef __x86_64__
		[KVT_ISA_AVX2] = { kvt_attention_tile_avx2, kvt_attention_rows_avx2, 8, 4 },
		[KVT_ISA_AVX512] = { kvt_attention_tile_avx512, kvt_attention_rows_avx512, 16, 8 },
#endif
	};
	if (!allowed(shape) || window->skip >= shape->page_tokens ||
		window->seen > UINT64_MAX - n_queries)
		return -EINVAL;
	if (isa >= KVT_ISA_COUNT || !kvt_isa_supported(isa))
		return -ENOTSUP;
	if (isa == KVT_ISA_AVX512 && shape->head_dim % 32 != 0)
		isa = KVT_ISA_AVX2;
	size_t n_rows = (size_t)n_queries * shape->heads;
	const variant *v = &variants[isa];
	running r = { .shape = shape, .variant = v, .n_queries = n_queries, .query = scratch };
	r.sum = r.query + row_floats(n_rows, shape->head_dim);
	r.max = r.sum + row_floats(n_rows, shape->head_dim);
	r.weight = r.max + row_floats(n_rows, 1);
	r.unpacked = r.weight + row_floats(n_rows, 1);
	prepare(&r, queries, v->lanes);
	attend_window(&r, window);
	finish(&r, v->lanes, partial);
	return 0;
}

/* Adds the part `b` to `a`, by log-sum-exp; both have tokens. */
static void merge_row(float *a, const float *b, double *lse_a, double lse_b, uint32_t head_dim)
{
	double most = *lse_a > lse_b ? *lse_a : lse_b;
	double weight_a = exp(*lse_a - most), weight_b = exp(lse_b - most);
	double weight = weight_a + weight_b;
	double of_a = weight_a / weight, of_b = weight_b / weight;
	/* rounded once, so that a merge of single tokens is as good as a sum of them */
	for (uint32_t i = 0; i < head_dim; i++)
		a[i] = (float)((double)a[i] * of_a + (double)b[i] * of_b);
	*lse_a = most + log(weight);
}

void kvt_attention_merge(const kvt_attention_partial *into, const kvt_attention_partial *from,
	size_t n_rows, uint32_t head_dim)
{
	for (size_t row = 0; row < n_rows; row++) {
		float *a = into->output + row * head_dim;
		const float *b = from->output + row * head_dim;
		double lse_a = lse_of(into, row), lse_b = lse_of(from, row);
		/* what an empty part holds may be anything, NaN too */
		if (lse_b == -INFINITY) {
			if (lse_a == -INFINITY)
				memset(a, 0, head_dim * sizeof(float));
			continue;
		}
		if (lse_a == -INFINITY) {
			memcpy(a, b, head_dim * sizeof(float));
			lse_a = lse_b;
		} else {
			merge_row(a, b, &lse_a, lse_b, head_dim);
		}
		set_lse(into, row, lse_a);
	}
}
