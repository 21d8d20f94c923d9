/* request_fixture.h: request traces from literal text, for tests. */
#ifndef REQUEST_FIXTURE_H
#define REQUEST_FIXTURE_H

#include "traces/request_trace.h"

/* Opens what a file of that content holds; the file is gone afterwards. NULL with an error that
 * begins with the file's name, "trace". */
kvt_request_trace *request_trace_of(const char *text, gssize length, GError **error);

/* The same, which must succeed, and which must be refused with exactly that message. */
kvt_request_trace *request_trace_good(const char *text);
void request_trace_refused(const char *text, const char *message);

/* Two traces hold the same, names included. */
void request_traces_equal(const kvt_request_trace *a, const kvt_request_trace *b);

/* The ids of a request as text, "0 1 2". A new string. */
char *request_blocks_text(const kvt_request_trace *trace, uint64_t request);

#endif
