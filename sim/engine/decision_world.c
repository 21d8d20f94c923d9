/*
 * decision_world.c: the loop, tier and device that an engine sees while its decisions are logged:
 * everything is passed on, requests by way of the log.
 */
#include <errno.h>
#include <inttypes.h>

#include "sim/engine/decision_log_internal.h"

/* --- The loop --- */

static kvt_time loop_now(kvt_loop *base)
{
	return kvt_loop_now(((kvt_decision_loop *)base)->inner);
}

static void timer_due(void *arg)
{
	kvt_decision_request *request = arg;
	request->event = 0;
	kvt_decision_answer(request, 0);
}

/* An event is the number of its line. */
static kvt_event loop_at(kvt_loop *base, kvt_time when, kvt_callback callback, void *arg)
{
	kvt_decision_loop *loop = (kvt_decision_loop *)base;
	if (when == KVT_TIME_NEVER)
		return 0;
	kvt_decision_request *request =
		kvt_decision_expect(loop->log, kvt_decision_ask(loop->log, "timer", NULL));
	request->callback = callback;
	request->arg = arg;
	request->event = kvt_loop_at(loop->inner, when, timer_due, request);
	return request->line;
}

static bool loop_cancel(kvt_loop *base, kvt_event event)
{
	kvt_decision_loop *loop = (kvt_decision_loop *)base;
	kvt_decision_log *log = loop->log;
	g_autofree char *line = g_strdup_printf("cancel %" PRIu64, event);
	kvt_decision_ask(log, line, NULL);
	kvt_decision_request *request = g_hash_table_lookup(log->requests, GSIZE_TO_POINTER(event));
	if (!request)
		return false;
	kvt_loop_cancel(loop->inner, request->event);
	kvt_decision_forget(request);
	return true;
}

static uint64_t loop_run(kvt_loop *base)
{
	kvt_decision_loop *loop = (kvt_decision_loop *)base;
	uint64_t n = 0;
	do
		n += kvt_loop_run(loop->inner);
	while (kvt_decision_idle(loop->log));
	return n;
}

static void loop_stop(kvt_loop *base)
{
	kvt_loop_stop(((kvt_decision_loop *)base)->inner);
}

/* It is the log's. */
static void loop_free(kvt_loop *base)
{
	(void)base;
}

static const kvt_loop_ops loop_ops = {
	.now = loop_now,
	.at = loop_at,
	.cancel = loop_cancel,
	.run = loop_run,
	.stop = loop_stop,
	.free = loop_free,
};

kvt_loop *kvt_decision_log_loop(kvt_decision_log *log, kvt_loop *inner)
{
	g_assert(!log->loop.inner);
	log->loop = (kvt_decision_loop){ { &loop_ops }, inner, log };
	return &log->loop.base;
}

/* --- The tier --- */

static void add_run(GString *line, const kvt_extent *extent)
{
	g_string_append_printf(line, " %u:%u:%" PRIu64 "+%" PRIu64 "*%" PRIu64, extent->context,
		extent->layer, extent->first_page, extent->n_pages, extent->page_bytes);
}

static char *io_line(const kvt_io *io)
{
	GString *line = g_string_new(io->op == KVT_IO_READ ? "read" : "write");
	g_string_append_printf(line, " %u %u", io->tenant, io->priority);
	for (unsigned i = 0; i < io->n_extents; i++)
		add_run(line, &io->extents[i]);
	return g_string_free(line, FALSE);
}

static void io_done(kvt_io *io)
{
	kvt_decision_request *request = io->arg;
	kvt_decision_tier *tier = &request->log->tier;
	bool follows = request->log->follows;
	kvt_decision_answer(request, io->status);
	if (follows)
		kvt_resubmit_completed(&tier->waiting);
}

static kvt_decision_request *take_io(kvt_decision_log *log, kvt_io *io, uint64_t line)
{
	kvt_decision_request *request = kvt_decision_expect(log, line);
	request->io = io;
	request->done = io->done;
	request->done_arg = io->arg;
	io->done = io_done;
	io->arg = request;
	return request;
}

static int record_submit(kvt_decision_tier *tier, kvt_io *io)
{
	kvt_decision_log *log = tier->log;
	g_autofree char *line = io_line(io);
	/* submit never completes inline: the request can be written down when it was taken */
	kvt_decision_request *request = take_io(log, io, log->line + 1);
	int error = kvt_tier_submit(tier->inner, io);
	if (error != 0) {
		io->done = request->done;
		io->arg = request->done_arg;
		kvt_decision_forget(request);
	}
	if (error == 0)
		kvt_decision_ask(log, line, NULL);
	if (error != -EAGAIN)
		return error;
	g_autofree char *refused = g_strconcat(line, " refused", NULL);
	kvt_decision_ask(log, refused, NULL);
	return error;
}

static int tier_submit(kvt_tier *base, kvt_io *io)
{
	kvt_decision_tier *tier = (kvt_decision_tier *)base;
	kvt_decision_log *log = tier->log;
	uint64_t bytes;
	int error = kvt_io_check(io, &bytes);
	if (error != 0)
		return error;
	if (!log->follows)
		return record_submit(tier, io);
	g_autofree char *text = io_line(io);
	bool refused = false;
	uint64_t line = kvt_decision_ask(log, text, &refused);
	if (refused)
		return -EAGAIN;
	take_io(log, io, line);
	kvt_resubmit_add(&tier->waiting, io);
	return 0;
}

static void tier_commit(kvt_tier *base)
{
	kvt_tier_commit(((kvt_decision_tier *)base)->inner);
}

static uint64_t tier_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_decision_tier *tier = (kvt_decision_tier *)base;
	GString *line = g_string_new(NULL);
	g_string_printf(line, "discard %u", tenant);
	add_run(line, extent);
	kvt_decision_ask(tier->log, line->str, NULL);
	g_string_free(line, TRUE);
	return tier->inner->ops->discard(tier->inner, tenant, extent);
}

static bool tier_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((kvt_decision_tier *)base)->inner;
	return inner->ops->holds(inner, tenant, extent);
}

static bool tier_preload(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((kvt_decision_tier *)base)->inner;
	return inner->ops->preload(inner, tenant, extent);
}

static void tier_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	kvt_tier *inner = ((kvt_decision_tier *)base)->inner;
	inner->ops->stats(inner, stats);
}

/* It is the log's. */
static void tier_close(kvt_tier *base)
{
	(void)base;
}

kvt_tier *kvt_decision_log_tier(kvt_decision_log *log, kvt_tier *inner)
{
	kvt_decision_tier *tier = &log->tier;
	g_assert(log->loop.inner && !tier->inner);
	tier->ops = *inner->ops;
	tier->ops.submit = tier_submit;
	tier->ops.commit = tier_commit;
	tier->ops.discard = tier_discard;
	tier->ops.holds = tier_holds;
	tier->ops.preload = inner->ops->preload ? tier_preload : NULL;
	tier->ops.stats = tier_stats;
	tier->ops.close = tier_close;
	tier->base.ops = &tier->ops;
	tier->inner = inner;
	tier->log = log;
	kvt_resubmit_init(&tier->waiting, log->loop.inner, inner);
	return &tier->base;
}

/* --- The device --- */

static kvt_token device_submit(kvt_device *base, kvt_stream stream, const kvt_work *work,
	const kvt_token *after, unsigned n_after)
{
	kvt_decision_device *device = (kvt_decision_device *)base;
	g_autofree char *line =
		g_strdup_printf("work %u %s %u %" PRIu64 " %" PRIu64 " %d %u "
				"%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %u%s",
			stream, kvt_work_names[work->kind], work->layer, work->tokens,
			work->kv_tokens, work->causal, work->batch, work->position, work->first,
			work->gap_first, work->gap, work->place, work->again ? " again" : "");
	kvt_decision_ask(device->log, line, NULL);
	return kvt_device_submit(device->inner, stream, work, after, n_after);
}

static void token_over(void *arg)
{
	kvt_decision_answer(arg, 0);
}

static void device_notify(kvt_device *base, kvt_token token, kvt_callback callback, void *arg)
{
	kvt_decision_device *device = (kvt_decision_device *)base;
	kvt_decision_request *request =
		kvt_decision_expect(device->log, kvt_decision_ask(device->log, "notify", NULL));
	request->callback = callback;
	request->arg = arg;
	kvt_device_notify(device->inner, token, token_over, request);
}

static void *device_memory(kvt_device *base, unsigned place, const kvt_extent *extent)
{
	return kvt_device_memory(((kvt_decision_device *)base)->inner, place, extent);
}

static void device_remake(kvt_device *base, const kvt_extent *extent)
{
	kvt_device_remake(((kvt_decision_device *)base)->inner, extent);
}

static kvt_time device_busy(kvt_device *base, kvt_work_kind kind)
{
	kvt_device *inner = ((kvt_decision_device *)base)->inner;
	return inner->ops->busy(inner, kind);
}

/* It is the log's. */
static void device_free(kvt_device *base)
{
	(void)base;
}

static const kvt_device_ops device_ops = {
	.name = "logged",
	.submit = device_submit,
	.notify = device_notify,
	.memory = device_memory,
	.remake = device_remake,
	.busy = device_busy,
	.free = device_free,
};

kvt_device *kvt_decision_log_device(kvt_decision_log *log, kvt_device *inner)
{
	g_assert(!log->device.inner);
	log->device = (kvt_decision_device){ { &device_ops }, inner, log };
	return &log->device.base;
}
