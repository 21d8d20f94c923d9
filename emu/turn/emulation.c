/* emulation.c: the real world that a turn runs in, and Turn 1's writes. */
#include "emu/turn/emulation.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "emu/device/cpu_device.h"
#include "emu/tier/page_writer.h"
#include "emu/loop/real_loop.h"
#include "emu/tier/lent_tier.h"
#include "emu/turn/emulated_gpu.h"
#include "emu/turn/real_tiers.h"
#include "sim/base/error.h"
#include "sim/engine/turn_plan.h"

#define SETTING(field) offsetof(kvt_emulation_settings, field)

static const char *const device_names[] = { "cpu", "cuda", NULL };
static const char *const precision_names[] = { "exact", "rounded", NULL };
static const char *const rank_names[] = { "all", "one", NULL };

const kvt_option kvt_emulation_options[] = {
	{ "device", KVT_OPTION_CHOICE, 0, SETTING(device), "cpu", 0, 0, device_names,
		"what attends: threads of this machine, or a GPU" },
	{ "card", KVT_OPTION_INTEGER, 0, SETTING(card), "0", 0, 255, NULL,
		"which GPU, by CUDA's number" },
	{ "hbm", KVT_OPTION_BYTES, 0, SETTING(hbm), "0B", 0, INFINITY, NULL,
		"bytes of the GPU's memory that may be taken at most, so that a large card plays a "
		"small one; 0: what is free" },
	{ "precision", KVT_OPTION_CHOICE, 0, SETTING(precision), "exact", 0, 0, precision_names,
		"of the GPU's attention where many query tokens share what is read: near FP32, or "
		"queries and weights rounded to 16 bits, as serving engines do" },
	{ "rank", KVT_OPTION_CHOICE, 0, SETTING(ranks), "all", 0, 0, rank_names,
		"of a tensor-parallel group ([gpu] count): all of it, which has to be one GPU, or "
		"one rank, with its share of the heads, that waits for the others' all-reduces" },
	{ "tier", KVT_OPTION_STRING, 0, SETTING(tier_name), "memory", 0, 0, NULL,
		"where pages are stored; its options are in [emulation TIER]" },
	{ "threads", KVT_OPTION_INTEGER, 0, SETTING(threads), "0", 0, 1024, NULL,
		"threads that compute attention; 0: one a processor but the engine's" },
	{ "checks", KVT_OPTION_INTEGER, 0, SETTING(checks), "64", 0, 1e9, NULL,
		"outputs of a layer, query token and KV head that are compared with double "
		"precision; 0: all" },
	{ "spin", KVT_OPTION_TIME, 0, SETTING(spin), "1s", 0, 1, NULL,
		"for how long the engine's loop looks for events before it sleeps, where it has a "
		"processor of its own" },
	{ "run", KVT_OPTION_BYTES, 0, SETTING(run_bytes), "4MiB", 1, 1 << 30, NULL,
		"bytes that Turn 1 writes at once, in whole pages" },
	{ "trace", KVT_OPTION_STRING, 0, SETTING(trace), "", 0, 0, NULL,
		"a recorded attention trace whose keys, values and queries are stored, brought "
		"back and attended to; \"\": random ones" },
	{ 0 },
};

#define MIGRATE(field) offsetof(kvt_emulated_migrate_settings, field)

const kvt_option kvt_emulated_migrate_options[] = {
	{ "home_tier", KVT_OPTION_STRING, 0, MIGRATE(home_tier), "", 0, 0, NULL,
		"the first node's own way to its pool; its options are in [emulation home TIER]. "
		"\"\": it has the other node's" },
	{ "keep_tier", KVT_OPTION_STRING, 0, MIGRATE(keep_tier), "memory", 0, 0, NULL,
		"the other node's own pool, where [migrate] keep_tier names one; its options are "
		"in [emulation keep TIER]" },
	{ 0 },
};

/* Pools of pages, one a node, and the ways to them. */
enum { FIRST_NODE, OTHER_NODE, POOLS };
enum { WAY_ACROSS, WAY_HOME, WAY_KEEP, WAYS };

typedef struct way {
	const char *name, *prefix; /* kind of tier; of its section */
	unsigned pool;
	kvt_tier *open; /* for all turns, if its pages would not be there again */
} way;

typedef struct emulation {
	const kvt_experiment *experiment;
	const kvt_emulation_hooks *hooks;
	kvt_emulation_settings settings;
	kvt_emulated_decode_settings decode;
	kvt_loop *loop;
	kvt_kv_recording *recording; /* NULL: none */
	kvt_cores cores;
	kvt_emulated_migrate_settings migrate;
	way ways[WAYS];
	const way *way;                /* of the turn's storage */
	kvt_tier *opened[POOLS];       /* in the turn, with what hooks put around them */
	uint64_t stored_tokens[POOLS]; /* so far */
	kvt_emulated_gpu gpu;
	kvt_kv_source source;
	kvt_attention_check *check;
	kvt_emulation_result *result;
	kvt_timeline *timeline;
} emulation;

static bool migrates(const emulation *e)
{
	return e->experiment->kind == KVT_RUN_MIGRATE;
}

/* Whether the engine need not share one with threads that compute. */
static bool has_own_processor(const emulation *e)
{
	return e->cores.n > 1 && e->settings.threads <= (int64_t)kvt_cores_compute(&e->cores);
}

static const kvt_tier_ops *find_tier(const char *name, GError **error)
{
	const kvt_tier_ops *ops = kvt_real_tier_find(name);
	return ops ? ops : kvt_tier_find(name, error);
}

/* The tier that a way leads over, with what hooks put around it. */
static kvt_tier *open_tier(emulation *e, const way *w, const kvt_tier_env *env, GError **error)
{
	const kvt_tier_ops *ops = find_tier(w->name, error);
	if (!ops)
		return NULL;
	g_autofree char *section = g_strconcat("emulation ", w->prefix, ops->name, NULL);
	if (migrates(e) && !(ops->flags & KVT_TIER_REAL)) {
		kvt_error_usage(error,
			"tier %s: a session that moves needs pages that are there, expected a tier "
			"of the emulation, such as memory",
			ops->name);
		return NULL;
	}
	kvt_tier *tier = kvt_tier_open_kind(
		ops, env, kvt_config_section_or_empty(e->experiment->config, section), error);
	if (w == &e->ways[WAY_ACROSS])
		e->result->tier = ops->name;
	if (tier && ops->notice && ops->notice(tier)) {
		g_free(e->result->notice);
		e->result->notice = g_strdup(ops->notice(tier));
	}
	if (tier && e->hooks && e->hooks->wrap)
		tier = e->hooks->wrap(e->hooks->arg, env, section, tier);
	return tier;
}

/* The same for a turn, which closes it. Each opens it anew, as a node that the session has come to
 * does, where pages last. */
static kvt_tier *open_way(emulation *e, way *w, const kvt_tier_env *env, GError **error)
{
	kvt_tier *tier = w->open ? w->open : open_tier(e, w, env, error);
	if (tier && e->gpu.gpu)
		tier = kvt_emulated_gpu_wrap(&e->gpu, env, tier, error);
	e->opened[w->pool] = tier;
	if (!tier || !migrates(e) || tier->ops->flags & KVT_TIER_LASTING)
		return tier;
	w->open = tier;
	return e->opened[w->pool] = kvt_lent_tier_new(tier);
}

static kvt_tier *open_store(void *arg, const kvt_tier_env *env, const char *name, GError **error)
{
	emulation *e = arg;
	return open_way(e, &e->ways[e->way - e->ways], env, error);
}

static kvt_tier *open_keep(void *arg, const kvt_tier_env *env, const char *name, GError **error)
{
	emulation *e = arg;
	return open_way(e, &e->ways[WAY_KEEP], env, error);
}

/* The recording's tokens that the turn stores, and those that it computes. */
static bool record(emulation *e, GError **error)
{
	const kvt_experiment *experiment = e->experiment;
	const kvt_kv_recording *recording = e->recording;
	kvt_kv_source *source = &e->source;
	kvt_emulation_data *data = &e->result->data;
	uint64_t stored = kvt_turn_plan_storable(experiment);
	uint64_t tokens = (uint64_t)(experiment->context_tokens + experiment->prompt_tokens +
				     experiment->output_tokens);
	if (!kvt_kv_source_record(source, recording, stored, tokens - stored, error))
		return false;
	data->recorded = true;
	data->rounded = source->shape.element != KVT_ELEMENT_F16;
	data->trace = g_strdup(recording->path);
	data->model = g_strdup(recording->model);
	data->n_layers = recording->n_layers;
	data->layers = g_memdup2(recording->layers, data->n_layers * sizeof(*data->layers));
	data->stored_tokens = stored;
	data->query_tokens = source->n_queries;
	data->first_position = kvt_kv_source_position(source, stored);
	data->last_position = kvt_kv_source_position(source, tokens - 1);
	data->left_out = kvt_kv_source_left_out(source);
	return true;
}

static void attended(void *arg, unsigned layer, uint64_t position, uint64_t tokens,
	const float *output, const float *lse)
{
	emulation *e = arg;
	kvt_attention_check_keep(e->check, layer, position, tokens, output, lse);
	if (e->hooks && e->hooks->attended)
		e->hooks->attended(e->hooks->arg, layer, position, tokens, output, lse);
}

static bool is_wanted(void *arg, unsigned layer, uint64_t position)
{
	const emulation *e = arg;
	return (e->hooks && e->hooks->attended) ||
	       kvt_attention_check_wants(e->check, layer, position);
}

static kvt_device *open_cpu(emulation *e, kvt_system *system, uint64_t tokens, GError **error)
{
	const kvt_experiment *experiment = e->experiment;
	uint64_t context = (uint64_t)experiment->context_tokens;
	uint64_t page_tokens = e->source.shape.page_tokens;
	kvt_cpu_device_settings settings = { .loop = e->loop,
		.cost = system->cost,
		.timeline = e->timeline,
		.source = &e->source,
		.isa = kvt_isa_best(),
		.threads = e->settings.threads > 0 ? (unsigned)e->settings.threads
						   : kvt_cores_compute(&e->cores),
		.tokens = tokens,
		.first_new = context / page_tokens * page_tokens,
		.window_tokens = (uint64_t)experiment->window_tokens,
		.buffers = (unsigned)experiment->buffers,
		.attended = attended,
		.attended_arg = e };
	e->result->isa = kvt_isa_name(settings.isa);
	e->result->threads = settings.threads;
	return kvt_cpu_device_new(&settings, error);
}

static kvt_device *open_device(void *arg, kvt_system *system, GError **error)
{
	emulation *e = arg;
	const kvt_experiment *experiment = e->experiment;
	uint64_t tokens = (uint64_t)(experiment->context_tokens + experiment->prompt_tokens +
				     experiment->output_tokens);
	if (!kvt_kv_shape_init(&e->source.shape, &system->engine.layout, error))
		return NULL;
	e->source.seed = (uint64_t)experiment->seed;
	if (e->recording && !record(e, error))
		return NULL;
	e->check = kvt_attention_check_new(&e->source);
	kvt_attention_check_choose(
		e->check, kvt_turn_plan_storable(experiment), tokens, (uint64_t)e->settings.checks);
	const kvt_gpu_attention_settings shown = {
		.attended = attended, .wanted = is_wanted, .attended_arg = e
	};
	return e->gpu.gpu ? kvt_emulated_gpu_open(&e->gpu, system, &e->source, &shown, error)
			  : open_cpu(e, system, tokens, error);
}

/* Memory that pages are read into need not be found anew for every read. */
static void register_region(void *arg, void *memory, uint64_t bytes)
{
	emulation *e = arg;
	for (unsigned i = 0; i < POOLS; i++) {
		kvt_tier *tier = e->opened[i];
		if (tier && tier->ops->register_memory &&
			tier->ops->register_memory(tier, memory, bytes) != 0 && !e->result->notice)
			e->result->notice =
				g_strdup("memory that pages are read into is not registered");
	}
}

static void place(emulation *e, kvt_system *system)
{
	if (!e->gpu.gpu && has_own_processor(e) && kvt_cores_place_engine(&e->cores))
		kvt_cpu_device_place(system->device, &e->cores);
}

static bool make_room(
	void *arg, kvt_system *system, uint64_t resident, uint64_t newest, GError **error)
{
	emulation *e = arg;
	/* nothing is stored any more: there is nothing to wait for */
	if (e->stored_tokens[e->way->pool] > 0)
		place(e, system);
	if (e->gpu.gpu)
		return kvt_emulated_gpu_commit(&e->gpu, system->device, resident, newest, error);
	return kvt_cpu_device_commit(system->device, resident, newest, register_region, arg, error);
}

/* Where Turn 1 is: the next run of the layer's tokens [first, end). */
typedef struct context_run {
	const emulation *owner;
	const kvt_kv_layout *layout;
	unsigned layer;
	uint64_t from, first, end;
} context_run;

static bool next_run(void *arg, kvt_extent *extent)
{
	context_run *run = arg;
	const kvt_kv_shape *shape = &run->owner->source.shape;
	if (run->first == run->end) {
		run->layer++;
		run->first = run->from;
	}
	if (run->layer == shape->layers)
		return false;
	uint64_t pages = MAX(run->owner->settings.run_bytes / shape->page_bytes, 1);
	uint64_t n = MIN(pages * shape->page_tokens, run->end - run->first);
	*extent = kvt_kv_extent(run->layout, run->layer, run->first, n);
	run->first += n;
	return true;
}

/* Runs begin with a page's first token. */
static void fill_run(void *arg, const kvt_extent *extent, void *memory)
{
	const context_run *run = arg;
	const kvt_kv_source *source = &run->owner->source;
	uint64_t first = extent->first_page * source->shape.page_tokens;
	uint64_t n = MIN(extent->n_pages * source->shape.page_tokens, run->end - first);
	kvt_kv_source_fill(source, extent->layer, first, n, memory);
}

/* Turn 1: the pages of [0, tokens) that are not there yet go out to the tier. */
static bool store_context(void *arg, kvt_system *system, uint64_t tokens, GError **error)
{
	emulation *e = arg;
	const kvt_kv_shape *shape = &e->source.shape;
	kvt_time began = kvt_loop_now(e->loop);
	uint64_t *stored = &e->stored_tokens[e->way->pool];
	if (tokens <= *stored)
		return true;
	/* a page that was stored in part is stored again */
	uint64_t from = *stored / shape->page_tokens * shape->page_tokens;
	context_run run = { .owner = e,
		.layout = &system->engine.layout,
		.from = from,
		.first = from,
		.end = tokens };
	kvt_page_writer writer = { .loop = e->loop,
		.tier = system->storage,
		.tenant = system->engine.tenant,
		.run_bytes = MAX(e->settings.run_bytes, shape->page_bytes),
		.next = next_run,
		.fill = fill_run,
		.arg = &run };
	kvt_page_writes writes = { 0 };
	int status = kvt_page_writer_run(&writer, &writes);
	e->result->stored_bytes += writes.bytes;
	e->result->written += writes.seconds;
	if (*stored == 0)
		place(e, system);
	*stored = tokens;
	e->result->stored += kvt_time_to_seconds(kvt_loop_now(e->loop) - began);
	if (status != 0) {
		kvt_tier *tier = e->opened[e->way->pool];
		const char *notice = tier->ops->notice ? tier->ops->notice(tier) : NULL;
		return kvt_error_failed(error, "tier %s could not store the context: %s%s%s",
			e->way->name, kvt_page_writer_reason(status), notice ? "; " : "",
			notice ? notice : "");
	}
	kvt_tier *own = e->gpu.gpu ? e->gpu.inner : e->way->open;
	if (e->hooks && e->hooks->stored)
		e->hooks->stored(e->hooks->arg, own ? own : system->storage);
	return true;
}

/* What the engine can and the emulation cannot. */
static bool check_experiment(const kvt_experiment *e, GError **error)
{
	if (!e->llm)
		return kvt_error_usage(error, "[model] name: the emulation needs a language model");
	if (e->kind != KVT_RUN_RESUME && e->kind != KVT_RUN_MIGRATE)
		return kvt_error_usage(error, "[experiment] kind: the emulation is of Turn 2, "
					      "expected resume or migrate");
	if (e->selectivity)
		return kvt_error_usage(error, "[select] curve: the emulation loads all pages");
	if (e->second_share > 0)
		return kvt_error_usage(
			error, "[storage] second_share: the emulation has one tier, expected 0%%");
	if (e->nodes > 1 || e->dead_nodes > 0)
		return kvt_error_usage(error, "[storage] nodes, dead_nodes: the emulation has one "
					      "tier, expected 1 and 0");
	if (e->decode_samples > 0 && e->decode_samples < e->output_tokens)
		return kvt_error_usage(
			error, "[decode] samples: the emulation generates every token, expected 0");
	return true;
}

/* What it cannot of a session that moves. */
static bool check_migration(const emulation *e, GError **error)
{
	const kvt_experiment *experiment = e->experiment;
	int64_t tokens = experiment->context_tokens + experiment->prompt_tokens;
	int64_t chunks = (tokens - 1) / experiment->chunk_tokens + 1;
	if (!migrates(e))
		return true;
	if (*e->settings.trace != '\0')
		return kvt_error_usage(error,
			"[emulation] trace: a recorded context has no queries to be computed again "
			"with, expected [experiment] kind = resume");
	if (experiment->prefill_samples > 0 && experiment->prefill_samples < chunks)
		return kvt_error_usage(
			error, "[prefill] samples: recomputing is done chunk by chunk, expected 0");
	return true;
}

static void make_ways(emulation *e)
{
	bool own_way = migrates(e) && *e->migrate.home_tier != '\0';
	e->ways[WAY_ACROSS] = (way){ e->settings.tier_name, "", FIRST_NODE, NULL };
	e->ways[WAY_HOME] = (way){ e->migrate.home_tier, "home ", FIRST_NODE, NULL };
	e->ways[WAY_KEEP] = (way){ e->migrate.keep_tier, "keep ", OTHER_NODE, NULL };
	e->way = &e->ways[own_way ? WAY_HOME : WAY_ACROSS];
}

/* A trace is found where it is said to be, beside the experiment file, or among the samples. */
static bool open_recording(emulation *e, GError **error)
{
	const kvt_experiment *experiment = e->experiment;
	const char *name = e->settings.trace;
	if (e->gpu.gpu && *e->decode.prefetch != '\0')
		return kvt_error_usage(error,
			"[emulation decode] prefetch: pages are chosen and attended to by the "
			"processor, expected [emulation] device = cpu");
	if (*name == '\0')
		return true;
	if (experiment->resume_policy != KVT_RESUME_LOAD)
		return kvt_error_usage(error,
			"[resume] policy: a recorded context has no queries to be computed again "
			"with, expected load");
	g_autofree char *path =
		g_file_test(name, G_FILE_TEST_EXISTS)
			? g_strdup(name)
			: kvt_experiment_find_file(experiment, name, "traces/samples");
	e->recording = kvt_kv_recording_open(path, error);
	return e->recording != NULL;
}

static bool make_loop(emulation *e, GError **error)
{
	kvt_cores_init(&e->cores);
	const kvt_real_loop_settings loop = { .spin = has_own_processor(e) ? e->settings.spin : 0 };
	e->loop = kvt_real_loop_new(&loop);
	return e->loop || kvt_error_failed(error, "no descriptors are left for the loop");
}

/* One turn over the pages that are there, or that it stores first. */
static bool run_turn(emulation *e, const kvt_experiment *experiment, bool shown, kvt_turn *turn,
	kvt_attention_errors *errors, GError **error)
{
	kvt_world world = { .loop = e->loop,
		.open_store = open_store,
		.open_keep = open_keep,
		.open_device = open_device,
		.make_room = make_room,
		.store_context = store_context,
		.arg = e,
		.stored_only = e->recording || e->gpu.gpu,
		.one_rank = e->result->one_rank,
		.decisions = shown && e->hooks ? e->hooks->decisions : NULL };
	kvt_timeline *timeline = e->timeline;
	memset(e->opened, 0, sizeof(e->opened));
	if (!shown)
		e->timeline = NULL;
	bool done = kvt_turn_run_in(&world, experiment, KVT_RUN_RESUME, e->timeline, turn, error);
	e->timeline = timeline;
	kvt_cores_release(&e->cores);
	done = kvt_emulated_gpu_check(&e->gpu, e->result, done, error);
	if (done)
		kvt_attention_check_compare(e->check, (uint64_t)e->settings.checks, errors);
	errors->bound = kvt_emulated_gpu_bound(&e->gpu);
	g_clear_pointer(&e->check, kvt_attention_check_free);
	return done;
}

/* A turn of a migration. */
static bool run_moved(void *arg, kvt_migration_turn which, const kvt_experiment *experiment,
	kvt_turn *turn, GError **error)
{
	emulation *e = arg;
	/* the first turn stays, and goes by the first node's own way if it has one */
	if (which == KVT_MIGRATION_SETTLED)
		e->way = &e->ways[WAY_KEEP];
	else if (which != KVT_MIGRATION_STAY)
		e->way = &e->ways[WAY_ACROSS];
	if (e->hooks && e->hooks->begins)
		e->hooks->begins(e->hooks->arg, which);
	bool fetches = which == KVT_MIGRATION_FETCH;
	bool done =
		run_turn(e, experiment, fetches, turn, &e->result->migration.errors[which], error);
	/* what was not kept of it is missed, and recomputed */
	if (done && fetches)
		e->stored_tokens[OTHER_NODE] = kvt_turn_plan_storable(experiment);
	return done;
}

static bool run_turns(emulation *e, GError **error)
{
	kvt_emulation_result *result = e->result;
	kvt_emulated_migration *moved = &result->migration;
	make_ways(e);
	if (!migrates(e))
		return run_turn(e, e->experiment, true, &result->turn, &result->errors, error);
	moved->ran = kvt_migration_run_by(run_moved, e, e->experiment, &moved->migration, error);
	result->turn = moved->migration.turns[KVT_MIGRATION_FETCH];
	result->errors = moved->errors[KVT_MIGRATION_FETCH];
	return moved->ran;
}

/* The turn's output once more, from pages that are chosen. */
static bool run_decode(emulation *e, GError **error)
{
	const kvt_experiment *experiment = e->experiment;
	const kvt_emulation_hooks *hooks = e->hooks;
	uint64_t before = (uint64_t)(experiment->context_tokens + experiment->prompt_tokens);
	if (*e->decode.prefetch == '\0')
		return true;
	if (!e->recording || experiment->output_tokens == 0)
		return kvt_error_usage(error,
			"[emulation decode] prefetch: pages are chosen by recorded queries of "
			"tokens of the output, expected [emulation] trace and [context] "
			"output_tokens");
	kvt_world world = { .loop = e->loop, .open_store = open_store, .arg = e };
	kvt_emulated_decode_job job = { .settings = &e->decode,
		.experiment = experiment,
		.recording = e->recording,
		.first_step = e->source.first_step + before - e->source.stored,
		.n_steps = (uint64_t)experiment->output_tokens,
		.world = &world,
		.tier = e->result->tier,
		.timeline = e->timeline,
		.threads = e->result->threads,
		.cores = &e->cores,
		.region = register_region,
		.region_arg = e,
		.checks = (uint64_t)e->settings.checks,
		.run_bytes = e->settings.run_bytes,
		.stored = hooks ? hooks->decode_stored : NULL,
		.attended = hooks ? hooks->decode_attended : NULL,
		.arg = hooks ? hooks->arg : NULL };
	bool done = kvt_emulated_decode_run(&job, &e->result->decode, error);
	kvt_cores_release(&e->cores);
	return done;
}

bool kvt_emulation_run(const kvt_experiment *experiment, const kvt_emulation_hooks *hooks,
	kvt_timeline *timeline, kvt_emulation_result *result, GError **error)
{
	emulation e = {
		.experiment = experiment, .hooks = hooks, .timeline = timeline, .result = result
	};
	*result = (kvt_emulation_result){ 0 };
	kvt_config *config = experiment->config;
	bool done = check_experiment(experiment, error) &&
		    kvt_section_read(kvt_config_section_or_empty(config, "emulation"),
			    kvt_emulation_options, &e.settings, TRUE, error) &&
		    kvt_section_read(kvt_config_section_or_empty(config, "emulation decode"),
			    kvt_emulated_decode_options, &e.decode, TRUE, error) &&
		    kvt_section_read(kvt_config_section_or_empty(config, "emulation migrate"),
			    kvt_emulated_migrate_options, &e.migrate, TRUE, error) &&
		    check_migration(&e, error) &&
		    kvt_emulated_gpu_find(&e.gpu, &e.settings, experiment, hooks, result, error) &&
		    open_recording(&e, error) && make_loop(&e, error) && run_turns(&e, error) &&
		    run_decode(&e, error);
	kvt_emulated_gpu_release(&e.gpu, result);
	for (unsigned i = 0; i < WAYS; i++)
		kvt_tier_close(e.ways[i].open);
	kvt_loop_free(e.loop);
	kvt_kv_recording_free(e.recording);
	kvt_option_clear(kvt_emulated_migrate_options, &e.migrate);
	kvt_option_clear(kvt_emulated_decode_options, &e.decode);
	kvt_option_clear(kvt_emulation_options, &e.settings);
	return done;
}

bool kvt_emulation_exact(const kvt_emulation_result *result, const kvt_attention_errors **errors)
{
	const kvt_emulated_decode *decode = &result->decode;
	const kvt_emulated_migration *moved = &result->migration;
	*errors = &result->errors;
	for (unsigned i = 0; i < KVT_MIGRATION_TURNS && moved->ran; i++)
		if ((i != KVT_MIGRATION_SETTLED || moved->migration.settled) &&
			!kvt_attention_errors_pass(&moved->errors[i])) {
			*errors = &moved->errors[i];
			return false;
		}
	if (!kvt_attention_errors_pass(&result->errors))
		return false;
	*errors = &decode->errors;
	return !decode->ran || kvt_attention_errors_pass(&decode->errors);
}

void kvt_emulation_result_clear(kvt_emulation_result *result)
{
	kvt_emulated_decode_clear(&result->decode);
	g_clear_pointer(&result->notice, g_free);
	g_clear_pointer(&result->data.trace, g_free);
	g_clear_pointer(&result->data.model, g_free);
	g_clear_pointer(&result->data.layers, g_free);
}
