/* gpu_watch.c: a queue of events for each stream, of which the oldest is asked for. */
#include "emu/gpu/gpu_watch.h"

#include <errno.h>
#include <glib.h>

#include "emu/loop/real_loop.h"

/* An event under way, then a callback that is about to run. */
typedef struct watched {
	struct watched *next;
	kvt_gpu_watch *watch;
	kvt_gpu_event *event;
	kvt_gpu_passed passed;
	void *arg;
	int status; /* -EBUSY: under way */
	kvt_event call;
} watched;

typedef struct lane {
	struct lane *next;
	kvt_gpu_stream *stream;
	watched *head, **tail;
} lane;

struct kvt_gpu_watch {
	kvt_loop *loop;
	kvt_real_gpu *gpu;
	kvt_real_source source;
	lane *lanes;
	watched *unused, *called; /* the latter: in any order */
	unsigned under_way;
};

static void call(void *arg)
{
	watched *w = arg;
	kvt_gpu_watch *watch = w->watch;
	watched **at = &watch->called;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	w->next = watch->unused;
	watch->unused = w;
	/* w may be used again in there */
	w->passed(w->arg, w->status);
}

/* Schedules callbacks for the lane's events that are over. */
static unsigned look(kvt_gpu_watch *watch, lane *l)
{
	unsigned n = 0;
	while (l->head) {
		watched *w = l->head;
		int status = w->status == -EBUSY ? watch->gpu->ops->query(w->event) : w->status;
		if (status == -EBUSY)
			break;
		l->head = w->next;
		if (!l->head)
			l->tail = &l->head;
		w->status = status;
		w->next = watch->called;
		watch->called = w;
		w->call = kvt_loop_at(watch->loop, 0, call, w);
		kvt_real_loop_release(watch->loop);
		watch->under_way--;
		n++;
	}
	return n;
}

static unsigned poll_events(void *arg)
{
	kvt_gpu_watch *watch = arg;
	unsigned n = 0;
	for (lane *l = watch->lanes; l; l = l->next)
		n += look(watch, l);
	watch->source.idle = watch->under_way == 0;
	watch->source.must_poll = watch->under_way > 0;
	return n;
}

kvt_gpu_watch *kvt_gpu_watch_new(kvt_loop *loop, kvt_real_gpu *gpu)
{
	kvt_gpu_watch *watch = g_new0(kvt_gpu_watch, 1);
	watch->loop = loop;
	watch->gpu = gpu;
	watch->source =
		(kvt_real_source){ .poll = poll_events, .wait_fd = -1, .idle = true, .arg = watch };
	kvt_real_loop_add_source(loop, &watch->source);
	return watch;
}

static void free_list(watched *w)
{
	for (watched *next; w; w = next) {
		next = w->next;
		g_free(w);
	}
}

void kvt_gpu_watch_free(kvt_gpu_watch *watch)
{
	if (!watch)
		return;
	for (watched *w = watch->called; w; w = w->next)
		kvt_loop_cancel(watch->loop, w->call);
	for (; watch->under_way > 0; watch->under_way--)
		kvt_real_loop_release(watch->loop);
	kvt_real_loop_remove_source(watch->loop, &watch->source);
	for (lane *l = watch->lanes, *next; l; l = next) {
		next = l->next;
		free_list(l->head);
		g_free(l);
	}
	free_list(watch->called);
	free_list(watch->unused);
	g_free(watch);
}

static lane *lane_of(kvt_gpu_watch *watch, kvt_gpu_stream *stream)
{
	for (lane *l = watch->lanes; l; l = l->next)
		if (l->stream == stream)
			return l;
	lane *l = g_new0(lane, 1);
	l->stream = stream;
	l->tail = &l->head;
	l->next = watch->lanes;
	watch->lanes = l;
	return l;
}

void kvt_gpu_watch_record(kvt_gpu_watch *watch, kvt_gpu_stream *stream, kvt_gpu_event *event,
	kvt_gpu_passed passed, void *arg)
{
	lane *l = lane_of(watch, stream);
	watched *w = watch->unused;
	if (w)
		watch->unused = w->next;
	else
		w = g_new(watched, 1);
	int status = watch->gpu->ops->record(stream, event);
	*w = (watched){ .watch = watch,
		.event = event,
		.passed = passed,
		.arg = arg,
		.status = status == 0 ? -EBUSY : -EIO };
	*l->tail = w;
	l->tail = &w->next;
	kvt_real_loop_hold(watch->loop);
	watch->under_way++;
	watch->source.idle = false;
	watch->source.must_poll = true;
}
