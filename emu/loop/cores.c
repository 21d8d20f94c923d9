/* cores.c: affinities of threads, and whom devices interrupt. */
#include "emu/loop/cores.h"

#include <glib.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Adds, of every numbered line of /proc/interrupts (devices; the rest are the kernel's own), the
 * counts by processor. Its first line names the processors that are there. */
static void count_interrupts(kvt_cores *cores, uint64_t *counts)
{
	memset(counts, 0, KVT_CORES_MAX * sizeof(*counts));
	g_autofree char *text = NULL;
	if (!g_file_get_contents("/proc/interrupts", &text, NULL, NULL))
		return;
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	g_auto(GStrv) names = g_strsplit_set(g_strstrip(lines[0]), " \t", -1);
	unsigned ids[KVT_CORES_MAX], n = 0;
	for (char **name = names; *name && n < KVT_CORES_MAX; name++)
		if (g_str_has_prefix(*name, "CPU"))
			ids[n++] = (unsigned)strtoul(*name + 3, NULL, 10);
	for (char **line = lines + 1; *line; line++) {
		char *at = g_strchug(*line);
		if (!g_ascii_isdigit(*at) || !(at = strchr(at, ':')))
			continue;
		at++;
		for (unsigned i = 0; i < n; i++)
			counts[MIN(ids[i], KVT_CORES_MAX - 1)] += strtoull(at, &at, 10);
	}
}

void kvt_cores_init(kvt_cores *cores)
{
	cpu_set_t set;
	cores->n = 0;
	cores->placed = false;
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		for (unsigned i = 0; i < MIN(CPU_SETSIZE, KVT_CORES_MAX); i++)
			if (CPU_ISSET(i, &set))
				cores->ids[cores->n++] = i;
	count_interrupts(cores, cores->interrupts);
}

unsigned kvt_cores_compute(const kvt_cores *cores)
{
	return MAX(cores->n, 2) - 1;
}

/* All threads of the process to processors [from, from + n) of the list. */
static bool move_process(const kvt_cores *cores, unsigned from, unsigned n)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	for (unsigned i = from; i < from + n; i++)
		CPU_SET(cores->ids[i], &set);
	g_autoptr(GDir) tasks = g_dir_open("/proc/self/task", 0, NULL);
	if (!tasks || sched_setaffinity(0, sizeof(set), &set) != 0)
		return false;
	/* a thread that has just ended, or is the kernel's, does not matter */
	for (const char *name; (name = g_dir_read_name(tasks)) != NULL;)
		if (sched_setaffinity((pid_t)g_ascii_strtoll(name, NULL, 10), sizeof(set), &set) !=
			0)
			continue;
	return true;
}

bool kvt_cores_place_engine(kvt_cores *cores)
{
	if (cores->n < 2)
		return false;
	g_autofree uint64_t *now = g_new(uint64_t, KVT_CORES_MAX);
	count_interrupts(cores, now);
	unsigned most = 0;
	for (unsigned i = 1; i < cores->n; i++) {
		unsigned id = cores->ids[i], best = cores->ids[most];
		if (now[id] - cores->interrupts[id] > now[best] - cores->interrupts[best])
			most = i;
	}
	/* the engine's comes first in the list from now on */
	unsigned engine = cores->ids[most];
	cores->ids[most] = cores->ids[0];
	cores->ids[0] = engine;
	return cores->placed = move_process(cores, 0, 1);
}

void kvt_cores_place_compute(const kvt_cores *cores, pthread_t thread)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	for (unsigned i = 1; i < cores->n; i++)
		CPU_SET(cores->ids[i], &set);
	/* where it cannot be moved it stays where it can run */
	if (cores->placed)
		pthread_setaffinity_np(thread, sizeof(set), &set);
}

void kvt_cores_release(kvt_cores *cores)
{
	if (cores->placed)
		move_process(cores, 0, cores->n);
	cores->placed = false;
}
