/* calibrate_perftest.c: one-sided reads beside perftest's (ib_read_bw, ib_read_lat), between the
 * same two devices, one after the other in one run. The node has to be on this machine: perftest
 * needs a server where the pages are. */
#include "emu/calibrate/calibrate_grid.h"
#include "emu/calibrate/calibrate_network.h"
#include "emu/calibrate/perftest_read.h"
#include "emu/fabric/verbs_fabric.h"

enum { PORT = 18600 };

typedef struct perftest_case {
	kvt_perftest_read read;
	bool long_one; /* not when it is to be quick */
} perftest_case;

/* Asleep between completions, as the tier may be: there may be one processor. */
static const perftest_case CASES[] = { { { 4096, 1, 200, true }, false },
	{ { 65536, 16, 100, true }, false }, { { 1 << 20, 4, 40, true }, true } };

/* Ours: the same, of a load that begins and ends with it. */
static double run_ours(kvt_remote_probe *probe, const kvt_perftest_read *c)
{
	g_autofree kvt_histogram *latencies = g_new(kvt_histogram, 1);
	const kvt_probe_load load = {
		.op = KVT_PROBE_READ, .size = c->size, .depth = c->depth, .least = c->count
	};
	kvt_load_result result;
	kvt_histogram_init(latencies);
	if (!kvt_remote_probe_run(probe, &load, &result, latencies, NULL))
		return 0;
	return c->depth == 1 ? (double)kvt_histogram_quantile(latencies, 0.5) * 1e-12 : result.rate;
}

void kvt_calibrate_against_perftest(kvt_calibration *calibration,
	const kvt_calibrate_settings *settings, kvt_remote_probe *probe, kvt_loop *loop,
	const char *address)
{
	g_autofree char *program = g_find_program_in_path("ib_read_bw");
	const kvt_verbs_settings there = { .address = address };
	kvt_fabric *far = program ? kvt_verbs_fabric_new(loop, &there, NULL) : NULL;
	if (!program)
		calibration->why = g_strdup("perftest is not installed");
	else if (!far)
		calibration->why = g_strdup("the node is on another machine, where perftest would "
					    "need a server");
	if (!far)
		return;
	g_autofree char *device = g_strdup(kvt_verbs_fabric_device(far));
	far->ops->free(far);
	for (unsigned i = 0; i < G_N_ELEMENTS(CASES); i++) {
		const kvt_perftest_read *c = &CASES[i].read;
		if (settings->quick && CASES[i].long_one)
			continue;
		double before = run_ours(probe, c);
		kvt_perftest_point point = { .size = c->size, .depth = c->depth };
		point.theirs =
			kvt_perftest_read_run(c, PORT + i, device, calibration->device, address);
		point.ours = (before + run_ours(probe, c)) / 2;
		if (point.theirs > 0 && point.ours > 0)
			g_array_append_val(calibration->perftest, point);
		else if (!calibration->why)
			calibration->why = g_strdup_printf(
				"%s failed", c->depth == 1 ? "ib_read_lat" : "ib_read_bw");
	}
}
