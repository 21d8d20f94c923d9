/* test_request_agentic.c: agentic traces: whose ids, who waits for whom, what is refused. */
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/base/sim_time.h"
#include "tests/unit/request_fixture.h"

#define HEAD "{\"id\":\"x\",\"block_size\":64,\"hash_id_scope\":\"local\",\"requests\":["
#define TAIL "],\"totals\":{}}"
#define REQ(t, in, ids, more)                                                                      \
	"{\"t\":" t ",\"type\":\"n\",\"in\":" in ",\"out\":10,\"hash_ids\":[" ids "]" more "}"

/* A chain: each waits for the one before, as long as recorded. */
static void test_chain(void)
{
	g_autoptr(kvt_request_trace) trace = request_trace_good(HEAD REQ(
		"0.0", "200", "1,2,3", ",\"api_time\":2.5,\"think_time\":0.0") ",\n" REQ("8.0",
		"300", "1,2,3,4", ",\"api_time\":3.0,\"think_time\":6.0") "," REQ("12.0", "190",
		"1,5", ",\"think_time\":0.5") "," REQ("30.0", "192", "1,5,6", "") TAIL);
	static const struct {
		uint32_t after;
		int64_t think_ms, latency_ms;
		const char *ids;
	} expected[] = {
		{ KVT_REQUEST_NONE, 0, 2500, "0 1 2" },
		{ 0, 6000, 3000, "0 1 2 3" },
		{ 1, 500, 0, "0 4" },
		/* The one before took ten tokens at (2.5 + 3.0) s / 20: 2.75 s. */
		{ 2, 15250, 0, "0 4 5" },
	};
	g_assert_cmpuint(trace->n_requests, ==, G_N_ELEMENTS(expected));
	g_assert_cmpuint(trace->block_tokens, ==, 64);
	g_assert_cmpuint(trace->n_sessions, ==, 1);
	for (unsigned i = 0; i < G_N_ELEMENTS(expected); i++) {
		const kvt_request *r = &trace->requests[i];
		g_autofree char *ids = request_blocks_text(trace, i);
		g_assert_cmpuint(r->after, ==, expected[i].after);
		g_assert_cmpuint(r->joins, ==, KVT_REQUEST_NONE);
		g_assert_cmpint(r->think, ==, expected[i].think_ms * KVT_MILLISECOND);
		g_assert_cmpint(r->latency, ==, expected[i].latency_ms * KVT_MILLISECOND);
		g_assert_cmpuint(r->flags, ==, 0);
		g_assert_cmpstr(ids, ==, expected[i].ids);
	}
}

#define SUB(end, ms, inner)                                                                        \
	"{\"t\":" end ",\"type\":\"subagent\",\"duration_ms\":" ms ",\"requests\":[" inner "]}"

/* Two sub-agents at once, one of which has two requests and a sub-agent of its own. */
static void test_subagents(void)
{
	g_autoptr(kvt_request_trace) trace = request_trace_good(
		HEAD REQ("0", "64", "1", ",\"api_time\":4.0") "," SUB("20.5", "16000",
			REQ("0", "64", "50", ",\"api_time\":1,\"think_time\":0") "," SUB("9.0",
				"7000", REQ("0", "64", "70", ",\"api_time\":6.5")) "," REQ("10",
				"128", "50,51", ",\"api_time\":5,\"think_time\":9")) "," SUB("14.5",
			"10000", REQ("1.0", "64", "60", ",\"api_time\":8")) "," REQ("25", "128",
			"1,2", ",\"api_time\":2,\"think_time\":21") TAIL);
	/* In order of arrival: main, first of sub 1, its sub-agent, first of sub 2, ... */
	static const struct {
		double arrival, think;
		uint32_t after, joins, session, flags;
	} expected[] = {
		{ 0, 0, KVT_REQUEST_NONE, KVT_REQUEST_NONE, 0, 0 },
		{ 4.5, 0.5, 0, KVT_REQUEST_NONE, 1, KVT_REQUEST_SUBAGENT },
		{ 5.5, 1.5, 0, 5, 2, KVT_REQUEST_SUBAGENT },
		{ 6.5, 1, 1, KVT_REQUEST_NONE, 3, KVT_REQUEST_SUBAGENT },
		{ 14.5, 1.5, 3, KVT_REQUEST_NONE, 1, KVT_REQUEST_SUBAGENT },
		{ 25, 5.5, 4, KVT_REQUEST_NONE, 0, 0 },
	};
	g_assert_cmpuint(trace->n_requests, ==, G_N_ELEMENTS(expected));
	for (unsigned i = 0; i < G_N_ELEMENTS(expected); i++) {
		const kvt_request *r = &trace->requests[i];
		g_test_message("request %u", i);
		g_assert_cmpint(r->arrival, ==, kvt_time_from_seconds(expected[i].arrival));
		g_assert_cmpint(r->think, ==, kvt_time_from_seconds(expected[i].think));
		g_assert_cmpuint(r->after, ==, expected[i].after);
		g_assert_cmpuint(r->joins, ==, expected[i].joins);
		g_assert_cmpuint(r->session, ==, expected[i].session);
		g_assert_cmpuint(r->flags, ==, expected[i].flags);
	}
}

/* A parent that does not wait: it goes on beside its sub-agent, and what comes after both waits
 * for both. */
static void test_background(void)
{
	g_autoptr(kvt_request_trace) trace = request_trace_good(
		HEAD REQ("0", "64", "1", ",\"api_time\":4") "," SUB("40", "36000",
			REQ("0", "64", "50", ",\"api_time\":36")) "," REQ("10", "128", "1,2",
			",\"api_time\":2") "," REQ("50", "192", "1,2,3", ",\"api_time\":2") TAIL);
	g_assert_cmpuint(trace->requests[1].after, ==, 0);
	g_assert_cmpuint(trace->requests[1].joins, ==, KVT_REQUEST_NONE);
	g_assert_cmpuint(trace->requests[2].after, ==, 0);
	g_assert_cmpint(trace->requests[2].think, ==, 6 * KVT_SECOND);
	g_assert_cmpuint(trace->requests[2].joins, ==, 3);
	g_assert_cmpuint(trace->requests[3].after, ==, 1);
	g_assert_cmpint(trace->requests[3].think, ==, 10 * KVT_SECOND);
}

/* Local ids of two files are different blocks, global ones the same. */
static void test_folder(void)
{
	static const char *const scopes[] = { "local", "global" };
	g_autofree char *folder = g_dir_make_tmp("kvtier-XXXXXX", NULL);
	for (unsigned scope = 0; scope < 2; scope++) {
		for (unsigned i = 0; i < 2; i++) {
			g_autofree char *name = g_strdup_printf("%u.json", i);
			g_autofree char *path = g_build_filename(folder, name, NULL);
			g_autofree char *text = g_strdup_printf(
				"{\"block_size\":64,\n\"hash_id_scope\":\"%s\",\n\"requests\":[\n"
				"{\"t\":%u,\"in\":130,\"out\":1,\"hash_ids\":[1,2]}]}",
				scopes[scope], i);
			g_assert_true(g_file_set_contents(path, text, -1, NULL));
		}
		g_autoptr(GError) error = NULL;
		g_autoptr(kvt_request_trace) trace = kvt_request_trace_open(folder, &error);
		g_assert_no_error(error);
		g_assert_cmpuint(trace->n_requests, ==, 2);
		g_assert_cmpuint(trace->n_sessions, ==, 2);
		g_assert_cmpuint(trace->n_ids, ==, scope == 0 ? 4 : 2);
	}
	for (unsigned i = 0; i < 2; i++) {
		g_autofree char *name = g_strdup_printf("%u.json", i);
		g_autofree char *path = g_build_filename(folder, name, NULL);
		g_unlink(path);
	}
	g_autoptr(GError) error = NULL;
	g_assert_null(kvt_request_trace_open(folder, &error));
	g_assert_nonnull(strstr(error->message, "has no .json files, expected agentic traces"));
	g_rmdir(folder);
}

/* Whatever the times are, what waits comes later than what it waits for: the trace is checked when
 * it is made, and a request that is not would trip an assertion of the builder. */
static void test_never_cyclic(void)
{
	for (uint64_t seed = 0; seed < 300; seed++) {
		kvt_rng rng = kvt_rng_init(seed, kvt_rng_stream_id("agentic", 0));
		g_autoptr(GString) text = g_string_new(HEAD);
		unsigned n = 1 + (unsigned)kvt_rng_below(&rng, 30);
		unsigned count = 0;
		for (unsigned i = 0; i < n; i++) {
			bool sub = kvt_rng_below(&rng, 3) == 0;
			unsigned inner = sub ? (unsigned)kvt_rng_below(&rng, 4) : 1;
			if (i > 0)
				g_string_append_c(text, ',');
			if (sub)
				g_string_append_printf(text,
					"{\"t\":%u,\"duration_ms\":%u,\"requests\":[",
					(unsigned)kvt_rng_below(&rng, 12),
					1000 * (unsigned)kvt_rng_below(&rng, 14));
			for (unsigned j = 0; j < inner; j++) {
				g_string_append_printf(text,
					"%s{\"t\":%u,\"in\":9,\"out\":1,\"hash_ids\":[]",
					j > 0 ? "," : "", (unsigned)kvt_rng_below(&rng, 12));
				if (kvt_rng_below(&rng, 2) == 0)
					g_string_append_printf(text, ",\"api_time\":%u",
						(unsigned)kvt_rng_below(&rng, 5));
				g_string_append_c(text, '}');
			}
			if (sub)
				g_string_append(text, "]}");
			count += inner;
		}
		g_string_append(text, TAIL);
		if (count == 0)
			continue;
		g_autoptr(kvt_request_trace) trace = request_trace_good(text->str);
		g_assert_cmpuint(trace->n_requests, ==, count);
		for (uint32_t i = 0; i < count; i++) {
			const kvt_request *r = &trace->requests[i];
			g_assert_true(r->after == KVT_REQUEST_NONE || r->after < i);
			g_assert_true(r->joins == KVT_REQUEST_NONE || r->joins > i);
			g_assert_cmpint(r->think, >=, 0);
		}
	}
}

static void test_refused(void)
{
	request_trace_refused("{\"block_size\":64}",
		"trace: requests: is missing, expected an array of requests");
	request_trace_refused("{\"requests\":[]}",
		"trace:1: block_size: is missing before requests, expected tokens a block");
	request_trace_refused("{\"block_size\":0,\"requests\":[]}",
		"trace:1: block_size: is not 1 to 1048576, expected tokens a block");
	request_trace_refused("{\"block_size\":64,\"hash_id_scope\":\"here\"}",
		"trace:1: hash_id_scope: is not known, expected \"local\" or \"global\"");
	request_trace_refused(HEAD TAIL, "trace: has no requests, expected one at least");
	request_trace_refused(HEAD "\n\n{\"t\":0,\"in\":64}" TAIL,
		"trace:3: requests[0].out: is missing, expected a number of tokens");
	request_trace_refused(HEAD REQ("0", "64", "1", "") ",\n" REQ("1", "64", "1,2", "") TAIL,
		"trace:2: requests[1].hash_ids: 2 blocks of 64 for 64 tokens, expected no more "
		"than "
		"they fill");
	request_trace_refused(HEAD REQ("-1", "64", "1", "") TAIL,
		"trace:1: requests[0].t: -1, expected seconds of 0 to 100 days");
	request_trace_refused(HEAD SUB("1", "0", REQ("\"a\"", "64", "1", "")) TAIL,
		"trace:1: requests[0].requests[0].t: is a text, expected seconds");
	request_trace_refused(
		HEAD "3" TAIL, "trace:1: requests[0]: is no object, expected a request");
	request_trace_refused("{\"block_size\":64,\"requests\":3}",
		"trace:1: not JSON: something else, expected requests to be an array");
	request_trace_refused(HEAD "\n{\"t\":", "trace:2: not JSON: \"unexpected token near end of "
						"file\", expected an agentic trace");
	request_trace_refused(HEAD, "trace:1: not JSON: \"unexpected token near end of file\", "
				    "expected an agentic trace");
	request_trace_refused(HEAD TAIL "\n}",
		"trace:2: not JSON: something else, expected nothing after the object");
	g_autoptr(GString) deep = g_string_new(HEAD);
	for (unsigned i = 0; i < 18; i++)
		g_string_append(deep, "{\"t\":1,\"requests\":[");
	for (unsigned i = 0; i < 18; i++)
		g_string_append(deep, "]}");
	g_string_append(deep, TAIL);
	g_autoptr(GError) error = NULL;
	g_assert_null(request_trace_of(deep->str, -1, &error));
	g_assert_nonnull(strstr(error->message,
		"requests: nested too deep, expected 16 sub-agents within one another at most"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/request_agentic/chain", test_chain);
	g_test_add_func("/request_agentic/subagents", test_subagents);
	g_test_add_func("/request_agentic/background", test_background);
	g_test_add_func("/request_agentic/folder", test_folder);
	g_test_add_func("/request_agentic/never_cyclic", test_never_cyclic);
	g_test_add_func("/request_agentic/refused", test_refused);
	return g_test_run();
}
