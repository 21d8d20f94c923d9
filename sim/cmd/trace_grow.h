/* trace_grow.h: `kvtier trace grow`, an action of trace_command.c in a file of its own. */
#ifndef KVT_TRACE_GROW_H
#define KVT_TRACE_GROW_H

#include <glib.h>

/* Runs it; argv[0] is "grow". */
int kvt_trace_grow_run(int argc, char **argv, GError **error);

#endif
