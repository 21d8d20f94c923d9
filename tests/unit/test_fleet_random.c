/* test_fleet_random.c: fleets of random settings, most of them with too little of everything: every
 * request ends or is refused, nothing leaks, and the same seed gives the same run. */
#include "sim/base/rng.h"
#include "tests/unit/fleet_fixture.h"

enum { BLOCK = 64 };

static uint32_t between(kvt_rng *rng, uint32_t low, uint32_t high)
{
	return low + (uint32_t)kvt_rng_below(rng, high - low + 1);
}

static const char *pick(kvt_rng *rng, const char *const *words)
{
	unsigned n = 0;
	while (words[n])
		n++;
	return words[kvt_rng_below(rng, n)];
}

static void add_tiers(GString *text, kvt_rng *rng)
{
	static const char *const kinds[] = { "dram", "nvme", "cxl", "remote-dram", "remote-nvme",
		NULL };
	static const char *const policies[] = { "lru", "fifo", "arc", "s3fifo", "lfu", NULL };
	static const char *const placements[] = { "hash", "writer", NULL };
	/* below a pool there is nothing of one node's alone */
	bool pooled = false;
	unsigned n = between(rng, 0, 3);
	for (unsigned i = 0; i < n; i++) {
		const char *kind = pick(rng, kinds), *policy = pick(rng, policies);
		g_string_append_printf(text,
			"[tier t%u]\nkind = %s\npolicy = %s\ncapacity = %uMB\n", i, kind, policy,
			between(rng, 1, 6000));
		if (g_str_has_prefix(kind, "remote"))
			continue;
		pooled = pooled || between(rng, 0, 2) == 0;
		g_string_append_printf(text, "scope = %s\nplacement = %s\nbandwidth = 20GB/s\n",
			pooled ? "pool" : "node", pick(rng, placements));
	}
}

/* Sections behind the fixture's. */
static char *random_text(kvt_rng *rng)
{
	static const char *const routings[] = { "round-robin", "least-loaded", "cache-affinity",
		NULL };
	static const char *const reloads[] = { "load", "recompute", "auto", NULL };
	static const char *const yes_no[] = { "yes", "no", NULL };
	static const char *const preemptions[] = { "recompute", "swap", NULL };
	GString *text = g_string_new("[step]\nmodel = tables\n[fleet]\n");
	g_string_append_printf(text, "replicas = %u\n", between(rng, 1, 3));
	g_string_append_printf(text, "replicas_a_node = %u\n", between(rng, 1, 2));
	g_string_append_printf(text, "routing = %s\ngive_up = 6h\n", pick(rng, routings));
	g_string_append_printf(text, "migration = %s\n", pick(rng, yes_no));
	uint32_t sequences = between(rng, 1, 24), budget = between(rng, sequences, 3000);
	g_string_append_printf(
		text, "[scheduler]\nmax_sequences = %u\ntoken_budget = %u\n", sequences, budget);
	g_string_append_printf(text, "chunk_tokens = %u\n", between(rng, 16, 3000));
	g_string_append_printf(text, "ahead = %u\n", between(rng, 1, 24));
	g_string_append_printf(text, "preemption = %s\n", pick(rng, preemptions));
	g_string_append_printf(text, "[cache]\nreload = %s\n", pick(rng, reloads));
	g_string_append_printf(text, "layerwise = %s\n", pick(rng, yes_no));
	g_string_append_printf(text, "write_through = %s\n", pick(rng, yes_no));
	g_string_append_printf(text, "shared = %s\n", pick(rng, yes_no));
	add_tiers(text, rng);
	return g_string_free(text, FALSE);
}

static void add_session(kvt_made_trace *made, kvt_rng *rng, uint32_t session)
{
	uint32_t turns = between(rng, 1, 5), tokens = 0, tenant = between(rng, 0, 1);
	uint32_t shared = between(rng, 0, 20);
	for (uint32_t turn = 0; turn < turns; turn++) {
		uint32_t before = made->requests->len;
		uint32_t output = between(rng, 0, 400);
		tokens += between(rng, 1, 3000);
		kvt_request *q = kvt_made_trace_add(made, 0, tokens, output);
		q->session = session;
		q->tenant = tenant;
		q->think = turn > 0 ? (kvt_time)between(rng, 0, 5) * KVT_SECOND : 0;
		q->after = turn > 0 ? before - 1 : KVT_REQUEST_NONE;
		uint32_t n = tokens / BLOCK;
		g_autofree uint32_t *ids = g_new(uint32_t, n + 1);
		for (uint32_t i = 0; i < n; i++)
			ids[i] = i < shared ? i : 20 + session * 400 + i;
		kvt_made_trace_set_blocks(made, ids, n);
		tokens += output;
	}
}

static kvt_made_trace *random_trace(kvt_rng *rng)
{
	kvt_made_trace *made = kvt_made_trace_new(BLOCK);
	uint32_t sessions = between(rng, 1, 12);
	for (uint32_t i = 0; i < sessions; i++)
		add_session(made, rng, i);
	made->n_sessions = sessions;
	made->n_tenants = 2;
	kvt_time at = 0;
	for (guint i = 0; i < made->requests->len; i++) {
		at += (kvt_time)between(rng, 0, 1500) * KVT_MILLISECOND;
		g_array_index(made->requests, kvt_request, i).arrival = at;
	}
	return made;
}

static void check_outcome(const kvt_fleet *fleet, uint32_t i)
{
	const kvt_request_outcome *o = &fleet->outcomes[i];
	const kvt_request *q = &fleet->trace->requests[i];
	g_assert_cmpint(o->arrival, >=, 0);
	g_assert_cmpint(o->ended, >=, o->arrival);
	if (o->refusal != KVT_REFUSED_NOT)
		return;
	g_assert_cmpint(o->admitted, >=, o->arrival);
	g_assert_cmpint(o->first_token, >, o->admitted);
	g_assert_cmpint(o->ended, >=, o->first_token);
	g_assert_cmpuint(o->generated, ==, MAX(q->output_tokens, 1));
	uint32_t hits = 0;
	for (unsigned level = 0; level < KVT_KV_LEVELS; level++)
		hits += o->hit_blocks[level];
	g_assert_cmpuint(hits, <=, o->lookup_blocks);
	g_assert_cmpuint(o->hit_tokens, <=, q->input_tokens);
}

typedef struct tally {
	uint64_t served, refused, preemptions, swaps, loaded;
} tally;

static void run_case(uint64_t seed, tally *sum)
{
	/* one kind of layers, and chunked ones beside global ones */
	static const char *const models[] = { "model.name=yi-34b-200k",
		"model.name=llama-4-scout-17b-16e-fp8", NULL };
	static const char *const loops[] = { "traffic.loop=open", "traffic.loop=closed", NULL };
	kvt_rng rng = kvt_rng_init(seed, 1);
	g_autofree char *text = random_text(&rng);
	g_autoptr(kvt_made_trace) made = random_trace(&rng);
	const char *sets[] = { pick(&rng, models), pick(&rng, loops), NULL };
	g_autoptr(kvt_fleet_settings) settings = kvt_fleet_fixture_settings(text, sets);
	kvt_experiment *e = settings->experiment;
	uint64_t room, leave = (uint64_t)between(&rng, 400, 4000) * 1000000;
	g_assert_true(kvt_experiment_kv_room(e, &room, NULL));
	e->activation_bytes += room - leave / (uint64_t)e->ranks;
	const kvt_request_trace *trace = kvt_made_trace_get(made);
	g_autoptr(kvt_fleet) fleet = kvt_fleet_fixture_run(settings, trace);
	g_autoptr(kvt_fleet) again = kvt_fleet_fixture_run(settings, trace);
	for (uint32_t i = 0; i < fleet->n_requests; i++) {
		check_outcome(fleet, i);
		g_assert_cmpmem(&fleet->outcomes[i], sizeof(fleet->outcomes[i]),
			&again->outcomes[i], sizeof(again->outcomes[i]));
		bool served = kvt_request_outcome_served(&fleet->outcomes[i]);
		*(served ? &sum->served : &sum->refused) += 1;
	}
	for (unsigned i = 0; i < fleet->n_replicas; i++) {
		const kvt_replica_stats *stats = kvt_replica_get_stats(fleet->replicas[i]);
		sum->preemptions += stats->preemptions;
		sum->swaps += stats->swaps;
		kvt_kv_check(fleet->kv[i]);
	}
	for (unsigned level = 1; level <= settings->n_tiers; level++)
		sum->loaded += kvt_fleet_transfers_moved(fleet->transfers, level, 0) > 0;
}

static void test_random(void)
{
	tally sum = { 0 };
	for (uint64_t seed = 1; seed <= 300; seed++)
		run_case(seed, &sum);
	g_test_message("%" G_GUINT64_FORMAT " served, %" G_GUINT64_FORMAT
		       " refused, %" G_GUINT64_FORMAT " preempted, %" G_GUINT64_FORMAT
		       " swapped out",
		sum.served, sum.refused, sum.preemptions, sum.swaps);
	g_assert_cmpuint(sum.refused, >, 100);
	g_assert_cmpuint(sum.preemptions, >, 100);
	g_assert_cmpuint(sum.swaps, >, 30);
	g_assert_cmpuint(sum.loaded, >, 50);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fleet/random", test_random);
	return g_test_run();
}
