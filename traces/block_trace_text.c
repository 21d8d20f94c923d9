/* block_trace_text.c: block traces as text: a line an access, with an id and perhaps a size. */
#include <string.h>
#include <xxhash.h>

#include "sim/base/error.h"
#include "traces/block_trace_internal.h"

enum { COLUMNS_MAX = 64 };

typedef struct text_reader {
	const char *path, *at, *end;
	unsigned line;
	int id, bytes;                  /* columns; bytes -1: there are no sizes */
	const char *field[COLUMNS_MAX]; /* of the line */
	size_t length[COLUMNS_MAX];
	int n_fields;
} text_reader;

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Cuts the next line that says something into fields; false at the end. */
static bool next_line(text_reader *reader)
{
	while (reader->at < reader->end) {
		const char *at = reader->at;
		const char *end = memchr(at, '\n', (size_t)(reader->end - at));
		end = end != NULL ? end : reader->end;
		reader->at = end < reader->end ? end + 1 : end;
		reader->line++;
		while (at < end && is_blank(*at))
			at++;
		if (at == end || *at == '#')
			continue;
		reader->n_fields = 0;
		for (;;) {
			const char *start = at;
			while (at < end && *at != ',' && !is_blank(*at))
				at++;
			if (reader->n_fields < COLUMNS_MAX) {
				reader->field[reader->n_fields] = start;
				reader->length[reader->n_fields] = (size_t)(at - start);
			}
			reader->n_fields++;
			while (at < end && is_blank(*at))
				at++;
			if (at == end)
				return true;
			if (*at == ',')
				at++;
			while (at < end && is_blank(*at))
				at++;
		}
	}
	return false;
}

/* A decimal number of 64 bits and nothing else. */
static bool read_number(const char *text, size_t length, uint64_t *number)
{
	*number = 0;
	for (size_t i = 0; i < length; i++)
		if (!g_ascii_isdigit(text[i]) || __builtin_mul_overflow(*number, 10, number) ||
			__builtin_add_overflow(*number, (uint64_t)(text[i] - '0'), number))
			return false;
	return length > 0;
}

static bool named(const text_reader *reader, int field, const char *const *names)
{
	for (; *names != NULL; names++)
		if (strlen(*names) == reader->length[field] &&
			g_ascii_strncasecmp(*names, reader->field[field], reader->length[field]) ==
				0)
			return true;
	return false;
}

/* From the first line: which columns there are. *header: it names them. */
static bool find_columns(text_reader *reader, bool *header, GError **error)
{
	static const char *const ids[] = { "id", "obj_id", "object_id", "block", "block_id", "key",
		NULL };
	static const char *const sizes[] = { "bytes", "size", "obj_size", "object_size", NULL };
	reader->id = reader->bytes = -1;
	for (int i = 0; i < MIN(reader->n_fields, COLUMNS_MAX); i++) {
		if (reader->id < 0 && named(reader, i, ids))
			reader->id = i;
		else if (reader->bytes < 0 && named(reader, i, sizes))
			reader->bytes = i;
	}
	*header = reader->id >= 0;
	if (*header)
		return true;
	if (reader->n_fields > 2)
		return kvt_error_at(error, reader->path, reader->line,
			"%d columns and none is named \"id\", expected an id, an id and bytes, or "
			"a first line that names columns",
			reader->n_fields);
	reader->id = 0;
	reader->bytes = reader->n_fields == 2 ? 1 : -1;
	return true;
}

static bool add_line(text_reader *reader, kvt_block_builder *builder, GError **error)
{
	uint64_t key, bytes = 1;
	int needed = MAX(reader->id, reader->bytes);
	if (needed >= reader->n_fields || reader->length[reader->id] == 0)
		return kvt_error_at(error, reader->path, reader->line,
			"column %d is missing, expected %s", MIN(needed, reader->n_fields) + 1,
			reader->bytes < 0 ? "an id" : "an id and bytes");
	const char *id = reader->field[reader->id];
	if (!read_number(id, reader->length[reader->id], &key))
		key = XXH3_64bits(id, reader->length[reader->id]);
	if (reader->bytes >= 0 && (!read_number(reader->field[reader->bytes],
					   reader->length[reader->bytes], &bytes) ||
					  bytes > UINT32_MAX)) {
		g_autofree char *text =
			g_strndup(reader->field[reader->bytes], reader->length[reader->bytes]);
		g_autofree char *quoted = kvt_error_quote(text);
		return kvt_error_at(error, reader->path, reader->line,
			"bytes: %s, expected a whole number below 2^32", quoted);
	}
	/* that there are too many is said at the end */
	(void)kvt_block_builder_add(builder, key, (uint32_t)bytes);
	return true;
}

kvt_block_trace *kvt_block_trace_read_text(
	const char *text, size_t length, const char *path, GError **error)
{
	text_reader reader = { .path = path, .at = text, .end = text + length };
	if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		reader.at += 3;
	kvt_block_builder builder;
	kvt_block_builder_init(&builder, 0);
	bool good = true, first = true;
	while (good && !builder.full && next_line(&reader)) {
		bool header = false;
		if (first)
			good = find_columns(&reader, &header, error);
		first = false;
		if (good && !header)
			good = add_line(&reader, &builder, error);
	}
	if (good)
		return kvt_block_builder_finish(&builder, path, reader.bytes >= 0, error);
	kvt_block_builder_clear(&builder);
	return NULL;
}
