/*
 * cpu_device.c: streams of calls in real time. A stream's calls run one after another, on the
 * loop's side as timed waits or as jobs of threads; a token is a call's number in its stream, which
 * is over when the stream has come past it.
 */
#include "emu/device/cpu_device.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "emu/device/cpu_attention.h"
#include "emu/device/cpu_pool.h"
#include "emu/loop/real_loop.h"
#include "sim/base/error.h"

enum { HALVES = 2, AFTER_MAX = 4 };

typedef struct cpu_device cpu_device;

/* A call that has not ended. */
typedef struct call {
	struct call *next;
	kvt_work work;
	uint64_t number;
	kvt_token after[AFTER_MAX];
	unsigned n_after;
	kvt_time submitted;
} call;

typedef struct stream {
	cpu_device *device;
	unsigned index, track;
	call *head, **tail; /* the first one runs when `running` */
	bool running, computing;
	uint64_t submitted, ended; /* numbers of calls */
	kvt_time free_at;          /* when the last call ended, or should have: of timed ones */
	kvt_time started, end;     /* of the one that runs */
} stream;

/* Somebody who waits for a token. */
typedef struct waiter {
	struct waiter *next;
	kvt_token token;
	kvt_callback callback;
	void *arg;
} waiter;

struct cpu_device {
	kvt_device base;
	kvt_cpu_device_settings settings;
	stream streams[KVT_STREAMS];
	waiter *waiters, **last_waiter;
	kvt_time busy[KVT_WORK_KINDS];
	kvt_cpu_pool *pool;
	kvt_cpu_attention attention;
	kvt_cpu_queries halves[HALVES];
	uint64_t uses;
	/* memory: one region a layer, one of all staging buffers, one after another */
	uint8_t **home, *staging;
	uint64_t home_bytes, buffer_bytes, staging_bytes;
	/* of every layer (turn_tokens.h) */
	kvt_turn_tokens new_tokens;
	float **queries_of;
	uint8_t **pages_of;
	/* the job that runs */
	const call *job;
	kvt_cpu_queries *job_queries;
	int64_t job_nanoseconds;
};

/* What is computed again is no one's to look at: the source has its keys and values. */
static bool is_real(const kvt_work *work)
{
	return kvt_turn_work_is_real(work->kind) && !work->again;
}

static bool is_over(const cpu_device *device, kvt_token token)
{
	if (token <= 0)
		return true;
	uint64_t number = (uint64_t)token / KVT_STREAMS;
	return device->streams[(uint64_t)token % KVT_STREAMS].ended >= number;
}

static void *cpu_memory(kvt_device *base, unsigned place, const kvt_extent *extent)
{
	cpu_device *device = (cpu_device *)base;
	const kvt_kv_shape *shape = &device->settings.source->shape;
	g_assert(extent->page_bytes == shape->page_bytes && extent->layer < shape->layers);
	if (place != KVT_PLACE_HOME) {
		unsigned buffer = place - KVT_PLACE_STAGING;
		g_assert(buffer < device->settings.buffers &&
			 kvt_extent_bytes(extent) <= device->buffer_bytes);
		return device->staging + buffer * device->buffer_bytes;
	}
	uint64_t at = extent->first_page * extent->page_bytes;
	g_assert(at + kvt_extent_bytes(extent) <= device->home_bytes);
	return device->home[extent->layer] + at;
}

/* The state of the call's query tokens; at the beginning of a layer (QKV) a new one may be needed.
 */
static kvt_cpu_queries *find_queries(cpu_device *device, const kvt_work *work)
{
	kvt_cpu_queries *oldest = &device->halves[0];
	for (unsigned i = 0; i < HALVES; i++) {
		kvt_cpu_queries *q = &device->halves[i];
		if (q->used > 0 && q->position == work->position && q->tokens == work->tokens)
			return q;
		if (q->used < oldest->used)
			oldest = q;
	}
	g_assert(work->kind == KVT_WORK_QKV);
	kvt_cpu_queries_reserve(oldest, &device->settings.source->shape, work->tokens);
	oldest->position = work->position;
	oldest->tokens = work->tokens;
	return oldest;
}

/* Keys and values that were made before, on their way to where they stay. */
typedef struct new_pages {
	const uint8_t *from;
	uint8_t *to;
} new_pages;

static void copy_run(void *arg, uint64_t from, uint64_t to, uint64_t bytes)
{
	const new_pages *pages = arg;
	memcpy(pages->to + to, pages->from + from, bytes);
}

/* Keys and values of new tokens go to where they stay; their queries are known from now on. */
static void take_new_tokens(cpu_device *device, const kvt_work *work)
{
	const kvt_kv_source *source = device->settings.source;
	const kvt_kv_shape *shape = &source->shape;
	const uint64_t first_new = device->new_tokens.first;
	const size_t row = (size_t)shape->heads * shape->head_dim;
	kvt_cpu_queries *q = find_queries(device, work);
	q->used = ++device->uses;
	if (work->position >= first_new) {
		new_pages pages = { device->pages_of[work->layer], device->home[work->layer] };
		q->stride = (device->new_tokens.end - first_new) * row;
		q->queries = device->queries_of[work->layer] + (work->position - first_new) * row;
		kvt_turn_tokens_each(
			&device->new_tokens, work->position, work->tokens, copy_run, &pages);
		return;
	}
	/* what was to come back is computed instead: too much to have been made before */
	q->stride = work->tokens * row;
	q->own = g_renew(float, q->own, q->stride * shape->kv_heads);
	q->queries = q->own;
	for (unsigned head = 0; head < shape->kv_heads; head++)
		kvt_kv_source_queries(source, work->layer, head, work->position, work->tokens,
			q->own + head * q->stride);
	uint64_t page = work->position / shape->page_tokens;
	kvt_kv_source_fill(source, work->layer, work->position, work->tokens,
		device->home[work->layer] + page * shape->page_bytes);
}

/* Asks the source for all that passes will need, so that it takes none of their time. */
static bool make_new_tokens(cpu_device *device)
{
	const kvt_turn_tokens *tokens = &device->new_tokens;
	for (unsigned layer = 0; layer < tokens->source->shape.layers; layer++) {
		float *queries = g_try_malloc(kvt_turn_tokens_query_bytes(tokens) + 1);
		uint8_t *pages = g_try_malloc(kvt_turn_tokens_page_bytes(tokens));
		device->queries_of[layer] = queries;
		device->pages_of[layer] = pages;
		if (!queries || !pages)
			return false;
		kvt_turn_tokens_make(tokens, layer, queries, pages);
	}
	return true;
}

static void attend_task(void *arg, unsigned index, unsigned thread)
{
	kvt_cpu_attention_task(&((cpu_device *)arg)->attention, index, thread);
}

/* Of one KV head. */
static void merge_task(void *arg, unsigned index, unsigned thread)
{
	cpu_device *device = arg;
	const kvt_kv_shape *shape = &device->settings.source->shape;
	kvt_cpu_queries *q = device->job_queries;
	size_t rows = (size_t)q->tokens * shape->heads, row = index * rows;
	size_t at = row * shape->head_dim;
	kvt_attention_partial into = { q->so_far.output + at, q->so_far.lse + row,
		q->so_far.lse_rest + row };
	kvt_attention_partial from = { q->part.output + at, q->part.lse + row,
		q->part.lse_rest + row };
	kvt_attention_merge(&into, &from, rows, shape->head_dim);
}

static void job_over(void *arg);

/* On a thread, as all of these. */
static void end_attention(void *arg)
{
	kvt_cpu_attention_end(&((cpu_device *)arg)->attention);
}

static void finish_job(void *arg, int64_t nanoseconds)
{
	cpu_device *device = arg;
	device->job_nanoseconds = nanoseconds;
	kvt_real_loop_post(device->settings.loop, job_over, device);
}

static void begin_job(cpu_device *device, const call *c)
{
	const kvt_kv_shape *shape = &device->settings.source->shape;
	const kvt_work *work = &c->work;
	kvt_cpu_job job = { .finish = finish_job, .arg = device, .n_tasks = shape->kv_heads };
	g_assert(!device->job);
	device->job = c;
	device->job_queries = find_queries(device, work);
	device->job_queries->used = ++device->uses;
	if (work->kind == KVT_WORK_MERGE) {
		job.task = merge_task;
	} else {
		bool at_home = work->place == KVT_PLACE_HOME;
		const uint8_t *pages =
			at_home ? device->home[work->layer]
				: device->staging +
					  (work->place - KVT_PLACE_STAGING) * device->buffer_bytes;
		kvt_cpu_attention_begin(&device->attention, work, pages,
			at_home ? 0 : work->first / shape->page_tokens, device->job_queries);
		job.task = attend_task;
		job.end = end_attention;
		job.n_tasks = device->attention.n_tasks;
	}
	kvt_real_loop_hold(device->settings.loop);
	kvt_cpu_pool_begin(device->pool, &job);
}

static void tell_waiters(cpu_device *device)
{
	waiter **at = &device->waiters;
	while (*at) {
		waiter *w = *at;
		if (!is_over(device, w->token)) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		kvt_loop_at(device->settings.loop, 0, w->callback, w->arg);
		g_free(w);
	}
	device->last_waiter = at;
}

static void advance(cpu_device *device);

/* The stream's first call is over at `end`, by the clock or by plan. */
static void end_call(stream *s, kvt_time end)
{
	cpu_device *device = s->device;
	call *c = s->head;
	s->head = c->next;
	if (!s->head)
		s->tail = &s->head;
	s->running = false;
	s->ended = c->number;
	s->free_at = end;
	if (device->settings.timeline && end > s->started)
		kvt_timeline_span(device->settings.timeline, s->track, kvt_work_names[c->work.kind],
			s->started, end);
	if (c->work.kind == KVT_WORK_OUTPUT && !c->work.again && device->settings.attended) {
		const kvt_cpu_queries *q = find_queries(device, &c->work);
		device->settings.attended(device->settings.attended_arg, c->work.layer, q->position,
			q->tokens, q->so_far.output, q->so_far.lse);
	}
	g_free(c);
	tell_waiters(device);
}

static void timed_over(void *arg)
{
	stream *s = arg;
	end_call(s, s->end);
	advance(s->device);
}

/* What threads computed is there. */
static void job_over(void *arg)
{
	cpu_device *device = arg;
	const call *c = device->job;
	stream *s = &device->streams[KVT_STREAM_COMPUTE];
	kvt_real_loop_release(device->settings.loop);
	g_assert(device->attention.status == 0);
	device->job = NULL;
	device->busy[c->work.kind] += (kvt_time)device->job_nanoseconds * KVT_NANOSECOND;
	end_call(s, kvt_loop_now(device->settings.loop));
	advance(device);
}

/* When the call can begin, by plan: behind the stream and what it waits for. */
static kvt_time start_of(const stream *s, const call *c)
{
	const cpu_device *device = s->device;
	kvt_time start = MAX(s->free_at, c->submitted);
	for (unsigned i = 0; i < c->n_after; i++) {
		if (c->after[i] <= 0)
			continue;
		const stream *other = &device->streams[(uint64_t)c->after[i] % KVT_STREAMS];
		if (other->ended == (uint64_t)c->after[i] / KVT_STREAMS)
			start = MAX(start, other->free_at);
	}
	return start;
}

static bool can_start(const stream *s)
{
	if (s->running || !s->head)
		return false;
	for (unsigned i = 0; i < s->head->n_after; i++)
		if (!is_over(s->device, s->head->after[i]))
			return false;
	return true;
}

static void start_call(stream *s)
{
	cpu_device *device = s->device;
	const call *c = s->head;
	s->running = true;
	s->started = start_of(s, c);
	if (is_real(&c->work)) {
		s->started = kvt_loop_now(device->settings.loop);
		begin_job(device, c);
		return;
	}
	kvt_time duration = kvt_work_cost_time(device->settings.cost, &c->work);
	device->busy[c->work.kind] += duration;
	s->end = s->started + duration;
	if (c->work.kind == KVT_WORK_QKV && !c->work.again)
		take_new_tokens(device, &c->work);
	/* it ends when it should have, also when the loop comes a little later to it */
	kvt_loop_at(device->settings.loop, s->end, timed_over, s);
}

static void advance(cpu_device *device)
{
	for (unsigned i = 0; i < KVT_STREAMS; i++)
		if (can_start(&device->streams[i]))
			start_call(&device->streams[i]);
}

static kvt_token cpu_submit(kvt_device *base, kvt_stream stream_index, const kvt_work *work,
	const kvt_token *after, unsigned n_after)
{
	cpu_device *device = (cpu_device *)base;
	stream *s = &device->streams[stream_index];
	/* threads have one job at a time */
	g_assert(stream_index == KVT_STREAM_COMPUTE || !kvt_turn_work_is_real(work->kind));
	g_assert(n_after <= AFTER_MAX);
	call *c = g_new0(call, 1);
	c->work = *work;
	c->number = ++s->submitted;
	c->n_after = n_after;
	c->submitted = kvt_loop_now(device->settings.loop);
	if (n_after > 0)
		memcpy(c->after, after, n_after * sizeof(*after));
	*s->tail = c;
	s->tail = &c->next;
	if (can_start(s))
		start_call(s);
	return (kvt_token)(c->number * KVT_STREAMS + stream_index);
}

static void cpu_notify(kvt_device *base, kvt_token token, kvt_callback callback, void *arg)
{
	cpu_device *device = (cpu_device *)base;
	if (is_over(device, token)) {
		kvt_loop_at(device->settings.loop, 0, callback, arg);
		return;
	}
	waiter *w = g_new(waiter, 1);
	*w = (waiter){ .token = token, .callback = callback, .arg = arg };
	*device->last_waiter = w;
	device->last_waiter = &w->next;
}

static kvt_time cpu_busy(kvt_device *base, kvt_work_kind kind)
{
	return ((cpu_device *)base)->busy[kind];
}

static void cpu_free(kvt_device *base)
{
	cpu_device *device = (cpu_device *)base;
	const kvt_kv_shape *shape = &device->settings.source->shape;
	kvt_cpu_pool_free(device->pool);
	for (unsigned i = 0; i < KVT_STREAMS; i++)
		for (call *c = device->streams[i].head, *next; c; c = next) {
			next = c->next;
			g_free(c);
		}
	for (waiter *w = device->waiters, *next; w; w = next) {
		next = w->next;
		g_free(w);
	}
	for (unsigned i = 0; i < HALVES; i++)
		kvt_cpu_queries_clear(&device->halves[i]);
	kvt_cpu_attention_clear(&device->attention);
	for (unsigned i = 0; i < shape->layers; i++) {
		if (device->home[i])
			munmap(device->home[i], device->home_bytes);
		g_free(device->queries_of[i]);
		g_free(device->pages_of[i]);
	}
	if (device->staging)
		munmap(device->staging, device->staging_bytes);
	g_free(device->queries_of);
	g_free(device->pages_of);
	g_free(device->home);
	g_free(device);
}

static void cpu_remake(kvt_device *base, const kvt_extent *extent)
{
	cpu_device *device = (cpu_device *)base;
	const kvt_kv_shape *shape = &device->settings.source->shape;
	kvt_kv_source_fill(device->settings.source, extent->layer,
		extent->first_page * shape->page_tokens, extent->n_pages * shape->page_tokens,
		cpu_memory(base, KVT_PLACE_HOME, extent));
}

static const kvt_device_ops cpu_ops = {
	.name = "cpu",
	.submit = cpu_submit,
	.notify = cpu_notify,
	.memory = cpu_memory,
	.remake = cpu_remake,
	.busy = cpu_busy,
	.free = cpu_free,
};

/* Memory that is taken page by page as it is used; NULL without address space. */
static uint8_t *map(uint64_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

static uint64_t huge_pages(uint64_t bytes)
{
	const uint64_t huge = 2 << 20;
	return bytes < huge ? bytes : (bytes + huge - 1) / huge * huge;
}

static bool map_all(cpu_device *device)
{
	const kvt_kv_shape *shape = &device->settings.source->shape;
	const uint64_t tokens = device->settings.tokens, window = device->settings.window_tokens;
	/* a run of tokens may begin and end within a page; the system begins a mapping on a huge
	 * page where it is of whole ones */
	device->home_bytes = huge_pages((tokens / shape->page_tokens + 1) * shape->page_bytes);
	device->buffer_bytes = (window / shape->page_tokens + 2) * shape->page_bytes;
	/* where O_DIRECT can read to */
	device->buffer_bytes = (device->buffer_bytes + 4095) / 4096 * 4096;
	device->staging_bytes = huge_pages(device->buffer_bytes * device->settings.buffers);
	for (unsigned i = 0; i < shape->layers; i++)
		if (!(device->home[i] = map(device->home_bytes)))
			return false;
	if (device->settings.buffers == 0)
		return true;
	device->staging = map(device->staging_bytes);
	return device->staging != NULL;
}

kvt_device *kvt_cpu_device_new(const kvt_cpu_device_settings *settings, GError **error)
{
	const kvt_kv_shape *shape = &settings->source->shape;
	cpu_device *device = g_new0(cpu_device, 1);
	device->base.ops = &cpu_ops;
	device->settings = *settings;
	device->last_waiter = &device->waiters;
	device->new_tokens =
		(kvt_turn_tokens){ settings->source, settings->first_new, settings->tokens };
	device->home = g_new0(uint8_t *, shape->layers);
	device->queries_of = g_new0(float *, shape->layers);
	device->pages_of = g_new0(uint8_t *, shape->layers);
	kvt_cpu_attention_init(
		&device->attention, settings->source, settings->isa, settings->threads);
	static const char *const tracks[KVT_STREAMS] = { "compute", "all-reduce" };
	for (unsigned i = 0; i < KVT_STREAMS; i++) {
		stream *s = &device->streams[i];
		*s = (stream){ .device = device, .index = i, .tail = &s->head };
		if (settings->timeline)
			s->track = kvt_timeline_track(settings->timeline, tracks[i], 0);
	}
	bool mapped = map_all(device) && make_new_tokens(device);
	if (!mapped)
		kvt_error_failed(error, "no memory for keys, values and queries");
	else
		device->pool = kvt_cpu_pool_new(settings->threads, error);
	if (!mapped || !device->pool) {
		cpu_free(&device->base);
		return NULL;
	}
	return &device->base;
}

void kvt_cpu_device_place(kvt_device *base, const kvt_cores *cores)
{
	kvt_cpu_pool_place(((cpu_device *)base)->pool, cores);
}

/* Takes [from, to) of a mapping, and a little around it. */
static bool commit(uint8_t *memory, uint64_t from, uint64_t to,
	void (*each)(void *arg, void *memory, uint64_t bytes), void *arg)
{
	const uint64_t unit = 4096;
	if (from >= to)
		return true;
	from = from / unit * unit;
	to = (to + unit - 1) / unit * unit;
	/* where there are no huge pages small ones will do */
	madvise(memory + from, to - from, MADV_HUGEPAGE);
	if (madvise(memory + from, to - from, MADV_POPULATE_WRITE) != 0) {
		if (errno != EINVAL)
			return false;
		for (uint64_t at = from; at < to; at += unit)
			((volatile uint8_t *)memory)[at] = 0;
	}
	each(arg, memory + from, to - from);
	return true;
}

bool kvt_cpu_device_commit(kvt_device *base, uint64_t resident, uint64_t newest,
	void (*each)(void *arg, void *memory, uint64_t bytes), void *arg, GError **error)
{
	cpu_device *device = (cpu_device *)base;
	const kvt_kv_shape *shape = &device->settings.source->shape;
	const uint64_t tokens = device->settings.tokens;
	newest = MIN(newest, tokens);
	/* whole pages, on either side */
	uint64_t end =
		MIN((resident / shape->page_tokens + 1) * shape->page_bytes, device->home_bytes);
	uint64_t tail = (tokens - newest) / shape->page_tokens * shape->page_bytes;
	bool good = true;
	for (unsigned i = 0; i < shape->layers && good; i++) {
		bool joined = newest > 0 && tail <= end;
		good = commit(device->home[i], 0, joined ? device->home_bytes : end, each, arg) &&
		       (newest == 0 || joined ||
			       commit(device->home[i], tail, device->home_bytes, each, arg));
	}
	good = good && commit(device->staging, 0, device->staging_bytes, each, arg);
	if (!good)
		kvt_error_failed(error, "no memory for KV: %s", g_strerror(errno));
	return good;
}
