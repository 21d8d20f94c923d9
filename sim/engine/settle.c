/* settle.c: runs of pages in HBM, or brought there once more, out to a tier. */
#include "sim/engine/settle.h"

enum { WRITE_PRIORITY = 1 };

static void add_run(
	GArray *runs, const kvt_engine *engine, unsigned place, const kvt_extent *extent)
{
	kvt_page_run run = { *extent, kvt_device_memory(engine->device, place, extent) };
	if (extent->n_pages > 0)
		g_array_append_val(runs, run);
}

static void cut(GArray *pieces, const kvt_page_run *run, uint64_t most)
{
	for (uint64_t at = 0; at < run->extent.n_pages; at += most) {
		kvt_page_run piece = *run;
		piece.extent.first_page += at;
		piece.extent.n_pages = MIN(most, run->extent.n_pages - at);
		if (run->memory)
			piece.memory = (char *)run->memory + at * run->extent.page_bytes;
		g_array_append_val(pieces, piece);
	}
}

static GArray *runs_new(void)
{
	return g_array_new(FALSE, FALSE, sizeof(kvt_page_run));
}

void kvt_settle_runs(const kvt_engine *engine, const kvt_turn_plan *plan, kvt_tier *tier,
	const GArray *runs, kvt_page_writes *writes)
{
	g_autoptr(GArray) pieces = runs_new();
	uint64_t most = MAX(plan->window_tokens / engine->layout.page_tokens, 1);
	for (guint i = 0; i < runs->len; i++)
		cut(pieces, &g_array_index(runs, kvt_page_run, i), most);
	kvt_page_runs_write(engine->loop, tier, engine->tenant, WRITE_PRIORITY, pieces, writes);
}

/* Windows that are brought once more: some of a layer at once, one a staging buffer. */
typedef struct copying {
	kvt_engine *engine;
	const kvt_turn_plan *plan;
	const kvt_lost_pages *lost;
	kvt_tier *tier;
	kvt_page_writes *writes;
	kvt_page_read *reads; /* [plan->buffers] */
	unsigned n;
} copying;

static void read_done(kvt_page_read *read)
{
	(void)read;
}

/* What came of a window, less what was lost. */
static void add_window(copying *c, const kvt_page_read *read, GArray *runs)
{
	const kvt_extent *window = &read->extent;
	uint64_t at = window->first_page, end = at + window->n_pages;
	kvt_page_run run = { *window, NULL };
	if (read->status != 0) {
		c->writes->failed_bytes += kvt_extent_bytes(window);
		return;
	}
	for (guint i = 0; at < end; i++) {
		kvt_lost_run gap = { end, 0, 0 };
		if (read->lost && i < read->lost->len)
			gap = g_array_index(read->lost, kvt_lost_run, i);
		run.extent.first_page = at;
		run.extent.n_pages = gap.first_page - at;
		if (read->memory)
			run.memory = (char *)read->memory +
				     (at - window->first_page) * window->page_bytes;
		if (run.extent.n_pages > 0)
			g_array_append_val(runs, run);
		at = gap.first_page + gap.n_pages;
	}
	c->writes->failed_bytes += read->lost_pages * window->page_bytes;
}

static void copy_windows(copying *c)
{
	kvt_time began = kvt_loop_now(c->engine->loop);
	g_autoptr(GArray) runs = runs_new();
	for (unsigned i = 0; i < c->n; i++)
		kvt_page_read_start(&c->reads[i]);
	if (c->n > 0)
		kvt_loop_run(c->engine->loop);
	for (unsigned i = 0; i < c->n; i++)
		add_window(c, &c->reads[i], runs);
	c->n = 0;
	c->writes->seconds += kvt_time_to_seconds(kvt_loop_now(c->engine->loop) - began);
	kvt_settle_runs(c->engine, c->plan, c->tier, runs, c->writes);
}

static void add_read(copying *c, const kvt_extent *extent)
{
	unsigned place = KVT_PLACE_STAGING + c->n;
	kvt_page_read *read = &c->reads[c->n++];
	read->engine = c->engine;
	read->extent = *extent;
	read->memory = kvt_device_memory(c->engine->device, place, extent);
	read->priority = WRITE_PRIORITY;
	read->patience = c->lost ? kvt_lost_pages_patience(c->lost) : 0;
	read->done = read_done;
	if (c->n == c->plan->buffers)
		copy_windows(c);
}

/* Tokens [first, end) of a global layer that passed through HBM; what was made again stayed. */
static void copy_layer(copying *c, unsigned layer, uint64_t first, uint64_t end, GArray *here)
{
	const kvt_kv_layout *layout = &c->engine->layout;
	while (first < end) {
		uint64_t to = end;
		bool kept = c->lost && kvt_lost_pages_kept(c->lost, layer, first, &to);
		to = MIN(to, end);
		if (!kept)
			to = MIN(to, first + c->plan->window_tokens);
		kvt_extent extent = kvt_kv_extent(layout, layer, first, to - first);
		if (kept)
			add_run(here, c->engine, KVT_PLACE_HOME, &extent);
		else
			add_read(c, &extent);
		first = to;
	}
}

void kvt_settle_context(kvt_engine *engine, const kvt_turn_plan *plan, const kvt_lost_pages *lost,
	kvt_tier *tier, uint64_t tokens, kvt_page_writes *writes)
{
	const kvt_kv_layout *layout = &engine->layout;
	g_autoptr(GArray) here = runs_new();
	copying c = {
		.engine = engine, .plan = plan, .lost = lost, .tier = tier, .writes = writes
	};
	c.reads = g_new0(kvt_page_read, MAX(plan->buffers, 1));
	for (unsigned layer = 0; layer < layout->llm->n_layers; layer++) {
		uint64_t held = kvt_kv_held_tokens(layout, layer, tokens), resident = held;
		if (plan->streamed && kvt_kv_layer_is_global(layout, layer))
			resident = MIN(held, plan->resident_tokens);
		kvt_extent extent = kvt_kv_extent(layout, layer, tokens - held, resident);
		add_run(here, engine, KVT_PLACE_HOME, &extent);
		copy_layer(&c, layer, tokens - held + resident, tokens, here);
	}
	copy_windows(&c);
	kvt_settle_runs(engine, plan, tier, here, writes);
	for (unsigned i = 0; i < MAX(plan->buffers, 1); i++)
		kvt_page_read_clear(&c.reads[i]);
	g_free(c.reads);
}

void kvt_settle_parts(kvt_engine *engine, const kvt_turn_plan *plan, const kvt_page_choice *choice,
	kvt_tier *tier, uint64_t tokens, kvt_page_writes *writes)
{
	const kvt_kv_layout *layout = &engine->layout;
	const uint64_t pages = (tokens + layout->page_tokens - 1) / layout->page_tokens;
	g_autoptr(GArray) runs = runs_new();
	kvt_extent_list parts = { 0 };
	for (unsigned layer = 0; layer < layout->llm->n_layers; layer++) {
		uint64_t held = kvt_kv_held_tokens(layout, layer, tokens);
		kvt_extent extent = kvt_kv_extent(layout, layer, tokens - held, held);
		if (kvt_kv_layer_is_global(layout, layer))
			kvt_page_choice_stored(choice, layout, layer, pages, &parts);
		else if (extent.n_pages > 0)
			kvt_extent_list_add(&parts, &extent);
	}
	/* they lie nowhere */
	for (unsigned i = 0; i < parts.n; i++) {
		kvt_page_run run = { parts.extents[i], NULL };
		g_array_append_val(runs, run);
	}
	kvt_extent_list_free(&parts);
	kvt_settle_runs(engine, plan, tier, runs, writes);
}

void kvt_settle_windows(kvt_engine *engine, const kvt_turn_plan *plan, kvt_tier *tier,
	uint64_t tokens, kvt_page_writes *writes)
{
	const kvt_kv_layout *layout = &engine->layout;
	g_autoptr(GArray) runs = runs_new();
	for (unsigned layer = 0; layer < layout->llm->n_layers; layer++) {
		uint64_t held = kvt_kv_held_tokens(layout, layer, tokens);
		kvt_extent extent = kvt_kv_extent(layout, layer, tokens - held, held);
		if (!kvt_kv_layer_is_global(layout, layer))
			add_run(runs, engine, KVT_PLACE_HOME, &extent);
	}
	kvt_settle_runs(engine, plan, tier, runs, writes);
}
