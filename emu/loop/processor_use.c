/* processor_use.c: /proc/stat and /proc/thread-self/schedstat. */
#include "emu/loop/processor_use.h"

#include <glib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

double kvt_processors_busy(void)
{
	g_autofree char *text = NULL;
	unsigned long long user, nice, system, idle, wait;
	double now = (double)g_get_monotonic_time() * 1e-6;
	/* what was busy is counted by ticks, and what was idle exactly */
	if (!g_file_get_contents("/proc/stat", &text, NULL, NULL) ||
		sscanf(text, "cpu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait) !=
			5 ||
		idle + user == 0)
		return NAN;
	return (double)sysconf(_SC_NPROCESSORS_ONLN) * now -
	       (double)(idle + wait) / (double)sysconf(_SC_CLK_TCK);
}

double kvt_processor_waited(void)
{
	g_autofree char *text = NULL;
	if (!g_file_get_contents("/proc/thread-self/schedstat", &text, NULL, NULL))
		return 0;
	const char *second = strchr(text, ' ');
	return second ? 1e-9 * (double)g_ascii_strtoull(second, NULL, 10) : 0;
}
