/*
 * trace_open.h: opens an attention trace named on the command line. The reader refuses whatever it
 * can see is wrong, but the HDF5 library under it is not made for damaged metadata: on some files
 * it crashes, or never returns. So a child process opens the file first and takes the blow.
 */
#ifndef KVT_TRACE_OPEN_H
#define KVT_TRACE_OPEN_H

#include "traces/attention_trace.h"

/* kvt_attention_trace_open after a trial in a child process, which costs a few milliseconds. Call
 * it before other threads run. */
kvt_attention_trace *kvt_command_open_trace(const char *path, GError **error);

#endif
