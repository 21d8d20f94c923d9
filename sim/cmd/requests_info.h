/* requests_info.h: `kvtier requests info`: what a request trace holds. */
#ifndef KVT_REQUESTS_INFO_H
#define KVT_REQUESTS_INFO_H

#include "sim/cmd/command_options.h"
#include "traces/request_trace.h"

int kvt_requests_info_run(int argc, char **argv, GError **error);

/* Prints what info prints of a trace that was made or converted: as `file`. */
void kvt_requests_print(const kvt_command_options *options, const kvt_request_trace *trace,
	const char *file, GError **error);

#endif
