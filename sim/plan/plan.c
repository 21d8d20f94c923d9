/* plan.c: bounds, screening, search, frontier, what matters: one after the other. */
#include "sim/plan/plan.h"

#include <math.h>

#include "sim/base/error.h"
#include "sim/plan/plan_bounds.h"
#include "sim/plan/plan_search.h"

typedef struct planner {
	const kvt_plan_settings *settings;
	kvt_plan_runner *runner;
	kvt_plan_bounds *bounds;
	int64_t requests; /* that are being run; 0: all */
	double target;    /* p95 TTFT that is being asked for; 0: all that the plan asks for */
	GArray *trials;   /* kvt_plan_trial of the whole traffic */
	char *failed;     /* why the first that could not be run could not */
} planner;

static double cost_floor(void *arg, unsigned shape, int64_t replicas)
{
	const planner *p = arg;
	return kvt_plan_cost_floor(&p->bounds[shape], replicas);
}

static kvt_plan_job job_of(const planner *p, const kvt_plan_trial *trial)
{
	return (kvt_plan_job){ .shape = trial->shape,
		.replicas = trial->replicas,
		.requests = p->requests,
		.raise = -1 };
}

static void run_trials(void *arg, kvt_plan_trial *trials, unsigned n)
{
	planner *p = arg;
	g_autofree kvt_plan_job *jobs = g_new(kvt_plan_job, n);
	g_autofree kvt_plan_result *results = g_new(kvt_plan_result, n);
	for (unsigned i = 0; i < n; i++)
		jobs[i] = job_of(p, &trials[i]);
	kvt_plan_runner_run(p->runner, jobs, n, results);
	for (unsigned i = 0; i < n; i++) {
		trials[i].ran = results[i].ran;
		if (!results[i].ran) {
			if (!p->failed)
				p->failed = g_strdup(results[i].error);
			continue;
		}
		trials[i].meets = p->target > 0 ? results[i].figures.p95_ttft <= p->target
						: kvt_plan_meets(p->settings, &results[i].figures);
		trials[i].cost = results[i].figures.cost;
		trials[i].p95_ttft = results[i].figures.p95_ttft;
	}
}

/* What is to be found at this p95 TTFT; `low` is the caller's, [shapes]. */
static kvt_plan_problem problem_of(planner *p, double ttft, int64_t *low)
{
	const kvt_plan_settings *s = p->settings;
	for (unsigned i = 0; i < s->shapes->len; i++)
		low[i] = kvt_plan_bounds_low(s, &p->bounds[i], ttft);
	unsigned ran = kvt_plan_runner_count(p->runner) + kvt_plan_runner_screened(p->runner);
	unsigned budget = (unsigned)MAX(s->budget / 2, 1);
	return (kvt_plan_problem){ .n_shapes = s->shapes->len,
		.low = low,
		.high = s->high,
		.floor = cost_floor,
		.run = run_trials,
		.arg = p,
		.budget = budget > ran ? budget - ran : 0,
		.slack = 1 };
}

/* Searches with the first requests alone; where it ended is where the search begins. */
static int64_t *screen(planner *p, const kvt_plan_problem *problem)
{
	const kvt_plan_settings *s = p->settings;
	if (s->screen <= 0 || s->screen >= 1)
		return NULL;
	kvt_plan_problem cut = *problem;
	cut.slack = 1.5;
	cut.budget = problem->budget / 2;
	p->requests = MAX(1, (int64_t)((double)s->trace->n_requests * s->screen));
	g_autoptr(GArray) trials = g_array_new(FALSE, FALSE, sizeof(kvt_plan_trial));
	g_auto(kvt_plan_found) found = { 0 };
	kvt_plan_search(&cut, trials, &found);
	p->requests = 0;
	return g_steal_pointer(&found.replicas);
}

/* The cheapest fleets of shorter and longer times, for the frontier, while there is budget. */
static void look_around(planner *p, int64_t replicas)
{
	static const double factors[] = { 0.75, 1.5, 0.5, 2.5, 5 };
	const kvt_plan_settings *s = p->settings;
	g_autofree int64_t *low = g_new(int64_t, s->shapes->len);
	for (unsigned i = 0; i < G_N_ELEMENTS(factors); i++) {
		double ttft = factors[i] * kvt_time_to_seconds(s->ttft);
		kvt_plan_problem problem = problem_of(p, ttft, low);
		/* what is out of reach would be looked for at any price */
		problem.high = MIN(s->high, MAX(4 * replicas, 8));
		g_autoptr(GArray) trials = g_array_new(FALSE, FALSE, sizeof(kvt_plan_trial));
		g_auto(kvt_plan_found) found = { 0 };
		p->target = ttft;
		kvt_plan_search(&problem, trials, &found);
		p->target = 0;
		/* once more by what the plan asks for: they are known */
		run_trials(p, (kvt_plan_trial *)(void *)trials->data, trials->len);
		g_array_append_vals(p->trials, trials->data, trials->len);
	}
}

/* The cheapest trial that meets; -1: none does. */
static int cheapest(const GArray *trials)
{
	int best = -1;
	for (unsigned i = 0; i < trials->len; i++) {
		const kvt_plan_trial *trial = &g_array_index(trials, kvt_plan_trial, i);
		if (trial->ran && trial->meets &&
			(best < 0 ||
				trial->cost < g_array_index(trials, kvt_plan_trial, best).cost))
			best = (int)i;
	}
	return best;
}

/* Where one that fails for another reason than p95 TTFT is cheaper and faster, the answer is on no
 * frontier of the two: it is put where its cost is. */
static void place_answer(const GArray *trials, GArray *frontier, unsigned answer)
{
	double cost = g_array_index(trials, kvt_plan_trial, answer).cost;
	unsigned at = 0;
	for (; at < frontier->len; at++) {
		unsigned index = g_array_index(frontier, unsigned, at);
		if (index == answer)
			return;
		if (g_array_index(trials, kvt_plan_trial, index).cost > cost)
			break;
	}
	g_array_insert_val(frontier, at, answer);
}

static double cost_at(const GArray *trials, const GArray *frontier, unsigned at)
{
	unsigned index = g_array_index(frontier, unsigned, at);
	return g_array_index(trials, kvt_plan_trial, index).cost;
}

/* Keeps at most so many: the answer, and of the others those that are farthest apart in cost. What
 * is ten times as slow as the answer is no choice. */
static void thin(const GArray *trials, GArray *frontier, unsigned most, unsigned answer)
{
	double slowest = 10 * g_array_index(trials, kvt_plan_trial, answer).p95_ttft;
	while (g_array_index(trials, kvt_plan_trial, g_array_index(frontier, unsigned, 0))
			.p95_ttft > slowest)
		g_array_remove_index(frontier, 0);
	while (frontier->len > most) {
		unsigned drop = 0;
		double nearest = INFINITY;
		for (unsigned i = 0; i < frontier->len; i++) {
			if (g_array_index(frontier, unsigned, i) == answer)
				continue;
			double before = i > 0 ? cost_at(trials, frontier, i - 1) : 0;
			double after =
				i + 1 < frontier->len ? cost_at(trials, frontier, i + 1) : INFINITY;
			double cost = cost_at(trials, frontier, i);
			/* how much of the axis it alone stands for */
			double apart = MIN(cost / MAX(before, 1e-9), after / cost);
			if (apart <= nearest) {
				nearest = apart;
				drop = i;
			}
		}
		g_array_remove_index(frontier, drop);
	}
}

static void add_choices(planner *p, kvt_plan *plan, const GArray *frontier, unsigned answer)
{
	plan->choices = g_new0(kvt_plan_choice, frontier->len);
	for (unsigned i = 0; i < frontier->len; i++) {
		unsigned index = g_array_index(frontier, unsigned, i);
		const kvt_plan_trial *trial = &g_array_index(p->trials, kvt_plan_trial, index);
		kvt_plan_choice *choice = &plan->choices[plan->n_choices++];
		kvt_plan_result result;
		kvt_price_list prices;
		choice->job = job_of(p, trial);
		kvt_plan_runner_run(p->runner, &choice->job, 1, &result);
		choice->figures = result.figures;
		choice->meets = trial->meets;
		choice->shape = &g_array_index(p->settings->shapes, kvt_plan_shape, trial->shape);
		g_autoptr(kvt_fleet_settings) fleet = kvt_plan_settings_fleet(
			p->settings, choice->shape, trial->replicas, NULL, &prices, NULL);
		choice->config = kvt_plan_config_text(fleet);
		choice->sensitivity.bottleneck = KVT_PLAN_NOT_KNOWN;
		if (index == answer)
			plan->answer = i;
	}
}

static void measure(planner *p, kvt_plan *plan)
{
	const kvt_plan_settings *s = p->settings;
	/* the answer first, then what is nearest to it in cost */
	for (unsigned away = 0; away < plan->n_choices; away++) {
		for (int sign = -1; sign <= (away > 0 ? 1 : -1); sign += 2) {
			int64_t i = (int64_t)plan->answer + sign * (int64_t)away;
			unsigned ran = kvt_plan_runner_count(p->runner) +
				       kvt_plan_runner_screened(p->runner);
			if (i < 0 || i >= plan->n_choices ||
				ran + kvt_plan_sensitivity_runs(s) > s->budget)
				continue;
			kvt_plan_choice *choice = &plan->choices[i];
			kvt_plan_sensitivity_measure(
				s, p->runner, &choice->job, &choice->figures, &choice->sensitivity);
		}
	}
}

static gboolean add_break_even(const planner *p, kvt_plan *plan, GError **error)
{
	static const uint64_t lengths[] = { 1000, 3000, 10000, 30000, 100000, 300000, 1000000,
		3000000, 10000000 };
	/* the file's own tiers, whether or not the answer has them: that is the question */
	const kvt_plan_choice *answer = &plan->choices[plan->answer];
	kvt_plan_shape shape = *answer->shape;
	shape.dram = shape.drives = shape.nics = KVT_PLAN_AS_IT_IS;
	kvt_price_list prices;
	g_autoptr(kvt_fleet_settings) settings = kvt_plan_settings_fleet(
		p->settings, &shape, answer->job.replicas, NULL, &prices, error);
	g_autoptr(kvt_fleet) fleet =
		settings ? kvt_fleet_new(settings, p->settings->trace, error) : NULL;
	if (!fleet)
		return FALSE;
	plan->title = g_strdup(settings->title);
	plan->n_tiers = settings->n_tiers;
	plan->n_break_even = G_N_ELEMENTS(lengths);
	plan->break_even = g_new(kvt_break_even, plan->n_break_even);
	for (unsigned i = 0; i < plan->n_break_even; i++)
		plan->break_even[i] = kvt_break_even_of(fleet, lengths[i]);
	for (unsigned i = 0; i < plan->n_tiers; i++) {
		plan->tier_names[i] = g_strdup(settings->tiers[i].name);
		plan->break_even_tokens[i] =
			kvt_break_even_tokens(fleet, i, lengths[plan->n_break_even - 1]);
	}
	return TRUE;
}

/* Nothing does: what comes nearest is the most that may be bought of each. */
static void try_most(planner *p)
{
	const kvt_plan_settings *s = p->settings;
	g_autoptr(GArray) round = g_array_new(FALSE, FALSE, sizeof(kvt_plan_trial));
	for (unsigned i = 0; i < s->shapes->len && round->len < MAX(s->budget / 4, 1); i++) {
		const kvt_plan_trial trial = { .shape = i, .replicas = s->high };
		if (p->bounds[i].fits)
			g_array_append_val(round, trial);
	}
	run_trials(p, (kvt_plan_trial *)(void *)round->data, round->len);
	g_array_append_vals(p->trials, round->data, round->len);
}

static void search_all(planner *p, kvt_plan *plan)
{
	const kvt_plan_settings *s = p->settings;
	g_autofree int64_t *low = g_new(int64_t, s->shapes->len);
	kvt_plan_problem problem = problem_of(p, kvt_time_to_seconds(s->ttft), low);
	for (unsigned i = 0; i < s->shapes->len; i++)
		plan->ruled_out += low[i] > s->high;
	g_autofree int64_t *guess = screen(p, &problem);
	g_auto(kvt_plan_found) found = { 0 };
	problem.guess = guess;
	kvt_plan_search(&problem, p->trials, &found);
	plan->complete = found.ended;
	if (found.best < 0)
		try_most(p);
	else
		look_around(p, g_array_index(p->trials, kvt_plan_trial, found.best).replicas);
}

static gboolean check_ran(const planner *p, const GArray *frontier, GError **error)
{
	if (frontier->len > 0)
		return TRUE;
	if (p->failed)
		return kvt_error_failed(error, "%s", p->failed);
	return kvt_error_usage(error, "no fleet can be built: %s", p->bounds[0].error);
}

static kvt_plan *make_plan(planner *p, GError **error)
{
	const kvt_plan_settings *s = p->settings;
	g_autoptr(kvt_plan) plan = g_new0(kvt_plan, 1);
	plan->settings = s;
	plan->n_shapes = s->shapes->len;
	search_all(p, plan);
	g_autoptr(GArray) frontier = kvt_plan_frontier(p->trials);
	if (!check_ran(p, frontier, error))
		return NULL;
	int best = cheapest(p->trials);
	plan->met = best >= 0;
	/* nothing meets: the fastest is nearest */
	unsigned answer =
		plan->met ? (unsigned)best : g_array_index(frontier, unsigned, frontier->len - 1);
	place_answer(p->trials, frontier, answer);
	thin(p->trials, frontier, (unsigned)s->frontier, answer);
	add_choices(p, plan, frontier, answer);
	measure(p, plan);
	if (!add_break_even(p, plan, error))
		return NULL;
	plan->simulations = kvt_plan_runner_count(p->runner);
	plan->screened = kvt_plan_runner_screened(p->runner);
	return g_steal_pointer(&plan);
}

kvt_plan *kvt_plan_new(const kvt_plan_settings *settings, unsigned threads, GError **error)
{
	planner p = { .settings = settings };
	p.runner = kvt_plan_runner_new(settings, threads, error);
	if (!p.runner)
		return NULL;
	p.bounds = kvt_plan_bounds_new(settings);
	p.trials = g_array_new(FALSE, FALSE, sizeof(kvt_plan_trial));
	kvt_plan *plan = make_plan(&p, error);
	g_array_unref(p.trials);
	kvt_plan_bounds_free(p.bounds, settings->shapes->len);
	kvt_plan_runner_free(p.runner);
	g_free(p.failed);
	return plan;
}

void kvt_plan_free(kvt_plan *plan)
{
	if (!plan)
		return;
	for (unsigned i = 0; i < plan->n_choices; i++)
		g_free(plan->choices[i].config);
	g_free(plan->choices);
	for (unsigned i = 0; i < plan->n_tiers; i++)
		g_free(plan->tier_names[i]);
	g_free(plan->break_even);
	g_free(plan->title);
	g_free(plan);
}
