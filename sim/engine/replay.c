/* replay.c: checks and sets up a replay, runs it, and fills in its result. */
#include "sim/engine/replay.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/base/error.h"
#include "sim/base/units.h"
#include "sim/engine/replay_lost.h"
#include "sim/engine/replay_run.h"
#include "sim/prefetch/top_pages.h"

/* Accesses that are kept to find Belady's misses afterwards: 4 bytes each. */
#define LOGGED_ACCESSES_MAX (UINT64_C(1) << 26)

const char *const kvt_replay_attention_names[] = { "exact", "budgeted", NULL };
const char *const kvt_stall_names[] = { "prefetch_late", "demand", "write_back", "queue", NULL };

static gboolean check(
	const kvt_replay_source *source, const kvt_replay_settings *settings, GError **error)
{
	if (!(settings->budget > 0 && settings->budget <= 1))
		return kvt_error_usage(error,
			"budget %g: out of range, expected a share above 0%% and up to 100%%",
			settings->budget);
	if (settings->hbm != 0 && !(settings->hbm >= settings->budget && settings->hbm <= 1))
		return kvt_error_usage(error,
			"hbm %g: out of range, expected a share from the budget (%g) to 1, since "
			"what is selected has to fit",
			settings->hbm, settings->budget);
	if (settings->moves != 0 && !(settings->moves > 0 && settings->moves <= 1))
		return kvt_error_usage(error,
			"moves %g: out of range, expected a share above 0%% and up to 100%%",
			settings->moves);
	if (settings->target != 0 && !(settings->target > 0 && settings->target <= 1))
		return kvt_error_usage(error,
			"target %g: out of range, expected a share above 0%% and up to 100%%",
			settings->target);
	if (settings->page_bytes == 0 || !(settings->hbm_rate > 0))
		return kvt_error_usage(error, "a page needs bytes and HBM a rate above 0");
	g_assert(source->n_steps > 0 && source->n_layers > 0 && source->n_heads > 0);
	return TRUE;
}

/* What the prefetcher needs of the source, and goes together. */
static gboolean check_prefetcher(
	const kvt_replay_source *source, const kvt_replay_settings *settings, GError **error)
{
	const kvt_prefetcher_ops *ops = settings->prefetcher;
	if (!kvt_feed_check(source, ops, error))
		return FALSE;
	if (settings->target > 0 && !ops->estimates)
		return kvt_error_usage(error,
			"prefetcher %s: does not estimate mass, expected one that does, such as "
			"slap, where a share of the mass is asked for",
			ops->name);
	bool budgeted = settings->attention == KVT_REPLAY_BUDGETED;
	if (budgeted && settings->policy->needs_future &&
		(settings->target > 0 || settings->moves > 0))
		return kvt_error_usage(error,
			"policy %s: cannot look ahead where selections depend on what is in HBM, "
			"expected another policy, or no limit of moves and no mass asked for",
			settings->policy->name);
	return TRUE;
}

/* Refuses what this machine cannot hold, since a trace is small and may yet claim any number of
 * pages: about 96 bytes a page, layer and KV head, and 8 an access where the future is kept. */
static gboolean check_memory(
	const kvt_replay_source *source, const kvt_replay_settings *settings, GError **error)
{
	double rows = (double)source->n_layers * source->n_heads;
	double need = rows * (96.0 * source->n_pages + 1024);
	if (settings->attention == KVT_REPLAY_BUDGETED && settings->policy->needs_future)
		need += 8.0 * rows * source->n_steps * settings->budget * source->n_pages;
	double have = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 2;
	if (need <= have)
		return TRUE;
	g_autofree char *takes = kvt_unit_format(need, KVT_UNIT_BYTES);
	g_autofree char *left = kvt_unit_format(have, KVT_UNIT_BYTES);
	return kvt_error_failed(error,
		"%u pages of %.0f layers and KV heads take %s of memory to replay, expected at "
		"most %s, half of this machine's",
		source->n_pages, rows, takes, left);
}

/* What Belady looks ahead in: a dry run of the selections, without residents to fill them up. */
static gboolean look_ahead(kvt_replay *run, GError **error)
{
	kvt_replay_source *source = run->source;
	uint32_t n_heads = source->n_heads;
	kvt_selector_spec spec = kvt_replay_selector_spec(run->settings);
	kvt_selector *selector = kvt_selector_new(source, &spec);
	gboolean read = TRUE;
	for (uint32_t step = 0; step < source->n_steps && read; step++)
		for (uint32_t i = 0; i < source->n_layers * n_heads && read; i++) {
			uint32_t layer = i / n_heads, head = i % n_heads;
			const kvt_selection *selection =
				kvt_selector_select(selector, step, layer, head, NULL, error);
			read = selection != NULL;
			if (!read)
				break;
			kvt_access_step found = { .pages = selection->pages,
				.n = selection->n,
				.capacity = kvt_replay_capacity(run->settings, selection) };
			kvt_access_log_step(run->futures[i], &found);
			kvt_selector_observe(selector, step, layer, head,
				kvt_replay_attends_to_all(run->settings, &selection->present));
		}
	kvt_selector_free(selector);
	return read;
}

/* The steps that attend to everything: how many, and which comes next after each step. */
static uint32_t find_dense_steps(kvt_replay *run)
{
	const kvt_replay_source *source = run->source;
	run->next_all = g_new(uint32_t, source->n_steps);
	uint32_t next = source->n_steps, n = 0;
	for (uint32_t step = source->n_steps; step-- > 0;) {
		kvt_replay_present present = source->present(source, step, 0);
		run->next_all[step] = next;
		if (kvt_replay_attends_to_all(run->settings, &present)) {
			next = step;
			n++;
		}
	}
	return n;
}

static gboolean make_heads(kvt_replay *run, GError **error)
{
	kvt_replay_source *source = run->source;
	const kvt_replay_settings *settings = run->settings;
	bool exact = settings->attention == KVT_REPLAY_EXACT;
	uint32_t n = source->n_layers * source->n_heads;
	bool looks_ahead = !exact && settings->policy->needs_future;
	double share = MAX(settings->hbm, settings->budget);
	uint32_t most = kvt_replay_budget_pages(share, source->n_pages);
	uint64_t accesses = (uint64_t)most * source->n_steps * n;
	uint32_t dense = find_dense_steps(run);
	run->result->dense_steps = exact ? 0 : dense;
	run->result->has_belady =
		exact || (dense == 0 && settings->target == 0 && accesses <= LOGGED_ACCESSES_MAX);
	for (uint32_t i = 0; i < n; i++) {
		run->futures[i] = looks_ahead ? kvt_access_log_new(source->n_pages) : NULL;
		if (!exact && run->result->has_belady)
			run->logs[i] = kvt_access_log_new(source->n_pages);
		kvt_residency_spec spec = { .policy = settings->policy,
			.n_pages = source->n_pages,
			.capacity_max = most,
			.n_steps = source->n_steps,
			.next_all = run->next_all,
			.future = run->futures[i],
			.log = run->logs[i] };
		run->heads[i] = kvt_residency_new(&spec);
	}
	kvt_selector_spec spec = kvt_replay_selector_spec(settings);
	spec.clock = run->world->loop;
	run->selector = kvt_selector_new(source, &spec);
	return !looks_ahead || look_ahead(run, error);
}

static void transfer_failed(void *arg, kvt_transfer *transfer, int status)
{
	kvt_replay *run = arg;
	const char *name = kvt_replay_storage_name(run);
	GError *error = NULL;
	if (status == -ENOSPC)
		kvt_error_failed(&error,
			"tier %s is full: a page that decode completed does not fit, expected a "
			"larger capacity",
			name);
	else if (status == -EAGAIN)
		kvt_error_failed(
			&error, "tier %s: it takes no I/O any more, with none under way", name);
	else
		kvt_error_failed(&error, "tier %s: %s of %" G_GUINT64_FORMAT " pages failed: %s",
			name, transfer->kind == KVT_TRANSFER_WRITE ? "write" : "read",
			transfer->list.pages, g_strerror(-status));
	kvt_replay_fail(run, error);
}

/* Means over steps of every head, and over heads. */
static void fill_masses(kvt_replay *run)
{
	kvt_replay_result *result = run->result;
	double scale = 1.0 / ((double)KVT_MASS_ONE * result->steps), estimate = 0;
	for (uint32_t i = 0; i < result->n_rows; i++) {
		kvt_replay_head *head = &result->by_head[i];
		head->mass_kept *= scale;
		head->mass_oracle *= scale;
		head->mass_resident *= scale;
		head->dense /= result->steps;
		uint32_t estimates = run->estimates[i];
		head->mass_estimated =
			estimates > 0 ? head->mass_estimated / estimates : (double)NAN;
		estimate += head->mass_estimated / result->n_rows;
		result->mass_kept += head->mass_kept / result->n_rows;
		result->mass_oracle += head->mass_oracle / result->n_rows;
		result->mass_resident += head->mass_resident / result->n_rows;
	}
	result->mass_estimated = estimate;
}

static void fill_result(kvt_replay *run)
{
	kvt_replay_result *result = run->result;
	const kvt_replay_source *source = run->source;
	unsigned copies = MAX(run->settings->copies, 1);
	uint32_t n_heads = source->n_layers * source->n_heads;
	double rows = (double)source->n_steps * n_heads;
	fill_masses(run);
	result->mass_listed = (double)run->listed_mass / KVT_MASS_ONE / rows;
	result->mass_lost = (double)run->lost_mass / KVT_MASS_ONE / rows;
	result->mass_on_time =
		result->mass_resident - (double)run->late_mass / KVT_MASS_ONE / (rows * copies);
	result->scorer = kvt_selector_stats(run->selector);
	result->planning = kvt_selector_planning(run->selector);
	result->selection = (double)run->selected / rows;
	result->selection_runs = (double)run->selected_runs / rows;
	result->ttft = result->step_times[0];
	uint64_t peak = 0;
	for (uint32_t i = 0; i < n_heads; i++) {
		uint32_t pages = kvt_residency_peak(run->heads[i]);
		result->peak_pages = MAX(result->peak_pages, pages);
		peak += pages;
		result->counts.unused += kvt_residency_unused(run->heads[i]);
		if (run->logs[i])
			result->belady_misses += kvt_access_log_belady_misses(run->logs[i]);
	}
	result->peak_hbm_bytes = peak * run->settings->page_bytes * copies;
	run->world->storage->ops->stats(run->world->storage, &result->storage);
	result->retries = kvt_transfers_retries(run->transfers);

	const kvt_residency_counts *counts = &result->counts;
	uint64_t moved = (counts->moved + counts->demanded) * copies;
	g_assert(counts->hits + counts->prefetched + counts->demanded == counts->accesses);
	g_assert(counts->hits <= counts->accesses - counts->compulsory);
	g_assert(counts->moved == counts->used + counts->wasted + counts->unused);
	g_assert(counts->prefetched <= counts->moved);
	g_assert(counts->polluted <= counts->moved + counts->demanded);
	g_assert(result->moved_bytes == (moved - result->lost.pages) * run->settings->page_bytes);
}

static void free_run(kvt_replay *run)
{
	const kvt_replay_source *source = run->source;
	for (uint32_t i = 0; i < source->n_layers * source->n_heads; i++) {
		kvt_residency_free(run->heads[i]);
		kvt_access_log_free(run->futures[i]);
		kvt_access_log_free(run->logs[i]);
	}
	g_free(run->next_all);
	g_free(run->heads);
	g_free(run->futures);
	g_free(run->logs);
	g_free(run->estimates);
	for (uint32_t i = 0; i < source->n_layers && run->recorded; i++) {
		g_free(run->recorded[i].reads);
		kvt_extent_list_free(&run->recorded[i].prefetch);
		kvt_extent_list_free(&run->recorded[i].demand);
	}
	g_free(run->recorded);
	for (uint32_t i = 0; i < run->n_layers; i++) {
		kvt_transfer_clear(&run->layers[i].prefetch);
		kvt_transfer_clear(&run->layers[i].demand);
		g_queue_free(run->layers[i].writes);
	}
	g_free(run->layers);
	for (guint i = 0; i < run->all_writes->len; i++) {
		kvt_transfer *write = g_ptr_array_index(run->all_writes, i);
		kvt_transfer_clear(write);
		g_free(write);
	}
	g_ptr_array_unref(run->all_writes);
	g_ptr_array_unref(run->spare_writes);
	kvt_selector_free(run->selector);
	kvt_transfers_free(run->transfers);
	if (run->device && !run->world->device)
		run->device->ops->free(run->device);
}

static void run_steps(kvt_replay *run)
{
	const kvt_replay_world *world = run->world;
	run->device = world->device;
	if (!run->device)
		run->device = kvt_replay_modelled_device_new(
			world->loop, run->settings, run->source->n_heads);
	kvt_transfers_spec spec = { .loop = world->loop,
		.tier = world->storage,
		.timeline = world->timeline,
		.prefetch_depth = MAX(run->settings->prefetch_depth, 1),
		.device = run->device,
		.failed = transfer_failed,
		.lost = world->recomputes ? kvt_replay_make_again : NULL,
		.arg = run };
	run->transfers = kvt_transfers_new(&spec);
	run->track = kvt_timeline_track(
		world->timeline, "decode", kvt_timeline_track(world->timeline, "gpu", 0));
	kvt_replay_start(run);
	kvt_loop_run(world->loop);
	if (!run->error && run->step < run->source->n_steps)
		kvt_error_failed(&run->error,
			"tier %s: nothing moves any more at step %u, expected a path with "
			"bandwidth",
			kvt_replay_storage_name(run), run->step);
}

gboolean kvt_replay_run(kvt_replay_source *source, const kvt_replay_settings *settings,
	const kvt_replay_world *world, kvt_replay_result *result, GError **error)
{
	*result = (kvt_replay_result){ .steps = source->n_steps, .selection_least = UINT32_MAX };
	if (!check(source, settings, error) || !check_prefetcher(source, settings, error) ||
		!check_memory(source, settings, error))
		return FALSE;
	result->layers = source->n_layers * MAX(settings->copies, 1);
	result->step_times = g_new0(kvt_time, source->n_steps);
	uint32_t n = source->n_layers * source->n_heads;
	result->n_rows = n;
	result->by_head = g_new0(kvt_replay_head, n);
	for (uint32_t i = 0; i < n; i++) {
		result->by_head[i].layer = source->layer_numbers[i / source->n_heads];
		result->by_head[i].head = i % source->n_heads;
	}
	kvt_replay run = { .source = source,
		.settings = settings,
		.world = world,
		.result = result,
		.heads = g_new0(kvt_residency *, n),
		.futures = g_new0(kvt_access_log *, n),
		.logs = g_new0(kvt_access_log *, n),
		.estimates = g_new0(uint32_t, n),
		.all_writes = g_ptr_array_new(),
		.spare_writes = g_ptr_array_new() };
	if (make_heads(&run, &run.error))
		run_steps(&run);
	if (!run.error)
		fill_result(&run);
	free_run(&run);
	if (run.error) {
		kvt_replay_result_clear(result);
		g_propagate_error(error, run.error);
		return FALSE;
	}
	return TRUE;
}

static int compare_times(const void *a, const void *b)
{
	const kvt_time *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

kvt_time kvt_replay_step_time(const kvt_replay_result *result, double q)
{
	if (result->steps < 2)
		return 0;
	uint32_t n = result->steps - 1;
	g_autofree kvt_time *times = g_memdup2(result->step_times + 1, n * sizeof(kvt_time));
	qsort(times, n, sizeof(*times), compare_times);
	double rank = ceil(q * n) - 1;
	return times[(uint32_t)CLAMP(rank, 0, n - 1)];
}

static double ratio(uint64_t part, uint64_t whole)
{
	return whole > 0 ? (double)part / (double)whole : NAN;
}

double kvt_replay_timely(const kvt_replay_result *result)
{
	return ratio(result->needed_here - result->needed_during, result->needed);
}

double kvt_replay_coverage(const kvt_replay_result *result)
{
	return ratio(result->counts.needed_selected, result->counts.needed);
}

double kvt_replay_waste(const kvt_replay_result *result)
{
	return ratio(result->counts.wasted, result->counts.moved);
}

double kvt_replay_pollution(const kvt_replay_result *result)
{
	const kvt_residency_counts *counts = &result->counts;
	return ratio(counts->polluted, counts->moved + counts->demanded);
}

double kvt_replay_hit_rate(const kvt_replay_result *result)
{
	return ratio(result->counts.hits, result->counts.accesses);
}

uint32_t kvt_replay_diffuse_heads(const kvt_replay_result *result)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < result->n_rows; i++)
		n += result->by_head[i].mass_estimated < KVT_REPLAY_DIFFUSE;
	return n;
}

double kvt_replay_worst_head(const kvt_replay_result *result)
{
	double worst = 1;
	for (uint32_t i = 0; i < result->n_rows; i++) {
		const kvt_replay_head *head = &result->by_head[i];
		worst = MIN(worst, head->mass_kept / head->mass_oracle);
	}
	return worst;
}

double kvt_replay_sketch_bytes(const kvt_replay_result *result)
{
	const kvt_prefetcher_stats *scorer = &result->scorer;
	return scorer->sketch_tokens > 0 ? ratio(scorer->sketch_bytes, scorer->sketch_tokens) : 0;
}

double kvt_replay_scored_pages(const kvt_replay_result *result)
{
	const kvt_prefetcher_stats *scorer = &result->scorer;
	return scorer->queries > 0 ? ratio(scorer->scored_pages, scorer->queries) : 0;
}

void kvt_replay_result_clear(kvt_replay_result *result)
{
	g_clear_pointer(&result->step_times, g_free);
	g_clear_pointer(&result->by_head, g_free);
}
