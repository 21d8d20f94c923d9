/* cpu_attention.c: stretches of tokens, the pages that they lie in, and their partial results. */
#include "emu/device/cpu_attention.h"

#include <math.h>
#include <stdlib.h>

/* A thread's own memory; grows. */
typedef struct kvt_cpu_scratch {
	size_t bytes, n_pages, n_rows;
	void *kernel;
	const void **keys, **values;
	kvt_attention_partial piece; /* of a stretch that lies in two runs */
} kvt_cpu_scratch;

static void partial_resize(kvt_attention_partial *partial, size_t n_rows, uint32_t head_dim)
{
	partial->output = g_renew(float, partial->output, n_rows *head_dim);
	partial->lse = g_renew(float, partial->lse, n_rows);
	partial->lse_rest = g_renew(float, partial->lse_rest, n_rows);
}

static void partial_clear(kvt_attention_partial *partial)
{
	g_free(partial->output);
	g_free(partial->lse);
	g_free(partial->lse_rest);
}

/* The rows of one KV head. */
static kvt_attention_partial rows_of(
	const kvt_attention_partial *partial, size_t row, uint32_t head_dim)
{
	return (kvt_attention_partial){ .output = partial->output + row * head_dim,
		.lse = partial->lse + row,
		.lse_rest = partial->lse_rest + row };
}

void kvt_cpu_queries_reserve(kvt_cpu_queries *q, const kvt_kv_shape *shape, uint64_t tokens)
{
	size_t rows = (size_t)tokens * shape->kv_heads * shape->heads;
	if (rows <= q->capacity)
		return;
	q->capacity = rows;
	partial_resize(&q->so_far, rows, shape->head_dim);
	partial_resize(&q->part, rows, shape->head_dim);
}

void kvt_cpu_queries_clear(kvt_cpu_queries *q)
{
	g_free(q->own);
	partial_clear(&q->so_far);
	partial_clear(&q->part);
}

void kvt_cpu_attention_init(
	kvt_cpu_attention *attention, const kvt_kv_source *source, kvt_isa isa, unsigned threads)
{
	*attention = (kvt_cpu_attention){ .source = source, .isa = isa, .n_threads = threads };
	attention->scratch = g_new0(kvt_cpu_scratch, threads);
}

void kvt_cpu_attention_clear(kvt_cpu_attention *attention)
{
	for (unsigned i = 0; i < attention->n_threads; i++) {
		kvt_cpu_scratch *scratch = &attention->scratch[i];
		free(scratch->kernel);
		g_free(scratch->keys);
		g_free(scratch->values);
		partial_clear(&scratch->piece);
	}
	for (unsigned i = 0; i < attention->n_parts; i++)
		partial_clear(&attention->parts[i]);
	g_free(attention->scratch);
	g_free(attention->parts);
}

void kvt_cpu_attention_begin(kvt_cpu_attention *attention, const kvt_work *work, const void *pages,
	uint64_t first_page, kvt_cpu_queries *q)
{
	const kvt_kv_shape *shape = &attention->source->shape;
	attention->work = *work;
	attention->pages = pages;
	attention->first_page = first_page;
	attention->q = q;
	attention->status = 0;
	/* KV heads are cut where there are too few to keep all threads busy to the end */
	unsigned threads = attention->n_threads, splits = 1;
	while (shape->kv_heads * splits % threads != 0 && splits < threads)
		splits++;
	if (work->kv_tokens < 64 * (uint64_t)splits)
		splits = 1;
	attention->splits = splits;
	attention->n_tasks = shape->kv_heads * splits;
	if (attention->n_parts < attention->n_tasks) {
		attention->parts =
			g_renew(kvt_attention_partial, attention->parts, attention->n_tasks);
		for (unsigned i = attention->n_parts; i < attention->n_tasks; i++)
			attention->parts[i] = (kvt_attention_partial){ 0 };
		attention->n_parts = attention->n_tasks;
	}
	for (unsigned i = 0; splits > 1 && i < attention->n_tasks; i++)
		partial_resize(
			&attention->parts[i], (size_t)work->tokens * shape->heads, shape->head_dim);
}

/* Attends to the run of tokens [first, end), of which query token i sees the first seen + i. */
static int attend_run(const kvt_cpu_attention *attention, kvt_cpu_scratch *scratch,
	unsigned kv_head, uint64_t first, uint64_t end, uint64_t seen,
	const kvt_attention_partial *out)
{
	const kvt_kv_shape *shape = &attention->source->shape;
	const kvt_work *work = &attention->work;
	kvt_attention_shape kernel = kvt_kv_attention_shape(shape);
	uint64_t page = first / shape->page_tokens;
	size_t n_pages = (size_t)((end + shape->page_tokens - 1) / shape->page_tokens - page);
	const uint8_t *at = attention->pages + (page - attention->first_page) * shape->page_bytes +
			    2 * kv_head * shape->block_bytes;
	if (scratch->n_pages < n_pages) {
		scratch->n_pages = n_pages;
		scratch->keys = g_renew(const void *, scratch->keys, n_pages);
		scratch->values = g_renew(const void *, scratch->values, n_pages);
	}
	for (size_t i = 0; i < n_pages; i++, at += shape->page_bytes) {
		scratch->keys[i] = at;
		scratch->values[i] = at + shape->block_bytes;
	}
	size_t bytes = kvt_attention_scratch_bytes(&kernel, (uint32_t)work->tokens);
	if (scratch->bytes < bytes) {
		free(scratch->kernel);
		scratch->kernel = aligned_alloc(64, bytes);
		scratch->bytes = bytes;
		g_assert(scratch->kernel);
	}
	kvt_attention_window window = { .keys = scratch->keys,
		.values = scratch->values,
		.n_tokens = end - first,
		.skip = (uint32_t)(first % shape->page_tokens),
		.seen = seen };
	const kvt_cpu_queries *q = attention->q;
	return kvt_attention(attention->isa, &kernel, q->queries + kv_head * q->stride,
		(uint32_t)work->tokens, &window, out, scratch->kernel);
}

/* One run more of a stretch; the first one is the result so far. */
static int add_run(const kvt_cpu_attention *attention, kvt_cpu_scratch *scratch, unsigned kv_head,
	uint64_t first, uint64_t end, uint64_t seen, const kvt_attention_partial *out, bool *begun)
{
	const kvt_kv_shape *shape = &attention->source->shape;
	size_t rows = (size_t)attention->work.tokens * shape->heads;
	if (!*begun) {
		*begun = true;
		return attend_run(attention, scratch, kv_head, first, end, seen, out);
	}
	if (scratch->n_rows < rows) {
		scratch->n_rows = rows;
		partial_resize(&scratch->piece, rows, shape->head_dim);
	}
	int status = attend_run(attention, scratch, kv_head, first, end, seen, &scratch->piece);
	if (status == 0)
		kvt_attention_merge(out, &scratch->piece, rows, shape->head_dim);
	return status;
}

/*
 * Stretch `split` of the work's tokens: of kv_tokens earlier ones, counted without the gap, its
 * equal part; the last one also has the query tokens themselves, where they see each other.
 */
static int attend_stretch(kvt_cpu_attention *attention, kvt_cpu_scratch *scratch, unsigned kv_head,
	unsigned split, const kvt_attention_partial *out)
{
	const kvt_work *work = &attention->work;
	uint64_t from = work->kv_tokens * split / attention->splits;
	uint64_t to = work->kv_tokens * (split + 1) / attention->splits;
	uint64_t before = work->gap > 0 ? work->gap_first - work->first : work->kv_tokens;
	bool begun = false, last = split + 1 == attention->splits;
	int status = 0;
	before = MIN(before, work->kv_tokens);
	if (from < MIN(to, before)) {
		uint64_t first = work->first + from, end = work->first + MIN(to, before);
		bool own = work->causal && last && to <= before && work->gap == 0;
		/* the query tokens come right after */
		status = add_run(attention, scratch, kv_head, first, own ? end + work->tokens : end,
			own ? end - first + 1 : end - first + work->tokens, out, &begun);
		if (own)
			return status;
	}
	uint64_t first = work->first + work->gap + MAX(from, before);
	uint64_t end = work->first + work->gap + MAX(to, before);
	if (work->causal && last && status == 0)
		return add_run(attention, scratch, kv_head, first, end + work->tokens,
			end - first + 1, out, &begun);
	if (status == 0 && (first < end || !begun))
		status = add_run(attention, scratch, kv_head, first, end,
			end - first + work->tokens, out, &begun);
	return status;
}

static const kvt_attention_partial *result_of(const kvt_cpu_attention *attention)
{
	return attention->work.causal ? &attention->q->so_far : &attention->q->part;
}

void kvt_cpu_attention_task(kvt_cpu_attention *attention, unsigned index, unsigned thread)
{
	const kvt_kv_shape *shape = &attention->source->shape;
	unsigned kv_head = index / attention->splits;
	size_t rows = (size_t)attention->work.tokens * shape->heads;
	kvt_attention_partial out =
		attention->splits > 1
			? attention->parts[index]
			: rows_of(result_of(attention), kv_head * rows, shape->head_dim);
	int status = attend_stretch(
		attention, &attention->scratch[thread], kv_head, index % attention->splits, &out);
	if (status != 0)
		__atomic_store_n(&attention->status, status, __ATOMIC_RELAXED);
}

void kvt_cpu_attention_end(kvt_cpu_attention *attention)
{
	const kvt_kv_shape *shape = &attention->source->shape;
	size_t rows = (size_t)attention->work.tokens * shape->heads;
	for (unsigned i = 0; attention->splits > 1 && i < attention->n_tasks; i++) {
		kvt_attention_partial out = rows_of(
			result_of(attention), i / attention->splits * rows, shape->head_dim);
		if (i % attention->splits == 0)
			for (size_t row = 0; row < rows; row++) {
				out.lse[row] = -INFINITY;
				out.lse_rest[row] = 0;
			}
		kvt_attention_merge(&out, &attention->parts[i], rows, shape->head_dim);
	}
}
