/* test_tenants.c: what tenants were promised: shares of an instant, of a step and of links, bounded
 * waits, token buckets, deadlines, quotas, and that nobody sees what is another's. */
#include <math.h>

#include "sim/fleet/admission.h"
#include "sim/fleet/fair_share.h"
#include "tests/unit/fleet_fixture.h"

static void test_divide(void)
{
	/* by weight, and what one does not want goes to the others */
	kvt_share_claim a[] = { { .demand = 1e9, .weight = 3 }, { .demand = 1e9, .weight = 1 },
		{ .demand = 24, .weight = 4 } };
	kvt_share_divide(a, 3, 1024);
	g_assert_cmpfloat(a[2].given, ==, 24);
	g_assert_cmpfloat(a[0].given, ==, 750);
	g_assert_cmpfloat(a[1].given, ==, 250);
	/* what is reserved comes before any class; the rest by class */
	kvt_share_claim b[] = { { .demand = 1e9, .weight = 1, .rank = 0 },
		{ .demand = 1e9, .weight = 1, .rank = 1, .reserved = 300 },
		{ .demand = 10, .weight = 1, .rank = 2, .reserved = 500 } };
	kvt_share_divide(b, 3, 1000);
	g_assert_cmpfloat(b[0].given, ==, 690);
	g_assert_cmpfloat(b[1].given, ==, 300);
	g_assert_cmpfloat(b[2].given, ==, 10);
	/* a class that has enough leaves the next one what is over */
	kvt_share_claim c[] = { { .demand = 100, .weight = 1, .rank = 1 },
		{ .demand = 30, .weight = 1, .rank = 0 } };
	kvt_share_divide(c, 2, 50);
	g_assert_cmpfloat(c[0].given, ==, 20);
	g_assert_cmpfloat(c[1].given, ==, 30);
}

static void test_jain(void)
{
	const double equal[] = { 2, 2, 2, 2 }, one[] = { 0, 5, 0, 0 };
	g_assert_cmpfloat(kvt_jain_index(equal, 4), ==, 1);
	g_assert_cmpfloat(kvt_jain_index(one, 4), ==, 0.25);
	g_assert_cmpfloat(kvt_jain_index(NULL, 0), ==, 1);
}

static void test_token_bucket(void)
{
	const kvt_time second = kvt_time_from_seconds(1);
	kvt_token_bucket bucket;
	kvt_token_bucket_init(&bucket, 2, 3);
	for (unsigned i = 0; i < 3; i++)
		g_assert_true(kvt_token_bucket_take(&bucket, 0));
	g_assert_false(kvt_token_bucket_take(&bucket, 0));
	g_assert_false(kvt_token_bucket_take(&bucket, second / 2 - 1000000));
	g_assert_true(kvt_token_bucket_take(&bucket, second / 2));
	/* never more than the burst, however long the pause */
	unsigned taken = 0;
	while (kvt_token_bucket_take(&bucket, 1000 * second))
		taken++;
	g_assert_cmpuint(taken, ==, 3);
	/* and in the long run its rate */
	taken = 0;
	for (unsigned i = 1; i <= 1000; i++)
		taken += kvt_token_bucket_take(&bucket, 1000 * second + i * (second / 10));
	g_assert_cmpuint(taken, ==, 200);
	kvt_token_bucket_init(&bucket, 0, 1);
	for (unsigned i = 0; i < 1000; i++)
		g_assert_true(kvt_token_bucket_take(&bucket, 0));
}

/* Steps of 10 ms for 1000 tokens, of which a prompt may have all. */
static const char *const STEPS = "[step]\nmodel = linear\nper_token = 10us\n"
				 "[scheduler]\ntoken_budget = 1000\nchunk_tokens = 1000\n"
				 "max_sequences = 64\nahead = 4\n";

static kvt_fleet *run(const char *tenants, const char *const *sets, kvt_made_trace *made,
	kvt_fleet_settings **settings)
{
	g_autofree char *text = g_strconcat(STEPS, tenants, NULL);
	*settings = kvt_fleet_fixture_settings(text, sets);
	return kvt_fleet_fixture_run(*settings, kvt_made_trace_get(made));
}

/* Two tenants, each with `n` prompts of `tokens` at once. */
static kvt_made_trace *two_tenants(unsigned n, uint32_t tokens)
{
	kvt_made_trace *made = kvt_made_trace_new(16);
	made->n_tenants = 2;
	for (unsigned i = 0; i < 2 * n; i++)
		kvt_made_trace_add(made, 0, tokens, 1)->tenant = i % 2;
	return made;
}

static kvt_time last_token(const kvt_fleet *fleet, uint32_t tenant)
{
	kvt_time last = 0;
	for (uint32_t i = 0; i < fleet->n_requests; i++)
		if (fleet->trace->requests[i].tenant == tenant)
			last = MAX(last, fleet->outcomes[i].ended);
	return last;
}

/* With weights 3 : 1 the first has computed all of its tokens when the other has a third. */
static void test_weights(void)
{
	enum { N = 200, TOKENS = 3000 };
	g_autoptr(kvt_made_trace) made = two_tenants(N, TOKENS);
	g_autoptr(kvt_fleet_settings) settings = NULL;
	g_autoptr(kvt_fleet) fleet =
		run("[tenant a]\nweight = 3\n[tenant b]\n[qos]\nsharing = fair\n", NULL, made,
			&settings);
	double all = N * TOKENS * 10e-6;
	g_assert_cmpfloat(
		fabs(kvt_time_to_seconds(last_token(fleet, 0)) / (all * 4 / 3) - 1), <, 0.01);
	g_assert_cmpfloat(fabs(kvt_time_to_seconds(fleet->end) / (2 * all) - 1), <, 1e-6);
	g_assert_cmpfloat(
		fabs(kvt_time_to_seconds(kvt_replica_tenant_time(fleet->replicas[0], 0)) / all - 1),
		<, 1e-6);
}

/* 80% are reserved: four fifths of what both want, and all of what the other leaves. */
static void test_reserved(void)
{
	enum { N = 200, TOKENS = 3000 };
	g_autoptr(kvt_made_trace) made = two_tenants(N, TOKENS);
	g_autoptr(kvt_fleet_settings) settings = NULL;
	g_autoptr(kvt_fleet) fleet =
		run("[tenant a]\nreserve = 80%\nclass = 1\n[tenant b]\n", NULL, made, &settings);
	double all = N * TOKENS * 10e-6;
	/* the other, of a better class, has what is not reserved */
	g_assert_cmpfloat(
		fabs(kvt_time_to_seconds(last_token(fleet, 0)) / (all / 0.8) - 1), <, 0.01);
	g_assert_cmpfloat(fabs(kvt_time_to_seconds(fleet->end) / (2 * all) - 1), <, 1e-6);
}

/* A flood of the first class does not keep the second waiting for longer than it takes to age and
 * to be next in turn. */
static void test_aging(void)
{
	enum { FLOOD = 4000, TOKENS = 1000 };
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(16);
	made->n_tenants = 2;
	/* twice as much as can be served */
	for (unsigned i = 0; i < FLOOD; i++) {
		kvt_time at = kvt_time_from_seconds(i * 5e-3);
		kvt_made_trace_add(made, at, TOKENS, 1)->tenant = 0;
		if (i == 100)
			kvt_made_trace_add(made, at, TOKENS, 1)->tenant = 1;
	}
	const char *const ages[] = { "qos.aging=1s", "qos.aging=5s", "qos.aging=1h" };
	double waits[G_N_ELEMENTS(ages)];
	for (unsigned i = 0; i < G_N_ELEMENTS(ages); i++) {
		const char *const sets[] = { ages[i], NULL };
		g_autoptr(kvt_fleet_settings) settings = NULL;
		g_autoptr(kvt_fleet) fleet =
			run("[tenant a]\n[tenant b]\nclass = 1\n", sets, made, &settings);
		waits[i] = kvt_time_to_seconds(kvt_request_outcome_ttft(&fleet->outcomes[101]));
	}
	g_test_message("waited %g s, %g s, %g s", waits[0], waits[1], waits[2]);
	g_assert_cmpfloat(waits[0], >=, 1);
	g_assert_cmpfloat(waits[0], <, 1.1);
	g_assert_cmpfloat(waits[1], >=, 5);
	g_assert_cmpfloat(waits[1], <, 5.1);
	/* without it, until the flood is over */
	g_assert_cmpfloat(waits[2], >, 30);
}

static unsigned refused(const kvt_fleet *fleet, kvt_refusal reason)
{
	unsigned n = 0;
	for (uint32_t i = 0; i < fleet->n_requests; i++)
		n += fleet->outcomes[i].refusal == reason;
	return n;
}

/* Prompts of 100 ms each at once: the tenth would come after 1 s. */
static void test_deadline(void)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(16);
	for (unsigned i = 0; i < 50; i++)
		kvt_made_trace_add(made, 0, 10000, 1);
	g_autoptr(kvt_fleet_settings) settings = NULL;
	g_autoptr(kvt_fleet) fleet = run("[tenant a]\ndeadline = 1001ms\n", NULL, made, &settings);
	g_assert_cmpuint(refused(fleet, KVT_REFUSED_DEADLINE), ==, 40);
	for (uint32_t i = 0; i < fleet->n_requests; i++)
		if (kvt_request_outcome_served(&fleet->outcomes[i]))
			g_assert_cmpint(kvt_request_outcome_ttft(&fleet->outcomes[i]), <=,
				settings->tenants[0].deadline);
}

static void test_queue(void)
{
	g_autoptr(kvt_made_trace) made = two_tenants(50, 1000);
	g_autoptr(kvt_fleet_settings) settings = NULL;
	g_autoptr(kvt_fleet) fleet =
		run("[tenant a]\nqueue = 7\n[tenant b]\n", NULL, made, &settings);
	/* all come at once, before anyone is admitted */
	g_assert_cmpuint(refused(fleet, KVT_REFUSED_QUEUE), ==, 43);
	for (uint32_t i = 0; i < fleet->n_requests; i++)
		if (fleet->outcomes[i].refusal != KVT_REFUSED_NOT)
			g_assert_cmpuint(fleet->trace->requests[i].tenant, ==, 0);
}

static void test_rate(void)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(16);
	for (unsigned i = 0; i < 1000; i++)
		kvt_made_trace_add(made, kvt_time_from_seconds(i * 0.01), 10, 1);
	g_autoptr(kvt_fleet_settings) settings = NULL;
	g_autoptr(kvt_fleet) fleet =
		run("[tenant a]\nrate = 20\nburst = 5\n", NULL, made, &settings);
	unsigned taken = 1000 - refused(fleet, KVT_REFUSED_RATE);
	g_assert_cmpuint(taken, >=, 203);
	g_assert_cmpuint(taken, <=, 205);
}

/* Two tenants ask for the same prompt. */
static double hits_of_second(const char *text)
{
	g_autoptr(kvt_made_trace) made = kvt_made_trace_new(16);
	uint32_t ids[64];
	for (unsigned i = 0; i < G_N_ELEMENTS(ids); i++)
		ids[i] = i;
	made->n_tenants = 2;
	for (unsigned i = 0; i < 2; i++) {
		kvt_made_trace_add(made, kvt_time_from_seconds(i), 1024, 2)->tenant = i;
		kvt_made_trace_set_blocks(made, ids, G_N_ELEMENTS(ids));
	}
	g_autoptr(kvt_fleet_settings) settings = NULL;
	g_autoptr(kvt_fleet) fleet = run(text, NULL, made, &settings);
	g_assert_cmpuint(fleet->outcomes[0].hit_tokens, ==, 0);
	return (double)fleet->outcomes[1].hit_tokens;
}

static void test_isolation(void)
{
	g_assert_cmpfloat(hits_of_second("[tenant a]\n[tenant b]\n"), ==, 0);
	g_assert_cmpfloat(hits_of_second("[tenant a]\nshared = yes\n[tenant b]\n"), ==, 0);
	g_assert_cmpfloat(
		hits_of_second("[tenant a]\nshared = yes\n[tenant b]\nshared = yes\n"), >, 0);
}

/* A tenant that fills the cache leaves another's quota alone. */
static void test_quota(void)
{
	const char *const texts[] = { "[tenant a]\n[tenant b]\n",
		"[tenant a]\nquotas = dram 20%\n[tenant b]\nquotas = dram 80%\n" };
	for (unsigned with = 0; with < 2; with++) {
		g_autoptr(kvt_made_trace) made = kvt_made_trace_new(16);
		made->n_tenants = 2;
		uint32_t ids[64], next = 1000;
		/* the first tenant comes back after the second has asked for much else */
		for (unsigned i = 0; i < 102; i++) {
			bool own = i == 0 || i == 101;
			for (unsigned k = 0; k < G_N_ELEMENTS(ids); k++)
				ids[k] = own ? k : next++;
			kvt_made_trace_add(made, kvt_time_from_seconds(i), 1024, 2)->tenant = !own;
			kvt_made_trace_set_blocks(made, ids, G_N_ELEMENTS(ids));
		}
		g_autofree char *text = g_strconcat(texts[with],
			"[cache]\nwrite_through = yes\n"
			"[tier dram]\nkind = dram\ncapacity = 4GB\n",
			NULL);
		g_autoptr(kvt_fleet_settings) settings = NULL;
		g_autoptr(kvt_fleet) fleet = run(text, NULL, made, &settings);
		const kvt_block_tier *dram = kvt_fleet_tier(fleet, 0, 0);
		/* what the first one keeps there, although much of the second came after it */
		g_assert_cmpuint(dram->counts[0].out_pieces > 0, ==, !with);
		g_assert_cmpuint(dram->counts[1].out_pieces, >, 0);
	}
}

/* Rates of a tenant's four flows together, and of another's one, on a link of 100 bytes/s. */
static void link_rates(int sharing, double reserve, double *four, double *one)
{
	const kvt_tenant_settings a = { .weight = 1 };
	kvt_tenant_settings b = { .weight = 1 };
	b.reserved[KVT_RESERVED_LINKS] = reserve;
	const kvt_tenant_settings *const tenants[] = { &a, &b };
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_network *network = kvt_network_new(loop);
	kvt_link link = kvt_network_add_link(network, "link", 100);
	kvt_link_shares *shares = kvt_link_shares_new(network, tenants, 2, sharing);
	const kvt_flow_spec spec = { .path = { link }, .path_length = 1, .bytes = 1000 };
	kvt_flow flows[5];
	for (unsigned i = 0; i < 5; i++) {
		flows[i] = kvt_network_start(network, &spec);
		kvt_link_shares_add(shares, i == 4, flows[i], &spec);
	}
	*four = 0;
	for (unsigned i = 0; i < 4; i++)
		*four += kvt_network_flow_rate(network, flows[i]);
	*one = kvt_network_flow_rate(network, flows[4]);
	kvt_link_shares_free(shares);
	kvt_network_free(network);
	kvt_loop_free(loop);
}

static void test_links(void)
{
	double four, one;
	link_rates(KVT_SHARING_FCFS, 0.6, &four, &one);
	g_assert_cmpfloat(fabs(one - 20), <, 1e-6);
	link_rates(KVT_SHARING_FAIR, 0.6, &four, &one);
	g_assert_cmpfloat(fabs(one - 50), <, 1e-6);
	g_assert_cmpfloat(fabs(four - 50), <, 1e-6);
	/* what is reserved, and half of the rest */
	link_rates(KVT_SHARING_RESERVED, 0.6, &four, &one);
	g_assert_cmpfloat(fabs(one - 80), <, 1e-6);
	g_assert_cmpfloat(fabs(four - 20), <, 1e-6);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/tenants/divide", test_divide);
	g_test_add_func("/tenants/jain", test_jain);
	g_test_add_func("/tenants/token-bucket", test_token_bucket);
	g_test_add_func("/tenants/weights", test_weights);
	g_test_add_func("/tenants/reserved", test_reserved);
	g_test_add_func("/tenants/aging", test_aging);
	g_test_add_func("/tenants/deadline", test_deadline);
	g_test_add_func("/tenants/queue", test_queue);
	g_test_add_func("/tenants/rate", test_rate);
	g_test_add_func("/tenants/isolation", test_isolation);
	g_test_add_func("/tenants/quota", test_quota);
	g_test_add_func("/tenants/links", test_links);
	return g_test_run();
}
