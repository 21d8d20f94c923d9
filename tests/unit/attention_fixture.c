/* attention_fixture.c: small synthetic attention traces for tests. */
#include "tests/unit/attention_fixture.h"

#include <glib/gstdio.h>
#include <math.h>

#include "sim/base/rng.h"
#include "traces/attention_trace_writer.h"
#include "traces/half_float.h"

static uint16_t *random_halves(kvt_rng *rng, size_t n, double scale)
{
	uint16_t *halves = g_new(uint16_t, n);
	for (size_t i = 0; i < n; i++) {
		float value = (float)(scale * kvt_rng_normal(rng));
		kvt_half_from_float(&value, &halves[i], 1);
	}
	return halves;
}

attention_fixture *attention_fixture_new(
	const kvt_attention_header *header, uint64_t steps, uint64_t seed)
{
	attention_fixture *fixture = g_new0(attention_fixture, 1);
	kvt_rng rng = kvt_rng_init(seed, 0);
	fixture->header = *header;
	fixture->header.model = "fixture";
	fixture->header.layers = 4;
	fixture->header.softmax_scale = 1 / sqrtf((float)header->head_dim);
	fixture->header.layer_kind = fixture->kinds;
	fixture->kinds[1] = KVT_TRACE_LAYER_CHUNKED;
	fixture->kinds[3] = KVT_TRACE_LAYER_GLOBAL;
	fixture->layers[0] = 1;
	fixture->layers[1] = 3;
	fixture->step_count = steps;
	fixture->steps = g_new(kvt_attention_step, steps);
	fixture->tokens = g_new(uint32_t, header->total_tokens);
	for (uint64_t i = 0; i < header->total_tokens; i++)
		fixture->tokens[i] = (uint32_t)kvt_rng_below(&rng, 50000);
	for (uint64_t i = 0; i < steps; i++) {
		uint64_t position = header->total_tokens - steps + i;
		fixture->steps[i] = (kvt_attention_step){
			.position = position,
			.token = fixture->tokens[position],
			.turn = (uint16_t)(2 + i * 2 / steps),
			.kind = i % 3 == 0 ? KVT_TRACE_STEP_PROMPT : KVT_TRACE_STEP_DECODE,
			.nll = (float)kvt_rng_uniform(&rng),
		};
	}
	size_t step = (size_t)header->query_heads * header->head_dim;
	size_t cache = (size_t)header->kv_heads * header->total_tokens * header->head_dim;
	for (unsigned i = 0; i < FIXTURE_LAYERS; i++) {
		fixture->queries[i] = random_halves(&rng, steps * step, 2);
		fixture->keys[i] = random_halves(&rng, cache, 1);
		fixture->values[i] = random_halves(&rng, cache, 1);
	}
	return fixture;
}

attention_fixture *attention_fixture_small(void)
{
	const kvt_attention_header header = {
		.query_heads = 4,
		.kv_heads = 2,
		.head_dim = 8,
		.block_tokens = 4,
		.local_chunk_tokens = 10,
		.context_tokens = 34,
		.total_tokens = 40,
	};
	return attention_fixture_new(&header, 6, 1);
}

void attention_fixture_free(attention_fixture *fixture)
{
	for (unsigned i = 0; i < FIXTURE_LAYERS; i++) {
		g_free(fixture->queries[i]);
		g_free(fixture->keys[i]);
		g_free(fixture->values[i]);
	}
	g_free(fixture->steps);
	g_free(fixture->tokens);
	g_free(fixture);
}

static double dot(const uint16_t *a, const uint16_t *b, uint32_t n)
{
	double sum = 0;
	for (uint32_t i = 0; i < n; i++) {
		float x, y;
		kvt_half_to_float(&a[i], &x, 1);
		kvt_half_to_float(&b[i], &y, 1);
		sum += (double)x * y;
	}
	return sum;
}

uint64_t attention_fixture_masses(const attention_fixture *fixture, unsigned i, uint64_t step,
	uint32_t head, double *mass, uint64_t *first)
{
	const kvt_attention_header *h = &fixture->header;
	uint64_t position = fixture->steps[step].position, low = 0;
	if (fixture->kinds[fixture->layers[i]] == KVT_TRACE_LAYER_CHUNKED)
		low = position / h->local_chunk_tokens * h->local_chunk_tokens;
	*first = low / h->block_tokens;
	uint64_t pages = position / h->block_tokens - *first + 1;
	uint32_t group = h->query_heads / h->kv_heads;
	for (uint64_t p = 0; p < pages; p++)
		mass[p] = 0;
	g_autofree double *weight = g_new(double, position + 1);
	for (uint32_t g = 0; g < group; g++) {
		const uint16_t *query = fixture->queries[i] +
					(step * h->query_heads + head * group + g) * h->head_dim;
		double most = -INFINITY, total = 0;
		for (uint64_t t = low; t <= position; t++) {
			const uint16_t *key =
				fixture->keys[i] + (head * h->total_tokens + t) * h->head_dim;
			weight[t] = (double)h->softmax_scale * dot(query, key, h->head_dim);
			most = MAX(most, weight[t]);
		}
		for (uint64_t t = low; t <= position; t++)
			total += weight[t] = exp(weight[t] - most);
		for (uint64_t t = low; t <= position; t++)
			mass[t / h->block_tokens - *first] += weight[t] / total / group;
	}
	return pages;
}

static void write_layer(const attention_fixture *fixture, unsigned i, kvt_attention_writer *writer)
{
	const kvt_attention_header *h = &fixture->header;
	g_autoptr(GError) error = NULL;
	uint64_t all_pages = h->total_tokens / h->block_tokens + 1;
	g_autofree double *mass = g_new(double, all_pages);
	g_autofree float *rounded = g_new(float, all_pages);
	kvt_attention_writer_layer(writer, fixture->layers[i],
		KVT_ATTENTION_QUERIES | KVT_ATTENTION_KEYS | KVT_ATTENTION_VALUES, &error);
	g_assert_no_error(error);
	for (uint64_t step = 0; step < fixture->step_count; step++) {
		for (uint32_t head = 0; head < h->kv_heads; head++) {
			uint64_t first;
			uint64_t pages =
				attention_fixture_masses(fixture, i, step, head, mass, &first);
			for (uint64_t p = 0; p < pages; p++)
				rounded[p] = MIN((float)mass[p], 1.0f);
			kvt_attention_writer_row_of_masses(writer, rounded, first, pages, &error);
			g_assert_no_error(error);
		}
	}
	kvt_attention_writer_queries(writer, fixture->queries[i], fixture->step_count, &error);
	g_assert_no_error(error);
	size_t head = (size_t)h->total_tokens * h->head_dim;
	for (uint32_t k = 0; k < h->kv_heads; k++) {
		kvt_attention_writer_keys(
			writer, fixture->keys[i] + k * head, h->total_tokens, &error);
		g_assert_no_error(error);
		kvt_attention_writer_values(
			writer, fixture->values[i] + k * head, h->total_tokens, &error);
		g_assert_no_error(error);
	}
}

void attention_fixture_write(const attention_fixture *fixture, const char *path)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_writer) writer = kvt_attention_writer_new(
		path, &fixture->header, fixture->steps, fixture->step_count, &error);
	g_assert_no_error(error);
	kvt_attention_writer_tokens(writer, fixture->tokens, &error);
	g_assert_no_error(error);
	for (unsigned i = 0; i < FIXTURE_LAYERS; i++)
		write_layer(fixture, i, writer);
	kvt_attention_writer_finish(writer, &error);
	g_assert_no_error(error);
}

char *attention_fixture_folder(void)
{
	g_autoptr(GError) error = NULL;
	char *folder = g_dir_make_tmp("kvtier-test-XXXXXX", &error);
	g_assert_no_error(error);
	return folder;
}

void attention_fixture_remove(char *folder)
{
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
		g_autofree char *path = g_build_filename(folder, name, NULL);
		g_unlink(path);
	}
	g_assert_cmpint(g_rmdir(folder), ==, 0);
	g_free(folder);
}

static bool read_layer(kvt_attention_trace *trace, uint32_t number, GError **error)
{
	const kvt_attention_header *h = kvt_attention_trace_header(trace);
	uint64_t steps;
	kvt_attention_trace_steps(trace, &steps);
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(trace, number, 0, error);
	if (layer == NULL)
		return false;
	for (uint64_t step = 0; step < steps; step++) {
		for (uint32_t head = 0; head < h->kv_heads; head++) {
			kvt_attention_row row;
			if (!kvt_attention_layer_row(layer, step, head, &row, error))
				return false;
		}
	}
	size_t query = (size_t)h->query_heads * h->head_dim;
	size_t cache = (size_t)h->total_tokens * h->head_dim;
	g_autofree uint16_t *halves = g_new(uint16_t, MAX(steps * query, cache));
	if (kvt_attention_layer_has_queries(layer) &&
		!kvt_attention_layer_queries_half(layer, 0, steps, halves, error))
		return false;
	for (uint32_t head = 0; head < h->kv_heads; head++) {
		if (kvt_attention_layer_has_keys(layer) &&
			!kvt_attention_layer_keys_half(
				layer, head, 0, h->total_tokens, halves, error))
			return false;
		if (kvt_attention_layer_has_values(layer) &&
			!kvt_attention_layer_values_half(
				layer, head, 0, h->total_tokens, halves, error))
			return false;
	}
	return true;
}

bool attention_read_all(kvt_attention_trace *trace, GError **error)
{
	const uint32_t *tokens;
	if (!kvt_attention_trace_tokens(trace, &tokens, error))
		return false;
	uint32_t count;
	const uint32_t *layers = kvt_attention_trace_layers(trace, &count);
	for (uint32_t i = 0; i < count; i++)
		if (!read_layer(trace, layers[i], error))
			return false;
	return true;
}
