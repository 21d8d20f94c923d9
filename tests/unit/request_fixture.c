/* request_fixture.c: request traces from literal text, for tests. */
#include "tests/unit/request_fixture.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

kvt_request_trace *request_trace_of(const char *text, gssize length, GError **error)
{
	g_autofree char *folder = g_dir_make_tmp("kvtier-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(folder, "trace", NULL);
	g_autoptr(GError) why = NULL;
	g_assert_true(g_file_set_contents(path, text, length, &why));
	kvt_request_trace *trace = kvt_request_trace_open(path, &why);
	g_unlink(path);
	g_rmdir(folder);
	if (why == NULL)
		return trace;
	g_assert_null(trace);
	g_assert_true(g_str_has_prefix(why->message, path));
	g_set_error_literal(
		error, why->domain, why->code, why->message + strlen(folder) + strlen("/"));
	return NULL;
}

kvt_request_trace *request_trace_good(const char *text)
{
	g_autoptr(GError) error = NULL;
	kvt_request_trace *trace = request_trace_of(text, -1, &error);
	g_assert_no_error(error);
	return trace;
}

void request_trace_refused(const char *text, const char *message)
{
	g_autoptr(GError) error = NULL;
	g_assert_null(request_trace_of(text, -1, &error));
	g_assert_cmpstr(error->message, ==, message);
	g_assert_cmpint(error->code, ==, 2);
}

void request_traces_equal(const kvt_request_trace *a, const kvt_request_trace *b)
{
	g_assert_cmpmem(a->requests, a->n_requests * sizeof(kvt_request), b->requests,
		b->n_requests * sizeof(kvt_request));
	g_assert_cmpmem(a->blocks, a->n_blocks * sizeof(uint32_t), b->blocks,
		b->n_blocks * sizeof(uint32_t));
	g_assert_cmpuint(a->n_ids, ==, b->n_ids);
	g_assert_cmpuint(a->block_tokens, ==, b->block_tokens);
	g_assert_cmpuint(a->n_sessions, ==, b->n_sessions);
	g_assert_cmpuint(a->n_tenants, ==, b->n_tenants);
	g_assert_cmpstr(a->source, ==, b->source);
	for (uint32_t i = 0; i < a->n_tenants; i++)
		g_assert_cmpstr(a->tenant_names[i], ==, b->tenant_names[i]);
}

char *request_blocks_text(const kvt_request_trace *trace, uint64_t request)
{
	const kvt_request *r = &trace->requests[request];
	GString *text = g_string_new(NULL);
	for (uint32_t i = 0; i < r->n_blocks; i++)
		g_string_append_printf(
			text, "%s%u", i > 0 ? " " : "", trace->blocks[r->first_block + i]);
	return g_string_free(text, FALSE);
}
