/*
 * request_sources.h: the readers of request traces as their sources publish them. Each streams its
 * file once and adds to a builder. How a file is recognised: request_trace.c, from its first bytes
 * alone. To add a source: a reader here, a line in the table of request_trace.c.
 */
#ifndef KVT_REQUEST_SOURCES_H
#define KVT_REQUEST_SOURCES_H

#include <stdio.h>

#include "traces/request_trace.h"

/*
 * Mooncake (github.com/kvcache-ai/Mooncake, FAST25-release/traces): a JSON object a line with
 * timestamp (ms), input_length, output_length (tokens) and hash_ids. Blocks are of 512 tokens
 * there; it is checked that lengths and ids agree on a size, and another power of two is taken
 * where they do. Ids already name prefixes in the published files; they are chained all the same.
 * Sessions are found from the blocks.
 */
kvt_request_trace *kvt_request_read_mooncake(FILE *file, const char *path, GError **error);

#endif
