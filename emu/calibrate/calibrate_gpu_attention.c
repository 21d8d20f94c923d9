/* calibrate_gpu_attention.c: times of attention by shape on the GPU, by the calls that its device
 * makes: pages of 16 tokens anywhere in memory, other pages for every call, so that none is in a
 * cache. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "emu/calibrate/gpu_bench.h"
#include "emu/device/kv_source.h"
#include "sim/base/rng.h"

enum { PAGE_TOKENS = 16, SEED = 1 };

/* Numbers that are made; memory is filled with copies of them. */
static const uint64_t MADE = 32 << 20;
/* What took this long is not measured again, s. */
static const double LONG_ENOUGH = 0.02;

typedef struct pair {
	unsigned heads, kv_heads, dim;
	bool fp8, quick;
} pair;

/* Heads of the models that experiments use, and of one of four GPUs that share them. */
static const pair PAIRS[] = {
	{ 7, 1, 128, false, true },
	{ 28, 4, 128, false, true },
	{ 10, 2, 128, false, true },
	{ 40, 8, 128, false, false },
	{ 16, 2, 128, false, false },
	{ 64, 8, 128, false, false },
	{ 8, 1, 128, false, false },
	{ 8, 2, 64, false, false },
	{ 10, 2, 128, true, true },
	{ 40, 8, 128, true, false },
	{ 16, 2, 128, true, false },
	{ 64, 8, 128, true, true },
};

typedef struct bench {
	kvt_gpu_bench *b;
	const pair *heads;
	kvt_kv_source source;
	kvt_cuda_shape shape;
	/* device memory: queries, results, scratch and lists of pages */
	uint8_t *room;
	kvt_cuda_queries queries;
	kvt_cuda_partial partial;
	void *scratch;
	const void **lists; /* of the device's memory: every page, twice over */
	uint64_t n_pages, at;
	kvt_cuda_window window;
} bench;

static uint64_t element_bytes(const pair *heads)
{
	return heads->fp8 ? 1 : 2;
}

static void set_shape(bench *s)
{
	const pair *heads = s->heads;
	const uint64_t block = PAGE_TOKENS * heads->dim * element_bytes(heads);
	s->source.seed = SEED;
	s->source.shape = (kvt_kv_shape){
		.element = heads->fp8 ? KVT_ELEMENT_E4M3 : KVT_ELEMENT_BF16,
		.layers = 1,
		.kv_heads = heads->kv_heads,
		.heads = heads->heads / heads->kv_heads,
		.head_dim = heads->dim,
		.page_tokens = PAGE_TOKENS,
		.scale = 1 / sqrtf((float)heads->dim),
		.block_bytes = block,
		.page_bytes = 2 * block * heads->kv_heads,
	};
	s->shape = (kvt_cuda_shape){ .element = s->source.shape.element,
		.head_dim = heads->dim,
		.kv_heads = heads->kv_heads,
		.heads = s->source.shape.heads,
		.page_tokens = PAGE_TOKENS,
		.head_stride = 2 * block,
		.value_offset = block,
		.scale = s->source.shape.scale,
		.key_scale = 1,
		.value_scale = 1 };
}

static int copy_in(bench *s, void *to, uint64_t bytes)
{
	kvt_gpu_bench *b = s->b;
	const kvt_gpu_copy copy = { to, b->host, bytes };
	int status = b->gpu->ops->copy(b->streams[0], &copy, 1, KVT_GPU_COPY_ENGINE);
	return status != 0 ? status : kvt_gpu_bench_wait(b);
}

/* Fills the card's memory with keys and values; the first of a format makes them. */
static int fill_memory(bench *s)
{
	kvt_gpu_bench *b = s->b;
	const kvt_kv_shape *shape = &s->source.shape;
	uint64_t pages = MIN(MADE, b->bytes) / shape->page_bytes, bytes = pages * shape->page_bytes;
	kvt_kv_source_fill(&s->source, 0, 0, pages * PAGE_TOKENS, b->host);
	int status = copy_in(s, b->device, bytes);
	for (uint64_t at = bytes; at < b->bytes && status == 0; at += bytes) {
		const kvt_gpu_copy copy = { b->device + at, b->host, MIN(bytes, b->bytes - at) };
		status = b->gpu->ops->copy(b->streams[0], &copy, 1, KVT_GPU_COPY_ENGINE);
	}
	return status != 0 ? status : kvt_gpu_bench_wait(b);
}

/* Lists every page twice, in an order of chance: a window may begin at any page of the first half.
 */
static int list_pages(bench *s)
{
	kvt_gpu_bench *b = s->b;
	const void **list = (const void **)(void *)b->host;
	uint64_t n = s->n_pages = b->bytes / s->source.shape.page_bytes;
	kvt_rng rng = kvt_rng_init(SEED, n);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t at = kvt_rng_below(&rng, i + 1);
		list[i] = list[at];
		list[at] = b->device + i * s->source.shape.page_bytes;
	}
	memcpy(list + n, list, n * sizeof(*list));
	s->at = 0;
	return copy_in(s, s->lists, 2 * n * sizeof(*list));
}

static uint64_t rounded(uint64_t bytes)
{
	return (bytes + 4095) / 4096 * 4096;
}

/* Device memory for `n` query tokens, and queries in it; `scratch` bytes for the kernels. */
static int make_room(bench *s, uint64_t n, uint64_t scratch)
{
	kvt_gpu_bench *b = s->b;
	const uint64_t dim = s->heads->dim, rows = n * s->heads->heads;
	uint64_t lists = rounded(2 * (b->bytes / s->source.shape.page_bytes) * sizeof(void *));
	uint64_t floats = rounded(rows * dim * sizeof(float)), lse = rounded(rows * sizeof(float));
	b->gpu->ops->release(b->gpu, s->room);
	s->room = b->gpu->ops->alloc(b->gpu, lists + 2 * floats + lse + scratch);
	if (!s->room)
		return -ENOMEM;
	s->lists = (const void **)(void *)s->room;
	float *queries = (float *)(void *)(s->room + lists);
	s->partial.output = queries + floats / sizeof(float);
	s->partial.lse = s->partial.output + floats / sizeof(float);
	s->scratch = s->partial.lse + lse / sizeof(float);
	s->queries =
		(kvt_cuda_queries){ .queries = queries, .stride = rows * dim / s->heads->kv_heads };
	float *made = (float *)(void *)b->host;
	uint64_t tokens = MIN(n, 16), one = s->queries.stride / n;
	if (rows * dim * sizeof(float) > b->bytes)
		return -ENOMEM;
	for (unsigned head = 0; head < s->heads->kv_heads; head++) {
		float *own = made + head * s->queries.stride;
		kvt_kv_source_queries(&s->source, 0, head, 0, tokens, own);
		for (uint64_t i = tokens; i < n; i++)
			memcpy(own + i * one, own + i % tokens * one, one * sizeof(float));
	}
	int status = copy_in(s, queries, rows * dim * sizeof(float));
	return status != 0 ? status : list_pages(s);
}

static int attend_call(void *arg, kvt_gpu_stream *stream, unsigned i)
{
	bench *s = arg;
	uint64_t pages = (s->window.n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
	(void)i;
	s->window.pages = s->lists + s->at;
	s->at = (s->at + pages) % s->n_pages;
	return stream->gpu->ops->attend(
		stream, &s->shape, &s->queries, &s->window, &s->partial, s->scratch);
}

static double flops_of(const kvt_gpu_attention_point *p)
{
	double tokens = (double)p->tokens;
	double pairs = p->prefill ? tokens * ((double)p->prefix + tokens / 2) : tokens;
	return 4.0 * p->head_dim * p->heads * pairs;
}

static uint64_t kv_tokens(const kvt_gpu_attention_point *p)
{
	return p->tokens + p->prefix;
}

/* Adds a shape that fits into memory and patience. */
static void add_shape(const kvt_gpu_bench *b, GArray *points, const kvt_gpu_attention_point *p,
	uint64_t page_bytes)
{
	double most = b->given->flops > 0  ? (double)b->given->flops
		      : b->settings->quick ? 2e12
					   : 2e13;
	if (kv_tokens(p) <= b->bytes / page_bytes * PAGE_TOKENS && flops_of(p) <= most)
		g_array_append_val(points, *p);
}

static GArray *shapes_of(const bench *s)
{
	const kvt_gpu_bench *b = s->b;
	const pair *heads = s->heads;
	const bool quick = b->settings->quick;
	const uint64_t bytes = s->source.shape.page_bytes;
	GArray *points = g_array_new(FALSE, TRUE, sizeof(kvt_gpu_attention_point));
	kvt_gpu_attention_point p = { heads->heads, heads->kv_heads, heads->dim,
		heads->fp8 ? KVT_ELEMENT_E4M3 : KVT_ELEMENT_BF16, .prefill = false };
	for (p.tokens = 64; p.tokens <= 4 << 20; p.tokens *= quick ? 4 : 2)
		add_shape(b, points, &p, bytes);
	p.prefill = true;
	for (p.tokens = 4; p.tokens <= 4096; p.tokens *= quick ? 8 : 4) {
		p.prefix = 0;
		add_shape(b, points, &p, bytes);
		for (p.prefix = 1024; p.prefix <= 1 << 20; p.prefix *= quick ? 16 : 4)
			add_shape(b, points, &p, bytes);
	}
	return points;
}

static uint64_t queries_of(const kvt_gpu_attention_point *p)
{
	return p->prefill ? p->tokens : 1;
}

/* Leaves out shapes that the GPU has no kernel for; makes room for the others. */
static int prepare(bench *s, GArray *points, unsigned *left_out)
{
	const kvt_gpu_ops *ops = s->b->gpu->ops;
	uint64_t most = 0, scratch = 0;
	for (unsigned i = points->len; i-- > 0;) {
		uint64_t n = queries_of(&g_array_index(points, kvt_gpu_attention_point, i));
		uint64_t takes = ops->scratch_bytes(s->b->gpu, &s->shape, (uint32_t)n);
		if (takes == 0) {
			g_array_remove_index(points, i);
			(*left_out)++;
			continue;
		}
		most = MAX(most, n);
		scratch = MAX(scratch, takes);
	}
	return points->len > 0 ? make_room(s, most, scratch) : 0;
}

static int measure(bench *s, const kvt_gpu_attention_point *p, double *seconds)
{
	s->queries.n = (uint32_t)queries_of(p);
	s->window = (kvt_cuda_window){ .n_tokens = kv_tokens(p),
		.seen = p->prefill ? p->prefix + 1 : p->tokens };
	return kvt_gpu_bench_time(s->b, attend_call, s, KVT_GPU_MARKS, seconds);
}

/* Of one pair of heads. */
static int measure_pair(bench *s, kvt_gpu_calibration *gpu, unsigned *left_out)
{
	g_autoptr(GArray) points = shapes_of(s);
	int status = prepare(s, points, left_out);
	g_autofree double *seconds = g_new0(double, points->len *KVT_GPU_ROUNDS + 1);
	g_autofree unsigned *n = g_new0(unsigned, points->len + 1);
	for (unsigned at = 0; at < s->b->rounds * points->len && status == 0; at++) {
		unsigned i = at % points->len;
		double *own = seconds + (size_t)i * KVT_GPU_ROUNDS;
		bool again = at >= points->len;
		if (again && (n[i] == 0 || own[0] > LONG_ENOUGH))
			continue;
		status = measure(s, &g_array_index(points, kvt_gpu_attention_point, i), &own[n[i]]);
		bool missing = status == -ENOTSUP || status == -ENODEV || status == -EINVAL;
		*left_out += missing;
		n[i] += status == 0;
		status = missing ? 0 : status;
	}
	for (unsigned i = 0; i < points->len && status == 0; i++) {
		kvt_gpu_attention_point p = g_array_index(points, kvt_gpu_attention_point, i);
		if (n[i] == 0)
			continue;
		p.seconds = kvt_measured_of(seconds + (size_t)i * KVT_GPU_ROUNDS, n[i]);
		g_array_append_val(gpu->attention, p);
	}
	return status;
}

gboolean kvt_calibrate_gpu_attention(kvt_gpu_bench *b, kvt_gpu_calibration *gpu, GError **error)
{
	bench s = { .b = b };
	unsigned left_out = 0;
	int status = 0;
	bool filled[2] = { false, false };
	for (unsigned i = 0; i < G_N_ELEMENTS(PAIRS) && status == 0; i++) {
		if (b->settings->quick && !PAIRS[i].quick)
			continue;
		kvt_gpu_bench_progress(b, "attention", i, G_N_ELEMENTS(PAIRS));
		s.heads = &PAIRS[i];
		set_shape(&s);
		if (!filled[PAIRS[i].fp8])
			status = fill_memory(&s);
		filled[PAIRS[i].fp8] = true;
		filled[!PAIRS[i].fp8] = false;
		if (status == 0)
			status = measure_pair(&s, gpu, &left_out);
	}
	b->gpu->ops->release(b->gpu, s.room);
	if (status == 0 && left_out > 0)
		kvt_gpu_calibration_missing(
			gpu, "%u shapes of attention, which the GPU has no kernel for", left_out);
	bool decode = false;
	for (unsigned i = 0; i < gpu->attention->len; i++)
		decode |= !g_array_index(gpu->attention, kvt_gpu_attention_point, i).prefill;
	if (status == 0 && !decode)
		status = -ENOTSUP;
	return kvt_gpu_bench_check(status, "attention", error);
}
