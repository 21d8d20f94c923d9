/* test_attention_cut.c: what a cut keeps is what was there, a cut context has the masses of a trace
 * that never had the rest, and the check of a whole trace sees what is wrong in it. */
#include <glib.h>
#include <glib/gstdio.h>
#include <hdf5.h>
#include <string.h>

#include "sim/base/error.h"
#include "tests/unit/attention_fixture.h"
#include "traces/attention_trace_check.h"
#include "traces/attention_trace_cut.h"
#include "traces/attention_trace_summary.h"
#include "traces/attention_trace_writer.h"
#include "traces/half_float.h"

static char *folder, *whole, *out;

static kvt_attention_trace *open_good(const char *path)
{
	g_autoptr(GError) error = NULL;
	kvt_attention_trace *trace = kvt_attention_trace_open(path, &error);
	g_assert_no_error(error);
	return trace;
}

static void cut_good(const char *from, const char *to, const kvt_attention_cut *cut)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_trace) trace = open_good(from);
	kvt_attention_trace_cut(trace, to, cut, NULL, &error);
	g_assert_no_error(error);
}

static kvt_attention_layer *layer_of(kvt_attention_trace *trace, uint32_t number)
{
	g_autoptr(GError) error = NULL;
	kvt_attention_layer *layer = kvt_attention_layer_open(trace, number, 0, &error);
	g_assert_no_error(error);
	return layer;
}

/* Row (a, step) of one trace is row (b, step) of another. */
static void assert_same_row(kvt_attention_layer *a, uint64_t step_a, kvt_attention_layer *b,
	uint64_t step_b, uint32_t head)
{
	kvt_attention_row x, y;
	g_assert_true(kvt_attention_layer_row(a, step_a, head, &x, NULL));
	g_assert_true(kvt_attention_layer_row(b, step_b, head, &y, NULL));
	g_assert_cmpmem(x.block, x.count * 4, y.block, y.count * 4);
	g_assert_cmpmem(x.mass, x.count * 4, y.mass, y.count * 4);
}

static void test_all(void)
{
	g_autofree char *again = g_build_filename(folder, "again.h5", NULL);
	g_autofree char *a = NULL;
	g_autofree char *b = NULL;
	gsize size_a, size_b;
	cut_good(whole, out, &(kvt_attention_cut){ 0 });
	cut_good(out, again, &(kvt_attention_cut){ 0 });
	g_assert_true(g_file_get_contents(whole, &a, &size_a, NULL));
	g_assert_true(g_file_get_contents(again, &b, &size_b, NULL));
	g_assert_cmpmem(a, size_a, b, size_b);
}

static void test_steps_and_layers(void)
{
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	const uint32_t layers[] = { 3 };
	const kvt_attention_cut cut = {
		.first_step = 1,
		.end_step = 5,
		.step_stride = 2,
		.layers = layers,
		.layer_count = 1,
		.without = KVT_ATTENTION_VALUES,
		.source = "here",
		.license = "CC0-1.0",
	};
	cut_good(whole, out, &cut);
	g_autoptr(kvt_attention_trace) trace = open_good(out);
	g_autoptr(kvt_attention_trace) from = open_good(whole);
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	g_assert_cmpstr(header->derived, ==, "cut to steps 1:4 of 6, one of 2, layer 3, no values");
	g_assert_cmpstr(header->source, ==, "here");
	g_assert_cmpstr(header->license, ==, "CC0-1.0");
	g_assert_cmpuint(header->context_tokens, ==, 34);
	g_assert_cmpuint(header->total_tokens, ==, 38);
	uint64_t count;
	uint32_t layer_count;
	const uint32_t *tokens;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	g_assert_cmpuint(count, ==, 2);
	kvt_attention_trace_layers(trace, &layer_count);
	g_assert_cmpuint(layer_count, ==, 1);
	g_assert_true(kvt_attention_trace_tokens(trace, &tokens, NULL));
	g_assert_cmpmem(tokens, 38 * 4, fixture->tokens, 38 * 4);
	g_autoptr(kvt_attention_layer) a = layer_of(trace, 3);
	g_autoptr(kvt_attention_layer) b = layer_of(from, 3);
	g_assert_false(kvt_attention_layer_has_values(a));
	uint16_t halves[38 * 8];
	for (unsigned i = 0; i < 2; i++) {
		const kvt_attention_step *old = &fixture->steps[1 + 2 * i];
		g_assert_cmpuint(steps[i].position, ==, old->position);
		g_assert_cmpuint(steps[i].token, ==, old->token);
		g_assert_cmpuint(steps[i].turn, ==, old->turn);
		g_assert_cmpuint(steps[i].kind, ==, old->kind);
		g_assert_cmpfloat(steps[i].nll, ==, old->nll);
		assert_same_row(a, i, b, 1 + 2 * i, 0);
		assert_same_row(a, i, b, 1 + 2 * i, 1);
		g_assert_true(kvt_attention_layer_queries_half(a, i, 1, halves, NULL));
		g_assert_cmpmem(halves, 32 * 2, fixture->queries[1] + (1 + 2 * i) * 32, 32 * 2);
	}
	for (unsigned head = 0; head < 2; head++) {
		g_assert_true(kvt_attention_layer_keys_half(a, head, 0, 38, halves, NULL));
		g_assert_cmpmem(halves, 38 * 8 * 2, fixture->keys[1] + head * 40 * 8, 38 * 8 * 2);
	}
}

/* The fixture without the tokens of some pages: what a cut of the context must amount to. */
static attention_fixture *without_pages(const kvt_page_range *kept, size_t n, uint64_t tail)
{
	attention_fixture *fixture = attention_fixture_small();
	uint64_t to = 0, bt = fixture->header.block_tokens, total = 40, gone = 0;
	for (uint64_t t = 0; t < total; t++) {
		bool keep = t >= tail * bt;
		for (size_t i = 0; i < n; i++)
			keep |= t >= kept[i].first * bt && t < kept[i].end * bt;
		gone += !keep;
		if (!keep)
			continue;
		fixture->tokens[to] = fixture->tokens[t];
		for (unsigned head = 0; head < 2; head++)
			memmove(fixture->keys[1] + (head * total + to) * 8,
				fixture->keys[1] + (head * total + t) * 8, 8 * 2);
		to++;
	}
	for (uint64_t i = 0; i < fixture->step_count; i++)
		fixture->steps[i].position -= gone;
	return fixture;
}

static void test_context(void)
{
	const uint32_t layers[] = { 3 };
	const kvt_page_range kept[] = { { 0, 1 }, { 3, 5 }, { 7, 8 } };
	const kvt_attention_cut cut = {
		.first_step = 1,
		.layers = layers,
		.layer_count = 1,
		.ranges = kept,
		.range_count = G_N_ELEMENTS(kept),
	};
	g_autoptr(GError) error = NULL;
	cut_good(whole, out, &cut);
	g_autoptr(kvt_attention_trace) trace = open_good(out);
	/* Step 1 is at position 35, in page 8: 4 pages stay before it. */
	g_autoptr(attention_fixture) expected = without_pages(kept, 3, 8);
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	g_assert_cmpstr(header->derived, ==,
		"cut to steps 1:6 of 6, layer 3, pages 0:1, pages 3:5, pages 7:8 of the context, "
		"numbered anew, masses recomputed over what stayed");
	g_assert_cmpuint(header->total_tokens, ==, 24);
	g_assert_cmpuint(header->context_tokens, ==, 18);
	const uint32_t *tokens;
	g_assert_true(kvt_attention_trace_tokens(trace, &tokens, NULL));
	g_assert_cmpmem(tokens, 24 * 4, expected->tokens, 24 * 4);
	g_autoptr(kvt_attention_layer) layer = layer_of(trace, 3);
	g_assert_true(kvt_attention_layer_has_values(layer));
	for (uint64_t step = 0; step < 5; step++) {
		for (uint32_t head = 0; head < 2; head++) {
			double mass[10], covered = 0;
			uint64_t first;
			uint64_t pages =
				attention_fixture_masses(expected, 1, step + 1, head, mass, &first);
			kvt_attention_row row;
			g_assert_true(kvt_attention_layer_row(layer, step, head, &row, &error));
			for (uint32_t i = 0; i < row.count; i++) {
				g_assert_cmpuint(row.block[i], <, pages);
				g_assert_cmpfloat_with_epsilon(row.mass[i], mass[row.block[i]],
					6e-4 * mass[row.block[i]] + 1e-7);
				covered += mass[row.block[i]];
			}
			g_assert_cmpfloat(covered, >=, KVT_ATTENTION_ROW_COVER - 1e-6);
		}
	}
	kvt_attention_layer_check result;
	uint64_t rows = 0;
	g_assert_true(kvt_attention_layer_check_all(layer, 5, &result, NULL, &rows, &error));
	g_assert_cmpuint(result.recomputed, ==, result.accesses);
}

static void refuses_cut(const kvt_attention_cut *cut, const char *to, const char *message)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_trace) trace = open_good(whole);
	g_unlink(out);
	g_assert_false(kvt_attention_trace_cut(trace, to, cut, NULL, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_null(strchr(error->message, '\n'));
	if (!g_str_has_suffix(error->message, message))
		g_error("got      \"%s\"\nexpected \"... %s\"", error->message, message);
	g_assert_false(g_file_test(out, G_FILE_TEST_EXISTS));
}

static void test_refused(void)
{
	const uint32_t falling[] = { 3, 1 }, absent[] = { 2 }, global[] = { 3 };
	const kvt_page_range late[] = { { 0, 9 } }, crossed[] = { { 2, 4 }, { 3, 5 } },
			     empty[] = { { 2, 2 } }, good[] = { { 0, 2 } };
	const struct {
		kvt_attention_cut cut;
		const char *message;
	} cases[] = {
		{ { .first_step = 6 }, "whole.h5: steps 6:6, expected a range within 0:6" },
		{ { .end_step = 7 }, "steps 0:7, expected a range within 0:6" },
		{ { .layers = falling, .layer_count = 2 },
			"layer 1 after 3, expected rising layers" },
		{ { .layers = absent, .layer_count = 1 },
			"layers: layer 2 is not recorded, expected one of 1, 3" },
		{ { .layers = global, .layer_count = 1, .ranges = late, .range_count = 1 },
			"pages 0:9, expected rising ranges within 0:8 (before the page of the "
			"first "
			"step)" },
		{ { .layers = global, .layer_count = 1, .ranges = crossed, .range_count = 2 },
			"pages 3:5, expected rising ranges within 4:8 (before the page of the "
			"first "
			"step)" },
		{ { .layers = global, .layer_count = 1, .ranges = empty, .range_count = 1 },
			"pages 2:2, expected rising ranges within 0:8 (before the page of the "
			"first "
			"step)" },
		{ { .ranges = good, .range_count = 1 },
			"layers/1: its context cannot be cut, expected a global layer with queries "
			"and keys" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
		refuses_cut(&cases[i].cut, out, cases[i].message);
	refuses_cut(&(kvt_attention_cut){ 0 }, whole,
		"whole.h5: is the trace itself, expected another file to write");
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	unsigned files = 0;
	for (const char *name; (name = g_dir_read_name(dir)) != NULL; files++)
		g_assert_null(strstr(name, "stage"));
	g_assert_cmpuint(files, <=, 2);
}

static void test_summary(void)
{
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	g_autofree char *path = g_build_filename(folder, "rows.h5", NULL);
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_writer) writer =
		kvt_attention_writer_new(path, &fixture->header, fixture->steps, 6, &error);
	g_assert_true(kvt_attention_writer_layer(writer, 3, 0, &error));
	const float mass[] = { 0.5f, 0.25f, 0.125f };
	for (uint32_t i = 0; i < 12; i++) {
		/* Head 0: pages 0 and one of 1 to 6. Head 1: three pages at one step. */
		const uint32_t block[] = { 0, 1 + i / 2, 7 };
		const kvt_attention_row row = { block, mass, i % 2 == 0 ? 2 : i == 7 ? 3 : 1 };
		g_assert_true(kvt_attention_writer_row(writer, &row, &error));
	}
	g_assert_true(kvt_attention_writer_finish(writer, &error));
	g_autoptr(kvt_attention_trace) trace = open_good(path);
	g_autoptr(kvt_attention_layer) layer = layer_of(trace, 3);
	kvt_attention_layer_summary s;
	uint64_t rows = 5;
	g_assert_true(kvt_attention_layer_summarize(layer, &s, NULL, &rows, &error));
	g_assert_cmpuint(rows, ==, 17);
	g_assert_cmpuint(s.rows, ==, 12);
	g_assert_cmpuint(s.accesses, ==, 12 + 5 + 3);
	g_assert_cmpuint(s.blocks_least, ==, 1);
	g_assert_cmpuint(s.blocks_most, ==, 3);
	g_assert_cmpfloat(s.mass_least, ==, 0.5);
	g_assert_cmpfloat_with_epsilon(s.mass_mean, (6 * 0.75 + 5 * 0.5 + 0.875) / 12, 1e-12);
	g_assert_cmpuint(s.pages_touched, ==, 7 + 3);
	g_assert_cmpuint(s.pages_present, ==, 20);
}

/* Changes one value of a copy of the whole trace, through its own type. */
static void tamper(const char *dataset_path, size_t at, const void *value, size_t size)
{
	g_autofree char *bytes = NULL;
	gsize length;
	g_assert_true(g_file_get_contents(whole, &bytes, &length, NULL));
	g_assert_true(g_file_set_contents(out, bytes, (gssize)length, NULL));
	hid_t file = H5Fopen(out, H5F_ACC_RDWR, H5P_DEFAULT);
	hid_t dataset = H5Dopen2(file, dataset_path, H5P_DEFAULT);
	hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
	size_t n = (size_t)H5Sget_simple_extent_npoints(space);
	g_assert_cmpuint(H5Tget_size(type), ==, size);
	g_autofree char *all = g_malloc(n * size);
	g_assert_cmpint(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all), >=, 0);
	memcpy(all + at * size, value, size);
	g_assert_cmpint(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all), >=, 0);
	H5Sclose(space);
	H5Tclose(type);
	H5Dclose(dataset);
	H5Fclose(file);
}

static void check_says(const char *message)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_trace) trace = open_good(out);
	kvt_attention_layer_check result;
	uint64_t rows = 0;
	bool ok = kvt_attention_trace_check_tokens(trace, &error);
	g_autoptr(kvt_attention_layer) layer = layer_of(trace, 3);
	ok = ok && kvt_attention_layer_check_all(layer, 6, &result, NULL, &rows, &error);
	if (message == NULL) {
		g_assert_no_error(error);
		g_assert_true(ok);
		g_assert_cmpuint(result.rows, ==, 12);
		g_assert_cmpuint(result.tensor_values, ==, 6 * 32 + 2 * 2 * 40 * 8);
		g_assert_cmpuint(result.recomputed, ==, result.accesses);
		g_assert_cmpfloat(result.worst, >, 0);
		g_assert_cmpfloat(result.worst, <, 1e-3);
		return;
	}
	g_assert_false(ok);
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_null(strchr(error->message, '\n'));
	if (strstr(error->message, message) == NULL)
		g_error("got \"%s\", expected \"... %s\"", error->message, message);
}

static void test_check(void)
{
	const uint16_t nan = 0x7e00, large = 0x5400;
	uint16_t token = 60000;
	uint16_t mass;
	float least = 0.001f;
	tamper("layers/3/keys", 5, &large, sizeof large);
	check_says("from queries and keys");
	tamper("layers/3/queries", 40, &large, sizeof large);
	check_says("from queries and keys");
	tamper("steps/token", 4, &token, sizeof token);
	check_says("steps/token: step 4: 60000, expected ");
	tamper("layers/3/values", 40 * 8 + 8, &nan, sizeof nan);
	check_says("layers/3/values: KV head 1, token 1: NaN or infinity, expected finite numbers");
	tamper("layers/3/queries", 33, &nan, sizeof nan);
	check_says("layers/3/queries: step 1: NaN or infinity, expected finite numbers");
	/* The last mass of the last row, too small for what its page weighs. */
	kvt_half_from_float(&least, &mass, 1);
	g_autoptr(kvt_attention_trace) trace = open_good(whole);
	g_autoptr(kvt_attention_layer) layer = layer_of(trace, 3);
	tamper("layers/3/access/mass", kvt_attention_layer_accesses(layer) - 1, &mass, sizeof mass);
	check_says("within 2% from queries and keys");
	cut_good(whole, out, &(kvt_attention_cut){ 0 });
	check_says(NULL);
}

/* A page that weighs more than the row says it could. */
static void test_check_omission(void)
{
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_writer) writer =
		kvt_attention_writer_new(out, &fixture->header, fixture->steps, 6, &error);
	g_assert_true(kvt_attention_writer_layer(
		writer, 3, KVT_ATTENTION_QUERIES | KVT_ATTENTION_KEYS, &error));
	for (uint64_t step = 0; step < 6; step++) {
		for (uint32_t head = 0; head < 2; head++) {
			double mass[10];
			float rounded[10];
			uint64_t first, most = 0;
			uint64_t pages =
				attention_fixture_masses(fixture, 1, step, head, mass, &first);
			for (uint64_t p = 0; p < pages; p++) {
				rounded[p] = (float)mass[p];
				most = mass[p] > mass[most] ? p : most;
			}
			/* Leave the heaviest page of one row out. */
			uint32_t block[10];
			float falling[10];
			uint32_t n = 0;
			for (uint64_t k = 0; k < pages; k++) {
				uint64_t best = 0;
				for (uint64_t p = 1; p < pages; p++)
					best = rounded[p] > rounded[best] ? p : best;
				if (!(step == 3 && head == 1 && best == most)) {
					block[n] = (uint32_t)best;
					falling[n++] = rounded[best];
				}
				rounded[best] = -1;
			}
			const kvt_attention_row row = { block, falling, n };
			g_assert_true(kvt_attention_writer_row(writer, &row, &error));
		}
	}
	g_assert_true(kvt_attention_writer_queries(writer, fixture->queries[1], 6, &error));
	for (unsigned head = 0; head < 2; head++)
		g_assert_true(kvt_attention_writer_keys(
			writer, fixture->keys[1] + head * 320, 40, &error));
	g_assert_true(kvt_attention_writer_finish(writer, &error));
	check_says("layers/3/access: step 3, KV head 1, block ");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	folder = attention_fixture_folder();
	whole = g_build_filename(folder, "whole.h5", NULL);
	out = g_build_filename(folder, "out.h5", NULL);
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	attention_fixture_write(fixture, whole);
	g_test_add_func("/attention-cut/refused", test_refused);
	g_test_add_func("/attention-cut/all", test_all);
	g_test_add_func("/attention-cut/steps-and-layers", test_steps_and_layers);
	g_test_add_func("/attention-cut/context", test_context);
	g_test_add_func("/attention-cut/summary", test_summary);
	g_test_add_func("/attention-cut/check", test_check);
	g_test_add_func("/attention-cut/check-omission", test_check_omission);
	int status = g_test_run();
	attention_fixture_remove(folder);
	g_free(whole);
	g_free(out);
	return status;
}
