/* gpu_conformance.c: each test opens a GPU of its own and leaves nothing behind. */
#include "tests/unit/gpu_conformance.h"

#include <errno.h>
#include <glib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "sim/base/rng.h"

typedef struct test {
	const gpu_conformance *suite;
	uint64_t cap;
	void (*run)(kvt_real_gpu *gpu, const gpu_conformance *suite);
} test;

/* Pinned memory of the host. */
static void *pinned(kvt_real_gpu *gpu, uint64_t bytes)
{
	void *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
	g_assert_cmpint(gpu->ops->pin(gpu, memory, bytes), ==, 0);
	return memory;
}

static void unpinned(kvt_real_gpu *gpu, void *memory)
{
	gpu->ops->unpin(gpu, memory);
	free(memory);
}

static void wait_for(kvt_gpu_event *event)
{
	int status;
	while ((status = event->gpu->ops->query(event)) == -EBUSY)
		g_usleep(20);
	if (status != 0)
		g_error("the GPU failed: %s", event->gpu->ops->failure(event->gpu));
}

/* All that the stream has is over. */
static void drain(kvt_gpu_stream *stream)
{
	const kvt_gpu_ops *ops = stream->gpu->ops;
	kvt_gpu_event *event = ops->event_new(stream->gpu);
	g_assert_cmpint(ops->record(stream, event), ==, 0);
	wait_for(event);
	ops->event_free(event);
}

static void copy_one(kvt_gpu_stream *stream, void *to, const void *from, uint64_t bytes)
{
	kvt_gpu_copy copy = { to, from, bytes };
	g_assert_cmpint(stream->gpu->ops->copy(stream, &copy, 1, KVT_GPU_COPY_AUTOMATIC), ==, 0);
}

static void fill(uint8_t *bytes, uint64_t n, uint64_t seed)
{
	kvt_rng rng = kvt_rng_init(seed, n);
	for (uint64_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)kvt_rng_below(&rng, 256);
}

static void test_memory(kvt_real_gpu *gpu, const gpu_conformance *suite)
{
	const kvt_gpu_ops *ops = gpu->ops;
	uint64_t now, peak;
	kvt_gpu_description description;
	ops->describe(gpu, &description);
	g_assert_cmpuint(strlen(description.name), >, 0);
	g_assert_cmpuint(description.memory, >, 0);
	void *a = ops->alloc(gpu, 100000), *b = ops->alloc(gpu, 1);
	g_assert_nonnull(a);
	g_assert_nonnull(b);
	g_assert_cmpuint((uintptr_t)a % 4096, ==, 0);
	g_assert_cmpuint((uintptr_t)b % 4096, ==, 0);
	/* the cap is 1 MiB */
	g_assert_null(ops->alloc(gpu, 1 << 20));
	ops->memory_used(gpu, &now, &peak);
	g_assert_cmpuint(now, >=, 100001);
	g_assert_cmpuint(now, <=, 1 << 20);
	g_assert_cmpuint(peak, ==, now);
	ops->release(gpu, a);
	ops->release(gpu, NULL);
	void *c = ops->alloc(gpu, 900000);
	g_assert_nonnull(c);
	ops->release(gpu, c);
	ops->release(gpu, b);
	ops->memory_used(gpu, &now, &peak);
	g_assert_cmpuint(now, ==, 0);
	g_assert_cmpuint(peak, >=, 900001);
	g_assert_cmpuint(peak, <=, 1 << 20);
}

/* Scattered runs of a size, to the device and back, in one way; pinned or not. */
static void copy_some(kvt_real_gpu *gpu, unsigned n, uint64_t size, kvt_gpu_copy_way way, bool pin)
{
	const kvt_gpu_ops *ops = gpu->ops;
	/* gaps between runs stay as they were */
	const uint64_t pitch = size + 48, bytes = n * pitch;
	uint8_t *from = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
	uint8_t *to = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
	uint8_t *device = ops->alloc(gpu, bytes), *other = ops->alloc(gpu, bytes);
	kvt_gpu_stream *stream = ops->stream_new(gpu, false);
	g_autofree kvt_gpu_copy *in = g_new(kvt_gpu_copy, n), *across = g_new(kvt_gpu_copy, n),
				*out = g_new(kvt_gpu_copy, n);
	g_assert_true(device && other && stream);
	if (pin) {
		g_assert_cmpint(ops->pin(gpu, from, bytes), ==, 0);
		g_assert_cmpint(ops->pin(gpu, to, bytes), ==, 0);
	}
	fill(from, bytes, size);
	memset(to, 0x5a, bytes);
	for (unsigned i = 0; i < n; i++) {
		uint64_t a = i * pitch, b = (i * UINT64_C(7) + 3) % n * pitch,
			 c = (n - 1 - i) * pitch;
		in[i] = (kvt_gpu_copy){ device + b, from + a, size };
		across[i] = (kvt_gpu_copy){ other + c, device + b, size };
		out[i] = (kvt_gpu_copy){ to + a, other + c, size };
	}
	g_assert_cmpint(ops->copy(stream, in, n, way), ==, 0);
	g_assert_cmpint(ops->copy(stream, across, n, way), ==, 0);
	g_assert_cmpint(ops->copy(stream, out, n, way), ==, 0);
	/* the lists were read */
	memset(in, 0, n * sizeof(*in));
	memset(across, 0, n * sizeof(*across));
	memset(out, 0, n * sizeof(*out));
	drain(stream);
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *run = to + i * pitch;
		if (memcmp(run, from + i * pitch, size) != 0)
			g_error("run %u of %" G_GUINT64_FORMAT " bytes, way %d, %s: wrong bytes", i,
				size, (int)way, pin ? "pinned" : "not pinned");
		for (unsigned j = 0; j < 48; j++)
			g_assert_cmpuint(run[size + j], ==, 0x5a);
	}
	ops->stream_free(stream);
	if (pin) {
		ops->unpin(gpu, from);
		ops->unpin(gpu, to);
	}
	ops->release(gpu, device);
	ops->release(gpu, other);
	free(from);
	free(to);
}

static void copy_runs(kvt_real_gpu *gpu, uint64_t size, kvt_gpu_copy_way way, bool pin)
{
	copy_some(gpu, 24, size, way, pin);
}

static void test_copies(kvt_real_gpu *gpu, const gpu_conformance *suite)
{
	static const uint64_t sizes[] = { 16, 256, 4096, 4112, 65536, 200000 };
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
		copy_runs(gpu, sizes[i], KVT_GPU_COPY_AUTOMATIC, true);
		copy_runs(gpu, sizes[i], KVT_GPU_COPY_ENGINE, true);
		copy_runs(gpu, sizes[i], KVT_GPU_COPY_KERNEL, true);
	}
	/* what no kernel can copy */
	copy_runs(gpu, 7, KVT_GPU_COPY_AUTOMATIC, true);
	copy_runs(gpu, 4097, KVT_GPU_COPY_ENGINE, true);
	copy_runs(gpu, 4096, KVT_GPU_COPY_ENGINE, false);
	copy_runs(gpu, 4096, KVT_GPU_COPY_AUTOMATIC, false);
	/* as many bytes as are worth being shared among those who copy: 11 MB */
	copy_some(gpu, 2817, 4096, KVT_GPU_COPY_AUTOMATIC, true);
	copy_some(gpu, 705, 16384, KVT_GPU_COPY_AUTOMATIC, true);
	copy_some(gpu, 289, 40000, KVT_GPU_COPY_AUTOMATIC, true);
	copy_some(gpu, 149, 77777, KVT_GPU_COPY_AUTOMATIC, true);
}

/* Sums of pages as they are when the stream comes to them, of all sizes in one call, to memory of
 * either side; more of them than there is room for in one list. */
static void test_checksums(kvt_real_gpu *gpu, const gpu_conformance *suite)
{
	enum { PAGES = 60000, BYTES = 4 << 20 };
	static const uint64_t sizes[] = { 256, 1040, 4096, 16384, 65552, 1048576, 3145744 };
	const kvt_gpu_ops *ops = gpu->ops;
	if (!ops->checksum) {
		g_test_skip("it makes no checksums");
		return;
	}
	kvt_gpu_stream *stream = ops->stream_new(gpu, false);
	uint8_t *bytes = pinned(gpu, BYTES), *device = ops->alloc(gpu, BYTES);
	uint64_t *sums = pinned(gpu, PAGES * sizeof(*sums)), *back = pinned(gpu, 8 * sizeof(*sums));
	uint64_t *far = ops->alloc(gpu, PAGES * sizeof(*far));
	g_autofree kvt_cuda_page *pages = g_new(kvt_cuda_page, PAGES);
	g_autofree uint64_t *at = g_new(uint64_t, PAGES);
	fill(bytes, BYTES, 3);
	kvt_rng rng = kvt_rng_init(8, 8);
	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t size = sizes[i < 70 ? i % G_N_ELEMENTS(sizes) : 0];
		at[i] = kvt_rng_below(&rng, (BYTES - size) / 16) * 16;
		pages[i] = (kvt_cuda_page){ device + at[i], size };
	}
	/* one is pinned memory */
	pages[3].page = bytes + at[3];
	copy_one(stream, device, bytes, BYTES);
	g_assert_cmpint(ops->checksum(stream, pages, PAGES, sums), ==, 0);
	g_assert_cmpint(ops->checksum(stream, pages, 7, far), ==, 0);
	g_assert_cmpint(ops->checksum(stream, pages, 0, sums), ==, 0);
	copy_one(stream, back, far, 7 * sizeof(*far));
	kvt_cuda_page odd[] = { { device + 8, 256 }, { device, 264 }, { device, 240 },
		{ pages, 256 } };
	for (unsigned i = 0; i < G_N_ELEMENTS(odd); i++)
		g_assert_cmpint(ops->checksum(stream, &odd[i], 1, sums), ==, -EINVAL);
	g_assert_cmpint(ops->checksum(stream, pages, 1, at), ==, -EINVAL);
	drain(stream);
	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t size = sizes[i < 70 ? i % G_N_ELEMENTS(sizes) : 0];
		g_assert_cmphex(sums[i], ==, XXH3_64bits(bytes + at[i], size));
		if (i < 7)
			g_assert_cmphex(back[i], ==, sums[i]);
	}
	ops->stream_free(stream);
	unpinned(gpu, bytes);
	unpinned(gpu, sums);
	unpinned(gpu, back);
	ops->release(gpu, device);
	ops->release(gpu, far);
}

static void test_refused(kvt_real_gpu *gpu, const gpu_conformance *suite)
{
	const kvt_gpu_ops *ops = gpu->ops;
	uint8_t *device = ops->alloc(gpu, 4096), *host = pinned(gpu, 4096);
	kvt_gpu_stream *stream = ops->stream_new(gpu, true);
	kvt_gpu_copy odd = { device, host + 8, 16 }, short_one = { device, host, 24 };
	g_assert_cmpint(ops->copy(stream, &odd, 1, KVT_GPU_COPY_KERNEL), ==, -EINVAL);
	g_assert_cmpint(ops->copy(stream, &short_one, 1, KVT_GPU_COPY_KERNEL), ==, -EINVAL);
	g_assert_cmpint(ops->copy(stream, &odd, 0, KVT_GPU_COPY_AUTOMATIC), ==, 0);
	g_assert_cmpint(ops->pin(gpu, host, 4096), ==, -EINVAL);
	kvt_cuda_shape shape = { KVT_ELEMENT_BF16, 96, 1, 1, 16, 6144, 3072, 1, 1, 1, 0 };
	g_assert_cmpuint(ops->scratch_bytes(gpu, &shape, 1), ==, 0);
	kvt_cuda_queries queries = { (float *)(void *)device, 96, 1 };
	kvt_cuda_window window = { (const void *const *)(void *)host, 16, 0, 16, 0 };
	kvt_cuda_partial partial = { (float *)(void *)device, (float *)(void *)device };
	g_assert_cmpint(
		ops->attend(stream, &shape, &queries, &window, &partial, device), ==, -EINVAL);
	/* none of that did any harm */
	drain(stream);
	ops->stream_free(stream);
	ops->release(gpu, device);
	unpinned(gpu, host);
}

/* One stream goes on when another has come so far, and no sooner; an event is used again. */
static void test_order(kvt_real_gpu *gpu, const gpu_conformance *suite)
{
	enum { ROUNDS = 50, BYTES = 8192 };
	const kvt_gpu_ops *ops = gpu->ops;
	kvt_gpu_stream *a = ops->stream_new(gpu, false), *b = ops->stream_new(gpu, true);
	kvt_gpu_event *there = ops->event_new(gpu), *back = ops->event_new(gpu);
	uint8_t *device = ops->alloc(gpu, BYTES), *second = ops->alloc(gpu, BYTES);
	uint8_t *in = pinned(gpu, (uint64_t)ROUNDS * BYTES);
	uint8_t *out = pinned(gpu, (uint64_t)ROUNDS * BYTES);
	fill(in, (uint64_t)ROUNDS * BYTES, 5);
	for (unsigned i = 0; i < ROUNDS; i++) {
		copy_one(a, device, in + i * BYTES, BYTES);
		g_assert_cmpint(ops->wait_time(a, 20 * KVT_MICROSECOND), ==, 0);
		copy_one(a, second, device, BYTES);
		g_assert_cmpint(ops->record(a, there), ==, 0);
		g_assert_cmpint(ops->wait_event(b, there), ==, 0);
		copy_one(b, out + i * BYTES, second, BYTES);
		g_assert_cmpint(ops->record(b, back), ==, 0);
		g_assert_cmpint(ops->wait_event(a, back), ==, 0);
	}
	drain(a);
	g_assert_cmpint(ops->query(there), ==, 0);
	g_assert_cmpint(ops->query(back), ==, 0);
	/* one that is over keeps nobody waiting */
	g_assert_cmpint(ops->wait_event(b, there), ==, 0);
	drain(b);
	for (unsigned i = 0; i < ROUNDS; i++)
		if (memcmp(in + i * BYTES, out + i * BYTES, BYTES) != 0)
			g_error("round %u: streams were not in order", i);
	ops->event_free(there);
	ops->event_free(back);
	ops->stream_free(a);
	ops->stream_free(b);
	ops->release(gpu, device);
	ops->release(gpu, second);
	unpinned(gpu, in);
	unpinned(gpu, out);
}

static void test_waits(kvt_real_gpu *gpu, const gpu_conformance *suite)
{
	static const kvt_time times[] = { 0, KVT_MICROSECOND, 20 * KVT_MICROSECOND,
		500 * KVT_MICROSECOND, 20 * KVT_MILLISECOND };
	const kvt_gpu_ops *ops = gpu->ops;
	kvt_gpu_stream *stream = ops->stream_new(gpu, false);
	kvt_gpu_event *from = ops->event_new(gpu), *to = ops->event_new(gpu);
	for (unsigned i = 0; i < G_N_ELEMENTS(times); i++) {
		kvt_time best = KVT_TIME_NEVER;
		for (unsigned repeat = 0; repeat < 5; repeat++) {
			/* calls are queued meanwhile: the host may take longer for each */
			g_assert_cmpint(ops->wait_time(stream, 500 * KVT_MICROSECOND), ==, 0);
			g_assert_cmpint(ops->record(stream, from), ==, 0);
			for (unsigned j = 0; j < 4; j++)
				g_assert_cmpint(ops->wait_time(stream, times[i]), ==, 0);
			g_assert_cmpint(ops->record(stream, to), ==, 0);
			wait_for(to);
			g_assert_cmpint(ops->query(from), ==, 0);
			best = MIN(best, ops->elapsed(from, to));
		}
		g_test_message("4 waits of %.1f us took %.1f us", (double)times[i] * 1e-6,
			(double)best * 1e-6);
		/* clocks of events count in half microseconds, and so may calls be taken off */
		bool exact = best >= 4 * times[i] - 4 * KVT_MICROSECOND;
		if (suite->wait_slack > 0)
			exact &= best <= 4 * (times[i] + suite->wait_slack);
		if (!exact)
			g_test_fail();
	}
	/* it is under way at first */
	g_assert_cmpint(ops->wait_time(stream, 50 * KVT_MILLISECOND), ==, 0);
	g_assert_cmpint(ops->record(stream, to), ==, 0);
	g_assert_cmpint(ops->query(to), ==, -EBUSY);
	wait_for(to);
	ops->event_free(from);
	ops->event_free(to);
	ops->stream_free(stream);
}

/* A problem of attention, in memory of the host and of the device. */
typedef struct problem {
	kvt_cuda_shape shape;
	kvt_cuda_window window;
	uint32_t n_queries;
	uint64_t page_bytes, n_pages, rows;
	uint8_t *pages, *device_pages;
	float *queries, *device_queries;
	const void **list, **keys, **values;
} problem;

static problem *problem_new(kvt_real_gpu *gpu, kvt_gpu_stream *stream, kvt_cuda_shape shape,
	uint32_t n_queries, uint64_t n_tokens, uint32_t skip, uint64_t seen)
{
	const kvt_gpu_ops *ops = gpu->ops;
	problem *p = g_new0(problem, 1);
	const uint64_t block =
		(uint64_t)shape.page_tokens * shape.head_dim * kvt_element_bytes(shape.element);
	shape.head_stride = 2 * block;
	shape.value_offset = block;
	p->shape = shape;
	p->n_queries = n_queries;
	p->page_bytes = 2 * block * shape.kv_heads;
	p->n_pages = (skip + n_tokens + shape.page_tokens - 1) / shape.page_tokens;
	p->rows = (uint64_t)n_queries * shape.heads;
	p->pages = pinned(gpu, p->n_pages * p->page_bytes);
	p->queries = pinned(gpu, shape.kv_heads * p->rows * shape.head_dim * 4);
	p->list = pinned(gpu, p->n_pages * sizeof(void *));
	p->keys = g_new(const void *, p->n_pages);
	p->values = g_new(const void *, p->n_pages);
	p->device_pages = ops->alloc(gpu, p->n_pages * p->page_bytes);
	p->device_queries = ops->alloc(gpu, shape.kv_heads * p->rows * shape.head_dim * 4);
	g_assert_true(p->device_pages && p->device_queries);
	/* tokens beside the window are NaN */
	memset(p->pages, 0xff, p->n_pages * p->page_bytes);
	kvt_rng rng = kvt_rng_init(n_tokens, shape.head_dim);
	g_autofree float *row = g_new(float, shape.head_dim);
	const uint64_t row_bytes = block / shape.page_tokens;
	for (uint64_t t = skip; t < skip + n_tokens; t++)
		for (uint32_t b = 0; b < 2 * shape.kv_heads; b++) {
			for (uint32_t i = 0; i < shape.head_dim; i++)
				row[i] = (float)(kvt_rng_uniform(&rng) * 4 - 2);
			kvt_elements_from_float(shape.element, row, shape.head_dim,
				p->pages + t / shape.page_tokens * p->page_bytes + b * block +
					t % shape.page_tokens * row_bytes);
		}
	for (uint64_t i = 0; i < shape.kv_heads * p->rows * shape.head_dim; i++)
		p->queries[i] = (float)(kvt_rng_uniform(&rng) * 2 - 1);
	for (uint64_t i = 0; i < p->n_pages; i++) /* in another order than in memory */
		p->list[i] = p->device_pages + (p->n_pages - 1 - i) * p->page_bytes;
	for (uint64_t i = 0; i < p->n_pages; i++)
		copy_one(stream, p->device_pages + (p->n_pages - 1 - i) * p->page_bytes,
			p->pages + i * p->page_bytes, p->page_bytes);
	copy_one(stream, p->device_queries, p->queries,
		shape.kv_heads * p->rows * shape.head_dim * 4);
	p->window = (kvt_cuda_window){ p->list, n_tokens, skip, seen, 0 };
	return p;
}

static void problem_free(kvt_real_gpu *gpu, problem *p)
{
	gpu->ops->release(gpu, p->device_pages);
	gpu->ops->release(gpu, p->device_queries);
	unpinned(gpu, p->pages);
	unpinned(gpu, p->queries);
	unpinned(gpu, p->list);
	g_free(p->keys);
	g_free(p->values);
	g_free(p);
}

/* How far outputs and lse are from double precision, at most. */
static double problem_error(problem *p, const float *output, const float *lse)
{
	const kvt_cuda_shape *s = &p->shape;
	const size_t row = s->head_dim * kvt_element_bytes(s->element);
	kvt_attention_shape shape = { s->element, s->head_dim, s->heads, s->page_tokens, row, row,
		s->scale, s->key_scale, s->value_scale };
	g_autofree double *exact = g_new(double, p->rows * s->head_dim);
	g_autofree double *exact_lse = g_new(double, p->rows);
	double most = 0;
	for (uint32_t head = 0; head < s->kv_heads; head++) {
		for (uint64_t i = 0; i < p->n_pages; i++) {
			p->keys[i] = p->pages + i * p->page_bytes + head * s->head_stride;
			p->values[i] = (const uint8_t *)p->keys[i] + s->value_offset;
		}
		kvt_attention_window window = { p->keys, p->values, p->window.n_tokens,
			p->window.skip, p->window.seen };
		kvt_attention_exact(&shape, p->queries + head * p->rows * s->head_dim, p->n_queries,
			&window, exact, exact_lse);
		for (uint64_t i = 0; i < p->rows * s->head_dim; i++) {
			double e = fabs(output[head * p->rows * s->head_dim + i] - exact[i]);
			most = e <= most ? most : e;
		}
		for (uint64_t i = 0; i < p->rows; i++) {
			double e = fabs(lse[head * p->rows + i] - exact_lse[i]);
			most = e <= most ? most : e;
		}
	}
	return most;
}

/* One call over everything, and two calls over parts of it that are merged. */
static void check_problem(
	kvt_real_gpu *gpu, kvt_gpu_stream *stream, problem *p, uint64_t first, const char *what)
{
	const kvt_gpu_ops *ops = gpu->ops;
	const kvt_cuda_shape *s = &p->shape;
	const uint64_t n = s->kv_heads * p->rows, numbers = n * s->head_dim;
	kvt_cuda_queries queries = { p->device_queries, p->rows * s->head_dim, p->n_queries };
	uint64_t scratch_bytes = ops->scratch_bytes(gpu, s, p->n_queries);
	float *device[4], *host = pinned(gpu, (numbers + n) * 4);
	g_assert_cmpuint(scratch_bytes, >, 0);
	for (unsigned i = 0; i < 4; i++)
		device[i] = ops->alloc(gpu, (i % 2 ? n : numbers) * 4);
	void *scratch = ops->alloc(gpu, scratch_bytes);
	kvt_cuda_partial whole = { device[0], device[1] }, part = { device[2], device[3] };
	memset(host, 0xff, (numbers + n) * 4);
	for (unsigned split = 0; split < (first > 0 ? 2 : 1); split++) {
		kvt_cuda_window a = p->window, b = p->window;
		for (unsigned i = 0; i < 4; i++)
			copy_one(stream, device[i], host, (i % 2 ? n : numbers) * 4);
		if (split) { /* the first tokens, which all queries see, and the others */
			a.n_tokens = a.seen = first;
			b.pages += (b.skip + first) / s->page_tokens;
			b.skip = (uint32_t)((b.skip + first) % s->page_tokens);
			b.n_tokens -= first;
			b.seen -= first;
		}
		int status = ops->attend(stream, s, &queries, &a, &whole, scratch);
		g_assert_cmpint(status, ==, 0);
		if (split) {
			g_assert_cmpint(
				ops->attend(stream, s, &queries, &b, &part, scratch), ==, 0);
			g_assert_cmpint(ops->merge(stream, &whole, &part, n, s->head_dim), ==, 0);
		}
		copy_one(stream, host, whole.output, numbers * 4);
		copy_one(stream, host + numbers, whole.lse, n * 4);
		drain(stream);
		double error = problem_error(p, host, host + numbers);
		g_test_message("%s%s: largest error %.2g", what, split ? ", merged" : "", error);
		if (!(error < 2e-4))
			g_error("%s%s: error %g, expected below 2e-4", what,
				split ? ", merged" : "", error);
		memset(host, 0xff, (numbers + n) * 4);
	}
	for (unsigned i = 0; i < 4; i++)
		ops->release(gpu, device[i]);
	ops->release(gpu, scratch);
	unpinned(gpu, host);
}

static void test_attention(kvt_real_gpu *gpu, const gpu_conformance *suite)
{
	static const struct {
		kvt_element element;
		uint32_t head_dim, kv_heads, heads, page_tokens, n_queries;
		uint64_t n_tokens;
		uint32_t skip;
		bool causal;
	} cases[] = {
		{ KVT_ELEMENT_BF16, 128, 2, 7, 16, 1, 1000, 0, false },
		{ KVT_ELEMENT_BF16, 128, 1, 8, 16, 40, 333, 5, true },
		{ KVT_ELEMENT_F16, 64, 2, 4, 64, 3, 200, 63, true },
		{ KVT_ELEMENT_E4M3, 128, 1, 1, 256, 1, 70, 200, false },
		{ KVT_ELEMENT_BF16, 64, 2, 4, 16, 1, 1, 15, false },
		{ KVT_ELEMENT_BF16, 64, 1, 16, 16, 20, 20, 0, true },
	};
	const kvt_gpu_ops *ops = gpu->ops;
	kvt_gpu_stream *stream = ops->stream_new(gpu, false);
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		kvt_cuda_shape shape = { cases[i].element, cases[i].head_dim, cases[i].kv_heads,
			cases[i].heads, cases[i].page_tokens, 0, 0,
			1 / sqrtf((float)cases[i].head_dim), 1, 1, KVT_CUDA_TWO_HALVES };
		uint64_t n = cases[i].n_tokens;
		uint64_t seen = cases[i].causal ? n - cases[i].n_queries + 1 : n;
		problem *p =
			problem_new(gpu, stream, shape, cases[i].n_queries, n, cases[i].skip, seen);
		g_autofree char *what = g_strdup_printf(
			"attention case %u, head_dim %u, %u KV heads "
			"of %u, %u queries, %u tokens",
			i, shape.head_dim, shape.kv_heads, shape.heads, p->n_queries, (unsigned)n);
		/* a part has to have something for every query to see */
		check_problem(gpu, stream, p, seen / 2, what);
		drain(stream);
		problem_free(gpu, p);
	}
	ops->stream_free(stream);
}

static void run(gconstpointer data)
{
	const test *t = data;
	kvt_real_gpu *gpu = t->suite->open(t->cap);
	if (!gpu) {
		g_test_skip(t->suite->missing);
		return;
	}
	t->run(gpu, t->suite);
	gpu->ops->free(gpu);
}

void gpu_conformance_add(const gpu_conformance *suite)
{
	static const struct {
		const char *name;
		uint64_t cap;
		void (*run)(kvt_real_gpu *gpu, const gpu_conformance *suite);
	} tests[] = {
		{ "memory", 1 << 20, test_memory },
		{ "copies", 0, test_copies },
		{ "checksums", 0, test_checksums },
		{ "refused", 0, test_refused },
		{ "order", 0, test_order },
		{ "waits", 0, test_waits },
		{ "attention", 0, test_attention },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
		test *t = g_new0(test, 1);
		*t = (test){ .suite = suite, .cap = tests[i].cap, .run = tests[i].run };
		g_autofree char *path = g_strdup_printf("/%s/%s", suite->name, tests[i].name);
		g_test_add_data_func_full(path, t, run, g_free);
	}
}
