/* plan_summary.c: the frontier, what binds, spreads, break-even and wear as text tables. */
#include "sim/cmd/plan_summary.h"

#include <math.h>

#include "sim/plan/plan_report.h"

static const kvt_column columns[] = {
	{ "config", "fleet", KVT_CELL_TEXT, 0, NULL, 0 },
	{ "cost", "USD/h", KVT_CELL_NUMBER, 0, "%.2f", 1 },
	{ "cost_low", NULL, KVT_CELL_NUMBER, 0, NULL, 0 },
	{ "cost_high", NULL, KVT_CELL_NUMBER, 0, NULL, 0 },
	{ "p95_ttft_s", "p95 TTFT", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "p95_ttft_low", NULL, KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "p95_ttft_high", NULL, KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "p95_tpot_s", "p95 TPOT", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "cost_per_mtoken", "USD/Mtok", KVT_CELL_NUMBER, 0, "%.2f", 1 },
	{ "joules_per_mtoken", "MJ/Mtok", KVT_CELL_NUMBER, 0, "%.1f", 1e-6 },
	{ "dwpd", "DWPD", KVT_CELL_NUMBER, 0, "%.3g", 1 },
	{ "drive_life_years", NULL, KVT_CELL_NUMBER, 0, NULL, 0 },
	{ "goodput_share", NULL, KVT_CELL_NUMBER, KVT_UNIT_SHARE, NULL, 0 },
	{ "bottleneck", "bound by", KVT_CELL_TEXT, 0, NULL, 0 },
	{ "meets_slo", "meets", KVT_CELL_BOOL, 0, NULL, 0 },
	{ "answer", "answer", KVT_CELL_BOOL, 0, NULL, 0 },
	{ "slo_ttft_s", NULL, KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ 0 },
};

static void add_spread(kvt_table *table, const kvt_plan_choice *c, kvt_plan_figure figure)
{
	const kvt_plan_spread *spread = &c->sensitivity.spread[figure];
	bool known = c->sensitivity.spread_known;
	kvt_table_add_number(table, known ? spread->low : NAN);
	kvt_table_add_number(table, known ? spread->high : NAN);
}

kvt_table *kvt_plan_summary_rows(const kvt_plan *plan)
{
	kvt_table *table = kvt_table_new(columns);
	for (unsigned i = 0; i < plan->n_choices; i++) {
		const kvt_plan_choice *c = &plan->choices[i];
		const kvt_plan_figures *f = &c->figures;
		kvt_table_add_row(table);
		kvt_table_add_text(table, c->config);
		kvt_table_add_number(table, f->cost);
		add_spread(table, c, KVT_PLAN_COST);
		kvt_table_add_number(table, f->p95_ttft);
		add_spread(table, c, KVT_PLAN_P95_TTFT);
		kvt_table_add_number(table, f->p95_tpot);
		kvt_table_add_number(table, f->cost_per_mtoken);
		kvt_table_add_number(table, f->joules_per_mtoken);
		kvt_table_add_number(table, f->drives > 0 ? f->dwpd : NAN);
		kvt_table_add_number(table, f->life_years);
		kvt_table_add_number(table, f->goodput_share);
		kvt_table_add_text(table, kvt_plan_bottleneck_name(c->sensitivity.bottleneck));
		kvt_table_add_bool(table, c->meets);
		kvt_table_add_bool(table, plan->met && i == plan->answer);
		kvt_table_add_number(table, kvt_time_to_seconds(plan->settings->ttft));
	}
	return table;
}

/* A unit's text: "989 TFLOP/s a GPU" of "FLOP/s a GPU". */
static char *amount_text(double amount, int resource)
{
	const char *unit = kvt_plan_resource_units[resource];
	kvt_unit kind = g_str_has_prefix(unit, "FLOP")  ? KVT_UNIT_FLOPS
			: g_str_has_prefix(unit, "B/s") ? KVT_UNIT_RATE
							: KVT_UNIT_BYTES;
	return kvt_unit_format(amount, kind);
}

static void print_sensitivity(const kvt_plan_choice *c, FILE *stream)
{
	const kvt_plan_sensitivity *s = &c->sensitivity;
	if (s->bottleneck == KVT_PLAN_NOT_KNOWN) {
		fputs("\n  the budget ended before what binds was measured\n", stream);
		return;
	}
	fprintf(stream, "\n  with %.0f%% more of    %-30s %10s %10s\n", 100 * (s->factor - 1), "",
		"p95 TTFT", "change");
	for (int r = 0; r < KVT_PLAN_RESOURCES; r++) {
		if (!s->measured[r])
			continue;
		g_autofree char *amount = amount_text(c->figures.amount[r], r);
		g_autofree char *more = amount_text(c->figures.amount[r] * (s->factor - 1), r);
		g_autofree char *both = g_strdup_printf(
			"%s + %s%s", amount, more, strchr(kvt_plan_resource_units[r], ' '));
		g_autofree char *time = kvt_unit_format(s->raised_p95_ttft[r], KVT_UNIT_TIME);
		fprintf(stream, "    %-16s %-32s %10s %+9.1f%%\n", kvt_plan_resource_names[r], both,
			time, 100 * (s->raised_p95_ttft[r] / c->figures.p95_ttft - 1));
	}
}

static void print_spread(const kvt_plan_choice *c, FILE *stream)
{
	static const struct {
		kvt_plan_figure figure;
		const char *label;
		kvt_unit unit;
		double scale;
	} rows[] = { { KVT_PLAN_P95_TTFT, "p95 TTFT", KVT_UNIT_TIME, 1 },
		{ KVT_PLAN_P95_TPOT, "p95 TPOT", KVT_UNIT_TIME, 1 },
		{ KVT_PLAN_COST, "USD an hour", KVT_UNIT_NONE, 1 },
		{ KVT_PLAN_COST_PER_MTOKEN, "USD a million tokens", KVT_UNIT_NONE, 1 },
		{ KVT_PLAN_JOULES_PER_MTOKEN, "MJ a million tokens", KVT_UNIT_NONE, 1e-6 },
		{ KVT_PLAN_DWPD, "drive writes a day", KVT_UNIT_NONE, 1 } };
	if (!c->sensitivity.spread_known)
		return;
	fprintf(stream, "\n  %-22s %10s %10s %10s  %s\n", "", "low", "value", "high",
		"moved most by");
	for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
		const kvt_plan_spread *s = &c->sensitivity.spread[rows[i].figure];
		double values[] = { s->low, kvt_plan_figure_of(&c->figures, rows[i].figure),
			s->high };
		fprintf(stream, "  %-22s", rows[i].label);
		for (unsigned v = 0; v < G_N_ELEMENTS(values); v++) {
			g_autofree char *text =
				rows[i].unit == KVT_UNIT_TIME
					? kvt_unit_format(values[v], KVT_UNIT_TIME)
					: g_strdup_printf("%.4g", values[v] * rows[i].scale);
			fprintf(stream, " %10s", text);
		}
		fprintf(stream, "  %s\n", s->mover ? s->mover : "nothing");
	}
}

static void print_wear(const kvt_plan_choice *c, FILE *stream)
{
	if (c->figures.drives <= 0)
		return;
	fprintf(stream, "\n  drives are written %.3g times a day", c->figures.dwpd);
	if (isfinite(c->figures.life_years))
		fprintf(stream, ": %.1f years until they have written what they may",
			c->figures.life_years);
	fputc('\n', stream);
}

static void print_break_even(const kvt_plan *plan, FILE *stream)
{
	fprintf(stream, "\n  a context of %8s  %10s", "tokens", "recompute");
	for (unsigned t = 0; t < plan->n_tiers; t++)
		fprintf(stream, "  from %-8s", plan->tier_names[t]);
	fputc('\n', stream);
	for (unsigned i = 0; i < plan->n_break_even; i++) {
		const kvt_break_even *at = &plan->break_even[i];
		g_autofree char *compute = kvt_unit_format(at->compute_s, KVT_UNIT_TIME);
		fprintf(stream, "  %21" G_GUINT64_FORMAT "  %10s", at->tokens, compute);
		for (unsigned t = 0; t < plan->n_tiers; t++) {
			g_autofree char *load = kvt_unit_format(at->load_s[t], KVT_UNIT_TIME);
			fprintf(stream, "  %12s%s", load,
				at->load_s[t] < at->compute_s ? " " : "-");
		}
		fputc('\n', stream);
	}
	for (unsigned t = 0; t < plan->n_tiers; t++) {
		uint64_t tokens = plan->break_even_tokens[t];
		if (tokens == UINT64_MAX)
			fprintf(stream, "  loading from %s never pays\n", plan->tier_names[t]);
		else if (tokens <= 1)
			fprintf(stream, "  loading from %s always pays\n", plan->tier_names[t]);
		else
			fprintf(stream,
				"  loading from %s pays from %" G_GUINT64_FORMAT " tokens on\n",
				plan->tier_names[t], tokens);
	}
}

void kvt_plan_summary_write(const kvt_plan *plan, FILE *stream)
{
	const kvt_plan_choice *answer = &plan->choices[plan->answer];
	g_autofree char *ttft =
		kvt_unit_format(kvt_time_to_seconds(plan->settings->ttft), KVT_UNIT_TIME);
	if (plan->title && *plan->title)
		fprintf(stream, "%s\n", plan->title);
	fprintf(stream, "p95 TTFT asked for: %s\n\n", ttft);
	g_autoptr(kvt_table) rows = kvt_plan_summary_rows(plan);
	kvt_table_write(rows, KVT_FORMAT_TABLE, stream, NULL);
	fprintf(stream, "\n%s: %s\n", plan->met ? "the cheapest that meets it" : "the nearest",
		answer->config);
	print_sensitivity(answer, stream);
	print_spread(answer, stream);
	print_wear(answer, stream);
	print_break_even(plan, stream);
	fprintf(stream,
		"\n  %u simulations of the whole traffic and %u of its beginning; kinds of fleet: "
		"%u, "
		"%u ruled out without any%s\n",
		plan->simulations, plan->screened, plan->n_shapes, plan->ruled_out,
		plan->complete ? "" : "; the budget ended the search");
}
