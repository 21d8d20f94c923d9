/* test_request_transform.c: parts of request traces, other rates, blocks and users; mixes. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/base/rng.h"
#include "tests/unit/request_fixture.h"
#include "traces/request_builder.h"
#include "traces/request_transform.h"

/* Two sessions of an agent each: 0 -> 2 -> 4 and 1 -> {3, 5}, 3 joins 5. */
static const char agents[] =
	"{\"block_size\":64,\"requests\":["
	"{\"t\":0,\"in\":200,\"out\":10,\"hash_ids\":[1,2,3],\"api_time\":2},"
	"{\"t\":10,\"duration_ms\":7000,\"requests\":["
	"{\"t\":0,\"in\":70,\"out\":1,\"hash_ids\":[9],\"api_time\":3}]},"
	"{\"t\":9,\"duration_ms\":5000,\"requests\":["
	"{\"t\":0,\"in\":70,\"out\":1,\"hash_ids\":[8],\"api_time\":4}]},"
	"{\"t\":20,\"in\":300,\"out\":10,\"hash_ids\":[1,2,3,4],\"api_time\":2}]}";

static const char lines[] =
	"{\"timestamp\":0,\"input_length\":600,\"output_length\":10,\"hash_ids\":[1,2]}\n"
	"{\"timestamp\":1000,\"input_length\":600,\"output_length\":10,\"hash_ids\":[3,4]}\n"
	"{\"timestamp\":4000,\"input_length\":1200,\"output_length\":10,\"hash_ids\":[1,5,6]}\n"
	"{\"timestamp\":9000,\"input_length\":1600,\"output_length\":10,\"hash_ids\":[1,5,7,8]}\n";

static kvt_request_trace *edited(const char *text, const kvt_request_edit *edit)
{
	g_autoptr(kvt_request_trace) trace = request_trace_good(text);
	g_autoptr(GError) error = NULL;
	kvt_request_trace *other = kvt_request_transform(trace, edit, "trace", &error);
	g_assert_no_error(error);
	return other;
}

/* Without a change a trace is itself. */
static void test_nothing(void)
{
	static const char *const texts[] = { agents, lines };
	for (unsigned i = 0; i < 2; i++) {
		g_autoptr(kvt_request_trace) trace = request_trace_good(texts[i]);
		g_autoptr(kvt_request_trace) same = edited(texts[i], &(kvt_request_edit){ 0 });
		request_traces_equal(trace, same);
	}
}

static void test_cut(void)
{
	g_autoptr(kvt_request_trace) part =
		edited(lines, &(kvt_request_edit){ .from = KVT_SECOND, .until = 9 * KVT_SECOND });
	g_assert_cmpuint(part->n_requests, ==, 2);
	g_assert_cmpint(part->requests[0].arrival, ==, 0);
	g_assert_cmpint(part->requests[1].arrival, ==, 3 * KVT_SECOND);
	g_assert_cmpuint(part->n_ids, ==, 5);
	g_autofree char *ids = request_blocks_text(part, 1);
	g_assert_cmpstr(ids, ==, "2 3 4");
	g_autoptr(kvt_request_trace) last =
		edited(lines, &(kvt_request_edit){ .from = 1, .first = 2, .count = 9 });
	g_assert_cmpuint(last->n_requests, ==, 1);
	g_assert_cmpuint(last->requests[0].input_tokens, ==, 1600);
	/* What the last one waited for is gone. */
	g_autoptr(kvt_request_trace) alone =
		edited(agents, &(kvt_request_edit){ .from = 19 * KVT_SECOND });
	g_assert_cmpuint(alone->n_requests, ==, 1);
	g_assert_cmpuint(alone->requests[0].after, ==, KVT_REQUEST_NONE);
	g_assert_cmpint(alone->requests[0].think, ==, 0);
	/* Of the two sub-agents that it waited for, the one that stays is enough. */
	g_autoptr(kvt_request_trace) one =
		edited(agents, &(kvt_request_edit){ .from = 3500 * KVT_MILLISECOND });
	g_assert_cmpuint(one->n_requests, ==, 2);
	g_assert_cmpuint(one->requests[0].joins, ==, KVT_REQUEST_NONE);
	g_assert_cmpuint(one->requests[1].after, ==, 0);
	g_assert_cmpint(one->requests[1].think, ==, 12 * KVT_SECOND);
	g_autoptr(kvt_request_trace) trace = request_trace_good(lines);
	g_autoptr(GError) error = NULL;
	const kvt_request_edit late = { .from = 10 * KVT_SECOND };
	g_assert_null(kvt_request_transform(trace, &late, "x", &error));
	g_assert_cmpstr(error->message, ==, "x: has no requests, expected one at least");
}

static void test_rate(void)
{
	g_autoptr(kvt_request_trace) fast = edited(agents, &(kvt_request_edit){ .rate = 4 });
	g_assert_cmpuint(fast->n_requests, ==, 4);
	g_assert_cmpint(fast->requests[3].arrival, ==, 5 * KVT_SECOND);
	/* What users think, and who waits for whom, stays. */
	g_autoptr(kvt_request_trace) trace = request_trace_good(agents);
	for (unsigned i = 0; i < 4; i++) {
		g_assert_cmpint(fast->requests[i].think, ==, trace->requests[i].think);
		g_assert_cmpuint(fast->requests[i].after, ==, trace->requests[i].after);
		g_assert_cmpuint(fast->requests[i].joins, ==, trace->requests[i].joins);
	}
	g_autoptr(GError) error = NULL;
	const kvt_request_edit slow = { .rate = 1e-7 };
	g_assert_null(kvt_request_transform(trace, &slow, "x", &error));
	g_assert_nonnull(strstr(error->message, "longer than 100 days, expected a part of it"));
}

static void test_close(void)
{
	g_autoptr(kvt_request_trace) closed = edited(
		lines, &(kvt_request_edit){ .close = true, .close_pace = 50 * KVT_MILLISECOND });
	static const uint32_t after[] = { KVT_REQUEST_NONE, KVT_REQUEST_NONE, 0, 2 };
	static const int64_t think_ms[] = { 0, 0, 3500, 4500 };
	for (unsigned i = 0; i < 4; i++) {
		g_assert_cmpuint(closed->requests[i].after, ==, after[i]);
		g_assert_cmpint(closed->requests[i].think, ==, think_ms[i] * KVT_MILLISECOND);
	}
}

/* Coarser blocks are those that end where the finer ones do; finer ones share as much. */
static void test_blocks(void)
{
	g_autoptr(kvt_request_trace) coarse = edited(
		"{\"timestamp\":0,\"input_length\":80,\"output_length\":1,\"hash_ids\":[1,2,3,4,5]}"
		"\n"
		"{\"timestamp\":1,\"input_length\":75,\"output_length\":1,\"hash_ids\":[1,2,3,7,8]}"
		"\n"
		"{\"timestamp\":2,\"input_length\":64,\"output_length\":1,\"hash_ids\":[1,2,3,4]}\n"
		"{\"timestamp\":3,\"input_length\":63,\"output_length\":1,\"hash_ids\":[1,2,3,9]}"
		"\n",
		&(kvt_request_edit){ .block_tokens = 32 });
	static const char *const expected[] = { "0 1", "0 2", "0 1", "0" };
	g_assert_cmpuint(coarse->block_tokens, ==, 32);
	for (unsigned i = 0; i < 4; i++) {
		g_autofree char *ids = request_blocks_text(coarse, i);
		g_assert_cmpstr(ids, ==, expected[i]);
	}
	g_autoptr(kvt_request_trace) fine =
		edited(lines, &(kvt_request_edit){ .block_tokens = 256 });
	static const char *const finer[] = { "0 1 2", "3 4 5", "0 1 6 7 8", "0 1 6 7 9 10 11" };
	for (unsigned i = 0; i < 4; i++) {
		g_autofree char *ids = request_blocks_text(fine, i);
		g_assert_cmpstr(ids, ==, finer[i]);
	}
	g_autoptr(kvt_request_trace) trace = request_trace_good(lines);
	g_autoptr(GError) error = NULL;
	const kvt_request_edit odd = { .block_tokens = 300 };
	g_assert_null(kvt_request_transform(trace, &odd, "x", &error));
	g_assert_cmpstr(error->message, ==,
		"x: blocks of 512 tokens as blocks of 300, expected a multiple or a fraction");
}

/* `count` copies of an agent's session, which all begin at 0. */
static kvt_request_trace *many_agents(unsigned count)
{
	kvt_request_part *parts = g_new0(kvt_request_part, count);
	g_autoptr(kvt_request_trace) one = request_trace_good(agents);
	for (unsigned i = 0; i < count; i++)
		parts[i].trace = one;
	g_autoptr(GError) error = NULL;
	kvt_request_trace *many = kvt_request_mix(parts, count, 0, &error);
	g_assert_no_error(error);
	g_free(parts);
	g_assert_cmpuint(many->n_requests, ==, 4 * count);
	g_assert_cmpuint(many->n_sessions, ==, 3 * count);
	g_assert_cmpuint(many->n_ids, ==, 6 * count);
	return many;
}

/* Dialogues begin apart, and each is as long as it was. */
static void test_starts(void)
{
	enum { COUNT = 400 };
	g_autoptr(kvt_request_trace) many = many_agents(COUNT);
	g_autoptr(GError) error = NULL;
	const kvt_request_edit edit = { .start_rate = 0.5, .seed = 3 };
	g_autoptr(kvt_request_trace) spread = kvt_request_transform(many, &edit, "x", &error);
	g_assert_no_error(error);
	g_autofree uint32_t *root = g_new(uint32_t, 4 * COUNT);
	double last = 0;
	unsigned roots = 0;
	for (uint32_t i = 0; i < spread->n_requests; i++) {
		const kvt_request *r = &spread->requests[i];
		root[i] = r->after == KVT_REQUEST_NONE ? i : root[r->after];
		kvt_time since = r->arrival - spread->requests[root[i]].arrival;
		if (root[i] == i) {
			last = kvt_time_to_seconds(r->arrival);
			roots++;
		} else if (r->joins == KVT_REQUEST_NONE && r->input_tokens == 300) {
			g_assert_cmpint(since, ==, 20 * KVT_SECOND);
		}
	}
	g_assert_cmpuint(roots, ==, COUNT);
	/* 399 intervals of 2 s: a standard deviation is 40 s. */
	g_assert_cmpfloat_with_epsilon(last, 798, 160);
}

/* Each user has one dialogue at a time, the next one `think` after the end of the last. */
static void test_users(void)
{
	g_autoptr(kvt_request_trace) many = many_agents(10);
	g_autoptr(GError) error = NULL;
	const kvt_request_edit edit = { .users = 3, .think = 5 * KVT_SECOND };
	g_autoptr(kvt_request_trace) users = kvt_request_transform(many, &edit, "x", &error);
	g_assert_no_error(error);
	unsigned firsts = 0, nexts = 0;
	for (uint32_t i = 0; i < users->n_requests; i++) {
		const kvt_request *r = &users->requests[i];
		firsts += r->after == KVT_REQUEST_NONE;
		if (r->input_tokens != 200 || r->after == KVT_REQUEST_NONE)
			continue;
		const kvt_request *before = &users->requests[r->after];
		nexts++;
		g_assert_cmpuint(before->input_tokens, ==, 300);
		g_assert_cmpint(r->think, ==, 5 * KVT_SECOND);
		g_assert_cmpint(r->arrival, ==, before->arrival + before->latency + r->think);
	}
	g_assert_cmpuint(firsts, ==, 3);
	g_assert_cmpuint(nexts, ==, 7);
	g_assert_cmpint(
		users->requests[users->n_requests - 1].arrival, ==, (3 * 27 + 20) * KVT_SECOND);
}

/* A trace of `count` requests, `apart` from each other. */
static kvt_request_trace *even_trace(unsigned count, kvt_time apart, const char *name)
{
	g_autoptr(kvt_request_builder) builder = kvt_request_builder_new(name);
	kvt_request_builder_tenant(builder, name);
	for (unsigned i = 0; i < count; i++) {
		kvt_request r = { .arrival = i * apart,
			.after = KVT_REQUEST_NONE,
			.joins = KVT_REQUEST_NONE,
			.input_tokens = 1 };
		r.session = kvt_request_builder_session(builder);
		kvt_request_builder_add(builder, &r);
	}
	return kvt_request_builder_finish(builder, 0, name, NULL);
}

static void test_mix(void)
{
	g_autoptr(kvt_request_trace) a = even_trace(101, KVT_SECOND, "a");
	g_autoptr(kvt_request_trace) b = even_trace(1001, KVT_SECOND / 50, "b");
	const kvt_request_part parts[] = { { a, NULL, 3 }, { b, "second", 1 } };
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_request_trace) mix = kvt_request_mix(parts, 2, 8, &error);
	g_assert_no_error(error);
	/* a at 6/s ends after 16.7 s, b at 2/s has as much left over. */
	unsigned of[2] = { 0 };
	for (uint64_t i = 0; i < mix->n_requests; i++)
		of[mix->requests[i].tenant]++;
	g_assert_cmpuint(of[0], ==, 101);
	g_assert_cmpuint(of[1], ==, 34);
	g_assert_cmpuint(mix->n_tenants, ==, 2);
	g_assert_cmpstr(mix->tenant_names[0], ==, "a");
	g_assert_cmpstr(mix->tenant_names[1], ==, "second");
	g_assert_cmpstr(mix->source, ==, "mix of a, b");
	double last = kvt_time_to_seconds(mix->requests[mix->n_requests - 1].arrival);
	g_assert_cmpfloat_with_epsilon(last, 100 / 6.0, 1e-6);
}

static void test_mix_refused(void)
{
	g_autoptr(kvt_request_trace) a = request_trace_good(lines);
	g_autoptr(kvt_request_trace) b = request_trace_good(agents);
	g_autoptr(kvt_request_trace) still = even_trace(3, 0, "still");
	kvt_request_part parts[] = { { a, NULL, 0 }, { b, NULL, 0 } };
	g_autoptr(GError) blocks = NULL, share = NULL, rate = NULL;
	g_assert_null(kvt_request_mix(parts, 2, 0, &blocks));
	g_assert_cmpstr(blocks->message, ==,
		"trace (agentic trace): blocks of 64 tokens, expected 512 as those before have: "
		"convert it first");
	parts[1].trace = still;
	parts[0].share = 1;
	g_assert_null(kvt_request_mix(parts, 2, 0, &share));
	g_assert_cmpstr(
		share->message, ==, "still: no share, expected one of every trace or of none");
	parts[1].share = 1;
	g_assert_null(kvt_request_mix(parts, 2, 0, &rate));
	g_assert_cmpstr(
		rate->message, ==, "still: all arrive at once, expected a rate that can be scaled");
}

/* Random changes of a trace with sub-agents: what comes out keeps every promise (it is checked). */
static void test_random_edits(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_request_trace) trace =
		kvt_request_trace_open("traces/samples/requests/agentic", &error);
	g_assert_no_error(error);
	for (uint64_t seed = 0; seed < 200; seed++) {
		kvt_rng rng = kvt_rng_init(seed, kvt_rng_stream_id("edits", 0));
		kvt_request_edit edit = { .seed = seed };
		edit.first = kvt_rng_below(&rng, 30);
		edit.count = 1 + kvt_rng_below(&rng, 15);
		edit.close = kvt_rng_below(&rng, 2) == 0;
		edit.rate = kvt_rng_below(&rng, 2) == 0 ? 0.5 + 1e6 * kvt_rng_uniform(&rng) : 0;
		edit.start_rate = kvt_rng_below(&rng, 2) == 0 ? 0.1 : 0;
		edit.users = (uint32_t)kvt_rng_below(&rng, 4);
		edit.block_tokens = 16u << kvt_rng_below(&rng, 6);
		g_autoptr(kvt_request_trace) other =
			kvt_request_transform(trace, &edit, "x", &error);
		g_assert_no_error(error);
		g_assert_cmpuint(other->n_requests, ==, edit.count);
		g_assert_cmpint(other->requests[0].arrival, ==, 0);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/request_transform/nothing", test_nothing);
	g_test_add_func("/request_transform/cut", test_cut);
	g_test_add_func("/request_transform/rate", test_rate);
	g_test_add_func("/request_transform/close", test_close);
	g_test_add_func("/request_transform/blocks", test_blocks);
	g_test_add_func("/request_transform/starts", test_starts);
	g_test_add_func("/request_transform/users", test_users);
	g_test_add_func("/request_transform/mix", test_mix);
	g_test_add_func("/request_transform/mix_refused", test_mix_refused);
	g_test_add_func("/request_transform/random_edits", test_random_edits);
	return g_test_run();
}
