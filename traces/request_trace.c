/*
 * request_trace.c: opens a request trace of any known source, recognised by its first bytes, and
 * checks what the header promises.
 */
#include "traces/request_trace.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sim/base/error.h"
#include "traces/request_internal.h"
#include "traces/request_sources.h"

/* What the first bytes of a file of that source look like; `head` ends with a 0. */
static bool is_mooncake(const char *head)
{
	const char *end = strchr(head, '\n');
	size_t line = end != NULL ? (size_t)(end - head) : strlen(head);
	return *head == '{' &&
	       (g_strstr_len(head, (gssize)line, "\"timestamp\"") != NULL ||
		       g_strstr_len(head, (gssize)line, "\"input_length\"") != NULL);
}

static bool is_agentic(const char *head)
{
	return *head == '{' &&
	       (strstr(head, "\"requests\"") != NULL || strstr(head, "\"block_size\"") != NULL);
}

/* Whether both are among the words of the first line. */
static bool has_columns(const char *head, const char *first, const char *second)
{
	g_autofree char *line = g_ascii_strdown(head, (gssize)strcspn(head, "\r\n"));
	return strstr(line, first) != NULL && strstr(line, second) != NULL;
}

static bool is_azure(const char *head)
{
	return has_columns(head, "timestamp", "contexttokens");
}

static bool is_burstgpt(const char *head)
{
	return has_columns(head, "timestamp", "request tokens");
}

/* One line to add a source. */
static const struct {
	bool (*is)(const char *head);
	kvt_request_trace *(*read)(FILE *file, const char *path, GError **error);
} sources[] = {
	{ is_mooncake, kvt_request_read_mooncake },
	{ is_agentic, kvt_request_read_agentic },
	{ is_azure, kvt_request_read_azure },
	{ is_burstgpt, kvt_request_read_burstgpt },
};

#define EXPECTED                                                                                   \
	"expected a request trace (compact, Mooncake JSONL, agentic JSON, Azure or BurstGPT CSV)"

static kvt_request_trace *read_source(FILE *file, const char *path, GError **error)
{
	char head[4096];
	size_t got = fread(head, 1, sizeof(head) - 1, file);
	head[got] = '\0';
	if (ferror(file)) {
		kvt_error_at(error, path, 0, "cannot be read (%s), " EXPECTED, g_strerror(errno));
		return NULL;
	}
	if (got >= 8 && memcmp(head, KVT_REQUEST_FILE_MAGIC, 8) == 0)
		return kvt_request_file_open(path, error);
	const char *start = head;
	if (g_str_has_prefix(start, "\xef\xbb\xbf"))
		start += 3;
	while (g_ascii_isspace(*start))
		start++;
	for (size_t i = 0; i < G_N_ELEMENTS(sources); i++)
		if (sources[i].is(start)) {
			rewind(file);
			return sources[i].read(file, path, error);
		}
	kvt_error_at(error, path, 0, got == 0 ? "is empty, " EXPECTED : "is not known, " EXPECTED);
	return NULL;
}

kvt_request_trace *kvt_request_trace_open(const char *path, GError **error)
{
	if (g_file_test(path, G_FILE_TEST_IS_DIR))
		return kvt_request_read_agentic_folder(path, error);
	if (!g_file_test(path, G_FILE_TEST_IS_REGULAR)) {
		bool there = g_file_test(path, G_FILE_TEST_EXISTS);
		kvt_error_at(error, path, 0,
			there ? "not a regular file, " EXPECTED
			      : "No such file or directory, " EXPECTED);
		return NULL;
	}
	FILE *file = fopen(path, "re");
	if (file == NULL) {
		kvt_error_at(error, path, 0, "%s, " EXPECTED, g_strerror(errno));
		return NULL;
	}
	kvt_request_trace *trace = read_source(file, path, error);
	fclose(file);
	return trace;
}

void kvt_request_trace_close(kvt_request_trace *trace)
{
	if (trace == NULL)
		return;
	struct kvt_request_memory *memory = trace->memory;
	if (memory->map != NULL)
		g_mapped_file_unref(memory->map);
	g_free(memory->requests);
	g_free(memory->blocks);
	g_free(memory->source);
	g_strfreev(memory->tenant_names);
	g_free(memory);
	g_free(trace);
}

/* NULL when the i-th request keeps its promises. */
static const char *broken_promise(const kvt_request_trace *trace, uint64_t i)
{
	const kvt_request *r = &trace->requests[i];
	if (r->arrival < (i > 0 ? r[-1].arrival : 0) || r->arrival > KVT_REQUEST_TIME_MAX)
		return "arrival: out of order, expected those of earlier requests to be earlier";
	if (r->think < 0 || r->latency < 0 || r->think > KVT_REQUEST_TIME_MAX ||
		r->latency > KVT_REQUEST_TIME_MAX)
		return "think, latency: out of range, expected 0 to 100 days";
	if (r->input_tokens >= KVT_REQUEST_TOKENS_MAX || r->output_tokens >= KVT_REQUEST_TOKENS_MAX)
		return "input_tokens, output_tokens: out of range, expected less than 2^30";
	if (r->first_block > trace->n_blocks || r->n_blocks > trace->n_blocks - r->first_block)
		return "first_block, n_blocks: out of range, expected blocks of the trace";
	if (r->n_blocks > 0 && (uint64_t)(r->n_blocks - 1) * trace->block_tokens >= r->input_tokens)
		return "n_blocks: too many, expected no more than input_tokens fill";
	if (r->session >= trace->n_sessions || r->tenant >= trace->n_tenants)
		return "session, tenant: out of range, expected those of the trace";
	if (r->after != KVT_REQUEST_NONE && r->after >= i)
		return "after: not an earlier request, expected one";
	if (r->joins != KVT_REQUEST_NONE && (r->joins <= i || r->joins >= trace->n_requests))
		return "joins: not a later request, expected one";
	if (r->joins != KVT_REQUEST_NONE && trace->requests[r->joins].after == KVT_REQUEST_NONE)
		return "joins: a request without after, expected one that waits for another, too";
	if ((r->flags & ~(uint32_t)KVT_REQUEST_FLAGS) != 0)
		return "flags: not known, expected those of this version";
	return NULL;
}

bool kvt_request_trace_check(const kvt_request_trace *trace, const char *path, GError **error)
{
	if (trace->n_requests >= KVT_REQUEST_NONE)
		return kvt_error_at(
			error, path, 0, "too many requests, expected fewer than 2^32 - 1");
	if ((trace->block_tokens > 0) != (trace->n_blocks > 0))
		return kvt_error_at(error, path, 0,
			"block_tokens: %u, expected a size when there are blocks, 0 when there "
			"are none",
			trace->block_tokens);
	if (trace->n_sessions > trace->n_requests || trace->n_ids > trace->n_blocks)
		return kvt_error_at(error, path, 0,
			"%u sessions and %u block ids, expected no more than requests and blocks",
			trace->n_sessions, trace->n_ids);
	for (uint64_t i = 0; i < trace->n_requests; i++) {
		const char *broken = broken_promise(trace, i);
		if (broken != NULL)
			return kvt_error_at(
				error, path, 0, "requests[%" G_GUINT64_FORMAT "].%s", i, broken);
	}
	/* Without a branch a block, so that a long trace opens at once. */
	uint32_t largest = 0;
	for (uint64_t i = 0; i < trace->n_blocks; i++)
		largest = MAX(largest, trace->blocks[i]);
	if (trace->n_blocks > 0 && largest >= trace->n_ids)
		return kvt_error_at(error, path, 0, "blocks: an id of %u, expected less than %u",
			largest, trace->n_ids);
	return true;
}
