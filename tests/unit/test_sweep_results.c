/* test_sweep_results.c: the journal of a sweep, whole and damaged, and the file made of it. */
#include <glib.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "sim/engine/experiment.h"
#include "sim/sweep/sweep_results.h"

enum { POINTS = 6 };

typedef struct fixture {
	char *folder, *journal_path, *file_path;
	kvt_sweep_plan *plan;
} fixture;

static void set_up(fixture *f, gconstpointer unused)
{
	f->folder = g_dir_make_tmp("kvtier-sweep-XXXXXX", NULL);
	f->journal_path = g_build_filename(f->folder, "journal", NULL);
	f->file_path = g_build_filename(f->folder, "results.h5", NULL);
	g_autoptr(kvt_config) config = kvt_config_parse("x.ini", "", NULL);
	const char *over[] = { "gpu.name=a,bcd", "resume.lookup=1ms..3ms:3", NULL };
	f->plan = kvt_sweep_plan_new(
		config, &(kvt_sweep_request){ .over = over }, kvt_experiment_option, NULL);
	g_assert_cmpuint(f->plan->n_points, ==, POINTS);
}

static void tear_down(fixture *f, gconstpointer unused)
{
	g_remove(f->journal_path);
	g_remove(f->file_path);
	g_assert_cmpint(g_rmdir(f->folder), ==, 0);
	kvt_sweep_plan_free(f->plan);
	g_free(f->folder);
	g_free(f->journal_path);
	g_free(f->file_path);
}

/* What the point has come to: odd ones have a figure more, and one that is nowhere else fails. */
static void append_point(GByteArray *frames, uint64_t point)
{
	if (point == 3) {
		kvt_sweep_append_failed(frames, point, 0.5, 1, "no such thing");
		return;
	}
	g_auto(kvt_sweep_metrics) metrics;
	kvt_sweep_metrics_init(&metrics);
	if (point % 2 == 1)
		kvt_sweep_metrics_add(&metrics, "extra/bytes", 7);
	kvt_sweep_metrics_add(&metrics, "ttft_s", 0.25 * (double)point);
	kvt_sweep_append_text(
		frames, KVT_SWEEP_FRAME_NAMES, metrics.names->str, metrics.names->len);
	kvt_sweep_append_done(frames, point, 0.125, 2, &metrics);
}

static kvt_sweep_journal *open_journal(const fixture *f, const char *identity)
{
	g_autoptr(GError) error = NULL;
	kvt_sweep_journal *journal =
		kvt_sweep_journal_open(f->journal_path, identity, POINTS, false, &error);
	g_assert_no_error(error);
	return journal;
}

static void append(kvt_sweep_journal *journal, const uint64_t *points, unsigned n)
{
	g_autoptr(GByteArray) frames = g_byte_array_new();
	for (unsigned i = 0; i < n; i++)
		append_point(frames, points[i]);
	g_assert_true(kvt_sweep_journal_append(journal, frames->data, frames->len, NULL));
}

/* Cut anywhere, it opens again with the points that are whole, and goes on. */
static void test_torn(fixture *f, gconstpointer unused)
{
	const uint64_t points[] = { 5, 0, 3 };
	kvt_sweep_journal *journal = open_journal(f, "me");
	append(journal, points, 3);
	kvt_sweep_journal_close(journal, false);
	g_autofree char *whole = NULL;
	size_t size;
	g_assert_true(g_file_get_contents(f->journal_path, &whole, &size, NULL));
	unsigned least = POINTS, most = 0;
	for (size_t cut = 0; cut <= size; cut++) {
		g_assert_true(g_file_set_contents(f->journal_path, whole, (gssize)cut, NULL));
		journal = open_journal(f, "me");
		uint64_t done = kvt_sweep_journal_done(journal);
		least = MIN(least, (unsigned)done);
		most = MAX(most, (unsigned)done);
		g_assert_cmpuint(kvt_sweep_journal_failed(journal), ==, done == 3);
		const uint64_t again[] = { 0, 3, 5, 1 };
		append(journal, again, 4);
		g_assert_cmpuint(kvt_sweep_journal_done(journal), ==, 4);
		kvt_sweep_journal_close(journal, false);
		journal = open_journal(f, "me");
		g_assert_cmpuint(kvt_sweep_journal_done(journal), ==, 4);
		kvt_sweep_journal_close(journal, false);
	}
	g_assert_cmpuint(least, ==, 0);
	g_assert_cmpuint(most, ==, 3);
}

/* Of a flipped bit only frames before it are believed. */
static void test_damaged(fixture *f, gconstpointer unused)
{
	const uint64_t points[] = { 5, 0, 3 };
	kvt_sweep_journal *journal = open_journal(f, "me");
	append(journal, points, 3);
	kvt_sweep_journal_close(journal, false);
	g_autofree char *whole = NULL;
	size_t size;
	g_assert_true(g_file_get_contents(f->journal_path, &whole, &size, NULL));
	whole[size - 30] ^= 4;
	g_assert_true(g_file_set_contents(f->journal_path, whole, (gssize)size, NULL));
	journal = open_journal(f, "me");
	g_assert_cmpuint(kvt_sweep_journal_done(journal), ==, 2);
	g_assert_false(kvt_sweep_journal_has(journal, 3));
	g_autoptr(GError) error = NULL;
	g_assert_false(kvt_sweep_journal_append(journal, whole + size - 64, 64, &error));
	kvt_sweep_journal_close(journal, false);
}

static void test_refused(fixture *f, gconstpointer unused)
{
	kvt_sweep_journal *journal = open_journal(f, "me");
	g_autoptr(GError) error = NULL;
	g_assert_null(kvt_sweep_journal_open(f->journal_path, "me", POINTS, false, &error));
	g_assert_true(g_str_has_suffix(error->message, "another kvtier is writing these results"));
	kvt_sweep_journal_close(journal, false);
	g_clear_error(&error);
	g_assert_null(kvt_sweep_journal_open(f->journal_path, "you", POINTS, false, &error));
	g_assert_nonnull(strstr(error->message, "is the journal of another sweep"));
	journal = kvt_sweep_journal_open(f->journal_path, "you", POINTS, true, NULL);
	g_assert_nonnull(journal);
	kvt_sweep_journal_close(journal, true);
	g_assert_false(g_file_test(f->journal_path, G_FILE_TEST_EXISTS));
}

static char *write_file(const fixture *f, kvt_sweep_journal *journal, size_t *size)
{
	const kvt_sweep_about about = { "1", "kvtier sweep x.ini", "[gpu]\n", "me", false };
	g_autoptr(GError) error = NULL;
	kvt_sweep_file_write(f->file_path, f->plan, journal, &about, &error);
	g_assert_no_error(error);
	char *bytes = NULL;
	g_assert_true(g_file_get_contents(f->file_path, &bytes, size, NULL));
	return bytes;
}

/* The order in which points ended leaves no trace. */
static void test_same_bytes(fixture *f, gconstpointer unused)
{
	const uint64_t orders[2][POINTS] = { { 0, 1, 2, 3, 4, 5 }, { 5, 3, 4, 1, 0, 2 } };
	g_autofree char *first = NULL;
	size_t size = 0;
	for (unsigned i = 0; i < 2; i++) {
		kvt_sweep_journal *journal = open_journal(f, "me");
		append(journal, orders[i], POINTS);
		size_t other;
		g_autofree char *bytes = write_file(f, journal, &other);
		kvt_sweep_journal_close(journal, true);
		if (i == 1)
			g_assert_cmpmem(first, size, bytes, other);
		first = i == 0 ? g_steal_pointer(&bytes) : first;
		size = other;
	}
}

static const kvt_sweep_column *column_of(const kvt_sweep_results *results, const char *name)
{
	for (guint i = 0; i < results->columns->len; i++) {
		const kvt_sweep_column *column = g_ptr_array_index(results->columns, i);
		if (g_str_equal(column->name, name))
			return column;
	}
	return NULL;
}

/* Columns of all that points have, read back; one point has not run. */
static void test_read_back(fixture *f, gconstpointer unused)
{
	const uint64_t points[] = { 4, 3, 1, 0, 5 };
	kvt_sweep_journal *journal = open_journal(f, "me");
	append(journal, points, 5);
	size_t size;
	g_free(write_file(f, journal, &size));
	kvt_sweep_journal_close(journal, true);
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_sweep_results) results = kvt_sweep_results_open(f->file_path, &error);
	g_assert_no_error(error);
	const uint8_t status[POINTS] = { KVT_SWEEP_DONE, KVT_SWEEP_DONE, KVT_SWEEP_PENDING,
		KVT_SWEEP_FAILED, KVT_SWEEP_DONE, KVT_SWEEP_DONE };
	g_assert_cmpmem(results->status, POINTS, status, POINTS);
	g_assert_cmpuint(results->done, ==, 5);
	g_assert_cmpuint(results->failed, ==, 1);
	g_assert_cmpuint(results->columns->len, ==, 4);

	const kvt_sweep_column *ttft = column_of(results, "ttft_s");
	g_assert_cmpstr(ttft->units, ==, "s");
	g_autofree double *seconds = kvt_sweep_results_numbers(results, ttft, NULL);
	g_assert_cmpfloat(seconds[5], ==, 1.25);
	g_assert_true(isnan(seconds[2]) && isnan(seconds[3]));
	const kvt_sweep_column *extra = column_of(results, "extra_bytes");
	g_assert_cmpstr(extra->units, ==, "B");
	g_autofree double *bytes = kvt_sweep_results_numbers(results, extra, NULL);
	g_assert_true(isnan(bytes[0]) && bytes[1] == 7);

	g_auto(GStrv) names =
		kvt_sweep_results_texts(results, column_of(results, "gpu.name"), NULL);
	g_assert_cmpstr(names[0], ==, "a");
	g_assert_cmpstr(names[5], ==, "bcd");
	g_autofree double *lookups =
		kvt_sweep_results_numbers(results, column_of(results, "resume.lookup"), NULL);
	g_assert_cmpfloat(lookups[4], ==, 0.002);
	g_auto(GStrv) errors = kvt_sweep_results_texts(results, NULL, NULL);
	g_assert_cmpstr(errors[3], ==, "no such thing");
	g_assert_cmpstr(errors[2], ==, "");

	kvt_sweep_found found;
	g_assert_true(kvt_sweep_file_look(f->file_path, "me", &found, NULL));
	g_assert_true(found.exists && found.same && found.done == 5 && found.points == POINTS);
	g_assert_true(kvt_sweep_file_look(f->file_path, "you", &found, NULL));
	g_assert_false(found.same);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add("/sweep/journal/torn", fixture, NULL, set_up, test_torn, tear_down);
	g_test_add("/sweep/journal/damaged", fixture, NULL, set_up, test_damaged, tear_down);
	g_test_add("/sweep/journal/refused", fixture, NULL, set_up, test_refused, tear_down);
	g_test_add("/sweep/file/same-bytes", fixture, NULL, set_up, test_same_bytes, tear_down);
	g_test_add("/sweep/file/read-back", fixture, NULL, set_up, test_read_back, tear_down);
	return g_test_run();
}
