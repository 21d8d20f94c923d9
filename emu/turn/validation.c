/* validation.c: runs both worlds and judges the one by the other. */
#include "emu/turn/validation.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "emu/device/turn_tokens.h"
#include "sim/base/error.h"
#include "sim/base/output.h"

#define SETTING(field) offsetof(kvt_validate_settings, field)

const kvt_option kvt_validate_options[] = {
	{ "repeats", KVT_OPTION_INTEGER, 0, SETTING(repeats), "5", 1, 1000, NULL,
		"times that each world runs, in turn" },
	{ "warm_ups", KVT_OPTION_INTEGER, 0, SETTING(warm_ups), "1", 0, 100, NULL,
		"runs before them that do not count" },
	{ "ttft", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, SETTING(ttft), "10%", 0, 1, NULL,
		"how far the modelled time to first token may be off; 0%: not judged" },
	{ "tpot", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, SETTING(tpot), "10%", 0, 1, NULL,
		"the same of the time per output token" },
	{ "stage", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, SETTING(stage), "15%", 0, 1, NULL,
		"the same of every real stage" },
	{ "least_share", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, SETTING(least_share), "5%", 0, 1,
		NULL, "stages of a smaller share of the time are shown, not judged" },
	{ 0 },
};

/* Where a figure is in a turn. */
typedef struct figure {
	char name[40];
	size_t offset;
	bool real, of_step, whole;
} figure;

static void add_figure(GArray *figures, const char *prefix, const char *name, size_t offset,
	bool real, bool of_step)
{
	figure f = { .offset = offset, .real = real, .of_step = of_step };
	g_snprintf(f.name, sizeof(f.name), "%s%s", prefix, name);
	g_array_append_val(figures, f);
}

/* first_window, loading and after_loading overlap with the others: they are how the turn went, the
 * rest what it was made of. */
static GArray *all_figures(void)
{
	GArray *figures = g_array_new(FALSE, TRUE, sizeof(figure));
	figure ttft = { "ttft", offsetof(kvt_turn, ttft), true, false, true };
	figure tpot = { "tpot", offsetof(kvt_turn, tpot), true, true, true };
	g_array_append_val(figures, ttft);
	g_array_append_val(figures, tpot);
	add_figure(figures, "", "first_window", offsetof(kvt_turn, first_window), true, false);
	add_figure(figures, "", "loading", offsetof(kvt_turn, loading), true, false);
	add_figure(figures, "", "waiting", offsetof(kvt_turn, waiting), true, false);
	for (unsigned kind = 0; kind < KVT_WORK_KINDS; kind++)
		add_figure(figures, "", kvt_work_names[kind],
			offsetof(kvt_turn, work) + kind * sizeof(double),
			kvt_turn_work_is_real((kvt_work_kind)kind), false);
	add_figure(figures, "step.", "waiting", offsetof(kvt_turn, step_waiting), true, true);
	for (unsigned kind = 0; kind < KVT_WORK_KINDS; kind++)
		add_figure(figures, "step.", kvt_work_names[kind],
			offsetof(kvt_turn, step_work) + kind * sizeof(double),
			kvt_turn_work_is_real((kvt_work_kind)kind), true);
	return figures;
}

static kvt_measured measured_of(const kvt_turn *turns, unsigned n, size_t offset)
{
	g_autofree double *values = g_new(double, n);
	for (unsigned i = 0; i < n; i++)
		memcpy(&values[i], (const char *)&turns[i] + offset, sizeof(double));
	return kvt_measured_of(values, n);
}

static double tolerance_of(const kvt_validate_settings *settings, const figure *f, double share)
{
	if (f->whole)
		return f->of_step ? settings->tpot : settings->ttft;
	return f->real && share >= settings->least_share ? settings->stage : 0;
}

GArray *kvt_validation_judge(const kvt_validate_settings *settings, const kvt_turn *model,
	unsigned n_model, const kvt_turn *measured, unsigned n_measured)
{
	GArray *rows = g_array_new(FALSE, TRUE, sizeof(kvt_validation_row));
	GArray *figures = all_figures();
	double ttft = measured_of(measured, n_measured, offsetof(kvt_turn, ttft)).value;
	double tpot = measured_of(measured, n_measured, offsetof(kvt_turn, tpot)).value;
	for (unsigned i = 0; i < figures->len; i++) {
		const figure *f = &g_array_index(figures, figure, i);
		kvt_validation_row row = { .real = f->real };
		memcpy(row.name, f->name, sizeof(row.name));
		row.model = measured_of(model, n_model, f->offset);
		row.measured = measured_of(measured, n_measured, f->offset);
		double whole = f->of_step ? tpot : ttft, real = row.measured.value;
		row.share = whole > 0 ? MAX(real, row.model.value) / whole : 0;
		row.error = real > 0 ? row.model.value / real - 1 : NAN;
		row.tolerance = whole > 0 ? tolerance_of(settings, f, row.share) : 0;
		row.within = !(row.tolerance > 0) || fabs(row.error) <= row.tolerance;
		row.noisy = row.tolerance > 0 && real > 0 &&
			    (row.measured.high - row.measured.low) / (2 * real) > row.tolerance;
		if (f->whole || real > 0 || row.model.value > 0)
			g_array_append_val(rows, row);
	}
	g_array_unref(figures);
	return rows;
}

void kvt_validation_clear(kvt_validation *validation)
{
	if (validation->rows)
		g_array_unref(validation->rows);
	kvt_timeline_free(validation->model);
	kvt_timeline_free(validation->measured);
	g_free(validation->notice);
	g_free(validation->device);
	*validation = (kvt_validation){ 0 };
}

/* The turns of a migration by models; of another experiment, its turn in the place of the fetch. */
static bool run_model(const kvt_experiment *experiment, kvt_timeline *timeline,
	kvt_migration *model, GError **error)
{
	kvt_world models;
	if (!kvt_emulation_model_world(experiment, &models, error))
		return false;
	if (experiment->kind == KVT_RUN_MIGRATE)
		return kvt_migration_run(&models, experiment, timeline, model, error);
	return kvt_turn_run_in(&models, experiment, KVT_RUN_RESUME, timeline,
		&model->turns[KVT_MIGRATION_FETCH], error);
}

/* One repeat of both worlds; timelines are the last one's. */
static bool run_both(kvt_experiment *experiment, kvt_validation *v, kvt_migration *model,
	kvt_migration *measured, GError **error)
{
	kvt_timeline_free(v->model);
	kvt_timeline_free(v->measured);
	v->model = kvt_timeline_new(KVT_TIMELINE_DEFAULT_LIMIT);
	v->measured = kvt_timeline_new(KVT_TIMELINE_DEFAULT_LIMIT);
	g_auto(kvt_emulation_result) result = { 0 };
	if (!run_model(experiment, v->model, model, error) ||
		!kvt_emulation_run(experiment, NULL, v->measured, &result, error))
		return false;
	*measured = result.migration.migration;
	measured->turns[KVT_MIGRATION_FETCH] = result.turn;
	const kvt_attention_errors *errors;
	v->exact &= kvt_emulation_exact(&result, &errors);
	if (!v->notice)
		v->notice = g_strdup(result.notice);
	g_free(v->device);
	v->device = kvt_emulation_device_text(&result);
	return true;
}

/* CPU time of all programs, and of this one, s. */
typedef struct cpu_use {
	double all, own, clock;
} cpu_use;

static cpu_use cpu_now(void)
{
	cpu_use use = { NAN, 0, (double)g_get_monotonic_time() * 1e-6 };
	struct rusage own;
	getrusage(RUSAGE_SELF, &own);
	use.own = (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
		  1e-6 * (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec);
	g_autofree char *text = NULL;
	unsigned long long user, nice, system, idle, wait, irq, soft, steal;
	if (g_file_get_contents("/proc/stat", &text, NULL, NULL) &&
		sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system,
			&idle, &wait, &irq, &soft, &steal) == 8)
		use.all = (double)(user + nice + system + irq + soft + steal) /
			  (double)sysconf(_SC_CLK_TCK);
	return use;
}

/* Judges the turns of one kind; rows are a new array. */
static GArray *judge_turns(const kvt_validation *v, kvt_migration_turn which,
	const kvt_migration *model, const kvt_migration *measured, unsigned n)
{
	g_autofree kvt_turn *expected = g_new(kvt_turn, n), *found = g_new(kvt_turn, n);
	for (unsigned i = 0; i < n; i++) {
		expected[i] = model[i].turns[which];
		found[i] = measured[i].turns[which];
	}
	return kvt_validation_judge(&v->settings, expected, n, found, n);
}

/* All stages of the turn, or of the fetch, and of the other turns the first token. */
static void judge_all(
	kvt_validation *v, const kvt_migration *model, const kvt_migration *measured, unsigned n)
{
	v->rows = judge_turns(v, KVT_MIGRATION_FETCH, model, measured, n);
	for (unsigned i = 0; i < KVT_MIGRATION_TURNS; i++) {
		if (i == KVT_MIGRATION_FETCH || !(measured[0].turns[i].ttft > 0))
			continue;
		g_autoptr(GArray) rows = judge_turns(v, i, model, measured, n);
		kvt_validation_row row = g_array_index(rows, kvt_validation_row, 0);
		g_snprintf(row.name, sizeof(row.name), "%s.ttft", kvt_migration_names[i]);
		g_array_append_val(v->rows, row);
	}
}

bool kvt_validation_run(kvt_experiment *experiment,
	void (*progress)(void *arg, unsigned done, unsigned total), void *progress_arg,
	kvt_validation *v, GError **error)
{
	*v = (kvt_validation){ .exact = true };
	if (!kvt_section_read(kvt_config_section_or_empty(experiment->config, "validate"),
		    kvt_validate_options, &v->settings, TRUE, error))
		return false;
	unsigned warm_ups = (unsigned)v->settings.warm_ups, n = (unsigned)v->settings.repeats;
	g_autofree kvt_migration *model = g_new0(kvt_migration, warm_ups + n);
	g_autofree kvt_migration *measured = g_new0(kvt_migration, warm_ups + n);
	cpu_use before = cpu_now();
	int64_t seed = experiment->seed;
	bool good = true;
	for (unsigned i = 0; i < warm_ups + n && good; i++) {
		if (progress)
			progress(progress_arg, i, warm_ups + n);
		experiment->seed = seed + i;
		good = run_both(experiment, v, &model[i], &measured[i], error);
	}
	experiment->seed = seed;
	cpu_use after = cpu_now();
	v->other_cores = MAX(after.all - before.all - (after.own - before.own), 0) /
			 MAX(after.clock - before.clock, 1e-3);
	if (!good)
		return false;
	judge_all(v, model + warm_ups, measured + warm_ups, n);
	v->passed = v->exact;
	for (unsigned i = 0; i < v->rows->len; i++)
		v->passed &= g_array_index(v->rows, kvt_validation_row, i).within;
	return true;
}

static json_t *three(const kvt_measured *m)
{
	json_t *object = json_object();
	json_object_set_new(object, "median_s", kvt_json_real(m->value));
	json_object_set_new(object, "low_s", kvt_json_real(m->low));
	json_object_set_new(object, "high_s", kvt_json_real(m->high));
	return object;
}

json_t *kvt_validation_to_json(const kvt_experiment *experiment, const kvt_validation *v)
{
	json_t *object = kvt_json_result("validation", 1), *rows = json_array();
	json_object_set_new(object, "title", kvt_json_text(experiment->title));
	json_object_set_new(object, "device", kvt_json_text(v->device));
	json_object_set_new(object, "repeats", json_integer(v->settings.repeats));
	json_object_set_new(object, "passed", json_boolean(v->passed));
	json_object_set_new(object, "attention_exact", json_boolean(v->exact));
	json_object_set_new(object, "other_cores", kvt_json_real(v->other_cores));
	for (unsigned i = 0; i < v->rows->len; i++) {
		const kvt_validation_row *r = &g_array_index(v->rows, kvt_validation_row, i);
		json_t *row = json_object();
		json_object_set_new(row, "stage", json_string(r->name));
		json_object_set_new(row, "kind", json_string(r->real ? "REAL" : "MODELLED"));
		json_object_set_new(row, "measured", three(&r->measured));
		json_object_set_new(row, "model", three(&r->model));
		json_object_set_new(row, "share", kvt_json_real(r->share));
		json_object_set_new(row, "error", kvt_json_real(r->error));
		json_object_set_new(row, "tolerance",
			r->tolerance > 0 ? kvt_json_real(r->tolerance) : json_null());
		json_object_set_new(row, "within", json_boolean(r->within));
		json_object_set_new(row, "noisy", json_boolean(r->noisy));
		json_array_append_new(rows, row);
	}
	json_object_set_new(object, "stages", rows);
	return object;
}

enum { LANES = 64 };

/* Spans of the turn itself: what Turn 1 wrote before is left out. */
typedef struct tracer {
	GString *text;
	const char *world;
	kvt_time origin;
	GHashTable *busy; /* track -> kvt_time[LANES], ends */
} tracer;

static bool of_turn(const char *track)
{
	return strcmp(track, "loads") == 0 || strcmp(track, "compute") == 0;
}

static void find_origin(
	void *arg, const char *track, const char *name, kvt_time start, kvt_time end)
{
	tracer *t = arg;
	if (of_turn(track))
		t->origin = MIN(t->origin, start);
}

static void add_span(void *arg, const char *track, const char *name, kvt_time start, kvt_time end)
{
	tracer *t = arg;
	if (!of_turn(track) || start < t->origin)
		return;
	kvt_time *busy = g_hash_table_lookup(t->busy, track);
	if (!busy) {
		busy = g_new0(kvt_time, LANES);
		g_hash_table_insert(t->busy, g_strdup(track), busy);
	}
	unsigned lane = 0;
	while (lane + 1 < LANES && start < busy[lane])
		lane++;
	busy[lane] = end;
	g_string_append_printf(t->text, "%s,%s,%u,%s,%.6f,%.6f\n", t->world, track, lane, name,
		kvt_time_to_seconds(start - t->origin) * 1e3,
		kvt_time_to_seconds(end - t->origin) * 1e3);
}

static void add_world(GString *text, const char *world, const kvt_timeline *timeline)
{
	tracer t = { .text = text, .world = world, .origin = KVT_TIME_NEVER };
	t.busy = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	kvt_timeline_each_span(timeline, find_origin, &t);
	kvt_timeline_each_span(timeline, add_span, &t);
	g_hash_table_unref(t.busy);
}

char *kvt_validation_timeline_csv(const kvt_validation *v)
{
	GString *text = g_string_new("world,track,lane,stage,start_ms,end_ms\n");
	add_world(text, "model", v->model);
	add_world(text, "measured", v->measured);
	return g_string_free(text, FALSE);
}
