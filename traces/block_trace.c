/* block_trace.c: opens a block trace of any form, reads and writes libCacheSim's, and takes the
 * blocks of request traces. */
#include "traces/block_trace.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sim/base/error.h"
#include "traces/block_trace_internal.h"

#define EXPECTED                                                                                   \
	"expected a block trace (oracleGeneral of libCacheSim, text of ids, or a request trace)"

enum { ORACLE_BYTES = 24, PEEKED_RECORDS = 64 };

const char *const kvt_block_source_names[] = { "auto", "oracle", "text", "requests", NULL };

/* What 24 bytes of oracleGeneral say; hosts are little endian. */
typedef struct oracle_record {
	uint32_t time;
	uint64_t id;
	uint32_t bytes;
	int64_t next;
} __attribute__((packed)) oracle_record;
G_STATIC_ASSERT(sizeof(oracle_record) == ORACLE_BYTES);
G_STATIC_ASSERT(G_BYTE_ORDER == G_LITTLE_ENDIAN);

static kvt_block_trace *read_oracle(
	const char *data, size_t length, const char *path, GError **error)
{
	if (length % ORACLE_BYTES != 0) {
		kvt_error_at(error, path, 0,
			"%zu bytes, expected records of 24 bytes (oracleGeneral): it is cut short, "
			"or of another form",
			length);
		return NULL;
	}
	kvt_block_builder builder;
	kvt_block_builder_init(&builder, length / ORACLE_BYTES);
	for (size_t at = 0; at < length; at += ORACLE_BYTES) {
		oracle_record record;
		memcpy(&record, data + at, sizeof(record));
		if (!kvt_block_builder_add(&builder, record.id, record.bytes))
			break;
	}
	return kvt_block_builder_finish(&builder, path, true, error);
}

/* Times that do not fall, and next accesses that are none or lie ahead. */
static bool looks_like_oracle(const char *data, size_t length)
{
	uint32_t time = 0;
	for (size_t i = 0; i < MIN(length / ORACLE_BYTES, PEEKED_RECORDS); i++) {
		oracle_record record;
		memcpy(&record, data + i * ORACLE_BYTES, sizeof(record));
		if (record.time < time || record.next < -1)
			return false;
		time = record.time;
	}
	return length >= ORACLE_BYTES && length % ORACLE_BYTES == 0;
}

static kvt_block_trace *read_requests(const char *path, GError **error)
{
	g_autoptr(kvt_request_trace) requests = kvt_request_trace_open(path, error);
	if (requests == NULL)
		return NULL;
	uint64_t n = 0;
	bool in_order = true;
	for (uint64_t i = 0; i < requests->n_requests; i++) {
		const kvt_request *request = &requests->requests[i];
		in_order &= request->n_blocks == 0 || request->first_block == n;
		n += request->n_blocks;
	}
	if (n == 0 || n >= KVT_BLOCK_ACCESSES_MAX) {
		kvt_error_at(error, path, 0,
			n == 0 ? "says nothing of blocks, expected a request trace with ids of them"
			       : "too many accesses, expected fewer than 2^32 - 1");
		return NULL;
	}
	kvt_block_trace *trace = g_new0(kvt_block_trace, 1);
	trace->memory = g_new0(struct kvt_block_trace_memory, 1);
	trace->n_accesses = n;
	trace->n_blocks = requests->n_ids;
	trace->blocks = requests->blocks;
	if (in_order) {
		trace->memory->requests = g_steal_pointer(&requests);
		return trace;
	}
	trace->blocks = trace->memory->blocks = g_new(uint32_t, n);
	uint32_t *to = trace->memory->blocks;
	for (uint64_t i = 0; i < requests->n_requests; i++) {
		const kvt_request *request = &requests->requests[i];
		memcpy(to, requests->blocks + request->first_block,
			request->n_blocks * sizeof(*to));
		to += request->n_blocks;
	}
	return trace;
}

/* Ids and sizes are printed; 0 and other control characters tell a binary file. */
static bool looks_like_text(const char *data, size_t length)
{
	for (size_t i = 0; i < MIN(length, 4096); i++)
		if ((uint8_t)data[i] < ' ' && !g_ascii_isspace(data[i]))
			return false;
	return true;
}

static bool begins(const char *data, size_t length, const char *with)
{
	size_t n = strlen(with);
	return length >= n && memcmp(data, with, n) == 0;
}

/* Request traces are JSON, a table of times, or compact. */
static bool looks_like_requests(const char *data, size_t length)
{
	size_t at = begins(data, length, "\xef\xbb\xbf") ? 3 : 0;
	while (at < length && g_ascii_isspace(data[at]))
		at++;
	return begins(data, length, "kvtreq\r\n") || begins(data + at, length - at, "{") ||
	       begins(data + at, length - at, "[") ||
	       g_ascii_strncasecmp(data + at, "timestamp", MIN(length - at, 9)) == 0;
}

static kvt_block_trace *read_any(const char *data, size_t length, const char *path, GError **error)
{
	if (begins(data, length, "\x28\xb5\x2f\xfd") || begins(data, length, "\x1f\x8b")) {
		kvt_error_at(error, path, 0,
			"is compressed, expected it unpacked, such as by zstd -d or gunzip");
		return NULL;
	}
	if (looks_like_requests(data, length))
		return read_requests(path, error);
	if (looks_like_text(data, length))
		return kvt_block_trace_read_text(data, length, path, error);
	if (looks_like_oracle(data, length))
		return read_oracle(data, length, path, error);
	kvt_error_at(error, path, 0, "is not known, " EXPECTED);
	return NULL;
}

kvt_block_trace *kvt_block_trace_open(const char *path, kvt_block_source source, GError **error)
{
	if (g_file_test(path, G_FILE_TEST_IS_DIR)) /* which some request traces are */
		return read_requests(path, error);
	if (!g_file_test(path, G_FILE_TEST_IS_REGULAR)) {
		bool there = g_file_test(path, G_FILE_TEST_EXISTS);
		kvt_error_at(error, path, 0,
			there ? "not a regular file, " EXPECTED
			      : "No such file or directory, " EXPECTED);
		return NULL;
	}
	g_autoptr(GError) why = NULL;
	g_autoptr(GMappedFile) file = g_mapped_file_new(path, FALSE, &why);
	if (file == NULL) {
		kvt_error_at(error, path, 0, "cannot be read, " EXPECTED);
		return NULL;
	}
	const char *data = g_mapped_file_get_contents(file);
	size_t length = g_mapped_file_get_length(file);
	if (length == 0) {
		kvt_error_at(error, path, 0, "is empty, " EXPECTED);
		return NULL;
	}
	switch (source) {
	case KVT_BLOCK_SOURCE_ORACLE:
		return read_oracle(data, length, path, error);
	case KVT_BLOCK_SOURCE_TEXT:
		return kvt_block_trace_read_text(data, length, path, error);
	case KVT_BLOCK_SOURCE_REQUESTS:
		return read_requests(path, error);
	case KVT_BLOCK_SOURCE_AUTO:
		break;
	}
	return read_any(data, length, path, error);
}

void kvt_block_trace_close(kvt_block_trace *trace)
{
	if (trace == NULL)
		return;
	g_free(trace->memory->blocks);
	g_free(trace->memory->bytes);
	kvt_request_trace_close(trace->memory->requests);
	g_free(trace->memory);
	g_free(trace);
}

void kvt_block_trace_next_uses(const kvt_block_trace *trace, uint32_t *next)
{
	enum { AHEAD = 32 };
	g_autofree uint32_t *last = g_new(uint32_t, trace->n_blocks);
	memset(last, 0xff, trace->n_blocks * sizeof(*last));
	for (uint64_t i = trace->n_accesses; i-- > 0;) {
		if (i >= AHEAD)
			__builtin_prefetch(&last[trace->blocks[i - AHEAD]], 1);
		next[i] = last[trace->blocks[i]];
		last[trace->blocks[i]] = (uint32_t)i;
	}
}

bool kvt_block_trace_write(const kvt_block_trace *trace, const char *path, GError **error)
{
	enum { ACCESSES_A_SECOND = 1000 };
	FILE *file = fopen(path, "we");
	if (file == NULL)
		return kvt_error_failed(error,
			"%s: cannot be created (%s), expected a writable folder", path,
			g_strerror(errno));
	g_autofree uint32_t *next = g_new(uint32_t, trace->n_accesses);
	kvt_block_trace_next_uses(trace, next);
	for (uint64_t i = 0; i < trace->n_accesses; i++) {
		oracle_record record = {
			.time = (uint32_t)(i / ACCESSES_A_SECOND),
			.id = trace->blocks[i] + UINT64_C(1),
			.bytes =
				trace->bytes != NULL ? trace->bytes[i] : MAX(trace->block_bytes, 1),
			/* counted from 1 there */
			.next = next[i] == UINT32_MAX ? -1 : (int64_t)next[i] + 1,
		};
		fwrite(&record, sizeof(record), 1, file);
	}
	bool written = !ferror(file);
	if (fclose(file) != 0 || !written)
		return kvt_error_failed(
			error, "%s: cannot be written (%s)", path, g_strerror(errno));
	return true;
}
