/* replay_course.c: a replay's way through steps and layers, and where its time goes. */
#include <math.h>

#include "sim/base/error.h"
#include "sim/engine/replay_run.h"
#include "sim/prefetch/top_pages.h"

static void begin_layer(kvt_replay *run);
static void attend_late(void *arg);
static void finish_attention(kvt_timed_layer *layer, const kvt_transfer *last);

static kvt_time now(const kvt_replay *run)
{
	return kvt_loop_now(run->world->loop);
}

const char *kvt_replay_storage_name(const kvt_replay *run)
{
	const kvt_replay_world *world = run->world;
	return world->storage_name ? world->storage_name : world->storage->ops->name;
}

bool kvt_replay_attends_to_all(const kvt_replay_settings *settings, const kvt_replay_present *step)
{
	return settings->attention == KVT_REPLAY_EXACT || (settings->dense_prompt && step->prompt);
}

void kvt_replay_fail(kvt_replay *run, GError *error)
{
	if (run->error)
		g_clear_error(&error);
	else
		run->error = error;
}

uint32_t kvt_replay_capacity(const kvt_replay_settings *settings, const kvt_selection *selection)
{
	uint32_t present = selection->present.end - selection->present.first;
	double share = MAX(settings->hbm, settings->budget);
	return kvt_replay_budget_pages(share, present);
}

kvt_selector_spec kvt_replay_selector_spec(const kvt_replay_settings *settings)
{
	return (kvt_selector_spec){ .prefetcher = settings->prefetcher,
		.budget = settings->budget,
		.room = MAX(settings->hbm, settings->budget),
		.moves = settings->moves,
		.target = settings->target,
		.query = settings->query,
		.seed = settings->seed };
}

/* Whether a step is planned when its attention is due, since its query is needed. */
static bool plans_late(const kvt_replay *run)
{
	return run->settings->prefetcher->reads_keys &&
	       run->settings->query == KVT_REPLAY_QUERY_CURRENT;
}

/* Puts pages first .. end - 1 of a recorded layer into storage. */
static gboolean preload(
	kvt_replay *run, uint32_t recorded, uint32_t first, uint32_t end, GError **error)
{
	const kvt_replay_world *world = run->world;
	kvt_tier *tier = world->storage;
	for (uint32_t i = 0; i < run->n_layers && first < end; i++) {
		if (run->layers[i].recorded != recorded)
			continue;
		for (uint32_t head = 0; head < run->source->n_heads; head++) {
			kvt_extent extent = { .context = world->first_context + head,
				.layer = run->layers[i].number,
				.first_page = first,
				.n_pages = end - first,
				.page_bytes = run->settings->page_bytes };
			if (world->store) {
				if (!world->store(world->store_arg, &extent, error))
					return FALSE;
				continue;
			}
			if (!tier->ops->preload || !tier->ops->preload(tier, 0, &extent))
				return kvt_error_failed(error,
					"tier %s: the context's pages do not fit, expected a "
					"larger capacity",
					kvt_replay_storage_name(run));
		}
	}
	return TRUE;
}

/* What exists before the first step, and what came between two steps that are not neighbours in the
 * recording, is found in storage. */
static gboolean preload_unseen(kvt_replay *run, uint32_t step, uint32_t recorded, GError **error)
{
	kvt_replay_source *source = run->source;
	kvt_replay_present present = source->present(source, step, recorded);
	uint32_t stored = present.first;
	if (step > 0) {
		kvt_replay_present before = source->present(source, step - 1, recorded);
		stored = MAX(stored, before.end - !before.closed);
	}
	return preload(run, recorded, stored, present.end - 1, error);
}

/* Sketches are as large, against a page, as the recorded model's are. */
static kvt_time scan_time(const kvt_replay *run, uint64_t scanned)
{
	const kvt_replay_source *source = run->source;
	if (scanned == 0)
		return 0;
	double recorded_page = 4.0 * source->block_tokens * source->head_dim;
	double bytes = (double)scanned * (double)run->settings->page_bytes / recorded_page;
	return run->device->ops->scan_time(run->device, (uint64_t)(bytes + 0.5));
}

static bool attends_to_all(const kvt_replay *run, const kvt_selection *selection)
{
	return selection->dense || kvt_replay_attends_to_all(run->settings, &selection->present);
}

/* A KV head's pages. */
static kvt_extent pages_of(const kvt_replay *run, uint32_t head)
{
	return (kvt_extent){ .context = run->world->first_context + head,
		.page_bytes = run->settings->page_bytes };
}

/* Decides what a recorded layer has in HBM for a step, once for all its copies. */
static bool decide(kvt_replay *run, uint32_t step, uint32_t recorded)
{
	uint32_t n_heads = run->source->n_heads;
	kvt_recorded_layer *layer = &run->recorded[recorded];
	GError *error = NULL;
	kvt_extent_list_clear(&layer->prefetch);
	layer->prefetch_left = 0;
	uint64_t scanned = kvt_selector_stats(run->selector).scanned_bytes;
	if (!preload_unseen(run, step, recorded, &error)) {
		kvt_replay_fail(run, error);
		return false;
	}
	for (uint32_t head = 0; head < n_heads; head++) {
		kvt_residency *residency = run->heads[recorded * n_heads + head];
		const kvt_selection *selection = kvt_selector_select(run->selector, step, recorded,
			head, kvt_residency_resident(residency), &error);
		if (!selection) {
			kvt_replay_fail(run, error);
			return false;
		}
		layer->reads[head] = (kvt_replay_reads){ .selection = selection,
			.all = attends_to_all(run, selection),
			.resident = kvt_residency_resident(residency) };
		kvt_extent like = pages_of(run, head);
		uint32_t left = kvt_residency_prepare(residency, step, selection,
			kvt_replay_capacity(run->settings, selection), &like, &layer->prefetch);
		layer->prefetch_left = MAX(layer->prefetch_left, left);
	}
	scanned = kvt_selector_stats(run->selector).scanned_bytes - scanned;
	layer->scan = scan_time(run, scanned);
	return true;
}

static bool prepare(kvt_replay *run, uint32_t step, uint32_t recorded)
{
	kvt_time began = now(run);
	bool decided = decide(run, step, recorded);
	run->result->deciding += now(run) - began;
	return decided;
}

/* Runs of neighbouring pages: what fetching all of a selection would take. */
static uint32_t count_runs(const kvt_selection *selection)
{
	uint32_t runs = 0;
	for (uint32_t i = 0; i < selection->n; i++)
		runs += i == 0 || selection->pages[i] != selection->pages[i - 1] + 1;
	return runs;
}

/* The masses of a selection, before it is attended. */
static void count_masses(
	kvt_replay *run, uint32_t recorded, uint32_t head, const kvt_selection *selection, bool all)
{
	kvt_replay_result *result = run->result;
	uint32_t row = recorded * run->source->n_heads + head;
	kvt_replay_head *sum = &result->by_head[row];
	sum->mass_kept += (double)selection->kept_mass;
	sum->mass_oracle += (double)selection->oracle_mass;
	sum->mass_resident += (double)kvt_selector_mass_on(
		run->selector, recorded, head, kvt_residency_resident(run->heads[row]));
	sum->dense += selection->dense;
	run->lost_mass += all ? 0 : KVT_MASS_ONE - MIN(selection->kept_mass, KVT_MASS_ONE);
	run->listed_mass += selection->listed_mass;
	run->selected += selection->n;
	run->selected_runs += count_runs(selection);
	result->dense_rows += selection->dense;
	result->selection_least = MIN(result->selection_least, selection->n);
	result->selection_most = MAX(result->selection_most, selection->n);
	if (!isnan(selection->estimate)) {
		sum->mass_estimated += (double)selection->estimate;
		run->estimates[row]++;
	}
	/* what of it is on its way */
	run->recorded[recorded].arriving_mass += kvt_selector_mass_on(
		run->selector, recorded, head, kvt_residency_arriving(run->heads[row]));
}

/* Decides what a recorded layer's attention finds and demands at the current step. */
static void attend(kvt_replay *run, uint32_t recorded)
{
	uint32_t n_heads = run->source->n_heads;
	kvt_recorded_layer *layer = &run->recorded[recorded];
	kvt_replay_result *result = run->result;
	const kvt_residency_counts before = result->counts;
	layer->arriving_mass = 0;
	kvt_extent_list_clear(&layer->demand);
	layer->demand_left = 0;
	for (uint32_t head = 0; head < n_heads; head++) {
		const kvt_selection *selection = layer->reads[head].selection;
		kvt_extent like = pages_of(run, head);
		bool all = layer->reads[head].all;
		kvt_residency *residency = run->heads[recorded * n_heads + head];
		kvt_residency_need(residency, selection, &result->counts);
		count_masses(run, recorded, head, selection, all);
		uint32_t left = kvt_residency_attend(residency, run->step, selection, all, &like,
			&layer->demand, &result->counts);
		layer->demand_left = MAX(layer->demand_left, left);
		layer->closed = selection->present.closed;
		layer->closed_page = selection->present.end - 1;
		if (run->settings->attention == KVT_REPLAY_EXACT) {
			uint32_t present = selection->present.end - selection->present.first;
			uint32_t held = run->step > 0
						? MIN(kvt_replay_capacity(run->settings, selection),
							  present)
						: 1;
			result->belady_misses += present - held;
		}
	}
	layer->attended = result->counts.accesses - before.accesses;
	layer->needed = result->counts.needed - before.needed;
	layer->needed_here = result->counts.needed_here - before.needed_here;
	layer->needed_moved = result->counts.needed_moved - before.needed_moved;
}

/* Whether a page that left, all below left_end, may still be on its way to storage. */
static bool must_wait(const kvt_timed_layer *layer, uint32_t left_end)
{
	const kvt_transfer *oldest = g_queue_peek_head(layer->writes);
	return oldest && oldest->list.extents[0].first_page < left_end;
}

static void start_prefetch(kvt_timed_layer *layer)
{
	const kvt_recorded_layer *recorded = &layer->run->recorded[layer->recorded];
	layer->prefetch_left = recorded->prefetch_left;
	kvt_extent_list_copy(&layer->prefetch.list, &recorded->prefetch, layer->number);
	if (layer->prefetch.list.n > 0)
		kvt_transfer_start(&layer->prefetch, must_wait(layer, layer->prefetch_left));
}

static void fetch_done(void *arg, kvt_transfer *transfer)
{
	kvt_timed_layer *layer = arg;
	kvt_replay *run = layer->run;
	run->result->moved_bytes += transfer->io.bytes;
	if (layer == run->attending && --layer->awaited == 0)
		finish_attention(layer, transfer);
}

/* A page that has been written may leave, and gives its place to what waits for it. */
static void settle(kvt_timed_layer *layer)
{
	if (layer->prefetch.held && !must_wait(layer, layer->prefetch_left))
		kvt_transfer_release(&layer->prefetch);
	if (layer->demand.held && !must_wait(layer, layer->demand_left))
		kvt_transfer_release(&layer->demand);
	if (!layer->needs_place || must_wait(layer, layer->prefetch_left))
		return;
	layer->needs_place = false;
	if (--layer->awaited == 0)
		finish_attention(layer, NULL);
}

static void write_done(void *arg, kvt_transfer *transfer)
{
	kvt_timed_layer *layer = arg;
	g_queue_remove(layer->writes, transfer);
	g_ptr_array_add(layer->run->spare_writes, transfer);
	layer->run->result->written_bytes += transfer->io.bytes;
	settle(layer);
}

/* Writes the page that the step's token has filled up, of all heads, to storage. */
static void start_write(kvt_timed_layer *layer)
{
	kvt_replay *run = layer->run;
	const kvt_recorded_layer *recorded = &run->recorded[layer->recorded];
	kvt_transfer *write;
	if (run->spare_writes->len > 0) {
		write = g_ptr_array_steal_index_fast(run->spare_writes, run->spare_writes->len - 1);
		write->arg = layer;
	} else {
		write = g_new0(kvt_transfer, 1);
		g_ptr_array_add(run->all_writes, write);
		kvt_transfer_init(write, run->transfers, KVT_TRANSFER_WRITE, write_done, layer);
	}
	kvt_extent_list_clear(&write->list);
	for (uint32_t head = 0; head < run->source->n_heads; head++) {
		kvt_extent extent = pages_of(run, head);
		extent.layer = layer->number;
		extent.first_page = recorded->closed_page;
		extent.n_pages = 1;
		kvt_extent_list_add(&write->list, &extent);
	}
	g_queue_push_tail(layer->writes, write);
	kvt_transfer_start(write, false);
}

static kvt_time overlap(kvt_time from, kvt_time to, kvt_time start, kvt_time end)
{
	return MAX(MIN(to, end) - MAX(from, start), 0);
}

/* Books the time from `from` to `to`, in which a transfer was waited for, on its causes; NULL: the
 * place of a page that was being written. */
static void count_stall(kvt_replay *run, const kvt_transfer *transfer, kvt_time from, kvt_time to)
{
	if (to <= from)
		return;
	kvt_replay_result *result = run->result;
	kvt_stall_cause moving = KVT_STALL_WRITE_BACK;
	kvt_time writes = 0, queued = 0;
	if (transfer) {
		moving = transfer->kind == KVT_TRANSFER_DEMAND ? KVT_STALL_DEMAND
							       : KVT_STALL_PREFETCH_LATE;
		writes = overlap(from, to, transfer->wanted, transfer->released);
		queued = overlap(from, to, transfer->released, transfer->accepted);
	}
	result->stall[KVT_STALL_WRITE_BACK] += writes;
	result->stall[KVT_STALL_QUEUE] += queued;
	result->stall[moving] += to - from - writes - queued;
	if (run->step == 0)
		result->first_step_stall += to - from;
	kvt_timeline_span(run->world->timeline, run->track, kvt_stall_names[moving], from, to);
}

static void end_step(void *arg)
{
	kvt_replay *run = arg;
	if (run->error)
		return;
	kvt_replay_result *result = run->result;
	result->step_times[run->step] = now(run) - run->step_began;
	result->total = now(run) - run->began;
	if (run->step == 0) {
		result->first_planning = kvt_selector_planning(run->selector);
		result->first_deciding = result->deciding;
	}
	if (run->settings->progress)
		run->settings->progress(run->settings->progress_arg, run->step + 1);
	run->step_began = now(run);
	run->layer = 0;
	if (++run->step < run->source->n_steps)
		begin_layer(run);
}

/* The layer is done with, and what the next step wants of it is known. */
static void end_layer(void *arg)
{
	kvt_timed_layer *layer = arg;
	kvt_replay *run = layer->run;
	if (run->error)
		return;
	if (run->step + 1 < run->source->n_steps && !plans_late(run))
		start_prefetch(layer);
	if (++run->layer < run->n_layers) {
		begin_layer(run);
		return;
	}
	run->result->other_time += run->settings->step_time;
	kvt_loop_after(run->world->loop, run->settings->step_time, end_step, run);
}

static void end_attention(void *arg)
{
	kvt_timed_layer *layer = arg;
	kvt_replay *run = layer->run;
	uint32_t recorded = layer->recorded;
	if (run->error)
		return;
	kvt_time takes = run->device->ops->computed(run->device);
	kvt_time computed = layer->began + takes;
	run->result->attention_time += takes;
	count_stall(run, layer->last, computed, now(run));
	kvt_timeline_span(run->world->timeline, run->track, "attention", layer->began, computed);
	if (run->recorded[recorded].closed)
		start_write(layer);
	bool more = run->step + 1 < run->source->n_steps;
	if (layer->first_copy) {
		for (uint32_t head = 0; head < run->source->n_heads; head++) {
			kvt_page_masses row = kvt_selector_observe(run->selector, run->step,
				recorded, head, run->recorded[recorded].reads[head].all);
			kvt_residency_learn(run->heads[recorded * run->source->n_heads + head],
				run->step, &row);
		}
		if (more && !plans_late(run) && !prepare(run, run->step + 1, recorded))
			return;
	}
	kvt_time scan = more && !plans_late(run) ? run->recorded[recorded].scan : 0;
	run->result->scorer_time += scan;
	if (scan > 0)
		kvt_loop_after(run->world->loop, scan, end_layer, layer);
	else
		end_layer(layer);
}

/* All that the layer's attention reads is in HBM; `last` came last, NULL when nothing was fetched
 * any more. */
static void finish_attention(kvt_timed_layer *layer, const kvt_transfer *last)
{
	kvt_replay *run = layer->run;
	/* what came last is attended to last */
	uint64_t window = last ? MIN(last->io.bytes, run->settings->window_bytes) : 0;
	layer->last = last;
	run->attending = NULL;
	run->device->ops->finish(run->device, window, end_attention, layer);
}

static void begin_on_device(kvt_timed_layer *layer)
{
	kvt_replay *run = layer->run;
	static const kvt_extent_list nothing;
	kvt_replay_call call = { .step = run->step,
		.recorded = layer->recorded,
		.layer = layer->number,
		.pages = run->recorded[layer->recorded].attended,
		.n_heads = run->source->n_heads,
		.heads = layer->first_copy ? run->recorded[layer->recorded].reads : NULL,
		.late = { layer->prefetch.active ? &layer->prefetch.list : &nothing,
			&layer->demand.list } };
	run->device->ops->begin(run->device, &call);
}

/* What is in HBM is attended to while the rest arrives. */
static void begin_attention(void *arg)
{
	kvt_timed_layer *layer = arg;
	kvt_replay *run = layer->run;
	kvt_recorded_layer *recorded = &run->recorded[layer->recorded];
	const kvt_replay_settings *settings = run->settings;
	if (run->error)
		return;
	kvt_time began = now(run);
	if (layer->first_copy)
		attend(run, layer->recorded);
	run->result->deciding += now(run) - began;
	run->result->attended_bytes += recorded->attended * settings->page_bytes;
	layer->began = now(run);
	layer->awaited = 0;
	run->attending = layer;
	if (layer->prefetch.active) {
		layer->awaited++;
		run->result->late_pages += layer->prefetch.list.pages;
		run->result->needed_during += recorded->needed_moved;
		run->late_mass += recorded->arriving_mass;
	}
	run->result->needed += recorded->needed;
	run->result->needed_here += recorded->needed_here;
	if (!layer->prefetch.active && must_wait(layer, layer->prefetch_left)) {
		/* for the page that the step's token has begun */
		layer->awaited++;
		layer->needs_place = true;
	}
	layer->demand_left = MAX(recorded->demand_left, layer->prefetch_left);
	kvt_extent_list_copy(&layer->demand.list, &recorded->demand, layer->number);
	begin_on_device(layer);
	if (layer->demand.list.n > 0) {
		layer->awaited++;
		kvt_transfer_start(&layer->demand, must_wait(layer, layer->demand_left));
	}
	if (layer->awaited == 0)
		finish_attention(layer, NULL);
}

/* The query is known: pages are scored with it, what is missing is sent for. */
static void plan_late(void *arg)
{
	kvt_timed_layer *layer = arg;
	kvt_replay *run = layer->run;
	if (run->error || (layer->first_copy && !prepare(run, run->step, layer->recorded)))
		return;
	kvt_time scan = run->recorded[layer->recorded].scan;
	run->result->scorer_time += scan;
	kvt_loop_after(run->world->loop, scan, attend_late, layer);
}

static void attend_late(void *arg)
{
	kvt_timed_layer *layer = arg;
	if (layer->run->error)
		return;
	start_prefetch(layer);
	begin_attention(layer);
}

static void begin_layer(kvt_replay *run)
{
	kvt_timed_layer *layer = &run->layers[run->layer];
	run->result->other_time += run->settings->layer_time;
	kvt_loop_after(run->world->loop, run->settings->layer_time,
		plans_late(run) ? plan_late : begin_attention, layer);
}

static void make_layers(kvt_replay *run)
{
	const kvt_replay_source *source = run->source;
	unsigned copies = MAX(run->settings->copies, 1);
	run->recorded = g_new0(kvt_recorded_layer, source->n_layers);
	for (uint32_t i = 0; i < source->n_layers; i++)
		run->recorded[i].reads = g_new0(kvt_replay_reads, source->n_heads);
	run->n_layers = source->n_layers * copies;
	run->layers = g_new0(kvt_timed_layer, run->n_layers);
	for (uint32_t i = 0; i < run->n_layers; i++) {
		kvt_timed_layer *layer = &run->layers[i];
		layer->run = run;
		layer->recorded = i / copies;
		layer->number = source->layer_numbers[layer->recorded] * copies + i % copies;
		layer->first_copy = i % copies == 0;
		layer->writes = g_queue_new();
		kvt_transfer_init(
			&layer->prefetch, run->transfers, KVT_TRANSFER_PREFETCH, fetch_done, layer);
		kvt_transfer_init(
			&layer->demand, run->transfers, KVT_TRANSFER_DEMAND, fetch_done, layer);
	}
}

void kvt_replay_start(kvt_replay *run)
{
	make_layers(run);
	run->began = run->step_began = now(run);
	for (uint32_t i = 0; i < run->n_layers && !plans_late(run); i++) {
		if (run->layers[i].first_copy && !prepare(run, 0, run->layers[i].recorded))
			return;
		start_prefetch(&run->layers[i]);
	}
	begin_layer(run);
}
