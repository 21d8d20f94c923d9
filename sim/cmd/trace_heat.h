/* trace_heat.h: `kvtier trace heat`, an action of trace_command.c in a file of its own. */
#ifndef KVT_TRACE_HEAT_H
#define KVT_TRACE_HEAT_H

#include <glib.h>

/* Runs it; argv[0] is "heat". */
int kvt_trace_heat_run(int argc, char **argv, GError **error);

#endif
