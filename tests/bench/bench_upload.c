/*
 * bench_upload.c: pages scattered at random in pinned memory of the host, read into a GPU's memory
 * through the whole upload tier (book-keeping, verification, the GPU's copies); by page size, by
 * who verifies and who copies. As a share of one large copy in the same run, alone. Wanted: 95% at
 * every size with what the tier does by itself. Beside it attention, in three ways: none; of
 * exactly what arrives, a call for each 32 MiB, as streamed decode has it; and without end, which
 * the GPU has no time for otherwise. It is hidden where pages come as fast with it. Figures of
 * attention are medians.
 *
 * usage: bench_upload [MiB of pages [milliseconds a figure]]
 */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emu/gpu/cuda_gpu.h"
#include "emu/gpu/gpu_watch.h"
#include "emu/gpu/upload_tier.h"
#include "emu/loop/real_loop.h"
#include "emu/tier/pinned_tier.h"
#include "sim/base/rng.h"
#include "tests/bench/median.h"

enum {
	READS = 4,             /* I/Os under way */
	READ_BYTES = 64 << 20, /* of one */
	LARGE_TURNS = 5,       /* and the first is not counted */
	ATTENTIONS = 4,        /* calls queued */
	TOKENS = 512 << 10,    /* that attention without end reads: 1 GiB */
	CALL_TOKENS = 16384,   /* that arrive with 32 MiB */
	PAGE_TOKENS = 256,
	KV_HEADS = 4,
	HEADS = 7,
	HEAD_DIM = 128,
	KV_PAGE = PAGE_TOKENS * KV_HEADS * HEAD_DIM * 2 * 2,
	KV_PAGES = TOKENS / PAGE_TOKENS,
};

typedef enum bench_attention { NOTHING, ARRIVED, ENDLESS } bench_attention;

typedef struct bench bench;

/* One of the calls that are queued, with the events around it. */
typedef struct attention {
	bench *b;
	kvt_gpu_event *begun, *ended;
	struct attention *next_idle;
} attention;

typedef struct reading {
	kvt_io io;
	bench *b;
	kvt_extent *pages;
	void **homes;
} reading;

struct bench {
	kvt_loop *loop;
	kvt_real_gpu *gpu;
	kvt_gpu_watch *watch;
	uint64_t bytes;    /* of pages, and of device memory that they go to */
	kvt_time duration; /* of a figure */
	uint8_t *device;
	const void **pinned; /* page lists */
	uint8_t *arena;      /* pinned by the tier while there is one */
	/* attention */
	kvt_gpu_stream *stream, *copies;
	kvt_gpu_event *event;
	uint8_t *kv, *scratch;
	float *queries, *output, *lse;
	attention calls[ATTENTIONS];
	bench_attention beside;
	bool attending;
	uint64_t owed;   /* bytes that arrived and are not attended to */
	uint64_t window; /* the first of the next call's pages */
	attention *idle; /* calls that are not queued */
	GArray *times;   /* kvt_time: what calls took */
	/* pages */
	kvt_tier *tier;
	uint64_t page_bytes, next; /* the next page in the order */
	uint32_t *order;
	reading reads[READS];
	bool reading_on;
	uint64_t arrived; /* bytes since `since` */
	kvt_time since, last;
};

static void fail(const char *what, int status)
{
	fprintf(stderr, "bench_upload: %s: %s\n", what, g_strerror(-status));
	exit(1);
}

static void check(const char *what, int status)
{
	if (status != 0)
		fail(what, status);
}

static void *need(const char *what, void *pointer)
{
	if (!pointer)
		fail(what, -12);
	return pointer;
}

/* --- Attention beside --- */

static void attend_on(bench *b);

static void attended(void *arg, int status)
{
	attention *call = arg;
	bench *b = call->b;
	check("attention", status);
	kvt_time took = b->gpu->ops->elapsed(call->begun, call->ended);
	g_array_append_val(b->times, took);
	call->next_idle = b->idle;
	b->idle = call;
	attend_on(b);
}

static void attend(bench *b, attention *call, uint64_t tokens)
{
	const kvt_gpu_ops *ops = b->gpu->ops;
	const size_t head = (size_t)PAGE_TOKENS * HEAD_DIM * 2;
	const kvt_cuda_shape shape = { .element = KVT_ELEMENT_BF16,
		.head_dim = HEAD_DIM,
		.kv_heads = KV_HEADS,
		.heads = HEADS,
		.page_tokens = PAGE_TOKENS,
		.head_stride = 2 * head,
		.value_offset = head,
		.scale = 0.088f,
		.key_scale = 1,
		.value_scale = 1 };
	const kvt_cuda_queries queries = { b->queries, HEADS * HEAD_DIM, 1 };
	const kvt_cuda_window window = {
		.pages = b->pinned + b->window, .n_tokens = tokens, .seen = tokens
	};
	const kvt_cuda_partial partial = { b->output, b->lse };
	/* the next call's are others, which no cache has */
	b->window = (b->window + tokens / PAGE_TOKENS) % KV_PAGES;
	if (!b->scratch)
		b->scratch = need("scratch",
			ops->alloc(b->gpu, MAX(ops->scratch_bytes(b->gpu, &shape, 1), 256)));
	check("an event", ops->record(b->stream, call->begun));
	check("attention", ops->attend(b->stream, &shape, &queries, &window, &partial, b->scratch));
	kvt_gpu_watch_record(b->watch, b->stream, call->ended, attended, call);
}

/* Queues what attention there is to be done, as far as there are calls for it. */
static void attend_on(bench *b)
{
	const uint64_t call_bytes = (uint64_t)CALL_TOKENS * (KV_PAGE / PAGE_TOKENS);
	while (b->idle && (b->beside == ENDLESS ? b->attending : b->owed >= call_bytes)) {
		attention *call = b->idle;
		b->idle = call->next_idle;
		b->owed -= b->beside == ENDLESS ? 0 : call_bytes;
		attend(b, call, b->beside == ENDLESS ? TOKENS : CALL_TOKENS);
	}
}

static void start_attention(bench *b, bench_attention beside)
{
	g_array_set_size(b->times, 0);
	b->beside = beside;
	b->attending = true;
	b->owed = b->window = 0;
	attend_on(b);
}

/* Median of a call, microseconds. */
static double attention_time(const bench *b)
{
	g_autofree double *values = g_new(double, b->times->len + 1);
	for (guint i = 0; i < b->times->len; i++)
		values[i] = kvt_time_to_seconds(g_array_index(b->times, kvt_time, i)) * 1e6;
	return b->times->len > 0 ? bench_median(values, b->times->len) : 0;
}

/* Keys, values and queries of zeros, which are as fast as others. */
static void make_attention(bench *b)
{
	const kvt_gpu_ops *ops = b->gpu->ops;
	const uint64_t kv = (uint64_t)KV_PAGES * KV_PAGE;
	const uint64_t few = (uint64_t)KV_HEADS * HEADS * HEAD_DIM * sizeof(float);
	b->kv = need("device memory for attention", ops->alloc(b->gpu, kv));
	b->queries = need("queries", ops->alloc(b->gpu, few));
	b->output = need("outputs", ops->alloc(b->gpu, few));
	b->lse = need("outputs", ops->alloc(b->gpu, few));
	b->stream = need("a stream", ops->stream_new(b->gpu, false));
	b->pinned = g_aligned_alloc(KV_PAGES, sizeof(void *), 4096);
	for (uint64_t i = 0; i < KV_PAGES; i++)
		b->pinned[i] = b->kv + i * KV_PAGE;
	check("pinning", ops->pin(b->gpu, b->pinned, KV_PAGES * sizeof(void *)));
	for (unsigned i = 0; i < ATTENTIONS; i++) {
		b->calls[i] =
			(attention){ b, ops->event_new(b->gpu), ops->event_new(b->gpu), b->idle };
		b->idle = &b->calls[i];
	}
	g_autofree uint8_t *zeros = g_malloc0(16 << 20);
	for (uint64_t at = 0; at < kv; at += 16 << 20) {
		const kvt_gpu_copy copy = { b->kv + at, zeros, 16 << 20 };
		check("zeros", ops->copy(b->stream, &copy, 1, KVT_GPU_COPY_ENGINE));
	}
	const kvt_gpu_copy copy = { b->queries, zeros, few };
	check("zeros", ops->copy(b->stream, &copy, 1, KVT_GPU_COPY_ENGINE));
	b->times = g_array_new(FALSE, FALSE, sizeof(kvt_time));
}

static void stop_attention(void *arg)
{
	((bench *)arg)->attending = false;
}

static double attention_alone(bench *b)
{
	start_attention(b, ENDLESS);
	kvt_loop_after(b->loop, b->duration / 2, stop_attention, b);
	kvt_loop_run(b->loop);
	return attention_time(b);
}

/* --- One large copy --- */

static void copied(void *arg, int status)
{
	check("a large copy", status);
	*(bool *)arg = true;
}

/* GB/s of one copy of a gigabyte, or of all there is. */
static double large_copy(bench *b)
{
	double rates[LARGE_TURNS];
	uint64_t bytes = MIN(b->bytes, UINT64_C(1) << 30);
	for (unsigned i = 0; i < LARGE_TURNS; i++) {
		const kvt_gpu_copy copy = { b->device, b->arena, bytes };
		bool done = false;
		kvt_time began = kvt_loop_now(b->loop);
		check("a large copy", b->gpu->ops->copy(b->copies, &copy, 1, KVT_GPU_COPY_ENGINE));
		kvt_gpu_watch_record(b->watch, b->copies, b->event, copied, &done);
		kvt_loop_run(b->loop);
		rates[i] = (double)bytes / kvt_time_to_seconds(kvt_loop_now(b->loop) - began) / 1e9;
	}
	return bench_median(rates + 1, LARGE_TURNS - 1);
}

/* --- Pages --- */

static void submit(reading *r);

static void arrived(kvt_io *io)
{
	reading *r = io->arg;
	bench *b = r->b;
	check("a read", io->status);
	b->last = io->completed;
	b->arrived += io->bytes;
	if (b->beside == ARRIVED) {
		b->owed += io->bytes;
		attend_on(b);
	}
	if (b->reading_on)
		submit(r);
}

/* The next pages of the order, to places in another one. */
static void submit(reading *r)
{
	bench *b = r->b;
	uint64_t n = MAX(READ_BYTES / b->page_bytes, 1), all = b->bytes / b->page_bytes;
	for (uint64_t i = 0; i < n; i++, b->next = (b->next + 1) % all) {
		r->pages[i] = (kvt_extent){ 1, 0, b->order[b->next], 1, b->page_bytes };
		r->homes[i] = b->device + b->order[all - 1 - b->next] * b->page_bytes;
	}
	r->io = (kvt_io){ .op = KVT_IO_READ,
		.extents = r->pages,
		.n_extents = (unsigned)n,
		.memory = r->homes,
		.done = arrived,
		.arg = r };
	check("a read", kvt_tier_submit(b->tier, &r->io));
}

static void stop_reading(void *arg)
{
	bench *b = arg;
	b->reading_on = b->attending = false;
}

/* GB/s over the duration until the last read's end. */
static double read_pages(bench *b, bench_attention beside)
{
	b->next = b->arrived = 0;
	b->reading_on = true;
	start_attention(b, beside);
	b->since = kvt_loop_now(b->loop);
	for (unsigned i = 0; i < READS; i++)
		submit(&b->reads[i]);
	kvt_tier_commit(b->tier);
	kvt_loop_after(b->loop, b->duration, stop_reading, b);
	kvt_loop_run(b->loop);
	return (double)b->arrived / kvt_time_to_seconds(b->last - b->since) / 1e9;
}

static void written(kvt_io *io)
{
	check("a write", io->status);
}

static void write_pages(bench *b)
{
	const uint64_t run = 64 << 20;
	g_autofree uint8_t *memory = g_malloc(run);
	void *const where[] = { memory };
	for (uint64_t i = 0; i < run / 8; i++)
		((uint64_t *)(void *)memory)[i] = i * 0x9e3779b97f4a7c15u;
	for (uint64_t at = 0; at < b->bytes; at += run) {
		const kvt_extent extent = { 1, 0, at / b->page_bytes, run / b->page_bytes,
			b->page_bytes };
		kvt_io io = { .op = KVT_IO_WRITE,
			.extents = &extent,
			.n_extents = 1,
			.memory = where,
			.done = written };
		check("a write", kvt_tier_submit(b->tier, &io));
		kvt_loop_run(b->loop);
	}
}

static void shuffle(bench *b)
{
	uint64_t n = b->bytes / b->page_bytes;
	kvt_rng rng = kvt_rng_init(b->page_bytes, 1);
	b->order = g_renew(uint32_t, b->order, n);
	for (uint64_t i = 0; i < n; i++)
		b->order[i] = (uint32_t)i;
	for (uint64_t i = n; i > 1; i--) {
		uint64_t k = kvt_rng_below(&rng, i);
		uint32_t other = b->order[k];
		b->order[k] = b->order[i - 1];
		b->order[i - 1] = other;
	}
}

static kvt_tier *open_tier(bench *b, unsigned helpers, const kvt_upload_settings *settings)
{
	g_autoptr(GError) error = NULL;
	const kvt_tier_env env = { .loop = b->loop };
	g_autofree char *text = g_strdup_printf(
		"[memory]\ncapacity = %" G_GUINT64_FORMAT "B\nhelpers = %u\n", b->bytes, helpers);
	g_autoptr(kvt_config) config = kvt_config_parse("memory", text, &error);
	kvt_tier *inner = config ? kvt_tier_open_kind(&kvt_tier_memory, &env,
					   kvt_config_section(config, "memory"), &error)
				 : NULL;
	kvt_tier *tier = inner ? kvt_upload_tier_new(&env, b->gpu, inner, settings, &error) : NULL;
	if (!tier) {
		fprintf(stderr, "bench_upload: %s\n", error->message);
		exit(1);
	}
	if (!kvt_upload_tier_counts(tier).direct)
		printf("notice: %s\n", tier->ops->notice(tier));
	uint64_t bytes;
	b->arena = kvt_pinned_tier_region(inner, &bytes);
	kvt_upload_tier_add_device_memory(tier, b->device, b->bytes);
	return tier;
}

static const struct {
	const char *name;
	kvt_upload_settings settings;
} ways[] = {
	{ "automatic, by device",
		{ 256 << 20, 32, KVT_UPLOAD_VERIFY_DEVICE, KVT_GPU_COPY_AUTOMATIC } },
	{ "automatic, by host", { 256 << 20, 32, KVT_UPLOAD_VERIFY_HOST, KVT_GPU_COPY_AUTOMATIC } },
	{ "automatic, not verified",
		{ 256 << 20, 32, KVT_UPLOAD_VERIFY_NO, KVT_GPU_COPY_AUTOMATIC } },
	{ "kernel, not verified", { 256 << 20, 32, KVT_UPLOAD_VERIFY_NO, KVT_GPU_COPY_KERNEL } },
	{ "engine, not verified", { 256 << 20, 32, KVT_UPLOAD_VERIFY_NO, KVT_GPU_COPY_ENGINE } },
};

static const uint64_t sizes[] = { 16 << 10, 32 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20 };

/* What a page size came to, GB/s and microseconds. */
typedef struct figures {
	double alone, arrived, endless, arrived_call, endless_call;
} figures;

static figures measure_size(bench *b, uint64_t page_bytes, bool with_attention)
{
	figures f = { 0 };
	b->page_bytes = page_bytes;
	const kvt_extent all = { 1, 0, 0, b->bytes / page_bytes, page_bytes };
	shuffle(b);
	write_pages(b);
	f.alone = read_pages(b, NOTHING);
	if (with_attention) {
		f.arrived = read_pages(b, ARRIVED);
		f.arrived_call = attention_time(b);
		f.endless = read_pages(b, ENDLESS);
		f.endless_call = attention_time(b);
	}
	b->tier->ops->discard(b->tier, 0, &all);
	return f;
}

/* A line a way, all page sizes, and with attention one for each way of that; the least share. */
static double measure_way(bench *b, unsigned way, unsigned helpers)
{
	figures f[G_N_ELEMENTS(sizes)];
	double least = 1e9;
	bool with_attention = way == 0;
	b->tier = open_tier(b, helpers, &ways[way].settings);
	double large = large_copy(b);
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
		f[i] = measure_size(b, sizes[i], with_attention);
		least = MIN(least, f[i].alone / large);
	}
	printf("%-24s large %5.2f:", ways[way].name, large);
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++)
		printf("  %5.2f %5.1f%%       ", f[i].alone, 100 * f[i].alone / large);
	if (with_attention) {
		printf("\n  attention of what came, hidden:");
		for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++)
			printf("  %5.2f %5.1f%% %4.0fus", f[i].arrived,
				100 * f[i].arrived / f[i].alone, f[i].arrived_call);
		printf("\n  attention without end:        ");
		for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++)
			printf("  %5.2f %5.1f%% %4.0fus", f[i].endless, 100 * f[i].endless / large,
				f[i].endless_call);
	}
	printf("\n");
	fflush(stdout);
	kvt_tier_close(b->tier);
	return least;
}

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	uint64_t mib = argc > 1 ? g_ascii_strtoull(argv[1], NULL, 10) : 1024;
	uint64_t milliseconds = argc > 2 ? g_ascii_strtoull(argv[2], NULL, 10) : 300;
	bench b = { .bytes = mib << 20, .duration = (kvt_time)milliseconds * KVT_MILLISECOND };
	b.bytes = MAX(b.bytes / READ_BYTES, 1) * READ_BYTES;
	b.gpu = kvt_cuda_gpu_new(NULL, &error);
	if (!b.gpu) {
		printf("SKIPPED, nothing is measured: %s\n", error->message);
		return 0;
	}
	unsigned cores = g_get_num_processors(), helpers = cores > 2 ? MIN(cores - 2, 64) : 1;
	b.loop = need("a loop", kvt_real_loop_new(NULL));
	b.watch = kvt_gpu_watch_new(b.loop, b.gpu);
	b.device = need("device memory", b.gpu->ops->alloc(b.gpu, b.bytes));
	b.copies = need("a stream", b.gpu->ops->stream_new(b.gpu, false));
	b.event = b.gpu->ops->event_new(b.gpu);
	for (unsigned i = 0; i < READS; i++)
		b.reads[i] = (reading){ .b = &b,
			.pages = g_new(kvt_extent, READ_BYTES / 4096),
			.homes = g_new(void *, READ_BYTES / 4096) };
	make_attention(&b);
	printf("%u processors, %u verify; attention of %u tokens alone: %.0f us\n"
	       "GB/s and share of one large copy, hidden: of what comes without attention; by "
	       "pages of 16, 32, 64, 256 KiB, 1, 4 MiB\n",
		cores, helpers, (unsigned)TOKENS, attention_alone(&b));
	double least = measure_way(&b, 0, helpers);
	printf("verified by the device: %.1f%% at least, wanted 95%%\n", 100 * least);
	for (unsigned i = 1; i < G_N_ELEMENTS(ways); i++)
		measure_way(&b, i, helpers);
	/* the card goes with the process */
	return 0;
}
