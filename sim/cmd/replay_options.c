/* replay_options.c: options of `kvtier replay` and their values. */
#include "sim/cmd/replay_options.h"

#include <string.h>

#include "sim/base/error.h"
#include "sim/cmd/command_options.h"
#include "sim/engine/replay_feed.h"

/* "what it is: NAME, NAME (the default)..."; the first that is named is the default. A new string.
 */
static char *list_names(const char *what, const char *fallback, const char *(*name)(unsigned index))
{
	GString *text = g_string_new(what);
	for (unsigned i = 0; name(i); i++)
		g_string_append_printf(text, "%s %s%s", i > 0 ? "," : ":", name(i),
			g_str_equal(name(i), fallback) ? " (the default)" : "");
	return g_string_free(text, FALSE);
}

static const char *prefetcher_name(unsigned index)
{
	const kvt_prefetcher_ops *ops = kvt_prefetcher_registry()[index];
	return ops ? ops->name : NULL;
}

static const char *policy_name(unsigned index)
{
	const kvt_policy_ops *ops = kvt_policy_registry()[index];
	return ops ? ops->name : NULL;
}

void kvt_replay_options_init(kvt_replay_options *given)
{
	*given = (kvt_replay_options){ .layer = -1, .depth = 4, .seed = 1 };
	given->prefetchers = list_names("what is in HBM ahead", "last-step", prefetcher_name);
	given->policies = list_names("what leaves HBM", "lru", policy_name);
}

void kvt_replay_options_clear(kvt_replay_options *given)
{
	char **texts[] = { &given->steps, &given->budget, &given->hbm, &given->prefetch,
		&given->policy, &given->attention, &given->masses, &given->query, &given->moves,
		&given->mass, &given->lead, &given->tier, &given->model, &given->gpu,
		&given->system, &given->window, &given->timeline, &given->prefetchers,
		&given->policies };
	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
		g_clear_pointer(texts[i], g_free);
}
GOptionEntry *kvt_replay_options_entries(kvt_replay_options *given)
{
	const GOptionEntry own[] = {
		{ "layer", 0, 0, G_OPTION_ARG_INT, &given->layer,
			"replay one layer; otherwise all that were recorded", "N" },
		{ "steps", 0, 0, G_OPTION_ARG_FILENAME, &given->steps,
			"replay the steps A .. B - 1 of the trace", "A:B" },
		{ "budget", 0, 0, G_OPTION_ARG_FILENAME, &given->budget,
			"pages selected, of those present, a layer and KV head (2%)", "SHARE" },
		{ "hbm", 0, 0, G_OPTION_ARG_FILENAME, &given->hbm,
			"pages that HBM holds, likewise (the budget)", "SHARE" },
		{ "prefetch", 0, 0, G_OPTION_ARG_FILENAME, &given->prefetch, given->prefetchers,
			"NAME" },
		{ "query", 0, 0, G_OPTION_ARG_FILENAME, &given->query,
			"the newest one that plans may use: current, the step's own (the default), "
			"or previous",
			"NAME" },
		{ "moves", 0, 0, G_OPTION_ARG_FILENAME, &given->moves,
			"pages moved ahead a step, at most, of those present (any number)",
			"SHARE" },
		{ "mass", 0, 0, G_OPTION_ARG_FILENAME, &given->mass,
			"mass wanted: the selection ends when the prefetcher thinks it has it, and "
			"where the budget is not enough all pages are attended to",
			"SHARE" },
		{ "policy", 0, 0, G_OPTION_ARG_FILENAME, &given->policy, given->policies, "NAME" },
		{ "attention", 0, 0, G_OPTION_ARG_FILENAME, &given->attention,
			"exact: all pages, on demand (the default); budgeted: the selection",
			"NAME" },
		{ "dense-prompt", 0, 0, G_OPTION_ARG_NONE, &given->dense_prompt,
			"budgeted attention, but to all pages while a prompt is read", NULL },
		{ "masses", 0, 0, G_OPTION_ARG_FILENAME, &given->masses,
			"recorded, recomputed from queries and keys, or auto: where need be",
			"NAME" },
		{ "tier", 0, 0, G_OPTION_ARG_FILENAME, &given->tier,
			"where pages are stored (remote-nvme)", "NAME" },
		{ "model", 0, 0, G_OPTION_ARG_FILENAME, &given->model,
			"take bytes and times of this model instead of the recorded one's",
			"NAME" },
		{ "gpu", 0, 0, G_OPTION_ARG_FILENAME, &given->gpu, "the GPU (l40s)", "NAME" },
		{ "system", 0, 0, G_OPTION_ARG_FILENAME, &given->system,
			"an experiment file that describes the system (testbed-l40s.ini)",
			"FILE.ini" },
		{ "depth", 0, 0, G_OPTION_ARG_INT, &given->depth,
			"layers' prefetches under way at once (4)", "N" },
		{ "lead", 0, 0, G_OPTION_ARG_FILENAME, &given->lead,
			"time between a layer's attention and that of the next step, attention "
			"aside, in which its prefetch can arrive (the model's other work)",
			"TIME" },
		{ "window", 0, 0, G_OPTION_ARG_FILENAME, &given->window,
			"staging window of demand fetches (1MiB)", "SIZE" },
		{ "seed", 0, 0, G_OPTION_ARG_INT64, &given->seed, "of random numbers (1)", "N" },
		{ "timeline", 0, 0, G_OPTION_ARG_FILENAME, &given->timeline,
			"write what happened when, for ui.perfetto.dev", "FILE.json" },
		{ "compare", 0, 0, G_OPTION_ARG_NONE, &given->compare,
			"every prefetcher with budgets of 1%, 2%, 5% and 10%, or with --budget; "
			"what scores pages is left out where no keys were recorded",
			NULL },
		{ "rates", 0, 0, G_OPTION_ARG_NONE, &given->rates,
			"add how fast this machine replayed", NULL },
		{ 0 },
	};
	return g_memdup2(own, sizeof(own));
}

static gboolean read_steps(const char *text, kvt_replay_trace_spec *spec, GError **error)
{
	g_auto(GStrv) parts = g_strsplit(text, ":", -1);
	guint64 first = 0, end = 0;
	if (g_strv_length(parts) == 2 &&
		(*parts[0] == '\0' ||
			g_ascii_string_to_unsigned(parts[0], 10, 0, INT64_MAX, &first, NULL)) &&
		(*parts[1] == '\0' ||
			g_ascii_string_to_unsigned(parts[1], 10, 1, INT64_MAX, &end, NULL))) {
		spec->first_step = first;
		spec->end_step = end;
		return TRUE;
	}
	g_autofree char *quoted = kvt_error_quote(text);
	return kvt_error_usage(
		error, "--steps: %s, expected a range FIRST:END such as 0:64", quoted);
}

static gboolean read_share(const char *option, const char *text, double *share, GError **error)
{
	if (!kvt_command_quantity(option, text, KVT_UNIT_SHARE, share, error))
		return FALSE;
	if (*share > 0 && *share <= 1)
		return TRUE;
	return kvt_error_usage(
		error, "%s: %s, expected a share above 0%% and up to 100%%", option, text);
}

static gboolean read_shares(
	const kvt_replay_options *given, kvt_replay_settings *settings, GError **error)
{
	if (!read_share("--budget", given->budget ? given->budget : "2%", &settings->budget, error))
		return FALSE;
	settings->hbm = settings->budget;
	if (given->moves && !read_share("--moves", given->moves, &settings->moves, error))
		return FALSE;
	if (given->mass && !read_share("--mass", given->mass, &settings->target, error))
		return FALSE;
	if (given->hbm && !read_share("--hbm", given->hbm, &settings->hbm, error))
		return FALSE;
	if (settings->hbm >= settings->budget)
		return TRUE;
	return kvt_error_usage(error,
		"--hbm: %s is less than the budget, expected at least as much, since what is "
		"selected has to fit",
		given->hbm);
}

static gboolean read_names(
	const kvt_replay_options *given, kvt_replay_settings *settings, int *masses, GError **error)
{
	settings->prefetcher =
		kvt_prefetcher_find(given->prefetch ? given->prefetch : "last-step", error);
	if (!settings->prefetcher) {
		g_prefix_error(error, "--prefetch: ");
		return FALSE;
	}
	settings->policy = kvt_policy_find(given->policy ? given->policy : "lru", error);
	if (!settings->policy) {
		g_prefix_error(error, "--policy: ");
		return FALSE;
	}
	return kvt_command_choice("--query", given->query ? given->query : "current",
		       kvt_replay_query_names, &settings->query, error) &&
	       kvt_command_choice("--attention", given->attention ? given->attention : "exact",
		       kvt_replay_attention_names, &settings->attention, error) &&
	       kvt_command_choice("--masses", given->masses ? given->masses : "auto",
		       kvt_replay_masses_names, masses, error);
}

gboolean kvt_replay_options_read(const kvt_replay_options *given, kvt_replay_settings *settings,
	kvt_replay_trace_spec *trace, GError **error)
{
	double window, lead = 0;
	trace->layer = given->layer;
	if (given->layer < -1)
		return kvt_error_usage(
			error, "--layer: %d, expected the number of a layer", given->layer);
	if (given->seed < 0)
		return kvt_error_usage(error, "--seed: expected a number from 0");
	settings->seed = (uint64_t)given->seed;
	if (given->depth < 1)
		return kvt_error_usage(error, "--depth: %d, expected at least 1", given->depth);
	settings->prefetch_depth = (unsigned)given->depth;
	if (!read_shares(given, settings, error) ||
		!read_names(given, settings, &trace->masses, error) ||
		!kvt_command_quantity("--window", given->window ? given->window : "1MiB",
			KVT_UNIT_BYTES, &window, error))
		return FALSE;
	settings->window_bytes = (uint64_t)window;
	if (given->lead &&
		!kvt_command_quantity("--lead", given->lead, KVT_UNIT_TIME, &lead, error))
		return FALSE;
	settings->has_lead = given->lead != NULL;
	settings->lead = kvt_time_from_seconds(lead);
	settings->dense_prompt = given->dense_prompt;
	if (given->dense_prompt && settings->attention == KVT_REPLAY_EXACT)
		return kvt_error_usage(error,
			"--dense-prompt: exact attention is dense everywhere, expected it with "
			"--attention budgeted");
	return !given->steps || read_steps(given->steps, trace, error);
}
