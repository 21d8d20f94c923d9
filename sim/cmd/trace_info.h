/* trace_info.h: `kvtier trace info`, an action of trace_command.c in a file of its own. */
#ifndef KVT_TRACE_INFO_H
#define KVT_TRACE_INFO_H

#include "sim/cmd/command.h"

/* Runs it; argv[0] is "info". */
extern const kvt_command kvt_command_trace;

int kvt_trace_info_run(int argc, char **argv, GError **error);

#endif
