/* calibrate_perftest.c: one-sided reads beside perftest's (ib_read_bw, ib_read_lat), between the
 * same two devices, one after the other in one run. The node has to be on this machine: perftest
 * needs a server where the pages are. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "emu/calibrate/calibrate_grid.h"
#include "emu/calibrate/calibrate_network.h"
#include "emu/fabric/verbs_fabric.h"

enum { PORT = 18600, TRIES = 40, WORDS = 24, GIDS = 32 };
/* Between tries of a client whose server may not listen yet. */
static const gulong PAUSE_US = 100000;

typedef struct perftest_case {
	uint64_t size;
	unsigned depth, count;
	bool long_one; /* not when it is to be quick */
} perftest_case;

static const perftest_case CASES[] = { { 4096, 1, 200, false }, { 65536, 16, 100, false },
	{ 1 << 20, 4, 40, true } };

/* A figure of its table: the n-th word of the line that begins with the size. */
static double figure_of(const char *text, uint64_t size, unsigned column)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	for (char **line = lines; *line; line++) {
		g_auto(GStrv) words = g_strsplit_set(g_strstrip(*line), " \t", -1);
		unsigned n = 0;
		for (char **word = words; *word; word++) {
			if (**word == '\0')
				continue;
			double value = g_ascii_strtod(*word, NULL);
			if (n == 0 && value != (double)size)
				break;
			if (n++ == column)
				return value;
		}
	}
	return 0;
}

/* The device's RoCE v2 address of that family among its own; -1: none, as on InfiniBand. */
static int gid_of(const char *device, bool v6)
{
	for (int i = 0; i < GIDS; i++) {
		g_autofree char *gid = NULL, *type = NULL;
		g_autofree char *gid_path =
			g_strdup_printf("/sys/class/infiniband/%s/ports/1/gids/%d", device, i);
		g_autofree char *type_path = g_strdup_printf(
			"/sys/class/infiniband/%s/ports/1/gid_attrs/types/%d", device, i);
		if (!g_file_get_contents(gid_path, &gid, NULL, NULL) ||
			!g_file_get_contents(type_path, &type, NULL, NULL) ||
			!g_str_has_prefix(type, "RoCE v2"))
			continue;
		bool v4 = g_str_has_prefix(gid, "0000:0000:0000:0000:0000:ffff:");
		if (v6 ? !v4 && !g_str_has_prefix(gid, "fe80:") &&
					!g_str_has_prefix(gid, "0000:0000:0000:0000:")
		       : v4)
			return i;
	}
	return -1;
}

/* Runs the client, after the server; its output, or NULL. */
static char *run_pair(char **server, char **client)
{
	GPid pid;
	char *out = NULL;
	int status = -1;
	if (!g_spawn_async(NULL, server, NULL,
		    G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL |
			    G_SPAWN_STDERR_TO_DEV_NULL,
		    NULL, NULL, &pid, NULL))
		return NULL;
	for (unsigned i = 0; i < TRIES && status != 0; i++) {
		g_usleep(PAUSE_US);
		g_clear_pointer(&out, g_free);
		if (!g_spawn_sync(NULL, client, NULL,
			    G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &out,
			    NULL, &status, NULL) ||
			waitpid(pid, NULL, WNOHANG) == pid) {
			pid = status == 0 ? 0 : pid;
			break;
		}
	}
	if (pid != 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	if (status != 0)
		g_clear_pointer(&out, g_free);
	return out;
}

/* bytes/s, or at depth 1 seconds; 0: it failed. */
static double run_perftest(
	const perftest_case *c, unsigned i, const char *far, const char *near, const char *address)
{
	bool latency = c->depth == 1;
	g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, c->size);
	g_autofree char *count = g_strdup_printf("%u", c->count);
	g_autofree char *depth = g_strdup_printf("%u", c->depth);
	g_autofree char *port = g_strdup_printf("%d", PORT + (int)i);
	bool v6 = strchr(address, ':') != NULL;
	const char *devices[] = { far, near };
	char *words[2][WORDS] = { { NULL } };
	char *gids[2] = { NULL };
	for (unsigned end = 0; end < 2; end++) {
		/* asleep between completions, as the tier may be: there may be one processor */
		char *const all[] = { latency ? "ib_read_lat" : "ib_read_bw", "-F", "-e", "-p",
			port, "-s", size, "-n", count, "-o", depth, "-d", (char *)devices[end] };
		unsigned n = G_N_ELEMENTS(all);
		int gid = gid_of(devices[end], v6);
		memcpy(words[end], all, sizeof(all));
		if (!latency) {
			words[end][n++] = "-t";
			words[end][n++] = depth;
		}
		if (gid >= 0) {
			gids[end] = g_strdup_printf("%d", gid);
			words[end][n++] = "-x";
			words[end][n++] = gids[end];
		}
		words[end][n] = end == 1 ? (char *)address : NULL;
	}
	g_autofree char *out = run_pair(words[0], words[1]);
	g_free(gids[0]);
	g_free(gids[1]);
	double figure = out ? figure_of(out, c->size, latency ? 4 : 3) : 0;
	return latency ? figure * 1e-6 : figure * (1 << 20);
}

/* Ours: the same, of a load that begins and ends with it. */
static double run_ours(kvt_remote_probe *probe, const perftest_case *c)
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
		const perftest_case *c = &CASES[i];
		if (settings->quick && c->long_one)
			continue;
		double before = run_ours(probe, c);
		kvt_perftest_point point = { .size = c->size, .depth = c->depth };
		point.theirs = run_perftest(c, i, device, calibration->device, address);
		point.ours = (before + run_ours(probe, c)) / 2;
		if (point.theirs > 0 && point.ours > 0)
			g_array_append_val(calibration->perftest, point);
		else if (!calibration->why)
			calibration->why = g_strdup_printf(
				"%s failed", c->depth == 1 ? "ib_read_lat" : "ib_read_bw");
	}
}
