/*
 * plan_search.h: finds the cheapest fleet that meets what is asked for, with few trials. It knows
 * shapes by number, how many replicas each may have, what each costs at least, and asks for trials;
 * it knows no fleets.
 *
 * Of one shape more replicas cost more and are faster, so the fewest that meet are found by
 * bisection; a shape is dropped as soon as the fewest replicas that may still do cost more at least
 * than what is known to do. Under these two assumptions the result is the optimum over the whole
 * grid, whatever the guesses, unless the budget ends first.
 */
#ifndef KVT_PLAN_SEARCH_H
#define KVT_PLAN_SEARCH_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct kvt_plan_trial {
	unsigned shape;
	int64_t replicas;
	/* what came out: whether it could be run at all, and met what is asked for */
	bool ran, meets;
	double cost, p95_ttft;
} kvt_plan_trial;

typedef struct kvt_plan_problem {
	unsigned n_shapes;
	const int64_t *low; /* [n_shapes]: the fewest replicas that are not ruled out; above `high`:
			       the shape is */
	int64_t high;
	const int64_t *guess; /* [n_shapes]: where to look first; 0: nowhere; NULL: as 0 */
	/* US dollars an hour at least; rises with replicas */
	double (*floor)(void *arg, unsigned shape, int64_t replicas);
	/* Runs n trials. */
	void (*run)(void *arg, kvt_plan_trial *trials, unsigned n);
	void *arg;
	unsigned budget; /* trials at most */
	/* A shape is kept while its floor is below slack x the best cost: 1 finds the best, more
	 * finds the fewest replicas of others, too. */
	double slack;
} kvt_plan_problem;

typedef struct kvt_plan_found {
	int best;          /* index of the cheapest trial that meets; -1: there is none */
	bool ended;        /* by itself, not by the budget */
	int64_t *replicas; /* [n_shapes]: the fewest that are known to meet; 0: none */
} kvt_plan_found;

/* Appends every trial to `trials`, of kvt_plan_trial. */
void kvt_plan_search(const kvt_plan_problem *problem, GArray *trials, kvt_plan_found *found);
void kvt_plan_found_clear(kvt_plan_found *found);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_plan_found, kvt_plan_found_clear)

/* Keeps of the trials that ran those that no other one is both as cheap as and as fast as: the
 * indices, by rising cost. A new array of unsigned. */
GArray *kvt_plan_frontier(const GArray *trials);

#endif
