/*
 * plan_sensitivity.h: what moves a point's figures: each resource raised alone, by simulation; each
 * input that is not known exactly at both of its ends, by simulation where it changes what happens
 * and by arithmetic where it only changes what that costs. Nothing is guessed from utilisation.
 */
#ifndef KVT_PLAN_SENSITIVITY_H
#define KVT_PLAN_SENSITIVITY_H

#include "sim/plan/plan_runner.h"

/* Figures that have a spread. */
typedef enum kvt_plan_figure {
	KVT_PLAN_P95_TTFT,
	KVT_PLAN_P95_TPOT,
	KVT_PLAN_COST,
	KVT_PLAN_COST_PER_MTOKEN,
	KVT_PLAN_JOULES_PER_MTOKEN,
	KVT_PLAN_DWPD,
	KVT_PLAN_SPREADS,
} kvt_plan_figure;

extern const char *const kvt_plan_figure_names[KVT_PLAN_SPREADS];

double kvt_plan_figure_of(const kvt_plan_figures *figures, kvt_plan_figure figure);

/* Lowest and highest with one input moved at a time, and the input that moved it furthest; NULL
 * when none moved it. */
typedef struct kvt_plan_spread {
	double low, high;
	const char *mover;
} kvt_plan_spread;

typedef struct kvt_plan_sensitivity {
	/* by resource: figures with more of it; valid where measured */
	bool measured[KVT_PLAN_RESOURCES];
	double raised_p95_ttft[KVT_PLAN_RESOURCES], raised_p95_tpot[KVT_PLAN_RESOURCES];
	double factor;
	int bottleneck; /* kvt_plan_resource; -1: nothing helps, -2: not known */
	bool spread_known;
	kvt_plan_spread spread[KVT_PLAN_SPREADS];
} kvt_plan_sensitivity;

enum { KVT_PLAN_NOTHING = -1, KVT_PLAN_NOT_KNOWN = -2 };

/* Simulations that a point takes beyond itself, at most. */
unsigned kvt_plan_sensitivity_runs(const kvt_plan_settings *settings);

/* Of a point that ran as `job` with `figures`. */
void kvt_plan_sensitivity_measure(const kvt_plan_settings *settings, kvt_plan_runner *runner,
	const kvt_plan_job *job, const kvt_plan_figures *figures, kvt_plan_sensitivity *out);

/* The resource whose raise lowers p95 TTFT most, by half a percent of it at least. */
int kvt_plan_bottleneck_of(const kvt_plan_sensitivity *sensitivity, double p95_ttft);

#endif
