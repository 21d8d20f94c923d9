/* calibrate_attention.c: times of the attention kernels by shape, as the CPU device calls them: a
 * layer's KV heads are dealt to a thread a core. In the threads' own time. */
#include <string.h>

#include "emu/calibration.h"
#include "kernels/kernels.h"
#include "sim/base/rng.h"

enum { REPEATS = 3, DIM = 128, PAGE_TOKENS = 16, KV_HEADS_MAX = 8, HEADS_MAX = 64, ALIGN = 64 };

typedef struct pair {
	unsigned heads, kv_heads;
} pair;

/* Query and KV heads of the models that experiments use, and a small one. */
static const pair PAIRS[] = { { 28, 4 }, { 40, 8 }, { 64, 8 }, { 8, 2 } };
static const uint64_t DECODE[] = { 64, 256, 1024, 4096, 16384, 65536 };
static const uint64_t PREFILL[] = { 16, 64, 256, 1024 };
static const uint64_t QUICK_DECODE[] = { 64, 512, 4096 };
static const uint64_t QUICK_PREFILL[] = { 16, 64, 128 };

/* KV of KV_HEADS_MAX heads, in pages whose order in memory is random as a store's is. */
typedef struct stage {
	kvt_isa isa;
	unsigned threads;
	uint64_t tokens; /* a KV head */
	unsigned char *memory;
	const void **keys, **values; /* [KV_HEADS_MAX][tokens / PAGE_TOKENS] */
	float *queries;              /* [queries][HEADS_MAX][DIM] */
} stage;

typedef struct task {
	const stage *stage;
	const kvt_attention_point *point;
	unsigned first, step; /* KV heads first, first + step, ... */
	double seconds;
} task;

static gpointer attend(gpointer arg)
{
	task *t = arg;
	const stage *s = t->stage;
	const kvt_attention_point *p = t->point;
	uint32_t group = p->heads / p->kv_heads, queries = p->prefill ? (uint32_t)p->tokens : 1;
	size_t row = 2 * DIM, rows = (size_t)queries * group;
	kvt_attention_shape shape = { .element = KVT_ELEMENT_BF16,
		.head_dim = DIM,
		.heads = group,
		.page_tokens = PAGE_TOKENS,
		.key_stride = row,
		.value_stride = row,
		.scale = 0.0884f,
		.key_scale = 1,
		.value_scale = 1 };
	void *scratch =
		g_aligned_alloc(1, MAX(kvt_attention_scratch_bytes(&shape, queries), ALIGN), ALIGN);
	kvt_attention_partial partial = { .output = g_new(float, rows *DIM),
		.lse = g_new(float, rows) };
	memset(partial.output, 0, rows * DIM * sizeof(float));
	double begin = kvt_thread_seconds();
	for (unsigned head = t->first; head < p->kv_heads; head += t->step) {
		size_t pages = s->tokens / PAGE_TOKENS;
		kvt_attention_window window = { .keys = s->keys + head * pages,
			.values = s->values + head * pages,
			.n_tokens = p->tokens,
			.seen = p->prefill ? 1 : p->tokens };
		int status = kvt_attention(
			s->isa, &shape, s->queries, queries, &window, &partial, scratch);
		g_assert(status == 0);
	}
	t->seconds = kvt_thread_seconds() - begin;
	g_aligned_free(scratch);
	g_free(partial.output);
	g_free(partial.lse);
	return NULL;
}

static double longest_of(const stage *s, const kvt_attention_point *point)
{
	unsigned n = MIN(s->threads, point->kv_heads);
	g_autofree task *tasks = g_new0(task, n);
	g_autofree GThread **running = g_new0(GThread *, n);
	for (unsigned i = 0; i < n; i++) {
		tasks[i] = (task){ .stage = s, .point = point, .first = i, .step = n };
		running[i] = g_thread_new("attend", attend, &tasks[i]);
	}
	double longest = 1e-9;
	for (unsigned i = 0; i < n; i++) {
		g_thread_join(running[i]);
		longest = MAX(longest, tasks[i].seconds);
	}
	return longest;
}

static void measure(
	kvt_calibration *c, const stage *s, const pair *heads, uint64_t tokens, bool prefill)
{
	kvt_attention_point point = { .heads = heads->heads,
		.kv_heads = heads->kv_heads,
		.head_dim = DIM,
		.tokens = tokens,
		.prefill = prefill };
	double seconds[REPEATS];
	longest_of(s, &point);
	for (unsigned i = 0; i < REPEATS; i++)
		seconds[i] = longest_of(s, &point);
	point.seconds = kvt_measured_of(seconds, REPEATS);
	g_array_append_val(c->attention, point);
}

/* Numbers between -1 and 1: half precision of any kind is as fast. */
static void fill_memory(unsigned char *memory, uint64_t bytes, kvt_rng *rng)
{
	for (uint64_t i = 0; i < bytes; i += 8) {
		uint64_t word = kvt_rng_next(rng) & UINT64_C(0x807f807f807f807f);
		word |= UINT64_C(0x3f003f003f003f00);
		memcpy(memory + i, &word, 8);
	}
}

static void open_stage(stage *s, const kvt_calibration *c, uint64_t tokens, uint64_t queries)
{
	size_t pages = tokens / PAGE_TOKENS * KV_HEADS_MAX, page = (size_t)PAGE_TOKENS * DIM * 2;
	*s = (stage){ .isa = kvt_isa_best(), .threads = MAX(c->cores, 1), .tokens = tokens };
	s->memory = g_aligned_alloc(2 * pages, page, 4096);
	s->keys = g_new(const void *, pages);
	s->values = g_new(const void *, pages);
	kvt_rng rng = kvt_rng_init(11, 1);
	fill_memory(s->memory, 2 * pages * page, &rng);
	g_autofree uint32_t *order = g_new(uint32_t, pages);
	for (size_t i = 0; i < pages; i++) {
		size_t j = kvt_rng_below(&rng, i + 1);
		order[i] = order[j];
		order[j] = (uint32_t)i;
	}
	for (size_t i = 0; i < pages; i++) {
		s->keys[i] = s->memory + 2 * order[i] * page;
		s->values[i] = s->memory + (2 * order[i] + 1) * page;
	}
	s->queries = g_new(float, queries *HEADS_MAX *DIM);
	for (size_t i = 0; i < queries * HEADS_MAX * DIM; i++)
		s->queries[i] = (float)kvt_rng_uniform(&rng) - 0.5f;
}

void kvt_calibrate_attention(kvt_calibration *c, const kvt_calibrate_settings *settings)
{
	bool quick = settings->quick;
	const uint64_t *decode = quick ? QUICK_DECODE : DECODE;
	const uint64_t *prefill = quick ? QUICK_PREFILL : PREFILL;
	unsigned n_decode = quick ? G_N_ELEMENTS(QUICK_DECODE) : G_N_ELEMENTS(DECODE);
	unsigned n_prefill = quick ? G_N_ELEMENTS(QUICK_PREFILL) : G_N_ELEMENTS(PREFILL);
	unsigned n_pairs = quick ? 1 : G_N_ELEMENTS(PAIRS);
	stage s;
	open_stage(&s, c, decode[n_decode - 1], prefill[n_prefill - 1]);
	g_free(c->isa);
	c->isa = g_strdup(kvt_isa_name(s.isa));
	for (unsigned p = 0; p < n_pairs; p++) {
		if (settings->progress)
			settings->progress(settings->progress_arg, "attention", p, n_pairs);
		for (unsigned i = 0; i < n_decode; i++)
			measure(c, &s, &PAIRS[p], decode[i], false);
		for (unsigned i = 0; i < n_prefill; i++)
			measure(c, &s, &PAIRS[p], prefill[i], true);
	}
	g_aligned_free(s.memory);
	g_free(s.keys);
	g_free(s.values);
	g_free(s.queries);
}
