/* sweep_command.c: `kvtier sweep FILE.ini`: one experiment at many points, on all processors. */
#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "sim/base/error.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/sweep_summary.h"
#include "sim/sweep/sweep_run.h"

/* The command line beside what all commands take. */
typedef struct sweep_line {
	char **over;
	char *sample, *method, *seed, *threads, *out;
	gboolean overwrite, timings;
} sweep_line;

static void sweep_line_clear(sweep_line *line)
{
	g_strfreev(line->over);
	g_free(line->sample);
	g_free(line->method);
	g_free(line->seed);
	g_free(line->threads);
	g_free(line->out);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(sweep_line, sweep_line_clear)

/* Processors that this process may run on; of several ranks each has one unless told otherwise. */
static gboolean read_threads(const char *text, bool several, unsigned *threads, GError **error)
{
	cpu_set_t set;
	double number = 1;
	if (!several && sched_getaffinity(0, sizeof set, &set) == 0)
		number = CPU_COUNT(&set);
	if (text && !kvt_command_quantity("--threads", text, KVT_UNIT_COUNT, &number, error))
		return FALSE;
	if (number < 1 || number > KVT_SWEEP_THREADS_MAX)
		return kvt_error_usage(
			error, "--threads: %s, expected from 1 to %d", text, KVT_SWEEP_THREADS_MAX);
	*threads = (unsigned)number;
	return TRUE;
}

/* Where results go when no file is asked for: one that is gone at the end. */
static char *temporary_file(GError **error)
{
	char *path = g_build_filename(g_get_tmp_dir(), "kvtier-sweep-XXXXXX", NULL);
	int fd = g_mkstemp(path);
	if (fd >= 0) {
		close(fd);
		return path;
	}
	kvt_error_failed(error, "%s: cannot make a file for results: %s", g_get_tmp_dir(),
		g_strerror(errno));
	g_free(path);
	return NULL;
}

static gboolean print_results(const kvt_command_options *options, const sweep_line *line,
	const kvt_sweep *sweep, const char *path, GError **error)
{
	const char *const *shown = sweep->work.kind->shown;
	g_autoptr(kvt_sweep_results) results = kvt_sweep_results_open(path, error);
	if (!results)
		return FALSE;
	gboolean good = line->out ? sweep_print_summary(options, results, sweep->plan, shown, error)
				  : sweep_print_rows(options, results, shown, error);
	return good && sweep_check_failed(results, sweep->plan, error);
}

static void say(const char *message)
{
	g_printerr("kvtier: %s\n", message);
}

/* Alone, or as rank 0. */
static gboolean run_sweep(const kvt_command_options *options, const sweep_line *line,
	kvt_sweep *sweep, kvt_sweep_ranks *ranks, unsigned threads, GError **error)
{
	if (!line->out && sweep->plan->n_points > SWEEP_ROWS_MAX)
		return kvt_error_usage(error,
			"%" G_GUINT64_FORMAT " points are too many to print, expected --out "
			"results.h5",
			sweep->plan->n_points);
	g_autofree char *journal = line->out ? g_strconcat(line->out, ".journal", NULL) : NULL;
	g_autofree char *path = line->out ? g_strdup(line->out) : temporary_file(error);
	if (!path)
		return FALSE;
	const kvt_sweep_options how = { .out = path,
		.journal = journal,
		.version = KVT_VERSION,
		.threads = threads,
		.say = say,
		.overwrite = line->overwrite,
		.timings = line->timings };
	gboolean good = kvt_sweep_run(sweep, ranks, &how, error) &&
			print_results(options, line, sweep, path, error);
	if (!line->out)
		unlink(path);
	return good;
}

/* One of several processes. Rank 0 alone says what went wrong, and prints. */
static gboolean run_rank(const kvt_command_options *options, const sweep_line *line,
	kvt_sweep *sweep, kvt_sweep_ranks *ranks, unsigned threads, const GError *reason,
	GError **error)
{
	if (!sweep) {
		kvt_sweep_refuse(ranks, reason->message);
		if (ranks->rank == 0)
			g_propagate_error(error, g_error_copy(reason));
		return FALSE;
	}
	if (ranks->rank > 0)
		return kvt_sweep_serve(sweep, ranks, threads, error);
	return run_sweep(options, line, sweep, ranks, threads, error);
}

static int run_line(const kvt_command_options *options, const sweep_line *line, GError **error)
{
	const kvt_sweep_request request = { .over = (const char *const *)line->over,
		.sample = line->sample,
		.method = line->method,
		.seed = line->seed };
	kvt_sweep_ranks ranks = { 0 };
	bool several = kvt_sweep_ranks_wanted();
	if (several && !kvt_sweep_ranks_begin(&ranks, error))
		return 0;
	g_autoptr(GError) reason = NULL;
	unsigned threads = 1;
	g_autoptr(kvt_sweep) sweep =
		read_threads(line->threads, several, &threads, &reason)
			? kvt_sweep_new(options->arguments[0], (const char *const *)options->sets,
				  &request, KVT_VERSION, &reason)
			: NULL;
	if (several)
		run_rank(options, line, sweep, &ranks, threads, reason, error);
	else if (sweep)
		run_sweep(options, line, sweep, NULL, threads, error);
	else
		g_propagate_error(error, g_steal_pointer(&reason));
	kvt_sweep_ranks_end(&ranks);
	return 0;
}

static int run(int argc, char **argv, GError **error)
{
	g_auto(sweep_line) line = { 0 };
	const GOptionEntry own[] = {
		{ "over", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &line.over,
			"Vary a key: v1,v2,... or low..high:n[:log]; repeated, for a grid",
			"SECTION.KEY=VALUES" },
		{ "sample", 0, 0, G_OPTION_ARG_FILENAME, &line.sample,
			"Take N points from between the values, not a grid", "N" },
		{ "method", 0, 0, G_OPTION_ARG_FILENAME, &line.method,
			"How: latin (hypercube, the default) or halton", "NAME" },
		{ "seed", 0, 0, G_OPTION_ARG_FILENAME, &line.seed, "Of the sample", "N" },
		{ "out", 0, 0, G_OPTION_ARG_FILENAME, &line.out,
			"Write results to an HDF5 file; the same command goes on after a kill",
			"FILE.h5" },
		{ "threads", 0, 0, G_OPTION_ARG_FILENAME, &line.threads,
			"Threads (all processors; under mpirun 1 a rank)", "N" },
		{ "overwrite", 0, 0, G_OPTION_ARG_NONE, &line.overwrite,
			"Begin anew, whatever the file holds", NULL },
		{ "timings", 0, 0, G_OPTION_ARG_NONE, &line.timings,
			"Add the seconds and the worker of each point, which differ every time",
			NULL },
		{ 0 },
	};
	const kvt_command_syntax syntax = {
		.command = &kvt_command_sweep,
		.takes = KVT_TAKES_ALL,
		.least = 1,
		.most = 1,
		.own = own,
	};
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	return run_line(&options, &line, error);
}

const kvt_command kvt_command_sweep = {
	.name = "sweep",
	.summary = "run one experiment at many points, on all processors or machines",
	.arguments = "FILE.ini",
	.help = "Runs the experiment at each point of a grid over the keys, or of a sample, and "
		"prints the\npoints, or writes them to a file with a column a key and a figure "
		"(--out). A point that\nfails is in it with the reason; the exit status is 1 "
		"then. The file may have all this itself,\nin a section [sweep]: \"section.key = "
		"values\", sample, method, seed. \"mpirun kvtier sweep ...\"\nruns it on many "
		"machines.\n\n"
		"  kvtier sweep FILE.ini --over fabric.nics=1,2,4 --over "
		"context.tokens=10K..10M:20:log",
	.run = run,
};
