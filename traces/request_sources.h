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

/*
 * Agentic coding traces (github.com/callanjfox/kv-cache-tester): a JSON object with block_size,
 * hash_id_scope ("local": ids are the file's own) and requests. Each has t (s since the trace
 * began), in and out (tokens), hash_ids of its full blocks, and mostly api_time (s it took) and
 * think_time (s since the end of the one before). Among them are sub-agents with requests of their
 * own: t is when the sub-agent ended there, t less duration_ms when it began, and its requests' t
 * counts from then. Ids name text, whatever model was asked. All traces begin at 0. A trace is a
 * session, and so is each sub-agent. Who waits for whom: request_agentic.h.
 */
kvt_request_trace *kvt_request_read_agentic(FILE *file, const char *path, GError **error);

/* The same for every *.json of a folder, in the order of names. */
kvt_request_trace *kvt_request_read_agentic_folder(const char *path, GError **error);

/*
 * Azure's LLM inference traces (github.com/Azure/AzurePublicDataset, 2023 and 2024): a CSV with
 * TIMESTAMP (a date and time), ContextTokens and GeneratedTokens. Each request is a session.
 */
kvt_request_trace *kvt_request_read_azure(FILE *file, const char *path, GError **error);

/*
 * BurstGPT (github.com/HPMLL/BurstGPT): a CSV with Timestamp (s), Model, Request tokens, Response
 * tokens (0 where the request failed), Total tokens, Log Type, and in some files Session ID. A log
 * type is a tenant.
 */
kvt_request_trace *kvt_request_read_burstgpt(FILE *file, const char *path, GError **error);

#endif
