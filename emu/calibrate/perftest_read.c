/* perftest_read.c: starts perftest's two ends and reads the table that it prints. */
#include "emu/calibrate/perftest_read.h"

#include <glib.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

enum { TRIES = 40, WORDS = 24, GIDS = 32, RUNS = 5 };
/* Between tries of a client whose server may not listen yet. */
static const gulong PAUSE_US = 100000;

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

double kvt_perftest_read_run(const kvt_perftest_read *c, unsigned listens, const char *far,
	const char *near, const char *address)
{
	bool latency = c->depth == 1;
	g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, c->size);
	g_autofree char *count = g_strdup_printf("%u", c->count);
	g_autofree char *depth = g_strdup_printf("%u", c->depth);
	g_autofree char *port = g_strdup_printf("%u", listens);
	bool v6 = strchr(address, ':') != NULL;
	const char *devices[] = { far, near };
	char *words[2][WORDS] = { { NULL } };
	char *gids[2] = { NULL };
	for (unsigned end = 0; end < 2; end++) {
		char *const all[] = { latency ? "ib_read_lat" : "ib_read_bw", "-F", "-p", port,
			"-s", size, "-n", count, "-o", depth, "-d", (char *)devices[end] };
		unsigned n = G_N_ELEMENTS(all);
		int gid = gid_of(devices[end], v6);
		memcpy(words[end], all, sizeof(all));
		if (c->sleeps)
			words[end][n++] = "-e";
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
	double figure = 0;
	bool ran = true;
	/* where the processor was taken away while it compared its clocks, it says 0 or inf */
	for (unsigned run = 0; run < RUNS && ran && !(figure > 0); run++) {
		g_autofree char *out = run_pair(words[0], words[1]);
		ran = out != NULL;
		figure = ran ? figure_of(out, c->size, latency ? 4 : 3) : 0;
		if (!isfinite(figure))
			figure = 0;
	}
	g_free(gids[0]);
	g_free(gids[1]);
	return latency ? figure * 1e-6 : figure * (1 << 20);
}
