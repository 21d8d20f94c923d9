/* test_request_trace.c: the compact file there and back, and refused when any of it is damaged. */
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/request_fixture.h"

static const char three[] =
	"{\"timestamp\": 5, \"input_length\": 1000, \"output_length\": 3, \"hash_ids\": [7, 8]}\n"
	"{\"timestamp\": 9, \"input_length\": 1100, \"output_length\": 4, \"hash_ids\": [7, 9, "
	"4]}\n"
	"{\"timestamp\": 9, \"input_length\": 512, \"output_length\": 0, \"hash_ids\": [2]}\n";

/* The bytes of the compact file of that text. */
static char *compact_bytes(const char *text, gsize *length)
{
	g_autoptr(kvt_request_trace) trace = request_trace_good(text);
	g_autofree char *folder = g_dir_make_tmp("kvtier-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(folder, "compact", NULL);
	g_autoptr(GError) error = NULL;
	g_assert_true(kvt_request_trace_write(trace, path, &error));
	g_assert_no_error(error);
	char *bytes;
	g_assert_true(g_file_get_contents(path, &bytes, length, &error));
	g_unlink(path);
	/* Nothing else was left. */
	g_assert_cmpint(g_rmdir(folder), ==, 0);
	return bytes;
}

static void test_round_trip(void)
{
	g_autoptr(kvt_request_trace) trace = request_trace_good(three);
	gsize length;
	g_autofree char *bytes = compact_bytes(three, &length);

	g_assert_cmpuint(
		length, ==, 128 + 3 * 64 + 24 + sizeof("trace (Mooncake JSONL)") + sizeof("trace"));
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_request_trace) again = request_trace_of(bytes, (gssize)length, &error);
	g_assert_no_error(error);
	request_traces_equal(trace, again);
	g_assert_cmpstr(again->source, ==, "trace (Mooncake JSONL)");
	g_assert_cmpstr(again->tenant_names[0], ==, "trace");
}

/* Whatever byte is changed, cut or added, the file is refused in one line. */
static void test_damage(void)
{
	gsize length;
	g_autofree char *bytes = compact_bytes(three, &length);
	g_autofree char *damaged = g_malloc0(length + 8);
	for (gsize i = 0; i < length; i++) {
		g_autoptr(GError) flipped = NULL, cut = NULL;
		memcpy(damaged, bytes, length);
		damaged[i] ^= 0x10;
		g_assert_null(request_trace_of(damaged, (gssize)length, &flipped));
		g_assert_null(strchr(flipped->message, '\n'));
		g_assert_cmpint(flipped->code, ==, 2);
		g_assert_null(request_trace_of(bytes, (gssize)i, &cut));
		g_assert_null(strchr(cut->message, '\n'));
		if (i >= 128)
			g_assert_nonnull(strstr(cut->message, "truncated"));
	}
	g_autoptr(GError) longer = NULL, version = NULL;
	memcpy(damaged, bytes, length);
	g_assert_null(request_trace_of(damaged, (gssize)length + 8, &longer));
	g_assert_nonnull(strstr(longer->message, "too long"));
	damaged[8] = 2;
	g_assert_null(request_trace_of(damaged, (gssize)length, &version));
	g_assert_cmpstr(version->message, ==, "trace: version 2, expected 1: convert it again");
}

static void test_mooncake(void)
{
	g_autoptr(kvt_request_trace) trace = request_trace_good(three);
	g_assert_cmpuint(trace->n_requests, ==, 3);
	g_assert_cmpuint(trace->n_ids, ==, 5);
	g_assert_cmpuint(trace->block_tokens, ==, 512);
	g_autofree char *first = request_blocks_text(trace, 0);
	g_autofree char *second = request_blocks_text(trace, 1);
	g_assert_cmpstr(first, ==, "0 1");
	g_assert_cmpstr(second, ==, "0 2 3");
	g_assert_cmpint(trace->requests[0].arrival, ==, 0);
	g_assert_cmpint(trace->requests[1].arrival, ==, 4000000000);
	g_assert_cmpuint(trace->requests[1].input_tokens, ==, 1100);
	g_assert_cmpuint(trace->requests[1].output_tokens, ==, 4);
	/* The first one's only full block begins the second prompt; the third shares nothing. */
	g_assert_cmpuint(trace->requests[1].session, ==, trace->requests[0].session);
	g_assert_cmpuint(trace->n_sessions, ==, 2);
}

/* An id after another prefix is another block, whatever the source calls it. */
static void test_prefix_ids(void)
{
	g_autoptr(kvt_request_trace) trace = request_trace_good(
		"{\"timestamp\":0,\"input_length\":1536,\"output_length\":1,\"hash_ids\":[1,2,3]}\n"
		"{\"timestamp\":0,\"input_length\":1536,\"output_length\":1,\"hash_ids\":[9,2,3]}\n"
		"{\"timestamp\":0,\"input_length\":1536,\"output_length\":1,\"hash_ids\":[1,2,2]}"
		"\n");
	static const char *const expected[] = { "0 1 2", "3 4 5", "0 1 6" };
	for (unsigned i = 0; i < 3; i++) {
		g_autofree char *ids = request_blocks_text(trace, i);
		g_assert_cmpstr(ids, ==, expected[i]);
	}
}

/* Other sizes of blocks, partial blocks named or not; out of order; empty lines; a mark. */
static void test_mooncake_variants(void)
{
	g_autoptr(kvt_request_trace) trace = request_trace_good(
		"\xef\xbb\xbf{\"timestamp\":20,\"input_length\":40,\"output_length\":1,"
		"\"hash_ids\":[1,2]}\n\n"
		"{\"timestamp\":10.5,\"input_length\":170,\"output_length\":1,\"more\":{},"
		"\"hash_ids\":[1,2,3,4,5,6,7,8,9,10]}\r\n");
	g_assert_cmpuint(trace->block_tokens, ==, 16);
	g_assert_cmpuint(trace->requests[0].input_tokens, ==, 170);
	g_assert_cmpint(trace->requests[1].arrival, ==, 9500000000);
}

static void test_mooncake_refused(void)
{
#define EXPECTED                                                                                   \
	"expected a request trace (compact, Mooncake JSONL, agentic JSON, Azure or BurstGPT CSV)"
#define LINE(rest) "{\"timestamp\": 0, " rest "}\n"
#define LENGTHS "\"input_length\": 1000, \"output_length\": 3, "
	request_trace_refused("", "trace: is empty, " EXPECTED);
	request_trace_refused("#include <glib.h>\n", "trace: is not known, " EXPECTED);
	request_trace_refused(LINE("\"output_length\": 3, \"hash_ids\": []"),
		"trace:1: input_length: is missing, expected a number of tokens");
	request_trace_refused(LINE("\"input_length\": \"a\", \"hash_ids\": []"),
		"trace:1: input_length: is a text, expected a number of tokens");
	request_trace_refused(LINE("\"input_length\": -1, \"hash_ids\": []"),
		"trace:1: input_length: -1, expected a number of tokens of 0 to 1073741823");
	request_trace_refused(LINE("\"input_length\": 1e300, \"hash_ids\": []"),
		"trace:1: input_length: 1e+300, expected a number of tokens of 0 to 1073741823");
	request_trace_refused(LINE(LENGTHS "\"hash_ids\": 3"),
		"trace:1: hash_ids: is a number, expected an array of block ids");
	request_trace_refused(LINE(LENGTHS "\"hash_ids\": [1, \"2\"]"),
		"trace:1: hash_ids[1]: is no whole number, expected a block's id");
	request_trace_refused(LINE(LENGTHS "\"hash_ids\": [1, 2]")
				      LINE(LENGTHS "\"hash_ids\": [1, 2, 3, 4]"),
		"trace:2: hash_ids: 4 blocks for 1000 tokens, expected blocks of the same size in "
		"every line");
	request_trace_refused(LINE(LENGTHS "\"hash_ids\": [1, 2]") "{\"timestamp\": ",
		"trace:2: not JSON: \"unexpected token near end of file\", expected an object a "
		"line");
	request_trace_refused("{\"timestamp\": -4, \"input_length\": 4}",
		"trace:1: timestamp: -4, expected milliseconds of 0 to 100 days");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/request_trace/round_trip", test_round_trip);
	g_test_add_func("/request_trace/damage", test_damage);
	g_test_add_func("/request_trace/mooncake", test_mooncake);
	g_test_add_func("/request_trace/prefix_ids", test_prefix_ids);
	g_test_add_func("/request_trace/mooncake_variants", test_mooncake_variants);
	g_test_add_func("/request_trace/mooncake_refused", test_mooncake_refused);
	return g_test_run();
}
