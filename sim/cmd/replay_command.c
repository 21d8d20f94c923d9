/* replay_command.c: `kvtier replay TRACE`: a recorded attention trace through HBM and a storage
 * tier.
 */
#include <string.h>

#include "sim/base/datadir.h"
#include "sim/base/error.h"
#include "sim/base/progress.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/replay_options.h"
#include "sim/cmd/trace_open.h"
#include "sim/engine/replay_compare.h"
#include "sim/engine/replay_feed.h"
#include "sim/engine/replay_report.h"
#include "sim/engine/replay_setup.h"
#include "sim/engine/replay_trace.h"

/* A replay from its options to its result. */
typedef struct replay_job {
	const kvt_command_options *options;
	const kvt_replay_options *given;
	const char *path;
	kvt_replay_trace_spec trace_spec;
	kvt_replay_settings settings;
	kvt_attention_trace *trace;
	kvt_replay_source *source;
	kvt_replay_setup setup;
	kvt_timeline *timeline;
	kvt_replay_result result;
	double seconds; /* wall time of the replay, reading included */
} replay_job;

static void job_clear(replay_job *job)
{
	kvt_replay_result_clear(&job->result);
	kvt_replay_setup_clear(&job->setup);
	kvt_replay_trace_free(job->source);
	kvt_attention_trace_close(job->trace);
	kvt_timeline_free(job->timeline);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(replay_job, job_clear)

/* Sets a key of the configuration to what an option says. */
static gboolean set_key(kvt_config *config, const char *key, const char *value, GError **error)
{
	if (!value)
		return TRUE;
	g_autofree char *assignment = g_strconcat(key, "=", value, NULL);
	return kvt_config_set(config, assignment, error);
}

/* Refuses --set of what a replay reads nothing of: it would change nothing. */
static gboolean check_sets(const replay_job *job, GError **error)
{
	static const char *const used[] = { "experiment.seed", "gpu.", "host.", "fabric.",
		"storage.", "fault.", "model.", "decode.", NULL };
	for (char **set = job->options->sets; *set; set++) {
		gboolean read = FALSE;
		for (unsigned i = 0; used[i]; i++)
			read |= g_str_has_prefix(*set, used[i]);
		for (unsigned i = 0; kvt_tier_registry()[i]; i++) {
			size_t length = strlen(kvt_tier_registry()[i]->name);
			read |= strncmp(*set, kvt_tier_registry()[i]->name, length) == 0 &&
				(*set)[length] == '.';
		}
		if (read || !strchr(*set, '.'))
			continue;
		g_autofree char *quoted = kvt_error_quote(*set);
		return kvt_error_usage(error,
			"--set %s: a replay reads no such section, expected one of gpu, host, "
			"fabric, storage, fault, model, decode or a tier's",
			quoted);
	}
	return TRUE;
}

static kvt_config *load_config(replay_job *job, GError **error)
{
	const kvt_replay_options *given = job->given;
	if (!check_sets(job, error))
		return NULL;
	g_autofree char *path = given->system
					? g_strdup(given->system)
					: kvt_datadir_find("experiments/testbed-l40s.ini", error);
	g_autoptr(kvt_config) config = path ? kvt_config_load(path, error) : NULL;
	if (!config)
		return NULL;
	uint64_t n_steps;
	const kvt_attention_step *steps = kvt_attention_trace_steps(job->trace, &n_steps);
	g_autofree char *tokens = g_strdup_printf("%" G_GUINT64_FORMAT, steps[0].position);
	g_autofree char *seed = g_strdup_printf("%" G_GINT64_FORMAT, given->seed);
	/* the recorded model is small: one GPU, where nothing else is asked for */
	gboolean small = !given->model && !given->system;
	if (!set_key(config, "context.tokens", tokens, error) ||
		!set_key(config, "experiment.seed", seed, error) ||
		!set_key(config, "model.name", given->model, error) ||
		!set_key(config, "gpu.name", given->gpu, error) ||
		!set_key(config, "gpu.count", small ? "1" : NULL, error) ||
		!set_key(config, "storage.tier", given->tier, error))
		return NULL;
	for (char **set = job->options->sets; *set; set++)
		if (!kvt_config_set(config, *set, error))
			return NULL;
	return g_steal_pointer(&config);
}

static gboolean set_up(replay_job *job, GError **error)
{
	job->trace = kvt_command_open_trace(job->path, error);
	if (!job->trace)
		return FALSE;
	job->source = kvt_replay_trace_new(job->trace, &job->trace_spec, error);
	kvt_config *config = job->source ? load_config(job, error) : NULL;
	if (!config)
		return FALSE;
	if (job->given->timeline)
		job->timeline = kvt_timeline_new(KVT_TIMELINE_DEFAULT_LIMIT);
	const kvt_attention_header *header = kvt_attention_trace_header(job->trace);
	kvt_replay_shape shape = { .layers = job->source->n_layers,
		.kv_heads = header->kv_heads,
		.head_dim = header->head_dim,
		.block_tokens = header->block_tokens,
		.pages = job->source->n_pages };
	if (!kvt_replay_setup_init(&job->setup, config, &shape, job->timeline, error))
		return FALSE;
	kvt_replay_setup_apply(&job->setup, &job->settings);
	return kvt_replay_setup_check(&job->setup, &job->settings, error);
}

static void show_progress(void *arg, uint32_t steps_done)
{
	kvt_progress_update(arg, steps_done);
}

static gboolean replay(replay_job *job, GError **error)
{
	g_autoptr(kvt_progress) progress =
		kvt_progress_new("replaying steps", job->source->n_steps);
	job->settings.progress = show_progress;
	job->settings.progress_arg = progress;
	kvt_engine *engine = &job->setup.system->engine;
	kvt_replay_world world = { .loop = engine->loop,
		.storage = engine->storage,
		.storage_name = job->setup.storage_name,
		.timeline = job->timeline,
		.recomputes = job->setup.experiment->lost_pages == KVT_LOST_RECOMPUTE };
	gint64 began = g_get_monotonic_time();
	gboolean done = kvt_replay_run(job->source, &job->settings, &world, &job->result, error);
	job->seconds = (double)(g_get_monotonic_time() - began) * 1e-6;
	return done;
}

/* How fast this machine was: not part of the result unless it is asked for, since no two runs agree
 * on it. */
static json_t *rates(const replay_job *job)
{
	kvt_replay_trace_stats stats = kvt_replay_trace_get_stats(job->source);
	double engine = MAX(job->seconds - stats.seconds, 1e-9);
	json_t *object = json_object();
	json_object_set_new(object, "engine_s", kvt_json_real(engine));
	json_object_set_new(object, "accesses_per_s",
		kvt_json_real((double)job->result.counts.accesses / engine));
	json_object_set_new(object, "reader_s", kvt_json_real(stats.seconds));
	json_object_set_new(object, "reader_rows_per_s",
		kvt_json_real((double)stats.rows / MAX(stats.seconds, 1e-9)));
	return object;
}

static json_t *rows(const replay_job *job)
{
	kvt_replay_trace_stats stats = kvt_replay_trace_get_stats(job->source);
	json_t *object = json_object();
	json_object_set_new(
		object, "masses", kvt_json_text(kvt_replay_masses_names[job->trace_spec.masses]));
	json_object_set_new(object, "read", json_integer((json_int_t)stats.rows));
	json_object_set_new(object, "recomputed", json_integer((json_int_t)stats.recomputed));
	json_object_set_new(object, "too_short", json_integer((json_int_t)stats.too_short));
	return object;
}

static json_t *provenance(const replay_job *job)
{
	const kvt_attention_header *header = kvt_attention_trace_header(job->trace);
	json_t *array = kvt_replay_setup_provenance(&job->setup);
	json_t *object = json_object();
	json_object_set_new(object, "name", kvt_json_text("attention masses"));
	json_object_set_new(object, "value", kvt_json_text(job->path));
	g_autofree char *source =
		g_strdup_printf("%s: %s", header->synthetic ? "generated" : "measured",
			header->model ? header->model : "recorded trace");
	json_object_set_new(object, "source", kvt_json_text(source));
	json_array_insert_new(array, 0, object);
	return array;
}

static json_t *to_json(const replay_job *job)
{
	const kvt_replay_settings *settings = &job->settings;
	const kvt_experiment *experiment = job->setup.experiment;
	json_t *result = kvt_json_result("replay", 1);
	json_object_set_new(result, "trace", kvt_json_text(job->path));
	json_t *layers = json_array();
	for (uint32_t i = 0; i < job->source->n_layers; i++)
		json_array_append_new(layers, json_integer(job->source->layer_numbers[i]));
	json_object_set_new(result, "layers", layers);
	json_object_set_new(
		result, "first_step", json_integer((json_int_t)job->trace_spec.first_step));
	json_object_set_new(result, "kv_heads", json_integer(job->source->n_heads));
	json_object_set_new(result, "attention",
		kvt_json_text(kvt_replay_attention_names[settings->attention]));
	json_object_set_new(result, "prefetch", kvt_json_text(settings->prefetcher->name));
	json_object_set_new(
		result, "query", kvt_json_text(kvt_replay_query_names[settings->query]));
	json_object_set_new(result, "policy", kvt_json_text(settings->policy->name));
	json_object_set_new(result, "budget", kvt_json_real(settings->budget));
	json_object_set_new(result, "hbm", kvt_json_real(settings->hbm));
	json_object_set_new(result, "moves",
		settings->moves > 0 ? kvt_json_real(settings->moves) : json_null());
	json_object_set_new(result, "mass_wanted",
		settings->target > 0 ? kvt_json_real(settings->target) : json_null());
	json_object_set_new(result, "lead_s",
		settings->has_lead ? kvt_json_real(kvt_time_to_seconds(settings->lead))
				   : json_null());
	json_object_set_new(result, "tier", kvt_json_text(job->setup.storage_name));
	json_object_set_new(result, "model",
		experiment->llm ? kvt_json_text(experiment->llm->name) : json_null());
	json_object_set_new(result, "gpu", kvt_json_text(experiment->gpu->name));
	json_object_set_new(result, "seed", json_integer(experiment->seed));
	json_t *figures = kvt_replay_to_json(settings, &job->result, job->setup.storage_name);
	json_object_update(result, figures);
	json_decref(figures);
	json_object_set_new(result, "rows", rows(job));
	if (job->given->rates)
		json_object_set_new(result, "this_machine", rates(job));
	json_object_set_new(result, "provenance", provenance(job));
	return result;
}

static gboolean print(const replay_job *job, GError **error)
{
	if (job->options->format == KVT_FORMAT_TABLE && !job->given->rates) {
		g_autoptr(kvt_table) table = kvt_replay_to_table(
			&job->settings, &job->result, job->setup.experiment->tier_name);
		return kvt_command_print_table(job->options, table, error);
	}
	json_t *result = to_json(job);
	gboolean printed = kvt_command_print_json(job->options, result, error);
	json_decref(result);
	return printed;
}

/* What a comparison has come to. */
typedef struct comparison {
	kvt_table *table;
	json_t *common;    /* what the replays have in common; NULL before the first */
	GString *left_out; /* prefetchers that cannot do with the recording */
	GError *reason;    /* of the first of them */
} comparison;

static void comparison_clear(comparison *all)
{
	kvt_table_free(all->table);
	json_decref(all->common);
	g_string_free(all->left_out, TRUE);
	g_clear_error(&all->reason);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(comparison, comparison_clear)

/* Whether the prefetcher can do with the recording; else it is noted, once. */
static gboolean fits(const replay_job *job, comparison *all)
{
	const kvt_prefetcher_ops *ops = job->settings.prefetcher;
	if (kvt_feed_check(job->source, ops, all->reason ? NULL : &all->reason))
		return TRUE;
	if (!strstr(all->left_out->str, ops->name))
		g_string_append_printf(
			all->left_out, "%s%s", all->left_out->len > 0 ? ", " : "", ops->name);
	return FALSE;
}

static gboolean compare_one(const replay_job *like, const kvt_prefetcher_ops *prefetcher,
	double budget, comparison *all, GError **error)
{
	g_auto(replay_job) job = { .options = like->options,
		.given = like->given,
		.path = like->path,
		.trace_spec = like->trace_spec,
		.settings = like->settings };
	job.settings.prefetcher = prefetcher;
	job.settings.budget = budget;
	job.settings.hbm = like->given->hbm ? MAX(like->settings.hbm, budget) : budget;
	if (!set_up(&job, error))
		return FALSE;
	if (!fits(&job, all))
		return TRUE;
	if (!replay(&job, error))
		return FALSE;
	kvt_replay_compare_add(all->table, &job.settings, &job.result);
	if (!all->common) {
		static const char *const keys[] = { "trace", "layers", "first_step", "steps",
			"kv_heads", "attention", "query", "policy", "tier", "model", "gpu", "seed",
			"provenance" };
		json_t *whole = to_json(&job);
		all->common = kvt_json_result("replay-compare", 1);
		for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
			json_object_set(all->common, keys[i], json_object_get(whole, keys[i]));
		json_decref(whole);
	}
	return TRUE;
}

/* Every prefetcher with every budget. */
static gboolean compare(const replay_job *job, GError **error)
{
	if (job->given->timeline || job->given->rates || job->given->prefetch)
		return kvt_error_usage(error,
			"--compare: replays with every prefetcher in turn, expected it without "
			"--prefetch, --timeline and --rates");
	const double asked[] = { job->settings.budget, 0 };
	const double *budgets = job->given->budget ? asked : kvt_replay_compare_budgets;
	g_auto(comparison)
		all = { .table = kvt_replay_compare_new(), .left_out = g_string_new(NULL) };
	for (const kvt_prefetcher_ops *const *ops = kvt_prefetcher_registry(); *ops; ops++)
		for (const double *budget = budgets; *budget > 0; budget++)
			if (!compare_one(job, *ops, *budget, &all, error))
				return FALSE;
	if (all.left_out->len > 0)
		g_printerr("kvtier: left out: %s (%s)\n", all.left_out->str, all.reason->message);
	if (job->options->format != KVT_FORMAT_JSON)
		return kvt_command_print_table(job->options, all.table, error);
	json_object_set_new(all.common, "replays", kvt_table_to_json(all.table));
	return kvt_command_print_json(job->options, all.common, error);
}

/* A budget that loses most of a head's mass is not kept quiet about. */
static void warn_of_diffuse_heads(const replay_job *job)
{
	const kvt_replay_result *result = &job->result;
	uint32_t n = kvt_replay_diffuse_heads(result);
	if (n == 0 || job->settings.target > 0)
		return;
	GString *layers = g_string_new(NULL);
	for (uint32_t i = 0, last = UINT32_MAX; i < result->n_rows; i++) {
		const kvt_replay_head *head = &result->by_head[i];
		if (!(head->mass_estimated < KVT_REPLAY_DIFFUSE) || head->layer == last)
			continue;
		g_string_append_printf(layers, "%s%u", layers->len > 0 ? ", " : "", head->layer);
		last = head->layer;
	}
	g_printerr("kvtier: attention is diffuse in layer %s: by %s's estimate %u of %u heads keep "
		   "less than half of their mass; a larger --budget keeps more, and with --mass "
		   "90%% such heads attend to everything\n",
		layers->str, job->settings.prefetcher->name, n, result->n_rows);
	g_string_free(layers, TRUE);
}

static gboolean carry_out(replay_job *job, GError **error)
{
	if (!kvt_replay_options_read(job->given, &job->settings, &job->trace_spec, error))
		return FALSE;
	if (job->given->compare)
		return compare(job, error);
	if (!set_up(job, error) || !replay(job, error))
		return FALSE;
	warn_of_diffuse_heads(job);
	return print(job, error) && (!job->timeline || kvt_command_write_timeline(job->timeline,
							       job->given->timeline, error));
}

static int run(int argc, char **argv, GError **error)
{
	g_auto(kvt_replay_options) given = { 0 };
	kvt_replay_options_init(&given);
	g_autofree GOptionEntry *own = kvt_replay_options_entries(&given);
	const kvt_command_syntax syntax = {
		.command = &kvt_command_replay,
		.takes = KVT_TAKES_ALL,
		.least = 1,
		.most = 1,
		.own = own,
	};
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	g_auto(replay_job)
		job = { .options = &options, .given = &given, .path = options.arguments[0] };
	carry_out(&job, error);
	return 0;
}

const kvt_command kvt_command_replay = {
	.name = "replay",
	.summary = "Run a recorded attention trace through HBM and a storage tier",
	.arguments = "TRACE.h5",
	.help = "Every step, layer and KV head of the trace accesses pages. HBM holds a budget of "
		"them,\nfilled by a prefetcher and emptied by a policy; the others are in the "
		"storage tier.\nWith exact attention all pages are attended to, missing ones on "
		"demand; with\nbudgeted attention only the selected ones, and the rest of the mass "
		"is lost. A budget\nis at least 5 pages: the first and the last 4 always belong to "
		"it.\n\nPages have the recorded model's bytes, and time is that of its attention "
		"and "
		"transfers.\nWith --model the recorded layers stand for equal shares of another "
		"model's global\nlayers, whose bytes and other work they get.\n\n"
		"  kvtier replay traces/samples/code-32k-layer7.h5 --budget 5% --prefetch oracle\n"
		"  kvtier replay trace.h5 --attention budgeted --hbm 6% --policy belady \\\n"
		"      --model llama-3-70b --gpu h100-sxm --set remote-nvme.drives=4",
	.run = run,
};
