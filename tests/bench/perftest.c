/* perftest.c: runs perftest's programs, and what is compared with them. */
#include "tests/bench/perftest.h"

#include <stdio.h>
#include <stdlib.h>

#include "emu/loop/real_loop.h"
#include "emu/fabric/verbs_fabric.h"

const perftest_case perftest_cases[PERFTEST_CASES] = {
	{ 4096, 1500, 1 },
	{ 64 << 10, 600, 128 },
	{ 1 << 20, 128, 64 },
};

void perftest_fail(const char *what)
{
	fprintf(stderr, "bench: %s\n", what);
	exit(1);
}

gboolean perftest_wire_find(perftest_wire *wire)
{
	*wire = (perftest_wire){ .addresses = { g_getenv("RXE_IP0"), g_getenv("RXE_IP1") } };
	if (wire->addresses[0] && wire->addresses[1])
		return TRUE;
	printf("no RDMA devices here: RXE_IP0 and RXE_IP1 are not set\n");
	return FALSE;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double perftest_median(double *values, unsigned n)
{
	qsort(values, n, sizeof(*values), compare);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static char *device_of(const char *address)
{
	kvt_loop *loop = kvt_real_loop_new(NULL);
	GError *error = NULL;
	kvt_fabric *fabric =
		kvt_verbs_fabric_new(loop, &(kvt_verbs_settings){ .address = address }, &error);
	if (!fabric)
		perftest_fail(error->message);
	char *name = g_strdup(kvt_verbs_fabric_device(fabric));
	fabric->ops->free(fabric);
	kvt_loop_free(loop);
	return name;
}

/* The figure of the line that begins with the size and the count; < 0: there is none. */
static double figure_of(const char *output, const perftest_case *c)
{
	g_auto(GStrv) lines = g_strsplit(output ? output : "", "\n", -1);
	for (char **line = lines; *line; line++) {
		unsigned long bytes, count;
		double a, b, middle;
		if (sscanf(*line, "%lu %lu %lf %lf %lf", &bytes, &count, &a, &b, &middle) < 4 ||
			bytes != c->bytes || count != c->count)
			continue;
		/* peak, average; least, most, typical */
		return c->depth == 1 ? middle : b;
	}
	return -1;
}

static double run_perftest(const perftest_wire *wire, const perftest_case *c)
{
	static unsigned port = 18700;
	port++;
	g_autofree char *depth =
		c->depth == 1 ? g_strdup("") : g_strdup_printf("-t %u -o %u", c->depth, c->depth);
	g_autofree char *common = g_strdup_printf("%s -F -x 1 -p %u -s %lu -n %u %s",
		c->depth == 1 ? "ib_read_lat" : "ib_read_bw", port, (unsigned long)c->bytes,
		c->count, depth);
	g_autofree char *server =
		g_strdup_printf("timeout 60 %s -d %s >/dev/null 2>&1 &", common, wire->devices[1]);
	g_autofree char *client = g_strdup_printf(
		"%s -d %s %s 2>/dev/null", common, wire->devices[0], wire->addresses[1]);
	const char *serve_argv[] = { "/bin/sh", "-c", server, NULL };
	if (!g_spawn_sync(NULL, (char **)serve_argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, NULL,
		    NULL, NULL))
		perftest_fail("no perftest");
	for (unsigned i = 0; i < PERFTEST_TRIES; i++) {
		g_autofree char *output = NULL;
		const char *argv[] = { "/bin/sh", "-c", client, NULL };
		g_usleep(200000);
		g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &output, NULL,
			NULL, NULL);
		double figure = figure_of(output, c);
		if (figure >= 0)
			return figure;
	}
	perftest_fail("perftest says nothing");
	return 0;
}

void perftest_wire_open(perftest_wire *wire)
{
	for (unsigned i = 0; i < 2; i++)
		wire->devices[i] = device_of(wire->addresses[i]);
}

void perftest_compare(const perftest_wire *wire, const perftest_case *c, unsigned pairs,
	double (*run)(void *arg, const perftest_case *c), void *arg)
{
	double ours[PERFTEST_MOST_PAIRS], theirs[PERFTEST_MOST_PAIRS], ratios[PERFTEST_MOST_PAIRS];
	const char *unit = c->depth == 1 ? "us" : "MiB/s";
	for (unsigned i = 0; i < pairs; i++) {
		if (i % 2 == 0)
			ours[i] = run(arg, c);
		theirs[i] = run_perftest(wire, c);
		if (i % 2 == 1)
			ours[i] = run(arg, c);
		ratios[i] = ours[i] / theirs[i];
		printf("%8lu bytes, depth %3u: %9.2f %s, perftest %9.2f, ratio %.3f\n",
			(unsigned long)c->bytes, c->depth, ours[i], unit, theirs[i], ratios[i]);
		fflush(stdout);
	}
	printf("median %s %lu: %.2f %s, perftest %.2f, ratio %.3f\n",
		c->depth == 1 ? "latency" : "rate", (unsigned long)c->bytes,
		perftest_median(ours, pairs), unit, perftest_median(theirs, pairs),
		perftest_median(ratios, pairs));
}
