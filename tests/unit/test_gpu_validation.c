/* test_gpu_validation.c: the model's side of every experiment that a card was measured in, again,
 * by the card's stored profile: it says what it said then, and that is as near to what was measured
 * as it has to be. Runs nothing on a GPU. */
#include <math.h>
#include <string.h>

#include "emu/turn/emulated_gpu.h"
#include "emu/turn/validation.h"
#include "sim/base/datadir.h"
#include "sim/engine/turn.h"

/* How far the model may be off, alone and the median of all; and how far from what it said: figures
 * are stored in full, and only what changes it moves them. */
static const double OFF = 0.1, MEDIAN = 0.05, MOVED = 1e-6;
enum { LEAST = 8 };

static const char PROFILE[] = "h200-card";

typedef struct stored {
	GHashTable *settings; /* of an experiment by name: "gpu-pages.ini --set a.b=c" */
	char *profile;        /* "dram.latency=8us ..." */
	GPtrArray *rows;      /* of the table: char **, by column */
} stored;

static void stored_init(stored *s)
{
	GError *error = NULL;
	s->settings = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	s->rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
	s->profile = NULL;
	g_autofree char *path = kvt_datadir_find("experiments/validation-h200.csv", &error);
	g_assert_no_error(error);
	g_autofree char *text = NULL;
	g_file_get_contents(path, &text, NULL, &error);
	g_assert_no_error(error);
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	for (char **line = lines; *line; line++) {
		char *colon = strchr(*line, ':');
		if (g_str_has_prefix(*line, "# profile: "))
			s->profile = g_strdup(colon + 2);
		else if (**line == '#' && colon && strstr(*line, ".ini"))
			g_hash_table_insert(s->settings,
				g_strndup(*line + 2, (gsize)(colon - *line - 2)),
				g_strdup(colon + 2));
		else if (**line != '#' && **line != '\0')
			g_ptr_array_add(s->rows, g_strsplit(*line, ",", -1));
	}
	g_assert_nonnull(s->profile);
}

static void stored_clear(stored *s)
{
	g_hash_table_unref(s->settings);
	g_ptr_array_unref(s->rows);
	g_free(s->profile);
}

static double number(const stored *s, const char *name, const char *stage, const char *column)
{
	char **header = s->rows->pdata[0];
	unsigned at = 0;
	while (strcmp(header[at], column) != 0)
		g_assert_nonnull(header[++at]);
	for (unsigned i = 1; i < s->rows->len; i++) {
		char **row = s->rows->pdata[i];
		if (strcmp(row[0], name) == 0 && strcmp(row[1], stage) == 0)
			return g_ascii_strtod(row[at], NULL);
	}
	g_error("%s has no %s", name, stage);
}

/* The experiment as it was validated, but for the card, which is the stored one. */
static kvt_experiment *load(const stored *s, const char *settings)
{
	GError *error = NULL;
	g_auto(GStrv) words = g_strsplit(settings, " ", -1),
		      profile = g_strsplit(s->profile, " ", -1);
	g_autoptr(GPtrArray) set = g_ptr_array_new_with_free_func(g_free);
	g_ptr_array_add(set, g_strconcat("gpu.name=", PROFILE, NULL));
	g_ptr_array_add(set, g_strconcat("host.name=", PROFILE, "-host", NULL));
	for (char **word = profile; *word; word++)
		g_ptr_array_add(set, g_strdup(*word));
	g_autofree char *joined = g_strjoinv(" ", words + 1);
	g_auto(GStrv) given = g_strsplit(joined, "--set ", -1);
	for (char **one = given; *one; one++)
		if (*g_strstrip(*one) != '\0')
			g_ptr_array_add(set, g_strdup(*one));
	g_ptr_array_add(set, NULL);
	g_autofree char *name = g_strconcat("experiments/", words[0], NULL);
	g_autofree char *path = kvt_datadir_find(name, &error);
	g_assert_no_error(error);
	kvt_experiment *experiment =
		kvt_experiment_load(path, (const char *const *)set->pdata, &error);
	g_assert_no_error(error);
	return experiment;
}

static double check(const stored *s, const char *name, const char *stage, double now)
{
	double measured = number(s, name, stage, "measured_s"),
	       then = number(s, name, stage, "model_s");
	double off = now / measured - 1;
	g_test_message("%s %s: measured %.6f s, model %.6f s, %+.1f%%", name, stage, measured, now,
		100 * off);
	if (fabs(now / then - 1) > MOVED)
		g_error("%s %s: the model says %.9f s, and said %.9f s", name, stage, now, then);
	if (fabs(off) > OFF)
		g_error("%s %s: the model is off by %+.1f%%", name, stage, 100 * off);
	return fabs(off);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void test_replay(void)
{
	stored s;
	stored_init(&s);
	GHashTableIter at;
	gpointer name, settings;
	g_autoptr(GArray) errors = g_array_new(FALSE, FALSE, sizeof(double));
	g_hash_table_iter_init(&at, s.settings);
	while (g_hash_table_iter_next(&at, &name, &settings)) {
		GError *error = NULL;
		g_autoptr(kvt_experiment) experiment = load(&s, settings);
		kvt_world world;
		kvt_turn turn;
		g_assert_true(kvt_emulation_model_world(experiment, &world, &error));
		g_assert_no_error(error);
		g_assert_true(
			kvt_turn_run_in(&world, experiment, KVT_RUN_RESUME, NULL, &turn, &error));
		g_assert_no_error(error);
		double both[] = { check(&s, name, "ttft", turn.ttft),
			check(&s, name, "tpot", turn.tpot) };
		g_array_append_vals(errors, both, 2);
	}
	g_assert_cmpuint(errors->len, >=, 2 * LEAST);
	qsort(errors->data, errors->len, sizeof(double), compare);
	double median = g_array_index(errors, double, errors->len / 2);
	g_test_message("%u experiments, median error %.1f%%", errors->len / 2, 100 * median);
	g_assert_cmpfloat(median, <=, MEDIAN);
	stored_clear(&s);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/gpu-validation/replay", test_replay);
	return g_test_run();
}
