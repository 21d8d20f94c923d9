/* forward_pass.c: the state machine of a pass: loads ahead, layers in order, writes behind. */
#include <errno.h>

#include "sim/core/timeline.h"
#include "sim/engine/page_chooser.h"
#include "sim/engine/pass_internal.h"
#include "sim/engine/pass_work.h"

/* Work of one half in the layer that computes. */
static kvt_work half_work(const kvt_pass *p, kvt_work_kind kind, unsigned half)
{
	return (kvt_work){ .kind = kind,
		.layer = p->layer,
		.tokens = p->half_tokens[half],
		.batch = 1,
		.again = p->spec.again,
		.position = p->spec.position + (half > 0 ? p->half_tokens[0] : 0) };
}

static kvt_token submit(kvt_pass *p, kvt_stream stream, kvt_work work, kvt_token after)
{
	return kvt_device_submit(p->engine->device, stream, &work, &after, 1);
}

static void attend_resident(kvt_pass *p)
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
static void begin_layer(kvt_pass *p)
{
	uint64_t first;
	p->layer_remaining = kvt_pass_load_range(p->engine, &p->spec, p->layer, &first);
	for (unsigned h = 0; h < p->halves; h++) {
		kvt_work qkv = half_work(p, KVT_WORK_QKV, h);
		p->attended[h] = submit(p, KVT_STREAM_COMPUTE, qkv, p->ready[h]);
	}
	if (p->chooser && p->spec.choice->late && kvt_pass_is_global(p, p->layer)) {
		p->loads_pending++;
		kvt_device_notify(p->engine->device, p->attended[p->halves - 1], know_queries, p);
	}
	/* a local layer's attention is one call, made when its window is there */
	if (kvt_pass_is_global(p, p->layer) || p->layer_remaining == 0)
		attend_resident(p);
}

static kvt_token all_reduce(kvt_pass *p, unsigned half, kvt_token after)
{
	if (p->engine->layout.ranks < 2 || p->spec.overlap == KVT_OVERLAP_FULL)
		return after;
	kvt_work work = half_work(p, KVT_WORK_ALL_REDUCE, half);
	return submit(p, KVT_STREAM_COMMUNICATION, work, after);
}

static void write_done(kvt_io *io);

static void start_write(void *arg)
{
	kvt_layer_write *write = arg;
	kvt_pass *p = write->owner;
	int error = kvt_tier_submit(p->engine->storage, &write->io);
	if (error == -EAGAIN) {
		kvt_loop_after(p->engine->loop, 10 * KVT_MICROSECOND, start_write, write);
		return;
	}
	g_assert(error == 0);
	kvt_tier_commit(p->engine->storage);
}

/* The layer's new pages leave once they are computed. */
static void write_layer(kvt_pass *p, kvt_token computed)
{
	const kvt_pass_spec *spec = &p->spec;
	const kvt_kv_layout *layout = &p->engine->layout;
	uint64_t first = spec->position, count = spec->tokens;
	if (!spec->write_out)
		return;
	if (!kvt_pass_is_global(p, p->layer)) {
		if (!spec->write_local)
			return;
		uint64_t end = spec->position + spec->tokens;
		count = kvt_kv_held_tokens(layout, p->layer, end);
		first = end - count;
	}
	kvt_layer_write *write = &p->writes[p->layer];
	*write = (kvt_layer_write){ .owner = p };
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
static void end_layer(kvt_pass *p)
{
	kvt_token reduced[KVT_PASS_HALVES];
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

static void free_windows(kvt_load_window *window)
{
	for (kvt_load_window *next; window; window = next) {
		next = window->next;
		kvt_page_read_clear(&window->read);
		g_free(window);
	}
}

static void maybe_finish(kvt_pass *p)
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
	kvt_pass *p = arg;
	p->computed = true;
	p->computed_pending = false;
	p->result->computed = kvt_loop_now(p->engine->loop);
	maybe_finish(p);
}

static void fail(kvt_pass *p, int status)
{
	if (p->result->status == 0)
		p->result->status = status;
	p->failed = true;
}

static void write_done(kvt_io *io)
{
	kvt_layer_write *write = io->arg;
	kvt_pass *p = write->owner;
	p->writes_pending--;
	p->result->written_bytes += io->bytes;
	if (io->status != 0)
		fail(p, io->status);
	maybe_finish(p);
}

static void attend_arrived(kvt_pass *p);
static void submit_loads(kvt_pass *p);

static void buffer_free(void *arg)
{
	kvt_staging_buffer *buffer = arg;
	kvt_pass *p = buffer->owner;
	p->loads_pending--;
	buffer->next = p->free_buffers;
	p->free_buffers = buffer;
	if (!p->failed)
		submit_loads(p);
	maybe_finish(p);
}

static void recycle(kvt_pass *p, kvt_load_window *window)
{
	window->next = p->free_windows;
	p->free_windows = window;
}

static void load_done(kvt_page_read *read)
{
	kvt_load_window *window = read->arg;
	kvt_pass *p = window->owner;
	kvt_time now = kvt_loop_now(p->engine->loop);
	if (p->result->loads++ == 0)
		p->result->first_load = now;
	p->result->last_load = now;
	p->result->read_bytes += read->bytes;
	window->kept ? p->kept_in_flight-- : p->in_flight--;
	p->loads_pending--;
	window->arrived = true;
	window->whole = read->lost_pages == 0;
	if (p->spec.lost)
		kvt_lost_pages_count(p->spec.lost, read);
	kvt_timeline_span_bytes(p->engine->timeline, p->engine->load_track,
		kvt_pass_is_global(p, window->layer) ? "load global layer" : "load local layer",
		read->submitted, now, read->bytes);
	if (read->status != 0) {
		fail(p, read->status);
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
	kvt_load_window *window = arg;
	kvt_lost_pages *lost = window->owner->spec.lost;
	window->read.patience = lost ? kvt_lost_pages_patience(lost) : 0;
	kvt_page_read_start(&window->read);
}

static void submit_loads(kvt_pass *p)
{
	kvt_load_window *window;
	bool arrived = false;
	while ((window = kvt_pass_next_load(p)) != NULL) {
		kvt_pass_enqueue(p, window);
		arrived |= window->arrived;
		if (window->arrived)
			continue;
		p->loads_pending++;
		window->read.done = load_done;
		if (p->spec.turnaround > 0 && !window->kept)
			kvt_loop_after(p->engine->loop, p->spec.turnaround, start_load, window);
		else
			start_load(window);
	}
	if (arrived)
		attend_arrived(p);
}

/* Pages have been chosen, or cannot be. */
static void chosen(void *arg)
{
	kvt_pass *p = arg;
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
	kvt_pass *p = arg;
	p->loads_pending--;
	kvt_page_chooser_queries(p->chooser, p->layer);
}

/* Attends to tokens [first, end) of a window at a place. */
static void attend_part(
	kvt_pass *p, const kvt_load_window *window, unsigned place, uint64_t first, uint64_t end)
{
	for (unsigned h = 0; first < end && h < p->halves; h++) {
		kvt_work work = half_work(p, KVT_WORK_ATTENTION, h);
		work.kv_tokens = end - first;
		work.first = window->first;
		work.gap_first = first > window->first ? window->first : 0;
		work.gap = first - window->first;
		work.place = place;
		kvt_token partial = submit(p, KVT_STREAM_COMPUTE, work, p->attended[h]);
		work.kind = KVT_WORK_MERGE;
		p->attended[h] = submit(p, KVT_STREAM_COMPUTE, work, partial);
	}
}

/* Attends to a window's lost runs, where they were made again, or to what is between them. */
static void attend_parts(kvt_pass *p, const kvt_load_window *window, bool lost, unsigned place)
{
	const uint64_t page_tokens = p->engine->layout.page_tokens;
	uint64_t at = window->first, end = window->first + window->tokens;
	for (guint i = 0; i < window->read.lost->len; i++) {
		const kvt_lost_run *run = &g_array_index(window->read.lost, kvt_lost_run, i);
		uint64_t first = MAX(run->first_page * page_tokens, at);
		uint64_t next = MIN((run->first_page + run->n_pages) * page_tokens, end);
		if (lost)
			attend_part(p, window, place, first, next);
		else
			attend_part(p, window, place, at, first);
		at = next;
	}
	if (!lost)
		attend_part(p, window, place, at, end);
}

/* A window that does not stay has been attended to: its buffer is free when that is over. */
static void leave_buffer(kvt_pass *p, const kvt_load_window *window)
{
	p->loads_pending++;
	kvt_device_notify(p->engine->device, p->attended[p->halves - 1], buffer_free,
		&p->buffers[window->place - KVT_PLACE_STAGING]);
}

/* Attends to a window that is there. */
static void attend_window(kvt_pass *p, const kvt_load_window *window)
{
	bool global = kvt_pass_is_global(p, p->layer);
	p->layer_remaining -= window->tokens;
	if (!global && p->layer_remaining == 0)
		attend_resident(p);
	if (!window->kept && window->read.lost_pages > 0) {
		attend_parts(p, window, true, KVT_PLACE_HOME);
	} else if (global) {
		attend_part(
			p, window, window->place, window->first, window->first + window->tokens);
		if (!window->kept)
			leave_buffer(p, window);
	}
}

static void recomputed(void *arg)
{
	kvt_pass *p = arg;
	p->loads_pending--;
	p->recomputing = false;
	p->queue->whole = true;
	p->result->loads += p->recomputed.loads;
	p->result->read_bytes += p->recomputed.read_bytes;
	if (p->recomputed.status != 0)
		fail(p, p->recomputed.status);
	if (!p->failed) {
		attend_arrived(p);
		submit_loads(p);
	}
	maybe_finish(p);
}

/* The next window has pages that have to be made again; the others are attended to before. */
static void recompute(kvt_pass *p, const kvt_load_window *window)
{
	if (!window->kept) {
		attend_parts(p, window, false, window->place);
		leave_buffer(p, window);
	}
	p->loads_pending++;
	p->recomputing = true;
	kvt_recompute_start(p->engine, &p->spec, window->layer, window->read.lost, !window->kept,
		&p->recomputed, recomputed, p);
}

static void finish_compute(kvt_pass *p)
{
	kvt_token last = p->ready[p->halves - 1];
	for (unsigned h = 0; p->spec.again && h < p->halves; h++)
		last = submit(p, KVT_STREAM_COMPUTE, half_work(p, KVT_WORK_QKV, h), p->ready[h]);
	if (p->spec.head) {
		kvt_work head = { .kind = KVT_WORK_HEAD, .layer = p->end_layer - 1, .tokens = 1 };
		last = submit(p, KVT_STREAM_COMPUTE, head, last);
	}
	p->computed_pending = true;
	kvt_device_notify(p->engine->device, last, computed, p);
}

/* Goes on as far as what has arrived allows. */
static void attend_arrived(kvt_pass *p)
{
	while (p->layer < p->end_layer && !p->recomputing) {
		while (p->layer_remaining > 0 && p->queue && p->queue->arrived &&
			p->queue->layer == p->layer) {
			kvt_load_window *window = p->queue;
			if (!window->whole && !p->failed)
				recompute(p, window);
			if (!window->whole)
				return;
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
		if (p->layer < p->end_layer)
			begin_layer(p);
		else
			finish_compute(p);
	}
}

/* Lowest places first. */
static void make_buffers(kvt_pass *p)
{
	p->buffers = g_new(kvt_staging_buffer, p->spec.buffers);
	for (unsigned i = p->spec.buffers; i-- > 0;) {
		p->buffers[i] = (kvt_staging_buffer){ p, p->free_buffers, KVT_PLACE_STAGING + i };
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
	kvt_pass *p = g_new0(kvt_pass, 1);
	p->engine = engine;
	p->spec = *spec;
	p->result = result;
	p->done = done;
	p->done_arg = arg;
	p->end_layer = spec->again ? spec->last_layer : engine->layout.llm->n_layers;
	p->layer = p->next[0].layer = p->next[1].layer = spec->first_layer;
	p->queue_end = &p->queue;
	p->halves = spec->overlap == KVT_OVERLAP_TWO_BATCH && spec->tokens >= 2 ? 2 : 1;
	p->half_tokens[0] = (spec->tokens + p->halves - 1) / p->halves;
	p->half_tokens[1] = spec->tokens - p->half_tokens[0];
	if (spec->write_out)
		p->writes = g_new0(kvt_layer_write, p->end_layer);
	make_buffers(p);
	*result = (kvt_pass_result){ .started = kvt_loop_now(engine->loop) };
	bool loads = spec->loaded > spec->resident;
	if (spec->choice && !spec->again && loads &&
		(spec->choice->late || spec->choice->sketch_bytes > 0)) {
		p->chooser = kvt_page_chooser_new(engine, spec->choice, spec->lost, spec->depth,
			spec->read_priority, chosen, p);
		kvt_page_chooser_start(p->chooser);
	}
	if (p->layer == p->end_layer)
		finish_compute(p);
	else
		begin_layer(p);
	submit_loads(p);
	attend_arrived(p);
}
