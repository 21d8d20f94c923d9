/*
 * request_agentic.c: reads agentic coding traces, a JSON file a trace: what a coding assistant and
 * the sub-agents that it started asked of a model. request_agentic_links.c says who waited for
 * whom; request_sources.h what the fields are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/base/sim_time.h"
#include "traces/request_agentic.h"
#include "traces/request_internal.h"
#include "traces/request_sources.h"

enum { NESTED_MOST = 16 };

/* One file on its way in. Values are read from its text one at a time, so that memory holds one
 * request, and lines can be told. */
typedef struct reader {
	const char *path, *at, *end;
	unsigned line;
	kvt_request_builder *builder;
	uint64_t scope, shared_scope;
	uint64_t block_tokens;
	bool has_requests;
} reader;

static void skip_space(reader *r)
{
	for (; r->at < r->end && g_ascii_isspace(*r->at); r->at++)
		r->line += *r->at == '\n';
}

static bool take(reader *r, char c)
{
	skip_space(r);
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

static bool not_json(const reader *r, const char *expected, GError **error)
{
	return kvt_error_at(error, r->path, r->line, "not JSON: %s, expected %s",
		r->at == r->end ? "ends too soon" : "something else", expected);
}

/* The next value; the caller's to json_decref. r->line is where it begins. */
static json_t *read_value(reader *r, GError **error)
{
	json_error_t why;
	skip_space(r);
	json_t *value = json_loadb(r->at, (size_t)(r->end - r->at),
		JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY, &why);
	if (value == NULL) {
		g_autofree char *quoted = kvt_error_quote(why.text);
		kvt_error_at(error, r->path, r->line + (unsigned)MAX(why.line - 1, 0),
			"not JSON: %s, expected an agentic trace", quoted);
		return NULL;
	}
	r->at += why.position;
	return value;
}

static void count_lines(reader *r, const char *from)
{
	for (; (from = memchr(from, '\n', (size_t)(r->at - from))) != NULL; from++)
		r->line++;
}

static bool append_blocks(
	reader *r, json_t *object, uint64_t input, const char *place, GError **error)
{
	json_t *ids = kvt_request_json_array(
		object, r->path, r->line, place, "hash_ids", "an array of block ids", error);
	if (ids == NULL)
		return false;
	size_t n = json_array_size(ids);
	if (n > 0 && (n - 1) * r->block_tokens >= input)
		return kvt_error_at(error, r->path, r->line,
			"%shash_ids: %zu blocks of %" G_GUINT64_FORMAT " for %" G_GUINT64_FORMAT
			" tokens, expected no more than they fill",
			place, n, r->block_tokens, input);
	uint64_t prefix = r->scope;
	for (size_t i = 0; i < n; i++) {
		json_t *id = json_array_get(ids, i);
		if (!json_is_integer(id))
			return kvt_error_at(error, r->path, r->line,
				"%shash_ids[%zu]: is no whole number, expected a block's id", place,
				i);
		prefix = kvt_request_builder_block(
			r->builder, prefix, (uint64_t)json_integer_value(id));
		kvt_request_builder_append(r->builder, prefix);
	}
	return true;
}

/* A time that may be missing; -1 then. */
static bool read_time(reader *r, json_t *object, const char *place, const char *key, int64_t *value,
	GError **error)
{
	*value = -1;
	return json_object_get(object, key) == NULL ||
	       kvt_request_json_time(
		       object, r->path, r->line, place, key, KVT_SECOND, "seconds", value, error);
}

/* Picoseconds since the whole trace began, from seconds since the conversation did. */
static bool read_start(
	reader *r, json_t *object, const char *place, int64_t base, int64_t *start, GError **error)
{
	if (!kvt_request_json_time(
		    object, r->path, r->line, place, "t", KVT_SECOND, "seconds", start, error))
		return false;
	if (*start > KVT_REQUEST_TIME_MAX - base)
		return kvt_error_at(
			error, r->path, r->line, "%st: too late, expected 0 to 100 days", place);
	*start += base;
	return true;
}

static bool add_request(reader *r, json_t *object, const char *place,
	kvt_agentic_conversation *conversation, GError **error)
{
	uint64_t input, output;
	kvt_agentic_item item = { 0 };
	kvt_request request = {
		.session = conversation->session,
		.after = KVT_REQUEST_NONE,
		.joins = KVT_REQUEST_NONE,
		.flags = conversation->depth > 0 ? KVT_REQUEST_SUBAGENT : 0,
	};
	if (!read_start(r, object, place, conversation->base, &item.start, error) ||
		!kvt_request_json_count(object, r->path, r->line, place, "in",
			KVT_REQUEST_TOKENS_MAX - 1, "a number of tokens", &input, error) ||
		!kvt_request_json_count(object, r->path, r->line, place, "out",
			KVT_REQUEST_TOKENS_MAX - 1, "a number of tokens", &output, error) ||
		!read_time(r, object, place, "api_time", &item.latency, error) ||
		!read_time(r, object, place, "think_time", &item.think, error) ||
		!append_blocks(r, object, input, place, error))
		return false;
	request.arrival = item.start;
	request.latency = MAX(item.latency, 0);
	request.input_tokens = (uint32_t)input;
	request.output_tokens = item.output_tokens = (uint32_t)output;
	item.request = kvt_request_builder_add(r->builder, &request);
	if (item.request == KVT_REQUEST_NONE)
		return kvt_error_at(error, r->path, r->line, "%st: one request too many", place);
	g_array_append_val(conversation->items, item);
	return true;
}

static bool add_entry(reader *r, json_t *entry, const char *place,
	kvt_agentic_conversation *conversation, GError **error);

/* A sub-agent's t is when its answer came, duration_ms before that it began; its requests' t count
 * from its beginning. */
static bool add_subagent(reader *r, json_t *object, const char *place,
	kvt_agentic_conversation *parent, GError **error)
{
	kvt_agentic_item item = { 0 };
	int64_t duration = 0;
	json_t *requests = kvt_request_json_array(
		object, r->path, r->line, place, "requests", "an array of requests", error);
	if (requests == NULL || !read_start(r, object, place, parent->base, &item.end, error))
		return false;
	if (json_object_get(object, "duration_ms") != NULL &&
		!kvt_request_json_time(object, r->path, r->line, place, "duration_ms",
			KVT_MILLISECOND, "milliseconds", &duration, error))
		return false;
	if (parent->depth == NESTED_MOST)
		return kvt_error_at(error, r->path, r->line,
			"%srequests: nested too deep, expected %d sub-agents within one another at "
			"most",
			place, NESTED_MOST);
	item.start = MAX(item.end - duration, parent->base);
	item.request = KVT_REQUEST_NONE;
	item.conversation = kvt_agentic_conversation_new(
		item.start, kvt_request_builder_session(r->builder), parent->depth + 1);
	g_array_append_val(parent->items, item);
	for (size_t i = 0; i < json_array_size(requests); i++) {
		g_autofree char *inner = g_strdup_printf("%srequests[%zu].", place, i);
		if (!add_entry(r, json_array_get(requests, i), inner, item.conversation, error))
			return false;
	}
	return true;
}

static bool add_entry(reader *r, json_t *entry, const char *place,
	kvt_agentic_conversation *conversation, GError **error)
{
	if (!json_is_object(entry))
		return kvt_error_at(error, r->path, r->line,
			"%.*s: is no object, expected a request", (int)strlen(place) - 1, place);
	if (json_object_get(entry, "requests") != NULL)
		return add_subagent(r, entry, place, conversation, error);
	return add_request(r, entry, place, conversation, error);
}

/* The array of requests, one at a time. */
static bool read_requests(reader *r, GError **error)
{
	if (r->has_requests || r->block_tokens == 0)
		return kvt_error_at(error, r->path, r->line,
			r->has_requests ? "requests: are there twice, expected once"
					: "block_size: is missing before requests, expected tokens "
					  "a block");
	if (!take(r, '['))
		return not_json(r, "requests to be an array", error);
	r->has_requests = true;
	g_autoptr(kvt_agentic_conversation) conversation =
		kvt_agentic_conversation_new(0, kvt_request_builder_session(r->builder), 0);
	for (unsigned i = 0; !take(r, ']'); i++) {
		if (i > 0 && !take(r, ','))
			return not_json(r, "a comma between requests", error);
		const char *from = r->at;
		json_t *entry = read_value(r, error);
		if (entry == NULL)
			return false;
		g_autofree char *place = g_strdup_printf("requests[%u].", i);
		bool good = add_entry(r, entry, place, conversation, error);
		json_decref(entry);
		if (!good)
			return false;
		/* What read_value skipped before the value is counted already. */
		while (g_ascii_isspace(*from))
			from++;
		count_lines(r, from);
	}
	kvt_agentic_conversation_link(conversation, r->builder);
	return true;
}

/* What is not a request: the size of blocks, whose ids they are, and what is not needed. */
static bool read_other(reader *r, const char *key, GError **error)
{
	skip_space(r);
	const char *from = r->at;
	json_t *value = read_value(r, error);
	if (value == NULL)
		return false;
	bool good = true;
	if (strcmp(key, "block_size") == 0) {
		r->block_tokens = (uint64_t)json_integer_value(value);
		if (r->block_tokens - 1 >= 1 << 20)
			good = kvt_error_at(error, r->path, r->line,
				"block_size: is not 1 to 1048576, expected tokens a block");
	} else if (strcmp(key, "hash_id_scope") == 0) {
		const char *scope = json_string_value(value);
		if (g_strcmp0(scope, "local") != 0 && g_strcmp0(scope, "global") != 0)
			good = kvt_error_at(error, r->path, r->line,
				"hash_id_scope: is not known, expected \"local\" or \"global\"");
		else if (*scope == 'g')
			r->scope = r->shared_scope;
		if (r->has_requests)
			good = kvt_error_at(error, r->path, r->line,
				"hash_id_scope: comes after requests, expected it before");
	}
	json_decref(value);
	count_lines(r, from);
	return good;
}

static bool read_trace(reader *r, GError **error)
{
	if (!take(r, '{'))
		return not_json(r, "an object", error);
	for (unsigned i = 0; !take(r, '}'); i++) {
		if (i > 0 && !take(r, ','))
			return not_json(r, "a comma between keys", error);
		json_t *key = read_value(r, error);
		if (key == NULL)
			return false;
		bool good = json_is_string(key) && take(r, ':');
		if (!good)
			not_json(r, "a key and a colon", error);
		else if (strcmp(json_string_value(key), "requests") == 0)
			good = read_requests(r, error);
		else
			good = read_other(r, json_string_value(key), error);
		json_decref(key);
		if (!good)
			return false;
	}
	skip_space(r);
	if (r->at < r->end)
		return not_json(r, "nothing after the object", error);
	return r->has_requests || kvt_error_at(error, r->path, 0,
					  "requests: is missing, expected an array of requests");
}

/* Adds one trace; *block_tokens is of those before, or 0. */
static bool read_file(kvt_request_builder *builder, const char *path, uint64_t shared_scope,
	uint64_t *block_tokens, GError **error)
{
	g_autoptr(GError) why = NULL;
	g_autofree char *text = NULL;
	gsize length;
	if (!g_file_get_contents(path, &text, &length, &why))
		return kvt_error_at(
			error, path, 0, "cannot be read, expected an agentic trace (JSON)");
	reader r = { .path = path, .at = text, .end = text + length, .line = 1 };
	r.builder = builder;
	r.shared_scope = shared_scope;
	r.scope = kvt_request_builder_scope(builder);
	if (g_str_has_prefix(text, "\xef\xbb\xbf"))
		r.at += 3;
	if (!read_trace(&r, error))
		return false;
	if (*block_tokens != 0 && *block_tokens != r.block_tokens)
		return kvt_error_at(error, path, 0,
			"block_size: %" G_GUINT64_FORMAT ", expected %" G_GUINT64_FORMAT
			" as in the files before",
			r.block_tokens, *block_tokens);
	*block_tokens = r.block_tokens;
	return true;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The files of a folder in the order of their names; hidden ones and folders are left out. */
static GPtrArray *list_files(const char *path, GError **error)
{
	GDir *folder = g_dir_open(path, 0, NULL);
	if (folder == NULL) {
		kvt_error_at(error, path, 0, "cannot be read, expected a folder of agentic traces");
		return NULL;
	}
	GPtrArray *files = g_ptr_array_new_with_free_func(g_free);
	for (const char *name; (name = g_dir_read_name(folder)) != NULL;) {
		char *file = g_build_filename(path, name, NULL);
		if (g_str_has_suffix(name, ".json") && *name != '.' &&
			g_file_test(file, G_FILE_TEST_IS_REGULAR))
			g_ptr_array_add(files, file);
		else
			g_free(file);
	}
	g_dir_close(folder);
	if (files->len > 0) {
		qsort(files->pdata, files->len, sizeof(*files->pdata), compare_names);
		return files;
	}
	g_ptr_array_free(files, TRUE);
	kvt_error_at(error, path, 0, "has no .json files, expected agentic traces");
	return NULL;
}

kvt_request_trace *kvt_request_read_agentic_folder(const char *path, GError **error)
{
	g_autoptr(GPtrArray) files = list_files(path, error);
	if (files == NULL)
		return NULL;
	g_autofree char *name = g_path_get_basename(path);
	g_autofree char *source = g_strdup_printf("%s (%u agentic traces)", name, files->len);
	g_autoptr(kvt_request_builder) builder = kvt_request_builder_new(source);
	kvt_request_builder_tenant(builder, name);
	uint64_t shared = kvt_request_builder_scope(builder), block_tokens = 0;
	for (guint i = 0; i < files->len; i++)
		if (!read_file(builder, g_ptr_array_index(files, i), shared, &block_tokens, error))
			return NULL;
	return kvt_request_builder_finish(builder, (uint32_t)block_tokens, path, error);
}

kvt_request_trace *kvt_request_read_agentic(FILE *file, const char *path, GError **error)
{
	g_autofree char *name = g_path_get_basename(path);
	g_autofree char *source = g_strdup_printf("%s (agentic trace)", name);
	g_autoptr(kvt_request_builder) builder = kvt_request_builder_new(source);
	kvt_request_builder_tenant(builder, name);
	uint64_t shared = kvt_request_builder_scope(builder), block_tokens = 0;
	if (!read_file(builder, path, shared, &block_tokens, error))
		return NULL;
	return kvt_request_builder_finish(builder, (uint32_t)block_tokens, path, error);
}
