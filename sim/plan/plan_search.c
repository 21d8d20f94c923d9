/* plan_search.c: bisection of each shape, best first, bounded by the best so far. */
#include "sim/plan/plan_search.h"

#include <math.h>

/* Trials at a time. Fixed, so that what is tried does not depend on how many threads there are. */
enum { ROUND = 4 };

typedef struct shape_state {
	int64_t fails; /* the most replicas that are known not to do */
	int64_t meets; /* the fewest that are known to; 0: none */
	int64_t step;  /* how far up to go next after a failure */
	bool dead;     /* cannot be run */
} shape_state;

typedef struct search {
	const kvt_plan_problem *problem;
	shape_state *shapes;
	double best;
} search;

/* The most replicas that may still be of use: fewer than what does, cheap enough. */
static int64_t limit(const search *s, unsigned shape)
{
	const kvt_plan_problem *p = s->problem;
	const shape_state *state = &s->shapes[shape];
	int64_t low = state->fails, high = state->meets > 0 ? state->meets - 1 : p->high;
	if (isinf(s->best))
		return high;
	while (low < high) {
		int64_t middle = low + (high - low + 1) / 2;
		if (p->floor(p->arg, shape, middle) < p->slack * s->best)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* The next number of replicas to try; 0: the shape is done. */
static int64_t next(const search *s, unsigned shape)
{
	const kvt_plan_problem *p = s->problem;
	const shape_state *state = &s->shapes[shape];
	int64_t low = state->fails + 1, high = state->dead ? 0 : limit(s, shape);
	if (low > high)
		return 0;
	int64_t guess = p->guess && p->guess[shape] > 0 ? p->guess[shape] : low;
	if (state->meets > 0)
		/* right below a guess that does, since guesses are good; then halves */
		return state->meets == guess ? high : low + (high - low) / 2;
	if (state->step == 0)
		return CLAMP(guess, low, high);
	return MIN(state->fails + state->step, high);
}

static void learn(search *s, const kvt_plan_trial *trial)
{
	shape_state *state = &s->shapes[trial->shape];
	if (!trial->ran) {
		state->dead = true;
		return;
	}
	if (trial->meets) {
		state->meets =
			state->meets > 0 ? MIN(state->meets, trial->replicas) : trial->replicas;
		s->best = MIN(s->best, trial->cost);
		return;
	}
	state->fails = MAX(state->fails, trial->replicas);
	state->step = MAX(1, 2 * state->step);
}

typedef struct pending {
	unsigned shape;
	int64_t replicas;
	double floor;
} pending;

static int by_floor(const void *a, const void *b)
{
	const pending *x = a, *y = b;
	if (x->floor != y->floor)
		return x->floor < y->floor ? -1 : 1;
	return (x->shape > y->shape) - (x->shape < y->shape);
}

/* The most promising trials: those that may turn out cheapest. */
static unsigned choose(const search *s, unsigned most, kvt_plan_trial *round)
{
	const kvt_plan_problem *p = s->problem;
	g_autofree pending *list = g_new(pending, MAX(p->n_shapes, 1));
	unsigned n = 0;
	for (unsigned i = 0; i < p->n_shapes; i++) {
		int64_t replicas = next(s, i);
		if (replicas > 0)
			list[n++] = (pending){ i, replicas, p->floor(p->arg, i, replicas) };
	}
	qsort(list, n, sizeof(*list), by_floor);
	n = MIN(n, most);
	for (unsigned i = 0; i < n; i++)
		round[i] = (kvt_plan_trial){ .shape = list[i].shape, .replicas = list[i].replicas };
	return n;
}

void kvt_plan_search(const kvt_plan_problem *p, GArray *trials, kvt_plan_found *found)
{
	search s = {
		.problem = p, .shapes = g_new0(shape_state, MAX(p->n_shapes, 1)), .best = INFINITY
	};
	for (unsigned i = 0; i < p->n_shapes; i++)
		s.shapes[i].fails = p->low[i] - 1;
	*found = (kvt_plan_found){ .best = -1 };
	unsigned left = p->budget, first = trials->len;
	while (left > 0) {
		kvt_plan_trial round[ROUND];
		unsigned n = choose(&s, MIN(ROUND, left), round);
		if (n == 0) {
			found->ended = true;
			break;
		}
		p->run(p->arg, round, n);
		for (unsigned i = 0; i < n; i++)
			learn(&s, &round[i]);
		g_array_append_vals(trials, round, n);
		left -= n;
	}
	found->replicas = g_new(int64_t, MAX(p->n_shapes, 1));
	for (unsigned i = 0; i < p->n_shapes; i++)
		found->replicas[i] = s.shapes[i].meets;
	for (unsigned i = first; i < trials->len; i++) {
		const kvt_plan_trial *trial = &g_array_index(trials, kvt_plan_trial, i);
		if (trial->ran && trial->meets && trial->cost <= s.best) {
			found->best = (int)i;
			break;
		}
	}
	g_free(s.shapes);
}

void kvt_plan_found_clear(kvt_plan_found *found)
{
	g_free(found->replicas);
	found->replicas = NULL;
}

/* The frontier */

static int by_cost(const void *a, const void *b, void *arg)
{
	const GArray *trials = arg;
	const kvt_plan_trial *x = &g_array_index(trials, kvt_plan_trial, *(const unsigned *)a);
	const kvt_plan_trial *y = &g_array_index(trials, kvt_plan_trial, *(const unsigned *)b);
	if (x->cost != y->cost)
		return x->cost < y->cost ? -1 : 1;
	return (x->p95_ttft > y->p95_ttft) - (x->p95_ttft < y->p95_ttft);
}

GArray *kvt_plan_frontier(const GArray *trials)
{
	GArray *order = g_array_new(FALSE, FALSE, sizeof(unsigned));
	for (unsigned i = 0; i < trials->len; i++)
		if (g_array_index(trials, kvt_plan_trial, i).ran)
			g_array_append_val(order, i);
	g_array_sort_with_data(order, by_cost, (void *)trials);
	GArray *frontier = g_array_new(FALSE, FALSE, sizeof(unsigned));
	double best = INFINITY;
	for (unsigned i = 0; i < order->len; i++) {
		unsigned index = g_array_index(order, unsigned, i);
		double p95 = g_array_index(trials, kvt_plan_trial, index).p95_ttft;
		if (p95 >= best)
			continue;
		best = p95;
		g_array_append_val(frontier, index);
	}
	g_array_unref(order);
	return frontier;
}
