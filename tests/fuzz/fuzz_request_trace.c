/*
 * fuzz_request_trace.c: any bytes as a request trace, of whatever source they look like. What is
 * refused must have one line of UTF-8 for a message; what is read must keep the promises of
 * request_trace.h, be the same when it was written and opened again, and bear what is done to it.
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "sim/base/error.h"
#include "traces/request_model.h"
#include "traces/request_statistics.h"
#include "traces/request_transform.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_error(const GError *error)
{
	g_assert(error != NULL && error->domain == KVT_ERROR);
	g_assert(strpbrk(error->message, "\n\r") == NULL);
	g_assert(g_utf8_validate(error->message, -1, NULL));
	g_assert(strlen(error->message) < 1000);
}

static void check_same(const kvt_request_trace *a, const kvt_request_trace *b)
{
	g_assert(a->n_requests == b->n_requests && a->n_blocks == b->n_blocks);
	g_assert(memcmp(a->requests, b->requests, a->n_requests * sizeof(kvt_request)) == 0);
	g_assert(a->n_blocks == 0 || memcmp(a->blocks, b->blocks, a->n_blocks * 4) == 0);
	g_assert(a->n_ids == b->n_ids && a->n_sessions == b->n_sessions);
	g_assert(strcmp(a->source, b->source) == 0);
}

static void check_edit(const kvt_request_trace *trace, const kvt_request_edit *edit)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_request_trace) other = kvt_request_transform(trace, edit, "edit", &error);
	if (other == NULL)
		check_error(error);
	else
		g_assert(kvt_request_trace_check(other, "edit", NULL));
}

static void check_trace(const kvt_request_trace *trace, const char *path)
{
	g_autoptr(GError) error = NULL;
	g_assert(kvt_request_trace_check(trace, path, NULL));
	if (!kvt_request_trace_write(trace, path, &error))
		g_error("%s", error->message);
	g_autoptr(kvt_request_trace) again = kvt_request_trace_open(path, &error);
	if (again == NULL)
		g_error("%s", error->message);
	check_same(trace, again);
	kvt_request_statistics s = kvt_request_statistics_of(trace);
	g_assert(s.block_hit_ratio >= 0 && s.block_hit_ratio < 1);
	g_assert(s.turns.mean >= 1);
	kvt_request_model model = kvt_request_model_fit(trace);
	g_autofree char *text = kvt_request_model_text(&model, trace->source);
	if (!kvt_request_model_parse("fit.ini", text, NULL, &model, &error))
		g_error("%s", error->message);
	if (trace->block_tokens <= 64)
		check_edit(trace, &(kvt_request_edit){ .close = true, .users = 2 });
	check_edit(trace, &(kvt_request_edit){ .first = 1, .rate = 3, .start_rate = 1 });
}

static void check_file(const char *path, const uint8_t *data, size_t size)
{
	g_autoptr(GError) error = NULL;
	if (!g_file_set_contents(path, (const char *)data, (gssize)size, &error))
		g_error("%s", error->message);
	g_autoptr(kvt_request_trace) trace = kvt_request_trace_open(path, &error);
	if (trace == NULL)
		check_error(error);
	else
		check_trace(trace, path);
	g_unlink(path);
}

/* A compact file whose sums and size are right, whatever else is wrong with it. */
static void check_summed(const char *path, const uint8_t *data, size_t size)
{
	enum { SIZE_AT = 16, DATA_SUM_AT = 64, HEADER_SUM_AT = 120, HEADER = 128 };
	g_autofree uint8_t *copy = g_memdup2(data, size);
	uint64_t bytes = size, sum = XXH3_64bits(copy + HEADER, size - HEADER);
	memcpy(copy + SIZE_AT, &bytes, sizeof(bytes));
	memcpy(copy + DATA_SUM_AT, &sum, sizeof(sum));
	sum = XXH3_64bits(copy, HEADER_SUM_AT);
	memcpy(copy + HEADER_SUM_AT, &sum, sizeof(sum));
	check_file(path, copy, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *path =
		g_strdup_printf("%s/fuzz-request-trace-%d", g_get_tmp_dir(), (int)getpid());
	check_file(path, data, size);
	if (size > 128 && memcmp(data, "kvtreq\r\n", 8) == 0)
		check_summed(path, data, size);
	return 0;
}
