/* test_plan_search.c: the search finds what trying everything finds, with fewer trials; frontiers
 * by hand; bounds that the budget sets. No fleets: shapes are formulas. */
#include <math.h>

#include "sim/plan/plan_search.h"

enum { SHAPES = 30, HIGH = 24 };

/* Shape i costs base + each x replicas and is as fast as work / replicas + wait. */
typedef struct world {
	double base[SHAPES], each[SHAPES], work[SHAPES], wait[SHAPES], energy[SHAPES];
	bool broken[SHAPES];
	double slo;
	unsigned runs;
} world;

static double floor_of(void *arg, unsigned shape, int64_t replicas)
{
	const world *w = arg;
	return w->base[shape] + w->each[shape] * (double)replicas;
}

static void run_one(world *w, kvt_plan_trial *trial)
{
	unsigned i = trial->shape;
	trial->ran = !w->broken[i];
	/* what it costs beyond the floor rises with replicas, too */
	trial->cost = floor_of(w, i, trial->replicas) * (1 + w->energy[i]);
	trial->p95_ttft = w->work[i] / (double)trial->replicas + w->wait[i];
	trial->meets = trial->ran && trial->p95_ttft <= w->slo;
}

static void run_trials(void *arg, kvt_plan_trial *trials, unsigned n)
{
	world *w = arg;
	w->runs += n;
	for (unsigned i = 0; i < n; i++)
		run_one(w, &trials[i]);
}

static double draw(uint64_t *state, double low, double high)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return low + (high - low) * (double)(*state >> 11) * 0x1p-53;
}

static world random_world(uint64_t seed)
{
	world w = { 0 };
	uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
	for (unsigned i = 0; i < SHAPES; i++) {
		w.base[i] = draw(&state, 0, 5);
		w.each[i] = draw(&state, 1, 10);
		w.work[i] = draw(&state, 1, 60);
		w.wait[i] = draw(&state, 0, 4);
		w.energy[i] = draw(&state, 0, 0.2);
		w.broken[i] = draw(&state, 0, 1) < 0.1;
	}
	w.slo = draw(&state, 0.5, 8);
	return w;
}

static double cheapest_of_all(world *w)
{
	double best = INFINITY;
	for (unsigned i = 0; i < SHAPES; i++) {
		for (int64_t r = 1; r <= HIGH; r++) {
			kvt_plan_trial trial = { .shape = i, .replicas = r };
			run_one(w, &trial);
			if (trial.meets)
				best = MIN(best, trial.cost);
		}
	}
	return best;
}

static kvt_plan_problem problem_of(world *w, const int64_t *low)
{
	return (kvt_plan_problem){ .n_shapes = SHAPES,
		.low = low,
		.high = HIGH,
		.floor = floor_of,
		.run = run_trials,
		.arg = w,
		.budget = SHAPES * HIGH,
		.slack = 1 };
}

static void test_finds_optimum(void)
{
	int64_t low[SHAPES], guess[SHAPES];
	unsigned most = 0, met = 0;
	for (uint64_t seed = 0; seed < 500; seed++) {
		world w = random_world(seed);
		uint64_t state = seed;
		for (unsigned i = 0; i < SHAPES; i++) {
			low[i] = 1;
			/* guesses, good, bad or none, change what is tried and not what is found */
			guess[i] = (int64_t)draw(&state, 0, HIGH + 0.99);
		}
		double expected = cheapest_of_all(&w);
		kvt_plan_problem problem = problem_of(&w, low);
		problem.guess = seed % 2 ? guess : NULL;
		g_autoptr(GArray) trials = g_array_new(FALSE, FALSE, sizeof(kvt_plan_trial));
		g_auto(kvt_plan_found) found = { 0 };
		kvt_plan_search(&problem, trials, &found);
		g_assert_true(found.ended);
		g_assert_cmpuint(trials->len, ==, w.runs);
		most = MAX(most, w.runs);
		g_assert_true((found.best >= 0) == isfinite(expected));
		if (found.best < 0)
			continue;
		met++;
		const kvt_plan_trial *best = &g_array_index(trials, kvt_plan_trial, found.best);
		g_assert_true(best->meets);
		g_assert_cmpfloat(best->cost, ==, expected);
		g_assert_cmpint(found.replicas[best->shape], ==, best->replicas);
	}
	g_assert_cmpuint(met, >, 300);
	g_assert_cmpuint(most, <, SHAPES * HIGH / 3);
}

/* No trial is made twice, nor below what bounds rule out. */
static void test_no_waste(void)
{
	world w = random_world(7);
	int64_t low[SHAPES];
	for (unsigned i = 0; i < SHAPES; i++)
		low[i] = i % 5 == 0 ? HIGH + 1 : 3;
	kvt_plan_problem problem = problem_of(&w, low);
	g_autoptr(GArray) trials = g_array_new(FALSE, FALSE, sizeof(kvt_plan_trial));
	g_auto(kvt_plan_found) found = { 0 };
	kvt_plan_search(&problem, trials, &found);
	bool seen[SHAPES][HIGH + 1] = { 0 };
	for (unsigned i = 0; i < trials->len; i++) {
		const kvt_plan_trial *t = &g_array_index(trials, kvt_plan_trial, i);
		g_assert_cmpint(t->replicas, >=, low[t->shape]);
		g_assert_cmpint(t->replicas, <=, HIGH);
		g_assert_false(seen[t->shape][t->replicas]);
		seen[t->shape][t->replicas] = true;
	}
}

static void test_budget(void)
{
	world w = random_world(3);
	int64_t low[SHAPES];
	for (unsigned i = 0; i < SHAPES; i++)
		low[i] = 1;
	kvt_plan_problem problem = problem_of(&w, low);
	problem.budget = 5;
	g_autoptr(GArray) trials = g_array_new(FALSE, FALSE, sizeof(kvt_plan_trial));
	g_auto(kvt_plan_found) found = { 0 };
	kvt_plan_search(&problem, trials, &found);
	g_assert_cmpuint(trials->len, ==, 5);
	g_assert_false(found.ended);
}

static void test_frontier(void)
{
	static const kvt_plan_trial list[] = {
		{ .ran = true, .cost = 5, .p95_ttft = 1 },
		{ .ran = true, .cost = 1, .p95_ttft = 9 },
		{ .ran = true, .cost = 3, .p95_ttft = 9 },  /* as fast as a cheaper one */
		{ .ran = false, .cost = 0, .p95_ttft = 0 }, /* was not run */
		{ .ran = true, .cost = 2, .p95_ttft = 4 },
		{ .ran = true, .cost = 2, .p95_ttft = 4.5 }, /* slower at the same cost */
		{ .ran = true, .cost = 6, .p95_ttft = 2 },   /* dearer and slower */
	};
	g_autoptr(GArray) trials = g_array_new(FALSE, FALSE, sizeof(kvt_plan_trial));
	g_array_append_vals(trials, list, G_N_ELEMENTS(list));
	g_autoptr(GArray) frontier = kvt_plan_frontier(trials);
	static const unsigned expected[] = { 1, 4, 0 };
	g_assert_cmpuint(frontier->len, ==, G_N_ELEMENTS(expected));
	for (unsigned i = 0; i < frontier->len; i++)
		g_assert_cmpuint(g_array_index(frontier, unsigned, i), ==, expected[i]);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/plan/search/finds-the-optimum", test_finds_optimum);
	g_test_add_func("/plan/search/wastes-nothing", test_no_waste);
	g_test_add_func("/plan/search/budget", test_budget);
	g_test_add_func("/plan/search/frontier", test_frontier);
	return g_test_run();
}
