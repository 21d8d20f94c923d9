/* turn.c: cold prefill, resume and decode as series of forward passes. */
#include "sim/engine/turn.h"

#include <errno.h>
#include <string.h>

#include "models/llm_cost.h"
#include "sim/base/error.h"
#include "sim/engine/settle.h"

/* Of recomputation, that a turn may do beyond its context. */
enum { SMALL_PIECES = 16 };

typedef struct turn_run {
	kvt_system *system;
	const kvt_experiment *experiment;
	kvt_engine *engine;
	kvt_turn_plan plan;
	kvt_turn *turn;
	kvt_lost_pages *lost;   /* NULL: a page that is lost ends the turn */
	uint64_t lost_bytes;    /* of HBM, for those, at most */
	kvt_turn_plan given_up; /* of a resume that was: what is stored then */
	kvt_time first_submit, last_load;
	bool loaded_any;
} turn_run;

static void stop_loop(void *arg)
{
	(void)arg;
}

/* Runs one pass to its end; adds what it read. */
static bool run_pass(
	turn_run *run, const kvt_pass_spec *spec, kvt_pass_result *result, GError **error)
{
	kvt_pass_start(run->engine, spec, result, stop_loop, NULL);
	kvt_loop_run(run->engine->loop);
	if (result->loads > 0) {
		if (!run->loaded_any)
			run->first_submit = result->started;
		run->loaded_any = true;
		run->last_load = result->last_load;
	}
	if (result->status == 0)
		return true;
	const char *why = result->status == -ENOSPC    ? "is full, expected a larger capacity"
			  : result->status == -ENOENT  ? "does not hold the pages"
			  : result->status == -EBADMSG ? "returned a page whose checksum is wrong"
			  : result->status == -EIO     ? "failed to read or write"
			  : result->status == -ENODATA
				  ? "lost more than can be recomputed beside what HBM holds"
				  : g_strerror(-result->status);
	/* another world's tier is not what the experiment models */
	const char *tier = run->system->world.open_store ? run->engine->storage->ops->name
							 : run->experiment->tier_name;
	return kvt_error_failed(error, "storage tier %s: %s", tier, why);
}

static void mark_work(const turn_run *run, kvt_time *mark)
{
	kvt_device *device = run->engine->device;
	for (unsigned kind = 0; kind < KVT_WORK_KINDS; kind++)
		mark[kind] = device->ops->busy(device, kind);
}

/* What the device was busy with since the mark, seconds by kind; returns the sum of all but
 * all-reduce. */
static double take_work(const turn_run *run, const kvt_time *mark, double *work)
{
	kvt_device *device = run->engine->device;
	double compute = 0;
	for (unsigned kind = 0; kind < KVT_WORK_KINDS; kind++) {
		work[kind] = kvt_time_to_seconds(device->ops->busy(device, kind) - mark[kind]);
		if (kind != KVT_WORK_ALL_REDUCE)
			compute += work[kind];
	}
	return compute;
}

static bool hold(turn_run *run, unsigned layer, uint64_t first, uint64_t count, GError **error)
{
	kvt_extent extent = kvt_kv_extent(&run->engine->layout, layer, first, count);
	kvt_tier *hbm = run->system->hbm;
	if (extent.n_pages == 0 || hbm->ops->preload(hbm, run->engine->tenant, &extent))
		return true;
	return kvt_error_failed(error, "the KV pages of layer %u do not fit into HBM", layer);
}

/* Accounts for what is in HBM at the fullest: resident pages, windows, staging buffers. */
static bool account_hbm(turn_run *run, GError **error)
{
	const kvt_kv_layout *layout = &run->engine->layout;
	const kvt_turn_plan *plan = &run->plan;
	for (unsigned layer = 0; layer < layout->llm->n_layers; layer++) {
		uint64_t tokens = plan->total_tokens;
		if (!kvt_kv_layer_is_global(layout, layer)) {
			uint64_t held = kvt_kv_held_tokens(layout, layer, tokens);
			if (!hold(run, layer, tokens - held, held, error))
				return false;
			continue;
		}
		tokens -= plan->skipped_tokens;
		uint64_t resident = plan->streamed ? plan->resident_tokens : tokens;
		if (!hold(run, layer, 0, resident, error))
			return false;
		if (plan->streamed &&
			!hold(run, layer, tokens - plan->tail_tokens, plan->tail_tokens, error))
			return false;
	}
	if (plan->streamed) {
		/* staging buffers are pages of a context of their own */
		kvt_extent staging =
			kvt_kv_extent(layout, 0, 0, plan->buffers * plan->window_tokens);
		staging.context = UINT32_MAX;
		kvt_tier *hbm = run->system->hbm;
		if (!hbm->ops->preload(hbm, run->engine->tenant, &staging))
			return kvt_error_failed(error, "the staging buffers do not fit into HBM");
	}
	kvt_tier_stats stats;
	run->system->hbm->ops->stats(run->system->hbm, &stats);
	run->turn->hbm_peak =
		stats.peak_used + run->system->weight_bytes + run->system->reserved_bytes;
	return true;
}

/* Declares [0, tokens) of a global layer as stored in the parts that are chosen from. */
static bool store_parts(turn_run *run, unsigned layer, uint64_t tokens)
{
	const kvt_kv_layout *layout = &run->engine->layout;
	kvt_tier *storage = run->engine->storage;
	uint64_t pages = (tokens + layout->page_tokens - 1) / layout->page_tokens;
	kvt_extent_list list = { 0 };
	kvt_page_choice_stored(&run->plan.choice, layout, layer, pages, &list);
	bool stored = true;
	for (unsigned i = 0; stored && i < list.n; i++)
		stored = storage->ops->preload(storage, run->engine->tenant, &list.extents[i]);
	kvt_extent_list_free(&list);
	return stored;
}

/* Declares [0, tokens) of the context as stored, local layers by their windows. */
static bool store_context(turn_run *run, uint64_t tokens, GError **error)
{
	const kvt_kv_layout *layout = &run->engine->layout;
	const kvt_world *world = &run->system->world;
	kvt_tier *storage = run->engine->storage;
	if (world->store_context)
		return world->store_context(world->arg, run->system, tokens, error);
	for (unsigned layer = 0; layer < layout->llm->n_layers && tokens > 0; layer++) {
		uint64_t held = kvt_kv_held_tokens(layout, layer, tokens);
		kvt_extent extent = kvt_kv_extent(layout, layer, tokens - held, held);
		bool stored =
			run->plan.chooses && kvt_kv_layer_is_global(layout, layer)
				? store_parts(run, layer, tokens)
				: storage->ops->preload(storage, run->engine->tenant, &extent);
		if (!stored)
			return kvt_error_usage(error,
				"storage tier %s is too small for the context's KV, expected a "
				"larger capacity or more drives",
				run->experiment->tier_name);
	}
	return true;
}

/* A pass whose earlier KV is in HBM as far as it fits and streams otherwise; the newest `fresh`
 * tokens before it are in HBM in any case. */
static kvt_pass_spec make_pass(
	const turn_run *run, uint64_t position, uint64_t tokens, uint64_t fresh)
{
	const kvt_experiment *e = run->experiment;
	const kvt_turn_plan *plan = &run->plan;
	kvt_pass_spec spec = { .position = position,
		.tokens = tokens,
		.overlap = (kvt_overlap)e->overlap,
		.depth = (unsigned)e->reload_depth,
		.write_priority = 1,
		.lost = run->lost };
	if (plan->chooses)
		spec.choice = &plan->choice;
	/* from here on as global layers count */
	position -= plan->skipped_tokens;
	spec.resident = spec.loaded = spec.kept = position;
	fresh = MIN(fresh, plan->tail_tokens);
	if (!plan->streamed)
		return spec;
	spec.window_tokens = plan->window_tokens;
	spec.buffers = (unsigned)plan->buffers;
	spec.in_flight = (unsigned)MAX(plan->buffers - 1, 1);
	spec.turnaround = e->turnaround;
	if (position > plan->resident_tokens + fresh) {
		spec.resident = spec.kept = plan->resident_tokens;
		spec.loaded = position - fresh;
	}
	return spec;
}

/* One simulated chunk's figures, to be weighted. */
typedef struct chunk_sample {
	uint64_t index;
	double seconds, waiting, work[KVT_WORK_KINDS], loads;
	double read[KVT_SYSTEM_STORES_MAX], written[KVT_SYSTEM_STORES_MAX];
} chunk_sample;

/* A cold turn's sums so far; counts are whole numbers only at the end. */
typedef struct chunk_sums {
	double loads, read[KVT_SYSTEM_STORES_MAX], written[KVT_SYSTEM_STORES_MAX];
} chunk_sums;

static kvt_tier_stats store_stats(const turn_run *run, unsigned i)
{
	kvt_tier_stats stats;
	kvt_tier *store = run->system->stores[i];
	store->ops->stats(store, &stats);
	return stats;
}

/* One chunk of the context without a cache: [position, position + tokens). */
static bool run_chunk(
	turn_run *run, uint64_t position, uint64_t tokens, chunk_sample *sample, GError **error)
{
	kvt_time mark[KVT_WORK_KINDS];
	uint64_t read[KVT_SYSTEM_STORES_MAX], written[KVT_SYSTEM_STORES_MAX];
	mark_work(run, mark);
	for (unsigned i = 0; i < run->system->n_stores; i++) {
		kvt_tier_stats stats = store_stats(run, i);
		read[i] = stats.read_bytes;
		written[i] = stats.written_bytes;
	}
	bool last = position + tokens == run->plan.prefill_tokens;
	kvt_pass_spec spec = make_pass(run, position, tokens, 0);
	spec.head = last;
	/* without a store to page to, what streams back could not have been kept */
	spec.write_out = run->experiment->write_out || run->plan.streamed;
	spec.write_local = last && spec.write_out;
	kvt_pass_result result;
	if (!run_pass(run, &spec, &result, error))
		return false;
	double compute = take_work(run, mark, sample->work);
	sample->seconds =
		kvt_time_to_seconds((last ? result.computed : result.ended) - result.started);
	sample->waiting = MAX(sample->seconds - compute, 0);
	sample->loads = (double)result.loads;
	for (unsigned i = 0; i < run->system->n_stores; i++) {
		kvt_tier_stats stats = store_stats(run, i);
		sample->read[i] = (double)(stats.read_bytes - read[i]);
		sample->written[i] = (double)(stats.written_bytes - written[i]);
	}
	if (last)
		run->turn->written_out = kvt_time_to_seconds(result.ended - result.computed);
	return true;
}

static void add_sample(kvt_turn *turn, chunk_sums *sums, const chunk_sample *sample, double weight)
{
	turn->ttft += weight * sample->seconds;
	turn->waiting += weight * sample->waiting;
	for (unsigned kind = 0; kind < KVT_WORK_KINDS; kind++)
		turn->work[kind] += weight * sample->work[kind];
	sums->loads += weight * sample->loads;
	for (unsigned i = 0; i < KVT_SYSTEM_STORES_MAX; i++) {
		sums->read[i] += weight * sample->read[i];
		sums->written[i] += weight * sample->written[i];
	}
}

/*
 * The cold prefill. A chunk's time is close to linear in the context before it, so where there are
 * many, some are simulated and stand for their neighbours (trapezoid): of the chunks after sample a
 * up to and with sample b, (b - a - 1) / 2 take a's figures and (b - a + 1) / 2 take b's.
 */
static bool cold_prefill(turn_run *run, GError **error)
{
	const kvt_experiment *e = run->experiment;
	kvt_turn *turn = run->turn;
	uint64_t total = run->plan.prefill_tokens, chunk = (uint64_t)e->chunk_tokens;
	uint64_t chunks = (total + chunk - 1) / chunk;
	g_autofree uint64_t *picks = NULL;
	unsigned n = kvt_turn_pick_chunks(&run->plan, chunk, chunks,
		e->prefill_samples > 0 ? (uint64_t)e->prefill_samples : chunks, &picks);
	chunk_sample previous = { 0 };
	chunk_sums sums = { 0 };
	for (unsigned i = 0; i < n; i++) {
		chunk_sample sample = { .index = picks[i] };
		uint64_t position = sample.index * chunk;
		if (run->plan.streamed && !store_context(run, position, error))
			return false;
		if (!run_chunk(run, position, MIN(chunk, total - position), &sample, error))
			return false;
		double gap = i > 0 ? (double)(sample.index - previous.index) : 1;
		add_sample(turn, &sums, &previous, (gap - 1) / 2);
		add_sample(turn, &sums, &sample, (gap + 1) / 2);
		previous = sample;
	}
	turn->chunks = (unsigned)chunks;
	turn->chunks_simulated = n;
	turn->loads = (uint64_t)(sums.loads + 0.5);
	for (unsigned i = 0; i < run->system->n_stores; i++) {
		turn->read_bytes[i] = (uint64_t)(sums.read[i] + 0.5);
		turn->written_bytes[i] = (uint64_t)(sums.written[i] + 0.5);
	}
	turn->computed_tokens = total;
	return true;
}

/* Turn 2: stored pages come in while the prompt goes through the layers. *given_up: more of them
 * was lost than to recompute, page by page, is worth. */
static bool resume(turn_run *run, bool *given_up, GError **error)
{
	const kvt_experiment *e = run->experiment;
	kvt_turn *turn = run->turn;
	kvt_turn_plan *plan = &run->plan;
	kvt_time mark[KVT_WORK_KINDS] = { 0 };
	if (!store_context(run, plan->stored_tokens, error))
		return false;
	kvt_time began = kvt_loop_now(run->engine->loop);
	uint64_t before[KVT_SYSTEM_STORES_MAX], position = plan->stored_tokens;
	for (unsigned i = 0; i < run->system->n_stores; i++)
		before[i] = store_stats(run, i).read_bytes;
	kvt_pass_result result = { 0 };
	while (position < plan->prefill_tokens) {
		uint64_t tokens = MIN((uint64_t)e->chunk_tokens, plan->prefill_tokens - position);
		bool first = position == plan->stored_tokens && position > 0;
		kvt_pass_spec spec =
			make_pass(run, position, tokens, position - plan->stored_tokens);
		if (tokens < 256)
			spec.overlap = e->overlap == KVT_OVERLAP_FULL ? KVT_OVERLAP_FULL
								      : KVT_OVERLAP_NONE;
		if (first) {
			spec.resident = 0;
			spec.loaded = position - plan->skipped_tokens;
			spec.load_local = true;
			if (plan->streamed)
				spec.kept = plan->resident_tokens;
		}
		spec.head = position + tokens == plan->prefill_tokens;
		bool good = run_pass(run, &spec, &result, error);
		*given_up = !good && result.status == -ENODATA;
		turn->given_up = kvt_time_to_seconds(kvt_loop_now(run->engine->loop) - began);
		if (!good)
			return false;
		turn->given_up = 0;
		if (first)
			turn->first_window =
				kvt_time_to_seconds(result.first_load - result.started);
		turn->loads += result.loads;
		position += tokens;
	}
	double compute = take_work(run, mark, turn->work);
	double seconds = kvt_time_to_seconds(result.computed - began);
	if (run->loaded_any) {
		turn->loading = kvt_time_to_seconds(run->last_load - run->first_submit);
		turn->after_loading = kvt_time_to_seconds(result.computed - run->last_load);
	}
	turn->waiting = MAX(seconds - compute, 0);
	turn->ttft = seconds + kvt_time_to_seconds(e->lookup);
	for (unsigned i = 0; i < run->system->n_stores; i++)
		turn->read_bytes[i] = store_stats(run, i).read_bytes - before[i];
	turn->loaded_tokens = plan->stored_tokens;
	turn->computed_tokens = plan->prefill_tokens - plan->stored_tokens;
	return true;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* The tokens after the first: some steps are simulated, spread over the output. */
static bool decode(turn_run *run, GError **error)
{
	const kvt_experiment *e = run->experiment;
	kvt_turn *turn = run->turn;
	uint64_t output = (uint64_t)e->output_tokens;
	uint64_t samples =
		e->decode_samples > 0 ? MIN((uint64_t)e->decode_samples, output) : output;
	g_autofree double *steps = g_new0(double, samples);
	kvt_time mark[KVT_WORK_KINDS];
	double work[KVT_WORK_KINDS];
	mark_work(run, mark);
	if (run->lost)
		kvt_lost_pages_go_on(run->lost);
	if (run->plan.streamed && !store_context(run, run->plan.prefill_tokens, error))
		return false;
	double sum = 0;
	for (uint64_t i = 0; i < samples; i++) {
		uint64_t step = samples > 1 ? i * (output - 1) / (samples - 1) : output / 2;
		uint64_t position = run->plan.prefill_tokens + step;
		kvt_pass_spec spec =
			make_pass(run, position, 1, position - run->plan.stored_tokens);
		spec.overlap = e->overlap == KVT_OVERLAP_FULL ? KVT_OVERLAP_FULL : KVT_OVERLAP_NONE;
		spec.head = true;
		kvt_pass_result result;
		if (!run_pass(run, &spec, &result, error))
			return false;
		steps[i] = kvt_time_to_seconds(result.computed - result.started + e->step_overhead);
		sum += steps[i];
	}
	double compute = take_work(run, mark, work);
	turn->tpot = sum / (double)samples;
	turn->step_waiting = MAX(turn->tpot - compute / (double)samples, 0);
	for (unsigned kind = 0; kind < KVT_WORK_KINDS; kind++)
		turn->step_work[kind] = work[kind] / (double)samples;
	qsort(steps, samples, sizeof(double), compare_doubles);
	turn->tpot_median = steps[samples / 2];
	turn->tpot_p99 = steps[MIN(samples - 1, samples * 99 / 100)];
	turn->tokens_per_s = (double)output / (turn->ttft + (double)output * turn->tpot);
	return true;
}

bool kvt_turn_run(const kvt_experiment *experiment, kvt_run_kind kind, kvt_timeline *timeline,
	kvt_turn *turn, GError **error)
{
	const kvt_world models = { 0 };
	return kvt_turn_run_in(&models, experiment, kind, timeline, turn, error);
}

static bool make_room(const turn_run *run, GError **error)
{
	const kvt_world *world = &run->system->world;
	const kvt_turn_plan *plan = &run->plan;
	if (!world->make_room)
		return true;
	uint64_t resident = plan->streamed ? plan->resident_tokens : plan->total_tokens;
	return world->make_room(
		world->arg, run->system, resident, plan->streamed ? plan->tail_tokens : 0, error);
}

/* Recomputation is worth as much as all that was stored, and some small pieces; hidden states and
 * pages take what HBM has left, and half of what is there for activations, which are of whole
 * chunks. */
static void expect_losses(turn_run *run)
{
	const kvt_experiment *e = run->experiment;
	const kvt_turn_plan *plan = &run->plan;
	if (e->lost_pages == KVT_LOST_FAIL)
		return;
	uint64_t worth = plan->stored_tokens + SMALL_PIECES * KVT_RECOMPUTE_LEAST;
	kvt_tier_stats hbm;
	run->system->hbm->ops->stats(run->system->hbm, &hbm);
	kvt_lost_limits limits = {
		.token_layers = plan->stored_tokens > 0 ? worth * e->llm->n_layers : UINT64_MAX,
		.room = hbm.capacity - hbm.used + run->system->reserved_bytes / 2,
	};
	run->lost = kvt_lost_pages_new(run->engine, (uint64_t)e->chunk_tokens, &limits);
}

/* What was lost, into the turn. */
static void account_losses(turn_run *run)
{
	if (!run->lost)
		return;
	kvt_lost_counts counts = kvt_lost_pages_counts(run->lost);
	for (unsigned i = 0; i < KVT_LOSSES; i++)
		run->turn->lost.pages[i] += counts.pages[i];
	run->turn->lost.rereads += counts.rereads;
	run->turn->lost.tokens += counts.tokens;
	run->turn->lost.token_layers += counts.token_layers;
	run->turn->lost.time += counts.time;
	run->lost_bytes = MAX(run->lost_bytes, kvt_lost_pages_bytes(run->lost));
	g_clear_pointer(&run->lost, kvt_lost_pages_free);
}

/* HBM is empty again. */
static void release_hbm(turn_run *run)
{
	kvt_tier *hbm = run->system->hbm;
	kvt_extent all = kvt_kv_extent(&run->engine->layout, 0, 0, run->plan.total_tokens);
	all.n_pages = MAX(all.n_pages, run->plan.buffers * run->plan.window_tokens);
	all.context = UINT32_MAX;
	hbm->ops->discard(hbm, run->engine->tenant, &all);
	all.context = run->engine->layout.context;
	for (; all.layer < run->engine->layout.llm->n_layers; all.layer++)
		hbm->ops->discard(hbm, run->engine->tenant, &all);
}

/* The context is computed as if nothing had been stored; what was spent counts. */
static bool start_over(turn_run *run, GError **error)
{
	kvt_turn *turn = run->turn;
	account_losses(run);
	release_hbm(run);
	run->given_up = run->plan;
	if (!kvt_turn_plan_make(&run->plan, run->system, KVT_RUN_COLD, error) ||
		!account_hbm(run, error))
		return false;
	expect_losses(run);
	turn->recomputed = true;
	turn->streamed = run->plan.streamed;
	turn->resident_tokens = run->plan.resident_tokens;
	turn->chooses = false;
	turn->ttft = turn->given_up;
	return cold_prefill(run, error);
}

/* The prefill of either kind. */
static bool prefill(turn_run *run, kvt_run_kind kind, GError **error)
{
	g_autoptr(GError) why = NULL;
	bool given_up = false;
	if (kind == KVT_RUN_COLD || run->plan.stored_tokens == 0)
		return cold_prefill(run, error);
	if (resume(run, &given_up, &why))
		return true;
	if (given_up && !run->system->world.stored_only)
		return start_over(run, error);
	g_propagate_error(error, g_steal_pointer(&why));
	return false;
}

/* Pages that were made again are stored again: of a context that was computed from its beginning
 * all that was stored of it, unless it went to storage chunk by chunk. */
static void store_again(turn_run *run)
{
	kvt_tier *storage = run->engine->storage;
	const kvt_turn_plan *stored = &run->given_up;
	kvt_page_writes *writes = &run->turn->stored_again;
	uint64_t before[KVT_SYSTEM_STORES_MAX];
	if (!run->lost)
		return;
	for (unsigned i = 0; i < run->system->n_stores; i++)
		before[i] = store_stats(run, i).written_bytes;
	g_autoptr(GArray) made = kvt_lost_pages_take_made(run->lost);
	kvt_settle_runs(run->engine, &run->plan, storage, made, writes);
	if (run->plan.streamed)
		kvt_settle_windows(run->engine, &run->plan, storage, stored->stored_tokens, writes);
	else if (stored->chooses)
		kvt_settle_parts(run->engine, &run->plan, &stored->choice, storage,
			stored->stored_tokens, writes);
	else
		kvt_settle_context(
			run->engine, &run->plan, run->lost, storage, stored->stored_tokens, writes);
	run->given_up = (kvt_turn_plan){ 0 };
	for (unsigned i = 0; i < run->system->n_stores; i++)
		run->turn->written_bytes[i] += store_stats(run, i).written_bytes - before[i];
}

/* What the turn leaves in storage once its first token is there. */
static void settle(turn_run *run)
{
	kvt_tier *keep = run->system->keep;
	uint64_t tokens = kvt_turn_plan_storable(run->experiment);
	store_again(run);
	if (keep)
		kvt_settle_context(
			run->engine, &run->plan, run->lost, keep, tokens, &run->turn->kept);
}

bool kvt_turn_run_in(const kvt_world *world, const kvt_experiment *experiment, kvt_run_kind kind,
	kvt_timeline *timeline, kvt_turn *turn, GError **error)
{
	g_autoptr(kvt_system) system = kvt_system_new_in(world, experiment, timeline, error);
	if (!system)
		return false;
	*turn = (kvt_turn){ 0 };
	turn_run run = {
		.system = system, .experiment = experiment, .engine = &system->engine, .turn = turn
	};
	if (!kvt_turn_plan_make(&run.plan, system, kind, error))
		return false;
	turn->streamed = run.plan.streamed;
	turn->recomputed = run.plan.recomputed;
	turn->resident_tokens = run.plan.resident_tokens;
	turn->load_estimate = run.plan.load_estimate;
	turn->compute_estimate = run.plan.compute_estimate;
	turn->chooses = run.plan.chooses;
	turn->selectivity = run.plan.selectivity;
	if (turn->compute_estimate > 0)
		turn->break_even_rate =
			(double)kvt_kv_page_bytes_total(&system->engine.layout,
				run.plan.prefill_tokens - (uint64_t)experiment->prompt_tokens) /
			turn->compute_estimate;
	if (!account_hbm(&run, error) || !make_room(&run, error))
		return false;
	expect_losses(&run);
	bool good = prefill(&run, kind, error);
	if (good)
		settle(&run);
	good = good && decode(&run, error);
	if (good)
		store_again(&run);
	account_losses(&run);
	turn->hbm_peak += run.lost_bytes;
	return good;
}
