/* test_attention_trace.c: what the writer writes the reader reads, bit by bit, in any window; and
 * what the writer refuses leaves nothing behind. Files that are bad: test_attention_hostile.c. */
#include <glib.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "tests/unit/attention_fixture.h"
#include "traces/attention_trace_writer.h"
#include "traces/half_float.h"

static char *folder;

static char *path_of(const char *name)
{
	return g_build_filename(folder, name, NULL);
}

static kvt_attention_trace *open_good(const char *path)
{
	g_autoptr(GError) error = NULL;
	kvt_attention_trace *trace = kvt_attention_trace_open(path, &error);
	g_assert_no_error(error);
	return trace;
}

static void assert_header_equal(const kvt_attention_header *a, const kvt_attention_header *b)
{
	g_assert_cmpstr(a->model, ==, b->model);
	g_assert_cmpstr(a->source, ==, b->source);
	g_assert_cmpstr(a->license, ==, b->license);
	g_assert_cmpstr(a->derived, ==, b->derived);
	g_assert_cmpint(a->synthetic, ==, b->synthetic);
	g_assert_cmpuint(a->layers, ==, b->layers);
	g_assert_cmpuint(a->query_heads, ==, b->query_heads);
	g_assert_cmpuint(a->kv_heads, ==, b->kv_heads);
	g_assert_cmpuint(a->head_dim, ==, b->head_dim);
	g_assert_cmpuint(a->block_tokens, ==, b->block_tokens);
	g_assert_cmpuint(a->local_chunk_tokens, ==, b->local_chunk_tokens);
	g_assert_cmpuint(a->context_tokens, ==, b->context_tokens);
	g_assert_cmpuint(a->total_tokens, ==, b->total_tokens);
	g_assert_cmpfloat(a->softmax_scale, ==, b->softmax_scale);
	g_assert_cmpmem(a->layer_kind, a->layers, b->layer_kind, b->layers);
}

static void assert_rows_equal(
	const attention_fixture *fixture, unsigned i, kvt_attention_layer *layer)
{
	g_autoptr(GError) error = NULL;
	uint64_t pages = fixture->header.total_tokens / fixture->header.block_tokens + 1;
	g_autofree double *mass = g_new(double, pages);
	for (uint64_t step = 0; step < fixture->step_count; step++) {
		for (uint32_t head = 0; head < fixture->header.kv_heads; head++) {
			uint64_t first;
			uint64_t present =
				attention_fixture_masses(fixture, i, step, head, mass, &first);
			kvt_attention_row row;
			kvt_attention_layer_row(layer, step, head, &row, &error);
			g_assert_no_error(error);
			g_assert_cmpuint(row.count, >, 0);
			g_assert_cmpuint(row.count, <=, present);
			g_assert_cmpuint(
				row.count, ==, kvt_attention_layer_row_count(layer, step, head));
			for (uint32_t j = 0; j < row.count; j++) {
				float exact = (float)mass[row.block[j] - first], expected;
				uint16_t half;
				kvt_half_from_float(&exact, &half, 1);
				kvt_half_to_float(&half, &expected, 1);
				g_assert_cmpfloat(row.mass[j], ==, expected);
			}
		}
	}
}

static void assert_tensors_equal(
	const attention_fixture *fixture, unsigned i, kvt_attention_layer *layer)
{
	g_autoptr(GError) error = NULL;
	const kvt_attention_header *h = &fixture->header;
	size_t step = (size_t)h->query_heads * h->head_dim;
	size_t head = (size_t)h->total_tokens * h->head_dim;
	size_t room = MAX(step * fixture->step_count, head);
	g_autofree uint16_t *halves = g_new(uint16_t, room);
	g_autofree float *floats = g_new(float, room);
	g_autofree float *expected = g_new(float, room);
	kvt_attention_layer_queries_half(layer, 0, fixture->step_count, halves, &error);
	g_assert_no_error(error);
	g_assert_cmpmem(halves, step * fixture->step_count * 2, fixture->queries[i],
		step * fixture->step_count * 2);
	kvt_half_to_float(fixture->queries[i], expected, step * fixture->step_count);
	for (uint64_t s = 0; s < fixture->step_count; s++) {
		g_assert_true(kvt_attention_layer_queries(layer, s, floats, &error));
		g_assert_cmpmem(floats, step * 4, expected + s * step, step * 4);
	}
	for (uint32_t k = 0; k < h->kv_heads; k++) {
		const uint16_t *keys = fixture->keys[i] + k * head;
		g_assert_true(kvt_attention_layer_keys_half(
			layer, k, 0, h->total_tokens, halves, &error));
		g_assert_cmpmem(halves, head * 2, keys, head * 2);
		uint64_t from = h->total_tokens / 3, n = h->total_tokens - from - 1;
		g_assert_true(kvt_attention_layer_keys(layer, k, from, n, floats, &error));
		kvt_half_to_float(keys + from * h->head_dim, expected, n * h->head_dim);
		g_assert_cmpmem(floats, n * h->head_dim * 4, expected, n * h->head_dim * 4);
		g_assert_true(kvt_attention_layer_values_half(
			layer, k, 0, h->total_tokens, halves, &error));
		g_assert_cmpmem(halves, head * 2, fixture->values[i] + k * head, head * 2);
		g_assert_true(kvt_attention_layer_values(layer, k, from, n, floats, &error));
		kvt_half_to_float(fixture->values[i] + k * head + from * h->head_dim, expected,
			n * h->head_dim);
		g_assert_cmpmem(floats, n * h->head_dim * 4, expected, n * h->head_dim * 4);
	}
}

/* Reads it all and compares, with windows of `memory` bytes. */
static void assert_trace_equal(
	const attention_fixture *fixture, kvt_attention_trace *trace, size_t memory)
{
	g_autoptr(GError) error = NULL;
	uint64_t steps;
	uint32_t layers;
	const uint32_t *tokens;
	assert_header_equal(kvt_attention_trace_header(trace), &fixture->header);
	const kvt_attention_step *step = kvt_attention_trace_steps(trace, &steps);
	g_assert_cmpuint(steps, ==, fixture->step_count);
	for (uint64_t i = 0; i < steps; i++) {
		g_assert_cmpuint(step[i].position, ==, fixture->steps[i].position);
		g_assert_cmpuint(step[i].token, ==, fixture->steps[i].token);
		g_assert_cmpuint(step[i].turn, ==, fixture->steps[i].turn);
		g_assert_cmpuint(step[i].kind, ==, fixture->steps[i].kind);
		g_assert_cmpfloat(step[i].nll, ==, fixture->steps[i].nll);
	}
	g_assert_true(kvt_attention_trace_tokens(trace, &tokens, &error));
	g_assert_cmpmem(tokens, fixture->header.total_tokens * 4, fixture->tokens,
		fixture->header.total_tokens * 4);
	const uint32_t *number = kvt_attention_trace_layers(trace, &layers);
	g_assert_cmpmem(number, layers * 4, fixture->layers, sizeof fixture->layers);
	uint64_t rows = 0, accesses = 0;
	for (unsigned i = 0; i < layers; i++) {
		g_autoptr(kvt_attention_layer) layer =
			kvt_attention_layer_open(trace, number[i], memory, &error);
		g_assert_no_error(error);
		g_assert_cmpuint(kvt_attention_layer_number(layer), ==, number[i]);
		g_assert_cmpint(kvt_attention_layer_get_kind(layer), ==, fixture->kinds[number[i]]);
		assert_rows_equal(fixture, i, layer);
		assert_tensors_equal(fixture, i, layer);
		rows += steps * fixture->header.kv_heads;
		accesses += kvt_attention_layer_accesses(layer);
	}
	kvt_attention_read_stats stats = kvt_attention_trace_read_stats(trace);
	g_assert_cmpuint(stats.rows, ==, rows);
	g_assert_cmpuint(stats.accesses, ==, accesses);
	g_assert_cmpuint(stats.bytes, >, accesses * 6);
	g_assert_cmpfloat(stats.seconds, >, 0);
}

static void test_round_trip(void)
{
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	g_autofree char *path = path_of("round.h5");
	fixture->header.source = "a test";
	fixture->header.license = "Apache-2.0";
	fixture->header.derived = "from ½ of nothing";
	fixture->header.synthetic = true;
	attention_fixture_write(fixture, path);
	/* 1 byte: windows of a single row and a single step. */
	for (size_t memory = 0; memory < 2; memory++) {
		g_autoptr(kvt_attention_trace) trace = open_good(path);
		g_assert_cmpstr(kvt_attention_trace_path(trace), ==, path);
		assert_trace_equal(fixture, trace, memory);
	}
}

static void test_memory(void)
{
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	g_autofree char *path = path_of("memory.h5");
	g_autofree char *bytes = NULL;
	g_autoptr(GError) error = NULL;
	gsize size;
	attention_fixture_write(fixture, path);
	g_assert_true(g_file_get_contents(path, &bytes, &size, NULL));
	g_autoptr(kvt_attention_trace) trace =
		kvt_attention_trace_open_memory("bytes", bytes, size, &error);
	g_assert_no_error(error);
	memset(bytes, 0, size);
	assert_trace_equal(fixture, trace, 0);
}

static void test_large(void)
{
	const kvt_attention_header header = {
		.query_heads = 3,
		.kv_heads = 1,
		.head_dim = 20,
		.block_tokens = 6,
		.local_chunk_tokens = 64,
		.context_tokens = 9000,
		.total_tokens = 9100,
	};
	g_autoptr(attention_fixture) fixture = attention_fixture_new(&header, 40, 3);
	g_autofree char *path = path_of("large.h5");
	for (uint64_t i = 0; i < 9100; i++)
		fixture->tokens[i] += 70000; /* beyond 16 bits */
	for (uint64_t i = 0; i < 40; i++)
		fixture->steps[i].token += 70000;
	attention_fixture_write(fixture, path);
	/* 100,000 bytes: windows of a few rows. */
	g_autoptr(kvt_attention_trace) trace = open_good(path);
	assert_trace_equal(fixture, trace, 100000);
	/* Backwards is slow but right. */
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, 3, 100000, &error);
	g_autofree uint32_t *last = NULL;
	kvt_attention_row row;
	g_assert_true(kvt_attention_layer_row(layer, 39, 0, &row, &error));
	last = g_memdup2(row.block, row.count * sizeof *last);
	uint32_t count = row.count;
	for (uint64_t step = 40; step-- > 0;)
		g_assert_true(kvt_attention_layer_row(layer, step, 0, &row, &error));
	g_assert_true(kvt_attention_layer_row(layer, 39, 0, &row, &error));
	g_assert_cmpmem(row.block, row.count * sizeof *last, last, count * sizeof *last);
}

static void test_optional(void)
{
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	g_autofree char *path = path_of("optional.h5");
	g_autoptr(GError) error = NULL;
	for (uint64_t i = 0; i < fixture->step_count; i++) {
		fixture->steps[i].token = UINT32_MAX;
		fixture->steps[i].nll = NAN;
	}
	g_autoptr(kvt_attention_writer) writer = kvt_attention_writer_new(
		path, &fixture->header, fixture->steps, fixture->step_count, &error);
	g_assert_true(kvt_attention_writer_layer(writer, 3, 0, &error));
	for (unsigned i = 0; i < 12; i++)
		g_assert_true(kvt_attention_writer_row(writer, &(kvt_attention_row){ 0 }, &error));
	g_assert_true(kvt_attention_writer_finish(writer, &error));
	g_autoptr(kvt_attention_trace) trace = open_good(path);
	uint64_t steps;
	const uint32_t *tokens;
	const kvt_attention_step *step = kvt_attention_trace_steps(trace, &steps);
	g_assert_cmpuint(step[0].token, ==, UINT32_MAX);
	g_assert_true(isnan(step[5].nll));
	g_assert_true(kvt_attention_trace_tokens(trace, &tokens, &error));
	g_assert_null(tokens);
	g_assert_null(kvt_attention_trace_header(trace)->source);
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, 3, 0, &error);
	kvt_attention_row row;
	g_assert_true(kvt_attention_layer_row(layer, 5, 1, &row, &error));
	g_assert_cmpuint(row.count, ==, 0);
	float query[32];
	g_assert_false(kvt_attention_layer_queries(layer, 0, query, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_true(g_str_has_suffix(error->message,
		"optional.h5: layers/3/queries: not recorded, expected a trace with queries"));
	g_clear_error(&error);
	g_assert_null(kvt_attention_layer_open(trace, 1, 0, &error));
	g_assert_true(g_str_has_suffix(
		error->message, "optional.h5: layers: layer 1 is not recorded, expected one of 3"));
}

static void test_same_bytes(void)
{
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	g_autofree char *a = path_of("a.h5");
	g_autofree char *b = path_of("b.h5");
	g_autofree char *bytes_a = NULL;
	g_autofree char *bytes_b = NULL;
	gsize size_a, size_b;
	attention_fixture_write(fixture, a);
	g_usleep(1100000); /* HDF5's time stamps would count seconds */
	attention_fixture_write(fixture, b);
	g_assert_true(g_file_get_contents(a, &bytes_a, &size_a, NULL));
	g_assert_true(g_file_get_contents(b, &bytes_b, &size_b, NULL));
	g_assert_cmpmem(bytes_a, size_a, bytes_b, size_b);
}

static unsigned files_in_folder(void)
{
	unsigned n = 0;
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	while (g_dir_read_name(dir) != NULL)
		n++;
	return n;
}

/* A writer given up half-way leaves no file, and what was there stays. */
static void test_given_up(void)
{
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	g_autofree char *path = path_of("kept.h5");
	g_autoptr(GError) error = NULL;
	g_assert_true(g_file_set_contents(path, "old", 3, NULL));
	unsigned before = files_in_folder();
	kvt_attention_writer *writer = kvt_attention_writer_new(
		path, &fixture->header, fixture->steps, fixture->step_count, &error);
	g_assert_true(kvt_attention_writer_layer(writer, 3, KVT_ATTENTION_KEYS, &error));
	g_assert_cmpuint(files_in_folder(), ==, before + 1);
	g_assert_false(kvt_attention_writer_finish(writer, &error));
	g_assert_true(g_str_has_suffix(
		error->message, "kept.h5: layers/3/access: 0 rows written, expected 12"));
	kvt_attention_writer_free(writer);
	g_assert_cmpuint(files_in_folder(), ==, before);
	g_autofree char *bytes = NULL;
	g_assert_true(g_file_get_contents(path, &bytes, NULL, NULL));
	g_assert_cmpstr(bytes, ==, "old");
	attention_fixture_write(fixture, path);
	g_assert_cmpuint(files_in_folder(), ==, before);
	kvt_attention_trace_close(open_good(path));
}

static void refuses_row(kvt_attention_writer *writer, const uint32_t *block, const float *mass,
	uint32_t count, const char *message)
{
	g_autoptr(GError) error = NULL;
	const kvt_attention_row row = { block, mass, count };
	g_assert_false(kvt_attention_writer_row(writer, &row, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	if (!g_str_has_suffix(error->message, message))
		g_error("got \"%s\", expected \"... %s\"", error->message, message);
}

static void test_refused(void)
{
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	g_autofree char *path = path_of("refused.h5");
	g_autoptr(GError) error = NULL;
	kvt_attention_header header = fixture->header;
	header.kv_heads = 0;
	g_assert_null(kvt_attention_writer_new(path, &header, fixture->steps, 6, &error));
	g_assert_true(g_str_has_suffix(error->message,
		"refused.h5: attribute n_kv_heads: 0, expected an integer from 1 to 4096"));
	g_clear_error(&error);
	g_autofree char *nowhere = path_of("no/such/folder.h5");
	g_assert_null(
		kvt_attention_writer_new(nowhere, &fixture->header, fixture->steps, 6, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_FAILED);
	g_clear_error(&error);
	g_autoptr(kvt_attention_writer) writer =
		kvt_attention_writer_new(path, &fixture->header, fixture->steps, 6, &error);
	g_assert_true(kvt_attention_writer_layer(writer, 3, KVT_ATTENTION_QUERIES, &error));
	const uint32_t block[] = { 8, 2, 2 }, future[] = { 9 };
	const float mass[] = { 0.5f, 0.4f, 0.3f };
	const float rising[] = { 0.1f, 0.2f }, negative[] = { -0.1f };
	const float nan[] = { NAN }, large[] = { 1.5f };
	refuses_row(writer, block, mass, 3,
		"layers/3/access: row 0: block 2 twice, expected every block once");
	refuses_row(writer, future, mass, 1,
		"row 0: entry 0: block 9 at position 34, expected a page present, 0 to 8");
	refuses_row(writer, block, rising, 2,
		"row 0: entry 1 (block 2): mass 0.2 after 0.1, expected falling masses");
	refuses_row(writer, block, negative, 1,
		"row 0: entry 0 (block 8): mass -0.1, expected a number from 0 to 1");
	refuses_row(writer, block, nan, 1,
		"row 0: entry 0 (block 8): mass nan, expected a number from 0 to 1");
	refuses_row(writer, block, large, 1,
		"row 0: entry 0 (block 8): mass 1.5, expected a number from 0 to 1");
	g_assert_true(kvt_attention_writer_queries(writer, fixture->queries[1], 5, &error));
	g_assert_false(kvt_attention_writer_queries(writer, fixture->queries[1], 2, &error));
	g_assert_true(g_str_has_suffix(
		error->message, "layers/3/queries: more rows, expected 6 in each of 1 parts"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	folder = attention_fixture_folder();
	g_test_add_func("/attention-trace/round-trip", test_round_trip);
	g_test_add_func("/attention-trace/memory", test_memory);
	g_test_add_func("/attention-trace/large", test_large);
	g_test_add_func("/attention-trace/optional", test_optional);
	g_test_add_func("/attention-trace/same-bytes", test_same_bytes);
	g_test_add_func("/attention-trace/given-up", test_given_up);
	g_test_add_func("/attention-trace/refused", test_refused);
	int status = g_test_run();
	attention_fixture_remove(folder);
	return status;
}
