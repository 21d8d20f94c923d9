/* calibrate_attention.c: times of attention by shape, by the very code and threads of the CPU
 * device (cpu_attention.c, cpu_pool.c): from the call to the last task's end, by the clock, waking
 * threads included, as the device counts it. The threads' own time is kept beside it. */
#include <math.h>
#include <string.h>

#include "emu/calibrate/calibration.h"
#include "emu/device/cpu_attention.h"
#include "emu/device/cpu_pool.h"
#include "emu/tier/memory_arena.h"

enum { REPEATS = 5, CALLS = 32, DIM = 128, PAGE_TOKENS = 16, KV_HEADS_MAX = 8 };
/* More than caches keep between two visits to the same pages. */
static const uint64_t COLD_BYTES = 256 << 20, QUICK_COLD_BYTES = 32 << 20;
/* What took this long is not measured again, s. */
static const double LONG_ENOUGH = 0.5;
/* How long calls of one shape are repeated in a round, s. */
static const double ROUND = 0.015;

typedef struct pair {
	unsigned heads, kv_heads, dim;
} pair;

typedef struct shape {
	uint64_t tokens, prefix;
	bool prefill;
} shape;

/* Heads of the models that experiments use, and of small ones. */
static const pair PAIRS[] = { { 28, 4, 128 }, { 40, 8, 128 }, { 64, 8, 128 }, { 8, 2, 128 },
	{ 8, 2, 64 } };
/* Prefill behind a prefix is what a resume does. */
static const shape SHAPES[] = {
	{ 64, 0, false },
	{ 256, 0, false },
	{ 1024, 0, false },
	{ 4096, 0, false },
	{ 16384, 0, false },
	{ 65536, 0, false },
	{ 4, 0, true },
	{ 16, 0, true },
	{ 64, 0, true },
	{ 256, 0, true },
	{ 1024, 0, true },
	{ 2048, 0, true },
	{ 4, 256, true },
	{ 4, 1024, true },
	{ 4, 4096, true },
	{ 4, 16384, true },
	{ 16, 256, true },
	{ 16, 1024, true },
	{ 16, 4096, true },
	{ 16, 16384, true },
	{ 64, 256, true },
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
	{ 4, 128, true },
	{ 16, 128, true },
	{ 4, 512, true },
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
	int64_t nanoseconds; /* of the job; -1: it runs */
} stage;

static void run_task(void *arg, unsigned index, unsigned thread)
{
	stage *s = arg;
	double begin = kvt_thread_seconds();
	kvt_cpu_attention_task(&s->attention, index, thread);
	s->cpu[thread] += kvt_thread_seconds() - begin;
}

static void on_end(void *arg)
{
	kvt_cpu_attention_end(&((stage *)arg)->attention);
}

static void on_finish(void *arg, int64_t nanoseconds)
{
	stage *s = arg;
	__atomic_store_n(&s->nanoseconds, nanoseconds, __ATOMIC_RELEASE);
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
	kvt_cpu_job job = { .task = run_task,
		.end = on_end,
		.finish = on_finish,
		.arg = s,
		.n_tasks = s->attention.n_tasks };
	kvt_cpu_pool_begin(s->pool, &job);
	/* as busy as the engine's thread is in an emulation: that lowers clocks by a tenth */
	while (__atomic_load_n(&s->nanoseconds, __ATOMIC_ACQUIRE) < 0)
		g_thread_yield();
	g_assert(s->attention.status == 0);
	*cpu = 0;
	for (unsigned i = 0; i < s->threads; i++)
		*cpu = MAX(*cpu, s->cpu[i]);
	*cpu = MAX(*cpu, 1e-9);
	return MAX((double)s->nanoseconds * 1e-9, 1e-9);
}

/* Of one shape, a round each, so that a bad minute of the machine spoils no shape's median. */
typedef struct samples {
	double seconds[REPEATS], cpu[REPEATS];
	unsigned n;
} samples;

static void measure(stage *s, const pair *heads, const shape *what, samples *out)
{
	if (out->n > 0 && out->seconds[0] >= LONG_ENOUGH)
		return;
	uint64_t queries = what->prefill ? what->tokens : 1;
	kvt_work work = { .kind = KVT_WORK_ATTENTION,
		.tokens = queries,
		.kv_tokens = what->prefill ? what->prefix : what->tokens - 1,
		.causal = 1 };
	work.position = work.kv_tokens;
	kvt_cpu_queries_reserve(&s->queries, &s->source.shape, queries);
	size_t n = (size_t)queries * heads->heads * heads->dim;
	g_autofree float *numbers = g_new(float, n);
	s->queries.queries = numbers;
	s->queries.stride = n / heads->kv_heads;
	for (unsigned head = 0; head < heads->kv_heads; head++)
		kvt_kv_source_queries(&s->source, 0, head, work.position, queries,
			numbers + head * s->queries.stride);
	s->queries.position = work.position;
	s->queries.tokens = queries;
	/* the first call has scratch memory to find; the median of short ones is of many */
	double cpu[CALLS], seconds[CALLS], spent = 0;
	unsigned calls = 0;
	for (bool first = true; calls == 0 || (calls < CALLS && spent < ROUND); first = false) {
		seconds[calls] = call(s, &work, &cpu[calls]);
		spent += seconds[calls];
		calls += !first || seconds[calls] >= ROUND;
	}
	out->cpu[out->n] = kvt_measured_of(cpu, calls).value;
	out->seconds[out->n++] = kvt_measured_of(seconds, calls).value;
}

static void add_point(kvt_calibration *c, const pair *heads, const shape *what, samples *in)
{
	kvt_attention_point point = { .heads = heads->heads,
		.kv_heads = heads->kv_heads,
		.head_dim = heads->dim,
		.tokens = what->tokens,
		.prefix = what->prefix,
		.prefill = what->prefill,
		.seconds = kvt_measured_of(in->seconds, in->n),
		.cpu = kvt_measured_of(in->cpu, in->n) };
	g_array_append_val(c->attention, point);
}

static void set_heads(stage *s, const pair *heads)
{
	uint64_t block = (uint64_t)PAGE_TOKENS * heads->dim * 2;
	s->source.shape = (kvt_kv_shape){ .element = KVT_ELEMENT_BF16,
		.layers = 1,
		.kv_heads = heads->kv_heads,
		.heads = heads->heads / heads->kv_heads,
		.head_dim = heads->dim,
		.page_tokens = PAGE_TOKENS,
		.scale = 1 / sqrtf((float)heads->dim),
		.block_bytes = block,
		.page_bytes = 2 * block * heads->kv_heads };
}

static gboolean open_stage(
	stage *s, uint64_t tokens, uint64_t cold, unsigned threads, GError **error)
{
	*s = (stage){ .threads = threads };
	s->bytes = MAX((tokens + PAGE_TOKENS) * KV_HEADS_MAX * 2 * DIM * 2, cold);
	s->arena = kvt_arena_new(s->bytes, KVT_HUGE_TRANSPARENT, false, -1, error);
	if (!s->arena)
		return FALSE;
	s->pages = kvt_arena_base(s->arena);
	s->pool = kvt_cpu_pool_new(threads, error);
	if (!s->pool) {
		kvt_arena_free(s->arena);
		return FALSE;
	}
	set_heads(s, &(pair){ KV_HEADS_MAX, KV_HEADS_MAX, DIM });
	kvt_kv_source_fill(
		&s->source, 0, 0, s->bytes / s->source.shape.page_bytes * PAGE_TOKENS, s->pages);
	s->cpu = g_new0(double, threads);
	kvt_cpu_attention_init(&s->attention, &s->source, kvt_isa_best(), threads);
	return TRUE;
}

static void close_stage(stage *s)
{
	kvt_cpu_pool_free(s->pool);
	kvt_cpu_attention_clear(&s->attention);
	kvt_cpu_queries_clear(&s->queries);
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
	if (!open_stage(&s, longest, quick ? QUICK_COLD_BYTES : COLD_BYTES, c->threads, error))
		return FALSE;
	if (c->threads <= compute && kvt_cores_place_engine(settings->place))
		kvt_cpu_pool_place(s.pool, settings->place);
	g_free(c->isa);
	c->isa = g_strdup(kvt_isa_name(kvt_isa_best()));
	g_autofree samples *all = g_new0(samples, n_pairs * n);
	for (unsigned at = 0; at < REPEATS * n_pairs * n; at++) {
		unsigned p = at / n % n_pairs, i = at % n;
		if (settings->progress)
			settings->progress(
				settings->progress_arg, "attention", at, REPEATS * n_pairs * n);
		set_heads(&s, &PAIRS[p]);
		measure(&s, &PAIRS[p], &shapes[i], &all[p * n + i]);
	}
	for (unsigned at = 0; at < n_pairs * n; at++)
		add_point(c, &PAIRS[at / n], &shapes[at % n], &all[at]);
	close_stage(&s);
	kvt_cores_release(settings->place);
	return TRUE;
}
