/* perftest.c: runs perftest's programs, and what is compared with them. */
#include "tests/bench/perftest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "emu/loop/real_loop.h"
#include "emu/fabric/verbs_fabric.h"
#include "tests/bench/median.h"

enum { FIGURES = 3 };

const perftest_case perftest_cases[PERFTEST_CASES] = {
	{ 4096, 1, 1500, false },
	{ 4096, 1, 1500, true },
	{ 64 << 10, 128, 600, false },
	{ 1 << 20, 64, 128, false },
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

kvt_time perftest_spin(const perftest_case *c)
{
	if (c->sleeps)
		return 0;
	return c->depth == 1 ? 10 * KVT_SECOND : 100 * KVT_MICROSECOND;
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

/* MiB/s, or at depth 1 us. */
static double run_perftest(const perftest_wire *wire, const perftest_case *c)
{
	static unsigned port = 18700;
	double figure = 0;
	/* it says inf, or 0.00, where something came between its looks at the clocks */
	for (unsigned i = 0; i < FIGURES && !(figure > 0 && isfinite(figure)); i++)
		figure = kvt_perftest_read_run(
			c, ++port, wire->devices[1], wire->devices[0], wire->addresses[1]);
	if (!(figure > 0 && isfinite(figure)))
		perftest_fail("perftest says nothing");
	return c->depth == 1 ? figure * 1e6 : figure / (1 << 20);
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
			(unsigned long)c->size, c->depth, ours[i], unit, theirs[i], ratios[i]);
		fflush(stdout);
	}
	const char *kind = c->depth > 1 ? "rate" : c->sleeps ? "wake-up" : "latency";
	unsigned best = c->depth > 1 ? pairs - 1 : 0;
	/* the medians sort them */
	double our = bench_median(ours, pairs), their = bench_median(theirs, pairs);
	double ratio = bench_median(ratios, pairs);
	printf("median %s %lu: %.2f %s, perftest %.2f, ratio %.3f, from %.3f to %.3f, best to best "
	       "%.3f\n",
		kind, (unsigned long)c->size, our, unit, their, ratio, ratios[0], ratios[pairs - 1],
		ours[best] / theirs[best]);
}
