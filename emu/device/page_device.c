/* page_device.c: attention over chosen pages: what is there first, then what arrives. */
#include "emu/device/page_device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "emu/device/cpu_pool.h"
#include "emu/loop/real_loop.h"
#include "sim/base/error.h"

/* Some of the pages that a KV head reads. */
typedef struct page_set {
	const void **keys, **values; /* [n_pages] */
	uint64_t n, n_tokens;
} page_set;

/* A KV head at the call. */
typedef struct head_call {
	page_set here, late;
	uint8_t *is_late; /* [n_pages] */
	void *scratch;
} head_call;

typedef struct page_device {
	kvt_replay_device base;
	kvt_page_device_settings settings;
	kvt_attention_shape shape;
	uint64_t page_bytes, home_bytes;
	kvt_cpu_pool *pool;
	uint8_t **home;     /* [layer x kv_heads + head], its pages */
	uint8_t **resident; /* the same: which were in HBM when its last call was over */
	head_call *heads;   /* [kv_heads] */
	kvt_attention_partial so_far, part; /* rows: kv_heads x heads */
	/* the call */
	kvt_replay_call call;
	bool running, attending_late, finishing;
	int status;
	int64_t job_nanoseconds;
	kvt_time computed;
	kvt_callback done;
	void *done_arg;
} page_device;

uint64_t kvt_recorded_page_bytes(const kvt_kv_recording *recording)
{
	return UINT64_C(2) * recording->block_tokens * recording->head_dim * sizeof(uint16_t);
}

void kvt_recorded_pages_fill(const kvt_kv_recording *recording, uint32_t layer, uint32_t kv_head,
	uint64_t first, uint64_t end, void *pages)
{
	const uint64_t dim = recording->head_dim, block = recording->block_tokens;
	const uint64_t first_page = first / block;
	for (uint64_t token = first; token < end;) {
		uint64_t n = MIN(block - token % block, end - token);
		uint64_t from = (kv_head * recording->n_tokens + token) * dim;
		uint16_t *keys = (uint16_t *)pages + (token / block - first_page) * 2 * block * dim;
		uint16_t *at = keys + token % block * dim;
		memcpy(at, recording->keys[layer] + from, n * dim * sizeof(*at));
		memcpy(at + block * dim, recording->values[layer] + from, n * dim * sizeof(*at));
		token += n;
	}
}

kvt_attention_shape kvt_recorded_shape(const kvt_kv_recording *recording)
{
	size_t stride = recording->head_dim * sizeof(uint16_t);
	return (kvt_attention_shape){ .element = KVT_ELEMENT_F16,
		.head_dim = recording->head_dim,
		.heads = recording->heads,
		.page_tokens = recording->block_tokens,
		.key_stride = stride,
		.value_stride = stride,
		.scale = recording->scale,
		.key_scale = 1,
		.value_scale = 1 };
}

static uint8_t *page_at(const page_device *device, uint32_t recorded, uint32_t head, uint64_t page)
{
	return device->home[recorded * device->settings.recording->kv_heads + head] +
	       page * device->page_bytes;
}

static void *memory(kvt_replay_device *base, const kvt_extent *extent)
{
	page_device *device = (page_device *)base;
	const kvt_kv_recording *recording = device->settings.recording;
	uint32_t recorded = 0, head = extent->context - device->settings.first_context;
	while (recorded < recording->n_layers && recording->layers[recorded] != extent->layer)
		recorded++;
	g_assert(recorded < recording->n_layers && head < recording->kv_heads);
	g_assert(extent->page_bytes == device->page_bytes &&
		 extent->first_page + extent->n_pages <= device->settings.n_pages);
	return page_at(device, recorded, head, extent->first_page);
}

static void remake(kvt_replay_device *base, const kvt_extent *extent)
{
	const page_device *device = (page_device *)base;
	const kvt_kv_recording *recording = device->settings.recording;
	uint32_t recorded = 0, head = extent->context - device->settings.first_context;
	void *pages = memory(base, extent);
	while (recording->layers[recorded] != extent->layer)
		recorded++;
	kvt_recorded_pages_fill(recording, recorded, head,
		extent->first_page * recording->block_tokens,
		(extent->first_page + extent->n_pages) * recording->block_tokens, pages);
}

/* Scoring has taken its time when it is asked for. */
static kvt_time scan_time(kvt_replay_device *base, uint64_t bytes)
{
	return 0;
}

/* Keys and values of the step's token, and of those that came before it since the last step, in
 * pages that were open then or are now. */
static void add_tokens(page_device *device, uint32_t recorded, uint32_t head)
{
	const kvt_kv_recording *recording = device->settings.recording;
	const uint64_t *position =
		&recording->positions[device->settings.first_step + device->call.step];
	uint64_t block = recording->block_tokens, page = *position / block;
	kvt_recorded_pages_fill(recording, recorded, head, page * block, *position + 1,
		page_at(device, recorded, head, page));
	if (device->call.step == 0)
		return;
	uint64_t before = position[-1] / block;
	if (before < page && (position[-1] + 1) % block != 0)
		kvt_recorded_pages_fill(recording, recorded, head, before * block,
			(before + 1) * block, page_at(device, recorded, head, before));
}

static void add_page(page_device *device, uint32_t head, uint32_t page, uint64_t open)
{
	const kvt_kv_recording *recording = device->settings.recording;
	head_call *h = &device->heads[head];
	page_set *set = h->is_late[page] ? &h->late : &h->here;
	const uint8_t *at = page_at(device, device->call.recorded, head, page);
	uint64_t step = device->settings.first_step + device->call.step;
	set->keys[set->n] = at;
	set->values[set->n++] = at + device->page_bytes / 2;
	set->n_tokens += page < open ? recording->block_tokens
				     : recording->positions[step] % recording->block_tokens + 1;
}

/* What a KV head reads, what is there of it and what is late. The open page, of which not all
 * tokens are there, is the last one, and never late. */
static void sort_pages(page_device *device, uint32_t head)
{
	const kvt_replay_reads *reads = &device->call.heads[head];
	const kvt_selection *selection = reads->selection;
	head_call *h = &device->heads[head];
	uint32_t context = device->settings.first_context + head;
	memset(h->is_late, 0, device->settings.n_pages);
	for (unsigned i = 0; i < G_N_ELEMENTS(device->call.late); i++)
		for (unsigned k = 0; k < device->call.late[i]->n; k++) {
			const kvt_extent *extent = &device->call.late[i]->extents[k];
			if (extent->context == context)
				memset(h->is_late + extent->first_page, 1, extent->n_pages);
		}
	uint32_t open = selection->present.end - 1;
	h->here.n = h->here.n_tokens = h->late.n = h->late.n_tokens = 0;
	for (uint32_t i = 0; !reads->all && i < selection->n; i++)
		add_page(device, head, selection->pages[i], open);
	for (uint32_t page = selection->present.first; reads->all && page <= open; page++)
		add_page(device, head, page, open);
	g_assert(!h->is_late[open]);
}

static kvt_attention_partial rows_of(
	const page_device *device, const kvt_attention_partial *partial, uint32_t head)
{
	size_t row = (size_t)head * device->shape.heads;
	return (kvt_attention_partial){ partial->output + row * device->shape.head_dim,
		partial->lse + row, partial->lse_rest + row };
}

/* On a thread, one KV head. */
static void attend_task(void *arg, unsigned head, unsigned thread)
{
	page_device *device = arg;
	const kvt_kv_recording *recording = device->settings.recording;
	const kvt_attention_shape *shape = &device->shape;
	head_call *h = &device->heads[head];
	const page_set *set = device->attending_late ? &h->late : &h->here;
	uint64_t step = device->settings.first_step + device->call.step;
	uint64_t row = (step * recording->kv_heads + head) * recording->heads;
	const float *queries = recording->queries[device->call.recorded] + row * shape->head_dim;
	kvt_attention_window window = { .keys = set->keys,
		.values = set->values,
		.n_tokens = set->n_tokens,
		.seen = set->n_tokens };
	kvt_attention_partial so_far = rows_of(device, &device->so_far, head);
	kvt_attention_partial part = rows_of(device, &device->part, head);
	int status = kvt_attention(device->settings.isa, shape, queries, 1, &window,
		device->attending_late ? &part : &so_far, h->scratch);
	if (status != 0)
		__atomic_store_n(&device->status, status, __ATOMIC_RELAXED);
	else if (device->attending_late)
		kvt_attention_merge(&so_far, &part, shape->heads, shape->head_dim);
}

static void job_over(void *arg);

static void finish_job(void *arg, int64_t nanoseconds)
{
	page_device *device = arg;
	device->job_nanoseconds = nanoseconds;
	kvt_real_loop_post(device->settings.loop, job_over, device);
}

static void begin_job(page_device *device, bool late)
{
	kvt_cpu_job job = { .task = attend_task,
		.finish = finish_job,
		.arg = device,
		.n_tasks = device->settings.recording->kv_heads };
	g_assert(!device->running);
	device->running = true;
	device->attending_late = late;
	kvt_real_loop_hold(device->settings.loop);
	kvt_cpu_pool_begin(device->pool, &job);
}

/* What has left HBM, or was never to stay there, is not there any more. */
static void forget_pages(page_device *device, uint32_t head)
{
	const uint8_t *resident = device->call.heads[head].resident;
	const head_call *h = &device->heads[head];
	uint32_t kv_heads = device->settings.recording->kv_heads;
	uint8_t *before = device->resident[device->call.recorded * kv_heads + head];
	for (uint32_t page = 0; page < device->settings.n_pages; page++)
		if (!resident[page] && (before[page] || h->is_late[page]))
			memset(page_at(device, device->call.recorded, head, page), 0xff,
				device->page_bytes);
	memcpy(before, resident, device->settings.n_pages);
}

static void end_call(page_device *device)
{
	g_assert(device->status == 0);
	if (device->settings.attended)
		device->settings.attended(device->settings.attended_arg, &device->call,
			device->so_far.output, device->so_far.lse);
	for (uint32_t head = 0; head < device->settings.recording->kv_heads; head++)
		forget_pages(device, head);
	device->finishing = false;
	kvt_loop_at(device->settings.loop, 0, device->done, device->done_arg);
}

/* All has arrived, and what was there has been attended to. */
static void attend_late(page_device *device)
{
	uint64_t late = 0;
	for (uint32_t head = 0; head < device->settings.recording->kv_heads; head++)
		late += device->heads[head].late.n;
	if (late > 0)
		begin_job(device, true);
	else
		end_call(device);
}

static void job_over(void *arg)
{
	page_device *device = arg;
	kvt_real_loop_release(device->settings.loop);
	device->running = false;
	device->computed += device->job_nanoseconds * KVT_NANOSECOND;
	if (device->attending_late)
		end_call(device);
	else if (device->finishing)
		attend_late(device);
}

static void begin(kvt_replay_device *base, const kvt_replay_call *call)
{
	page_device *device = (page_device *)base;
	g_assert(call->heads && call->n_heads == device->settings.recording->kv_heads);
	device->call = *call;
	device->computed = 0;
	for (uint32_t head = 0; head < call->n_heads; head++) {
		add_tokens(device, call->recorded, head);
		sort_pages(device, head);
	}
	begin_job(device, false);
}

static void finish(kvt_replay_device *base, uint64_t last, kvt_callback done, void *arg)
{
	page_device *device = (page_device *)base;
	device->finishing = true;
	device->done = done;
	device->done_arg = arg;
	if (!device->running)
		attend_late(device);
}

static kvt_time computed(const kvt_replay_device *base)
{
	return ((const page_device *)base)->computed;
}

static void partial_free(kvt_attention_partial *partial)
{
	g_free(partial->output);
	g_free(partial->lse);
	g_free(partial->lse_rest);
}

static void free_device(kvt_replay_device *base)
{
	page_device *device = (page_device *)base;
	const kvt_kv_recording *recording = device->settings.recording;
	kvt_cpu_pool_free(device->pool);
	for (uint32_t i = 0; i < recording->n_layers * recording->kv_heads; i++) {
		if (device->home[i])
			munmap(device->home[i], device->home_bytes);
		g_free(device->resident[i]);
	}
	for (uint32_t i = 0; i < recording->kv_heads; i++) {
		head_call *h = &device->heads[i];
		g_free(h->here.keys);
		g_free(h->here.values);
		g_free(h->late.keys);
		g_free(h->late.values);
		g_free(h->is_late);
		free(h->scratch);
	}
	partial_free(&device->so_far);
	partial_free(&device->part);
	g_free(device->heads);
	g_free(device->home);
	g_free(device->resident);
	g_free(device);
}

static const kvt_replay_device_ops ops = {
	.memory = memory,
	.remake = remake,
	.scan_time = scan_time,
	.begin = begin,
	.finish = finish,
	.computed = computed,
	.free = free_device,
};

void kvt_page_device_place(kvt_replay_device *base, const kvt_cores *cores)
{
	kvt_cpu_pool_place(((page_device *)base)->pool, cores);
}

void kvt_page_device_regions(
	kvt_replay_device *base, void (*each)(void *arg, void *memory, uint64_t bytes), void *arg)
{
	page_device *device = (page_device *)base;
	const kvt_kv_recording *recording = device->settings.recording;
	for (uint32_t i = 0; i < recording->n_layers * recording->kv_heads; i++)
		each(arg, device->home[i], device->home_bytes);
}

static kvt_attention_partial partial_new(size_t rows, uint32_t head_dim)
{
	return (kvt_attention_partial){ .output = g_new(float, rows *head_dim),
		.lse = g_new(float, rows),
		.lse_rest = g_new(float, rows) };
}

/* False without memory for the pages. */
static bool make_homes(page_device *device)
{
	const kvt_kv_recording *recording = device->settings.recording;
	uint32_t n = recording->n_layers * recording->kv_heads;
	device->home = g_new0(uint8_t *, n);
	device->resident = g_new0(uint8_t *, n);
	for (uint32_t i = 0; i < n; i++) {
		void *pages = mmap(NULL, device->home_bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (pages == MAP_FAILED)
			return false;
		device->home[i] = memset(pages, 0xff, device->home_bytes);
		device->resident[i] = g_new0(uint8_t, device->settings.n_pages);
	}
	return true;
}

static void make_heads(page_device *device)
{
	uint32_t kv_heads = device->settings.recording->kv_heads, n = device->settings.n_pages;
	size_t rows = (size_t)kv_heads * device->shape.heads;
	size_t scratch = kvt_attention_scratch_bytes(&device->shape, 1);
	device->so_far = partial_new(rows, device->shape.head_dim);
	device->part = partial_new(rows, device->shape.head_dim);
	device->heads = g_new0(head_call, kv_heads);
	for (uint32_t i = 0; i < kv_heads; i++)
		device->heads[i] = (head_call){
			.here = { .keys = g_new(const void *, n),
				.values = g_new(const void *, n) },
			.late = { .keys = g_new(const void *, n),
				.values = g_new(const void *, n) },
			.is_late = g_new0(uint8_t, n),
			.scratch = aligned_alloc(64, (scratch + 63) / 64 * 64),
		};
}

kvt_replay_device *kvt_page_device_new(const kvt_page_device_settings *settings, GError **error)
{
	page_device *device = g_new0(page_device, 1);
	device->base.ops = &ops;
	device->settings = *settings;
	device->shape = kvt_recorded_shape(settings->recording);
	device->page_bytes = kvt_recorded_page_bytes(settings->recording);
	device->home_bytes = settings->n_pages * device->page_bytes;
	make_heads(device);
	bool made = make_homes(device);
	if (!made)
		kvt_error_failed(error, "no memory for KV: %s", g_strerror(errno));
	else
		device->pool = kvt_cpu_pool_new(settings->threads, error);
	if (!made || !device->pool) {
		free_device(&device->base);
		return NULL;
	}
	return &device->base;
}
