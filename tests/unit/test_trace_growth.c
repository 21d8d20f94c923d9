/* test_trace_growth.c: a recording of 32K grown to 128K against the recorded 128K, and what a grown
 * trace must be whatever it grew from. The model is fitted to the 32K alone. */
#include <glib.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "tests/unit/attention_fixture.h"
#include "traces/access_statistics.h"
#include "traces/attention_trace_check.h"
#include "traces/trace_growth.h"

#define SMALL "traces/samples/code-32k-layer7.h5"
#define LARGE "traces/samples/code-128k-retrieval.h5"

static char *folder, *out;

static kvt_attention_trace *open_good(const char *path)
{
	g_autoptr(GError) error = NULL;
	kvt_attention_trace *trace = kvt_attention_trace_open(path, &error);
	g_assert_no_error(error);
	return trace;
}

static void grow_good(const char *from, const char *to, const kvt_growth *growth)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_trace) trace = open_good(from);
	kvt_attention_trace_grow(trace, to, growth, NULL, &error);
	g_assert_no_error(error);
}

static void measure(
	const char *path, uint32_t number, uint64_t first_step, kvt_access_statistics *statistics)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_trace) trace = open_good(path);
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, number, 0, &error);
	g_assert_no_error(error);
	kvt_access_statistics_measure(layer, first_step, 0, statistics, &error);
	g_assert_no_error(error);
}

/* Figures of the recording that the format's document states, and of a cut worked out by hand. */
static void test_statistics(void)
{
	kvt_access_statistics s;
	measure(SMALL, 7, 0, &s);
	g_assert_cmpfloat_with_epsilon(s.oracle[0], 0.6105, 0.0001);
	g_assert_cmpfloat_with_epsilon(s.oracle[1], 0.7010, 0.0001);
	g_assert_cmpfloat_with_epsilon(s.oracle[2], 0.8081, 0.0001);
	g_assert_cmpfloat_with_epsilon(s.oracle[3], 0.8802, 0.0001);
	g_assert_cmpfloat_with_epsilon(s.overlap, 0.505, 0.001);
	g_assert_cmpfloat_with_epsilon(s.recent, 0.3811, 0.0005);
	g_assert_cmpfloat(s.distinct, >, 0.999);
	for (unsigned i = 0; i < KVT_ACCESS_BUDGETS; i++)
		g_assert_cmpfloat(s.last_step[i], <, s.oracle[i]);
}

/* The deviations seen, with some room: what is asserted is how far the model can be trusted. */
static void compare(const kvt_access_statistics *grown, const kvt_access_statistics *recorded,
	double oracle, double last_step, double overlap)
{
	for (unsigned i = 0; i < KVT_ACCESS_BUDGETS; i++) {
		g_assert_cmpfloat_with_epsilon(grown->oracle[i], recorded->oracle[i], oracle);
		g_assert_cmpfloat_with_epsilon(
			grown->last_step[i], recorded->last_step[i], last_step);
	}
	g_assert_cmpfloat_with_epsilon(grown->overlap, recorded->overlap, overlap);
	g_assert_cmpfloat_with_epsilon(grown->distinct, recorded->distinct, 0.15);
	g_assert_cmpfloat_with_epsilon(grown->recent, recorded->recent, 0.15);
	g_assert_cmpfloat_with_epsilon(grown->covered, recorded->covered, 0.04);
}

/* The last turn, a retrieval, which is the turn that the large sample has. */
static void test_honest(void)
{
	kvt_access_statistics grown, recorded;
	grow_good(SMALL, out, &(kvt_growth){ .context_tokens = 131072, .layer = 7, .seed = 1 });
	measure(out, 7, 368, &grown);
	measure(LARGE, 7, 8, &recorded);
	compare(&grown, &recorded, 0.12, 0.12, 0.12);
}

static void test_honest_whole(void)
{
	const char *traces = g_getenv("KVTIER_TRACES");
	if (traces == NULL) {
		g_test_skip("KVTIER_TRACES names no folder with code-32k.h5 and code-128k.h5");
		return;
	}
	g_autofree char *small = g_build_filename(traces, "code-32k.h5", NULL);
	g_autofree char *large = g_build_filename(traces, "code-128k.h5", NULL);
	kvt_access_statistics grown, recorded;
	grow_good(small, out, &(kvt_growth){ .context_tokens = 131072, .layer = -1, .seed = 1 });
	measure(out, 7, 0, &grown);
	measure(large, 7, 0, &recorded);
	compare(&grown, &recorded, 0.035, 0.085, 0.12);
	measure(out, 3, 0, &grown);
	measure(large, 3, 0, &recorded);
	compare(&grown, &recorded, 0.04, 0.03, 0.1);
}

/* Mean mass of the page that leads a row, the first and the recent ones aside, in the last recorded
 * turn: a retrieval. */
static double leading_mass(kvt_attention_layer *layer)
{
	uint64_t count;
	const kvt_attention_step *steps =
		kvt_attention_trace_steps(kvt_attention_layer_trace(layer), &count);
	double sum = 0;
	for (uint64_t s = 368; s < 544; s++)
		for (uint32_t head = 0; head < 2; head++) {
			kvt_attention_row row;
			g_assert_true(kvt_attention_layer_row(layer, s, head, &row, NULL));
			for (uint32_t i = 0; i < row.count; i++)
				if (row.block[i] > 0 &&
					row.block[i] + 100 < steps[s].position / 16) {
					sum += (double)row.mass[i];
					break;
				}
		}
	return sum / (176 * 2);
}

/* 10M tokens, steps beyond the recorded ones: the reader takes all of it, and says what it is. */
static void test_large(void)
{
	g_autoptr(GError) error = NULL;
	kvt_attention_layer_check checked;
	uint64_t count, rows = 0;
	grow_good(SMALL, out,
		&(kvt_growth){ .context_tokens = 10000000, .layer = 7, .steps = 700, .seed = 5 });
	g_autoptr(kvt_attention_trace) trace = open_good(out);
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	g_assert_true(header->synthetic);
	g_assert_nonnull(strstr(header->derived, "grown from 32768 to 10000000 tokens"));
	g_assert_cmpuint(header->context_tokens, ==, 10000000);
	g_assert_cmpuint(count, ==, 700);
	g_assert_cmpuint(steps[543].turn, ==, 4);
	g_assert_cmpuint(steps[544].turn, ==, 5);
	g_assert_cmpuint(steps[544].position, >, steps[543].position);
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, 7, 0, &error);
	g_assert_no_error(error);
	kvt_attention_layer_check_all(layer, 0, &checked, NULL, &rows, &error);
	g_assert_no_error(error);
	g_assert_cmpuint(checked.accesses, >, 1000 * 1400);
	kvt_access_statistics s;
	g_assert_true(kvt_access_statistics_measure(layer, 0, 0, &s, NULL));
	g_assert_cmpfloat(s.distinct, >, 0.05);
	/* The recording has 0.185; without the rule that retrievals keep their mass it is 0.015. */
	g_assert_cmpfloat(leading_mass(layer), >, 0.12);
	g_assert_cmpfloat(leading_mass(layer), <, 0.25);
	g_assert_cmpfloat(s.overlap, >, 0.1);
	g_assert_cmpfloat(s.overlap, <, 0.9);
}

static void test_deterministic(void)
{
	g_autofree char *other = g_build_filename(folder, "other.h5", NULL);
	kvt_growth growth = { .context_tokens = 100000, .layer = 7, .steps = 40, .seed = 1 };
	g_autofree char *a = NULL, *b = NULL, *c = NULL;
	gsize size_a, size_b, size_c;
	grow_good(SMALL, out, &growth);
	grow_good(SMALL, other, &growth);
	g_assert_true(g_file_get_contents(out, &a, &size_a, NULL));
	g_assert_true(g_file_get_contents(other, &b, &size_b, NULL));
	g_assert_cmpmem(a, size_a, b, size_b);
	growth.seed = 2;
	grow_good(SMALL, other, &growth);
	g_assert_true(g_file_get_contents(other, &c, &size_c, NULL));
	g_assert_false(size_a == size_c && memcmp(a, c, size_a) == 0);
}

static void test_temperature(void)
{
	kvt_attention_temperature t =
		kvt_attention_temperature_of("x (1+0.1*log1p(floor((position+1)/2048))), y");
	g_assert_cmpfloat(t.rate, ==, 0.1);
	g_assert_cmpuint(t.tokens, ==, 2048);
	g_assert_cmpfloat(kvt_attention_temperature_of("plain").rate, ==, 0);
	g_assert_cmpfloat(kvt_attention_temperature_of(NULL).rate, ==, 0);
	g_assert_cmpuint(
		kvt_attention_temperature_of("1+0.1*log1p(floor((position+1)/0))").tokens, ==, 0);
	/* What the temperature changes: without it the longer context is more diffuse. */
	kvt_access_statistics with, without;
	const kvt_attention_temperature none = { 0 };
	kvt_growth growth = { .context_tokens = 131072, .layer = 7, .steps = 60, .seed = 1 };
	grow_good(SMALL, out, &growth);
	measure(out, 7, 0, &with);
	growth.temperature = &none;
	grow_good(SMALL, out, &growth);
	measure(out, 7, 0, &without);
	g_assert_cmpfloat(with.oracle[1], >, without.oracle[1] + 0.02);
}

static void refuses(const char *from, const kvt_growth *growth, const char *expected)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *never = g_build_filename(folder, "never.h5", NULL);
	g_autoptr(kvt_attention_trace) trace = open_good(from);
	g_assert_false(kvt_attention_trace_grow(trace, never, growth, NULL, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_nonnull(strstr(error->message, expected));
	g_assert_null(strchr(error->message, '\n'));
	g_assert_false(g_file_test(never, G_FILE_TEST_EXISTS));
}

static void test_refused(void)
{
	g_autofree char *fixture_path = g_build_filename(folder, "fixture.h5", NULL);
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	attention_fixture_write(fixture, fixture_path);
	refuses(SMALL, &(kvt_growth){ .context_tokens = 32768, .layer = 7 }, "at least 32784");
	refuses(SMALL, &(kvt_growth){ .context_tokens = UINT64_MAX, .layer = 7 }, "the limit of");
	refuses(SMALL, &(kvt_growth){ .context_tokens = KVT_ATTENTION_TOKENS_MAX, .layer = 7 },
		"less than 268435456");
	refuses(SMALL, &(kvt_growth){ .context_tokens = 50000, .layer = 3 }, "not recorded");
	refuses(SMALL, &(kvt_growth){ .context_tokens = 50000, .layer = 7, .steps = 1 << 20 },
		"at most 65536");
	refuses(fixture_path, &(kvt_growth){ .context_tokens = 50000, .layer = 1 }, "chunked");
	refuses(fixture_path, &(kvt_growth){ .context_tokens = 50000, .layer = 3 },
		"pages before the first step");
	grow_good(SMALL, out, &(kvt_growth){ .context_tokens = 50000, .layer = 7, .steps = 3 });
	refuses(out, &(kvt_growth){ .context_tokens = 100000, .layer = 7 }, "synthetic itself");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	folder = attention_fixture_folder();
	out = g_build_filename(folder, "grown.h5", NULL);
	g_test_add_func("/trace-growth/statistics", test_statistics);
	g_test_add_func("/trace-growth/honest", test_honest);
	g_test_add_func("/trace-growth/honest-whole", test_honest_whole);
	g_test_add_func("/trace-growth/large", test_large);
	g_test_add_func("/trace-growth/deterministic", test_deterministic);
	g_test_add_func("/trace-growth/temperature", test_temperature);
	g_test_add_func("/trace-growth/refused", test_refused);
	int status = g_test_run();
	g_free(out);
	attention_fixture_remove(folder);
	return status;
}
