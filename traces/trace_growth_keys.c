/* trace_growth_keys.c: draws pages and neighbours for the keys of a longer context. Expanding what
 * it draws is synthetic_keys.c's. */
#include "traces/trace_growth_keys.h"

#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/base/rng.h"
#include "traces/half_float.h"
#include "traces/nearest_keys.h"

enum {
	RUN_PAGES = 16,          /* pages that stay together */
	DRAWN_PAGES_LEAST = 16,  /* to draw from */
	CANDIDATES_MOST = 4096,  /* tokens or page means among which neighbours are looked for */
	FITTED_PAGES = 1024,     /* added pages whose spread is measured */
	NEAREST = KVT_NEAREST,   /* of a token, and of a page mean */
	PARTNER_MEANS = NEAREST, /* partners: tokens, page means, the mean of all */
	PARTNER_MEAN = 2 * NEAREST,
	PARTNERS = 2 * NEAREST + 1,
};

typedef struct growth_keys {
	kvt_attention_layer *layer;
	const kvt_growth_plan *plan;
	const kvt_attention_header *from;
	kvt_synthetic_keys *keys;
	uint64_t recorded_pages;
	uint64_t means_at, mean_at; /* base tokens: page means from the first on, the mean of all */
	uint32_t *drawn;            /* pages that may be drawn, rising */
	uint64_t drawn_count;
	uint8_t *added; /* [pages], 1 where a page is drawn and not a recorded one */
} growth_keys;

static bool is_error_free(growth_keys *g, const uint16_t *halves, uint32_t head, GError **error)
{
	uint64_t values = g->from->total_tokens * g->from->head_dim;
	for (uint64_t i = 0; i < values; i++)
		if ((halves[i] & 0x7c00) == 0x7c00)
			return kvt_error_at(error,
				kvt_attention_trace_path(kvt_attention_layer_trace(g->layer)), 0,
				"layers/%u/keys: KV head %u, token %" G_GUINT64_FORMAT
				": NaN or infinity, expected finite numbers",
				kvt_attention_layer_number(g->layer), head, i / g->from->head_dim);
	return true;
}

static uint16_t *base_token(const growth_keys *g, uint32_t head, uint64_t token)
{
	return g->keys->base + (head * g->keys->base_tokens + token) * g->keys->head_dim;
}

static uint32_t *partners_of(const growth_keys *g, uint32_t head, uint64_t token)
{
	return g->keys->partner + (head * g->keys->base_tokens + token) * PARTNERS;
}

/* Recorded keys, then a mean for each page that may be drawn, then the mean of all those. */
static bool load_base(growth_keys *g, GError **error)
{
	uint32_t dim = g->from->head_dim, page_tokens = g->from->block_tokens;
	g_autofree float *values = g_new(float, (size_t)page_tokens *dim);
	g_autofree float *mean = g_new(float, dim);
	g_autofree double *all = g_new(double, dim);
	for (uint32_t head = 0; head < g->from->kv_heads; head++) {
		if (!kvt_attention_layer_keys_half(g->layer, head, 0, g->from->total_tokens,
			    base_token(g, head, 0), error) ||
			!is_error_free(g, base_token(g, head, 0), head, error))
			return false;
		memset(all, 0, dim * sizeof *all);
		for (uint64_t i = 0; i < g->drawn_count; i++) {
			kvt_half_to_float(base_token(g, head, (uint64_t)g->drawn[i] * page_tokens),
				values, (size_t)page_tokens * dim);
			memset(mean, 0, dim * sizeof *mean);
			for (size_t v = 0; v < (size_t)page_tokens * dim; v++)
				mean[v % dim] += values[v] / (float)page_tokens;
			kvt_half_from_float(mean, base_token(g, head, g->means_at + i), dim);
			for (uint32_t d = 0; d < dim; d++)
				all[d] += (double)mean[d] / (double)g->drawn_count;
		}
		for (uint32_t d = 0; d < dim; d++)
			mean[d] = (float)all[d];
		kvt_half_from_float(mean, base_token(g, head, g->mean_at), dim);
	}
	return true;
}

/* `n` of the `count` points, spread evenly. */
static uint32_t *spread(uint64_t count, uint32_t most, uint32_t *n)
{
	*n = (uint32_t)MIN(count, most);
	uint32_t *points = g_new(uint32_t, *n);
	for (uint32_t i = 0; i < *n; i++)
		points[i] = (uint32_t)(i * count / *n);
	return points;
}

/* Partners of every token that may be drawn. A group of neighbours is one token and the same
 * distance away from all the others of its page. */
static void find_partners(growth_keys *g, uint32_t head)
{
	uint32_t page_tokens = g->from->block_tokens, n;
	uint64_t drawn_tokens = g->drawn_count * page_tokens;
	kvt_nearest_set set = { .dim = g->from->head_dim };
	g_autofree uint32_t *tokens = g_new(uint32_t, drawn_tokens);
	for (uint64_t i = 0; i < drawn_tokens; i++)
		tokens[i] = g->drawn[i / page_tokens] * page_tokens + (uint32_t)(i % page_tokens);
	g_autofree uint32_t *token_candidates = spread(drawn_tokens, CANDIDATES_MOST, &n);
	for (uint32_t i = 0; i < n; i++)
		token_candidates[i] = tokens[token_candidates[i]];
	g_autofree uint32_t *found = g_new(uint32_t, drawn_tokens * NEAREST);
	set.halves = base_token(g, head, 0);
	set.group = page_tokens;
	kvt_nearest_keys(&set, token_candidates, n, tokens, drawn_tokens, found);
	g_autofree uint32_t *mean_candidates = spread(g->drawn_count, CANDIDATES_MOST, &n);
	g_autofree uint32_t *means =
		spread(g->drawn_count, (uint32_t)g->drawn_count, &(uint32_t){ 0 });
	g_autofree uint32_t *found_means = g_new(uint32_t, g->drawn_count * NEAREST);
	set.halves = base_token(g, head, g->means_at);
	set.group = 1;
	kvt_nearest_keys(&set, mean_candidates, n, means, g->drawn_count, found_means);
	for (uint64_t i = 0; i < drawn_tokens; i++) {
		uint32_t *partner = partners_of(g, head, tokens[i]);
		memcpy(partner, found + i * NEAREST, NEAREST * sizeof *partner);
		for (uint32_t r = 0; r < NEAREST; r++)
			partner[PARTNER_MEANS + r] =
				(uint32_t)g->means_at + found_means[i / page_tokens * NEAREST + r];
		partner[PARTNER_MEAN] = (uint32_t)g->mean_at;
	}
}

/* How far pages are moved: tokens each, and all of a page alike, as shares of the difference of two
 * neighbours; and what then happens to the distance from the mean of all. */
typedef struct page_moves {
	double tokens, pages, scale;
} page_moves;

/* Two different partners of the four that begin at `first`, one to go to and one to come from. How
 * far is drawn, a quarter more or less, as there are few pairs for many copies of a page. */
static void move_by(kvt_rng *rng, double move, float *weight, uint32_t first)
{
	uint32_t to = (uint32_t)kvt_rng_below(rng, NEAREST);
	uint32_t from = (to + 1 + (uint32_t)kvt_rng_below(rng, NEAREST - 1)) % NEAREST;
	move *= 0.75 + 0.5 * kvt_rng_uniform(rng);
	weight[first + to] = (float)move;
	weight[first + from] = -(float)move;
}

/* Weights of the added pages among the first `pages`. */
static void draw_weights(growth_keys *g, const page_moves *moves, uint64_t pages)
{
	kvt_synthetic_keys *keys = g->keys;
	for (uint64_t page = 0; page < pages; page++) {
		if (!g->added[page])
			continue;
		float weight[PARTNERS] = { 0 };
		kvt_rng rng =
			kvt_rng_init(g->plan->seed, kvt_rng_stream_id("trace-growth.move", page));
		move_by(&rng, moves->scale * moves->tokens, weight, 0);
		move_by(&rng, moves->scale * moves->pages, weight, PARTNER_MEANS);
		weight[PARTNER_MEAN] = (float)(1 - moves->scale);
		kvt_half_from_float(weight, keys->weight + page * PARTNERS, PARTNERS);
	}
}

/* Sums of squared distances: of page means from the mean of all, of tokens from their page's. */
typedef struct spread_of_keys {
	double between, within;
} spread_of_keys;

static void add_page(
	spread_of_keys *sum, const float *keys, const float *mean, uint32_t tokens, uint32_t dim)
{
	for (uint32_t d = 0; d < dim; d++) {
		double centre = 0, square = 0;
		for (uint32_t t = 0; t < tokens; t++) {
			double value = (double)(keys[t * dim + d] - mean[d]);
			centre += value / tokens;
			square += value * value;
		}
		sum->between += centre * centre * tokens;
		sum->within += square - centre * centre * tokens;
	}
}

/* How the first added pages spread with such moves. */
static spread_of_keys spread_with(growth_keys *g, const page_moves *moves, uint64_t pages)
{
	const kvt_synthetic_keys *keys = g->keys;
	uint32_t dim = keys->head_dim, page_tokens = keys->block_tokens;
	size_t values = (size_t)page_tokens * dim;
	g_autofree uint16_t *halves = g_new(uint16_t, values);
	g_autofree float *moved = g_new(float, values), *mean = g_new(float, dim);
	spread_of_keys sum = { 0 };
	draw_weights(g, moves, pages);
	for (uint32_t head = 0; head < keys->kv_heads; head++) {
		kvt_half_to_float(base_token(g, head, g->mean_at), mean, dim);
		for (uint64_t page = 0; page < pages; page++) {
			if (!g->added[page])
				continue;
			kvt_synthetic_keys_half(
				keys, head, page * page_tokens, page_tokens, halves);
			kvt_half_to_float(halves, moved, values);
			add_page(&sum, moved, mean, page_tokens, dim);
		}
	}
	return sum;
}

/* Pages up to which FITTED_PAGES are added ones, or all. */
static uint64_t pages_to_fit(const growth_keys *g)
{
	uint64_t page = 0, added = 0;
	while (page < g->keys->pages && added < FITTED_PAGES)
		added += g->added[page++];
	return page;
}

/*
 * The moves of single tokens that keep the ratio of the spread within pages to that between them,
 * and the scale that keeps their sum. Differences that were drawn apart add their squares up.
 */
static page_moves fit_moves(growth_keys *g)
{
	page_moves moves = { .scale = 1 };
	uint64_t pages = pages_to_fit(g);
	spread_of_keys none = spread_with(g, &moves, pages);
	moves.pages = KVT_GROWTH_MOVE;
	spread_of_keys by_pages = spread_with(g, &moves, pages);
	moves = (page_moves){ .tokens = KVT_GROWTH_MOVE, .scale = 1 };
	spread_of_keys by_tokens = spread_with(g, &moves, pages);
	double wanted = none.within * (by_pages.between - none.between) -
			none.between * (by_pages.within - none.within);
	double unit = none.between * (by_tokens.within - none.within) -
		      none.within * (by_tokens.between - none.between);
	double ratio = unit > 0 ? CLAMP(wanted / unit, 0, 4) : 1;
	moves.tokens = KVT_GROWTH_MOVE * sqrt(ratio);
	moves.pages = KVT_GROWTH_MOVE;
	spread_of_keys all = spread_with(g, &moves, pages);
	double sum = all.between + all.within;
	moves.scale = sum > 0 ? sqrt((none.between + none.within) / sum) : 1;
	return moves;
}

static void show(growth_keys *g, uint64_t *page, uint32_t base, bool added)
{
	/* Steps that are left out at the end leave out pages. */
	if (*page < g->keys->pages) {
		g->keys->page[*page] = base;
		g->added[*page] = added;
	}
	++*page;
}

/* A run of pages that may be drawn, from a random one on; it goes over those that may not. */
static void draw_run(growth_keys *g, kvt_rng *rng, uint64_t *page, uint64_t length)
{
	uint64_t at = kvt_rng_below(rng, g->drawn_count);
	for (uint64_t i = 0; i < length; i++)
		show(g, page, g->drawn[(at + i) % g->drawn_count], true);
}

static void lay_out_pages(growth_keys *g)
{
	const kvt_growth_plan *plan = g->plan;
	uint64_t page = 0, recorded = 1, left = plan->added_pages;
	uint64_t end = 1 + plan->pattern_pages;
	kvt_rng rng = kvt_rng_init(plan->seed, kvt_rng_stream_id("trace-growth.pages", 0));
	show(g, &page, 0, false);
	while (recorded < end || left > 0) {
		/* Runs of both kinds come in random order, all orders alike. */
		bool add = kvt_rng_below(&rng, end - recorded + left) < left;
		uint64_t length = MIN(add ? left : end - recorded, RUN_PAGES);
		if (add) {
			draw_run(g, &rng, &page, length);
			left -= length;
			continue;
		}
		for (uint64_t i = 0; i < length; i++)
			show(g, &page, (uint32_t)recorded++, false);
	}
	for (; recorded < g->recorded_pages; recorded++)
		show(g, &page, (uint32_t)recorded, false);
}

static bool find_drawn(growth_keys *g, const uint8_t *retrieved, GError **error)
{
	g->drawn = g_new(uint32_t, g->plan->pattern_pages);
	for (uint64_t page = 1; page <= g->plan->pattern_pages; page++)
		if (!retrieved[page])
			g->drawn[g->drawn_count++] = (uint32_t)page;
	if (g->drawn_count >= DRAWN_PAGES_LEAST)
		return true;
	return kvt_error_usage(error,
		"%s: layers/%u: %" G_GUINT64_FORMAT
		" pages that no retrieval reads, expected at least %d to draw from",
		kvt_attention_trace_path(kvt_attention_layer_trace(g->layer)),
		kvt_attention_layer_number(g->layer), g->drawn_count, DRAWN_PAGES_LEAST);
}

static void allocate(growth_keys *g, uint64_t tokens)
{
	const kvt_attention_header *from = g->from;
	kvt_synthetic_keys *keys = g->keys;
	g->recorded_pages = (from->total_tokens - 1) / from->block_tokens + 1;
	g->means_at = g->recorded_pages * from->block_tokens;
	g->mean_at = g->means_at + g->drawn_count;
	uint64_t base_pages = g->mean_at / from->block_tokens + 1;
	*keys = (kvt_synthetic_keys){
		.kv_heads = from->kv_heads,
		.head_dim = from->head_dim,
		.block_tokens = from->block_tokens,
		.partners = PARTNERS,
		.base_tokens = base_pages * from->block_tokens,
		.pages = (tokens - 1) / from->block_tokens + 1,
	};
	uint64_t base = keys->kv_heads * keys->base_tokens;
	keys->base = g_new0(uint16_t, base * keys->head_dim);
	keys->partner = g_new0(uint32_t, base * PARTNERS);
	keys->page = g_new0(uint32_t, keys->pages);
	keys->weight = g_new0(uint16_t, keys->pages * PARTNERS);
	g->added = g_new0(uint8_t, keys->pages);
}

bool kvt_growth_keys_make(kvt_attention_layer *layer, const kvt_growth_plan *plan,
	const uint8_t *retrieved, uint64_t tokens, kvt_synthetic_keys *keys, GError **error)
{
	growth_keys g = {
		.layer = layer,
		.plan = plan,
		.from = kvt_attention_trace_header(kvt_attention_layer_trace(layer)),
		.keys = keys,
	};
	*keys = (kvt_synthetic_keys){ 0 };
	bool good = find_drawn(&g, retrieved, error);
	if (good) {
		allocate(&g, tokens);
		good = load_base(&g, error);
	}
	if (good) {
		for (uint32_t head = 0; head < g.from->kv_heads; head++)
			find_partners(&g, head);
		lay_out_pages(&g);
		kvt_synthetic_keys_prepare(keys);
		const page_moves moves = fit_moves(&g);
		draw_weights(&g, &moves, keys->pages);
	} else {
		kvt_synthetic_keys_clear(keys);
	}
	g_free(g.drawn);
	g_free(g.added);
	return good;
}
