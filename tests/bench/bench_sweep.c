/*
 * bench_sweep.c: how well a sweep uses two processors: a thousand configurations of some
 * milliseconds by one thread and by two, in turn. Beside it what two processors of this machine
 * can give at all: a loop on numbers in registers, by one thread and by two. Ratios of one run;
 * nothing here decides a test.
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/base/datadir.h"
#include "sim/sweep/sweep_run.h"

enum { ROUNDS = 5, SPINS = 300000000 };

static double seconds(void)
{
	return (double)g_get_monotonic_time() * 1e-6;
}

/* Seconds of the whole sweep, its file of results among them. */
static double sweep_seconds(const char *folder, unsigned threads)
{
	const char *over[] = { "context.tokens=10K..2M:250:log", "fabric.nics=1,2",
		"decode.all_reduce=eager,graph", NULL };
	const kvt_sweep_request request = { .over = over };
	g_autoptr(GError) error = NULL;
	g_autofree char *path = kvt_datadir_find("experiments/scout-400k.ini", &error);
	g_autofree char *out = g_build_filename(folder, "results.h5", NULL);
	const kvt_sweep_options options = { .out = out, .version = "bench", .threads = threads };
	double start = seconds();
	g_autoptr(kvt_sweep) sweep =
		path ? kvt_sweep_new(path, NULL, &request, "bench", &error) : NULL;
	if (!sweep || !kvt_sweep_run(sweep, NULL, &options, &error))
		g_error("%s", error->message);
	double end = seconds();
	g_unlink(out);
	return end - start;
}

static gpointer spin(gpointer arg)
{
	guint64 state = GPOINTER_TO_SIZE(arg);
	for (unsigned i = 0; i < SPINS; i++)
		state = state * 6364136223846793005u + 1442695040888963407u;
	return GSIZE_TO_POINTER(state);
}

/* Seconds of two loops, by one thread after the other or by both at once. */
static double spin_seconds(unsigned threads)
{
	double start = seconds();
	GThread *other = g_thread_new("spin", spin, GSIZE_TO_POINTER(1));
	if (threads == 1)
		g_thread_join(other);
	gpointer sum = spin(GSIZE_TO_POINTER(2));
	if (threads == 2)
		g_thread_join(other);
	return seconds() - start + (sum == NULL ? 1e-9 : 0);
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return (left > right) - (left < right);
}

int main(void)
{
	/* neighbours on a shared machine only ever add to a time */
	double efficiency[ROUNDS], least[2] = { INFINITY, INFINITY };
	g_autofree char *folder = g_dir_make_tmp("kvtier-bench-XXXXXX", NULL);
	sweep_seconds(folder, 2);
	for (unsigned i = 0; i < ROUNDS; i++) {
		double one = sweep_seconds(folder, 1), two = sweep_seconds(folder, 2);
		double alone = spin_seconds(1), both = spin_seconds(2);
		efficiency[i] = one / (2 * two);
		least[0] = MIN(least[0], one);
		least[1] = MIN(least[1], two);
		printf("1,000 configurations: %.3f s by one thread, %.3f s by two: efficiency "
		       "%.3f; "
		       "loops without memory: %.3f\n",
			one, two, efficiency[i], alone / (2 * both));
	}
	qsort(efficiency, ROUNDS, sizeof *efficiency, compare);
	printf("median efficiency of two threads: %.3f; by the least times, %.3f and %.3f s: "
	       "%.3f\n",
		efficiency[ROUNDS / 2], least[0], least[1], least[0] / (2 * least[1]));
	g_rmdir(folder);
	return 0;
}
