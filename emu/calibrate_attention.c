/* calibrate_attention.c: times of attention by shape, by the very code and threads of the CPU
 * device (cpu_attention.c, cpu_pool.c): from the call to the last task's end, by the clock, waking
 * threads included, as the device counts it. The threads' own time is kept beside it. */
#include <math.h>
#include <string.h>

#include "emu/calibration.h"
#include "emu/cpu_attention.h"
#include "emu/cpu_pool.h"
#include "emu/memory_arena.h"
#include "sim/base/rng.h"

enum { REPEATS = 5, DIM = 128, PAGE_TOKENS = 16, KV_HEADS_MAX = 8 };
/* More than caches keep between two visits to the same pages. */
static const uint64_t COLD_BYTES = 256 << 20;
/* What took this long is not measured again, s. */
static const double LONG_ENOUGH = 0.5;

typedef struct pair {
	unsigned heads, kv_heads;
} pair;

typedef struct shape {
	uint64_t tokens, prefix;
	bool prefill;
} shape;

/* Query and KV heads of the models that experiments use, and a small one. */
static const pair PAIRS[] = { { 28, 4 }, { 40, 8 }, { 64, 8 }, { 8, 2 } };
/* Prefill behind a prefix is what a resume does. */
static const shape SHAPES[] = {
	{ 64, 0, false },
	{ 256, 0, false },
	{ 1024, 0, false },
	{ 4096, 0, false },
	{ 16384, 0, false },
	{ 65536, 0, false },
	{ 16, 0, true },
	{ 64, 0, true },
	{ 256, 0, true },
	{ 1024, 0, true },
	{ 2048, 0, true },
	{ 4096, 0, true },
	{ 16, 1024, true },
	{ 16, 4096, true },
	{ 16, 16384, true },
	{ 64, 1024, true },
	{ 64, 4096, true },
	{ 64, 16384, true },
	{ 256, 1024, true },
	{ 256, 4096, true },
};
static const shape QUICK_SHAPES[] = {
	{ 64, 0, false },
	{ 512, 0, false },
	{ 4096, 0, false },
	{ 16, 0, true },
	{ 64, 0, true },
	{ 128, 0, true },
	{ 16, 1024, true },
};

typedef struct stage {
	kvt_kv_source source;
	kvt_cpu_pool *pool;
	kvt_cpu_attention attention;
	kvt_cpu_queries queries;
	kvt_arena *arena;
	uint8_t *pages;
	uint64_t bytes, at; /* of pages; where the next call's begin */
	double *cpu;        /* by thread, of the job that runs */
	unsigned threads;
	GMutex mutex;
	GCond cond;
	int64_t nanoseconds; /* of the job; -1: it runs */
} stage;

static void run_task(void *arg, unsigned index, unsigned thread)
{
	stage *s = arg;
	double begin = kvt_thread_seconds();
	kvt_cpu_attention_task(&s->attention, index, thread);
	s->cpu[thread] += kvt_thread_seconds() - begin;
}

static void on_finish(void *arg, int64_t nanoseconds)
{
	stage *s = arg;
	kvt_cpu_attention_end(&s->attention);
	g_mutex_lock(&s->mutex);
	s->nanoseconds = nanoseconds;
	g_cond_signal(&s->cond);
	g_mutex_unlock(&s->mutex);
}

/* Seconds of one call; *cpu of the thread that worked longest. Each call has pages of its own: a
 * layer's are in no cache when its turn comes. */
static double call(stage *s, const kvt_work *work, double *cpu)
{
	uint64_t n_pages = (work->kv_tokens + work->tokens) / PAGE_TOKENS + 1;
	uint64_t bytes = n_pages * s->source.shape.page_bytes;
	if (s->at + bytes > s->bytes)
		s->at = 0;
	kvt_cpu_attention_begin(&s->attention, work, s->pages + s->at, 0, &s->queries);
	s->at += bytes;
	memset(s->cpu, 0, s->threads * sizeof(double));
	s->nanoseconds = -1;
	kvt_cpu_job job = {
		.task = run_task, .finish = on_finish, .arg = s, .n_tasks = s->attention.n_tasks
	};
	kvt_cpu_pool_begin(s->pool, &job);
	g_mutex_lock(&s->mutex);
	while (s->nanoseconds < 0)
		g_cond_wait(&s->cond, &s->mutex);
	g_mutex_unlock(&s->mutex);
	g_assert(s->attention.status == 0);
	*cpu = 0;
	for (unsigned i = 0; i < s->threads; i++)
		*cpu = MAX(*cpu, s->cpu[i]);
	*cpu = MAX(*cpu, 1e-9);
	return MAX((double)s->nanoseconds * 1e-9, 1e-9);
}

static void measure(kvt_calibration *c, stage *s, const pair *heads, const shape *what)
{
	uint64_t queries = what->prefill ? what->tokens : 1;
	kvt_work work = { .kind = KVT_WORK_ATTENTION,
		.tokens = queries,
		.kv_tokens = what->prefill ? what->prefix : what->tokens - 1,
		.causal = 1 };
	work.position = work.kv_tokens;
	kvt_cpu_queries_reserve(&s->queries, &s->source.shape, queries);
	size_t n = (size_t)queries * heads->heads * DIM;
	g_autofree float *numbers = g_new(float, n);
	for (size_t i = 0; i < n; i++)
		numbers[i] = (float)(i % 17) / 16 - 0.5f;
	s->queries.queries = numbers;
	s->queries.stride = n / heads->kv_heads;
	s->queries.position = work.position;
	s->queries.tokens = queries;
	double seconds[REPEATS], cpu[REPEATS];
	unsigned done = 0;
	double first = call(s, &work, &cpu[0]);
	seconds[done++] = first;
	if (first < LONG_ENOUGH)
		for (done = 0; done < REPEATS; done++)
			seconds[done] = call(s, &work, &cpu[done]);
	kvt_attention_point point = { .heads = heads->heads,
		.kv_heads = heads->kv_heads,
		.head_dim = DIM,
		.tokens = what->tokens,
		.prefix = what->prefix,
		.prefill = what->prefill,
		.seconds = kvt_measured_of(seconds, done),
		.cpu = kvt_measured_of(cpu, done) };
	g_array_append_val(c->attention, point);
}

/* Numbers of size 1 and of both signs: any of them are as fast. */
static void fill_memory(unsigned char *memory, uint64_t bytes)
{
	kvt_rng rng = kvt_rng_init(11, 1);
	for (uint64_t i = 0; i < bytes; i += 8) {
		uint64_t word = kvt_rng_next(&rng) & UINT64_C(0x807f807f807f807f);
		word |= UINT64_C(0x3f003f003f003f00);
		memcpy(memory + i, &word, 8);
	}
}

static void set_heads(stage *s, const pair *heads)
{
	uint64_t block = (uint64_t)PAGE_TOKENS * DIM * 2;
	s->source.shape = (kvt_kv_shape){ .element = KVT_ELEMENT_BF16,
		.layers = 1,
		.kv_heads = heads->kv_heads,
		.heads = heads->heads / heads->kv_heads,
		.head_dim = DIM,
		.page_tokens = PAGE_TOKENS,
		.block_bytes = block,
		.page_bytes = 2 * block * heads->kv_heads };
}

static gboolean open_stage(stage *s, uint64_t tokens, unsigned threads, GError **error)
{
	*s = (stage){ .threads = threads };
	s->bytes = MAX((tokens + PAGE_TOKENS) * KV_HEADS_MAX * 2 * DIM * 2, COLD_BYTES);
	s->arena = kvt_arena_new(s->bytes, KVT_HUGE_TRANSPARENT, false, -1, error);
	if (!s->arena)
		return FALSE;
	s->pages = kvt_arena_base(s->arena);
	s->pool = kvt_cpu_pool_new(threads, error);
	if (!s->pool) {
		kvt_arena_free(s->arena);
		return FALSE;
	}
	fill_memory(s->pages, s->bytes);
	s->cpu = g_new0(double, threads);
	kvt_cpu_attention_init(&s->attention, &s->source, kvt_isa_best(), threads);
	g_mutex_init(&s->mutex);
	g_cond_init(&s->cond);
	return TRUE;
}

static void close_stage(stage *s)
{
	kvt_cpu_pool_free(s->pool);
	kvt_cpu_attention_clear(&s->attention);
	kvt_cpu_queries_clear(&s->queries);
	g_mutex_clear(&s->mutex);
	g_cond_clear(&s->cond);
	kvt_arena_free(s->arena);
	g_free(s->cpu);
}

gboolean kvt_calibrate_attention(
	kvt_calibration *c, const kvt_calibrate_settings *settings, GError **error)
{
	bool quick = settings->quick;
	const shape *shapes = quick ? QUICK_SHAPES : SHAPES;
	unsigned n = quick ? G_N_ELEMENTS(QUICK_SHAPES) : G_N_ELEMENTS(SHAPES);
	unsigned n_pairs = quick ? 1 : G_N_ELEMENTS(PAIRS);
	uint64_t longest = 0;
	for (unsigned i = 0; i < n; i++)
		longest = MAX(longest, shapes[i].tokens + shapes[i].prefix);
	stage s;
	unsigned compute = kvt_cores_compute(settings->place);
	c->threads = settings->threads > 0 ? settings->threads : compute;
	if (!open_stage(&s, longest, c->threads, error))
		return FALSE;
	if (c->threads <= compute && kvt_cores_place_engine(settings->place))
		kvt_cpu_pool_place(s.pool, settings->place);
	g_free(c->isa);
	c->isa = g_strdup(kvt_isa_name(kvt_isa_best()));
	for (unsigned p = 0; p < n_pairs; p++) {
		set_heads(&s, &PAIRS[p]);
		for (unsigned i = 0; i < n; i++) {
			if (settings->progress)
				settings->progress(settings->progress_arg, "attention", p * n + i,
					n_pairs * n);
			measure(c, &s, &PAIRS[p], &shapes[i]);
		}
	}
	close_stage(&s);
	kvt_cores_release(settings->place);
	return TRUE;
}
