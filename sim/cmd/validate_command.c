/* validate_command.c: `kvtier validate FILE.ini`: an experiment against models and in real time on
 * this machine, and how far apart they are. The judging is in emu/turn/validation.c. */
#include <errno.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "emu/turn/validation.h"
#include "sim/base/datadir.h"
#include "sim/base/error.h"
#include "sim/base/progress.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"

/* Others that use more cores than this show in what is measured. */
static const double BUSY = 0.1;

static const kvt_column columns[] = {
	{ "stage", "stage", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "kind", "", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "measured_s", "measured", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "measured_low_s", "least", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "measured_high_s", "most", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "model_s", "model", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ "share", "share", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.1f%%", 100 },
	{ "error", "error", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%+.1f%%", 100 },
	{ "tolerance", "tolerance", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.0f%%", 100 },
	{ "verdict", "", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ 0 },
};

static const char *verdict_of(const kvt_validation_row *r)
{
	if (!(r->tolerance > 0))
		return "";
	if (r->within)
		return r->noisy ? "within; repeats differ by more" : "within";
	return r->noisy ? "OFF; repeats differ by more" : "OFF";
}

static kvt_table *table_of(const kvt_validation *v)
{
	kvt_table *table = kvt_table_new(columns);
	for (unsigned i = 0; i < v->rows->len; i++) {
		const kvt_validation_row *r = &g_array_index(v->rows, kvt_validation_row, i);
		kvt_table_add_row(table);
		kvt_table_add_text(table, r->name);
		kvt_table_add_text(table, r->real ? "REAL" : "MODELLED");
		kvt_table_add_number(table, r->measured.value);
		kvt_table_add_number(table, r->measured.low);
		kvt_table_add_number(table, r->measured.high);
		kvt_table_add_number(table, r->model.value);
		kvt_table_add_number(table, r->share);
		kvt_table_add_number(table, r->error);
		kvt_table_add_number(table, r->tolerance > 0 ? r->tolerance : (double)NAN);
		kvt_table_add_text(table, verdict_of(r));
	}
	return table;
}

/* What differs between the worlds, drawn by gnuplot from a folder that is removed again. */
static gboolean draw(const kvt_validation *v, const kvt_experiment *experiment, const char *picture,
	GError **error)
{
	const char *format = g_str_has_suffix(picture, ".png") ? "png" : "svg";
	g_autofree char *script = kvt_datadir_find("plots/two-worlds.gp", error);
	g_autofree char *plots = script ? g_path_get_dirname(script) : NULL;
	g_autofree char *folder = plots ? g_dir_make_tmp("kvtier-validate-XXXXXX", error) : NULL;
	if (!folder)
		return FALSE;
	g_autofree char *csv = kvt_validation_timeline_csv(v);
	g_autofree char *data = g_build_filename(folder, "two-worlds.csv", NULL);
	g_autofree char *title = g_strdelimit(g_strdup(experiment->title), "'\\@^_{}", ' ');
	g_autofree char *settings =
		g_strdup_printf("format='%s'; out=ARG1; data=ARG2; folder=ARG3; what='%s'; load "
				"folder.'/two-worlds.gp'",
			format, title);
	g_autofree char *runner = g_build_filename(folder, "draw.gp", NULL);
	char *argv[] = { "gnuplot", "-c", runner, (char *)picture, folder, plots, NULL };
	g_autofree char *said = NULL;
	int status = 0;
	gboolean good = g_file_set_contents(data, csv, -1, error) &&
			g_file_set_contents(runner, settings, -1, error) &&
			g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, &said,
				&status, error);
	g_unlink(data);
	g_unlink(runner);
	g_rmdir(folder);
	if (!good || status == 0)
		return good;
	g_strdelimit(g_strstrip(said), "\n", ' ');
	return kvt_error_failed(error, "%s: gnuplot failed: %.200s", picture, said);
}

/* PATH.json becomes PATH-model.json and PATH-measured.json. */
static gboolean write_timelines(const kvt_validation *v, const char *path, GError **error)
{
	g_autofree char *stem = g_strdup(path);
	if (g_str_has_suffix(stem, ".json"))
		stem[strlen(stem) - strlen(".json")] = '\0';
	g_autofree char *model = g_strconcat(stem, "-model.json", NULL);
	g_autofree char *measured = g_strconcat(stem, "-measured.json", NULL);
	return kvt_command_write_timeline(v->model, model, error) &&
	       kvt_command_write_timeline(v->measured, measured, error);
}

static void show_progress(void *arg, unsigned done, unsigned total)
{
	if (kvt_progress_wanted())
		g_printerr("\r\033[Kvalidate: run %u of %u", done + 1, total);
}

static gboolean print(const kvt_command_options *options, const kvt_experiment *experiment,
	const kvt_validation *v, GError **error)
{
	if (options->format == KVT_FORMAT_JSON) {
		json_t *json = kvt_validation_to_json(experiment, v);
		gboolean good = kvt_command_print_json(options, json, error);
		json_decref(json);
		return good;
	}
	g_autoptr(kvt_table) table = table_of(v);
	return kvt_command_print_table(options, table, error);
}

/* Says what is off; true when nothing is. */
static gboolean judge(const kvt_validation *v, GError **error)
{
	GString *off = g_string_new(NULL);
	for (unsigned i = 0; i < v->rows->len; i++) {
		const kvt_validation_row *r = &g_array_index(v->rows, kvt_validation_row, i);
		if (!r->within)
			g_string_append_printf(off, "%s%s by %+.1f%% (tolerance %.0f%%)",
				off->len > 0 ? ", " : "", r->name, 100 * r->error,
				100 * r->tolerance);
	}
	g_autofree char *text = g_string_free(off, FALSE);
	if (!v->exact)
		return kvt_error_failed(error, "validate: attention is not what it should be: see "
					       "\"kvtier emu\"");
	return v->passed || kvt_error_failed(error, "validate: the model is off: %s", text);
}

static void validate(const kvt_command_options *options, kvt_experiment *experiment,
	const char *timelines, const char *picture, GError **error)
{
	g_auto(kvt_validation) v = { 0 };
	gboolean done = kvt_validation_run(experiment, show_progress, NULL, &v, error);
	if (kvt_progress_wanted())
		g_printerr("\r\033[K");
	if (!done)
		return;
	if (v.other_cores > BUSY)
		g_printerr("kvtier: validate: other programs used %.1f of %u cores meanwhile: what "
			   "was "
			   "measured is theirs, too\n",
			v.other_cores, g_get_num_processors());
	if (v.notice)
		g_printerr("kvtier: %s\n", v.notice);
	if (print(options, experiment, &v, error) &&
		(!timelines || write_timelines(&v, timelines, error)) &&
		(!picture || draw(&v, experiment, picture, error)))
		judge(&v, error);
}

static int run(int argc, char **argv, GError **error)
{
	char *given_timelines = NULL, *given_picture = NULL;
	const GOptionEntry own[] = {
		{ "timeline", 0, 0, G_OPTION_ARG_FILENAME, &given_timelines,
			"write what happened when, as FILE-model.json and FILE-measured.json",
			"FILE.json" },
		{ "picture", 0, 0, G_OPTION_ARG_FILENAME, &given_picture,
			"draw both, one above the other, with gnuplot", "FILE.svg|FILE.png" },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &kvt_command_validate, KVT_TAKES_ALL, 1, 1, own };
	g_auto(kvt_command_options) options = { 0 };
	gboolean parsed = kvt_command_parse(&syntax, argc, argv, &options, error);
	g_autofree char *timelines = given_timelines, *picture = given_picture;
	if (!parsed)
		return 0;
	g_autoptr(kvt_experiment) experiment =
		kvt_experiment_load(options.arguments[0], (const char *const *)options.sets, error);
	if (experiment)
		validate(&options, experiment, timelines, picture, error);
	return 0;
}

const kvt_command kvt_command_validate = {
	.name = "validate",
	.summary = "Hold the model against this machine, stage by stage",
	.arguments = "FILE.ini",
	.help = "Runs an experiment against models, as run does, and in real time, as emu does, in "
		"turn and\nseveral times: medians, the least and the largest, and the model's "
		"error "
		"for each stage.\nStages marked MODELLED are timed waits in both and prove "
		"nothing. "
		"[validate] of the\nexperiment says how far off the model may be; beyond that the "
		"exit status is 1. Where\nrepeats differ by more than that, the table says so.\n\n"
		"  kvtier calibrate --store /mnt/kv --out profile --dense l40s\n"
		"  kvtier validate my.ini        # which begins: include = profile/local.ini",
	.run = run,
};
