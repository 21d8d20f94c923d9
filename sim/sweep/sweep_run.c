/* sweep_run.c: rank 0 of a sweep, or all of it: deals points, writes down what comes back. */
#include "sim/sweep/sweep_run.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <xxhash.h>

#include "sim/base/error.h"
#include "sim/base/progress.h"
#include "sim/sweep/sweep_messages.h"

enum {
	POLL_ALONE = 100 * 1000, /* us between two looks at signals and the clock */
	POLL_RANKS = 1000,       /* and at messages */
	RANGES_MOST = 1024,      /* in one message */
	SNAPSHOT_LEAST = 10 * G_USEC_PER_SEC,
	SNAPSHOT_SHARE = 50, /* of the time, one part may go into files of what is there so far */
};

typedef struct runner {
	kvt_sweep *sweep;
	kvt_sweep_ranks *ranks; /* NULL: alone */
	const kvt_sweep_options *options;
	kvt_sweep_journal *journal;
	kvt_sweep_supply *supply;
	kvt_sweep_pool *pool;
	kvt_progress *progress;
	bool *ended;     /* [ranks]; rank 0's threads are the pool's matter */
	int left;        /* ranks that have not ended */
	uint64_t before; /* points that were there at the start */
	int64_t next_snapshot;
	int signals;
	bool stopped;
} runner;

static void say(const runner *r, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void say(const runner *r, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	g_autofree char *message = g_strdup_vprintf(format, args);
	va_end(args);
	if (r->options->say)
		r->options->say(message);
}

/* --- What is swept --- */

/* All that results depend on but the files of models. */
static char *identify(const kvt_sweep *sweep, const char *version)
{
	g_autofree char *all = g_strconcat(KVT_SWEEP_SCHEMA, "\n", version, "\n",
		sweep->work.kind->name, "\n", sweep->command, "\n", sweep->experiment, NULL);
	XXH128_hash_t hash = XXH3_128bits(all, strlen(all));
	return g_strdup_printf("%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER "x",
		(guint64)hash.high64, (guint64)hash.low64);
}

static gboolean read_sweep(kvt_sweep *sweep, const char *path, const char *const *sets,
	const kvt_sweep_request *request, GError **error)
{
	sweep->config = kvt_config_load(path, error);
	if (!sweep->config)
		return FALSE;
	for (unsigned i = 0; sets && sets[i]; i++)
		if (!kvt_config_set(sweep->config, sets[i], error))
			return FALSE;
	sweep->work.kind = kvt_sweep_kind_of(sweep->config);
	sweep->plan = kvt_sweep_plan_new(sweep->config, request, sweep->work.kind->option, error);
	return sweep->plan != NULL;
}

kvt_sweep *kvt_sweep_new(const char *path, const char *const *sets,
	const kvt_sweep_request *request, const char *version, GError **error)
{
	g_autoptr(kvt_sweep) sweep = g_new0(kvt_sweep, 1);
	if (!read_sweep(sweep, path, sets, request, error))
		return NULL;
	sweep->models = kvt_model_store_new();
	sweep->experiment = kvt_config_text(sweep->config);
	g_autofree char *text = kvt_sweep_plan_text(sweep->plan);
	sweep->command = g_strdup_printf("kvtier sweep %s %s", path, text);
	sweep->identity = identify(sweep, version);
	sweep->work.config = sweep->config;
	sweep->work.plan = sweep->plan;
	sweep->work.models = sweep->models;
	if (sweep->work.kind->begin)
		sweep->work.shared = sweep->work.kind->begin();
	return g_steal_pointer(&sweep);
}

void kvt_sweep_free(kvt_sweep *sweep)
{
	if (!sweep)
		return;
	if (sweep->work.shared)
		sweep->work.kind->end(sweep->work.shared);
	kvt_sweep_plan_free(sweep->plan);
	kvt_config_free(sweep->config);
	kvt_model_store_unref(sweep->models);
	g_free(sweep->experiment);
	g_free(sweep->command);
	g_free(sweep->identity);
	g_free(sweep);
}

/* --- The file --- */

static gboolean write_file(runner *r, GError **error)
{
	const kvt_sweep_about about = { .version = r->options->version,
		.command = r->sweep->command,
		.experiment = r->sweep->experiment,
		.identity = r->sweep->identity,
		.timings = r->options->timings };
	int64_t start = g_get_monotonic_time();
	if (!kvt_sweep_journal_sync(r->journal, error) ||
		!kvt_sweep_file_write(r->options->out, r->sweep->plan, r->journal, &about, error))
		return FALSE;
	int64_t end = g_get_monotonic_time();
	r->next_snapshot = end + MAX(SNAPSHOT_LEAST, (end - start) * SNAPSHOT_SHARE);
	return TRUE;
}

/* Whether what is at the path may be gone on with. */
static gboolean check_out(runner *r, const kvt_sweep_found *found, GError **error)
{
	const char *out = r->options->out;
	if (!found->exists || r->options->overwrite)
		return TRUE;
	if (!found->same)
		return kvt_error_usage(error,
			"%s has the results of another sweep, expected --overwrite or another "
			"--out",
			out);
	if (found->done > kvt_sweep_journal_done(r->journal) && found->done < found->points)
		return kvt_error_usage(error,
			"%s has %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
			" points and its journal is gone, expected that, or --overwrite",
			out, found->done, found->points);
	return TRUE;
}

/* Sets r->journal where there is something to do. */
static gboolean open_journal(runner *r, GError **error)
{
	const kvt_sweep_options *options = r->options;
	const kvt_sweep *sweep = r->sweep;
	kvt_sweep_found found = { 0 };
	bool fresh = options->overwrite || !options->journal;
	if (!fresh && !kvt_sweep_file_look(options->out, sweep->identity, &found, error))
		return FALSE;
	if (found.same && found.done == found.points)
		return TRUE;
	r->journal = kvt_sweep_journal_open(options->journal, sweep->identity,
		sweep->plan->n_points, options->overwrite, error);
	if (!r->journal)
		return FALSE;
	r->before = kvt_sweep_journal_done(r->journal);
	if (check_out(r, &found, error))
		return TRUE;
	kvt_sweep_journal_close(g_steal_pointer(&r->journal), r->before == 0);
	return FALSE;
}

/* --- Points out, results in --- */

static void fill_supply(runner *r)
{
	const uint64_t n = r->sweep->plan->n_points;
	kvt_sweep_range range = { 0 };
	for (uint64_t point = 0; point < n; point++) {
		if (!kvt_sweep_journal_has(r->journal, point)) {
			range.first = range.count > 0 ? range.first : point;
			range.count++;
			continue;
		}
		kvt_sweep_supply_add(r->supply, range);
		range.count = 0;
	}
	kvt_sweep_supply_add(r->supply, range);
	kvt_sweep_supply_end(r->supply, false);
}

static gboolean take_results(runner *r, const void *frames, size_t size, GError **error)
{
	if (size > 0 && !kvt_sweep_journal_append(r->journal, frames, size, error))
		return FALSE;
	kvt_progress_update(r->progress, kvt_sweep_journal_done(r->journal) - r->before);
	return TRUE;
}

/* Points for a rank: what it asks for, but no more than half of its share of what is left, so that
 * all end at the same time. */
static gboolean deal(runner *r, int to, uint64_t wanted, GError **error)
{
	g_autoptr(GByteArray) message = kvt_sweep_message_new(KVT_SWEEP_RANGES, 0);
	uint64_t share = kvt_sweep_supply_left(r->supply) / (2 * (uint64_t)r->ranks->size);
	uint64_t most = MIN(wanted, MAX(share, 1));
	for (unsigned i = 0; i < RANGES_MOST && most > 0; i++) {
		kvt_sweep_range range = kvt_sweep_supply_cut(r->supply, most);
		if (range.count == 0)
			break;
		most -= range.count;
		g_byte_array_append(message, (const guint8 *)&range, sizeof range);
	}
	return kvt_sweep_ranks_send(r->ranks, to, message, error);
}

static void end_rank(runner *r, int rank)
{
	r->left -= !r->ended[rank];
	r->ended[rank] = true;
}

/* A rank that reads something else, say because its files are others. */
static gboolean check_identity(runner *r, int from, const void *body, size_t size, GError **error)
{
	if (size == strlen(r->sweep->identity) && memcmp(body, r->sweep->identity, size) == 0)
		return TRUE;
	say(r,
		"rank %d reads another experiment or is another kvtier, and runs "
		"nothing",
		from);
	g_autoptr(GByteArray) stop = kvt_sweep_message_new(KVT_SWEEP_STOP, 0);
	end_rank(r, from);
	return kvt_sweep_ranks_send(r->ranks, from, stop, error);
}

static gboolean take_message(runner *r, int from, const GByteArray *message, GError **error)
{
	const void *body;
	size_t size;
	const kvt_sweep_message_head *head = kvt_sweep_message_read(message, &body, &size);
	switch (head->kind) {
	case KVT_SWEEP_HELLO:
		if (!check_identity(r, from, body, size, error))
			return FALSE;
		break;
	case KVT_SWEEP_RESULTS:
		if (!take_results(r, body, size, error))
			return FALSE;
		break;
	case KVT_SWEEP_REFUSED:
		say(r, "rank %d runs nothing: %.*s", from, (int)size, (const char *)body);
		end_rank(r, from);
		break;
	default:
		end_rank(r, from);
	}
	return head->wanted == 0 || r->ended[from] || deal(r, from, head->wanted, error);
}

static gboolean take_messages(runner *r, GError **error)
{
	while (r->ranks) {
		GError *failed = NULL;
		int from;
		g_autoptr(GByteArray) message = kvt_sweep_ranks_receive(r->ranks, &from, &failed);
		if (failed) {
			g_propagate_error(error, failed);
			return FALSE;
		}
		if (!message)
			break;
		if (!take_message(r, from, message, error))
			return FALSE;
	}
	return TRUE;
}

/* Nothing that has not begun is begun any more. */
static void stop(runner *r)
{
	kvt_sweep_supply_end(r->supply, true);
	if (r->ranks && !r->stopped)
		kvt_sweep_refuse(r->ranks, "");
	r->stopped = true;
}

static void look_for_signals(runner *r)
{
	struct signalfd_siginfo signal;
	if (r->signals < 0 || r->stopped || read(r->signals, &signal, sizeof signal) < 0)
		return;
	say(r, "stopping: points that run are waited for");
	stop(r);
}

static gboolean run_points(runner *r, GError **error)
{
	while (r->left > 0 || !kvt_sweep_pool_ended(r->pool)) {
		g_autoptr(GByteArray) frames =
			kvt_sweep_pool_take(r->pool, r->ranks ? POLL_RANKS : POLL_ALONE);
		if (frames && !take_results(r, frames->data, frames->len, error))
			return FALSE;
		/* without threads left, waiting for results is no pause */
		if (r->left > 0 && !frames && kvt_sweep_pool_ended(r->pool))
			g_usleep(POLL_RANKS);
		if (!take_messages(r, error))
			return FALSE;
		look_for_signals(r);
		if (g_get_monotonic_time() > r->next_snapshot && !write_file(r, error))
			return FALSE;
	}
	return TRUE;
}

/* --- All of it --- */

/* Signals wait for look_for_signals, in all threads. */
static void hold_signals(runner *r, sigset_t *held)
{
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, held);
	r->signals = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

static gboolean run_threads(runner *r, GError **error)
{
	fill_supply(r);
	r->pool = kvt_sweep_pool_new(&r->sweep->work, r->supply, r->options->threads, 0, error);
	if (!r->pool)
		return FALSE;
	g_autoptr(GError) reason = NULL;
	gboolean good = run_points(r, &reason);
	if (!good && r->left > 0) {
		/* nobody is left whom the others could send their results to */
		say(r, "%s", reason->message);
		r->ranks->ops->abort();
	}
	if (!good)
		kvt_sweep_supply_end(r->supply, true);
	kvt_sweep_pool_free(r->pool);
	if (!good)
		g_propagate_error(error, g_steal_pointer(&reason));
	if (!good || !r->stopped)
		return good;
	write_file(r, NULL);
	return kvt_error_failed(error,
		"stopped at %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " points%s",
		kvt_sweep_journal_done(r->journal), r->sweep->plan->n_points,
		r->options->journal ? ": the same command goes on from there" : "");
}

static gboolean run(runner *r, GError **error)
{
	const uint64_t points = r->sweep->plan->n_points;
	if (r->before > 0)
		say(r, "%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " points are there already",
			r->before, points);
	/* so that there is a file that opens, whatever happens from here */
	if (!write_file(r, error))
		return FALSE;
	r->progress = kvt_progress_new("sweep", points - r->before);
	sigset_t held;
	hold_signals(r, &held);
	gboolean good = run_threads(r, error);
	kvt_progress_free(r->progress);
	if (r->signals >= 0)
		close(r->signals);
	sigprocmask(SIG_SETMASK, &held, NULL);
	if (!good || kvt_sweep_journal_done(r->journal) == points)
		return good && write_file(r, error);
	return kvt_error_failed(error,
		"%" G_GUINT64_FORMAT " points were lost with the ranks that had them: the same "
		"command runs them again",
		points - kvt_sweep_journal_done(r->journal));
}

gboolean kvt_sweep_run(
	kvt_sweep *sweep, kvt_sweep_ranks *ranks, const kvt_sweep_options *options, GError **error)
{
	runner r = { .sweep = sweep, .ranks = ranks, .options = options, .signals = -1 };
	gboolean good = open_journal(&r, error);
	if (!r.journal) {
		if (ranks)
			kvt_sweep_refuse(ranks, "");
		return good;
	}
	r.left = ranks ? ranks->size - 1 : 0;
	r.ended = g_new0(bool, r.left + 1);
	r.supply = kvt_sweep_supply_new();
	good = run(&r, error);
	kvt_sweep_supply_free(r.supply);
	g_free(r.ended);
	kvt_sweep_journal_close(r.journal, good);
	return good;
}
