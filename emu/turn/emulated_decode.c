/* emulated_decode.c: pages out to the tier by KV head, the replay, and what its attention came to.
 */
#include "emu/turn/emulated_decode.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "emu/device/page_device.h"
#include "emu/tier/page_writer.h"
#include "emu/device/recorded_source.h"
#include "sim/base/error.h"
#include "sim/engine/replay_feed.h"
#include "sim/engine/replay_setup.h"

#define SETTING(field) offsetof(kvt_emulated_decode_settings, field)

const kvt_option kvt_emulated_decode_options[] = {
	{ "prefetch", KVT_OPTION_STRING, 0, SETTING(prefetch), "", 0, 0, NULL,
		"the prefetcher that chooses pages; \"\": no such steps" },
	{ "policy", KVT_OPTION_STRING, 0, SETTING(policy), "lru", 0, 0, NULL, "what leaves HBM" },
	{ "attention", KVT_OPTION_CHOICE, 0, SETTING(attention), "budgeted", 0, 0,
		kvt_replay_attention_names,
		"budgeted: over what was chosen; exact: over all, what is missing on demand" },
	{ "query", KVT_OPTION_CHOICE, 0, SETTING(query), "current", 0, 0, kvt_replay_query_names,
		"the newest one that plans may use" },
	{ "budget", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, SETTING(budget), "5%", 0, 1, NULL,
		"pages chosen, of those present, a layer and KV head" },
	{ "hbm", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, SETTING(hbm), "0%", 0, 1, NULL,
		"pages that HBM holds, likewise; 0%: the budget" },
	{ "moves", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, SETTING(moves), "0%", 0, 1, NULL,
		"pages moved ahead a step at most, likewise; 0%: any number" },
	{ "mass", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, SETTING(mass), "0%", 0, 1, NULL,
		"share of the attention wanted, by the prefetcher's own estimate; 0%: what the "
		"budget gives" },
	{ "depth", KVT_OPTION_INTEGER, 0, SETTING(depth), "4", 1, 4096, NULL,
		"layers' prefetches under way at once" },
	{ 0 },
};

/* Contexts below it are the turn's. */
enum { FIRST_CONTEXT = 16 };

/* Attention of a KV head that was compared later: which pages, and what came out. */
typedef struct kept_output {
	uint32_t step, recorded, head, n;
	uint32_t *pages;
	float *output, *lse;
} kept_output;

/* Pages of all layers and KV heads that Turn 1 writes. */
typedef struct page_range {
	uint64_t first, end;
} page_range;

typedef struct decode_run {
	const kvt_emulated_decode_job *job;
	kvt_emulated_decode *decode;
	kvt_replay_source *source;
	GArray *ranges;
	GArray *kept;
	/* of the writer */
	uint32_t layer, head;
	guint range;
	uint64_t next_page;
} decode_run;

static void keep(void *arg, const kvt_replay_call *call, const float *output, const float *lse)
{
	decode_run *run = arg;
	const kvt_kv_recording *r = run->job->recording;
	size_t n = (size_t)r->heads * r->head_dim;
	for (uint32_t head = 0; head < call->n_heads; head++) {
		const kvt_replay_reads *reads = &call->heads[head];
		const kvt_selection *selection = reads->selection;
		uint32_t first = selection->present.first, end = selection->present.end;
		kept_output k = { call->step, call->recorded, head,
			reads->all ? end - first : selection->n, NULL,
			g_memdup2(output + head * n, n * sizeof(*output)),
			g_memdup2(lse + head * r->heads, r->heads * sizeof(*lse)) };
		k.pages = g_new(uint32_t, k.n);
		for (uint32_t i = 0; i < k.n; i++)
			k.pages[i] = reads->all ? first + i : selection->pages[i];
		g_array_append_val(run->kept, k);
	}
	if (run->job->attended)
		run->job->attended(run->job->arg, call, output, lse);
}

static void free_kept(gpointer data)
{
	kept_output *k = data;
	g_free(k->pages);
	g_free(k->output);
	g_free(k->lse);
}

/* A KV head's keys and values as the recording has them, as pages for a kernel. */
typedef struct recorded_window {
	const void **keys, **values;
	kvt_attention_window window;
} recorded_window;

static recorded_window window_new(const kvt_kv_recording *r)
{
	uint64_t n = r->n_tokens / r->block_tokens + 1;
	recorded_window w = { g_new(const void *, n), g_new(const void *, n), { 0 } };
	w.window.keys = w.keys;
	w.window.values = w.values;
	return w;
}

static void window_clear(recorded_window *w)
{
	g_free(w->keys);
	g_free(w->values);
}

/* Pages of the kept output, or (NULL) all up to its token; the last one of either is open. */
static void set_window(
	const decode_run *run, recorded_window *w, const kept_output *k, const uint32_t *pages)
{
	const kvt_kv_recording *r = run->job->recording;
	uint64_t position = r->positions[run->job->first_step + k->step];
	uint64_t open = position / r->block_tokens, n = pages ? k->n : open + 1;
	size_t page = (size_t)r->block_tokens * r->head_dim;
	size_t at = (size_t)k->head * r->n_tokens * r->head_dim;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t number = pages ? pages[i] : i;
		w->keys[i] = r->keys[k->recorded] + at + number * page;
		w->values[i] = r->values[k->recorded] + at + number * page;
	}
	g_assert(!pages || pages[n - 1] == open);
	w->window.n_tokens = (n - 1) * r->block_tokens + position % r->block_tokens + 1;
	w->window.seen = w->window.n_tokens;
}

static const float *queries_of(const decode_run *run, const kept_output *k)
{
	const kvt_kv_recording *r = run->job->recording;
	uint64_t step = run->job->first_step + k->step;
	return r->queries[k->recorded] + (step * r->kv_heads + k->head) * r->heads * r->head_dim;
}

/* What of each output's attention lay on the pages that were attended to: by the log-sum-exp that
 * it came with, and that of attention to everything. A mean. */
static double measure_mass(const decode_run *run, recorded_window *w)
{
	const kvt_kv_recording *r = run->job->recording;
	kvt_attention_shape shape = kvt_recorded_shape(r);
	size_t bytes = kvt_attention_scratch_bytes(&shape, 1);
	void *scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
	g_autofree float *output = g_new(float, r->heads * r->head_dim);
	g_autofree float *lse = g_new(float, r->heads);
	kvt_attention_partial all = { .output = output, .lse = lse };
	double mass = 0;
	for (guint i = 0; i < run->kept->len; i++) {
		const kept_output *k = &g_array_index(run->kept, kept_output, i);
		set_window(run, w, k, NULL);
		int status = kvt_attention(
			kvt_isa_best(), &shape, queries_of(run, k), 1, &w->window, &all, scratch);
		g_assert(status == 0);
		for (uint32_t head = 0; head < r->heads; head++)
			mass += exp((double)k->lse[head] - (double)lse[head]);
	}
	free(scratch);
	return mass / ((double)run->kept->len * r->heads);
}

static void compare_all(const decode_run *run)
{
	const kvt_kv_recording *r = run->job->recording;
	kvt_emulated_decode *decode = run->decode;
	kvt_attention_shape shape = kvt_recorded_shape(r);
	recorded_window w = window_new(r);
	uint64_t n = run->kept->len, most = run->job->checks;
	uint64_t wanted = most > 0 ? MIN(most, n) : n;
	decode->errors = (kvt_attention_errors){ .outputs = n };
	for (uint64_t i = 0; i < wanted; i++) {
		const kept_output *k =
			&g_array_index(run->kept, kept_output, kvt_attention_spread(n, wanted, i));
		kvt_attention_place place = { r->layers[k->recorded], k->head,
			r->positions[run->job->first_step + k->step] };
		set_window(run, &w, k, k->pages);
		kvt_attention_errors_add(
			&decode->errors, &place, &shape, queries_of(run, k), &w.window, k->output);
	}
	kvt_attention_errors_end(&decode->errors);
	decode->mass = measure_mass(run, &w);
	window_clear(&w);
}

/* Turn 1's pages: what is complete before the first step and, where steps are not neighbours in the
 * recording, what became so between two of them. */
static void find_ranges(decode_run *run)
{
	const kvt_replay_source *source = run->source;
	for (uint32_t step = 0; step < source->n_steps; step++) {
		kvt_replay_present now = source->present(source, step, 0);
		page_range range = { now.first, now.end - 1 };
		if (step > 0) {
			kvt_replay_present before = source->present(source, step - 1, 0);
			range.first = before.end - !before.closed;
		}
		if (range.first < range.end)
			g_array_append_val(run->ranges, range);
	}
}

static bool next_run(void *arg, kvt_extent *extent)
{
	decode_run *run = arg;
	const kvt_kv_recording *r = run->job->recording;
	const uint64_t bytes = kvt_recorded_page_bytes(r);
	if (run->ranges->len == 0 || run->layer == r->n_layers)
		return false;
	const page_range *range = &g_array_index(run->ranges, page_range, run->range);
	uint64_t first = MAX(run->next_page, range->first);
	uint64_t n = MIN(MAX(run->job->run_bytes / bytes, 1), range->end - first);
	*extent = (kvt_extent){ .context = FIRST_CONTEXT + run->head,
		.layer = r->layers[run->layer],
		.first_page = first,
		.n_pages = n,
		.page_bytes = bytes };
	run->next_page = first + n;
	if (run->next_page < range->end)
		return true;
	run->next_page = 0;
	if (++run->range < run->ranges->len)
		return true;
	run->range = 0;
	if (++run->head < r->kv_heads)
		return true;
	run->head = 0;
	run->layer++;
	return true;
}

/* Turn 1 has written what the replay finds in storage. */
static bool is_stored(void *arg, const kvt_extent *extent, GError **error)
{
	const decode_run *run = arg;
	for (guint i = 0; i < run->ranges->len; i++) {
		const page_range *range = &g_array_index(run->ranges, page_range, i);
		if (extent->first_page >= range->first &&
			extent->first_page + extent->n_pages <= range->end)
			return true;
	}
	g_assert_not_reached();
}

static void fill_run(void *arg, const kvt_extent *extent, void *memory)
{
	const kvt_kv_recording *r = ((const decode_run *)arg)->job->recording;
	uint32_t layer = 0;
	while (r->layers[layer] != extent->layer)
		layer++;
	kvt_recorded_pages_fill(r, layer, extent->context - FIRST_CONTEXT,
		extent->first_page * r->block_tokens,
		(extent->first_page + extent->n_pages) * r->block_tokens, memory);
}

static bool store_pages(decode_run *run, kvt_system *system, GError **error)
{
	const kvt_emulated_decode_job *job = run->job;
	find_ranges(run);
	kvt_page_writer writer = { .loop = job->world->loop,
		.tier = system->storage,
		.run_bytes = MAX(job->run_bytes, kvt_recorded_page_bytes(job->recording)),
		.next = next_run,
		.fill = fill_run,
		.arg = run };
	kvt_page_writes writes = { 0 };
	int status = kvt_page_writer_run(&writer, &writes);
	run->decode->stored_bytes = writes.bytes;
	run->decode->written = writes.seconds;
	if (status != 0)
		return kvt_error_failed(error, "tier %s could not store the context by KV head: %s",
			job->tier, kvt_page_writer_reason(status));
	if (job->stored)
		job->stored(job->arg, system->storage);
	return true;
}

static bool fill_settings(
	const kvt_emulated_decode_job *job, kvt_replay_settings *settings, GError **error)
{
	const kvt_emulated_decode_settings *given = job->settings;
	const kvt_prefetcher_ops *prefetcher = kvt_prefetcher_find(given->prefetch, error);
	const kvt_policy_ops *policy = prefetcher ? kvt_policy_find(given->policy, error) : NULL;
	*settings = (kvt_replay_settings){ .budget = given->budget,
		.hbm = given->hbm,
		.moves = given->moves,
		.target = given->mass,
		.query = given->query,
		.seed = (uint64_t)job->experiment->seed,
		.attention = given->attention,
		.prefetcher = prefetcher,
		.policy = policy,
		.page_bytes = kvt_recorded_page_bytes(job->recording),
		.block_tokens = job->recording->block_tokens,
		.window_bytes = UINT64_MAX,
		.prefetch_depth = (unsigned)given->depth };
	return policy != NULL;
}

static bool replay(decode_run *run, kvt_system *system, GError **error)
{
	const kvt_emulated_decode_job *job = run->job;
	kvt_replay_settings *settings = &run->decode->settings;
	kvt_work work = { .kind = KVT_WORK_HEAD, .tokens = 1 };
	settings->hbm_rate = system->topology.spec.hbm_rate;
	settings->layer_time = kvt_replay_layer_work(system->cost, 0);
	settings->step_time =
		kvt_work_cost_time(system->cost, &work) + job->experiment->step_overhead;
	kvt_page_device_settings device = { .loop = job->world->loop,
		.recording = job->recording,
		.first_step = job->first_step,
		.n_pages = run->source->n_pages,
		.first_context = FIRST_CONTEXT,
		.isa = kvt_isa_best(),
		.threads = job->threads,
		.attended = keep,
		.attended_arg = run };
	kvt_replay_world world = { .loop = job->world->loop,
		.storage = system->storage,
		.storage_name = job->tier,
		.timeline = job->timeline,
		.device = kvt_page_device_new(&device, error),
		.first_context = FIRST_CONTEXT,
		.recomputes = job->experiment->lost_pages == KVT_LOST_RECOMPUTE,
		.store = is_stored,
		.store_arg = run };
	if (!world.device)
		return false;
	kvt_page_device_regions(world.device, job->region, job->region_arg);
	if (job->threads <= kvt_cores_compute(job->cores) && kvt_cores_place_engine(job->cores))
		kvt_page_device_place(world.device, job->cores);
	bool done = kvt_replay_run(run->source, settings, &world, &run->decode->replay, error);
	world.device->ops->free(world.device);
	return done;
}

bool kvt_emulated_decode_run(
	const kvt_emulated_decode_job *job, kvt_emulated_decode *decode, GError **error)
{
	const kvt_kv_recording *r = job->recording;
	decode_run run = { .job = job, .decode = decode };
	*decode = (kvt_emulated_decode){ 0 };
	if (!fill_settings(job, &decode->settings, error))
		return false;
	run.source = kvt_recorded_source_new(
		r, job->first_step, job->first_step + job->n_steps, decode->settings.budget, error);
	if (!run.source)
		return false;
	run.ranges = g_array_new(FALSE, FALSE, sizeof(page_range));
	run.kept = g_array_new(FALSE, FALSE, sizeof(kept_output));
	g_array_set_clear_func(run.kept, free_kept);
	decode->first_position = r->positions[job->first_step];
	decode->last_position = r->positions[job->first_step + job->n_steps - 1];
	kvt_system *system = kvt_system_new_in(job->world, job->experiment, job->timeline, error);
	decode->ran = system && store_pages(&run, system, error) && replay(&run, system, error);
	kvt_system_free(system);
	if (decode->ran)
		compare_all(&run);
	g_array_unref(run.ranges);
	g_array_unref(run.kept);
	kvt_recorded_source_free(run.source);
	return decode->ran;
}

void kvt_emulated_decode_clear(kvt_emulated_decode *decode)
{
	kvt_replay_result_clear(&decode->replay);
	*decode = (kvt_emulated_decode){ 0 };
}

kvt_emulated_step kvt_emulated_decode_step(const kvt_emulated_decode *decode)
{
	const kvt_replay_result *replay = &decode->replay;
	double n = MAX(replay->steps, 2) - 1, all = MAX(replay->steps, 1);
	kvt_time planning = replay->planning - replay->first_planning, waiting = 0;
	kvt_time deciding = replay->deciding - replay->first_deciding;
	for (unsigned cause = 0; cause < KVT_STALL_CAUSES; cause++)
		waiting += replay->stall[cause];
	return (kvt_emulated_step){
		.all = kvt_time_to_seconds(replay->total - replay->ttft) / n,
		.median = kvt_time_to_seconds(kvt_replay_step_time(replay, 0.5)),
		.planning = kvt_time_to_seconds(planning) / n,
		.bookkeeping = kvt_time_to_seconds(deciding - planning) / n,
		.attention = kvt_time_to_seconds(replay->attention_time) / all,
		.waiting = kvt_time_to_seconds(waiting) / all,
		.modelled = kvt_time_to_seconds(replay->other_time) / all,
	};
}
