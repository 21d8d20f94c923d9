/* test_fleet_naive.c: a replica against the naive one, request by request, on small random cases.
 */
#include "sim/base/rng.h"
#include "tests/unit/fleet_fixture.h"
#include "tests/unit/naive_fleet.h"

enum { BLOCK = 16 };

static uint32_t between(kvt_rng *rng, uint32_t low, uint32_t high)
{
	return low + (uint32_t)kvt_rng_below(rng, high - low + 1);
}

static char *random_text(kvt_rng *rng)
{
	uint32_t base = between(rng, 0, 300), token = between(rng, 0, 30);
	uint32_t sequence = between(rng, 0, 50), kv = between(rng, 0, 99);
	uint32_t sequences = between(rng, 1, 12), ahead = between(rng, 1, 12);
	uint32_t budget = between(rng, sequences, 200), chunk = between(rng, 1, 150);
	return g_strdup_printf("[step]\nmodel = linear\nbase = %uus\nper_token = %uus\n"
			       "per_sequence = %uus\nper_kv_token = %uns\n"
			       "[scheduler]\nmax_sequences = %u\nahead = %u\ntoken_budget = %u\n"
			       "chunk_tokens = %u\n",
		base, token, sequence, kv, sequences, ahead, budget, chunk);
}

/* Sessions whose turns go on from one another, and sessions that share their beginning; answers of
 * `most` tokens at most. */
static void add_session(
	kvt_made_trace *made, kvt_rng *rng, uint32_t session, uint32_t most, GArray *requests)
{
	uint32_t turns = between(rng, 1, 4), tokens = 0;
	uint32_t shared = between(rng, 0, 5), root = between(rng, 0, 1);
	for (uint32_t turn = 0; turn < turns; turn++) {
		tokens += between(rng, 1, 120);
		kvt_time thirds = between(rng, 0, 120);
		kvt_request request = { .arrival = thirds * KVT_MILLISECOND / 3,
			.session = session,
			.after = KVT_REQUEST_NONE,
			.joins = KVT_REQUEST_NONE,
			.input_tokens = tokens,
			.output_tokens = between(rng, 0, most),
			.first_block = made->blocks->len,
			.n_blocks = tokens / BLOCK };
		if (turn > 0) {
			const kvt_request *before =
				&g_array_index(requests, kvt_request, requests->len - 1);
			request.arrival += before->arrival;
		}
		for (uint32_t i = 0; i < request.n_blocks; i++) {
			/* ids of prefixes: shared ones are of two roots */
			uint32_t id = i < shared ? root * 8 + i : 16 + session * 64 + i;
			g_array_append_val(made->blocks, id);
			made->n_ids = MAX(made->n_ids, id + 1);
		}
		tokens += request.output_tokens;
		g_array_append_val(requests, request);
	}
}

static gint by_arrival(gconstpointer a, gconstpointer b)
{
	const kvt_request *x = a, *y = b;
	if (x->arrival != y->arrival)
		return x->arrival < y->arrival ? -1 : 1;
	if (x->session != y->session)
		return x->session < y->session ? -1 : 1;
	return x->input_tokens < y->input_tokens ? -1 : x->input_tokens > y->input_tokens;
}

static kvt_made_trace *random_trace(kvt_rng *rng, bool named)
{
	kvt_made_trace *made = kvt_made_trace_new(BLOCK);
	g_autoptr(GArray) requests = g_array_new(FALSE, FALSE, sizeof(kvt_request));
	made->n_sessions = between(rng, 1, 12);
	for (uint32_t i = 0; i < made->n_sessions; i++)
		add_session(made, rng, i, named ? 20 : 60, requests);
	g_array_sort(requests, by_arrival);
	for (guint i = 0; i < requests->len; i++)
		if (!named)
			g_array_index(requests, kvt_request, i).n_blocks = 0;
	g_array_append_vals(made->requests, requests->data, requests->len);
	return made;
}

static void compare(const kvt_fleet *fleet, const kvt_naive_outcome *naive, uint64_t seed)
{
	for (uint32_t i = 0; i < fleet->n_requests; i++) {
		const kvt_request_outcome *o = &fleet->outcomes[i];
		if (o->first_token != naive[i].first_token || o->ended != naive[i].ended ||
			o->preemptions != naive[i].preemptions)
			g_test_message("case %" G_GUINT64_FORMAT ", request %u", seed, i);
		g_assert_cmpint(o->first_token, ==, naive[i].first_token);
		g_assert_cmpint(o->ended, ==, naive[i].ended);
		g_assert_cmpuint(o->preemptions, ==, naive[i].preemptions);
	}
}

/* Prefixes that outlive their requests, in HBM that has room for all. */
static void test_prefixes(void)
{
	uint64_t hits = 0;
	for (uint64_t seed = 1; seed <= 400; seed++) {
		kvt_rng rng = kvt_rng_init(seed, 1);
		g_autofree char *text = random_text(&rng);
		g_autoptr(kvt_made_trace) made = random_trace(&rng, true);
		g_autoptr(kvt_fleet_settings) settings = kvt_fleet_fixture_settings(text, NULL);
		const kvt_request_trace *trace = kvt_made_trace_get(made);
		g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, trace);
		g_autofree kvt_naive_outcome *naive = g_new(kvt_naive_outcome, trace->n_requests);
		kvt_naive_fleet_run(settings, trace, UINT64_MAX, naive);
		compare(fleet, naive, seed);
		for (uint32_t i = 0; i < fleet->n_requests; i++)
			hits += fleet->outcomes[i].hit_blocks[KVT_KV_HBM];
	}
	g_assert_cmpuint(hits, >, 1000);
}

/* Little HBM: whoever came last gives way, and is computed again. */
static void test_preemption(void)
{
	uint64_t preemptions = 0;
	for (uint64_t seed = 1; seed <= 400; seed++) {
		kvt_rng rng = kvt_rng_init(seed, 2);
		g_autofree char *text = random_text(&rng);
		g_autoptr(kvt_made_trace) made = random_trace(&rng, false);
		g_autoptr(kvt_fleet_settings) settings = kvt_fleet_fixture_settings(text, NULL);
		kvt_experiment *e = settings->experiment;
		/* of 16 tokens; the largest request is of 720 at most */
		uint64_t pages = between(&rng, 46, 60);
		const kvt_request_trace *trace = kvt_made_trace_get(made);
		g_autoptr(kvt_fleet) big = kvt_fleet_new(settings, trace, NULL);
		uint64_t page_bytes = 0;
		for (unsigned kind = 0; kind < big->shape.n_kinds; kind++)
			page_bytes += big->shape.kinds[kind].token_bytes * (uint64_t)e->page_tokens;
		uint64_t spare = big->hbm_bytes - pages * page_bytes;
		e->activation_bytes += spare / (uint64_t)e->ranks;
		g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, trace);
		g_assert_cmpuint(fleet->hbm_bytes / page_bytes, ==, pages);
		g_autofree kvt_naive_outcome *naive = g_new(kvt_naive_outcome, trace->n_requests);
		kvt_naive_fleet_run(settings, trace, pages, naive);
		compare(fleet, naive, seed);
		for (uint32_t i = 0; i < fleet->n_requests; i++)
			preemptions += fleet->outcomes[i].preemptions;
	}
	g_assert_cmpuint(preemptions, >, 100);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fleet/naive/prefixes", test_prefixes);
	g_test_add_func("/fleet/naive/preemption", test_preemption);
	return g_test_run();
}
