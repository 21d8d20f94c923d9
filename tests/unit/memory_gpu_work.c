/* memory_gpu_work.c: copies, checksums, attention, merges and waits, as a stream of memory_gpu.h
 * does them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "tests/unit/memory_gpu_internal.h"

static const void *find(memory_gpu *gpu, const void *memory, uint64_t bytes, const char *what)
{
	return memory_gpu_find(gpu, memory, bytes, false, what);
}

static void copy(memory_gpu *gpu, const memory_work *work)
{
	const uint8_t *snapshot = work->snapshot;
	for (unsigned i = 0; i < work->n; i++) {
		const kvt_gpu_copy *c = &work->copies[i];
		const void *from = c->from;
		void *to = c->to;
		if (memory_gpu_kind(gpu, from, c->bytes) == MEMORY_HOST) {
			from = snapshot;
			snapshot += c->bytes;
		} else {
			from = memory_gpu_find(gpu, from, c->bytes, true, "a copy's source");
		}
		/* of memory that is not pinned the call waits */
		if (memory_gpu_kind(gpu, to, c->bytes) != MEMORY_HOST)
			to = memory_gpu_find(gpu, to, c->bytes, true, "a copy's target");
		memcpy(to, from, c->bytes);
	}
}

static void checksum(memory_gpu *gpu, const memory_work *work)
{
	uint64_t *sums =
		memory_gpu_find(gpu, work->sums, work->n_pages * sizeof(*sums), true, "checksums");
	for (unsigned i = 0; i < work->n_pages; i++) {
		const kvt_cuda_page *page = &work->pages[i];
		sums[i] = XXH3_64bits(
			memory_gpu_find(gpu, page->page, page->bytes, true, "a page to be summed"),
			page->bytes);
	}
}

int memory_gpu_check_shape(const kvt_cuda_shape *s)
{
	bool element = s->element == KVT_ELEMENT_F16 || s->element == KVT_ELEMENT_BF16 ||
		       s->element == KVT_ELEMENT_E4M3;
	bool pages = s->page_tokens >= 16 && (s->page_tokens & (s->page_tokens - 1)) == 0;
	bool heads = s->heads >= 1 && s->heads <= 16 && s->kv_heads >= 1;
	bool strides = s->head_stride % 16 == 0 && s->value_offset % 16 == 0;
	bool good =
		element && pages && heads && strides && (s->head_dim == 64 || s->head_dim == 128);
	return good ? 0 : -EINVAL;
}

uint64_t memory_gpu_scratch(kvt_real_gpu *gpu, const kvt_cuda_shape *shape, uint32_t n_queries)
{
	if (memory_gpu_check_shape(shape) != 0)
		return 0;
	return (uint64_t)shape->kv_heads * n_queries * shape->heads * (shape->head_dim + 2) * 4 * 2;
}

/* The KV head's keys and values in the window's pages. */
static void find_pages(memory_gpu *gpu, const memory_work *work, uint32_t head, const void **keys,
	const void **values)
{
	const kvt_cuda_shape *s = &work->shape;
	const kvt_cuda_window *w = &work->window;
	const size_t row = s->head_dim * kvt_element_bytes(s->element);
	uint64_t n_pages = (w->skip + w->n_tokens + s->page_tokens - 1) / s->page_tokens;
	const void *const *list = memory_gpu_find(
		gpu, w->pages, n_pages * sizeof(void *), true, "a window's list of pages");
	for (uint64_t i = 0; w->n_tokens > 0 && i < n_pages; i++) {
		const uint8_t *key = (const uint8_t *)list[i] + head * s->head_stride;
		/* nothing is read of tokens beside the window's */
		uint64_t first = i == 0 ? w->skip : 0;
		uint64_t end = MIN(w->skip + w->n_tokens - i * s->page_tokens, s->page_tokens);
		g_assert((uintptr_t)list[i] % 16 == 0);
		keys[i] =
			(const uint8_t *)find(gpu, key + first * row, (end - first) * row, "keys") -
			first * row;
		values[i] = (const uint8_t *)find(gpu, key + s->value_offset + first * row,
				    (end - first) * row, "values") -
			    first * row;
	}
}

static void attend(memory_gpu *gpu, const memory_work *work)
{
	const kvt_cuda_shape *s = &work->shape;
	const kvt_cuda_queries *q = &work->queries;
	const kvt_cuda_window *w = &work->window;
	const uint64_t rows = (uint64_t)q->n * s->heads, n_pages = w->n_tokens / s->page_tokens + 2;
	const size_t row = s->head_dim * kvt_element_bytes(s->element);
	kvt_attention_shape shape = { s->element, s->head_dim, s->heads, s->page_tokens, row, row,
		s->scale, s->key_scale, s->value_scale };
	g_autofree const void **keys = g_new(const void *, n_pages);
	g_autofree const void **values = g_new(const void *, n_pages);
	void *own = aligned_alloc(64, (kvt_attention_scratch_bytes(&shape, q->n) + 63) / 64 * 64);
	uint64_t scratch_bytes = memory_gpu_scratch(&gpu->base, s, q->n);
	float *output = memory_gpu_find(
		gpu, work->into.output, s->kv_heads * rows * s->head_dim * 4, false, "outputs");
	float *lse = memory_gpu_find(gpu, work->into.lse, s->kv_heads * rows * 4, false, "lse");
	memset(memory_gpu_find(gpu, work->scratch, scratch_bytes, false, "scratch"), 0xff,
		scratch_bytes);
	for (uint32_t head = 0; head < s->kv_heads; head++) {
		kvt_attention_partial partial = { output + head * rows * s->head_dim,
			lse + head * rows, NULL };
		kvt_attention_window window = { keys, values, w->n_tokens, w->skip, w->seen };
		find_pages(gpu, work, head, keys, values);
		int status = kvt_attention(kvt_isa_best(), &shape,
			find(gpu, q->queries + head * q->stride, rows * s->head_dim * 4, "queries"),
			q->n, &window, &partial, own);
		g_assert_cmpint(status, ==, 0);
	}
	free(own);
}

static void merge(memory_gpu *gpu, const memory_work *work)
{
	uint64_t numbers = work->n_rows * work->head_dim * 4, n = work->n_rows * 4;
	kvt_attention_partial into = { memory_gpu_find(gpu, work->into.output, numbers, false,
					       "the outputs to merge into"),
		memory_gpu_find(gpu, work->into.lse, n, false, "the lse to merge into"), NULL };
	kvt_attention_partial from = { memory_gpu_find(gpu, work->from.output, numbers, false,
					       "the outputs to merge"),
		memory_gpu_find(gpu, work->from.lse, n, false, "the lse to merge"), NULL };
	kvt_attention_merge(&into, &from, work->n_rows, work->head_dim);
}

static void wait_time(kvt_time duration)
{
	int64_t ns = duration / KVT_NANOSECOND + 1;
	struct timespec t = { ns / 1000000000, ns % 1000000000 };
	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR)
		;
}

void memory_gpu_do(memory_gpu *gpu, const memory_work *work)
{
	switch (work->kind) {
	case MEMORY_WORK_COPY:
		copy(gpu, work);
		break;
	case MEMORY_WORK_CHECKSUM:
		checksum(gpu, work);
		break;
	case MEMORY_WORK_ATTEND:
		attend(gpu, work);
		break;
	case MEMORY_WORK_MERGE:
		merge(gpu, work);
		break;
	case MEMORY_WORK_WAIT_TIME:
		wait_time(work->duration);
		break;
	default:
		g_assert_not_reached();
	}
}
