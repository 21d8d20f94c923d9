/* request_mooncake.c: reads Mooncake's request traces, JSON lines. request_sources.h says what
 * they hold. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/base/sim_time.h"
#include "traces/request_builder.h"
#include "traces/request_internal.h"
#include "traces/request_sources.h"

enum { PUBLISHED_BLOCK = 512 };

typedef struct mooncake {
	const char *path;
	unsigned line;
	kvt_request_builder *builder;
	uint64_t scope;
	uint64_t least, most; /* tokens a block that all lines so far agree on */
} mooncake;

/* n blocks hold the tokens when full ones, or full ones and a partial one, do. Tokens without a
 * block are allowed, so one with fewer blocks than the others says nothing of their size. */
static bool narrow_block(mooncake *m, uint64_t tokens, uint64_t n, GError **error)
{
	if (n == 0)
		return true;
	uint64_t least = tokens / (n + 1) + 1, most = n > 1 ? (tokens - 1) / (n - 1) : UINT32_MAX;
	if (tokens > 0 && most >= m->least) {
		if (least > m->most)
			return true;
		m->least = MAX(least, m->least);
		m->most = MIN(most, m->most);
		return true;
	}
	return kvt_error_at(error, m->path, m->line,
		"hash_ids: %" G_GUINT64_FORMAT " blocks for %" G_GUINT64_FORMAT
		" tokens, expected blocks of the same size in every line",
		n, tokens);
}

static bool add_blocks(mooncake *m, json_t *ids, GError **error)
{
	uint64_t prefix = m->scope;
	for (size_t i = 0; i < json_array_size(ids); i++) {
		json_t *id = json_array_get(ids, i);
		if (!json_is_integer(id))
			return kvt_error_at(error, m->path, m->line,
				"hash_ids[%zu]: is no whole number, expected a block's id", i);
		prefix = kvt_request_builder_block(
			m->builder, prefix, (uint64_t)json_integer_value(id));
		kvt_request_builder_append(m->builder, prefix);
	}
	return true;
}

static bool add_line(mooncake *m, json_t *object, GError **error)
{
	uint64_t input, output;
	kvt_request request = { .after = KVT_REQUEST_NONE, .joins = KVT_REQUEST_NONE };
	json_t *ids;
	if (!kvt_request_json_time(object, m->path, m->line, "", "timestamp", KVT_MILLISECOND,
		    "milliseconds", &request.arrival, error) ||
		!kvt_request_json_count(object, m->path, m->line, "", "input_length",
			KVT_REQUEST_TOKENS_MAX - 1, "a number of tokens", &input, error) ||
		!kvt_request_json_count(object, m->path, m->line, "", "output_length",
			KVT_REQUEST_TOKENS_MAX - 1, "a number of tokens", &output, error))
		return false;
	ids = kvt_request_json_array(
		object, m->path, m->line, "", "hash_ids", "an array of block ids", error);
	if (ids == NULL || !narrow_block(m, input, json_array_size(ids), error) ||
		!add_blocks(m, ids, error))
		return false;
	request.input_tokens = (uint32_t)input;
	request.output_tokens = (uint32_t)output;
	kvt_request_builder_add(m->builder, &request);
	return true;
}

static bool read_line(mooncake *m, const char *text, size_t length, GError **error)
{
	json_error_t why;
	json_t *object = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
	if (object == NULL) {
		g_autofree char *quoted = kvt_error_quote(why.text);
		return kvt_error_at(
			error, m->path, m->line, "not JSON: %s, expected an object a line", quoted);
	}
	bool good = json_is_object(object) ? add_line(m, object, error)
					   : kvt_error_at(error, m->path, m->line,
						     "is no object, expected an object a line");
	json_decref(object);
	return good;
}

/* The published size, the one power of two that fits, or the least that does. */
static uint32_t block_tokens(const mooncake *m)
{
	if (m->least <= PUBLISHED_BLOCK && PUBLISHED_BLOCK <= m->most)
		return PUBLISHED_BLOCK;
	for (uint64_t size = 1; size <= m->most; size *= 2)
		if (size >= m->least)
			return (uint32_t)size;
	return (uint32_t)m->least;
}

kvt_request_trace *kvt_request_read_mooncake(FILE *file, const char *path, GError **error)
{
	g_autofree char *name = g_path_get_basename(path);
	g_autofree char *source = g_strdup_printf("%s (Mooncake JSONL)", name);
	g_autoptr(kvt_request_builder) builder = kvt_request_builder_new(source);
	mooncake m = { .path = path, .builder = builder, .least = 1, .most = UINT32_MAX };
	m.scope = kvt_request_builder_scope(builder);
	kvt_request_builder_tenant(builder, name);
	kvt_request_builder_find_sessions(builder);
	char *text = NULL;
	size_t room = 0;
	bool good = true;
	for (ssize_t length; good && (length = getline(&text, &room, file)) >= 0;) {
		m.line++;
		const char *start = text;
		if (m.line == 1 && length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
			start += 3;
		if (strspn(start, " \t\r\n") < (size_t)(text + length - start))
			good = read_line(&m, start, (size_t)(text + length - start), error);
	}
	free(text);
	return good ? kvt_request_builder_finish(builder, block_tokens(&m), path, error) : NULL;
}
