/* tables_growth.c: curves over context length as tables. */
#include "sim/cmd/tables_growth.h"

#include <math.h>

#include "sim/base/datadir.h"
#include "sim/base/progress.h"
#include "sim/engine/length_sweep.h"

static const kvt_column growth_columns[] = {
	{ "curve", NULL, KVT_CELL_TEXT, 0, NULL, 0 },
	{ "title", "Turn 2 loads", KVT_CELL_TEXT, 0, NULL, 0 },
	{ "exponent", "exponent", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.2f", 0 },
	{ "worst", "worst", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.0f%%", 100 },
	{ "from_tokens", "from", KVT_CELL_NUMBER, KVT_UNIT_COUNT, NULL, 0 },
	{ "to_tokens", "to", KVT_CELL_NUMBER, KVT_UNIT_COUNT, NULL, 0 },
	{ "last_exponent", "last x10", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.2f", 0 },
	{ "share", "pages", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.1f%%", 100 },
	{ "mass_kept", "mass kept", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.1f%%", 100 },
	{ "recorded_to_tokens", "recorded to", KVT_CELL_NUMBER, KVT_UNIT_COUNT, NULL, 0 },
	{ "first_ttft_s", "shortest", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "last_ttft_s", "longest", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ 0 },
};

static const kvt_column point_columns[] = {
	{ "curve", "curve", KVT_CELL_TEXT, 0, NULL, 0 },
	{ "tokens", "tokens", KVT_CELL_INTEGER, 0, NULL, 0 },
	{ "resume_ttft_s", "resume TTFT", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "fit_s", "fit", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "share", "pages", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.1f%%", 100 },
	{ "mass_kept", "mass kept", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.1f%%", 100 },
	{ "extrapolated", "extrapolated", KVT_CELL_BOOL, 0, NULL, 0 },
	{ "streamed", "streamed", KVT_CELL_BOOL, 0, NULL, 0 },
	{ 0 },
};

GPtrArray *kvt_tables_run_curves(const char *folder, GError **error)
{
	g_auto(GStrv) names = kvt_datadir_list("experiments", ".ini", error);
	if (!names)
		return NULL;
	g_autoptr(GPtrArray) curves =
		g_ptr_array_new_with_free_func((GDestroyNotify)kvt_length_curve_free);
	g_autoptr(kvt_progress) progress = kvt_progress_new("curves", g_strv_length(names));
	for (unsigned i = 0; names[i]; i++) {
		g_autofree char *file = g_strconcat(names[i], ".ini", NULL);
		g_autofree char *path = g_build_filename(folder, file, NULL);
		if (kvt_length_curves_present(path) && !kvt_length_curves_run(path, curves, error))
			return NULL;
		kvt_progress_update(progress, i + 1);
	}
	return g_steal_pointer(&curves);
}

static const kvt_length_point *point_at(const kvt_length_curve *curve, unsigned i)
{
	return &g_array_index(curve->points, kvt_length_point, i);
}

/* The choice at the longest context; NULL where all pages are loaded. */
static const kvt_selectivity_point *last_choice(const kvt_length_curve *curve)
{
	const kvt_turn *turn = &point_at(curve, curve->points->len - 1)->resume;
	return turn->chooses ? &turn->selectivity : NULL;
}

kvt_table *kvt_tables_growth(const GPtrArray *curves)
{
	kvt_table *table = kvt_table_new(growth_columns);
	for (unsigned i = 0; i < curves->len; i++) {
		const kvt_length_curve *curve = curves->pdata[i];
		const kvt_selectivity_point *choice = last_choice(curve);
		kvt_table_add_row(table);
		kvt_table_add_text(table, curve->id);
		kvt_table_add_text(table, curve->title);
		kvt_table_add_number(table, curve->fit.exponent);
		kvt_table_add_number(table, curve->fit.worst);
		kvt_table_add_number(table, curve->fit.low);
		kvt_table_add_number(table, curve->fit.high);
		kvt_table_add_number(table, curve->last.points > 0 ? curve->last.exponent : NAN);
		kvt_table_add_number(table, choice ? choice->share : 1);
		kvt_table_add_number(table, choice ? choice->mass_kept : 1);
		kvt_table_add_number(table, choice ? choice->recorded_to : NAN);
		kvt_table_add_number(table, point_at(curve, 0)->resume.ttft);
		kvt_table_add_number(table, point_at(curve, curve->points->len - 1)->resume.ttft);
	}
	return table;
}

kvt_table *kvt_tables_curve_points(const GPtrArray *curves)
{
	kvt_table *table = kvt_table_new(point_columns);
	for (unsigned i = 0; i < curves->len; i++) {
		const kvt_length_curve *curve = curves->pdata[i];
		const kvt_power_fit *fit = &curve->fit;
		for (unsigned p = 0; p < curve->points->len; p++) {
			const kvt_length_point *point = point_at(curve, p);
			const kvt_turn *turn = &point->resume;
			double tokens = (double)point->tokens;
			bool fitted = tokens >= fit->low && tokens <= fit->high;
			kvt_table_add_row(table);
			kvt_table_add_text(table, curve->id);
			kvt_table_add_integer(table, (int64_t)point->tokens);
			kvt_table_add_number(table, turn->ttft);
			kvt_table_add_number(
				table, fitted ? fit->factor * pow(tokens, fit->exponent) : NAN);
			kvt_table_add_number(table, turn->chooses ? turn->selectivity.share : 1);
			kvt_table_add_number(
				table, turn->chooses ? turn->selectivity.mass_kept : 1);
			kvt_table_add_bool(table, turn->chooses && turn->selectivity.extrapolated);
			kvt_table_add_bool(table, turn->streamed);
		}
	}
	return table;
}

gboolean kvt_tables_print_growth(const GPtrArray *curves, FILE *stream, GError **error)
{
	if (curves->len == 0)
		return TRUE;
	fputs("\nHow time to first token grows: TTFT = factor x tokens ^ exponent, by least "
	      "squares\n",
		stream);
	g_autoptr(kvt_table) table = kvt_tables_growth(curves);
	if (!kvt_table_write(table, KVT_FORMAT_TABLE, stream, error))
		return FALSE;
	fputs("  worst: the point furthest from the fit. pages, mass kept: of global layers, at "
	      "the "
	      "longest\n  context. Shares of pages are recorded up to a length and held beyond it, "
	      "or "
	      "those of grown\n  traces: the rest of the curve is extrapolated. Local layers are "
	      "loaded whole. The shares and\n  where they are from: experiments/selectivity.csv.\n",
		stream);
	return TRUE;
}
