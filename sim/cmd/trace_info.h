/* trace_info.h: `kvtier trace info`, an action of trace_command.c in a file of its own. */
#ifndef KVT_TRACE_INFO_H
#define KVT_TRACE_INFO_H

#include <glib.h>

/* Runs it; argv[0] is "info". */
int kvt_trace_info_run(int argc, char **argv, GError **error);

#endif
