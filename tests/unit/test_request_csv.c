/* test_request_csv.c: request traces that are tables of lengths. */
#include <glib.h>

#include "sim/base/sim_time.h"
#include "tests/unit/request_fixture.h"

#define AZURE "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
#define BURST "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"

static void test_azure(void)
{
	g_autoptr(kvt_request_trace) trace =
		request_trace_good(AZURE "2024-02-29 23:59:59.9799600,4808,10\r\n"
					 "2024-03-01 00:00:00.0319600,3180,8\r\n\r\n"
					 "2024-03-01T01:00:00.5+01:00,7,0\r\n"
					 "2024-02-29 23:59:00Z,1,1\r\n");
	static const int64_t arrivals_ns[] = { 0, 59979960000, 60031960000, 60500000000 };
	static const uint32_t inputs[] = { 1, 4808, 3180, 7 };
	g_assert_cmpuint(trace->n_requests, ==, 4);
	g_assert_cmpuint(trace->n_sessions, ==, 4);
	g_assert_cmpuint(trace->n_blocks, ==, 0);
	g_assert_cmpuint(trace->block_tokens, ==, 0);
	for (unsigned i = 0; i < 4; i++) {
		g_assert_cmpint(trace->requests[i].arrival, ==, arrivals_ns[i] * KVT_NANOSECOND);
		g_assert_cmpuint(trace->requests[i].input_tokens, ==, inputs[i]);
		g_assert_cmpuint(trace->requests[i].session, ==, i);
	}
	g_assert_cmpuint(trace->requests[3].output_tokens, ==, 0);
}

static void test_burstgpt(void)
{
	g_autoptr(kvt_request_trace) trace =
		request_trace_good(BURST "5,ChatGPT,472,18,490,Conversation log\n"
					 "45.25,ChatGPT,1087,230,1317,API log\n"
					 "118,GPT-4,417,0,417,\"Conversation log\"\n");
	g_assert_cmpuint(trace->n_requests, ==, 3);
	g_assert_cmpint(trace->requests[1].arrival, ==, 40250 * KVT_MILLISECOND);
	g_assert_cmpuint(trace->requests[2].output_tokens, ==, 0);
	g_assert_cmpuint(trace->n_tenants, ==, 2);
	g_assert_cmpstr(trace->tenant_names[0], ==, "Conversation log");
	g_assert_cmpstr(trace->tenant_names[1], ==, "API log");
	g_assert_cmpuint(trace->requests[2].tenant, ==, 0);
	g_assert_cmpuint(trace->n_sessions, ==, 3);
}

/* Columns are found by name. */
static void test_burstgpt_sessions(void)
{
	g_autoptr(kvt_request_trace) trace = request_trace_good(
		"Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total "
		"tokens,Log Type\n"
		"0,7,1.5,GPT-4,10,20,30,API log\n1,,1,GPT-4,10,20,30,API log\n"
		"2,7,1,GPT-4,11,21,32,API log\n");
	g_assert_cmpuint(trace->n_sessions, ==, 2);
	g_assert_cmpuint(trace->requests[2].session, ==, trace->requests[0].session);
	g_assert_cmpuint(trace->requests[2].input_tokens, ==, 11);
}

static void test_refused(void)
{
	request_trace_refused(AZURE, "trace: has no requests, expected one at least");
	request_trace_refused("TIMESTAMP,ContextTokens\n1,2\n",
		"trace:1: GeneratedTokens: is missing, expected a column of that name");
	request_trace_refused(AZURE "2023-11-16 18:17:03,4808\n",
		"trace:2: GeneratedTokens: is missing, expected 3 columns or more");
	request_trace_refused(AZURE "2023-11-16 18:17:03,48x8,3\n",
		"trace:2: ContextTokens: \"48x8\", expected a number of tokens of 0 to 1073741823");
	request_trace_refused(AZURE "2023-11-16 18:17:03,nan,3\n",
		"trace:2: ContextTokens: \"nan\", expected a number of tokens of 0 to 1073741823");
	static const char *const dates[] = { "2023-11-16", "2023-13-16 18:17:03",
		"2023-11-16 24:17:03", "2023-11-16 18:17:03.5x", "", "0000-00-00 00:00:00" };
	for (unsigned i = 0; i < G_N_ELEMENTS(dates); i++) {
		g_autofree char *text = g_strdup_printf(AZURE "\n%s,1,1\n", dates[i]);
		g_autofree char *message = g_strdup_printf(
			"trace:3: TIMESTAMP: \"%s\", expected a date and time like \"2023-11-16 "
			"18:17:03.9799600\"",
			dates[i]);
		request_trace_refused(text, message);
	}
	request_trace_refused(AZURE "2023-11-16 18:17:03,1,1\n2024-11-16 18:17:03,1,1\n",
		"trace:3: TIMESTAMP: \"2024-11-16 18:17:03\", expected times within 100 days of "
		"the "
		"first");
	request_trace_refused(BURST "x,ChatGPT,472,18,490,API log\n",
		"trace:2: Timestamp: \"x\", expected seconds");
	request_trace_refused(BURST "5,ChatGPT,472\n",
		"trace:2: Log Type: is missing, expected 6 columns or more");
	request_trace_refused(BURST "5,ChatGPT,-2,1,1,API log\n",
		"trace:2: Request tokens: \"-2\", expected a number of tokens of 0 to 1073741823");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/request_csv/azure", test_azure);
	g_test_add_func("/request_csv/burstgpt", test_burstgpt);
	g_test_add_func("/request_csv/burstgpt_sessions", test_burstgpt_sessions);
	g_test_add_func("/request_csv/refused", test_refused);
	return g_test_run();
}
