/*
 * plan.h: a plan: which fleet is the cheapest that does what is asked for, what less and more money
 * gets, what binds each, and how sure that is. Printing is plan_report.h's.
 */
#ifndef KVT_PLAN_H
#define KVT_PLAN_H

#include "sim/plan/break_even.h"
#include "sim/plan/plan_sensitivity.h"

typedef struct kvt_plan_choice {
	kvt_plan_job job;
	kvt_plan_figures figures;
	bool meets;
	char *config; /* in words */
	const kvt_plan_shape *shape;
	kvt_plan_sensitivity sensitivity;
} kvt_plan_choice;

typedef struct kvt_plan {
	const kvt_plan_settings *settings;
	kvt_plan_choice *choices; /* the frontier by rising cost */
	unsigned n_choices;
	unsigned answer; /* the cheapest that meets; where none does, the nearest */
	bool met;
	bool complete; /* the search ended before its budget did */
	unsigned n_shapes, ruled_out, simulations, screened;
	/* of the answer's fleet: what it is made of, and the break-even by context length */
	char *title;
	char *tier_names[KVT_FLEET_TIERS_MAX];
	unsigned n_tiers;
	kvt_break_even *break_even;
	unsigned n_break_even;
	uint64_t break_even_tokens[KVT_FLEET_TIERS_MAX];
} kvt_plan;

/* Plans. The settings outlive it. NULL with an error when nothing can be built or run. */
kvt_plan *kvt_plan_new(const kvt_plan_settings *settings, unsigned threads, GError **error);
void kvt_plan_free(kvt_plan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_plan, kvt_plan_free)

#endif
