/*
 * test_bandwidth_share.c: are the rates fair? Against a solver that works from the definition by
 * bisection, and against the conditions that make rates max-min fair.
 */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/core/bandwidth.h"

enum { MAX_FLOWS = 400, MAX_LINKS = 60 };

/* A problem, and its solution. Specs have no zeros that stand for something. */
typedef struct problem {
	unsigned n_links, n_flows;
	double capacity[MAX_LINKS];
	kvt_flow_spec flows[MAX_FLOWS];
	kvt_flow handles[MAX_FLOWS];
	double rates[MAX_FLOWS];
	double floors[MAX_FLOWS];
} problem;

/* What a random problem has of everything. */
typedef struct flavour {
	bool weights, classes, caps, reservations, costs, extreme_weights, lines;
} flavour;

static double between(kvt_rng *rng, double low, double high)
{
	return low * pow(high / low, kvt_rng_uniform(rng));
}

static void random_flow(kvt_rng *rng, const problem *p, flavour has, kvt_flow_spec *s)
{
	*s = (kvt_flow_spec){ .bytes = 1ull << 50, .weight = 1, .max_rate = INFINITY };
	s->path_length = 1 + (unsigned)kvt_rng_below(rng, MIN(p->n_links, 5));
	for (unsigned hop = 0; hop < s->path_length; hop++) {
		bool taken = true;
		while (taken) {
			s->path[hop] = (kvt_link)kvt_rng_below(rng, p->n_links);
			taken = false;
			for (unsigned i = 0; i < hop; i++)
				taken |= s->path[i] == s->path[hop];
		}
		s->cost[hop] = has.costs && kvt_rng_below(rng, 2) ? between(rng, 0.3, 30) : 1;
	}
	if (has.weights && kvt_rng_below(rng, 4))
		s->weight = between(rng, 0.1, 10);
	if (has.extreme_weights)
		s->weight = between(rng, 1e-12, 1e12);
	if (has.classes)
		s->priority = (unsigned)kvt_rng_below(rng, KVT_PRIORITY_CLASSES);
	if (has.caps && kvt_rng_below(rng, 2))
		s->max_rate = between(rng, 1e7, 1e10);
	if (has.reservations && kvt_rng_below(rng, 3) == 0)
		s->reserved_rate = between(rng, 1e7, 3e9);
	if (has.lines && kvt_rng_below(rng, 3)) {
		s->turn = 1 + kvt_rng_below(rng, 1u << 20);
		s->line = (unsigned)kvt_rng_below(rng, KVT_LINES);
	}
}

static void random_problem(
	kvt_rng *rng, problem *p, flavour has, unsigned max_flows, unsigned max_links)
{
	p->n_links = 1 + (unsigned)kvt_rng_below(rng, max_links);
	p->n_flows = 1 + (unsigned)kvt_rng_below(rng, max_flows);
	/* Equal capacities make ties, which random ones never do. */
	bool equal = kvt_rng_below(rng, 4) == 0;
	for (unsigned l = 0; l < p->n_links; l++)
		p->capacity[l] = equal ? 1e9 : between(rng, 1e8, 1e10);
	for (unsigned f = 0; f < p->n_flows; f++)
		random_flow(rng, p, has, &p->flows[f]);
}

static double used_of_link(const problem *p, const double *rates, unsigned link)
{
	double used = 0;
	for (unsigned f = 0; f < p->n_flows; f++)
		for (unsigned hop = 0; hop < p->flows[f].path_length; hop++)
			if (p->flows[f].path[hop] == link)
				used += rates[f] * p->flows[f].cost[hop];
	return used;
}

static void solve_floors(problem *p)
{
	double floors[MAX_FLOWS];
	for (unsigned f = 0; f < p->n_flows; f++) {
		const kvt_flow_spec *s = &p->flows[f];
		floors[f] = MIN(s->reserved_rate, s->max_rate);
		for (unsigned hop = 0; hop < s->path_length; hop++)
			floors[f] = MIN(floors[f], p->capacity[s->path[hop]] / s->cost[hop]);
	}
	for (unsigned f = 0; f < p->n_flows; f++) {
		const kvt_flow_spec *s = &p->flows[f];
		double share = 1;
		for (unsigned hop = 0; hop < s->path_length; hop++)
			share = MIN(share,
				p->capacity[s->path[hop]] / used_of_link(p, floors, s->path[hop]));
		p->floors[f] = floors[f] > 0 ? floors[f] * share : 0;
	}
}

static bool feasible(const problem *p, const double *rates)
{
	for (unsigned l = 0; l < p->n_links; l++)
		if (used_of_link(p, rates, l) > p->capacity[l] * (1 + 1e-12))
			return false;
	return true;
}

static bool may_rise(const problem *p, const double *rates, unsigned f)
{
	const kvt_flow_spec *s = &p->flows[f];
	for (unsigned hop = 0; hop < s->path_length; hop++)
		if (used_of_link(p, rates, s->path[hop]) >= p->capacity[s->path[hop]] * (1 - 1e-9))
			return false;
	return rates[f] < s->max_rate * (1 - 1e-9);
}

/* Whether g comes before f in the line that f waits in. */
static bool is_before(const problem *p, unsigned g, unsigned f)
{
	const kvt_flow_spec *a = &p->flows[g], *b = &p->flows[f];
	if (a->turn == 0 || b->turn == 0 || a->path[0] != b->path[0] || a->line != b->line ||
		a->priority != b->priority)
		return false;
	return a->turn != b->turn ? a->turn < b->turn : g < f;
}

/* Lets those join at `level` that wait for nobody who may rise, and could rise; returns how many.
 */
static unsigned join_lines(const problem *p, const double *rates, bool *waits, bool *rising,
	double level, double *joined)
{
	unsigned joining = 0;
	for (unsigned f = 0; f < p->n_flows; f++) {
		bool first = waits[f] && may_rise(p, rates, f);
		for (unsigned g = 0; first && g < p->n_flows; g++)
			first = !is_before(p, g, f) ||
				(!rising[g] && (!waits[g] || !may_rise(p, rates, g)));
		if (!first)
			continue;
		waits[f] = false;
		rising[f] = true;
		joined[f] = level;
		joining++;
	}
	return joining;
}

static void rates_at_level(
	const problem *p, const bool *rising, const double *joined, double level, double *rates)
{
	for (unsigned f = 0; f < p->n_flows; f++)
		if (rising[f])
			rates[f] = MIN(p->flows[f].max_rate,
				p->floors[f] + p->flows[f].weight * MAX(level - joined[f], 0));
}

/* Raises all that still may rise to the highest common level, by bisection; then finds out, by
 * looking at each, which of them may rise no more. */
static void solve_class(const problem *p, unsigned priority, double *rates)
{
	bool rising[MAX_FLOWS], waits[MAX_FLOWS];
	double joined[MAX_FLOWS] = { 0 };
	unsigned left = 0;
	for (unsigned f = 0; f < p->n_flows; f++) {
		bool mine = p->flows[f].priority == priority;
		waits[f] = mine && p->flows[f].turn > 0;
		left += rising[f] = mine && !waits[f] && may_rise(p, rates, f);
	}
	left += join_lines(p, rates, waits, rising, 0, joined);
	while (left > 0) {
		/* nobody rises beyond the first cap: others may be waiting for its flow to stop */
		double low = 0, high = 1e13;
		for (unsigned f = 0; f < p->n_flows; f++)
			if (rising[f])
				high = MIN(high, joined[f] + (p->flows[f].max_rate - p->floors[f]) /
								     p->flows[f].weight);
		rates_at_level(p, rising, joined, high, rates);
		if (feasible(p, rates))
			low = high;
		for (unsigned i = 0; i < 200; i++) {
			double middle = i < 40 ? sqrt(MAX(low, 1) * high) : (low + high) / 2;
			rates_at_level(p, rising, joined, middle, rates);
			if (feasible(p, rates))
				low = middle;
			else
				high = middle;
		}
		rates_at_level(p, rising, joined, low, rates);
		unsigned before = left;
		for (unsigned f = 0; f < p->n_flows; f++)
			if (rising[f] && !may_rise(p, rates, f)) {
				rising[f] = false;
				left--;
			}
		g_assert_cmpuint(left, <, before);
		left += join_lines(p, rates, waits, rising, low, joined);
	}
}

static void solve(problem *p, double *rates)
{
	solve_floors(p);
	memcpy(rates, p->floors, sizeof(p->floors));
	for (unsigned priority = 0; priority < KVT_PRIORITY_CLASSES; priority++)
		solve_class(p, priority, rates);
}

static kvt_network *build(problem *p, kvt_loop *loop)
{
	kvt_network *n = kvt_network_new(loop);
	for (unsigned l = 0; l < p->n_links; l++)
		kvt_network_add_link(n, "link", p->capacity[l]);
	for (unsigned f = 0; f < p->n_flows; f++)
		p->handles[f] = kvt_network_start(n, &p->flows[f]);
	return n;
}

static void read_rates(problem *p, kvt_network *n)
{
	for (unsigned f = 0; f < p->n_flows; f++)
		p->rates[f] = kvt_network_flow_rate(n, p->handles[f]);
}

/* Some flow of the link holds less, by weight, of what is shared than this one does. */
static bool is_bottleneck(const problem *p, unsigned f, unsigned link)
{
	const kvt_flow_spec *s = &p->flows[f];
	if (used_of_link(p, p->rates, link) < p->capacity[link] * (1 - 1e-9))
		return false;
	double mine = (p->rates[f] - p->floors[f]) / s->weight;
	for (unsigned g = 0; g < p->n_flows; g++) {
		const kvt_flow_spec *other = &p->flows[g];
		bool on_link = false;
		for (unsigned hop = 0; hop < other->path_length; hop++)
			on_link |= other->path[hop] == link;
		double extra = p->rates[g] - p->floors[g];
		double noise = 1e-9 * p->rates[g] + 1e-6;
		if (!on_link || other->priority < s->priority || extra <= noise)
			continue;
		if (other->priority > s->priority || extra - noise > mine * other->weight)
			return false;
	}
	return true;
}

static bool has_lines(const problem *p)
{
	bool any = false;
	for (unsigned f = 0; f < p->n_flows; f++)
		any |= p->flows[f].turn > 0;
	return any;
}

/* Capacity holds, reservations hold, and every flow is at its cap or has a bottleneck: a full link
 * where nobody of its class has more by weight and nobody of a lower class has anything. */
static void check_fair(problem *p)
{
	solve_floors(p);
	for (unsigned l = 0; l < p->n_links; l++)
		g_assert_cmpfloat(used_of_link(p, p->rates, l), <=, p->capacity[l] * (1 + 1e-9));
	for (unsigned f = 0; f < p->n_flows; f++) {
		const kvt_flow_spec *s = &p->flows[f];
		g_assert_cmpfloat(p->rates[f], >=, p->floors[f] * (1 - 1e-12));
		g_assert_cmpfloat(p->rates[f], <=, s->max_rate);
		/* who stands in line has as little as others leave, and they have what he left */
		bool settled = p->rates[f] >= s->max_rate || has_lines(p);
		for (unsigned hop = 0; !settled && hop < s->path_length; hop++)
			settled = is_bottleneck(p, f, s->path[hop]);
		g_assert_true(settled);
	}
}

static void check_solution(const problem *p, const double *expected)
{
	for (unsigned f = 0; f < p->n_flows; f++) {
		const kvt_flow_spec *s = &p->flows[f];
		double scale = INFINITY;
		for (unsigned hop = 0; hop < s->path_length; hop++)
			scale = MIN(scale, p->capacity[s->path[hop]] / s->cost[hop]);
		g_assert_cmpfloat_with_epsilon(p->rates[f], expected[f], 1e-6 * scale);
	}
}

static const flavour FLAVOURS[] = {
	{ .weights = false },
	{ .weights = true },
	{ .classes = true },
	{ .caps = true },
	{ .reservations = true },
	{ .costs = true },
	{ .weights = true, .caps = true },
	{ .classes = true, .caps = true, .reservations = true },
	{ .weights = true, .classes = true, .caps = true, .reservations = true, .costs = true },
	{ .lines = true },
	{ .lines = true, .caps = true, .costs = true },
	{ .lines = true, .classes = true, .caps = true, .reservations = true },
};

static void test_against_solver(void)
{
	kvt_rng rng = kvt_rng_init(11, 0);
	g_autofree problem *p = g_new(problem, 1);
	double expected[MAX_FLOWS];
	for (unsigned round = 0; round < 4500; round++) {
		random_problem(&rng, p, FLAVOURS[round % G_N_ELEMENTS(FLAVOURS)], 10, 7);
		kvt_loop *loop = kvt_virtual_loop_new();
		kvt_network *n = build(p, loop);
		read_rates(p, n);
		solve(p, expected);
		check_solution(p, expected);
		check_fair(p);
		kvt_network_free(n);
		kvt_loop_free(loop);
	}
}

static void test_conditions_large(void)
{
	kvt_rng rng = kvt_rng_init(12, 0);
	g_autofree problem *p = g_new(problem, 1);
	for (unsigned round = 0; round < 90; round++) {
		random_problem(&rng, p, FLAVOURS[round % G_N_ELEMENTS(FLAVOURS)], 150, MAX_LINKS);
		kvt_loop *loop = kvt_virtual_loop_new();
		kvt_network *n = build(p, loop);
		read_rates(p, n);
		check_fair(p);
		kvt_network_free(n);
		kvt_loop_free(loop);
	}
}

/* Weights over 24 decades: what a light flow gets is not lost in the rounding of heavy ones. */
static void test_extreme_weights(void)
{
	kvt_rng rng = kvt_rng_init(13, 0);
	g_autofree problem *p = g_new(problem, 1);
	for (unsigned round = 0; round < 500; round++) {
		random_problem(&rng, p, (flavour){ .extreme_weights = true, .caps = true }, 12, 6);
		kvt_loop *loop = kvt_virtual_loop_new();
		kvt_network *n = build(p, loop);
		read_rates(p, n);
		check_fair(p);
		kvt_network_free(n);
		kvt_loop_free(loop);
	}
}

/* After any history of starts, cancels and changed links the rates are those of a new network. */
static void test_incremental(void)
{
	kvt_rng rng = kvt_rng_init(14, 0);
	flavour all = { true, true, true, true, true, false, true };
	g_autofree problem *p = g_new(problem, 1);
	g_autofree problem *again = g_new(problem, 1);
	for (unsigned round = 0; round < 20; round++) {
		random_problem(&rng, p, all, 60, 40);
		kvt_loop *loop = kvt_virtual_loop_new();
		kvt_network *n = build(p, loop);
		for (unsigned change = 0; change < 60; change++) {
			unsigned f = (unsigned)kvt_rng_below(&rng, p->n_flows);
			unsigned l = (unsigned)kvt_rng_below(&rng, p->n_links);
			if (kvt_rng_below(&rng, 2)) {
				uint64_t left = kvt_network_cancel(n, p->handles[f]);
				g_assert_cmpuint(left, ==, p->flows[f].bytes);
				random_flow(&rng, p, all, &p->flows[f]);
				p->handles[f] = kvt_network_start(n, &p->flows[f]);
			}
			if (kvt_rng_below(&rng, 3) == 0) {
				p->capacity[l] = between(&rng, 1e8, 1e10);
				kvt_network_set_rate(n, l, p->capacity[l]);
			}
			if (change % 4 == 3)
				kvt_network_flow_rate(n, p->handles[f]);
		}
		read_rates(p, n);
		*again = *p;
		kvt_network *fresh = build(again, loop);
		read_rates(again, fresh);
		for (unsigned f = 0; f < p->n_flows; f++)
			g_assert_cmpfloat_with_epsilon(p->rates[f], again->rates[f], 1e-9 * 1e10);
		check_fair(p);
		kvt_network_free(n);
		kvt_network_free(fresh);
		kvt_loop_free(loop);
	}
}

/* A change is felt by what links connect to it, and by nothing else. */
static void test_component_alone_is_shared(void)
{
	enum { PAIRS = 100 };
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_network *n = kvt_network_new(loop);
	kvt_flow flows[PAIRS];
	for (unsigned i = 0; i < PAIRS; i++) {
		kvt_link l = kvt_network_add_link(n, "l", 1e9);
		kvt_flow_spec spec = { .path = { l }, .path_length = 1, .bytes = 1u << 30 };
		flows[i] = kvt_network_start(n, &spec);
		kvt_network_start(n, &spec);
	}
	g_assert_cmpfloat(kvt_network_flow_rate(n, flows[7]), ==, 5e8);
	kvt_network_stats before = kvt_network_get_stats(n);
	g_assert_cmpuint(before.shares, ==, PAIRS);
	kvt_network_start(
		n, &(kvt_flow_spec){ .path = { 7, 8 }, .path_length = 2, .bytes = 1u << 30 });
	g_assert_cmpfloat(kvt_network_flow_rate(n, flows[7]), ==, 1e9 / 3);
	g_assert_cmpfloat(kvt_network_flow_rate(n, flows[9]), ==, 5e8);
	kvt_network_stats after = kvt_network_get_stats(n);
	g_assert_cmpuint(after.shares - before.shares, ==, 1);
	g_assert_cmpuint(after.shared_flows - before.shared_flows, ==, 5);
	kvt_network_free(n);
	kvt_loop_free(loop);
}

/* Known answers. */
static void test_by_hand(void)
{
	static const struct {
		const char *what;
		unsigned n_flows;
		kvt_flow_spec flows[3];
		double rates[3];
	} cases[] = {
		/* Links: 0 of 1 GB/s, 1 of 10 GB/s. */
		{ "the parking lot", 3,
			{ { .path = { 0, 1 }, .path_length = 2 }, { .path_length = 1 },
				{ .path = { 1 }, .path_length = 1 } },
			{ 0.5e9, 0.5e9, 9.5e9 } },
		{ "a reservation comes on top of the share", 2,
			{ { .path_length = 1, .reserved_rate = 0.6e9 }, { .path_length = 1 } },
			{ 0.8e9, 0.2e9 } },
		{ "a low class keeps its reservation", 2,
			{ { .path_length = 1 },
				{ .path_length = 1, .priority = 2, .reserved_rate = 0.3e9 } },
			{ 0.7e9, 0.3e9 } },
		{ "too much reserved is scaled", 2,
			{ { .path_length = 1, .reserved_rate = 0.5e9 },
				{ .path_length = 1, .reserved_rate = 0.75e9, .priority = 1 } },
			{ 0.4e9, 0.6e9 } },
		{ "a reservation that a cap or another link denies goes to others", 3,
			{ { .path_length = 1, .reserved_rate = 0.9e9, .max_rate = 0.2e9 },
				{ .path_length = 1 },
				{ .path = { 1, 0 }, .path_length = 2, .cost = { 50, 0 } } },
			{ 0.2e9, 0.6e9, 0.2e9 } },
		{ "the first in line first, whoever started first", 3,
			{ { .path_length = 1, .turn = 3 }, { .path_length = 1, .turn = 2 },
				{ .path_length = 1, .turn = 4 } },
			{ 0, 1e9, 0 } },
		{ "a line's next one has what the first one cannot use", 3,
			{ { .path_length = 1, .turn = 1, .max_rate = 0.3e9 },
				{ .path_length = 1, .turn = 2, .max_rate = 0.6e9 },
				{ .path_length = 1, .turn = 3 } },
			{ 0.3e9, 0.6e9, 0.1e9 } },
		{ "lines share, and with those in none", 3,
			{ { .path = { 1, 0 }, .path_length = 2, .turn = 1 },
				{ .path = { 1, 0 }, .path_length = 2, .turn = 2, .line = 1 },
				{ .path_length = 1 } },
			{ 1e9 / 3, 1e9 / 3, 1e9 / 3 } },
		{ "a class has lines of its own", 2,
			{ { .path_length = 1, .turn = 1, .priority = 1 },
				{ .path_length = 1, .turn = 2 } },
			{ 0, 1e9 } },
		{ "rates are shared, whatever a byte costs", 2,
			{ { .path_length = 1, .cost = { 3 } }, { .path_length = 1 } },
			{ 0.25e9, 0.25e9 } },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		kvt_loop *loop = kvt_virtual_loop_new();
		kvt_network *n = kvt_network_new(loop);
		kvt_flow handles[3];
		kvt_network_add_link(n, "0", 1e9);
		kvt_network_add_link(n, "1", 10e9);
		for (unsigned f = 0; f < cases[i].n_flows; f++) {
			kvt_flow_spec spec = cases[i].flows[f];
			spec.bytes = 1u << 30;
			handles[f] = kvt_network_start(n, &spec);
		}
		g_test_message("%s", cases[i].what);
		for (unsigned f = 0; f < cases[i].n_flows; f++)
			g_assert_cmpfloat_with_epsilon(
				kvt_network_flow_rate(n, handles[f]), cases[i].rates[f], 1);
		kvt_network_free(n);
		kvt_loop_free(loop);
	}
}

/* As many of a line share as find places, the last of them in part; then whoever is next. */
static void test_places(void)
{
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_network *n = kvt_network_new(loop);
	kvt_link l = kvt_network_add_link(n, "l", 1e9);
	kvt_network_set_places(n, l, 3);
	kvt_flow flows[4];
	for (unsigned i = 0; i < G_N_ELEMENTS(flows); i++)
		flows[i] = kvt_network_start(n, &(kvt_flow_spec){ .path = { l },
							.path_length = 1,
							.bytes = 1u << 30,
							.turn = 1 + i,
							.places = 2 });
	static const double rates[] = { 0.5e9, 0.5e9, 0, 0 };
	for (unsigned i = 0; i < G_N_ELEMENTS(flows); i++)
		g_assert_cmpfloat(kvt_network_flow_rate(n, flows[i]), ==, rates[i]);
	kvt_network_cancel(n, flows[0]);
	for (unsigned i = 1; i < G_N_ELEMENTS(flows); i++)
		g_assert_cmpfloat(kvt_network_flow_rate(n, flows[i]), ==, rates[i - 1]);
	kvt_network_free(n);
	kvt_loop_free(loop);
}

/* Caps that fill a link up to rounding leave nothing, not a trickle, to the next class. */
static void test_starved_is_zero(void)
{
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_network *n = kvt_network_new(loop);
	for (unsigned flows = 3; flows < 100; flows++) {
		kvt_link l = kvt_network_add_link(n, "l", 1e9);
		kvt_flow_spec spec = { .path = { l }, .path_length = 1, .bytes = 1u << 30 };
		spec.max_rate = 1e9 / flows;
		for (unsigned f = 0; f < flows; f++)
			kvt_network_start(n, &spec);
		spec.max_rate = 0;
		spec.priority = 1;
		kvt_flow low = kvt_network_start(n, &spec);
		g_assert_cmpfloat(kvt_network_flow_rate(n, low), ==, 0);
	}
	kvt_network_free(n);
	kvt_loop_free(loop);
}

/* Links that fill together up to rounding give the same rate to the last bit, so that equal flows
 * over either end at one instant, not two. */
static void test_ties(void)
{
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_network *n = kvt_network_new(loop);
	kvt_rng rng = kvt_rng_init(15, 0);
	for (unsigned round = 0; round < 200; round++) {
		kvt_flow shared[2];
		kvt_link links[] = { kvt_network_add_link(n, "a", 1e9),
			kvt_network_add_link(n, "b", 1e9) };
		/* One flow that costs 3 on the one link, three that cost 1 on the other. */
		kvt_flow_spec spec = { .path = { links[0] }, .path_length = 1, .cost = { 3 } };
		spec.bytes = 1u << 30;
		spec.max_rate = 1e8 * kvt_rng_uniform(&rng);
		kvt_network_start(n, &spec);
		spec.path[0] = links[1];
		spec.cost[0] = 1;
		for (unsigned i = 0; i < 3; i++)
			kvt_network_start(n, &spec);
		spec.max_rate = 0;
		for (unsigned i = 0; i < 2; i++) {
			spec.path[0] = links[i];
			shared[i] = kvt_network_start(n, &spec);
		}
		memcpy(spec.path, links, sizeof(links));
		spec.path_length = 2;
		kvt_network_start(n, &spec);
		g_assert_cmpfloat(kvt_network_flow_rate(n, shared[0]), ==,
			kvt_network_flow_rate(n, shared[1]));
	}
	kvt_network_free(n);
	kvt_loop_free(loop);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/bandwidth-share/by-hand", test_by_hand);
	g_test_add_func("/bandwidth-share/against-solver", test_against_solver);
	g_test_add_func("/bandwidth-share/conditions-large", test_conditions_large);
	g_test_add_func("/bandwidth-share/extreme-weights", test_extreme_weights);
	g_test_add_func("/bandwidth-share/incremental", test_incremental);
	g_test_add_func("/bandwidth-share/starved-is-zero", test_starved_is_zero);
	g_test_add_func("/bandwidth-share/ties", test_ties);
	g_test_add_func("/bandwidth-share/places", test_places);
	g_test_add_func("/bandwidth-share/component-alone", test_component_alone_is_shared);
	return g_test_run();
}
