/*
 * request_file.c: the compact form of a request trace, mapped when it is opened and written with
 * a checksum, under another name until it is whole. request_trace.h has the layout.
 */
#include "traces/request_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "sim/base/error.h"

G_STATIC_ASSERT(sizeof(kvt_request) == 64);
G_STATIC_ASSERT(G_BYTE_ORDER == G_LITTLE_ENDIAN);

enum { FILE_VERSION = 1 };

typedef struct file_header {
	char magic[8];
	uint32_t version, header_bytes;
	uint64_t file_bytes, n_requests, n_blocks;
	uint32_t n_ids, block_tokens, n_sessions, n_tenants;
	uint64_t names_bytes, data_sum;
	uint64_t zero[6];
	uint64_t header_sum;
} file_header;

G_STATIC_ASSERT(sizeof(file_header) == 128);

#define EXPECTED "expected a whole request trace of version 1"

static uint64_t header_sum(const file_header *header)
{
	return XXH3_64bits(header, G_STRUCT_OFFSET(file_header, header_sum));
}

/* Bytes of the block ids with what fills them up. */
static uint64_t blocks_bytes(uint64_t n_blocks)
{
	return (n_blocks + n_blocks % 2) * sizeof(uint32_t);
}

static bool check_header(
	const file_header *header, uint64_t bytes, const char *path, GError **error)
{
	if (bytes < sizeof(*header))
		return kvt_error_at(error, path, 0,
			"%" G_GUINT64_FORMAT " bytes, shorter than its header, " EXPECTED, bytes);
	/* Other versions may sum another header, so this comes first. */
	if (header->version != FILE_VERSION)
		return kvt_error_at(error, path, 0, "version %u, expected %d: convert it again",
			header->version, FILE_VERSION);
	if (header->header_sum != header_sum(header) || header->header_bytes != sizeof(*header))
		return kvt_error_at(error, path, 0, "damaged header, " EXPECTED);
	if (header->file_bytes != bytes)
		return kvt_error_at(error, path, 0,
			"%" G_GUINT64_FORMAT " bytes of %" G_GUINT64_FORMAT ", %s, " EXPECTED,
			bytes, header->file_bytes,
			bytes < header->file_bytes ? "truncated" : "too long");
	uint64_t most = bytes / sizeof(uint32_t);
	if (header->n_requests == 0 || header->n_requests > most || header->n_blocks > most ||
		header->names_bytes > bytes ||
		sizeof(*header) + header->n_requests * sizeof(kvt_request) +
				blocks_bytes(header->n_blocks) + header->names_bytes !=
			bytes)
		return kvt_error_at(error, path, 0, "sizes that do not add up, " EXPECTED);
	return true;
}

/* The source and the tenants' names from the end of the file. */
static bool read_names(kvt_request_trace *trace, const file_header *header, const char *names,
	const char *path, GError **error)
{
	struct kvt_request_memory *memory = trace->memory;
	g_autoptr(GPtrArray) texts = g_ptr_array_new();
	const char *end = names + header->names_bytes;
	for (const char *at = names; at < end; at += strlen(at) + 1) {
		if (memchr(at, '\0', (size_t)(end - at)) == NULL || !g_utf8_validate(at, -1, NULL))
			return kvt_error_at(error, path, 0, "damaged names, " EXPECTED);
		g_ptr_array_add(texts, (char *)at);
	}
	if (texts->len != (uint64_t)header->n_tenants + 1)
		return kvt_error_at(error, path, 0, "%u names, expected the source and %u tenants",
			texts->len, header->n_tenants);
	memory->tenant_names = g_new0(char *, (gsize)header->n_tenants + 1);
	for (uint32_t i = 0; i < header->n_tenants; i++)
		memory->tenant_names[i] = g_strdup(g_ptr_array_index(texts, i + 1));
	memory->source = g_strdup(g_ptr_array_index(texts, 0));
	trace->tenant_names = (const char *const *)memory->tenant_names;
	trace->source = memory->source;
	return true;
}

kvt_request_trace *kvt_request_file_open(const char *path, GError **error)
{
	g_autoptr(GError) why = NULL;
	GMappedFile *map = g_mapped_file_new(path, FALSE, &why);
	if (map == NULL) {
		kvt_error_at(error, path, 0, "cannot be mapped, " EXPECTED);
		return NULL;
	}
	const char *bytes = g_mapped_file_get_contents(map);
	uint64_t length = g_mapped_file_get_length(map);
	const file_header *header = (const file_header *)bytes;
	g_autoptr(kvt_request_trace) trace = g_new0(kvt_request_trace, 1);
	trace->memory = g_new0(struct kvt_request_memory, 1);
	trace->memory->map = map;
	if (!check_header(header, length, path, error))
		return NULL;
	const char *data = bytes + sizeof(*header);
	if (XXH3_64bits(data, length - sizeof(*header)) != header->data_sum) {
		kvt_error_at(error, path, 0, "damaged, its checksum is another, " EXPECTED);
		return NULL;
	}
	trace->requests = (const kvt_request *)data;
	trace->n_requests = header->n_requests;
	trace->blocks = (const uint32_t *)(trace->requests + header->n_requests);
	trace->n_blocks = header->n_blocks;
	trace->n_ids = header->n_ids;
	trace->block_tokens = header->block_tokens;
	trace->n_sessions = header->n_sessions;
	trace->n_tenants = header->n_tenants;
	if (!read_names(trace, header, (const char *)trace->blocks + blocks_bytes(header->n_blocks),
		    path, error) ||
		!kvt_request_trace_check(trace, path, error))
		return NULL;
	return g_steal_pointer(&trace);
}

/* Writes and sums; the first failure stays in the stream. */
static void put(FILE *file, XXH3_state_t *sum, const void *data, uint64_t bytes)
{
	XXH3_64bits_update(sum, data, bytes);
	fwrite(data, 1, bytes, file);
}

static void put_all(FILE *file, const kvt_request_trace *trace)
{
	const uint32_t zero = 0;
	file_header header = {
		.magic = KVT_REQUEST_FILE_MAGIC,
		.version = FILE_VERSION,
		.header_bytes = sizeof(header),
		.n_requests = trace->n_requests,
		.n_blocks = trace->n_blocks,
		.n_ids = trace->n_ids,
		.block_tokens = trace->block_tokens,
		.n_sessions = trace->n_sessions,
		.n_tenants = trace->n_tenants,
		.names_bytes = strlen(trace->source) + 1,
	};
	XXH3_state_t *sum = XXH3_createState();
	XXH3_64bits_reset(sum);
	fseeko(file, sizeof(header), SEEK_SET);
	put(file, sum, trace->requests, trace->n_requests * sizeof(kvt_request));
	put(file, sum, trace->blocks, trace->n_blocks * sizeof(uint32_t));
	put(file, sum, &zero, trace->n_blocks % 2 * sizeof(uint32_t));
	put(file, sum, trace->source, strlen(trace->source) + 1);
	for (uint32_t i = 0; i < trace->n_tenants; i++) {
		header.names_bytes += strlen(trace->tenant_names[i]) + 1;
		put(file, sum, trace->tenant_names[i], strlen(trace->tenant_names[i]) + 1);
	}
	header.data_sum = XXH3_64bits_digest(sum);
	XXH3_freeState(sum);
	header.file_bytes = sizeof(header) + header.n_requests * sizeof(kvt_request) +
			    blocks_bytes(header.n_blocks) + header.names_bytes;
	header.header_sum = header_sum(&header);
	rewind(file);
	fwrite(&header, sizeof(header), 1, file);
}

bool kvt_request_trace_write(const kvt_request_trace *trace, const char *path, GError **error)
{
	g_autofree char *temporary = g_strdup_printf("%s.XXXXXX", path);
	int fd = g_mkstemp_full(temporary, O_RDWR | O_CLOEXEC, 0666);
	FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (file == NULL)
		return kvt_error_failed(error,
			"%s: cannot be created (%s), expected a writable folder", path,
			g_strerror(errno));
	put_all(file, trace);
	bool failed = ferror(file) != 0;
	failed = fclose(file) != 0 || failed;
	if (!failed && g_rename(temporary, path) == 0)
		return true;
	int why = errno;
	g_unlink(temporary);
	return kvt_error_failed(
		error, "%s: cannot be written (%s), expected room", path, g_strerror(why));
}
