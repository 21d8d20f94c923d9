/* page_sketch.c: records of pages, their scores, and plans made of them. */
#include "sim/prefetch/page_sketch.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

typedef struct sketch_head {
	uint32_t first, end; /* pages that have a record; none: first == end */
	gboolean asked;      /* there is a query */
	float *queries;      /* [group][head_dim] */
	uint8_t *records;    /* [max_pages] */
	void *shared;
	void *prepared; /* may be NULL */
} sketch_head;

struct kvt_page_sketch {
	kvt_prefetcher base;
	const kvt_page_sketch_kind *kind;
	kvt_prefetcher_spec spec;
	size_t record_bytes, shared_bytes;
	sketch_head *heads;
	kvt_page_ranking ranking;
	/* scratch */
	float *keys;     /* [block_tokens][head_dim] */
	float *logits;   /* [group][max_pages x logits a page] */
	float *sums;     /* [group][max_pages] */
	uint32_t *share; /* [max_pages] */
};

const char *kvt_page_sketch_unfit(const kvt_prefetcher_spec *spec)
{
	if (spec->head_dim % 8 != 0)
		return "a head_dim that is a multiple of 8";
	return spec->group > KVT_CODE_HEADS_MAX ? "at most 128 query heads a KV head" : NULL;
}

kvt_prefetcher *kvt_page_sketch_new(
	const kvt_page_sketch_kind *kind, const kvt_prefetcher_spec *spec)
{
	kvt_page_sketch *sketch = g_new0(kvt_page_sketch, 1);
	size_t tokens = kind->by_token ? spec->block_tokens : 1;
	sketch->kind = kind;
	sketch->spec = *spec;
	sketch->record_bytes = kind->record_bytes(spec);
	sketch->shared_bytes = kind->shared_bytes ? kind->shared_bytes(spec) : 0;
	sketch->heads = g_new0(sketch_head, spec->n_heads);
	for (uint32_t i = 0; i < spec->n_heads; i++) {
		sketch_head *head = &sketch->heads[i];
		head->queries = g_new(float, (size_t)spec->group * spec->head_dim);
		head->records = g_malloc(sketch->record_bytes * spec->max_pages);
		head->shared = g_malloc0(sketch->shared_bytes);
	}
	kvt_page_ranking_init(&sketch->ranking, spec->max_pages);
	sketch->keys = g_new(float, (size_t)spec->block_tokens * spec->head_dim);
	if (kind->score)
		sketch->logits = g_new(float, (size_t)spec->group * spec->max_pages * tokens);
	sketch->sums = g_new(float, (size_t)spec->group * spec->max_pages);
	sketch->share = g_new(uint32_t, spec->max_pages);
	return &sketch->base;
}

void kvt_page_sketch_free(kvt_prefetcher *prefetcher)
{
	kvt_page_sketch *sketch = (kvt_page_sketch *)prefetcher;
	for (uint32_t i = 0; i < sketch->spec.n_heads; i++) {
		g_free(sketch->heads[i].queries);
		g_free(sketch->heads[i].records);
		g_free(sketch->heads[i].shared);
		g_free(sketch->heads[i].prepared);
	}
	g_free(sketch->heads);
	kvt_page_ranking_clear(&sketch->ranking);
	g_free(sketch->keys);
	g_free(sketch->logits);
	g_free(sketch->sums);
	g_free(sketch->share);
	g_free(sketch);
}

static void read_keys(const uint16_t *keys, size_t n, float *out)
{
	kvt_elements_to_float(KVT_ELEMENT_F16, keys, n, out);
	for (size_t i = 0; i < n; i++)
		if (!isfinite(out[i]))
			out[i] = 0;
}

void kvt_page_sketch_train(kvt_prefetcher *prefetcher, uint32_t head, const kvt_page_keys *sample)
{
	kvt_page_sketch *sketch = (kvt_page_sketch *)prefetcher;
	const kvt_prefetcher_spec *spec = &sketch->spec;
	if (!sketch->kind->train)
		return;
	uint32_t n_tokens = sample->n_pages * spec->block_tokens;
	g_autofree float *keys = g_new(float, (size_t)n_tokens * spec->head_dim);
	read_keys(sample->keys, (size_t)n_tokens * spec->head_dim, keys);
	sketch_head *state = &sketch->heads[head];
	sketch->kind->train(spec, keys, n_tokens, state->shared);
	if (sketch->kind->prepare)
		state->prepared = sketch->kind->prepare(spec, state->shared);
	sketch->base.stats.sketch_bytes += sketch->shared_bytes;
}

void kvt_page_sketch_write(kvt_prefetcher *prefetcher, uint32_t head, const kvt_page_keys *keys)
{
	kvt_page_sketch *sketch = (kvt_page_sketch *)prefetcher;
	const kvt_prefetcher_spec *spec = &sketch->spec;
	sketch_head *state = &sketch->heads[head];
	size_t numbers = (size_t)spec->block_tokens * spec->head_dim;
	for (uint32_t i = 0; i < keys->n_pages; i++) {
		uint32_t page = kvt_page_keys_id(keys, i);
		if (state->first == state->end)
			state->first = state->end = page;
		/* pages that are present follow one another */
		g_assert(page == state->end && page < spec->max_pages);
		read_keys(keys->keys + i * numbers, numbers, sketch->keys);
		sketch->kind->build(spec, state->prepared ? state->prepared : state->shared,
			sketch->keys, state->records + page * sketch->record_bytes);
		state->end++;
	}
	sketch->base.stats.sketch_bytes += keys->n_pages * sketch->record_bytes;
	sketch->base.stats.sketch_tokens += (uint64_t)keys->n_pages * spec->block_tokens;
}

void kvt_page_sketch_query(
	kvt_prefetcher *prefetcher, uint32_t step, uint32_t head, const float *queries)
{
	kvt_page_sketch *sketch = (kvt_page_sketch *)prefetcher;
	sketch_head *state = &sketch->heads[head];
	size_t numbers = (size_t)sketch->spec.group * sketch->spec.head_dim;
	state->asked = TRUE;
	for (size_t i = 0; i < numbers; i++)
		state->queries[i] = isfinite(queries[i]) ? queries[i] : 0;
}

void kvt_page_sketch_observe(
	kvt_prefetcher *prefetcher, uint32_t step, uint32_t head, const kvt_page_masses *row)
{
}

/* sums[g x max_pages + i] of page first + i. */
static void sum_powers(kvt_page_sketch *sketch, const sketch_head *head, uint32_t first, uint32_t n)
{
	const kvt_page_sketch_kind *kind = sketch->kind;
	const kvt_prefetcher_spec *spec = &sketch->spec;
	const uint8_t *records = head->records + first * sketch->record_bytes;
	uint32_t tokens = kind->by_token ? spec->block_tokens : 1;
	size_t pitch = (size_t)spec->max_pages * tokens;
	if (kind->sums) {
		kind->sums(spec, head->shared, head->queries, records, n, sketch->sums,
			spec->max_pages);
		return;
	}
	kind->score(spec, head->shared, head->queries, records, n, sketch->logits, pitch);
	for (uint32_t g = 0; g < spec->group; g++)
		kvt_logits_to_sums(sketch->logits + g * pitch, n, tokens, spec->scale,
			sketch->sums + (size_t)g * spec->max_pages);
}

void kvt_page_sketch_plan(
	kvt_prefetcher *prefetcher, const kvt_plan_request *request, kvt_plan *plan)
{
	kvt_page_sketch *sketch = (kvt_page_sketch *)prefetcher;
	const kvt_prefetcher_spec *spec = &sketch->spec;
	const sketch_head *head = &sketch->heads[request->head];
	uint32_t first = MAX(head->first, request->first_present);
	uint32_t end = MIN(head->end, request->n_present);
	if (sketch->base.ops->estimates)
		plan->mass = 0;
	if (first >= end || !head->asked)
		return;
	uint32_t n = end - first;
	sum_powers(sketch, head, first, n);
	kvt_group_shares(sketch->sums, spec->max_pages, spec->group, n, sketch->share);
	kvt_prefetcher_stats *stats = &sketch->base.stats;
	stats->queries++;
	stats->scored_pages += n;
	stats->scanned_bytes += n * sketch->record_bytes + sketch->shared_bytes;
	kvt_scored_pages scored = { .n = n, .first = first, .share = sketch->share };
	kvt_scored_pages_plan(
		&scored, request, sketch->base.ops->estimates, &sketch->ranking, plan);
}

void kvt_page_sketch_mean(
	uint32_t head_dim, const float *keys, uint32_t n_tokens, const float *centre, float *mean)
{
	for (uint32_t i = 0; i < head_dim; i++) {
		double sum = 0;
		for (uint32_t t = 0; t < n_tokens; t++)
			sum += (double)keys[(size_t)t * head_dim + i];
		mean[i] = (float)(sum / n_tokens - (centre ? (double)centre[i] : 0));
	}
}

/* 2^x for x <= 0, by the Taylor series of 2^f, |f| <= 1/2. */
static float power_of_2(float x)
{
	if (!(x > -125))
		return 0;
	float whole = (float)(int)(x - 0.5f), f = x - whole;
	float series = 1.3333558e-3f;
	series = series * f + 9.6181291e-3f;
	series = series * f + 5.5504109e-2f;
	series = series * f + 2.4022651e-1f;
	series = series * f + 6.9314718e-1f;
	series = series * f + 1;
	uint32_t bits = (uint32_t)((int)whole + 127) << 23;
	float power;
	memcpy(&power, &bits, sizeof(power));
	return series * power;
}

void kvt_logits_to_sums(const float *logits, uint32_t n, uint32_t tokens, float scale, float *sums)
{
	static const float log2_e = 1.44269504f;
	float octave = scale * log2_e, largest = -INFINITY;
	size_t numbers = (size_t)n * tokens;
	for (size_t i = 0; i < numbers; i++)
		largest = logits[i] * octave > largest ? logits[i] * octave : largest;
	for (uint32_t i = 0; i < n; i++) {
		float sum = 0;
		for (uint32_t t = 0; t < tokens; t++)
			sum += power_of_2(logits[(size_t)i * tokens + t] * octave - largest);
		sums[i] = sum;
	}
}
