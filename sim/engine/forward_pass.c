/* forward_pass.c: the state machine of a pass: loads ahead, layers in order, writes behind. */
#include "sim/engine/forward_pass.h"

#include <errno.h>

#include "sim/core/timeline.h"
#include "sim/engine/page_chooser.h"
#include "sim/engine/pass_work.h"

typedef struct pass pass;

/* One load: a run of a layer's tokens, under way, arrived, or being attended to. */
typedef struct load_window {
	pass *owner;
	struct load_window *next; /* in order of submission, or in the free list */
	unsigned layer;
	uint64_t tokens;
	uint64_t first; /* of them */
	unsigned place; /* where they land in the device's memory */
	bool arrived, kept;
	kvt_extent extent;
	void *memory;           /* of the place; NULL where the device has none */
	kvt_extent_list chosen; /* instead, of a choice's pages */
	kvt_io io;
} load_window;

/* A place that windows are loaded into in turn. */
typedef struct staging_buffer {
	pass *owner;
	struct staging_buffer *next; /* in the list of free ones */
	unsigned place;
} staging_buffer;

/* The next load of one kind of layers. */
typedef struct load_cursor {
	unsigned layer;
	uint64_t offset; /* within the layer's range */
} load_cursor;

/* The pages of one layer on their way out. */
typedef struct layer_write {
	pass *owner;
	kvt_extent extent;
	void *memory;
	kvt_io io;
} layer_write;

enum { HALVES_MAX = 2 };

struct pass {
	kvt_engine *engine;
	kvt_pass_spec spec;
	kvt_pass_result *result;
	kvt_callback done;
	void *done_arg;
	unsigned n_layers;
	load_cursor next[2];                /* the next load to submit of local, global layers */
	unsigned in_flight, kept_in_flight; /* loads submitted or in their turnaround */
	staging_buffer *buffers, *free_buffers;
	load_window *queue, **queue_end; /* submitted and not yet attended to, by layer */
	unsigned last_queued;            /* layer of the last one */
	load_window *free_windows;
	/* computation */
	unsigned layer;
	uint64_t layer_remaining; /* tokens of this layer that have to arrive */
	unsigned halves;
	uint64_t half_tokens[HALVES_MAX];
	kvt_token ready[HALVES_MAX];    /* the half's hidden state */
	kvt_token attended[HALVES_MAX]; /* its last partial attention in this layer */
	bool computed, computed_pending;
	layer_write *writes;
	unsigned writes_pending;
	unsigned loads_pending; /* submitted and not yet completed */
	bool failed, finished;
	kvt_page_chooser *chooser; /* NULL: nothing is chosen, or everything ahead */
};

static bool is_global(const pass *p, unsigned layer)
{
	return kvt_kv_layer_is_global(&p->engine->layout, layer);
}

/* Work of one half in the layer that computes. */
static kvt_work half_work(const pass *p, kvt_work_kind kind, unsigned half)
{
	return (kvt_work){ .kind = kind,
		.layer = p->layer,
		.tokens = p->half_tokens[half],
		.batch = 1,
		.position = p->spec.position + (half > 0 ? p->half_tokens[0] : 0) };
}

static kvt_token submit(pass *p, kvt_stream stream, kvt_work work, kvt_token after)
{
	return kvt_device_submit(p->engine->device, stream, &work, &after, 1);
}

static void attend_resident(pass *p)
{
	uint64_t earlier_new = 0;
	for (unsigned h = 0; h < p->halves; h++) {
		p->attended[h] = submit(p, KVT_STREAM_COMPUTE,
			kvt_pass_resident_work(
				p->engine, &p->spec, p->layer, p->half_tokens[h], earlier_new),
			p->attended[h]);
		earlier_new += p->half_tokens[h];
	}
}

static void know_queries(void *arg);

/* Starts a layer: projections and the attention that needs no load. */
static void begin_layer(pass *p)
{
	uint64_t first;
	p->layer_remaining = kvt_pass_load_range(p->engine, &p->spec, p->layer, &first);
	for (unsigned h = 0; h < p->halves; h++) {
		kvt_work qkv = half_work(p, KVT_WORK_QKV, h);
		p->attended[h] = submit(p, KVT_STREAM_COMPUTE, qkv, p->ready[h]);
	}
	if (p->chooser && p->spec.choice->late && is_global(p, p->layer)) {
		p->loads_pending++;
		kvt_device_notify(p->engine->device, p->attended[p->halves - 1], know_queries, p);
	}
	/* a local layer's attention is one call, made when its window is there */
	if (is_global(p, p->layer) || p->layer_remaining == 0)
		attend_resident(p);
}

static kvt_token all_reduce(pass *p, unsigned half, kvt_token after)
{
	if (p->engine->layout.ranks < 2 || p->spec.overlap == KVT_OVERLAP_FULL)
		return after;
	kvt_work work = half_work(p, KVT_WORK_ALL_REDUCE, half);
	return submit(p, KVT_STREAM_COMMUNICATION, work, after);
}

static void write_done(kvt_io *io);

static void start_write(void *arg)
{
	layer_write *write = arg;
	pass *p = write->owner;
	int error = kvt_tier_submit(p->engine->storage, &write->io);
	if (error == -EAGAIN) {
		kvt_loop_after(p->engine->loop, 10 * KVT_MICROSECOND, start_write, write);
		return;
	}
	g_assert(error == 0);
	kvt_tier_commit(p->engine->storage);
}

/* The layer's new pages leave once they are computed. */
static void write_layer(pass *p, kvt_token computed)
{
	const kvt_pass_spec *spec = &p->spec;
	const kvt_kv_layout *layout = &p->engine->layout;
	uint64_t first = spec->position, count = spec->tokens;
	if (!spec->write_out)
		return;
	if (!is_global(p, p->layer)) {
		if (!spec->write_local)
			return;
		uint64_t end = spec->position + spec->tokens;
		count = kvt_kv_held_tokens(layout, p->layer, end);
		first = end - count;
	}
	layer_write *write = &p->writes[p->layer];
	*write = (layer_write){ .owner = p };
	write->extent = kvt_kv_extent(layout, p->layer, first, count);
	write->memory = kvt_device_memory(p->engine->device, KVT_PLACE_HOME, &write->extent);
	write->io = (kvt_io){ .op = KVT_IO_WRITE,
		.tenant = p->engine->tenant,
		.priority = spec->write_priority,
		.extents = &write->extent,
		.n_extents = 1,
		.memory = write->memory ? &write->memory : NULL,
		.done = write_done,
		.arg = write };
	p->writes_pending++;
	kvt_device_notify(p->engine->device, computed, start_write, write);
}

/* Ends a layer: everything after attention, in an order that lets one half reduce while the other
 * computes. */
static void end_layer(pass *p)
{
	kvt_token reduced[HALVES_MAX];
	for (unsigned h = 0; h < p->halves; h++) {
		kvt_work output = half_work(p, KVT_WORK_OUTPUT, h);
		kvt_token out = submit(p, KVT_STREAM_COMPUTE, output, p->attended[h]);
		reduced[h] = all_reduce(p, h, out);
	}
	for (unsigned h = 0; h < p->halves; h++) {
		kvt_work mlp = half_work(p, KVT_WORK_MLP, h);
		kvt_token out = submit(p, KVT_STREAM_COMPUTE, mlp, reduced[h]);
		p->ready[h] = all_reduce(p, h, out);
	}
	write_layer(p, p->attended[p->halves - 1]);
}

static void free_windows(load_window *window)
{
	for (load_window *next; window; window = next) {
		next = window->next;
		kvt_extent_list_free(&window->chosen);
		g_free(window);
	}
}

static void maybe_finish(pass *p)
{
	if (p->finished || (!p->computed && !p->failed) || p->computed_pending ||
		p->writes_pending > 0 || p->loads_pending > 0 ||
		(p->chooser && kvt_page_chooser_busy(p->chooser)))
		return;
	p->finished = true;
	p->result->ended = kvt_loop_now(p->engine->loop);
	free_windows(p->free_windows);
	free_windows(p->queue);
	kvt_callback done = p->done;
	void *arg = p->done_arg;
	if (p->chooser)
		p->result->read_bytes += kvt_page_chooser_read_bytes(p->chooser);
	kvt_page_chooser_free(p->chooser);
	g_free(p->writes);
	g_free(p->buffers);
	g_free(p);
	done(arg);
}

static void computed(void *arg)
{
	pass *p = arg;
	p->computed = true;
	p->computed_pending = false;
	p->result->computed = kvt_loop_now(p->engine->loop);
	maybe_finish(p);
}

static void fail(pass *p, int status)
{
	if (p->result->status == 0)
		p->result->status = status;
	p->failed = true;
}

static void write_done(kvt_io *io)
{
	layer_write *write = io->arg;
	pass *p = write->owner;
	p->writes_pending--;
	p->result->written_bytes += io->bytes;
	if (io->status != 0)
		fail(p, io->status);
	maybe_finish(p);
}

static void attend_arrived(pass *p);
static void submit_loads(pass *p);

static void buffer_free(void *arg)
{
	staging_buffer *buffer = arg;
	pass *p = buffer->owner;
	p->loads_pending--;
	buffer->next = p->free_buffers;
	p->free_buffers = buffer;
	if (!p->failed)
		submit_loads(p);
	maybe_finish(p);
}

static void recycle(pass *p, load_window *window)
{
	window->next = p->free_windows;
	p->free_windows = window;
}

static void load_done(kvt_io *io)
{
	load_window *window = io->arg;
	pass *p = window->owner;
	kvt_time now = kvt_loop_now(p->engine->loop);
	if (p->result->loads++ == 0)
		p->result->first_load = now;
	p->result->last_load = now;
	p->result->read_bytes += io->bytes;
	window->kept ? p->kept_in_flight-- : p->in_flight--;
	p->loads_pending--;
	window->arrived = true;
	kvt_timeline_span_bytes(p->engine->timeline, p->engine->load_track,
		is_global(p, window->layer) ? "load global layer" : "load local layer",
		io->submitted, now, io->bytes);
	if (io->status != 0) {
		fail(p, io->status);
		maybe_finish(p);
		return;
	}
	attend_arrived(p);
	if (!p->failed)
		submit_loads(p);
	maybe_finish(p);
}

static void start_load(void *arg)
{
	load_window *window = arg;
	pass *p = window->owner;
	int error = kvt_tier_submit(p->engine->storage, &window->io);
	if (error == -EAGAIN) {
		kvt_loop_after(p->engine->loop, 10 * KVT_MICROSECOND, start_load, window);
		return;
	}
	g_assert(error == 0);
	kvt_tier_commit(p->engine->storage);
}

/* Moves on to the next layer of a kind that has something left to load; false when there is none.
 */
static bool find_load(pass *p, bool global, uint64_t *first, uint64_t *left)
{
	load_cursor *next = &p->next[global];
	for (; next->layer < p->n_layers; next->layer++, next->offset = 0) {
		if (is_global(p, next->layer) != global)
			continue;
		uint64_t range = kvt_pass_load_range(p->engine, &p->spec, next->layer, first);
		*left = range - MIN(range, next->offset);
		if (*left > 0)
			return true;
	}
	return false;
}

/* Layers are loaded in order; only those whose pages have yet to be chosen are passed over. */
static load_cursor *find_next(pass *p, uint64_t *first, uint64_t *left)
{
	uint64_t firsts[2], lefts[2];
	bool there[2];
	for (int global = 0; global < 2; global++)
		there[global] = find_load(p, global, &firsts[global], &lefts[global]);
	if (p->chooser && p->next[1].layer >= kvt_page_chooser_chosen(p->chooser))
		there[1] = false;
	if (!there[0] && !there[1])
		return NULL;
	int global = there[1] && (!there[0] || p->next[1].layer < p->next[0].layer);
	*first = firsts[global];
	*left = lefts[global];
	return &p->next[global];
}

static load_window *take_window(pass *p, unsigned layer)
{
	load_window *window = p->free_windows;
	if (window)
		p->free_windows = window->next;
	else
		window = g_new0(load_window, 1);
	kvt_extent_list chosen = window->chosen;
	*window = (load_window){ .owner = p, .layer = layer, .chosen = chosen };
	window->io = (kvt_io){ .op = KVT_IO_READ,
		.tenant = p->engine->tenant,
		.priority = p->spec.read_priority,
		.extents = &window->extent,
		.n_extents = 1,
		.done = load_done,
		.arg = window };
	return window;
}

/* What a window reads: its tokens of its layer. */
static void set_extents(pass *p, load_window *window)
{
	const kvt_kv_layout *layout = &p->engine->layout;
	window->extent = kvt_kv_extent(layout, window->layer, window->first, window->tokens);
	if (!p->spec.choice || !is_global(p, window->layer)) {
		window->memory =
			kvt_device_memory(p->engine->device, window->place, &window->extent);
		window->io.memory = window->memory ? &window->memory : NULL;
		return;
	}
	kvt_extent_list_clear(&window->chosen);
	kvt_page_choice_extents(p->spec.choice, layout, window->layer, window->extent.first_page,
		window->extent.n_pages, &window->chosen);
	window->io.extents = window->chosen.extents;
	window->io.n_extents = window->chosen.n;
}

/* The next load in order, if there is room for it; NULL otherwise. */
static load_window *next_load(pass *p)
{
	const kvt_pass_spec *spec = &p->spec;
	uint64_t first, left;
	load_cursor *next = find_next(p, &first, &left);
	if (!next)
		return NULL;
	uint64_t at = first + next->offset, tokens = left;
	bool kept = !is_global(p, next->layer) || at < spec->kept;
	if (kept) {
		if (p->kept_in_flight >= spec->depth)
			return NULL;
		if (is_global(p, next->layer))
			tokens = MIN(left, spec->kept - at);
		p->kept_in_flight++;
	} else {
		if (p->in_flight >= spec->in_flight || !p->free_buffers)
			return NULL;
		tokens = MIN(left, spec->window_tokens);
		p->in_flight++;
	}
	load_window *window = take_window(p, next->layer);
	window->kept = kept;
	window->place = KVT_PLACE_HOME;
	if (!kept) {
		window->place = p->free_buffers->place;
		p->free_buffers = p->free_buffers->next;
	}
	window->first = at;
	window->tokens = tokens;
	set_extents(p, window);
	next->offset += tokens;
	return window;
}

/* Behind the windows of its own layer and earlier ones. */
static void enqueue(pass *p, load_window *window)
{
	load_window **at = p->queue_end;
	if (p->queue && p->last_queued > window->layer)
		for (at = &p->queue; *at && (*at)->layer <= window->layer; at = &(*at)->next)
			;
	window->next = *at;
	*at = window;
	if (!window->next) {
		p->queue_end = &window->next;
		p->last_queued = window->layer;
	}
}

static void submit_loads(pass *p)
{
	load_window *window;
	while ((window = next_load(p)) != NULL) {
		enqueue(p, window);
		p->loads_pending++;
		if (p->spec.turnaround > 0 && !window->kept)
			kvt_loop_after(p->engine->loop, p->spec.turnaround, start_load, window);
		else
			start_load(window);
	}
}

/* Pages have been chosen, or cannot be. */
static void chosen(void *arg)
{
	pass *p = arg;
	int status = kvt_page_chooser_status(p->chooser);
	if (status != 0)
		fail(p, status);
	if (!p->failed)
		submit_loads(p);
	maybe_finish(p);
}

/* The layer that computes has its queries; it is the pass's, which waits for its pages. */
static void know_queries(void *arg)
{
	pass *p = arg;
	p->loads_pending--;
	kvt_page_chooser_queries(p->chooser, p->layer);
}

/* Attends to a window that is there, and frees its buffer when that is over. */
static void attend_window(pass *p, const load_window *window)
{
	p->layer_remaining -= window->tokens;
	if (!is_global(p, p->layer)) {
		if (p->layer_remaining == 0)
			attend_resident(p);
	} else {
		for (unsigned h = 0; h < p->halves; h++) {
			kvt_work work = half_work(p, KVT_WORK_ATTENTION, h);
			work.kv_tokens = window->tokens;
			work.first = window->first;
			work.place = window->place;
			kvt_token partial = submit(p, KVT_STREAM_COMPUTE, work, p->attended[h]);
			work.kind = KVT_WORK_MERGE;
			p->attended[h] = submit(p, KVT_STREAM_COMPUTE, work, partial);
		}
	}
	if (!window->kept) {
		p->loads_pending++;
		kvt_device_notify(p->engine->device, p->attended[p->halves - 1], buffer_free,
			&p->buffers[window->place - KVT_PLACE_STAGING]);
	}
}

static void finish_compute(pass *p)
{
	kvt_token last = p->ready[p->halves - 1];
	if (p->spec.head) {
		kvt_work head = { .kind = KVT_WORK_HEAD, .layer = p->n_layers - 1, .tokens = 1 };
		last = submit(p, KVT_STREAM_COMPUTE, head, last);
	}
	p->computed_pending = true;
	kvt_device_notify(p->engine->device, last, computed, p);
}

/* Goes on as far as what has arrived allows. */
static void attend_arrived(pass *p)
{
	while (p->layer < p->n_layers) {
		while (p->layer_remaining > 0 && p->queue && p->queue->arrived &&
			p->queue->layer == p->layer) {
			load_window *window = p->queue;
			p->queue = window->next;
			if (!p->queue)
				p->queue_end = &p->queue;
			attend_window(p, window);
			recycle(p, window);
		}
		if (p->layer_remaining > 0)
			return;
		end_layer(p);
		p->layer++;
		if (p->layer < p->n_layers)
			begin_layer(p);
		else
			finish_compute(p);
	}
}

/* Lowest places first. */
static void make_buffers(pass *p)
{
	p->buffers = g_new(staging_buffer, p->spec.buffers);
	for (unsigned i = p->spec.buffers; i-- > 0;) {
		p->buffers[i] = (staging_buffer){ p, p->free_buffers, KVT_PLACE_STAGING + i };
		p->free_buffers = &p->buffers[i];
	}
}

void kvt_pass_start(kvt_engine *engine, const kvt_pass_spec *spec, kvt_pass_result *result,
	kvt_callback done, void *arg)
{
	g_assert(spec->tokens > 0);
	g_assert(spec->depth > 0 || (spec->loaded <= spec->resident && !spec->load_local));
	g_assert(spec->kept >= spec->loaded || spec->resident >= spec->loaded ||
		 (spec->in_flight > 0 && spec->buffers > 0 && spec->window_tokens > 0));
	pass *p = g_new0(pass, 1);
	p->engine = engine;
	p->spec = *spec;
	p->result = result;
	p->done = done;
	p->done_arg = arg;
	p->n_layers = engine->layout.llm->n_layers;
	p->queue_end = &p->queue;
	p->halves = spec->overlap == KVT_OVERLAP_TWO_BATCH && spec->tokens >= 2 ? 2 : 1;
	p->half_tokens[0] = (spec->tokens + p->halves - 1) / p->halves;
	p->half_tokens[1] = spec->tokens - p->half_tokens[0];
	if (spec->write_out)
		p->writes = g_new0(layer_write, p->n_layers);
	make_buffers(p);
	*result = (kvt_pass_result){ .started = kvt_loop_now(engine->loop) };
	bool loads = spec->loaded > spec->resident;
	if (spec->choice && loads && (spec->choice->late || spec->choice->sketch_bytes > 0)) {
		p->chooser = kvt_page_chooser_new(
			engine, spec->choice, spec->depth, spec->read_priority, chosen, p);
		kvt_page_chooser_start(p->chooser);
	}
	begin_layer(p);
	submit_loads(p);
	attend_arrived(p);
}
