/* code_sketch.c: keeps codes of pages by head, and scores them. */
#include "sim/prefetch/code_sketch.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

enum { ALIGNMENT = 64 };

typedef struct sketch_head {
	uint32_t n; /* pages written are those below it */
	bool has_query;
	uint32_t query_step;
	float *centre;  /* [head_dim] */
	float *queries; /* [group][head_dim] */
	kvt_codes codes;
} sketch_head;

struct kvt_code_sketch {
	kvt_prefetcher_spec spec;
	uint32_t records; /* codes a page */
	kvt_isa isa;
	sketch_head *heads;
	kvt_code_query query;
	void *query_memory;
	float *sums;          /* [group][max_pages x records] */
	uint32_t *records_of; /* [max_pages x records], of a list of pages */
};

const char *kvt_code_sketch_unfit(const kvt_prefetcher_spec *spec)
{
	if (spec->block_tokens % KVT_CODE_TOKENS != 0)
		return "pages of 16 tokens or a multiple";
	if (spec->head_dim % 16 != 0 || spec->head_dim > KVT_CODE_HEAD_DIM_MAX)
		return "a head_dim that is a multiple of 16, at most 512";
	if (spec->group > KVT_CODE_HEADS_MAX)
		return "at most 128 query heads a KV head";
	return NULL;
}

static void *allocate(size_t bytes)
{
	void *memory = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
	if (!memory)
		g_error("%zu bytes of memory for sketches are not to be had", bytes);
	return memory;
}

kvt_code_sketch *kvt_code_sketch_new(const kvt_prefetcher_spec *spec)
{
	kvt_code_sketch *sketch = g_new0(kvt_code_sketch, 1);
	sketch->spec = *spec;
	sketch->records = spec->block_tokens / KVT_CODE_TOKENS;
	sketch->isa = kvt_isa_best();
	size_t n_records = (size_t)spec->max_pages * sketch->records;
	sketch->heads = g_new0(sketch_head, spec->n_heads);
	for (uint32_t i = 0; i < spec->n_heads; i++) {
		sketch_head *head = &sketch->heads[i];
		head->centre = g_new0(float, spec->head_dim);
		head->queries = g_new0(float, (size_t)spec->group * spec->head_dim);
		size_t means = kvt_code_means_bytes(spec->head_dim, (uint32_t)n_records);
		head->codes = (kvt_codes){ .head_dim = spec->head_dim,
			.means = allocate(means),
			.details = allocate(n_records * kvt_code_detail_bytes(spec->head_dim)) };
		memset(head->codes.means, 0, means);
	}
	sketch->query_memory = allocate(kvt_code_query_bytes(spec->head_dim, spec->group));
	int status = kvt_code_query_init(
		&sketch->query, spec->head_dim, spec->group, sketch->query_memory);
	g_assert(status == 0);
	sketch->sums = g_new(float, n_records * spec->group);
	sketch->records_of = g_new(uint32_t, n_records);
	return sketch;
}

void kvt_code_sketch_free(kvt_code_sketch *sketch)
{
	if (!sketch)
		return;
	for (uint32_t i = 0; i < sketch->spec.n_heads; i++) {
		sketch_head *head = &sketch->heads[i];
		g_free(head->centre);
		g_free(head->queries);
		free(head->codes.means);
		free(head->codes.details);
	}
	g_free(sketch->heads);
	free(sketch->query_memory);
	g_free(sketch->sums);
	g_free(sketch->records_of);
	g_free(sketch);
}

/* The centre is the sample's mean: softmax does not see what all keys share. */
void kvt_code_sketch_train(kvt_code_sketch *sketch, uint32_t head_index,
	const kvt_page_keys *sample, kvt_prefetcher_stats *stats)
{
	sketch_head *head = &sketch->heads[head_index];
	uint32_t head_dim = sketch->spec.head_dim;
	size_t tokens = (size_t)sample->n_pages * sketch->spec.block_tokens;
	g_autofree double *sum = g_new0(double, head_dim);
	g_autofree float *key = g_new(float, head_dim);
	for (size_t token = 0; token < tokens; token++) {
		kvt_elements_to_float(
			KVT_ELEMENT_F16, sample->keys + token * head_dim, head_dim, key);
		for (uint32_t i = 0; i < head_dim; i++)
			sum[i] += (double)key[i];
	}
	for (uint32_t i = 0; i < head_dim; i++)
		head->centre[i] = (float)(sum[i] / (double)tokens);
	stats->sketch_bytes += sizeof(float) * head_dim;
}

void kvt_code_sketch_write(kvt_code_sketch *sketch, uint32_t head_index, const kvt_page_keys *keys,
	kvt_prefetcher_stats *stats)
{
	sketch_head *head = &sketch->heads[head_index];
	uint32_t head_dim = sketch->spec.head_dim;
	size_t mean_bytes = kvt_code_mean_bytes(head_dim),
	       detail_bytes = kvt_code_detail_bytes(head_dim), page = (size_t)sketch->records;
	size_t record_numbers = (size_t)KVT_CODE_TOKENS * head_dim;
	for (uint32_t i = 0; i < keys->n_pages; i++)
		for (size_t r = 0; r < page; r++) {
			uint32_t record = (uint32_t)(kvt_page_keys_id(keys, i) * page + r);
			kvt_code_build(&head->codes, record, KVT_ELEMENT_F16,
				keys->keys + (i * page + r) * record_numbers,
				sizeof(uint16_t) * head_dim, head->centre);
		}
	if (keys->n_pages > 0)
		head->n = MAX(head->n, kvt_page_keys_id(keys, keys->n_pages - 1) + 1);
	stats->sketch_bytes += keys->n_pages * page * (mean_bytes + detail_bytes);
	stats->sketch_tokens += (uint64_t)keys->n_pages * sketch->spec.block_tokens;
}

void kvt_code_sketch_query(
	kvt_code_sketch *sketch, uint32_t step, uint32_t head_index, const float *queries)
{
	sketch_head *head = &sketch->heads[head_index];
	size_t n = (size_t)sketch->spec.group * sketch->spec.head_dim;
	memcpy(head->queries, queries, sizeof(float) * n);
	head->query_step = step;
	head->has_query = true;
}

uint32_t kvt_code_sketch_pages(const kvt_code_sketch *sketch, uint32_t head)
{
	return sketch->heads[head].n;
}

bool kvt_code_sketch_has_query(const kvt_code_sketch *sketch, uint32_t head, uint32_t *step)
{
	*step = sketch->heads[head].query_step;
	return sketch->heads[head].has_query;
}

/* Adds up what the records of each page have, in place, a query head at a time. */
static void join_records(float *sums, uint32_t n_pages, uint32_t records)
{
	for (uint32_t i = 0; i < n_pages; i++) {
		float sum = 0;
		for (uint32_t r = 0; r < records; r++)
			sum += sums[(size_t)i * records + r];
		sums[i] = sum;
	}
}

/* The records of pages ids[n], or first .. first + n - 1. */
static kvt_page_list records_of(
	kvt_code_sketch *sketch, uint32_t first, uint32_t n, const uint32_t *ids)
{
	uint32_t records = sketch->records;
	kvt_page_list list = { .n = n * records, .first = first * records, .ids = NULL };
	if (!ids)
		return list;
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t r = 0; r < records; r++)
			sketch->records_of[i * records + r] = ids[i] * records + r;
	list.ids = sketch->records_of;
	return list;
}

/* Sums of e^logit of pages by query head, `pitch` numbers from one to the next. */
static void score_into(kvt_code_sketch *sketch, const sketch_head *head, uint32_t first, uint32_t n,
	const uint32_t *ids, float *sums, size_t pitch, kvt_prefetcher_stats *stats)
{
	const kvt_prefetcher_spec *spec = &sketch->spec;
	kvt_page_list list = records_of(sketch, first, n, ids);
	int status = kvt_code_score(sketch->isa, &head->codes, &sketch->query, &list, sums, pitch);
	g_assert(status == 0);
	for (uint32_t query = 0; query < spec->group && sketch->records > 1; query++)
		join_records(sums + query * pitch, n, sketch->records);
	stats->scored_pages += n;
	stats->scanned_bytes += (uint64_t)list.n * (kvt_code_mean_bytes(spec->head_dim) +
							   kvt_code_detail_bytes(spec->head_dim));
}

void kvt_code_sketch_score(kvt_code_sketch *sketch, uint32_t head_index, uint32_t first, uint32_t n,
	const uint32_t *ids, uint32_t *share, kvt_prefetcher_stats *stats)
{
	const sketch_head *head = &sketch->heads[head_index];
	size_t pitch = (size_t)n * sketch->records;
	g_assert(head->has_query);
	kvt_code_query_set(&sketch->query, head->queries, sketch->spec.scale);
	score_into(sketch, head, first, n, ids, sketch->sums, pitch, stats);
	kvt_group_shares(sketch->sums, pitch, sketch->spec.group, n, share);
	stats->queries++;
}

void kvt_code_sketch_score_more(kvt_code_sketch *sketch, uint32_t head_index, uint32_t n_before,
	uint32_t n, const uint32_t *ids, uint32_t *share, kvt_prefetcher_stats *stats)
{
	const sketch_head *head = &sketch->heads[head_index];
	size_t pitch = (size_t)sketch->spec.max_pages * sketch->records;
	g_assert(head->has_query);
	if (n_before == 0) {
		kvt_code_query_set(&sketch->query, head->queries, sketch->spec.scale);
		stats->queries++;
	}
	score_into(sketch, head, 0, n - n_before, ids + n_before, sketch->sums + n_before, pitch,
		stats);
	kvt_group_shares(sketch->sums, pitch, sketch->spec.group, n, share);
}

const float *kvt_code_sketch_centre(const kvt_code_sketch *sketch, uint32_t head)
{
	return sketch->heads[head].centre;
}

const float *kvt_code_sketch_queries(const kvt_code_sketch *sketch, uint32_t head)
{
	return sketch->heads[head].queries;
}

void kvt_code_sketch_distances(const kvt_code_sketch *sketch, uint32_t head, uint32_t page,
	const uint32_t *others, uint32_t n, float *distances)
{
	enum { AT_ONCE = 64 };
	const kvt_codes *codes = &sketch->heads[head].codes;
	uint32_t records = sketch->records, list[AT_ONCE];
	float parts[AT_ONCE];
	for (uint32_t done = 0; done < n; done += AT_ONCE) {
		uint32_t m = MIN(n - done, AT_ONCE);
		for (uint32_t i = 0; i < m; i++)
			distances[done + i] = 0;
		for (uint32_t r = 0; r < records; r++) {
			for (uint32_t i = 0; i < m; i++)
				list[i] = others[done + i] * records + r;
			int status =
				kvt_code_mean_distances(codes, page * records + r, list, m, parts);
			g_assert(status == 0);
			for (uint32_t i = 0; i < m; i++)
				distances[done + i] += parts[i];
		}
	}
}
