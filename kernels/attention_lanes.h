/*
 * attention_lanes.h: the loops of attention over vectors. attention_avx2.c includes this once for
 * its vectors and attention_avx512.c for its own, after saying what a vector is and can do:
 *
 *   vector, LANES, BLOCK = 2 LANES   FP32 numbers of a vector; numbers that are converted at once
 *   FEW                              rows that attend_few takes at once, at most
 *   ROWS, WIDE                       rows and vectors of the products of attend_many
 *   INLINE, TARGET, UNROLL           how functions and loops are declared
 *   load, store, spread, fma_of, most_of (the second of two where one is NaN), power (of 2),
 *   load_block, load_pair, twice, sums_of, transpose, first_of, load_rows, store_rows, across_max,
 * across_sum
 *
 * Not for anyone else.
 */

/* Tokens taken in turn where memory is what is waited for: whole vectors of logits. Blocks that
 * sums are made of at once, at most. */
enum { GROUP = 16, BLOCKS = 4 };

/* Bounds that only an inlined function's caller knows make clang keep arrays in memory: loops over
 * registers go to the most there are. */
#define EACH(i, n, most) UNROLL for (int i = 0; i < (int)(most); i++) if (i < (int)(n))

/* In the order of memory, which the processor's own fetching goes along with. */
INLINE void fetch(const uint8_t *token, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)token + i, _MM_HINT_T1);
}

/* Places of a row's numbers: rows are 1, 2, 4 or 8 apart. */
INLINE int width_of(int rows)
{
	return rows <= 2 ? rows : rows <= 4 ? 4 : 8;
}

/* Tokens whose products are computed at once, and their results' vectors. */
INLINE int results_of(int width)
{
	return width >= 4 ? 2 : 1;
}

INLINE int tokens_of(int width)
{
	return results_of(width) * LANES / width;
}

/* Adds products of n pairs of tokens with the rows to sum[n][width], a token in each half. What is
 * used most stays in registers: few rows' queries, or else the keys. */
INLINE void add_products(const kvt_attention_tile *tile, kvt_element element, int rows,
	const uint8_t *const *keys, int n, vector *sum)
{
	const uint32_t head_dim = tile->head_dim;
	const int width = width_of(rows);
	for (uint32_t i = 0; i < head_dim; i += LANES) {
		const float *query = tile->query + i;
		vector q[FEW][2], k[LANES / 4][2];
		if (rows > FEW / 2) {
			EACH(t, n, LANES / 4)
			load_pair(element, keys[2 * t], keys[2 * t + 1], i, k[t]);
			EACH(r, rows, FEW)
			UNROLL for (int half = 0; half < 2; half++)
			{
				vector x = twice(query + (size_t)r * head_dim + LANES / 2 * half);
				EACH(t, n, LANES / 4)
				sum[t * width + r] = fma_of(k[t][half], x, sum[t * width + r]);
			}
			continue;
		}
		EACH(r, rows, FEW)
		UNROLL for (int half = 0; half < 2; half++) q[r][half] =
			twice(query + (size_t)r * head_dim + LANES / 2 * half);
		EACH(t, n, LANES / 4)
		{
			load_pair(element, keys[2 * t], keys[2 * t + 1], i, k[0]);
			UNROLL for (int half = 0; half < 2; half++) EACH(r, rows, FEW)
				sum[t * width + r] =
					fma_of(k[0][half], q[r][half], sum[t * width + r]);
		}
	}
}

/* One row has less to compute than there is to wait for memory, which is fastest in the order of
 * addresses; unpacking E4M3 takes longer than that. */
INLINE int waits(kvt_element element, int rows)
{
	return rows == 1 && element != KVT_ELEMENT_E4M3;
}

/* Products of tokens_of() tokens with the rows, [token][width]. */
INLINE void products(const kvt_attention_tile *tile, kvt_element element, int rows,
	const uint8_t *const *keys, float *out)
{
	const int width = width_of(rows), pairs = tokens_of(width) / 2;
	const int n = waits(element, rows) ? 1 : pairs < LANES / 4 ? pairs : LANES / 4;
	vector sum[LANES];
	UNROLL for (int i = 0; i < LANES; i++) sum[i] = spread(0);
	EACH(i, pairs / n, LANES / 2)
	add_products(tile, element, rows, keys + 2 * i * n, n, sum + i * n * width);
	EACH(i, results_of(width), 2)
	store(out + LANES * i, sums_of(sum, width, i));
}

/* Logits by which one may exceed what weights are relative to, as powers of 2: sums are as exact
 * relative to any number that is near, and seldom have to be made relative to another one. */
enum { SLACK = 4 };

/* Makes sums, and the tile's first n weights, relative to the largest logit. Returns what they were
 * multiplied with. */
INLINE vector raise(kvt_attention_tile *tile, int rows, vector logit, float *share, uint32_t n)
{
	const int width = width_of(rows);
	float keep[LANES] __attribute__((aligned(64)));
	vector old = load_rows(tile->max, rows, width);
	/* NaN first: it is not larger */
	vector most = across_max(most_of(logit, old), width);
	vector factor = power(old - finite_or_0(most));
	store(keep, factor);
	store_rows(tile->max, most, rows);
	store_rows(tile->weight, load_rows(tile->weight, rows, width) * factor, rows);
	for (uint32_t i = 0; i < n; i += LANES)
		store(share + i, load(share + i) * factor);
	for (int r = 0; r < rows; r++)
		for (uint32_t i = 0; i < tile->head_dim; i += LANES) {
			float *place = tile->sum + (size_t)r * tile->head_dim + i;
			store(place, load(place) * spread(keep[r]));
		}
	return factor;
}

/* products() of some rows and format, as functions: what else is in registers stays out of them. */
typedef void (*product_function)(
	const kvt_attention_tile *tile, const uint8_t *const *keys, float *out);

/* What weights are relative to, a number a row in all its places, and sums of weights. */
typedef struct level {
	vector base, limit, sum;
} level;

INLINE void set_base(level *l, vector max)
{
	l->base = finite_or_0(max);
	l->limit = max + spread(SLACK);
}

/* A vector of the n tokens' logits, from `at` on, becomes weights. */
INLINE void weigh_some(
	kvt_attention_tile *tile, int rows, float *share, uint32_t n, uint32_t at, level *l)
{
	const int width = width_of(rows);
	vector logit = load(share + at);
	n *= (uint32_t)width;
	if (n < at + LANES)
		logit = first_of(n > at ? n - at : 0, logit, spread(-INFINITY));
	if (__builtin_expect(any_above(logit, l->limit), 0)) {
		l->sum *= raise(tile, rows, logit, share, at);
		set_base(l, load_rows(tile->max, rows, width));
	}
	vector p = power(logit - l->base);
	l->sum += p;
	store(share + at, p);
}

/* Some of a tile's tokens, and those that are fetched meanwhile. */
typedef struct group {
	const uint8_t *const *keys, *const *values, *const *next_keys, *const *next_values;
	uint32_t n, n_next;
} group;

/* Weights of a group's tokens in `share`, [token][width]. */
INLINE void weigh(kvt_attention_tile *tile, const group *g, product_function products_of, int rows,
	float *share, level *l)
{
	const size_t bytes = tile->head_dim * kvt_element_bytes(tile->element);
	const int width = width_of(rows);
	const uint32_t tokens = (uint32_t)tokens_of(width), n = g->n;
	for (uint32_t t = 0; t < n; t += tokens) {
		for (uint32_t i = t; i < t + tokens && i < g->n_next; i++)
			fetch(g->next_keys[i], bytes);
		products_of(tile, g->keys + t, share + t * (uint32_t)width);
	}
	for (uint32_t i = 0; i < n * (uint32_t)width; i += LANES)
		weigh_some(tile, rows, share, n, i, l);
}

/* Adds weighted values of `blocks` blocks of numbers from `block` on. A group's are summed first,
 * which rounds less than adding each to the sum of all. */
INLINE void add_values(kvt_attention_tile *tile, const group *g, kvt_element element, int rows,
	const float *share, uint32_t block, int blocks)
{
	const size_t head_dim = tile->head_dim;
	const size_t at = BLOCK * (size_t)block * kvt_element_bytes(element);
	const size_t bytes = BLOCK * (size_t)blocks * kvt_element_bytes(element);
	const int width = width_of(rows);
	float *out = tile->sum + BLOCK * (size_t)block;
	vector sum[FEW][2 * BLOCKS];
	EACH(r, rows, FEW) EACH(v, 2 * blocks, 2 * BLOCKS) sum[r][v] = spread(0);
	for (uint32_t t = 0; t < g->n; t++, share += width) {
		if (t < g->n_next)
			fetch(g->next_values[t] + at, bytes);
		vector value[2 * BLOCKS];
		EACH(b, blocks, BLOCKS)
		load_block(element, g->values[t], block + (uint32_t)b, value + 2 * b);
		EACH(r, rows, FEW)
		{
			vector p = spread(share[r]);
			EACH(v, 2 * blocks, 2 * BLOCKS)
			sum[r][v] = fma_of(p, value[v], sum[r][v]);
		}
	}
	EACH(r, rows, FEW) EACH(v, 2 * blocks, 2 * BLOCKS)
	{
		float *place = out + (size_t)r * head_dim + LANES * v;
		store(place, load(place) + sum[r][v]);
	}
}

/*
 * The tile's tokens from `first` on. Where pages follow each other in memory, what waits for memory
 * takes keys and values of a few tokens in turn, as they lie there, and leaves fetching to the
 * processor, which knows best how far ahead; where they do not, or there is more to compute,
 * tokens of the next tile are fetched meanwhile.
 */
INLINE group group_of(const kvt_attention_tile *tile, kvt_element element, int rows, uint32_t first)
{
	group g = { tile->keys + first, tile->values + first, tile->next_keys, tile->next_values,
		tile->n_tokens - first, tile->n_next };
	/* values are read in order where sums of whole tokens stay in registers */
	if (waits(element, rows) && tile->in_order && tile->head_dim <= BLOCK * BLOCKS) {
		g.n = g.n < GROUP ? g.n : GROUP;
		g.n_next = 0;
	}
	return g;
}

INLINE void attend_few(
	kvt_attention_tile *tile, kvt_element element, int rows, product_function products_of)
{
	float share[TILE * FEW] __attribute__((aligned(64)));
	/* sums of a pass stay in registers */
	const int most = waits(element, rows) ? 4 : rows <= FEW / 2 ? 2 : 1, width = width_of(rows);
	const uint32_t blocks = tile->head_dim / BLOCK;
	level l = { .sum = spread(0) };
	set_base(&l, load_rows(tile->max, rows, width));
	for (uint32_t first = 0; first < tile->n_tokens;) {
		group g = group_of(tile, element, rows, first);
		uint32_t block = 0;
		weigh(tile, &g, products_of, rows, share, &l);
		if (most == 4)
			for (; block + 4 <= blocks; block += 4)
				add_values(tile, &g, element, rows, share, block, 4);
		if (most >= 2)
			for (; block + 2 <= blocks; block += 2)
				add_values(tile, &g, element, rows, share, block, 2);
		for (; block < blocks; block++)
			add_values(tile, &g, element, rows, share, block, 1);
		first += g.n;
	}
	l.sum = load_rows(tile->weight, rows, width) + across_sum(l.sum, width);
	store_rows(tile->weight, l.sum, rows);
}

/* Where a query has what load_block gives as number j of a half of a block. */
INLINE size_t query_place(kvt_element element, int half, int j)
{
	if (element != KVT_ELEMENT_BF16)
		return (size_t)(LANES * half + j);
	return (size_t)(j / (LANES / 2) * LANES + LANES / 2 * half + j % (LANES / 2));
}

/* to[j][TILE tokens]: the keys' numbers by dimension; FP32. */
INLINE void unpack_keys(const kvt_attention_tile *tile, kvt_element element, float *to)
{
	for (uint32_t block = 0; block < tile->head_dim / BLOCK; block++, to += BLOCK * TILE)
		for (uint32_t first = 0; first < TILE; first += LANES)
			UNROLL for (int half = 0; half < 2; half++)
			{
				vector x[LANES];
				UNROLL for (int t = 0; t < LANES; t++)
				{
					vector two[2];
					load_block(element, tile->keys[first + (uint32_t)t], block,
						two);
					x[t] = two[half];
				}
				transpose(x);
				UNROLL for (int j = 0; j < LANES; j++) store(
					to + first + query_place(element, half, j) * TILE, x[j]);
			}
}

/* to[TILE][head_dim] */
INLINE void unpack_values(const kvt_attention_tile *tile, kvt_element element, float *to)
{
	for (uint32_t t = 0; t < TILE; t++)
		for (uint32_t block = 0; block < tile->head_dim / BLOCK; block++, to += BLOCK) {
			vector two[2];
			load_block(element, tile->values[t], block, two);
			store(to, two[0]);
			store(to + LANES, two[1]);
		}
}

/* A product of matrices: out[rows][wide vectors] = a[rows][n] b[n][wide vectors], or out + that.
 * Strides are in numbers. */
INLINE void multiply(const float *a, size_t a_stride, const float *b, size_t b_stride, size_t n,
	float *out, size_t out_stride, int add, int rows, int wide)
{
	vector sum[ROWS][WIDE];
	EACH(r, rows, ROWS) EACH(v, wide, WIDE) sum[r][v] = spread(0);
	for (size_t i = 0; i < n; i++, b += b_stride) {
		vector x[WIDE];
		EACH(v, wide, WIDE) x[v] = load(b + LANES * v);
		EACH(r, rows, ROWS)
		{
			vector y = spread(a[(size_t)r * a_stride + i]);
			EACH(v, wide, WIDE) sum[r][v] = fma_of(y, x[v], sum[r][v]);
		}
	}
	EACH(r, rows, ROWS) EACH(v, wide, WIDE)
	{
		float *place = out + (size_t)r * out_stride + LANES * v;
		if (add)
			sum[r][v] += load(place);
		store(place, sum[r][v]);
	}
}

/* Sums of row `row` become relative to the largest of its logits in `share`. */
INLINE void raise_row(kvt_attention_tile *tile, size_t row, const float *share)
{
	vector old = spread(tile->max[row]), most = old;
	for (int i = 0; i < TILE; i += LANES)
		most = most_of(load(share + i), most);
	most = across_max(most, 1);
	vector factor = power(old - finite_or_0(most));
	store_rows(tile->max + row, most, 1);
	store_rows(tile->weight + row, spread(tile->weight[row]) * factor, 1);
	float *sum = tile->sum + row * tile->head_dim;
	for (uint32_t i = 0; i < tile->head_dim; i += LANES)
		store(sum + i, load(sum + i) * factor);
}

/* A row's logits of a tile become weights. */
INLINE void weigh_row(kvt_attention_tile *tile, size_t row, float *share)
{
	vector x[TILE / LANES], sum = spread(0), most = spread(-INFINITY);
	UNROLL for (int i = 0; i < TILE / LANES; i++)
	{
		x[i] = load(share + LANES * i);
		most = most_of(x[i], most);
	}
	if (__builtin_expect(any_above(most, spread(tile->max[row] + SLACK)), 0))
		raise_row(tile, row, share);
	vector base = finite_or_0(spread(tile->max[row]));
	UNROLL for (int i = 0; i < TILE / LANES; i++)
	{
		x[i] = power(x[i] - base);
		sum += x[i];
		store(share + LANES * i, x[i]);
	}
	store_rows(tile->weight + row, spread(tile->weight[row]) + across_sum(sum, 1), 1);
}

/* Rows from `row` on, over keys and values that are unpacked. */
INLINE void attend_rows(
	kvt_attention_tile *tile, const float *keys, const float *values, size_t row, int rows)
{
	const size_t head_dim = tile->head_dim;
	const float *query = tile->query + row * head_dim;
	float share[ROWS * TILE] __attribute__((aligned(64)));
	float *out = tile->sum + row * head_dim;
	for (int i = 0; i < TILE; i += WIDE * LANES)
		multiply(query, head_dim, keys + i, TILE, head_dim, share + i, TILE, 0, rows, WIDE);
	for (int r = 0; r < rows; r++)
		weigh_row(tile, row + (size_t)r, share + r * TILE);
	size_t i = 0;
	for (; i + WIDE * LANES <= head_dim; i += WIDE * LANES)
		multiply(share, TILE, values + i, head_dim, TILE, out + i, head_dim, 1, rows, WIDE);
	if (WIDE > 2 && i < head_dim)
		multiply(share, TILE, values + i, head_dim, TILE, out + i, head_dim, 1, rows, 2);
}

/* The part of the next tile's tokens that is fetched with rows [first, end). */
INLINE void fetch_part(const kvt_attention_tile *tile, size_t first, size_t end)
{
	const size_t bytes = tile->head_dim * kvt_element_bytes(tile->element);
	size_t t = tile->n_next * first / tile->n_rows, last = tile->n_next * end / tile->n_rows;
	for (; t < last; t++) {
		fetch(tile->next_keys[t], bytes);
		fetch(tile->next_values[t], bytes);
	}
}

#define ATTEND_ROWS(rows)                                                                          \
	__attribute__((target(TARGET), noinline)) static void attend_rows_##rows(                  \
		kvt_attention_tile *tile, const float *keys, const float *values, size_t row)      \
	{                                                                                          \
		attend_rows(tile, keys, values, row, rows);                                        \
	}
ATTEND_ROWS(1)
ATTEND_ROWS(2)
ATTEND_ROWS(3)
ATTEND_ROWS(4)
ATTEND_ROWS(5)
ATTEND_ROWS(6)

INLINE void attend_many(kvt_attention_tile *tile, kvt_element element)
{
	static void (*const of[ROWS + 1])(
		kvt_attention_tile *, const float *, const float *, size_t) = { NULL, attend_rows_1,
		attend_rows_2, attend_rows_3, attend_rows_4, attend_rows_5, attend_rows_6 };
	float *keys = tile->unpacked, *values = keys + TILE * (size_t)tile->head_dim;
	unpack_keys(tile, element, keys);
	unpack_values(tile, element, values);
	for (size_t row = 0, n; row < tile->n_rows; row += n) {
		n = tile->n_rows - row < ROWS ? tile->n_rows - row : ROWS;
		fetch_part(tile, row, row + n);
		of[n](tile, keys, values, row);
	}
}

#define ATTEND_FEW(name, element, rows)                                                            \
	__attribute__((target(TARGET), noinline)) static void products_##name##_##rows(            \
		const kvt_attention_tile *tile, const uint8_t *const *keys, float *out)            \
	{                                                                                          \
		products(tile, element, rows, keys, out);                                          \
	}                                                                                          \
	__attribute__((target(TARGET))) static void few_##name##_##rows(kvt_attention_tile *tile)  \
	{                                                                                          \
		attend_few(tile, element, rows, products_##name##_##rows);                         \
	}

#define ATTEND_MANY(name, element)                                                                 \
	__attribute__((target(TARGET))) static void many_##name(kvt_attention_tile *tile)          \
	{                                                                                          \
		attend_many(tile, element);                                                        \
	}
