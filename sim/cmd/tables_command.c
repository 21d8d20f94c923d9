/*
 * tables_command.c: `kvtier tables`: every published figure beside what is simulated, and the
 * curves over context length behind the pictures.
 */
#include <errno.h>

#include "sim/base/datadir.h"
#include "sim/base/error.h"
#include "sim/base/progress.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/tables_growth.h"
#include "sim/engine/claims.h"
#include "sim/engine/length_sweep.h"

static const kvt_column columns[] = {
	{ "id", "figure", KVT_CELL_TEXT, 0, NULL, 0 },
	{ "published", "published", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.4g", 0 },
	{ "unit", "unit", KVT_CELL_TEXT, 0, NULL, 0 },
	{ "simulated", "simulated", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.4g", 0 },
	{ "low", "low", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.4g", 0 },
	{ "high", "high", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.4g", 0 },
	{ "error", "error", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%+.1f%%", 100 },
	{ "fitted", "fitted", KVT_CELL_BOOL, 0, NULL, 0 },
	{ "note", NULL, KVT_CELL_TEXT, 0, NULL, 0 },
	{ "experiment", NULL, KVT_CELL_TEXT, 0, NULL, 0 },
	{ 0 },
};

/* What the simulation has to say, and what a reader should know; NULL when neither. */
static char *join_notes(const kvt_claim *claim)
{
	bool note = claim->note[0] != '\0';
	if (claim->explanation && note)
		return g_strconcat(claim->explanation, "; note: ", claim->note, NULL);
	return g_strdup(note ? claim->note : claim->explanation);
}

static void add_row(kvt_table *table, const kvt_claim *claim)
{
	double simulated = claim->simulated / claim->unit_scale;
	kvt_table_add_row(table);
	kvt_table_add_text(table, claim->id);
	kvt_table_add_number(table, claim->published_raw);
	kvt_table_add_text(table, claim->unit);
	kvt_table_add_number(table, simulated);
	kvt_table_add_number(table, claim->low / claim->unit_scale);
	kvt_table_add_number(table, claim->high / claim->unit_scale);
	kvt_table_add_number(table, simulated / claim->published_raw - 1);
	kvt_table_add_bool(table, claim->fitted);
	g_autofree char *note = join_notes(claim);
	kvt_table_add_text(table, note);
	kvt_table_add_text(table, claim->experiment);
}

/* What the table leaves out, a line a figure that has something to say. */
static void print_notes(FILE *stream, const GPtrArray *claims)
{
	fputs("\nWhat is behind the figures\n", stream);
	for (unsigned i = 0; i < claims->len; i++) {
		const kvt_claim *claim = claims->pdata[i];
		if (claim->explanation)
			fprintf(stream, "  %-22s %s\n", claim->id, claim->explanation);
		if (claim->note[0] != '\0')
			fprintf(stream, "  %-22s note: %s\n", claim->id, claim->note);
	}
}

/* The constants that were fitted, and to what. */
static gboolean print_fitted(FILE *stream, const char *path, GError **error)
{
	g_autoptr(kvt_config) config = kvt_config_load(path, error);
	if (!config)
		return FALSE;
	kvt_section *sources = kvt_config_section_or_empty(config, "sources");
	g_autofree const char **keys = kvt_section_keys(sources);
	fputs("\nFitted constants (every other figure is predicted)\n", stream);
	for (unsigned i = 0; keys[i]; i++) {
		const char *source = kvt_section_text(sources, keys[i]);
		if (!g_str_has_prefix(source, "fitted"))
			continue;
		g_auto(GStrv) parts = g_strsplit(keys[i], ".", 2);
		kvt_section *section = kvt_config_section_or_empty(config, parts[0]);
		const char *value = parts[1] ? kvt_section_text(section, parts[1]) : NULL;
		fprintf(stream, "  %s = %s, %s\n", keys[i], value ? value : "?", source);
	}
	return TRUE;
}

static gboolean evaluate_all(const char *folder, gboolean spread, GPtrArray *claims, GError **error)
{
	g_auto(GStrv) names = kvt_datadir_list("experiments", ".ini", error);
	if (!names)
		return FALSE;
	g_autofree char *published = g_build_filename(folder, "claims.csv", NULL);
	kvt_progress *progress = kvt_progress_new("experiments", g_strv_length(names));
	gboolean ok = TRUE;
	for (unsigned i = 0; ok && names[i]; i++) {
		g_autofree char *file = g_strconcat(names[i], ".ini", NULL);
		g_autofree char *path = g_build_filename(folder, file, NULL);
		if (kvt_claims_present(path))
			ok = kvt_claims_evaluate(
				path, published, NULL, spread, claims, NULL, error);
		kvt_progress_update(progress, i + 1);
	}
	kvt_progress_free(progress);
	return ok;
}

static gboolean print_claims(const kvt_command_options *options, const char *folder,
	GPtrArray *claims, const GPtrArray *curves, GError **error)
{
	g_autoptr(kvt_table) table = kvt_table_new(columns);
	for (unsigned i = 0; i < claims->len; i++)
		add_row(table, claims->pdata[i]);
	if (options->format != KVT_FORMAT_TABLE)
		return kvt_command_print_table(options, table, error);
	FILE *stream = kvt_command_open(options, error);
	if (!stream)
		return FALSE;
	g_autofree char *common = g_build_filename(folder, "testbed-l40s.ini", NULL);
	gboolean ok = kvt_table_write(table, KVT_FORMAT_TABLE, stream, error);
	if (ok) {
		print_notes(stream, claims);
		ok = print_fitted(stream, common, error) &&
		     kvt_tables_print_growth(curves, stream, error);
	}
	return kvt_command_close(options, stream, ok ? error : NULL) && ok;
}

static const kvt_column curve_columns[] = {
	{ "tokens", "tokens", KVT_CELL_INTEGER, 0, NULL, 0 },
	{ "cold_ttft_s", "cold TTFT", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "resume_ttft_s", "resume TTFT", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "speedup", "speedup", KVT_CELL_NUMBER, KVT_UNIT_NONE, NULL, 0 },
	{ "cold_tokens_per_s", "cold tok/s", KVT_CELL_NUMBER, KVT_UNIT_NONE, NULL, 0 },
	{ "resume_tokens_per_s", "resume tok/s", KVT_CELL_NUMBER, KVT_UNIT_NONE, NULL, 0 },
	{ "tpot_s", "TPOT", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "streamed", "streamed", KVT_CELL_BOOL, 0, NULL, 0 },
	{ 0 },
};

static gboolean write_table(
	const kvt_table *table, const char *folder, const char *file, GError **error)
{
	kvt_command_options options = { .format = KVT_FORMAT_CSV };
	options.output = g_build_filename(folder, file, NULL);
	gboolean ok = kvt_command_print_table(&options, table, error);
	g_free(options.output);
	return ok;
}

static gboolean write_curve(const char *path, const char *folder, const char *file, GError **error)
{
	g_autoptr(GArray) points = g_array_new(FALSE, FALSE, sizeof(kvt_length_point));
	if (!kvt_length_sweep_run(path, NULL, points, error))
		return FALSE;
	g_autoptr(kvt_table) table = kvt_table_new(curve_columns);
	for (unsigned i = 0; i < points->len; i++) {
		const kvt_length_point *point = &g_array_index(points, kvt_length_point, i);
		kvt_table_add_row(table);
		kvt_table_add_integer(table, (int64_t)point->tokens);
		kvt_table_add_number(table, point->cold.ttft);
		kvt_table_add_number(table, point->resume.ttft);
		kvt_table_add_number(table, point->cold.ttft / point->resume.ttft);
		kvt_table_add_number(table, point->cold.tokens_per_s);
		kvt_table_add_number(table, point->resume.tokens_per_s);
		kvt_table_add_number(table, point->resume.tpot);
		kvt_table_add_bool(table, point->resume.streamed);
	}
	return write_table(table, folder, file, error);
}

/* The figures and the curves as CSV, for the pictures. */
static gboolean write_data(const char *experiments, const char *folder, const GPtrArray *claims,
	const GPtrArray *curves, GError **error)
{
	if (g_mkdir_with_parents(folder, 0777) != 0)
		return kvt_error_failed(error, "%s: cannot be made: %s", folder, g_strerror(errno));
	g_autoptr(kvt_table) table = kvt_table_new(columns);
	for (unsigned i = 0; i < claims->len; i++)
		add_row(table, claims->pdata[i]);
	g_autoptr(kvt_table) growth = kvt_tables_growth(curves);
	g_autoptr(kvt_table) points = kvt_tables_curve_points(curves);
	if (!write_table(table, folder, "figures.csv", error) ||
		!write_table(growth, folder, "growth.csv", error) ||
		!write_table(points, folder, "curves.csv", error))
		return FALSE;
	g_auto(GStrv) names = kvt_datadir_list("experiments", ".ini", error);
	gboolean ok = names != NULL;
	for (unsigned i = 0; ok && names[i]; i++) {
		g_autofree char *file = g_strconcat(names[i], ".ini", NULL);
		g_autofree char *path = g_build_filename(experiments, file, NULL);
		g_autofree char *csv = g_strconcat(names[i], ".csv", NULL);
		if (kvt_length_sweep_present(path) && !kvt_length_curves_present(path))
			ok = write_curve(path, folder, csv, error);
	}
	return ok;
}

static int run(int argc, char **argv, GError **error)
{
	char *data = NULL;
	gboolean no_spread = FALSE;
	const GOptionEntry own[] = {
		{ "data", 0, 0, G_OPTION_ARG_FILENAME, &data,
			"Also write the tables and curves behind the pictures into DIR", "DIR" },
		{ "no-spread", 0, 0, G_OPTION_ARG_NONE, &no_spread,
			"Leave out low and high: one run a figure", NULL },
		{ 0 },
	};
	const kvt_command_syntax syntax = {
		.command = &kvt_command_tables,
		.takes = KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT,
		.own = own,
	};
	g_auto(kvt_command_options) options = { 0 };
	gboolean parsed = kvt_command_parse(&syntax, argc, argv, &options, error);
	g_autofree char *data_folder = data;
	if (!parsed)
		return 0;
	g_autofree char *folder = kvt_datadir_find("experiments", error);
	if (!folder)
		return 0;
	g_autoptr(GPtrArray) claims =
		g_ptr_array_new_with_free_func((GDestroyNotify)kvt_claim_free);
	if (!evaluate_all(folder, !no_spread, claims, error))
		return 0;
	/* JSON and CSV hold the figures alone */
	bool growth = options.format == KVT_FORMAT_TABLE || data_folder;
	g_autoptr(GPtrArray) curves = growth ? kvt_tables_run_curves(folder, error) : NULL;
	if (growth && !curves)
		return 0;
	if (print_claims(&options, folder, claims, curves, error) && data_folder)
		write_data(folder, data_folder, claims, curves, error);
	return 0;
}

const kvt_command kvt_command_tables = {
	.name = "tables",
	.summary = "reproduce the published figures",
	.help = "For every published figure: what is simulated, its low and high when each "
		"uncertain "
		"setting\nis moved to its ends, the error, and whether a constant was fitted to "
		"it. "
		"`published`,\n`simulated`, `low` and `high` are in the figure's own unit; error "
		"is "
		"simulated / published - 1.",
	.run = run,
};
