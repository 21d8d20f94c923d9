/* gpu_pages.c: one region of what stays, layer after layer, one of staging buffers, and small ones
 * of pages that were lost and stay where nobody expected them to. */
#include "emu/gpu/gpu_pages.h"

#include "sim/base/error.h"

/* Pages [first, first + n) of a layer, one after another, and their list. */
typedef struct spare {
	unsigned layer;
	uint64_t first, n;
	uint8_t *memory;
	const void **list;
} spare;

struct kvt_gpu_pages {
	kvt_gpu_stream *stream;
	kvt_kv_shape shape;
	kvt_gpu_room room;
	/* of a layer: pages [0, prefix), and [tail, end) behind them */
	uint64_t prefix, tail, end, layer_pages;
	uint64_t buffer_pages, buffer_bytes;
	uint8_t *home, *staging;
	const void **home_list, **staging_list; /* on the device */
	GArray *spares;
	void (*each)(void *arg, void *memory, uint64_t bytes); /* may be NULL */
	void *each_arg;
};

static void *alloc(kvt_gpu_pages *p, uint64_t bytes)
{
	return p->stream->gpu->ops->alloc(p->stream->gpu, bytes);
}

/* A list on the device of `groups` times n pages, page_bytes apart, groups `pitch` bytes apart. */
static const void **make_list(
	kvt_gpu_pages *p, const uint8_t *memory, uint64_t groups, uint64_t pitch, uint64_t n)
{
	uint64_t bytes = groups * n * sizeof(void *);
	const void **device = alloc(p, bytes);
	const void **list = g_try_malloc(MAX(bytes, 1));
	kvt_gpu_copy copy = { (void *)device, (const void *)list, bytes };
	for (uint64_t i = 0; list && i < groups * n; i++)
		list[i] = memory + i / n * pitch + i % n * p->shape.page_bytes;
	bool good = device && list &&
		    p->stream->gpu->ops->copy(p->stream, &copy, 1, KVT_GPU_COPY_AUTOMATIC) == 0;
	if (!good) {
		p->stream->gpu->ops->release(p->stream->gpu, (void *)device);
		device = NULL;
	}
	g_free((void *)list);
	return device;
}

static void place(kvt_gpu_pages *p)
{
	const kvt_gpu_room *room = &p->room;
	const uint64_t page_tokens = p->shape.page_tokens;
	p->end = (room->tokens + page_tokens - 1) / page_tokens;
	p->prefix = MIN((room->resident + page_tokens - 1) / page_tokens, p->end);
	p->tail = (room->tokens - MIN(room->newest, room->tokens)) / page_tokens;
	if (p->tail <= p->prefix)
		p->prefix = p->tail = p->end;
	if (room->newest == 0)
		p->tail = p->end;
	p->layer_pages = p->prefix + p->end - p->tail;
	/* a window may begin and end within a page */
	p->buffer_pages = room->window_tokens / page_tokens + 2;
	p->buffer_bytes = (p->buffer_pages * p->shape.page_bytes + 4095) / 4096 * 4096;
}

kvt_gpu_pages *kvt_gpu_pages_new(
	kvt_gpu_stream *stream, const kvt_kv_shape *shape, const kvt_gpu_room *room, GError **error)
{
	kvt_gpu_pages *p = g_new0(kvt_gpu_pages, 1);
	p->stream = stream;
	p->shape = *shape;
	p->room = *room;
	p->spares = g_array_new(FALSE, FALSE, sizeof(spare));
	place(p);
	uint64_t layer_bytes = p->layer_pages * shape->page_bytes;
	p->home = alloc(p, shape->layers * layer_bytes);
	if (p->home)
		p->home_list = make_list(p, p->home, shape->layers, layer_bytes, p->layer_pages);
	if (room->buffers > 0)
		p->staging = alloc(p, room->buffers * p->buffer_bytes);
	if (p->staging)
		p->staging_list =
			make_list(p, p->staging, room->buffers, p->buffer_bytes, p->buffer_pages);
	if (p->home_list && (p->staging_list || room->buffers == 0))
		return p;
	kvt_error_failed(error,
		"no memory on the GPU for KV: %.3f GB of pages that stay and %.3f GB of staging "
		"buffers, expected a larger [emulation] hbm, or less that stays",
		(double)(shape->layers * layer_bytes) * 1e-9,
		(double)(room->buffers * p->buffer_bytes) * 1e-9);
	kvt_gpu_pages_free(p);
	return NULL;
}

void kvt_gpu_pages_free(kvt_gpu_pages *p)
{
	if (!p)
		return;
	kvt_real_gpu *gpu = p->stream->gpu;
	for (guint i = 0; i < p->spares->len; i++) {
		gpu->ops->release(gpu, g_array_index(p->spares, spare, i).memory);
		gpu->ops->release(gpu, (void *)g_array_index(p->spares, spare, i).list);
	}
	g_array_unref(p->spares);
	gpu->ops->release(gpu, p->home);
	gpu->ops->release(gpu, p->staging);
	gpu->ops->release(gpu, (void *)p->home_list);
	gpu->ops->release(gpu, (void *)p->staging_list);
	g_free(p);
}

void kvt_gpu_pages_each(
	kvt_gpu_pages *p, void (*each)(void *arg, void *memory, uint64_t bytes), void *arg)
{
	p->each = each;
	p->each_arg = arg;
	each(arg, p->home, p->shape.layers * p->layer_pages * p->shape.page_bytes);
	if (p->staging)
		each(arg, p->staging, p->room.buffers * p->buffer_bytes);
}

/* Where the list's entry of a page of a layer is, and how many of its neighbours follow; NULL:
 * nowhere. *memory: the page. */
static const void **find(
	const kvt_gpu_pages *p, unsigned layer, uint64_t page, uint64_t *n, uint8_t **memory)
{
	uint64_t index = page < p->prefix ? page : p->prefix + page - p->tail;
	if (page < p->prefix || (page >= p->tail && page < p->end)) {
		index += layer * p->layer_pages;
		*n = page < p->prefix ? p->prefix - page : p->end - page;
		*memory = p->home + index * p->shape.page_bytes;
		return p->home_list + index;
	}
	for (guint i = 0; i < p->spares->len; i++) {
		const spare *s = &g_array_index(p->spares, spare, i);
		if (s->layer != layer || page < s->first || page >= s->first + s->n)
			continue;
		*n = s->first + s->n - page;
		*memory = s->memory + (page - s->first) * p->shape.page_bytes;
		return s->list + (page - s->first);
	}
	*n = 0;
	*memory = NULL;
	return NULL;
}

uint8_t *kvt_gpu_pages_home(const kvt_gpu_pages *p, unsigned layer, uint64_t page, uint64_t *n)
{
	uint8_t *memory;
	find(p, layer, page, n, &memory);
	return memory;
}

/* What lies elsewhere of a longer run comes along. */
static void move_pages(kvt_gpu_pages *p, const spare *s)
{
	const uint64_t page_bytes = p->shape.page_bytes;
	for (uint64_t i = 0, n; i < s->n; i += n) {
		kvt_gpu_copy copy = { .to = s->memory + i * page_bytes };
		copy.from = kvt_gpu_pages_home(p, s->layer, s->first + i, &n);
		n = copy.from ? MIN(n, s->n - i) : 1;
		copy.bytes = n * page_bytes;
		/* where that fails the GPU does */
		if (copy.from)
			p->stream->gpu->ops->copy(p->stream, &copy, 1, KVT_GPU_COPY_AUTOMATIC);
	}
}

/* Room for pages that were not expected to stay. */
static void *take_spare(kvt_gpu_pages *p, const kvt_extent *extent)
{
	kvt_real_gpu *gpu = p->stream->gpu;
	spare s = { .layer = extent->layer, .first = extent->first_page, .n = extent->n_pages };
	s.memory = alloc(p, kvt_extent_bytes(extent));
	if (!s.memory)
		return NULL;
	s.list = make_list(p, s.memory, 1, 0, s.n);
	if (!s.list) {
		gpu->ops->release(gpu, s.memory);
		return NULL;
	}
	move_pages(p, &s);
	/* what comes later counts: it may be a longer run over the same pages */
	g_array_prepend_val(p->spares, s);
	if (p->each)
		p->each(p->each_arg, s.memory, kvt_extent_bytes(extent));
	return s.memory;
}

void *kvt_gpu_pages_memory(kvt_gpu_pages *p, unsigned place_index, const kvt_extent *extent)
{
	uint64_t n;
	uint8_t *memory;
	g_assert(extent->page_bytes == p->shape.page_bytes && extent->layer < p->shape.layers);
	if (place_index != KVT_PLACE_HOME) {
		unsigned buffer = place_index - KVT_PLACE_STAGING;
		g_assert(buffer < p->room.buffers && extent->n_pages <= p->buffer_pages);
		return p->staging + buffer * p->buffer_bytes;
	}
	find(p, extent->layer, extent->first_page, &n, &memory);
	return memory && n >= extent->n_pages ? memory : take_spare(p, extent);
}

/* A run of tokens of a work at its place, and what is known of the windows so far. */
typedef struct cutter {
	const kvt_gpu_pages *pages;
	const kvt_work *work;
	GArray *windows;
	uint64_t before;       /* tokens in the windows */
	const void *const *at; /* behind the last window's last page; NULL: it ends within one */
} cutter;

/* Tokens [first, first + n) of the list's page `pages`. */
static void add_window(cutter *c, const void *const *pages, uint32_t skip, uint64_t n)
{
	const uint32_t page_tokens = c->pages->shape.page_tokens;
	if (c->at && c->at == pages && skip == 0) {
		kvt_cuda_window *last =
			&g_array_index(c->windows, kvt_cuda_window, c->windows->len - 1);
		last->n_tokens += n;
	} else {
		kvt_cuda_window window = { .pages = pages, .n_tokens = n, .skip = skip };
		g_array_append_val(c->windows, window);
	}
	c->at = (skip + n) % page_tokens == 0 ? pages + (skip + n) / page_tokens : NULL;
	c->before += n;
}

static bool cut(cutter *c, uint64_t first, uint64_t end)
{
	const kvt_gpu_pages *p = c->pages;
	const uint64_t page_tokens = p->shape.page_tokens;
	while (first < end) {
		uint64_t page = first / page_tokens, n;
		uint8_t *memory;
		const void **list;
		if (c->work->place == KVT_PLACE_HOME) {
			list = find(p, c->work->layer, page, &n, &memory);
		} else {
			uint64_t buffer = c->work->place - KVT_PLACE_STAGING;
			uint64_t index = page - c->work->first / page_tokens;
			n = index < p->buffer_pages ? p->buffer_pages - index : 0;
			list = p->staging_list + buffer * p->buffer_pages + index;
		}
		if (n == 0)
			return false;
		uint64_t stop = MIN(end, (page + n) * page_tokens);
		add_window(c, list, (uint32_t)(first % page_tokens), stop - first);
		first = stop;
	}
	return true;
}

bool kvt_gpu_pages_windows(const kvt_gpu_pages *p, const kvt_work *work, GArray *windows)
{
	cutter c = { .pages = p, .work = work, .windows = windows };
	uint64_t before = work->gap > 0 ? work->gap_first - work->first : work->kv_tokens;
	before = MIN(before, work->kv_tokens);
	uint64_t behind = work->first + before + work->gap;
	uint64_t end = work->first + work->kv_tokens + work->gap;
	guint had = windows->len;
	if (!cut(&c, work->first, work->first + before) ||
		!cut(&c, behind, end + (work->causal ? work->tokens : 0)))
		return false;
	/* the first query token sees the earlier ones and itself */
	uint64_t counted = 0, sees = work->kv_tokens + 1;
	for (guint i = had; i < windows->len; i++) {
		kvt_cuda_window *w = &g_array_index(windows, kvt_cuda_window, i);
		bool all = !work->causal || counted + w->n_tokens <= sees;
		/* where some are in the next one, the first query token is in this one */
		g_assert(all || counted <= sees);
		w->seen = all ? w->n_tokens : sees - counted;
		counted += w->n_tokens;
	}
	return true;
}
