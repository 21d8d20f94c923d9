/* plan_report.c: choices, their sensitivities and spreads as JSON. */
#include "sim/plan/plan_report.h"

#include "sim/base/output.h"

const char *kvt_plan_bottleneck_name(int bottleneck)
{
	if (bottleneck >= 0)
		return kvt_plan_resource_names[bottleneck];
	return bottleneck == KVT_PLAN_NOTHING ? "none" : "not measured";
}

static void set_real(json_t *object, const char *key, double value)
{
	json_object_set_new(object, key, kvt_json_real(value));
}

static json_t *spread(const kvt_plan_choice *c)
{
	json_t *object = json_object();
	for (int i = 0; i < KVT_PLAN_SPREADS; i++) {
		const kvt_plan_spread *s = &c->sensitivity.spread[i];
		json_t *entry = json_object();
		set_real(entry, "low", s->low);
		set_real(entry, "high", s->high);
		json_object_set_new(entry, "moved_most_by", kvt_json_text(s->mover));
		json_object_set_new(object, kvt_plan_figure_names[i], entry);
	}
	return object;
}

static json_t *sensitivity(const kvt_plan_choice *c)
{
	json_t *array = json_array();
	const kvt_plan_sensitivity *s = &c->sensitivity;
	for (int r = 0; r < KVT_PLAN_RESOURCES; r++) {
		if (!s->measured[r])
			continue;
		double more = c->figures.amount[r] * (s->factor - 1);
		double change = s->raised_p95_ttft[r] - c->figures.p95_ttft;
		json_t *entry = json_object();
		json_object_set_new(entry, "resource", json_string(kvt_plan_resource_names[r]));
		set_real(entry, "amount", c->figures.amount[r]);
		json_object_set_new(entry, "unit", json_string(kvt_plan_resource_units[r]));
		set_real(entry, "raised_by", more);
		set_real(entry, "p95_ttft_s", s->raised_p95_ttft[r]);
		set_real(entry, "p95_tpot_s", s->raised_p95_tpot[r]);
		set_real(entry, "change_s", change);
		set_real(entry, "change_s_per_unit", change / more);
		json_array_append_new(array, entry);
	}
	return array;
}

static json_t *hardware(const kvt_plan_choice *c)
{
	const kvt_plan_figures *f = &c->figures;
	json_t *object = json_object();
	json_object_set_new(object, "replicas", json_integer(c->job.replicas));
	set_real(object, "gpus", f->gpus);
	set_real(object, "nodes", f->nodes);
	set_real(object, "dram_bytes", f->dram_gb * 1e9);
	set_real(object, "drives", f->drives);
	set_real(object, "nics", f->nics);
	return object;
}

static json_t *choice(const kvt_plan_choice *c)
{
	const kvt_plan_figures *f = &c->figures;
	json_t *object = json_object();
	json_object_set_new(object, "config", kvt_json_text(c->config));
	set_real(object, "cost", f->cost);
	set_real(object, "p95_ttft_s", f->p95_ttft);
	json_object_set_new(object, "bottleneck",
		json_string(kvt_plan_bottleneck_name(c->sensitivity.bottleneck)));
	json_object_set_new(object, "meets_slo", json_boolean(c->meets));
	json_object_set_new(object, "hardware", hardware(c));
	set_real(object, "p50_ttft_s", f->p50_ttft);
	set_real(object, "p99_ttft_s", f->p99_ttft);
	set_real(object, "p95_tpot_s", f->p95_tpot);
	set_real(object, "goodput", f->goodput);
	set_real(object, "goodput_share", f->goodput_share);
	set_real(object, "refused_share", f->refused_share);
	set_real(object, "cost_per_mtoken", f->cost_per_mtoken);
	set_real(object, "joules_per_mtoken", f->joules_per_mtoken);
	set_real(object, "dwpd", f->dwpd);
	set_real(object, "drive_life_years", f->life_years);
	if (c->sensitivity.bottleneck != KVT_PLAN_NOT_KNOWN)
		json_object_set_new(object, "sensitivity", sensitivity(c));
	if (c->sensitivity.spread_known)
		json_object_set_new(object, "spread", spread(c));
	return object;
}

static json_t *break_even(const kvt_plan *plan)
{
	json_t *array = json_array();
	for (unsigned i = 0; i < plan->n_break_even; i++) {
		const kvt_break_even *at = &plan->break_even[i];
		json_t *entry = json_object(), *load = json_object();
		json_object_set_new(entry, "tokens", json_integer((json_int_t)at->tokens));
		set_real(entry, "bytes", at->bytes);
		set_real(entry, "recompute_s", at->compute_s);
		for (unsigned t = 0; t < plan->n_tiers; t++)
			set_real(load, plan->tier_names[t], at->load_s[t]);
		json_object_set_new(entry, "load_s", load);
		/* a slower way than this is no faster than computing */
		set_real(entry, "break_even_bytes_per_s", at->bytes / at->compute_s);
		json_array_append_new(array, entry);
	}
	return array;
}

static json_t *break_even_tokens(const kvt_plan *plan)
{
	json_t *object = json_object();
	for (unsigned t = 0; t < plan->n_tiers; t++) {
		uint64_t tokens = plan->break_even_tokens[t];
		json_object_set_new(object, plan->tier_names[t],
			tokens == UINT64_MAX ? json_null() : json_integer((json_int_t)tokens));
	}
	return object;
}

static json_t *search(const kvt_plan *plan)
{
	json_t *object = json_object();
	json_object_set_new(object, "shapes", json_integer(plan->n_shapes));
	json_object_set_new(object, "ruled_out", json_integer(plan->ruled_out));
	json_object_set_new(object, "simulations", json_integer(plan->simulations));
	json_object_set_new(object, "screenings", json_integer(plan->screened));
	json_object_set_new(object, "complete", json_boolean(plan->complete));
	return object;
}

json_t *kvt_plan_report_json(const kvt_plan *plan)
{
	json_t *array = json_array();
	for (unsigned i = 0; i <= plan->answer; i++)
		json_array_append_new(array, choice(&plan->choices[i]));
	json_t *last = json_array_get(array, plan->answer);
	json_object_set_new(last, "search", search(plan));
	json_object_set_new(last, "break_even", break_even(plan));
	json_object_set_new(last, "break_even_tokens", break_even_tokens(plan));
	return array;
}
