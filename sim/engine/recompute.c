/* recompute.c: the pieces of a plan, one pass after another. */
#include "sim/engine/recompute.h"

#include <errno.h>

typedef struct recompute {
	kvt_engine *engine;
	kvt_pass_spec spec; /* of the pass that lost pages */
	unsigned layer;
	GArray *runs; /* kvt_lost_run, its own */
	bool keep;
	GArray *jobs;
	guint next;
	kvt_pass_result result; /* of the piece that runs */
	kvt_recompute_outcome *outcome;
	kvt_callback done;
	void *arg;
} recompute;

/* Tokens of a run, as the pass counts them. */
static void tokens_of(const recompute *r, const kvt_lost_run *run, uint64_t *first, uint64_t *end)
{
	const kvt_kv_layout *layout = &r->engine->layout;
	const kvt_page_choice *choice = r->spec.choice;
	uint64_t left_out = 0;
	if (choice && !kvt_kv_layer_is_global(layout, r->layer))
		left_out = choice->stored_pages - choice->chosen_pages;
	uint64_t page = run->first_page - MIN(run->first_page, left_out);
	*first = page * layout->page_tokens;
	*end = *first + run->n_pages * layout->page_tokens;
	/* the last page may be loaded in part */
	if (kvt_kv_layer_is_global(layout, r->layer))
		*end = MIN(*end, r->spec.loaded);
}

/* Runs with little between them are one piece: a few tokens more take no longer. */
static bool plan(recompute *r)
{
	uint64_t first = 0, end = 0;
	for (guint i = 0; i < r->runs->len; i++) {
		uint64_t next, next_end;
		tokens_of(r, &g_array_index(r->runs, kvt_lost_run, i), &next, &next_end);
		if (end == 0)
			first = next;
		if (end > 0 && next - end >= KVT_RECOMPUTE_LEAST) {
			if (!kvt_lost_pages_plan(
				    r->spec.lost, r->layer, first, end, r->keep, r->jobs))
				return false;
			first = next;
		}
		end = next_end;
	}
	return kvt_lost_pages_plan(r->spec.lost, r->layer, first, end, r->keep, r->jobs);
}

/* Storage is to have the run's pages, too: of a choice by parts, which lie nowhere. */
static void count_made(recompute *r, const kvt_extent *extent)
{
	const kvt_kv_layout *layout = &r->engine->layout;
	bool global = kvt_kv_layer_is_global(layout, r->layer);
	kvt_page_run run = { *extent, NULL };
	if (!r->spec.choice || !global) {
		if (!r->spec.choice)
			run.memory = kvt_device_memory(r->engine->device, KVT_PLACE_HOME, extent);
		kvt_lost_pages_made(r->spec.lost, &run);
		return;
	}
	kvt_extent_list parts = { 0 };
	kvt_page_choice_extents(
		r->spec.choice, layout, r->layer, extent->first_page, extent->n_pages, &parts);
	for (unsigned i = 0; i < parts.n; i++) {
		run.extent = parts.extents[i];
		kvt_lost_pages_made(r->spec.lost, &run);
	}
	kvt_extent_list_free(&parts);
}

/* The pages are there. */
static void take_pages(recompute *r)
{
	const kvt_kv_layout *layout = &r->engine->layout;
	for (guint i = 0; i < r->runs->len; i++) {
		const kvt_lost_run *run = &g_array_index(r->runs, kvt_lost_run, i);
		uint64_t first = run->first_page * layout->page_tokens;
		uint64_t tokens = run->n_pages * layout->page_tokens;
		kvt_extent extent = kvt_kv_extent(layout, r->layer, first, tokens);
		kvt_device_remake(r->engine->device, &extent);
		count_made(r, &extent);
		if (r->keep)
			kvt_lost_pages_keep(r->spec.lost, r->layer, first, first + tokens);
	}
}

static void finish(void *arg)
{
	recompute *r = arg;
	kvt_recompute_outcome *outcome = r->outcome;
	outcome->ended = kvt_loop_now(r->engine->loop);
	if (outcome->status == 0)
		take_pages(r);
	if (!r->spec.again)
		kvt_lost_pages_waited(r->spec.lost, outcome->ended - outcome->started);
	kvt_callback done = r->done;
	void *done_arg = r->arg;
	g_array_unref(r->jobs);
	g_array_unref(r->runs);
	g_free(r);
	done(done_arg);
}

/* The pass of a piece: what lies before it is where the pass that lost pages has it. */
static kvt_pass_spec piece_spec(const recompute *r, const kvt_recompute_job *job)
{
	const kvt_pass_spec *spec = &r->spec;
	uint64_t home =
		spec->loaded > spec->resident ? MAX(spec->kept, spec->resident) : job->position;
	kvt_pass_spec piece = { .position = job->position,
		.tokens = job->tokens,
		.overlap = job->tokens < KVT_RECOMPUTE_LEAST && spec->overlap != KVT_OVERLAP_FULL
				   ? KVT_OVERLAP_NONE
				   : spec->overlap,
		.choice = spec->choice,
		.resident = MIN(home, job->position),
		.loaded = MIN(spec->loaded, job->position),
		.kept = MIN(home, job->position),
		.depth = spec->depth,
		.window_tokens = spec->window_tokens,
		.buffers = 1,
		.in_flight = 1,
		.turnaround = spec->turnaround,
		.read_priority = spec->read_priority,
		.write_priority = spec->write_priority,
		.lost = spec->lost,
		.again = true,
		.first_layer = job->from,
		.last_layer = job->to };
	return piece;
}

static void run_next(recompute *r);

static void piece_done(void *arg)
{
	recompute *r = arg;
	r->outcome->loads += r->result.loads;
	r->outcome->read_bytes += r->result.read_bytes;
	r->outcome->status = r->result.status;
	if (r->result.status == 0)
		kvt_lost_pages_done(
			r->spec.lost, &g_array_index(r->jobs, kvt_recompute_job, r->next));
	r->next++;
	run_next(r);
}

static void run_next(recompute *r)
{
	if (r->outcome->status != 0 || r->next == r->jobs->len) {
		kvt_loop_after(r->engine->loop, 0, finish, r);
		return;
	}
	kvt_pass_spec spec = piece_spec(r, &g_array_index(r->jobs, kvt_recompute_job, r->next));
	kvt_pass_start(r->engine, &spec, &r->result, piece_done, r);
}

void kvt_recompute_start(kvt_engine *engine, const kvt_pass_spec *spec, unsigned layer,
	const GArray *runs, bool keep, kvt_recompute_outcome *outcome, kvt_callback done, void *arg)
{
	recompute *r = g_new0(recompute, 1);
	*r = (recompute){ .engine = engine,
		.spec = *spec,
		.layer = layer,
		.runs = g_array_copy((GArray *)runs),
		.keep = keep,
		.jobs = g_array_new(FALSE, FALSE, sizeof(kvt_recompute_job)),
		.outcome = outcome,
		.done = done,
		.arg = arg };
	*outcome = (kvt_recompute_outcome){ .started = kvt_loop_now(engine->loop) };
	if (!plan(r))
		outcome->status = -ENODATA;
	run_next(r);
}
