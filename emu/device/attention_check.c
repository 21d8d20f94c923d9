/* attention_check.c: outputs by layer, token and KV head, and what they should be. */
#include "emu/device/attention_check.h"

#include <math.h>
#include <string.h>

/* Of one layer and query token: output[kv_heads][heads][head_dim]. */
typedef struct kept {
	unsigned layer;
	uint64_t position;
	float *output;
} kept;

struct kvt_attention_check {
	const kvt_kv_source *source;
	GArray *kept;
	/* tokens [first, end) of which some are chosen, by layer x (end - first) + token; NULL: all
	 * are */
	uint64_t first, end;
	GHashTable *chosen;
};

kvt_attention_check *kvt_attention_check_new(const kvt_kv_source *source)
{
	kvt_attention_check *check = g_new0(kvt_attention_check, 1);
	check->source = source;
	check->kept = g_array_new(FALSE, FALSE, sizeof(kept));
	return check;
}

void kvt_attention_check_free(kvt_attention_check *check)
{
	if (!check)
		return;
	for (guint i = 0; i < check->kept->len; i++)
		g_free(g_array_index(check->kept, kept, i).output);
	g_array_free(check->kept, TRUE);
	if (check->chosen)
		g_hash_table_unref(check->chosen);
	g_free(check);
}

/* Outputs of the tokens that some are chosen of. */
static uint64_t choice_of(const kvt_attention_check *check)
{
	const kvt_kv_shape *shape = &check->source->shape;
	return (check->end - check->first) * shape->layers * shape->kv_heads;
}

void kvt_attention_check_choose(
	kvt_attention_check *check, uint64_t first, uint64_t end, uint64_t most)
{
	check->first = first;
	check->end = end;
	uint64_t n = choice_of(check);
	if (most == 0 || most >= n)
		return;
	g_assert(!check->chosen);
	check->chosen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	for (uint64_t i = 0; i < most; i++) {
		uint64_t token = kvt_attention_spread(n, most, i) / check->source->shape.kv_heads;
		g_hash_table_add(check->chosen, g_memdup2(&token, sizeof(token)));
	}
}

bool kvt_attention_check_wants(void *arg, unsigned layer, uint64_t position)
{
	const kvt_attention_check *check = arg;
	if (!check->chosen || position < check->first || position >= check->end)
		return true;
	uint64_t token = layer * (check->end - check->first) + position - check->first;
	return g_hash_table_contains(check->chosen, &token);
}

void kvt_attention_check_keep(void *arg, unsigned layer, uint64_t position, uint64_t tokens,
	const float *output, const float *lse)
{
	kvt_attention_check *check = arg;
	const kvt_kv_shape *shape = &check->source->shape;
	size_t n = (size_t)shape->heads * shape->head_dim;
	for (uint64_t token = 0; token < tokens; token++) {
		if (!kvt_attention_check_wants(arg, layer, position + token))
			continue;
		kept k = { layer, position + token, g_new(float, shape->kv_heads *n) };
		for (uint32_t head = 0; head < shape->kv_heads; head++)
			memcpy(k.output + head * n, output + (head * tokens + token) * n,
				n * sizeof(float));
		g_array_append_val(check->kept, k);
	}
}

/* All keys and values of a layer, in memory. */
typedef struct reference {
	const kvt_kv_source *source;
	uint8_t *pages;
	const void **keys, **values; /* of one KV head */
	uint64_t n_tokens;           /* of the latest position */
	unsigned layer;
} reference;

static void reference_load(reference *r, unsigned layer)
{
	const kvt_kv_shape *shape = &r->source->shape;
	uint64_t n_pages = (r->n_tokens + shape->page_tokens - 1) / shape->page_tokens;
	if (r->pages && r->layer == layer)
		return;
	if (!r->pages) {
		r->pages = g_malloc(n_pages * shape->page_bytes);
		r->keys = g_new(const void *, n_pages);
		r->values = g_new(const void *, n_pages);
	}
	kvt_kv_source_fill(r->source, layer, 0, r->n_tokens, r->pages);
	r->layer = layer;
}

static kvt_attention_window reference_window(reference *r, unsigned kv_head, uint64_t n_tokens)
{
	const kvt_kv_shape *shape = &r->source->shape;
	for (uint64_t i = 0; i * shape->page_tokens < n_tokens; i++) {
		r->keys[i] = r->pages + i * shape->page_bytes + 2 * kv_head * shape->block_bytes;
		r->values[i] = (const uint8_t *)r->keys[i] + shape->block_bytes;
	}
	return (kvt_attention_window){
		.keys = r->keys, .values = r->values, .n_tokens = n_tokens, .seen = n_tokens
	};
}

/* A token's keys or values (pages as in the window), as numbers. */
static void numbers_of(const kvt_attention_shape *shape, const void *const *pages, size_t stride,
	uint64_t token, float *numbers)
{
	const uint8_t *page = pages[token / shape->page_tokens];
	kvt_elements_to_float(shape->element, page + token % shape->page_tokens * stride,
		shape->head_dim, numbers);
}

/* A query's output as a framework computes it: all logits (heads x n_tokens) first, FP32
 * throughout. */
static void resident(const kvt_attention_shape *shape, const kvt_attention_window *window,
	const float *queries, float *logits, float *out)
{
	const uint32_t dim = shape->head_dim;
	const uint64_t n = window->n_tokens;
	g_autofree float *most = g_new(float, shape->heads), *weight = g_new0(float, shape->heads);
	float numbers[KVT_CODE_HEAD_DIM_MAX];
	for (uint32_t head = 0; head < shape->heads; head++)
		most[head] = -INFINITY;
	for (uint64_t t = 0; t < n; t++) {
		numbers_of(shape, window->keys, shape->key_stride, t, numbers);
		for (uint32_t head = 0; head < shape->heads; head++) {
			float sum = 0;
			for (uint32_t i = 0; i < dim; i++)
				sum += queries[head * dim + i] * numbers[i];
			logits[head * n + t] = sum * shape->scale;
			most[head] = MAX(most[head], logits[head * n + t]);
		}
	}
	memset(out, 0, (size_t)shape->heads * dim * sizeof(float));
	for (uint64_t t = 0; t < n; t++) {
		numbers_of(shape, window->values, shape->value_stride, t, numbers);
		for (uint32_t head = 0; head < shape->heads; head++) {
			float share = expf(logits[head * n + t] - most[head]);
			weight[head] += share;
			for (uint32_t i = 0; i < dim; i++)
				out[head * dim + i] += share * numbers[i];
		}
	}
	for (uint32_t head = 0; head < shape->heads; head++)
		for (uint32_t i = 0; i < dim; i++)
			out[head * dim + i] /= weight[head];
}

void kvt_attention_errors_add(kvt_attention_errors *errors, const kvt_attention_place *place,
	const kvt_attention_shape *shape, const float *queries, const kvt_attention_window *window,
	const float *output)
{
	size_t n = (size_t)shape->heads * shape->head_dim;
	g_autofree float *logits = g_new(float, shape->heads * window->n_tokens);
	g_autofree float *plain = g_new(float, n);
	g_autofree double *exact = g_new(double, n), *lse = g_new(double, shape->heads);
	kvt_attention_exact(shape, queries, 1, window, exact, lse);
	resident(shape, window, queries, logits, plain);
	for (size_t i = 0; i < n; i++) {
		double error = fabs(output[i] - exact[i]);
		errors->rms += error * error;
		errors->resident += pow(plain[i] - exact[i], 2);
		errors->output += exact[i] * exact[i];
		if (!(error <= errors->most)) {
			errors->most = isnan(errors->most) ? errors->most : error;
			errors->place = *place;
		}
	}
	errors->numbers += n;
	errors->compared++;
}

void kvt_attention_errors_end(kvt_attention_errors *errors)
{
	if (errors->numbers == 0)
		return;
	errors->rms = sqrt(errors->rms / (double)errors->numbers);
	errors->resident = sqrt(errors->resident / (double)errors->numbers);
	errors->output = sqrt(errors->output / (double)errors->numbers);
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
	return b == 0 ? a : common_divisor(b, a % b);
}

uint64_t kvt_attention_spread(uint64_t n, uint64_t wanted, uint64_t i)
{
	uint64_t stride = MAX(n / wanted, 1);
	while (common_divisor(n, stride) > 1)
		stride--;
	return i + 1 == wanted ? n - 1 : i * stride;
}

static void compare(reference *r, const kept *k, unsigned kv_head, kvt_attention_errors *errors)
{
	const kvt_kv_shape *shape = &r->source->shape;
	kvt_attention_shape kernel = kvt_kv_attention_shape(shape);
	kvt_attention_place place = { k->layer, kv_head, k->position };
	size_t n = (size_t)shape->heads * shape->head_dim;
	g_autofree float *queries = g_new(float, n);
	reference_load(r, k->layer);
	kvt_attention_window window = reference_window(r, kv_head, k->position + 1);
	kvt_kv_source_queries(r->source, k->layer, kv_head, k->position, 1, queries);
	kvt_attention_errors_add(
		errors, &place, &kernel, queries, &window, k->output + kv_head * n);
}

void kvt_attention_check_compare(
	const kvt_attention_check *check, uint64_t most, kvt_attention_errors *errors)
{
	const kvt_kv_shape *shape = &check->source->shape;
	uint64_t n = (uint64_t)check->kept->len * shape->kv_heads;
	uint64_t wanted = most > 0 ? MIN(most, n) : n;
	reference r = { .source = check->source };
	*errors = (kvt_attention_errors){ .outputs = n };
	if (check->chosen) {
		errors->outputs = choice_of(check);
		for (guint i = 0; i < check->kept->len; i++)
			if (g_array_index(check->kept, kept, i).position < check->first)
				errors->outputs += shape->kv_heads;
	}
	for (guint i = 0; i < check->kept->len; i++)
		r.n_tokens = MAX(r.n_tokens, g_array_index(check->kept, kept, i).position + 1);
	for (uint64_t i = 0; i < wanted; i++) {
		uint64_t at = kvt_attention_spread(n, wanted, i);
		const kept *k = &g_array_index(check->kept, kept, at / shape->kv_heads);
		compare(&r, k, (unsigned)(at % shape->kv_heads), errors);
	}
	kvt_attention_errors_end(errors);
	g_free(r.pages);
	g_free(r.keys);
	g_free(r.values);
}

bool kvt_attention_errors_pass(const kvt_attention_errors *errors)
{
	double allowed = MAX(errors->resident, errors->bound * errors->output);
	return errors->compared > 0 && errors->rms <= allowed;
}
