/* plan_sensitivity.c: one thing moved at a time, by simulation and by arithmetic. */
#include "sim/plan/plan_sensitivity.h"

#include <math.h>

#include "models/model_file.h"

/* A change that is smaller than this share of p95 TTFT is none: the schedule of a run moves by as
 * much. */
static const double LEAST = 0.005;

const char *const kvt_plan_figure_names[KVT_PLAN_SPREADS] = {
	[KVT_PLAN_P95_TTFT] = "p95_ttft_s",
	[KVT_PLAN_P95_TPOT] = "p95_tpot_s",
	[KVT_PLAN_COST] = "cost",
	[KVT_PLAN_COST_PER_MTOKEN] = "cost_per_mtoken",
	[KVT_PLAN_JOULES_PER_MTOKEN] = "joules_per_mtoken",
	[KVT_PLAN_DWPD] = "dwpd",
};

double kvt_plan_figure_of(const kvt_plan_figures *f, kvt_plan_figure figure)
{
	switch (figure) {
	case KVT_PLAN_P95_TTFT:
		return f->p95_ttft;
	case KVT_PLAN_P95_TPOT:
		return f->p95_tpot;
	case KVT_PLAN_COST:
		return f->cost;
	case KVT_PLAN_COST_PER_MTOKEN:
		return f->cost_per_mtoken;
	case KVT_PLAN_JOULES_PER_MTOKEN:
		return f->joules_per_mtoken;
	default:
		return f->dwpd;
	}
}

unsigned kvt_plan_sensitivity_runs(const kvt_plan_settings *s)
{
	return KVT_PLAN_RESOURCES + 2 * s->uncertainties->len;
}

int kvt_plan_bottleneck_of(const kvt_plan_sensitivity *sensitivity, double p95_ttft)
{
	int best = KVT_PLAN_NOTHING;
	double lowest = p95_ttft * (1 - LEAST);
	for (int r = 0; r < KVT_PLAN_RESOURCES; r++) {
		if (!sensitivity->measured[r] || sensitivity->raised_p95_ttft[r] >= lowest)
			continue;
		lowest = sensitivity->raised_p95_ttft[r];
		best = r;
	}
	return best;
}

/* Spreads */

static void widen(kvt_plan_sensitivity *out, const kvt_plan_figures *base,
	const kvt_plan_figures *moved, const char *mover, double furthest[KVT_PLAN_SPREADS])
{
	for (int i = 0; i < KVT_PLAN_SPREADS; i++) {
		kvt_plan_spread *spread = &out->spread[i];
		double value = kvt_plan_figure_of(moved, (kvt_plan_figure)i);
		double distance = fabs(value - kvt_plan_figure_of(base, (kvt_plan_figure)i));
		if (!isfinite(value))
			continue;
		spread->low = MIN(spread->low, value);
		spread->high = MAX(spread->high, value);
		if (distance > furthest[i]) {
			furthest[i] = distance;
			spread->mover = mover;
		}
	}
}

/* Figures of money, from prices and energy as they are. */
static void price(kvt_plan_figures *f, const kvt_price_list *prices)
{
	const kvt_price_bill bill = kvt_plan_bill(f);
	f->cost = kvt_price_fleet_hour(prices, &bill);
	f->cost_per_mtoken = f->mtokens > 0 ? f->cost * f->duration / 3600 / f->mtokens : NAN;
	f->joules_per_mtoken = f->mtokens > 0 ? f->joules / f->mtokens : NAN;
}

/* Prices at both of their ends. */
static void move_prices(const kvt_price_list *prices, const kvt_plan_figures *base,
	kvt_plan_sensitivity *out, double furthest[KVT_PLAN_SPREADS])
{
	for (int i = 0; i < KVT_PRICES; i++) {
		for (int sign = -1; sign <= 1; sign += 2) {
			kvt_price_list moved = *prices;
			double factor = 1 + sign * prices->uncertainty[i];
			if (prices->uncertainty[i] <= 0 || factor <= 0)
				continue;
			moved.value[i] *= factor;
			moved.value[KVT_PRICE_PUE] = MAX(moved.value[KVT_PRICE_PUE], 1);
			moved.value[KVT_PRICE_UTILISATION] =
				MIN(moved.value[KVT_PRICE_UTILISATION], 1);
			kvt_plan_figures f = *base;
			price(&f, &moved);
			if (base->dwpd > 0)
				f.dwpd = base->dwpd * moved.value[KVT_PRICE_UTILISATION] /
					 prices->value[KVT_PRICE_UTILISATION];
			widen(out, base, &f, kvt_price_names_of[i], furthest);
		}
	}
}

/* The uncertainty that a model's file states for one of its constants; 0: none. */
static double model_uncertainty(kvt_model_kind kind, const char *name, const char *key)
{
	double found = 0;
	g_autofree char *path = kvt_model_path(kind, name, NULL);
	g_autoptr(kvt_config) config = path ? kvt_config_load(path, NULL) : NULL;
	g_autoptr(GPtrArray) constants = config ? kvt_model_constants(config, NULL) : NULL;
	for (unsigned i = 0; constants && i < constants->len; i++) {
		const kvt_constant *constant = g_ptr_array_index(constants, i);
		if (g_str_equal(constant->section, kvt_model_kind_names[kind]) &&
			g_str_equal(constant->key, key))
			found = constant->uncertainty;
	}
	return found;
}

/* Power of machines: it changes no time. */
static void move_power(const kvt_fleet_settings *fleet, const kvt_price_list *prices,
	const kvt_plan_figures *base, kvt_plan_sensitivity *out, double furthest[KVT_PLAN_SPREADS])
{
	const kvt_experiment *e = fleet->experiment;
	double busy = base->gpu_busy_joules, idle = base->gpu_idle_joules;
	double above = e->gpu->power - e->gpu->power_idle;
	double share = above > 0 ? busy / above : 0; /* GPU seconds that are busy */
	const struct {
		kvt_model_kind kind;
		const char *name, *key, *mover;
		double joules; /* that grow with it */
	} parts[] = {
		{ KVT_MODEL_GPU, e->gpu->name, "power", "GPU power", share * e->gpu->power },
		{ KVT_MODEL_GPU, e->gpu->name, "power_idle", "GPU power at idle",
			idle - share * e->gpu->power_idle },
		{ KVT_MODEL_HOST, e->host->name, "power_idle", "host power", base->host_joules },
		{ KVT_MODEL_NIC, e->nic->name, "power", "NIC power", base->nic_joules },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++) {
		double uncertainty = model_uncertainty(parts[i].kind, parts[i].name, parts[i].key);
		for (int sign = -1; sign <= 1; sign += 2) {
			kvt_plan_figures f = *base;
			f.joules += sign * uncertainty * parts[i].joules;
			price(&f, prices);
			widen(out, base, &f, parts[i].mover, furthest);
		}
	}
}

/* Measuring */

static unsigned list_jobs(const kvt_plan_settings *s, const kvt_plan_job *job,
	const kvt_plan_figures *f, kvt_plan_job *jobs)
{
	unsigned n = 0;
	for (int r = 0; r < KVT_PLAN_RESOURCES; r++) {
		/* what moved nothing is no knob: the run would be the same */
		if (f->used[r] <= 0)
			continue;
		jobs[n] = *job;
		jobs[n].raise = r;
		jobs[n++].factor = 1 + s->raise;
	}
	for (unsigned i = 0; i < s->uncertainties->len; i++) {
		const kvt_plan_uncertainty *u =
			&g_array_index(s->uncertainties, kvt_plan_uncertainty, i);
		const char *const ends[] = { u->low, u->high };
		for (unsigned e = 0; e < G_N_ELEMENTS(ends); e++) {
			jobs[n] = *job;
			jobs[n++].change = ends[e];
		}
	}
	return n;
}

/* The name of the input that a job changes. */
static const char *changed_key(const kvt_plan_settings *s, const kvt_plan_job *job)
{
	for (unsigned i = 0; i < s->uncertainties->len; i++) {
		const kvt_plan_uncertainty *u =
			&g_array_index(s->uncertainties, kvt_plan_uncertainty, i);
		if (job->change == u->low || job->change == u->high)
			return u->key;
	}
	return NULL;
}

void kvt_plan_sensitivity_measure(const kvt_plan_settings *s, kvt_plan_runner *runner,
	const kvt_plan_job *job, const kvt_plan_figures *f, kvt_plan_sensitivity *out)
{
	unsigned most = kvt_plan_sensitivity_runs(s);
	g_autofree kvt_plan_job *jobs = g_new(kvt_plan_job, most);
	g_autofree kvt_plan_result *results = g_new(kvt_plan_result, most);
	double furthest[KVT_PLAN_SPREADS] = { 0 };
	*out = (kvt_plan_sensitivity){ .factor = 1 + s->raise, .spread_known = true };
	for (int i = 0; i < KVT_PLAN_SPREADS; i++)
		out->spread[i].low = out->spread[i].high =
			kvt_plan_figure_of(f, (kvt_plan_figure)i);
	unsigned n = list_jobs(s, job, f, jobs);
	kvt_plan_runner_run(runner, jobs, n, results);
	for (unsigned i = 0; i < n; i++) {
		const kvt_plan_result *result = &results[i];
		if (!result->ran)
			continue;
		if (jobs[i].change) {
			widen(out, f, &result->figures, changed_key(s, &jobs[i]), furthest);
			continue;
		}
		int r = jobs[i].raise;
		out->measured[r] = true;
		out->raised_p95_ttft[r] = result->figures.p95_ttft;
		out->raised_p95_tpot[r] = result->figures.p95_tpot;
	}
	out->bottleneck = kvt_plan_bottleneck_of(out, f->p95_ttft);
	kvt_price_list prices;
	const kvt_plan_shape *shape = &g_array_index(s->shapes, kvt_plan_shape, job->shape);
	g_autoptr(kvt_fleet_settings) fleet =
		kvt_plan_settings_fleet(s, shape, job->replicas, NULL, &prices, NULL);
	g_assert(fleet);
	move_prices(&prices, f, out, furthest);
	move_power(fleet, &prices, f, out, furthest);
}
